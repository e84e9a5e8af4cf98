//! Bodies in Kubernetes' protobuf, which Go clients send for built-in kinds whatever the server can write. They are read
//! into the same trees as JSON is, by the same schemas; only the field numbers are known here. Answers stay JSON, which
//! those clients take.

mod fields;
mod value;
mod wire;

use api::schemas::builtin;
use apimachinery::gvk::GroupVersionKind;
use apimachinery::schema::Schema;
use apimachinery::status::Status;
use serde_json::{Map, Value};

use wire::{Malformed, Reader};

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Definition of the options of deletes, which belong to no one group.
pub(crate) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// The tree that a body stands for.
pub(crate) fn decode(bytes: &[u8]) -> Result<Value, Status> {
    let malformed = |_: Malformed| Status::bad_request("the body of the request is malformed protobuf");
    let envelope = Envelope::read(bytes).map_err(malformed)?;
    let (api_version, kind) = (envelope.api_version, envelope.kind);
    let no_such_kind = || Status::unsupported_media_type(&["application/json", "application/yaml"]);
    // Options come under the group version of whatever they are options for.
    let definition;
    let schema: &Schema = if kind == "DeleteOptions" {
        definition = builtin().definition(DELETE_OPTIONS).ok_or_else(no_such_kind)?;
        definition.get()
    } else {
        let kind = GroupVersionKind::parse(api_version, kind)
            .map_err(|error| Status::bad_request(error.to_string()))?;
        builtin().kind(&kind).ok_or_else(no_such_kind)?
    };
    let message = fields::of(&schema.name).ok_or_else(no_such_kind)?;
    let mut tree = Map::new();
    value::message(message, schema, Reader::new(envelope.raw), 0, &mut tree).map_err(malformed)?;
    tree.insert("apiVersion".into(), api_version.into());
    tree.insert("kind".into(), kind.into());
    Ok(Value::Object(tree))
}

