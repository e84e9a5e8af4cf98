//! `pods/eviction`: a deletion that asks the pod's budget first.
//!
//! A pod that has ended, has not started or goes already takes nothing of a budget. Of the others, one that is not ready
//! may go if its budget says so, or if there are enough without it; a ready one takes one of the disruptions that the
//! budget allows, and is named there until whoever keeps the budget has seen it go.

use std::sync::Arc;

use apimachinery::gvk::{GroupResource, GroupVersionKind};
use apimachinery::meta;
use apimachinery::selector::Selector;
use apimachinery::status::{Cause, Details, Reason, Status};
use serde_json::{Value, json};

use crate::admit::{Attributes, Operation};
use crate::bind::set_condition;
use crate::modify::Target;
use crate::race::ATTEMPTS;
use crate::tree::{at, entries, items, map, number, object, text};
use crate::{AdmitAll, DeleteOptions, Kind, ListOptions, Part, Registry, RequestContext, decode};

const EVICTION: GroupVersionKind = GroupVersionKind::of("policy", "v1", "Eviction");
const BUDGET: GroupResource = GroupResource::of("policy", "poddisruptionbudget");
const POD: GroupResource = GroupResource::of("", "Pod");
/// How many pods of a budget may go before whoever keeps the budget has taken notice.
const UNCONFIRMED_MAX: usize = 2000;
/// When to ask again about a budget that is not up to date, in seconds.
const SOON: u32 = 10;

/// One pod to be evicted.
struct Eviction<'a> {
    registry: &'a Registry,
    /// Admission has had its say about the eviction; what follows from it is the registry's own.
    cx: RequestContext,
    pods: &'a Arc<Kind>,
    namespace: &'a str,
    name: &'a str,
    options: &'a DeleteOptions,
}

/// What the budgets say to a pod's eviction.
enum Verdict {
    /// It may go, whatever happens to it meanwhile.
    Free,
    /// It may go as it is now; the budget is asked again if it has changed.
    AsItIs(String),
}

impl Registry {
    pub(crate) async fn evict_pod(
        &self,
        cx: &RequestContext,
        namespace: &str,
        name: &str,
        eviction: Value,
        options: &DeleteOptions,
    ) -> Result<(), Status> {
        let kinds = self.kinds();
        let Some(pods) = kinds.lookup("", "v1", "pods") else { return Err(Status::no_such_path()) };
        let mut eviction = eviction;
        if text(&eviction, &["apiVersion"]) == "policy/v1beta1" {
            // The same under its earlier name, which upstream still takes here.
            map(&mut eviction).insert("apiVersion".into(), "policy/v1".into());
        }
        decode::decode_sent(cx, &EVICTION, &mut eviction)?;
        if text(&eviction, &["metadata", "name"]) != name {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        let attributes = Attributes {
            operation: Operation::Create,
            kind: pods,
            subresource: "eviction",
            namespace,
            name,
            old: None,
            dry_run: cx.dry_run,
            warnings: &cx.warnings,
        };
        cx.admission.mutate(attributes, &mut eviction).await?;
        cx.admission.validate(attributes, Some(&eviction)).await?;
        let cx = RequestContext { admission: Arc::new(AdmitAll), ..cx.clone() };
        Eviction { registry: self, cx, pods, namespace, name, options }.run().await
    }
}

impl Eviction<'_> {
    async fn run(&self) -> Result<(), Status> {
        self.registry.fresh().await?;
        for _ in 0..ATTEMPTS {
            let pod = self.registry.get(self.pods, self.namespace, self.name, Part::Whole).await?.tree();
            let phase = text(&pod, &["status", "phase"]);
            let goes = meta::is_deleting(&pod) || matches!(phase, "Succeeded" | "Failed");
            if !goes && phase != "Pending" {
                return self.ask(&pod).await;
            }
            // One that may start meanwhile is taken as it is, so that no budget is passed over.
            let guard = (!goes).then(|| meta::resource_version(&pod).to_owned());
            match self.remove(guard).await {
                Err(status) if status.is_conflict() && self.options.resource_version.is_none() => {}
                done => return done,
            }
        }
        Err(Status::modified(&self.pods.resource.name, self.name))
    }

    /// Evicts a running pod, if its budget lets it go.
    async fn ask(&self, pod: &Value) -> Result<(), Status> {
        // Nothing is spent on a pod that is another than was meant.
        check_preconditions(pod, self.name, self.options)?;
        match self.verdict(pod).await? {
            Verdict::Free => self.remove(None).await,
            Verdict::AsItIs(budget) => {
                let done = self.remove(Some(meta::resource_version(pod).to_owned())).await;
                match done {
                    Err(status) if status.is_conflict() && self.options.resource_version.is_none() => {
                        Err(unsettled(&budget))
                    }
                    done => done,
                }
            }
        }
    }

