//! `pods/binding`: how a scheduler says where a pod runs.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::gvk::{GroupResource, GroupVersionKind};
use apimachinery::meta::names::dns1123_subdomain;
use apimachinery::status::Status;
use serde_json::{Value, json};

use crate::admit::{Attributes, Operation};
use crate::modify::Target;
use crate::tree::{at, object, text};
use crate::{Kind, Part, Registry, RequestContext, decode};

const BINDING: GroupVersionKind = GroupVersionKind::of("", "v1", "Binding");
const PODS_BINDING: GroupResource = GroupResource::of("", "pods/binding");

impl Registry {
    pub(crate) async fn bind_pod(
        &self,
        cx: &RequestContext,
        namespace: &str,
        name: &str,
        binding: Value,
    ) -> Result<(), Status> {
        let kinds = self.kinds();
        let Some(kind) = kinds.lookup("", "v1", "pods") else { return Err(Status::no_such_path()) };
        let mut binding = binding;
        decode::decode_sent(cx, &BINDING, &mut binding)?;
        check(&binding, name)?;
        let attributes = Attributes {
            operation: Operation::Create,
            kind,
            subresource: "binding",
            namespace,
            name,
            old: None,
            dry_run: cx.dry_run,
            warnings: &cx.warnings,
        };
        cx.admission.mutate(attributes, &mut binding).await?;
        cx.admission.validate(attributes, Some(&binding)).await?;
        self.assign(cx, kind, namespace, name, &binding).await
    }

    async fn assign(
        &self,
        cx: &RequestContext,
        kind: &Arc<Kind>,
        namespace: &str,
        name: &str,
        binding: &Value,
    ) -> Result<(), Status> {
        let version = text(binding, &["metadata", "resourceVersion"]);
        let conditional = !version.is_empty();
        let target = Target { kind, namespace, name, part: Part::Binding, conditional, applied: false };
        let mut quiet = cx.clone();
        // Admission has had its say about the binding; what follows from it for the pod is the registry's own.
        quiet.admission = Arc::new(crate::AdmitAll);
        self.modify(&quiet, target, |pod| {
            let uid = text(binding, &["metadata", "uid"]);
            let mut pod = bound(pod, name, uid, binding, cx.now)?;
            if !version.is_empty() {
                object(&mut pod, "metadata").insert("resourceVersion".into(), version.into());
            }
            Ok(pod)
        })
        .await?;
        Ok(())
    }
}

fn check(binding: &Value, name: &str) -> Result<(), Status> {
    let given = text(binding, &["metadata", "name"]);
    if !given.is_empty() && given != name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let path = Path::new("target");
    let mut errors = Vec::new();
    let kind = text(binding, &["target", "kind"]);
    if !kind.is_empty() && kind != "Node" {
        errors.push(FieldError::not_supported(&path.child("kind"), kind, &["Node", "<empty>"]));
    }
    match text(binding, &["target", "name"]) {
        "" => errors.push(FieldError::required(&path.child("name"), "")),
        node => errors.extend(
            dns1123_subdomain(node)
                .into_iter()
                .map(|why| FieldError::invalid(&path.child("name"), node, why)),
        ),
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(&BINDING.group_kind(), name, errors)) }
}

/// The pod, assigned to the binding's target.
fn bound(pod: &Value, name: &str, uid: &str, binding: &Value, now: jiff::Timestamp) -> Result<Value, Status> {
    let conflict = |why: String| Err(Status::conflict(&PODS_BINDING, name, why));
    let own = text(pod, &["metadata", "uid"]);
    if !uid.is_empty() && uid != own {
        return conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {own}"
        ));
    }
    if at(pod, &["metadata", "deletionTimestamp"]).is_some() {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let node = text(pod, &["spec", "nodeName"]);
    if !node.is_empty() {
        return conflict(format!("pod {name} is already assigned to node {node:?}"));
    }
    if !crate::tree::items(pod, &["spec", "schedulingGates"]).is_empty() {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut pod = pod.clone();
    object(&mut pod, "spec").insert("nodeName".into(), text(binding, &["target", "name"]).into());
    for (key, value) in crate::tree::entries(binding, &["metadata", "annotations"]) {
        apimachinery::meta::annotations_mut(&mut pod).insert(key.clone(), value.clone());
    }
    let scheduled = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": apimachinery::time::format(now),
    });
    set_condition(&mut pod, scheduled);
    Ok(pod)
}

/// Sets the condition of that type; one of the same status keeps its time.
pub(crate) fn set_condition(tree: &mut Value, mut condition: Value) {
    let status = object(tree, "status");
    let conditions = status.entry("conditions").or_insert_with(|| Value::Array(Vec::new()));
    let Some(conditions) = conditions.as_array_mut() else { return };
    match conditions.iter_mut().find(|each| each["type"] == condition["type"]) {
        Some(known) => {
            if known["status"] == condition["status"] && known.get("lastTransitionTime").is_some() {
                condition["lastTransitionTime"] = known["lastTransitionTime"].clone();
            }
            *known = condition;
        }
        None => conditions.push(condition),
    }
}