/// What is around the object: its type, and its bytes.
#[derive(Default)]
struct Envelope<'a> {
    api_version: &'a str,
    kind: &'a str,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut envelope = Self::default();
        let mut reader = Reader::new(bytes.strip_prefix(MAGIC).ok_or(Malformed)?);
        while let Some((number, payload)) = reader.field()? {
            match number {
                1 => {
                    let mut type_meta = Reader::new(payload.bytes()?);
                    while let Some((number, payload)) = type_meta.field()? {
                        match number {
                            1 => envelope.api_version = payload.text()?,
                            2 => envelope.kind = payload.text()?,
                            _ => {}
                        }
                    }
                }
                2 => envelope.raw = payload.bytes()?,
                _ => {}
            }
        }
        Ok(envelope)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Writes fields: a number and what it holds.
    fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
        [&varint(number << 3 | 2)[..], &varint(bytes.len() as u64), bytes].concat()
    }

    fn number(number: u64, value: u64) -> Vec<u8> {
        [varint(number << 3), varint(value)].concat()
    }

    fn varint(mut value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while value >= 0x80 {
            out.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        out
    }

    fn body(api_version: &str, kind: &str, object: &[Vec<u8>]) -> Vec<u8> {
        let type_meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &type_meta), field(2, &object.concat())].concat()
    }

    #[test]
    fn a_deployment() {
        let labels = [field(1, b"a"), field(2, b"b")].concat();
        let selector = field(1, &labels);
        let quantity = [field(1, b"cpu"), field(2, &field(1, b"100m"))].concat();
        let probe = [
            field(
                1,
                &field(2, &[field(1, b"/"), field(2, &[number(1, 1), field(3, b"http")].concat())].concat()),
            ),
            number(2, 0),
            number(4, 7),
        ]
        .concat();
        let container = [
            field(1, b"c"),
            field(2, b"image"),
            field(5, b""),
            field(
                7,
                &[field(1, b"E"), field(3, &field(4, &[field(1, &field(1, b"s")), field(2, b"k")].concat()))]
                    .concat(),
            ),
            field(8, &field(2, &quantity)),
            field(11, &probe),
        ]
        .concat();
        let volume = [field(1, b"v"), field(2, &field(2, b""))].concat();
        let pod = [field(1, &volume), field(2, &container), number(4, 0), field(999, b"unknown")].concat();
        let template = field(2, &pod);
        let spec = [number(1, 0), field(2, &selector), field(3, &template), number(5, 0)].concat();
        let metadata = [field(1, b"web"), field(8, b""), field(11, &labels)].concat();
        let tree = decode(&body("apps/v1", "Deployment", &[field(1, &metadata), field(2, &spec)])).unwrap();
        assert_eq!(
            tree,
            json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "web", "labels": {"a": "b"}},
                "spec": {
                    "replicas": 0,
                    "selector": {"matchLabels": {"a": "b"}},
                    "template": {"spec": {
                        "terminationGracePeriodSeconds": 0,
                        "volumes": [{"name": "v", "emptyDir": {}}],
                        "containers": [{
                            "name": "c",
                            "image": "image",
                            "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                            "resources": {"requests": {"cpu": "100m"}},
                            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 7},
                        }],
                    }},
                },
            })
        );
    }

    #[test]
    fn what_go_holds_behind_a_pointer_is_kept_if_it_is_zero() {
        let zero = number(2, 0);
        let rolling = field(2, &[field(1, &zero), field(2, &zero)].concat());
        let strategy = field(4, &rolling);
        let tree =
            decode(&body("apps/v1", "Deployment", &[field(2, &[strategy, number(5, 0)].concat())])).unwrap();
        let expected = json!({"strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 0}}});
        assert_eq!(tree["spec"], expected);
        let claim = [field(5, b""), field(3, b"")].concat();
        let tree = decode(&body("v1", "PersistentVolumeClaim", &[field(2, &claim)])).unwrap();
        assert_eq!(tree["spec"], json!({"storageClassName": ""}));
    }

    #[test]
    fn claims_and_slices() {
        // Go's encoder writes false behind a pointer, and what is embedded as a message of its own.
        let exactly = [field(1, b"fast"), field(3, b"ExactCount"), number(4, 1), number(5, 0)].concat();
        let request = [field(1, b"one"), field(2, &exactly)].concat();
        let opaque = [field(1, b"example.org"), field(2, &field(1, b"{\"deep\":[1]}"))].concat();
        let config = [field(1, b"one"), field(2, &field(1, &opaque))].concat();
        let devices = [field(1, &request), field(3, &config)].concat();
        let tree = decode(&body("resource.k8s.io/v1", "ResourceClaim", &[field(2, &field(1, &devices))]));
        assert_eq!(
            tree.unwrap()["spec"]["devices"],
            json!({
                "requests": [{"name": "one", "exactly": {
                    "deviceClassName": "fast", "allocationMode": "ExactCount", "count": 1, "adminAccess": false}}],
                "config": [{"requests": ["one"], "opaque": {"driver": "example.org", "parameters": {"deep": [1]}}}],
            })
        );
        let entry = |key: &[u8], value: &[u8]| [field(1, key), field(2, value)].concat();
        let device = [
            field(1, b"d"),
            field(2, &entry(b"quiet", &number(3, 0))),
            field(3, &entry(b"memory", &field(1, &field(1, b"1Gi")))),
        ];
        let spec = [field(1, b"example.org"), number(5, 1), field(6, &device.concat())].concat();
        let tree = decode(&body("resource.k8s.io/v1", "ResourceSlice", &[field(2, &spec)])).unwrap();
        assert_eq!(
            tree["spec"],
            json!({"driver": "example.org", "allNodes": true, "devices": [
                {"name": "d", "attributes": {"quiet": {"bool": false}}, "capacity": {"memory": {"value": "1Gi"}}}]})
        );
    }

    #[test]
    fn bytes_times_and_options() {
        let entry = [field(1, b"k"), field(2, b"\x00\xff")].concat();
        let metadata = [field(1, b"s"), field(8, &number(1, 1_700_000_000))].concat();
        let tree = decode(&body("v1", "Secret", &[field(1, &metadata), field(2, &entry)])).unwrap();
        assert_eq!(tree["data"], json!({"k": "AP8="}));
        assert_eq!(tree["metadata"]["creationTimestamp"], "2023-11-14T22:13:20Z");
        let micro =
            [field(1, &field(1, b"l")), field(2, &field(3, &[number(1, 1), number(2, 5000)].concat()))];
        let tree = decode(&body("coordination.k8s.io/v1", "Lease", &micro)).unwrap();
        assert_eq!(tree["spec"]["acquireTime"], "1970-01-01T00:00:01.000005Z");
        let options =
            decode(&body("apps/v1", "DeleteOptions", &[number(1, 0), field(4, b"Orphan")])).unwrap();
        assert_eq!(
            (&options["gracePeriodSeconds"], &options["propagationPolicy"]),
            (&json!(0), &json!("Orphan"))
        );
    }

    #[test]
    fn reviews() {
        let extra = [field(1, b"scopes"), field(2, &[field(1, b"a"), field(1, b"b")].concat())].concat();
        let attributes = [field(1, b"default"), field(2, b"get"), field(5, b"pods"), field(3, b"")].concat();
        let spec = [field(1, &attributes), field(3, b"bob"), field(5, &extra)].concat();
        let tree =
            decode(&body("authorization.k8s.io/v1", "SubjectAccessReview", &[field(2, &spec)])).unwrap();
        assert_eq!(
            tree["spec"],
            json!({
                "user": "bob",
                "extra": {"scopes": ["a", "b"]},
                "resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"},
            })
        );
    }

    #[test]
    fn what_is_torn_is_refused() {
        let whole = body("v1", "ConfigMap", &[field(1, &field(1, b"name"))]);
        assert!(decode(&whole).is_ok());
        for end in 0..whole.len() {
            if let Err(status) = decode(&whole[..end]) {
                assert!(matches!(status.code, 400 | 415), "{status}");
            }
        }
        assert_eq!(decode(&body("example.org/v1", "Widget", &[])).unwrap_err().code, 415);
    }
}
