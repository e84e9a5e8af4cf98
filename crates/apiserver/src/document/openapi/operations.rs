//! One operation on a kind, as either version of OpenAPI writes it.

use apimachinery::schema::OpenApi;
use serde_json::{Map, Value, json};

use super::{DELETE_OPTIONS, GVK, STATUS, WATCH_EVENT, names_of, reference};

/// A parameter: its name, its type, and what it does.
type Parameter = (&'static str, &'static str, &'static str);

const PRETTY: Parameter = ("pretty", "string", "If 'true', the answer is laid out for people.");
const DRY_RUN: Parameter = (
    "dryRun",
    "string",
    "When present, nothing is kept. The one value is All: every step but the last is gone through.",
);
const FIELD_MANAGER: Parameter = (
    "fieldManager",
    "string",
    "Who makes these changes; by default what stands before the slash in the client's name.",
);
const FIELD_VALIDATION: Parameter = (
    "fieldValidation",
    "string",
    "What becomes of unknown and duplicate fields: Ignore drops them, Warn (the default) also says so, Strict refuses the request.",
);
const FORCE: Parameter = ("force", "boolean", "Take over what other managers own. For apply only.");
const SELECTION: [Parameter; 10] = [
    ("allowWatchBookmarks", "boolean", "Whether a watch may send bookmarks."),
    ("continue", "string", "Where the page before ended, as its metadata says."),
    ("fieldSelector", "string", "Selects objects by their fields; everything by default."),
    ("labelSelector", "string", "Selects objects by their labels; everything by default."),
    ("limit", "integer", "The most objects that one answer holds; the rest is asked for with continue."),
    ("resourceVersion", "string", "From which version on; see resourceVersionMatch."),
    ("resourceVersionMatch", "string", "How resourceVersion counts: Exact or NotOlderThan."),
    ("sendInitialEvents", "boolean", "Whether a watch begins with what there is."),
    ("timeoutSeconds", "integer", "How long a list or watch may take."),
    ("watch", "boolean", "Sends changes as they come instead of a list."),
];
const DELETION: [Parameter; 4] = [
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "How long the object may take to end; 0 is at once."),
    ("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    ("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
];
const CONTAINER: Parameter = ("container", "string", "Which container; the only one by default.");
const STREAMS: [Parameter; 5] = [
    CONTAINER,
    ("stderr", "boolean", "Whether standard error is wanted."),
    ("stdin", "boolean", "Whether standard input is sent."),
    ("stdout", "boolean", "Whether standard output is wanted."),
    ("tty", "boolean", "Whether the container has a terminal."),
];
const COMMAND: Parameter = ("command", "string", "A word of the command; given once for each.");
const PORTS: Parameter = ("ports", "integer", "A port to forward; given once for each.");
const PROXIED: Parameter = ("path", "string", "What is asked for there.");
const LOG: [Parameter; 8] = [
    CONTAINER,
    ("follow", "boolean", "Whether to go on with what is written later."),
    ("insecureSkipTLSVerifyBackend", "boolean", "Whether to trust any kubelet."),
    ("limitBytes", "integer", "The most bytes."),
    ("previous", "boolean", "That of the container before the last restart."),
    ("sinceSeconds", "integer", "How far back."),
    ("tailLines", "integer", "How many lines, counted from the end."),
    ("timestamps", "boolean", "Whether each line begins with its time."),
];

const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const OBJECTS: [&str; 2] = ["application/json", "application/yaml"];

/// What an operation is about.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    pub(super) kind: &'a str,
    pub(super) namespaced: bool,
    /// The definition of what is taken and given.
    pub(super) definition: &'a str,
    /// Takes strategic merge patches.
    pub(super) strategic: bool,
}

/// What an operation takes.
#[derive(Clone, Copy)]
pub(super) enum Asks {
    Nothing,
    Object,
    Patch,
    Selection,
    Deletion {
        many: bool,
    },
    /// Those of the subresource of that name.
    Options(&'static str),
}

/// What an operation gives.
#[derive(Clone)]
pub(super) enum Answers {
    Object,
    /// The object, which may be new.
    Created,
    /// A list, by its definition's name.
    List(String),
    Status,
    /// The object as it was.
    Deleted,
    Events,
    Text,
}

pub(super) struct Operation<'a> {
    pub(super) method: &'static str,
    pub(super) action: &'static str,
    pub(super) verb: &'static str,
    pub(super) subresource: &'a str,
    pub(super) asks: Asks,
    pub(super) answers: Answers,
    /// Of the objects of all namespaces.
    pub(super) everywhere: bool,
    /// Of a whole collection, to be deleted.
    pub(super) many: bool,
    /// Of a whole collection, to be watched.
    pub(super) list: bool,
    /// Opens streams, or goes on to somebody else.
    pub(super) connects: bool,
    /// With a path behind the subresource.
    pub(super) with_path: bool,
    /// What it is about, where that is not the kind itself.
    pub(super) gvk: Option<Value>,
}

