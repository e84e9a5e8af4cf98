//! What derived schemas cannot say: patterns, list keys, "exactly one of".

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use schemars::{Schema, SchemaGenerator, json_schema};

use super::v1alpha1::{EnvironmentVariable, KeyValueBinding};

const DNS_SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DURATION: &str = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$";
const QUANTITY: &str = r"^[0-9]+(\.[0-9]+)?(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|m|e[0-9]+)?$";

pub(super) fn key_value(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": generator.subschema_for::<KeyValueBinding>(),
        "maxItems": 64,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    })
}

pub(super) fn environment(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": generator.subschema_for::<EnvironmentVariable>(),
        "maxItems": 1024,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    })
}

pub(super) fn outbound_hosts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {"type": "string", "pattern": "^https?://[^/]+$"},
        "maxItems": 256,
        "x-kubernetes-list-type": "set",
    })
}

pub(super) fn inline_source(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "byte", "minLength": 4})
}

pub(super) fn path_source(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^/"})
}

pub(super) fn host(_: &mut SchemaGenerator) -> Schema {
    let pattern = format!(r"^(\*\.)?{DNS_SUBDOMAIN}$");
    json_schema!({"type": "string", "maxLength": 253, "pattern": pattern})
}

pub(super) fn route_path(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": 1024, "pattern": "^/", "default": "/"})
}

pub(super) fn binding_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "default": "default"})
}

fn quantity(default: &str) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "pattern": QUANTITY,
        "default": default,
    })
}

fn duration(default: &str) -> Schema {
    json_schema!({"type": "string", "pattern": DURATION, "default": default})
}

pub(super) fn memory(_: &mut SchemaGenerator) -> Schema {
    quantity("128Mi")
}

pub(super) fn request_body(_: &mut SchemaGenerator) -> Schema {
    quantity("1Mi")
}

pub(super) fn wall_time(_: &mut SchemaGenerator) -> Schema {
    duration("30s")
}

pub(super) fn suspend_after(_: &mut SchemaGenerator) -> Schema {
    duration("1s")
}

pub(super) fn retention(_: &mut SchemaGenerator) -> Schema {
    duration("24h")
}

pub(super) fn concurrency(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 100_000, "default": 1000})
}

pub(super) fn redis_address(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^rediss?://"})
}

/// Hosts with the time since when they are claimed.
pub(super) fn claimed_hosts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["host"],
        "items": {
            "type": "object",
            "description": "A host that the component claims.",
            "required": ["host", "claimedAt"],
            "properties": {
                "host": {"type": "string", "description": "As in the routes; * where none is named."},
                "claimedAt": {"type": "string", "format": "date-time", "description": "Since when."},
            },
        },
    })
}

/// Kubernetes' own conditions, as every kind has them.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One thing that is true of the object, or is not.",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"type": "string", "description": "What is true or not.", "maxLength": 316},
                "status": {
                    "type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it is true.",
                },
                "observedGeneration": {
                    "type": "integer", "format": "int64", "minimum": 0,
                    "description": "The generation of the spec that this is about.",
                },
                "lastTransitionTime": {
                    "type": "string", "format": "date-time", "description": "When the status last changed.",
                },
                "reason": {
                    "type": "string", "minLength": 1, "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    "description": "Why, in one word for programs.",
                },
                "message": {
                    "type": "string", "maxLength": 32768, "description": "Why, in a sentence for people.",
                },
            },
        },
    })
}

/// The node at `path` of every version of a definition.
fn nodes<'a>(
    crd: &'a mut CustomResourceDefinition,
    path: &[&str],
) -> impl Iterator<Item = &'a mut JSONSchemaProps> {
    crd.spec.versions.iter_mut().filter_map(|version| {
        let root = version.schema.as_mut()?.open_api_v3_schema.as_mut()?;
        path.iter().try_fold(root, |node, name| node.properties.as_mut()?.get_mut(*name))
    })
}

/// What has a default needs no null. The derived schema lets every int-or-string be null.
pub(super) fn never_null(crd: &mut CustomResourceDefinition, path: &[&str]) {
    nodes(crd, path).for_each(|node| node.nullable = None);
}

/// Of the fields of the object at `path`, exactly one must be there.
pub(super) fn exactly_one(crd: &mut CustomResourceDefinition, path: &[&str], fields: &[&str]) {
    let only =
        |field: &&str| JSONSchemaProps { required: Some(vec![(*field).to_owned()]), ..Default::default() };
    for node in nodes(crd, path) {
        node.one_of = Some(fields.iter().map(only).collect());
    }
}
