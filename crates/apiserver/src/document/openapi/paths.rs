//! Which paths there are, and what may be done at each.

use apimachinery::schema::OpenApi;
use registry::{Kind, Subresource};
use serde_json::{Map, Value, json};

use super::operations::{Answers, Asks, Operation, Subject};
use super::{definition_name, list_name, names_of, review_name, subresource_body};
use crate::review::Review;

/// Everything that may be done with these kinds and reviews.
pub(super) fn render(kinds: &[&Kind], reviews: &[&Review], dialect: OpenApi) -> Map<String, Value> {
    let mut paths = Paths { all: Map::new(), dialect };
    for kind in kinds {
        paths.add_kind(kind);
    }
    for review in reviews {
        let definition = review_name(review);
        let subject = Subject {
            group: review.group,
            version: review.version,
            kind: review.kind,
            namespaced: review.namespaced,
            definition: &definition,
            strategic: false,
        };
        let at = Place::of(&subject, review.plural);
        let create = subject.operation("post", "post", "create", "", Asks::Object, Answers::Created);
        paths.add(&at.collection, &subject, false, vec![create]);
    }
    paths.add_versions(kinds, reviews);
    paths.all
}

struct Paths {
    all: Map<String, Value>,
    dialect: OpenApi,
}

/// Where objects of a kind are.
struct Place {
    /// `/apis/apps/v1`.
    root: String,
    /// `namespaces/{namespace}/deployments`.
    within: String,
    /// Both.
    collection: String,
}

impl Place {
    fn of(subject: &Subject<'_>, plural: &str) -> Self {
        let root = root(subject.group, subject.version);
        let within =
            if subject.namespaced { format!("namespaces/{{namespace}}/{plural}") } else { plural.to_owned() };
        Self { collection: format!("{root}/{within}"), root, within }
    }
}

fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

impl Paths {
    fn add(&mut self, path: &str, subject: &Subject<'_>, named: bool, operations: Vec<Operation<'_>>) {
        if operations.is_empty() {
            return;
        }
        let item = self
            .all
            .entry(path)
            .or_insert_with(|| json!({"parameters": subject.path_parameters(path, named, self.dialect)}));
        for operation in operations {
            item[operation.method] = operation.render(subject, self.dialect);
        }
    }

    fn add_kind(&mut self, kind: &Kind) {
        let (definition, list) = (definition_name(kind), list_name(kind));
        let subject = Subject {
            group: &kind.group,
            version: &kind.version,
            kind: &kind.kind,
            namespaced: kind.namespaced,
            definition: &definition,
            strategic: !kind.custom,
        };
        let at = Place::of(&subject, &kind.plural);
        let serves = |verb: &str| kind.verbs.contains(&verb);
        let of_list = || Answers::List(list.clone());
        let operation =
            |method, action, verb, asks, answers| subject.operation(method, action, verb, "", asks, answers);
        let mut collection = Vec::new();
        if serves("list") {
            collection.push(operation("get", "list", "list", Asks::Selection, of_list()));
        }
        if serves("create") {
            collection.push(operation("post", "post", "create", Asks::Object, Answers::Created));
        }
        if serves("deletecollection") {
            let all = operation(
                "delete",
                "deletecollection",
                "delete",
                Asks::Deletion { many: true },
                Answers::Status,
            );
            collection.push(Operation { many: true, ..all });
        }
        self.add(&at.collection, &subject, false, collection);
        if kind.namespaced && serves("list") {
            let everywhere = operation("get", "list", "list", Asks::Selection, of_list()).everywhere();
            self.add(&format!("{}/{}", at.root, kind.plural), &subject, false, vec![everywhere]);
        }
        let item = format!("{}/{{name}}", at.collection);
        let deleted = if kind.shows_deleted() { Answers::Deleted } else { Answers::Status };
        let mut one = Vec::new();
        for (verb, method, name, asks, answers) in [
            ("get", "get", "read", Asks::Nothing, Answers::Object),
            ("update", "put", "replace", Asks::Object, Answers::Created),
            ("patch", "patch", "patch", Asks::Patch, Answers::Created),
            ("delete", "delete", "delete", Asks::Deletion { many: false }, deleted),
        ] {
            if serves(verb) {
                one.push(operation(method, method, name, asks, answers));
            }
        }
        self.add(&item, &subject, true, one);
        for subresource in &kind.subresources {
            self.add_subresource(&item, &subject, subresource);
        }
        // The old form of watches; custom kinds never had it.
        if serves("watch") && !kind.custom {
            self.add_watches(&at, &subject, &kind.plural);
        }
    }

