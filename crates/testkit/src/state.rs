//! What the fake holds, and how a write changes it.

use crate::route::{Kind, Route};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) type Key = (String, String, String, String);

#[derive(Clone)]
pub(crate) struct Logged {
    pub(crate) revision: u64,
    pub(crate) what: &'static str,
    pub(crate) key: Key,
    pub(crate) object: Value,
}

/// Code, reason, message.
pub(crate) type Refusal = (u16, &'static str, String);

/// How the refusal to create something in a namespace that goes away ends.
pub(crate) const TERMINATING: &str = "is being terminated";

#[derive(Default)]
pub(crate) struct State {
    pub(crate) revision: u64,
    pub(crate) compacted: u64,
    pub(crate) objects: BTreeMap<Key, Value>,
    pub(crate) log: Vec<Logged>,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) refusals: Vec<(String, String, Refusal)>,
    pub(crate) requests: BTreeMap<String, usize>,
}

pub(crate) fn key(kind: &Kind, namespace: &str, name: &str) -> Key {
    (kind.group.clone(), kind.plural.clone(), namespace.to_owned(), name.to_owned())
}

/// Applies a JSON merge patch.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            target.as_object_mut().map(|map| map.remove(name));
        } else {
            merge(&mut target[name], value);
        }
    }
}

