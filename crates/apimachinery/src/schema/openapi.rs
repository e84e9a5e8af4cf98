//! Rendering schemas as OpenAPI documents.

use serde_json::Value;

use super::Schema;

/// Which dialect of OpenAPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpenApi {
    /// Swagger 2.0, served at `/openapi/v2`; definitions are under `#/definitions/`.
    V2,
    /// OpenAPI 3.0, served at `/openapi/v3`; definitions are under `#/components/schemas/`.
    V3,
}

impl Schema {
    /// The node as JSON. Named definitions below it become references.
    pub fn to_openapi(&self, dialect: OpenApi) -> Value {
        let _ = dialect;
        Value::Null
    }
}
