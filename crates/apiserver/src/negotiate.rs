//! Media types: what the client sent, and in which form it would have the answer.

use apimachinery::status::Status;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

use crate::protobuf;

/// How bytes spell a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Syntax {
    #[default]
    Json,
    Yaml,
    /// In requests only.
    Protobuf,
}

/// What stands for an object in the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Itself.
    #[default]
    Whole,
    /// Rows of a `meta.k8s.io/v1` Table.
    Table,
    /// Its metadata, as a `meta.k8s.io/v1` PartialObjectMetadata.
    Metadata,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) syntax: Syntax,
    pub(crate) shape: Shape,
}

/// What we can write.
const ACCEPTED: [&str; 2] = ["application/json", "application/yaml"];

/// What we can read.
const READ: [&str; 3] = ["application/json", "application/yaml", protobuf::MEDIA_TYPE];

/// One clause of an Accept header.
struct Clause<'a> {
    media_type: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Clause<'_> {
    fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    fn syntax(&self) -> Option<Syntax> {
        match self.media_type {
            "application/json" | "*/*" | "application/*" => Some(Syntax::Json),
            "application/yaml" | "application/x-yaml" | "text/yaml" => Some(Syntax::Yaml),
            _ => None,
        }
    }
}

/// The form that the client likes best of those that we can write.
pub(crate) fn form(headers: &HeaderMap) -> Result<Form, Status> {
    let Some(accept) = accept(headers) else { return Ok(Form::default()) };
    // What most clients send, without a look at its parts.
    if accept == "application/json" || accept == "*/*" {
        return Ok(Form::default());
    }
    let chosen = clauses(accept).iter().find_map(|clause| {
        let syntax = clause.syntax()?;
        let shape = match clause.parameter("as") {
            "" => Shape::Whole,
            "Table" if is_meta_v1(clause) => Shape::Table,
            "PartialObjectMetadata" | "PartialObjectMetadataList" if is_meta_v1(clause) => Shape::Metadata,
            _ => return None,
        };
        Some(Form { syntax, shape })
    });
    chosen.ok_or_else(|| Status::not_acceptable(&ACCEPTED))
}

fn is_meta_v1(clause: &Clause<'_>) -> bool {
    clause.parameter("g") == "meta.k8s.io" && clause.parameter("v") == "v1"
}

/// Whether the client asks for aggregated discovery before it asks for plain JSON.
pub(crate) fn wants_aggregated_discovery(headers: &HeaderMap) -> bool {
    let Some(accept) = accept(headers) else { return false };
    let is_aggregated = |clause: &Clause<'_>| {
        clause.parameter("g") == "apidiscovery.k8s.io"
            && clause.parameter("v") == "v2"
            && clause.parameter("as") == "APIGroupDiscoveryList"
    };
    let first = clauses(accept).into_iter().find(|clause| {
        clause.syntax().is_some() && (clause.parameter("as").is_empty() || is_aggregated(clause))
    });
    first.is_some_and(|clause| is_aggregated(&clause))
}

fn accept(headers: &HeaderMap) -> Option<&str> {
    headers.get(ACCEPT)?.to_str().ok().filter(|accept| !accept.is_empty())
}

/// The clauses, best liked first.
fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<(f32, Clause<'_>)> = Vec::new();
    for text in accept.split(',') {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let quality =
            parameters.iter().find(|(key, _)| *key == "q").and_then(|(_, value)| value.parse().ok());
        clauses.push((quality.unwrap_or(1.0), Clause { media_type, parameters }));
    }
    clauses.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    clauses.into_iter().map(|(_, clause)| clause).collect()
}

/// The media type of the body, without its parameters; empty when none is given.
pub(crate) fn content_type(headers: &HeaderMap) -> &str {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

/// How the body of a write is spelt.
pub(crate) fn body_syntax(headers: &HeaderMap) -> Result<Syntax, Status> {
    match content_type(headers) {
        "" | "application/json" => Ok(Syntax::Json),
        "application/yaml" | "application/x-yaml" | "text/yaml" => Ok(Syntax::Yaml),
        protobuf::MEDIA_TYPE => Ok(Syntax::Protobuf),
        _ => Err(Status::unsupported_media_type(&READ)),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accepting(accept: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))])
    }

    #[test]
    fn forms() {
        let json = Form::default();
        let table = Form { shape: Shape::Table, ..json };
        let cases = [
            ("", Some(json)),
            ("*/*", Some(json)),
            ("application/json", Some(json)),
            ("application/json, */*", Some(json)),
            ("application/vnd.kubernetes.protobuf,application/json", Some(json)),
            ("application/vnd.kubernetes.protobuf", None),
            ("text/html", None),
            ("application/yaml", Some(Form { syntax: Syntax::Yaml, ..json })),
            ("application/yaml;q=0.5,application/json;q=0.9", Some(json)),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some(table)),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", Some(json)),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", None),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Some(Form { shape: Shape::Metadata, ..json }),
            ),
        ];
        for (accept, expected) in cases {
            assert_eq!(form(&accepting(accept)).ok(), expected, "{accept}");
        }
    }

    #[test]
    fn aggregated_discovery_is_for_those_who_ask_first_for_a_version_that_we_write() {
        let both = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        assert!(wants_aggregated_discovery(&accepting(both)));
        for accept in [
            "application/json",
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
            "application/json,application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        ] {
            assert!(!wants_aggregated_discovery(&accepting(accept)), "{accept}");
        }
    }
}
