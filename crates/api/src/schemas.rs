//! Built-in schemas.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use apimachinery::gvk::GroupVersionKind;
use apimachinery::schema::table::Table;
use apimachinery::schema::{OpenApi, Ref, Schema};
use serde_json::{Value, json};

use crate::descriptions::{Description, Descriptions};
use crate::enumerations::enumerate;

/// What `cargo xtask schemas` made.
const TEXT: &str = include_str!("../schema/v1.36.txt");

/// The schemas of Kubernetes' kinds.
#[derive(Clone, Copy)]
pub struct Builtin(&'static Table);

/// The schemas of Kubernetes 1.36. Cheap: the text is indexed at the first call, a definition parsed when first used.
pub fn builtin() -> Builtin {
    static TABLE: LazyLock<Table> =
        // A test reads every line of the table, so a broken one does not get as far as here.
        LazyLock::new(|| Table::new(TEXT).unwrap_or_default());
    Builtin(&TABLE)
}

impl Builtin {
    /// The schema of a kind.
    pub fn kind(self, gvk: &GroupVersionKind) -> Option<&'static Schema> {
        self.0.kind(gvk)
    }

    /// The schema of a kind, to hold.
    pub fn kind_ref(self, gvk: &GroupVersionKind) -> Option<Ref> {
        self.0.kind_ref(gvk)
    }

    /// The definition of that full name, such as `io.k8s.api.core.v1.PodSpec`.
    pub fn definition(self, name: &str) -> Option<Ref> {
        self.0.definition(name)
    }

    /// `ObjectMeta`, which every kind has.
    pub fn object_meta(self) -> Option<Ref> {
        self.definition("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
    }

    /// The full name of a kind's definition, such as `io.k8s.api.apps.v1.Deployment`.
    pub fn definition_name(self, gvk: &GroupVersionKind) -> Option<&'static str> {
        match self.kind_ref(gvk)? {
            Ref::Named { table, index } => table.name(index),
            Ref::Inline(_) => None,
        }
    }

    /// A definition as an OpenAPI document shows it: with what is said of it, the kinds that it is, and references to other
    /// definitions. Made anew at each call, as it is large and seldom wanted.
    pub fn openapi(self, name: &str, dialect: OpenApi, said: &Descriptions) -> Option<Value> {
        let mut document = self.definition(name)?.get().to_openapi(dialect);
        describe(&mut document, &said.of(name), dialect);
        enumerate(&mut document, name);
        let mut kinds: Vec<Value> = self
            .kinds()
            .filter(|(_, definition)| definition.name() == Some(name))
            .map(|(gvk, _)| json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind}))
            .collect();
        if let (false, Some(map)) = (kinds.is_empty(), document.as_object_mut()) {
            kinds.sort_by_key(Value::to_string);
            map.insert("x-kubernetes-group-version-kind".to_owned(), Value::Array(kinds));
        }
        Some(document)
    }

    /// The definitions that those refer to, themselves included, by full name.
    pub fn closure<'n>(self, names: impl IntoIterator<Item = &'n str>) -> BTreeSet<&'static str> {
        let mut found = BTreeSet::new();
        let mut open: Vec<u32> = Vec::new();
        let index = |definition: Option<Ref>| match definition {
            Some(Ref::Named { index, .. }) => Some(index),
            _ => None,
        };
        open.extend(names.into_iter().filter_map(|name| index(self.definition(name))));
        while let Some(next) = open.pop() {
            if !self.0.name(next).is_some_and(|name| found.insert(name)) {
                continue;
            }
            let definition = Ref::Named { table: self.0, index: next };
            open.extend(definition.references().into_iter().filter_map(|name| index(self.definition(name))));
        }
        found
    }

    /// Every kind with its definition.
    pub fn kinds(self) -> impl Iterator<Item = (GroupVersionKind, Ref)> {
        self.0.kinds()
    }

    /// Every definition.
    pub fn definitions(self) -> impl Iterator<Item = Ref> {
        self.0.definitions()
    }
}