impl Operation<'_> {
    pub(super) fn everywhere(self) -> Self {
        Self { everywhere: true, ..self }
    }
}

impl Subject<'_> {
    pub(super) fn operation<'a>(
        &self,
        method: &'static str,
        action: &'static str,
        verb: &'static str,
        subresource: &'a str,
        asks: Asks,
        answers: Answers,
    ) -> Operation<'a> {
        Operation {
            method,
            action,
            verb,
            subresource,
            asks,
            answers,
            everywhere: false,
            many: false,
            list: false,
            connects: false,
            with_path: false,
            gvk: None,
        }
    }

    /// The parameters that all operations at a path share.
    pub(super) fn path_parameters(&self, path: &str, named: bool, dialect: OpenApi) -> Vec<Value> {
        let mut parameters = Vec::new();
        if named {
            let said = format!("name of the {}", self.kind);
            parameters.push(parameter("name", "path", "string", &said, dialect));
        }
        if path.contains("{namespace}") {
            parameters.push(parameter("namespace", "path", "string", "the object's namespace", dialect));
        }
        if path.contains("{path}") {
            let (name, type_, said) = PROXIED;
            parameters.push(parameter(name, "path", type_, said, dialect));
        }
        let (name, type_, said) = PRETTY;
        parameters.push(parameter(name, "query", type_, said, dialect));
        parameters
    }
}

fn parameter(name: &str, place: &str, type_: &str, said: &str, dialect: OpenApi) -> Value {
    let mut parameter = match dialect {
        OpenApi::V2 => json!({"name": name, "in": place, "type": type_}),
        OpenApi::V3 => json!({"name": name, "in": place, "schema": {"type": type_, "uniqueItems": true}}),
    };
    parameter["description"] = said.into();
    if dialect == OpenApi::V2 {
        parameter["uniqueItems"] = true.into();
    }
    if place == "path" {
        parameter["required"] = true.into();
    }
    parameter
}

