//! Objects as Tables and as their metadata alone, written around stored bytes.

use apimachinery::status::Status;
use jiff::Timestamp;
use registry::{Column, Kind, List, Object, Registry};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// What a Table's rows carry beside their cells (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Include {
    Nothing,
    #[default]
    Metadata,
    Object,
}

impl Include {
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, Status> {
        match text {
            None | Some("" | "Metadata") => Ok(Self::Metadata),
            Some("None") => Ok(Self::Nothing),
            Some("Object") => Ok(Self::Object),
            Some(other) => Err(Status::bad_request(format!(
                "includeObject must be one of 'Object', 'Metadata', 'None' (was {other:?})"
            ))),
        }
    }
}

#[derive(Serialize)]
struct Table {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    metadata: Value,
    #[serde(rename = "columnDefinitions")]
    columns: Vec<Value>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    cells: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<Box<RawValue>>,
}

/// A list as a Table.
pub(crate) fn table_of_list(
    registry: &Registry,
    kind: &Kind,
    list: &List,
    include: Include,
    now: Timestamp,
) -> Result<Vec<u8>, Status> {
    table(registry, kind, list.objects(), list.metadata(), include, true, now)
}

/// One object as a Table; a watch sends the columns with the first row only.
pub(crate) fn table_of_object(
    registry: &Registry,
    kind: &Kind,
    object: Object,
    include: Include,
    with_columns: bool,
    now: Timestamp,
) -> Result<Vec<u8>, Status> {
    let metadata = json!({"resourceVersion": object.resource_version().to_string()});
    table(registry, kind, std::iter::once(object), metadata, include, with_columns, now)
}

/// The Table that stands for a bookmark: no rows, but a resourceVersion.
pub(crate) fn table_of_bookmark(revision: u64, initial_events_end: bool) -> Result<Vec<u8>, Status> {
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if initial_events_end {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    write(&Table { kind: "Table", api_version: META_V1, metadata, columns: Vec::new(), rows: Vec::new() })
}

fn table(
    registry: &Registry,
    kind: &Kind,
    objects: impl Iterator<Item = Object>,
    metadata: Value,
    include: Include,
    with_columns: bool,
    now: Timestamp,
) -> Result<Vec<u8>, Status> {
    let mut rows = Vec::new();
    for row in registry.rows(kind, objects, now) {
        let object = match include {
            Include::Nothing => None,
            Include::Metadata => Some(raw(partial(&row.object)?)?),
            Include::Object => {
                let mut whole = Vec::with_capacity(row.object.len());
                row.object.write_to(&mut whole);
                Some(raw(whole)?)
            }
        };
        rows.push(Row { cells: row.cells, object });
    }
    let columns = if with_columns { kind.columns.iter().map(definition).collect() } else { Vec::new() };
    write(&Table { kind: "Table", api_version: META_V1, metadata, columns, rows })
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.type_,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}

const META_V1: &str = "meta.k8s.io/v1";
const PARTIAL: &[u8] = br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#;

#[derive(Deserialize)]
struct Headed<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// An object's metadata as an object of its own.
pub(crate) fn partial(object: &Object) -> Result<Vec<u8>, Status> {
    let headed: Headed<'_> = serde_json::from_slice(object.body()).map_err(Status::internal_error)?;
    let metadata = headed.metadata.get().as_bytes();
    Ok([PARTIAL, metadata, b"}"].concat())
}

/// A list's metadata as a PartialObjectMetadataList.
pub(crate) fn partial_list(list: &List) -> Result<Vec<u8>, Status> {
    let head = r#"{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":"#;
    let mut out = head.as_bytes().to_vec();
    out.extend(list.metadata().to_string().into_bytes());
    out.extend_from_slice(b",\"items\":[");
    for (index, object) in list.objects().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend(partial(&object)?);
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}

fn raw(bytes: Vec<u8>) -> Result<Box<RawValue>, Status> {
    let text = String::from_utf8(bytes).map_err(Status::internal_error)?;
    RawValue::from_string(text).map_err(Status::internal_error)
}

fn write(value: &impl Serialize) -> Result<Vec<u8>, Status> {
    serde_json::to_vec(value).map_err(Status::internal_error)
}