    async fn verdict(&self, pod: &Value) -> Result<Verdict, Status> {
        let kinds = self.registry.kinds();
        let Some(budgets) = kinds.lookup("policy", "v1", "poddisruptionbudgets") else {
            return Ok(Verdict::Free);
        };
        let all = self.registry.list(budgets, self.namespace, &ListOptions::default()).await?;
        let mut of_pod = all.objects().map(|budget| budget.tree()).filter(|budget| covers(budget, pod));
        let Some(budget) = of_pod.next() else { return Ok(Verdict::Free) };
        if of_pod.next().is_some() {
            return Err(Status {
                code: 500,
                message:
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not \
                          support."
                        .to_owned(),
                ..Status::default()
            });
        }
        let name = meta::name(&budget);
        if !is_ready(pod) {
            let status = |field: &str| number(&budget, &["status", field]).unwrap_or_default();
            let always = text(&budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
            let desired = status("desiredHealthy");
            if always || (status("currentHealthy") >= desired && desired > 0) {
                return Ok(Verdict::AsItIs(name.to_owned()));
            }
        }
        self.spend(budgets, name).await?;
        Ok(Verdict::Free)
    }

    /// Takes one of the disruptions that the budget allows.
    async fn spend(&self, budgets: &Arc<Kind>, name: &str) -> Result<(), Status> {
        let part = Part::Status;
        let target = Target {
            kind: budgets,
            namespace: self.namespace,
            name,
            part,
            conditional: false,
            applied: false,
        };
        let time = apimachinery::time::format(self.cx.now);
        let spent = self.registry.modify(&self.cx, target, |budget| spent(budget, self.name, &time));
        spent.await.map(drop)
    }

    /// Says on the pod why it goes, and deletes it. `guard` is the version that it must still have.
    async fn remove(&self, guard: Option<String>) -> Result<(), Status> {
        let mut options = self.options.clone();
        options.resource_version = options.resource_version.or(guard);
        if !self.cx.dry_run {
            let version = self.mark(&options).await?;
            options.resource_version = options.resource_version.map(|_| version);
        }
        self.registry.delete(&self.cx, self.pods, self.namespace, self.name, &options).await.map(drop)
    }

    /// Gives the version that the pod has then.
    async fn mark(&self, options: &DeleteOptions) -> Result<String, Status> {
        let target = Target {
            kind: self.pods,
            namespace: self.namespace,
            name: self.name,
            part: Part::Status,
            conditional: options.resource_version.is_some(),
            applied: false,
        };
        let time = apimachinery::time::format(self.cx.now);
        let marked = self.registry.modify(&self.cx, target, |pod| {
            check_preconditions(pod, self.name, options)?;
            let mut pod = pod.clone();
            let generation = meta::generation(&pod);
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting", "observedGeneration": generation,
                "lastProbeTime": null, "lastTransitionTime": time,
            });
            set_condition(&mut pod, condition);
            Ok(pod)
        });
        let marked = marked.await?.object.tree();
        Ok(meta::resource_version(&marked).to_owned())
    }
}

fn check_preconditions(pod: &Value, name: &str, options: &DeleteOptions) -> Result<(), Status> {
    let conflict = |why: String| Err(Status::conflict(&POD, name, why));
    let (uid, version) = (meta::uid(pod), meta::resource_version(pod));
    if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != uid) {
        return conflict(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have \
             been deleted and then recreated"
        ));
    }
    if let Some(wanted) = options.resource_version.as_deref().filter(|wanted| *wanted != version) {
        return conflict(format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record \
             ({version}). The object might have been modified"
        ));
    }
    Ok(())
}

/// Whether the budget is for that pod. One without a selector is for none.
fn covers(budget: &Value, pod: &Value) -> bool {
    let selector = at(budget, &["spec", "selector"]).unwrap_or(&Value::Null);
    let selector = Selector::from_object(selector, &apimachinery::field::Path::new("spec"));
    selector.is_ok_and(|selector| selector.matches(meta::labels(pod)))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = items(pod, &["status", "conditions"]).iter();
    let mut ready = conditions.filter(|condition| text(condition, &["type"]) == "Ready");
    ready.any(|condition| text(condition, &["status"]) == "True")
}

/// The budget with one disruption less.
fn spent(budget: &Value, pod: &str, time: &str) -> Result<Value, Status> {
    let name = meta::name(budget);
    let count = |field: &str| number(budget, &["status", field]).unwrap_or_default();
    if count("observedGeneration") < meta::generation(budget) {
        return Err(unsettled(name));
    }
    let allowed = count("disruptionsAllowed");
    if allowed < 0 {
        return Err(Status::forbidden(&BUDGET, name, "pdb disruptions allowed is negative"));
    }
    if entries(budget, &["status", "disruptedPods"]).count() > UNCONFIRMED_MAX {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(&BUDGET, name, why));
    }
    if allowed == 0 {
        return Err(exhausted(
            0,
            format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                count("desiredHealthy"),
                count("currentHealthy")
            ),
        ));
    }
    let mut budget = budget.clone();
    if allowed == 1 {
        let condition = json!({
            "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
            "observedGeneration": count("observedGeneration"), "lastTransitionTime": time,
        });
        set_condition(&mut budget, condition);
    }
    let status = object(&mut budget, "status");
    status.insert("disruptionsAllowed".into(), (allowed - 1).into());
    let disrupted = map(status.entry("disruptedPods").or_insert_with(|| json!({})));
    disrupted.insert(pod.to_owned(), time.into());
    Ok(budget)
}

fn unsettled(budget: &str) -> Status {
    exhausted(SOON, format!("The disruption budget {budget} is still being processed by the server."))
}

fn exhausted(retry_after_seconds: u32, why: String) -> Status {
    let cause = Cause { reason: "DisruptionBudget".to_owned(), message: why, field: String::new() };
    Status {
        code: 429,
        reason: Reason::TooManyRequests,
        message: "Cannot evict pod as it would violate the pod's disruption budget.".to_owned(),
        details: Some(Box::new(Details { causes: vec![cause], retry_after_seconds, ..Details::default() })),
        continue_token: None,
    }
}
