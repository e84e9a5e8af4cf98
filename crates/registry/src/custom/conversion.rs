//! Conversion by webhook: the review that is sent, and what is taken of the answer.
//!
//! Only labels and annotations of the metadata may change; all else is put back as it was. The words of errors are
//! upstream's.

use std::sync::Arc;

use apimachinery::field::Path;
use apimachinery::meta::{self, validate_annotations, validate_labels};
use apimachinery::status::Status;
use async_trait::async_trait;
use clock::Random;
use serde_json::{Map, Value, json};

use crate::tree::{items, text};

const GROUP: &str = "apiextensions.k8s.io";
/// Versions of ConversionReview that are spoken.
pub(crate) const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// The way to webhooks: whoever opens a registry has the sockets.
#[async_trait]
pub trait AskWebhook: Send + Sync {
    /// Sends a review to the webhook that a `clientConfig` describes; gives its answer, or what went wrong in the words that
    /// clients are to see. It bounds how long that takes and how much comes back.
    async fn ask(&self, client_config: &Value, review: &Value) -> Result<Value, String>;
}

/// No way to webhooks, for those who have none: tests and benchmarks.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWebhooks;

#[async_trait]
impl AskWebhook for NoWebhooks {
    async fn ask(&self, _: &Value, _: &Value) -> Result<Value, String> {
        Err("webhooks cannot be called from here".to_owned())
    }
}

/// The webhook of one definition.
pub(crate) struct Webhook {
    kind: String,
    client_config: Value,
    /// The version of ConversionReview that it understands, the first of those that we do.
    review_version: Option<&'static str>,
    way: Arc<dyn AskWebhook>,
    random: Arc<dyn Random>,
}

impl Webhook {
    /// That of a definition, if it has one.
    pub(crate) fn of(crd: &Value, way: &Arc<dyn AskWebhook>, random: &Arc<dyn Random>) -> Option<Arc<Self>> {
        let conversion = &crd["spec"]["conversion"];
        if text(conversion, &["strategy"]) != "Webhook" {
            return None;
        }
        let versions = items(conversion, &["webhook", "conversionReviewVersions"]).iter();
        let known = |version: &Value| REVIEWS.into_iter().find(|known| *version == *known);
        Some(Arc::new(Self {
            kind: text(crd, &["spec", "names", "kind"]).to_owned(),
            client_config: conversion["webhook"]["clientConfig"].clone(),
            review_version: versions.filter_map(known).next(),
            way: way.clone(),
            random: random.clone(),
        }))
    }

    /// The objects, which come with their TypeMeta, in another version.
    pub(crate) async fn convert(&self, objects: &[Value], to: &str) -> Result<Vec<Value>, Status> {
        let Some(first) = objects.first() else { return Ok(Vec::new()) };
        let fail = |why: String| Status::without_reason(why);
        let review_version =
            self.review_version.ok_or_else(|| fail("no supported conversion review versions".to_owned()))?;
        let of = self.described(first);
        let failed = |why: &str| fail(format!("conversion webhook for {of} failed: {why}"));
        let uid = self.random.uid();
        let api_version = format!("{GROUP}/{review_version}");
        let review = json!({
            "kind": "ConversionReview",
            "apiVersion": api_version,
            "request": {"uid": uid, "desiredAPIVersion": to, "objects": objects},
        });
        let answer = self.way.ask(&self.client_config, &review).await.map_err(|why| failed(&why))?;
        let converted = converted(answer, &api_version, &uid).map_err(|why| failed(&why))?;
        if converted.len() != objects.len() {
            let (got, expected) = (converted.len(), objects.len());
            return Err(fail(format!(
                "conversion webhook for {of} returned {got} objects, expected {expected}"
            )));
        }
        let pairs = objects.iter().zip(converted).enumerate();
        pairs
            .map(|(index, (original, converted))| {
                self.checked(original, converted, to).map_err(|fault| {
                    fail(format!("conversion webhook for {of} returned {}", fault.at(index, objects.len())))
                })
            })
            .collect()
    }

    /// The object's group, version and kind as upstream shows them.
    fn described(&self, object: &Value) -> String {
        format!("{}, Kind={}", meta::api_version(object), self.kind)
    }

    /// A converted object, if it is one, with the metadata that it may not change as it was.
    fn checked(&self, original: &Value, mut converted: Value, to: &str) -> Result<Value, Fault> {
        if !converted.is_object() {
            return Err(Fault::Type("it is no object".to_owned()));
        }
        let got = text(&converted, &["apiVersion"]);
        if got != to {
            return Err(Fault::Type(format!("invalid groupVersion (expected {to}, received {got})")));
        }
        let got = text(&converted, &["kind"]);
        if got != self.kind {
            return Err(Fault::Type(format!("invalid kind (expected {}, received {got})", self.kind)));
        }
        for (what, field) in [("name", "name"), ("namespace", "namespace"), ("UID", "uid")] {
            let of = |tree| text(tree, &["metadata", field]).to_owned();
            let (expected, got) = (of(original), of(&converted));
            if expected != got {
                return Err(Fault::Object(format!("must have the same {what}: {expected} != {got}")));
            }
        }
        let metadata = restored(original, converted.get("metadata")).map_err(Fault::Metadata)?;
        if let Some(map) = converted.as_object_mut() {
            map.insert("metadata".to_owned(), metadata);
        }
        Ok(converted)
    }
}