/// Puts in what is said of a definition and of its fields.
fn describe(document: &mut Value, said: &Description<'_>, dialect: OpenApi) {
    let Some(document) = document.as_object_mut() else { return };
    if !said.itself.is_empty() {
        document.insert("description".to_owned(), said.itself.as_ref().into());
    }
    let properties = document.get_mut("properties").and_then(Value::as_object_mut);
    for (name, property) in properties.into_iter().flatten() {
        let (Some(said), Some(property)) = (said.fields.get(name.as_str()), property.as_object_mut()) else {
            continue;
        };
        // In v3 nothing counts beside a reference, so that is put one level down.
        if let Some(reference) = property.remove("$ref") {
            match dialect {
                OpenApi::V2 => property.insert("$ref".to_owned(), reference),
                OpenApi::V3 => property.insert("allOf".to_owned(), json!([{"$ref": reference}])),
            };
        }
        property.insert("description".to_owned(), said.as_ref().into());
    }
}

#[cfg(test)]
mod tests {
    use apimachinery::schema::Type;

    use super::*;

    #[test]
    fn every_definition_is_read_and_known_by_name() {
        let table: &'static Table = Box::leak(Box::new(Table::new(TEXT).unwrap()));
        let mut count = 0;
        for definition in table.definitions() {
            let schema = definition.get();
            assert_eq!(definition.name(), Some(schema.name.as_ref()));
            assert!(table.definition(&schema.name).is_some(), "{}", schema.name);
            for property in &schema.properties {
                let node = property.schema.get();
                let known = node.kind != Type::Any || node.preserve_unknown || node.format == "quantity";
                assert!(known, "{}.{}", schema.name, property.name);
            }
            count += 1;
        }
        assert!(count > 500, "{count}");
    }

    #[test]
    fn documents_refer_to_what_they_hold() {
        let name = builtin().definition_name(&GroupVersionKind::of("apps", "v1", "Deployment")).unwrap();
        let said = Descriptions::unpack();
        let document = builtin().openapi(name, OpenApi::V2, &said).unwrap();
        assert_eq!(
            document["x-kubernetes-group-version-kind"],
            json!([{"group": "apps", "kind": "Deployment", "version": "v1"}])
        );
        let all = builtin().closure([name]);
        assert!(all.contains("io.k8s.api.core.v1.Probe"));
        for name in &all {
            let text = builtin().openapi(name, OpenApi::V2, &said).unwrap().to_string();
            for reference in text.split("#/definitions/").skip(1) {
                assert!(all.contains(reference.split('"').next().unwrap()), "{name} refers to {reference}");
            }
        }
        assert_eq!(builtin().openapi("io.k8s.Nothing", OpenApi::V2, &said), None);
    }

    #[test]
    fn pods_are_as_upstream_says() {
        let pod = builtin().kind(&GroupVersionKind::of("", "v1", "Pod")).unwrap();
        assert_eq!(pod.name, "io.k8s.api.core.v1.Pod");
        let containers = pod.at(["spec"]).unwrap().property("containers").unwrap();
        assert!(containers.patch.merge);
        assert_eq!(containers.patch.merge_key.as_deref(), Some("name"));
        let ports = pod.at(["spec", "containers", "ports"]).unwrap();
        assert_eq!(ports.list_map_keys, ["containerPort", "protocol"]);
        assert_eq!(pod.at(["spec", "containers", "resources", "limits", "cpu"]).unwrap().format, "quantity");
        let lease = builtin().kind(&GroupVersionKind::of("coordination.k8s.io", "v1", "Lease")).unwrap();
        assert_eq!(lease.at(["spec", "renewTime"]).unwrap().format, "micro-time");
        assert!(builtin().kind(&GroupVersionKind::of("", "v1", "Nothing")).is_none());
    }
}
