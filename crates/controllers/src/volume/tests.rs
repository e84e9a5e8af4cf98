use super::*;
use crate::plan::Action;
use serde_json::{Value, from_value, json};

fn claim(more: Value) -> Arc<PersistentVolumeClaim> {
    let mut claim = json!({
        "metadata": { "name": "c", "namespace": "x", "uid": "claim", "resourceVersion": "1" },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "slow", "resources": { "requests": { "storage": "2Gi" } },
        },
        "status": { "phase": "Pending" },
    });
    testkit::merge(&mut claim, &more);
    Arc::new(from_value(claim).unwrap())
}

fn volume(name: &str, size: &str, more: Value) -> Arc<PersistentVolume> {
    let mut volume = json!({
        "metadata": { "name": name, "uid": name, "resourceVersion": "1" },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "slow", "capacity": { "storage": size },
            "persistentVolumeReclaimPolicy": "Retain",
        },
        "status": { "phase": "Available" },
    });
    testkit::merge(&mut volume, &more);
    Arc::new(from_value(volume).unwrap())
}

fn class(name: &str, mode: &str, more: Value) -> Arc<StorageClass> {
    let mut class =
        json!({ "metadata": { "name": name }, "provisioner": "example.com/p", "volumeBindingMode": mode });
    testkit::merge(&mut class, &more);
    Arc::new(from_value(class).unwrap())
}

fn of_claim(view: View) -> Vec<String> {
    done(&Binder::plan(&Key::Claim(ObjectKey::default()), &view, &None, Timestamp::UNIX_EPOCH))
}

fn of_volume(volume: Arc<PersistentVolume>, claim: Option<Arc<PersistentVolumeClaim>>) -> Vec<String> {
    let view = View { volume: Some(volume), claim, ..View::default() };
    done(&Binder::plan(&Key::Volume(String::new()), &view, &None, Timestamp::UNIX_EPOCH))
}

/// What a plan does, in short.
fn done(plan: &Plan<Memory>) -> Vec<String> {
    let short = |action: &Action| match action {
        Action::Patch(patch) if patch.subresource.is_some() => {
            format!("{} is {}", patch.key.name, patch.body["status"]["phase"].as_str().unwrap_or("-"))
        }
        Action::Patch(patch) if patch.resource.plural == "persistentvolumes" => {
            format!(
                "{} of {}",
                patch.key.name,
                patch.body["spec"]["claimRef"]["uid"].as_str().unwrap_or("nobody")
            )
        }
        Action::Patch(patch) => match patch.body["spec"]["volumeName"].as_str() {
            Some(name) => format!("{} has {name}", patch.key.name),
            None => format!("{} changes", patch.key.name),
        },
        Action::Tell { reason, .. } => (*reason).to_owned(),
        other => panic!("{other:?}"),
    };
    plan.actions.iter().map(short).collect()
}