/// What is wrong with a converted object.
enum Fault {
    Type(String),
    Object(String),
    Metadata(String),
}

impl Fault {
    fn at(&self, index: usize, count: usize) -> String {
        match (self, count) {
            (Self::Type(why), 1) => format!("invalid object at index 0: {why}"),
            (Self::Object(why), 1) => format!("invalid object: {why}"),
            (Self::Metadata(why), 1) => format!("invalid metadata: {why}"),
            (Self::Type(why) | Self::Object(why), _) => {
                format!("invalid converted object at index {index}: {why}")
            }
            (Self::Metadata(why), _) => format!("invalid metadata in object at index {index}: {why}"),
        }
    }
}

/// The objects of an answer that is one to this request, and a success.
fn converted(mut answer: Value, api_version: &str, uid: &str) -> Result<Vec<Value>, String> {
    let is_v1 = api_version.ends_with("/v1");
    let (got_version, got_kind) = (text(&answer, &["apiVersion"]), text(&answer, &["kind"]));
    if is_v1 && (got_version, got_kind) != (api_version, "ConversionReview") {
        let got_version = if got_version.is_empty() { "/" } else { got_version };
        return Err(format!(
            "expected webhook response of {api_version}, Kind=ConversionReview, got {got_version}, Kind={got_kind}"
        ));
    }
    let Some(response) = answer.get_mut("response").filter(|response| response.is_object()) else {
        return Err("no response provided".to_owned());
    };
    let got = text(response, &["uid"]);
    if is_v1 && got != uid {
        return Err(format!("expected response.uid={uid:?}, got {got:?}"));
    }
    let status = text(response, &["result", "status"]);
    if status != "Success" {
        return Err(match text(response, &["result", "message"]) {
            "" => format!("response.result.status was '{status}', not 'Success'"),
            message => message.to_owned(),
        });
    }
    match response.get_mut("convertedObjects").map(Value::take) {
        Some(Value::Array(objects)) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

/// The original's metadata, with the labels and annotations of the converted one.
fn restored(original: &Value, converted: Option<&Value>) -> Result<Value, String> {
    let Some(converted) = converted else { return Err("missing metadata in converted object".to_owned()) };
    let Some(converted) = converted.as_object() else {
        return Err(format!("invalid metadata of type {} in converted object", type_of(converted)));
    };
    let mut metadata = original.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        let given = match converted.get(field) {
            None | Some(Value::Null) => {
                metadata.remove(field);
                continue;
            }
            Some(Value::Object(given)) => given,
            Some(other) => {
                return Err(format!(
                    "invalid metadata.{field} of type {} in converted object",
                    type_of(other)
                ));
            }
        };
        if let Some((key, value)) = given.iter().find(|(_, value)| !value.is_string()) {
            let what = type_of(value);
            return Err(format!(
                "metadata.{field}[{key}] must be a string, but is {what} in converted object"
            ));
        }
        if metadata.get(field).and_then(Value::as_object) != Some(given) {
            check(field, given)?;
        }
        metadata.insert(field.to_owned(), Value::Object(given.clone()));
    }
    Ok(Value::Object(metadata))
}

fn check(field: &str, given: &Map<String, Value>) -> Result<(), String> {
    let mut errors = Vec::new();
    let path = Path::new("metadata");
    if field == "labels" {
        validate_labels(given, &path.child("labels"), &mut errors);
    } else {
        validate_annotations(given, &path.child("annotation"), &mut errors);
    }
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.to_string()),
        many => Err(format!("[{}]", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))),
    }
}