impl State {
    fn commit(&mut self, what: &'static str, key: Key, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        if what == "DELETED" {
            self.objects.remove(&key);
        } else {
            self.objects.insert(key.clone(), object.clone());
        }
        self.log.push(Logged { revision: self.revision, what, key, object: object.clone() });
        object
    }

    pub(crate) fn get(&self, route: &Route) -> Result<Value, Refusal> {
        let name = route.name.as_deref().unwrap_or_default();
        self.objects
            .get(&key(&route.kind, &route.namespace, name))
            .cloned()
            .ok_or_else(|| (404, "NotFound", format!("{} \"{name}\" not found", route.kind.plural)))
    }

    pub(crate) fn create(
        &mut self,
        route: &Route,
        mut object: Value,
        uid: String,
        suffix: &str,
        now: &str,
    ) -> Result<Value, Refusal> {
        let meta = &object["metadata"];
        let name = match (meta["name"].as_str(), meta["generateName"].as_str()) {
            (Some(name), _) if !name.is_empty() => name.to_owned(),
            (_, Some(prefix)) => format!("{prefix}{suffix}"),
            _ => return Err((422, "Invalid", "name or generateName is required".to_owned())),
        };
        let namespace = Kind::new("v1", "Namespace", "namespaces", false);
        let namespace = self.objects.get(&key(&namespace, "", &route.namespace));
        if namespace.is_some_and(|namespace| !namespace["metadata"]["deletionTimestamp"].is_null()) {
            return Err((403, "Forbidden", format!("namespace {} {TERMINATING}", route.namespace)));
        }
        let key = key(&route.kind, &route.namespace, &name);
        if self.objects.contains_key(&key) {
            return Err((409, "AlreadyExists", format!("{} \"{name}\" already exists", route.kind.plural)));
        }
        object["apiVersion"] = json!(route.kind.api_version());
        object["kind"] = json!(route.kind.kind);
        let meta = &mut object["metadata"];
        meta["name"] = json!(name);
        if route.kind.namespaced {
            meta["namespace"] = json!(route.namespace);
        }
        meta["uid"] = json!(uid);
        meta["creationTimestamp"] = json!(now);
        meta["generation"] = json!(1);
        if route.kind.kind == "Namespace" {
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            object["status"]["phase"] = json!("Active");
        }
        Ok(self.commit("ADDED", key, object))
    }

    /// Puts a new tree in an object's place: all of it but its status, or its status alone.
    pub(crate) fn replace(&mut self, route: &Route, new: Value) -> Result<Value, Refusal> {
        let old = self.get(route)?;
        for field in ["uid", "resourceVersion"] {
            let given = &new["metadata"][field];
            if given
                .as_str()
                .is_some_and(|given| !given.is_empty() && Some(given) != old["metadata"][field].as_str())
            {
                let message = "the object has been modified; please apply your changes to the latest version"
                    .to_owned();
                return Err((409, "Conflict", message));
            }
        }
        let mut result = new;
        for field in ["uid", "creationTimestamp", "deletionTimestamp", "generation", "name", "namespace"] {
            result["metadata"][field] = old["metadata"][field].clone();
        }
        result["apiVersion"] = old["apiVersion"].clone();
        result["kind"] = old["kind"].clone();
        match route.subresource.as_deref() {
            Some("status") => result["spec"] = old["spec"].clone(),
            Some("finalize") => result["status"] = old["status"].clone(),
            _ => {
                result["status"] = old["status"].clone();
                if result["spec"] != old["spec"] {
                    let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
                    result["metadata"]["generation"] = json!(generation + 1);
                }
            }
        }
        drop_nulls(&mut result);
        result["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        if result == old {
            return Ok(old);
        }
        let name = route.name.clone().unwrap_or_default();
        let key = key(&route.kind, &route.namespace, &name);
        let what = if is_released(&result) { "DELETED" } else { "MODIFIED" };
        Ok(self.commit(what, key, result))
    }

    pub(crate) fn patch(&mut self, route: &Route, patch: &Value) -> Result<Value, Refusal> {
        let mut object = self.get(route)?;
        merge(&mut object, patch);
        self.replace(route, object)
    }

    pub(crate) fn bind(&mut self, route: &Route, binding: &Value) -> Result<Value, Refusal> {
        let mut pod = self.get(route)?;
        if pod["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty()) {
            let name = route.name.as_deref().unwrap_or_default();
            return Err((409, "Conflict", format!("pod {name} is already assigned to a node")));
        }
        pod["spec"]["nodeName"] = binding["target"]["name"].clone();
        let name = route.name.clone().unwrap_or_default();
        self.commit("MODIFIED", key(&route.kind, &route.namespace, &name), pod);
        Ok(json!({ "kind": "Status", "apiVersion": "v1", "status": "Success", "code": 201 }))
    }

    pub(crate) fn delete(&mut self, route: &Route, options: &Value, now: &str) -> Result<Value, Refusal> {
        let mut object = self.get(route)?;
        for field in ["uid", "resourceVersion"] {
            if let Some(wanted) = options["preconditions"][field].as_str()
                && Some(wanted) != object["metadata"][field].as_str()
            {
                return Err((409, "Conflict", format!("the {field} in the precondition does not match")));
            }
        }
        let finalizer = match options["propagationPolicy"].as_str() {
            Some("Foreground") => Some("foregroundDeletion"),
            Some("Orphan") => Some("orphan"),
            _ => None,
        };
        let meta = &mut object["metadata"];
        if let Some(finalizer) = finalizer {
            let mut finalizers = meta["finalizers"].as_array().cloned().unwrap_or_default();
            if !finalizers.contains(&json!(finalizer)) {
                finalizers.push(json!(finalizer));
            }
            meta["finalizers"] = json!(finalizers);
        }
        if meta["deletionTimestamp"].is_null() {
            meta["deletionTimestamp"] = json!(now);
        }
        if let Some(seconds) = options["gracePeriodSeconds"].as_i64() {
            meta["deletionGracePeriodSeconds"] = json!(seconds);
        }
        if route.kind.kind == "Namespace" {
            object["status"]["phase"] = json!("Terminating");
        }
        let key = key(&route.kind, &route.namespace, route.name.as_deref().unwrap_or_default());
        let what = if is_released(&object) { "DELETED" } else { "MODIFIED" };
        Ok(self.commit(what, key, object))
    }
}

fn drop_nulls(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.retain(|_, value| !value.is_null());
    }
}

/// Being deleted, and held by nothing.
fn is_released(object: &Value) -> bool {
    let empty = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
    let held = object["kind"] == "Namespace" && !empty(&object["spec"]["finalizers"]);
    !object["metadata"]["deletionTimestamp"].is_null() && empty(&object["metadata"]["finalizers"]) && !held
}