fn capital(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

impl Operation<'_> {
    /// As upstream names operations: `listCoreV1NamespacedPod`, `readAppsV1NamespacedDeploymentScale`.
    fn id(&self, subject: &Subject<'_>) -> String {
        let names = names_of(subject.group, subject.version).joined;
        let scope = if subject.namespaced && !self.everywhere { "Namespaced" } else { "" };
        let (kind, below) = (subject.kind, capital(self.subresource));
        let everywhere = if self.everywhere && subject.namespaced { "ForAllNamespaces" } else { "" };
        let list = if self.list { "List" } else { "" };
        let collection = if self.many { "Collection" } else { "" };
        let path = if self.with_path { "WithPath" } else { "" };
        let method = if self.connects { capital(self.method) } else { String::new() };
        format!("{}{names}{collection}{method}{scope}{kind}{below}{path}{list}{everywhere}", self.verb)
    }

    fn description(&self, subject: &Subject<'_>) -> String {
        let below =
            if self.subresource.is_empty() { String::new() } else { format!("{} of ", self.subresource) };
        let kind = subject.kind;
        match (self.action, self.many) {
            ("list", _) => format!("list or watch objects of kind {kind}"),
            ("watchlist", _) => {
                format!(
                    "watch individual changes to a list of {kind}. deprecated: use the 'watch' parameter with a list operation instead."
                )
            }
            ("watch", _) => {
                format!(
                    "watch changes to an object of kind {kind}. deprecated: use the 'watch' parameter with a list operation instead."
                )
            }
            ("connect", _) => format!("connect {} requests to {}{kind}", self.method.to_uppercase(), below),
            ("deletecollection", _) => format!("delete collection of {kind}"),
            _ if self.verb == "create" => format!("create {below}a {kind}"),
            _ if self.verb == "patch" => format!("partially update {below}the specified {kind}"),
            _ => format!("{} {below}the specified {kind}", self.verb),
        }
    }

    fn parameters(&self) -> Vec<Parameter> {
        match self.asks {
            Asks::Nothing => Vec::new(),
            Asks::Object => vec![DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION],
            Asks::Patch => vec![DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE],
            Asks::Selection => SELECTION.to_vec(),
            Asks::Deletion { many: false } => DELETION.to_vec(),
            Asks::Deletion { many: true } => {
                let selects =
                    SELECTION.iter().filter(|(name, ..)| !matches!(*name, "allowWatchBookmarks" | "watch"));
                DELETION.iter().chain(selects).copied().collect()
            }
            Asks::Options("log") => LOG.to_vec(),
            Asks::Options("portforward") => vec![PORTS],
            Asks::Options("proxy") => vec![PROXIED],
            Asks::Options("exec") => std::iter::once(COMMAND).chain(STREAMS).collect(),
            Asks::Options(_) => STREAMS.to_vec(),
        }
    }

    pub(super) fn render(&self, subject: &Subject<'_>, dialect: OpenApi) -> Value {
        let names = names_of(subject.group, subject.version);
        let own = || json!({"group": subject.group, "version": subject.version, "kind": subject.kind});
        let mut operation = json!({
            "description": self.description(subject),
            "operationId": self.id(subject),
            "tags": [names.tag],
            "x-kubernetes-action": self.action,
            GVK: self.gvk.clone().unwrap_or_else(own),
        });
        let parameters = self.parameters();
        let parameters =
            parameters.iter().map(|(name, type_, said)| parameter(name, "query", type_, said, dialect));
        let mut parameters: Vec<Value> = parameters.collect();
        let patches = if subject.strategic { &PATCHES[..] } else { &PATCHES[..3] };
        let body = match self.asks {
            Asks::Object => Some((reference(subject.definition, dialect), &OBJECTS[..], true)),
            // What a patch holds depends on its media type, so nothing is promised of it.
            Asks::Patch => Some((json!({"type": "object"}), patches, true)),
            Asks::Deletion { .. } => Some((reference(DELETE_OPTIONS, dialect), &OBJECTS[..], false)),
            _ => None,
        };
        if let Some((schema, types, required)) = body {
            match dialect {
                OpenApi::V2 => {
                    parameters
                        .push(json!({"name": "body", "in": "body", "required": required, "schema": schema}));
                    operation["consumes"] = json!(types);
                }
                OpenApi::V3 => {
                    operation["requestBody"] =
                        json!({"required": required, "content": content(types, &schema)});
                }
            }
        }
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        self.answered(operation, subject, dialect)
    }

    fn answered(&self, mut operation: Value, subject: &Subject<'_>, dialect: OpenApi) -> Value {
        let (schema, codes): (Value, &[&str]) = match &self.answers {
            Answers::Object => (reference(subject.definition, dialect), &["200"]),
            Answers::Created if self.method == "post" => {
                (reference(subject.definition, dialect), &["200", "201", "202"])
            }
            Answers::Created => (reference(subject.definition, dialect), &["200", "201"]),
            Answers::List(name) => (reference(name, dialect), &["200"]),
            Answers::Status if self.many => (reference(STATUS, dialect), &["200"]),
            Answers::Status => (reference(STATUS, dialect), &["200", "202"]),
            Answers::Deleted => (reference(subject.definition, dialect), &["200", "202"]),
            Answers::Events => (reference(WATCH_EVENT, dialect), &["200"]),
            Answers::Text => (json!({"type": "string"}), &["200"]),
        };
        let types: &[&str] = match self.answers {
            Answers::Text if self.connects => &["*/*"],
            Answers::Text => &["text/plain"],
            Answers::List(_) | Answers::Events => {
                &["application/json", "application/json;stream=watch", "application/yaml"]
            }
            _ => &OBJECTS,
        };
        respond(&mut operation, &schema, types, codes, dialect);
        operation
    }
}

/// An operation that gives what a definition of that name describes.
pub(super) fn answered(mut operation: Value, definition: &str, dialect: OpenApi) -> Value {
    respond(&mut operation, &reference(definition, dialect), &OBJECTS, &["200"], dialect);
    operation
}

fn respond(operation: &mut Value, schema: &Value, types: &[&str], codes: &[&str], dialect: OpenApi) {
    let mut responses = Map::new();
    for code in codes {
        let said = match *code {
            "201" => "Created",
            "202" => "Accepted",
            _ => "OK",
        };
        let response = match dialect {
            OpenApi::V2 => json!({"description": said, "schema": schema}),
            OpenApi::V3 => json!({"description": said, "content": content(types, schema)}),
        };
        responses.insert((*code).to_owned(), response);
    }
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    operation["responses"] = responses.into();
    if dialect == OpenApi::V2 {
        operation["produces"] = json!(types);
        operation["schemes"] = json!(["https"]);
    }
}

fn content(types: &[&str], schema: &Value) -> Map<String, Value> {
    types.iter().map(|each| ((*each).to_owned(), json!({"schema": schema}))).collect()
}