/// As upstream names the type of a value.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use clock::SeededRandom;

    use super::*;

    /// Answers with what a function makes of the review.
    struct Answering<F>(F, Mutex<Vec<Value>>);

    #[async_trait]
    impl<F: Fn(&Value) -> Result<Value, String> + Send + Sync> AskWebhook for Answering<F> {
        async fn ask(&self, _: &Value, review: &Value) -> Result<Value, String> {
            self.1.lock().unwrap().push(review.clone());
            self.0(review)
        }
    }

    fn crd() -> Value {
        json!({"spec": {
            "group": "g.io", "names": {"kind": "Thing"},
            "conversion": {"strategy": "Webhook", "webhook": {
                "clientConfig": {"url": "https://x"}, "conversionReviewVersions": ["v9", "v1", "v1beta1"],
            }},
        }})
    }

    fn thing(name: &str) -> Value {
        json!({"apiVersion": "g.io/v1", "kind": "Thing", "spec": {"a": 1},
            "metadata": {"name": name, "uid": "u", "labels": {"l": "1"}, "generation": 4}})
    }

    async fn asked(
        objects: &[Value],
        answer: impl Fn(&Value) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Result<Vec<Value>, String> {
        let way: Arc<dyn AskWebhook> = Arc::new(Answering(answer, Mutex::default()));
        let random: Arc<dyn Random> = Arc::new(SeededRandom::new(1));
        let webhook = Webhook::of(&crd(), &way, &random).unwrap();
        webhook.convert(objects, "g.io/v2").await.map_err(|status| {
            assert_eq!(status.code, 500);
            status.message
        })
    }

    /// A success with the request's objects, changed.
    fn success(review: &Value, change: impl Fn(&mut Value)) -> Result<Value, String> {
        assert_eq!(review["apiVersion"], "apiextensions.k8s.io/v1");
        let mut objects = review["request"]["objects"].clone();
        for object in objects.as_array_mut().unwrap() {
            object["apiVersion"] = review["request"]["desiredAPIVersion"].clone();
            change(object);
        }
        Ok(json!({"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": {
            "uid": review["request"]["uid"], "convertedObjects": objects, "result": {"status": "Success"},
        }}))
    }

    #[tokio::test]
    async fn only_labels_and_annotations_of_metadata_change() {
        let both = [thing("a"), thing("b")];
        let converted = asked(&both, |review| {
            success(review, |object| {
                object["spec"] = json!({"b": 2});
                object["metadata"]["generation"] = json!(99);
                object["metadata"]["labels"] = json!({"new": "2"});
                object["metadata"]["annotations"] = json!({"x/y": "z"});
            })
        });
        let converted = converted.await.unwrap();
        assert_eq!(converted.len(), 2);
        assert_eq!(
            converted[1],
            json!({"apiVersion": "g.io/v2", "kind": "Thing", "spec": {"b": 2}, "metadata": {
                "name": "b", "uid": "u", "generation": 4, "labels": {"new": "2"}, "annotations": {"x/y": "z"},
            }})
        );
    }

    #[tokio::test]
    async fn failures_are_told_in_upstreams_words() {
        let one = [thing("a")];
        let prefix = "conversion webhook for g.io/v1, Kind=Thing ";
        let check = async |answer: Result<Value, String>, expected: &str| {
            let error = asked(&one, move |_| answer.clone()).await.unwrap_err();
            assert_eq!(error.strip_prefix(prefix), Some(expected), "{error}");
        };
        check(Err("Post: no".into()), "failed: Post: no").await;
        check(
            Ok(json!({})),
            "failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got /, Kind=",
        )
        .await;
        let review = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview"});
        check(Ok(review.clone()), "failed: no response provided").await;
        type Case = (fn(&mut Value), &'static str);
        let changed: [Case; 8] = [
            (
                |o| o["metadata"]["name"] = json!("z"),
                "returned invalid object: must have the same name: a != z",
            ),
            (
                |o| o["metadata"]["uid"] = json!("z"),
                "returned invalid object: must have the same UID: u != z",
            ),
            (
                |o| o["apiVersion"] = json!("g.io/v1"),
                "returned invalid object at index 0: invalid groupVersion (expected g.io/v2, received g.io/v1)",
            ),
            (
                |o| o["kind"] = json!("X"),
                "returned invalid object at index 0: invalid kind (expected Thing, received X)",
            ),
            (|o| *o = json!(1), "returned invalid object at index 0: it is no object"),
            (
                |o| o["metadata"]["labels"] = json!([]),
                "returned invalid metadata: invalid metadata.labels of type []interface {} in converted object",
            ),
            (
                |o| o["metadata"]["labels"] = json!({"a": 1}),
                "returned invalid metadata: metadata.labels[a] must be a string, but is int64 in converted object",
            ),
            (
                |o| o["metadata"]["annotations"] = json!({"": "1"}),
                "returned invalid metadata: [metadata.annotation: Invalid value: \"\": name part must be non-empty, ",
            ),
        ];
        for (change, expected) in changed {
            let error = asked(&one, move |review| success(review, change)).await.unwrap_err();
            let said = error.strip_prefix(prefix).unwrap_or_default().to_owned();
            assert!(said.starts_with(expected), "{error}");
        }
        let error = asked(&one, |review| {
            let mut answer = success(review, |_| {})?;
            answer["response"]["convertedObjects"] = json!([]);
            Ok(answer)
        });
        assert_eq!(error.await.unwrap_err(), format!("{prefix}returned 0 objects, expected 1"));
        let error = asked(&one, |review| {
            let mut answer = success(review, |_| {})?;
            answer["response"]["result"] = json!({"status": "Failure", "message": "cannot"});
            Ok(answer)
        });
        assert_eq!(error.await.unwrap_err(), format!("{prefix}failed: cannot"));
    }
}