    fn add_watches(&mut self, at: &Place, subject: &Subject<'_>, plural: &str) {
        let watch = |action| subject.operation("get", action, "watch", "", Asks::Selection, Answers::Events);
        let list = || Operation { list: true, ..watch("watchlist") };
        let prefix = format!("{}/watch", at.root);
        self.add(&format!("{prefix}/{}", at.within), subject, false, vec![list()]);
        if subject.namespaced {
            self.add(&format!("{prefix}/{plural}"), subject, false, vec![list().everywhere()]);
        }
        self.add(&format!("{prefix}/{}/{{name}}", at.within), subject, true, vec![watch("watch")]);
    }

    fn add_subresource(&mut self, item: &str, subject: &Subject<'_>, subresource: &Subresource) {
        let (group, version) = subresource.group_version.unwrap_or((subject.group, subject.version));
        let definition = subresource_body(group, version, &subresource.kind);
        let below = Subject { definition: definition.as_deref().unwrap_or(subject.definition), ..*subject };
        let gvk = json!({"group": group, "version": version, "kind": subresource.kind});
        let connects = matches!(subresource.name, "attach" | "exec" | "portforward");
        let mut operations = Vec::new();
        if subresource.name == "proxy" {
            self.add_proxy(item, subject, gvk);
            return;
        }
        for (verb, method, name, asks, answers) in [
            ("get", "get", "read", Asks::Nothing, Answers::Object),
            ("create", "post", "create", Asks::Object, Answers::Created),
            ("update", "put", "replace", Asks::Object, Answers::Created),
            ("patch", "patch", "patch", Asks::Patch, Answers::Created),
        ] {
            if !subresource.verbs.contains(&verb) {
                continue;
            }
            let operation = if connects || subresource.name == "log" {
                let (action, name) = if connects { ("connect", "connect") } else { ("get", "read") };
                let asks = Asks::Options(subresource.name);
                subject.operation(method, action, name, subresource.name, asks, Answers::Text)
            } else {
                below.operation(method, method, name, subresource.name, asks, answers)
            };
            operations.push(Operation { gvk: Some(gvk.clone()), connects, ..operation });
        }
        self.add(&format!("{item}/{}", subresource.name), &below, true, operations);
    }

    /// Where requests of any method go on to somebody else.
    fn add_proxy(&mut self, item: &str, subject: &Subject<'_>, gvk: Value) {
        for (path, with_path) in [("proxy", false), ("proxy/{path}", true)] {
            let operations = ["delete", "get", "head", "options", "patch", "post", "put"].map(|method| {
                let asks = Asks::Options("proxy");
                let operation = subject.operation(method, "connect", "connect", "proxy", asks, Answers::Text);
                Operation { gvk: Some(gvk.clone()), connects: true, with_path, ..operation }
            });
            self.add(&format!("{item}/{path}"), subject, true, operations.into());
        }
    }

    /// Where each group version tells of its resources.
    fn add_versions(&mut self, kinds: &[&Kind], reviews: &[&Review]) {
        let mut versions: Vec<(&str, &str)> =
            kinds.iter().map(|kind| (kind.group.as_str(), kind.version.as_str())).collect();
        versions.extend(reviews.iter().map(|review| (review.group, review.version)));
        versions.sort_unstable();
        versions.dedup();
        for (group, version) in versions {
            let names = names_of(group, version);
            let get = json!({
                "description": "get available resources",
                "operationId": format!("get{}APIResources", names.joined),
                "tags": [names.tag],
            });
            let answered = super::operations::answered(get, super::RESOURCES, self.dialect);
            self.all.insert(format!("{}/", root(group, version)), json!({"get": answered}));
        }
    }
}