fn bound(volume: &str) -> Value {
    json!({
        "metadata": { "annotations": { BIND_COMPLETED: "yes" } }, "spec": { "volumeName": volume },
        "status": { "phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "2Gi" } },
    })
}

fn theirs(uid: &str) -> Value {
    json!({ "spec": { "claimRef": { "namespace": "x", "name": "c", "uid": uid } }, "status": { "phase": "Bound" } })
}

#[test]
fn the_smallest_that_suits_is_taken_on_both_sides() {
    let no = |more: Value| volume("no", "2Gi", more);
    let candidates = vec![
        volume("big", "9Gi", json!({})),
        volume("fits", "3Gi", json!({})),
        volume("small", "1Gi", json!({})),
        volume("many", "2Gi", json!({ "spec": { "accessModes": ["ReadWriteOnce", "ReadWriteMany"] } })),
        no(json!({ "spec": { "accessModes": ["ReadOnlyMany"] } })),
        no(json!({ "spec": { "volumeMode": "Block" } })),
        no(json!({ "spec": { "storageClassName": "fast" } })),
        no(json!({ "status": { "phase": "Released" } })),
        no(json!({ "metadata": { "deletionTimestamp": "2026-01-02T03:04:05Z" } })),
        no(json!({ "spec": { "claimRef": { "namespace": "x", "name": "other" } } })),
        no(
            json!({ "spec": { "claimRef": { "namespace": "x", "name": "c", "uid": "one of its name before" } } }),
        ),
    ];
    let view = |claim, candidates| View { claim: Some(claim), candidates, ..View::default() };
    assert_eq!(of_claim(view(claim(json!({})), candidates.clone())), ["fits of claim", "c has fits"]);
    let mut labelled = candidates.clone();
    labelled.push(volume("labelled", "20Gi", json!({ "metadata": { "labels": { "a": "b" } } })));
    let picky = claim(json!({ "spec": { "selector": { "matchLabels": { "a": "b" } } } }));
    assert_eq!(of_claim(view(picky, labelled)), ["labelled of claim", "c has labelled"]);
    let mut reserved = candidates;
    reserved.push(volume(
        "mine",
        "50Gi",
        json!({ "spec": { "claimRef": { "namespace": "x", "name": "c" } } }),
    ));
    assert_eq!(of_claim(view(claim(json!({})), reserved)), ["mine of claim", "c has mine"]);
}

#[test]
fn a_binding_that_was_begun_is_finished() {
    let begun = || volume("v", "2Gi", theirs("claim"));
    let view = View { claim: Some(claim(json!({}))), candidates: vec![begun()], ..View::default() };
    assert_eq!(of_claim(view), ["c has v"]);
    let view = View { claim: Some(claim(bound("v"))), volume: Some(begun()), ..View::default() };
    assert_eq!(of_claim(view), [""; 0], "all is said");
    let pending = claim(json!({ "metadata": bound("v")["metadata"], "spec": { "volumeName": "v" } }));
    let quiet = volume("v", "2Gi", json!({ "spec": theirs("claim")["spec"] }));
    let view = View { claim: Some(pending), volume: Some(quiet), ..View::default() };
    assert_eq!(of_claim(view), ["v is Bound", "c is Bound"]);
    // The claim was faster than what is heard of the volume.
    let view = View {
        claim: Some(claim(bound("v"))),
        volume: Some(volume("v", "2Gi", json!({}))),
        ..View::default()
    };
    assert_eq!(of_claim(view), ["v of claim"]);
}

#[test]
fn what_was_asked_for_by_name_is_had_or_waited_for() {
    let asks = || claim(json!({ "spec": { "volumeName": "v" } }));
    let view = |volume| View { claim: Some(asks()), volume, ..View::default() };
    assert_eq!(of_claim(view(Some(volume("v", "2Gi", json!({}))))), ["v of claim", "c changes"]);
    assert_eq!(of_claim(view(Some(volume("v", "1Gi", json!({}))))), ["VolumeMismatch"]);
    assert_eq!(of_claim(view(Some(volume("v", "2Gi", theirs("other"))))), ["FailedBinding"]);
    assert_eq!(of_claim(view(None)), [""; 0]);
}

#[test]
fn a_claim_that_lost_its_volume_says_so() {
    let view = |volume| View { claim: Some(claim(bound("v"))), volume, ..View::default() };
    assert_eq!(of_claim(view(None)), ["c is Lost", "ClaimLost"]);
    assert_eq!(of_claim(view(Some(volume("v", "2Gi", theirs("other"))))), ["c is Lost", "ClaimMisbound"]);
}

#[test]
fn a_claim_waits_for_its_pod_and_then_for_its_provisioner() {
    let waits = || Some(class("slow", "WaitForFirstConsumer", json!({})));
    let view = |claim, class| View {
        claim: Some(claim),
        class,
        candidates: vec![volume("v", "2Gi", json!({}))],
        ..View::default()
    };
    assert_eq!(of_claim(view(claim(json!({})), waits())), ["WaitForFirstConsumer"], "the scheduler chooses");
    let placed = || claim(json!({ "metadata": { "annotations": { SELECTED_NODE: "n" } } }));
    assert_eq!(of_claim(view(placed(), waits())), ["c changes", "ExternalProvisioning"]);
    let at_once =
        View { candidates: vec![], ..view(claim(json!({})), Some(class("slow", "Immediate", json!({})))) };
    assert_eq!(of_claim(at_once), ["c changes", "ExternalProvisioning"]);
    assert_eq!(of_claim(View { candidates: vec![], ..view(claim(json!({})), None) }), ["ProvisioningFailed"]);
}

#[test]
fn a_claim_without_a_class_gets_the_default_one_later() {
    let classless = || claim(json!({ "spec": { "storageClassName": null } }));
    let default =
        class("std", "Immediate", json!({ "metadata": { "annotations": { IS_DEFAULT[0]: "true" } } }));
    let view = |claim, classes| View { claim: Some(claim), classes, ..View::default() };
    assert_eq!(of_claim(view(classless(), vec![])), ["FailedBinding"]);
    assert_eq!(of_claim(view(classless(), vec![default.clone()])), ["c changes"]);
    let none = claim(json!({ "spec": { "storageClassName": "" } }));
    assert_eq!(of_claim(view(none, vec![default])), ["FailedBinding"], "it wants none");
}

#[test]
fn a_volume_follows_its_claim() {
    let named = |more: Value| {
        let mut all = theirs("claim");
        testkit::merge(&mut all, &more);
        volume("v", "2Gi", all)
    };
    assert_eq!(
        of_volume(volume("v", "2Gi", json!({ "status": { "phase": "Pending" } })), None),
        ["v is Available"]
    );
    assert_eq!(
        of_volume(named(json!({ "status": { "phase": "Available" } })), Some(claim(bound("v")))),
        ["v is Bound"]
    );
    assert_eq!(of_volume(named(json!({})), Some(claim(json!({})))), [""; 0], "the claim finishes it");
    assert_eq!(of_volume(named(json!({})), None), ["v is Released"]);
    let released = |policy: &str, annotations: Value| {
        named(json!({
            "metadata": { "annotations": annotations }, "spec": { "persistentVolumeReclaimPolicy": policy },
            "status": { "phase": "Released" },
        }))
    };
    assert_eq!(of_volume(released("Retain", json!({})), None), [""; 0]);
    assert_eq!(
        of_volume(released("Delete", json!({ PROVISIONED_BY: "example.com/p" })), None),
        [""; 0],
        "who made it"
    );
    assert_eq!(of_volume(released("Delete", json!({})), None), ["v is Failed", "VolumeFailedDelete"]);
    assert_eq!(of_volume(released("Recycle", json!({})), None), ["v is Failed", "VolumeFailedRecycle"]);
    let other = || Some(claim(json!({ "spec": { "volumeName": "w" } })));
    assert_eq!(of_volume(named(json!({})), other()), ["v of nobody"], "the claim has another");
    let made = json!({ "metadata": { "annotations": { PROVISIONED_BY: "p" } }, "spec": { "persistentVolumeReclaimPolicy": "Delete" } });
    assert_eq!(of_volume(named(made), other()), ["v is Released"]);
}
