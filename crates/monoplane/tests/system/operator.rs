//! An operator as others write them: a controller on kube's runtime for a kind of its own, in two versions that its webhook
//! converts, with objects that another of its webhooks completes and judges.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use harness::{Plane, Webhook, eventually};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{self, finalizer};
use kube::runtime::{Controller, watcher};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::start;

const SETTINGS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: tables.furniture.example.com}
spec:
  group: furniture.example.com
  scope: Namespaced
  names: {plural: tables, singular: table, kind: Table}
  versions:
  - name: v1alpha1
    served: true
    storage: false
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {look: {type: string}}}}}}
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, properties: {
      spec: {type: object, properties: {legs: {type: integer}, colour: {type: string}}},
      status: {type: object, properties: {legs: {type: integer}}}}}}
  conversion:
    strategy: Webhook
    webhook:
      conversionReviewVersions: [v1]
      clientConfig: {url: 'URL/convert', caBundle: BUNDLE}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: tables}
webhooks:
- name: complete.furniture.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  clientConfig: {url: 'URL/complete', caBundle: BUNDLE}
  rules: [{apiGroups: [furniture.example.com], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [tables]}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: tables}
webhooks:
- name: judge.furniture.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  clientConfig: {url: 'URL/judge', caBundle: BUNDLE}
  rules: [{apiGroups: [furniture.example.com], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [tables]}]
";

/// `4 red` in the old version is four legs and red in the new one.
fn convert(review: &Value) -> Value {
    let request = &review["request"];
    let mut objects = request["objects"].clone();
    for object in objects.as_array_mut().into_iter().flatten() {
        let spec = &object["spec"];
        object["spec"] = if request["desiredAPIVersion"] == "furniture.example.com/v1" {
            let look = spec["look"].as_str().unwrap_or_default().to_owned();
            let (legs, colour) = look.split_once(' ').unwrap_or((&look, ""));
            json!({"legs": legs.parse::<i64>().unwrap_or_default(), "colour": colour})
        } else {
            json!({"look": format!("{} {}", spec["legs"], spec["colour"].as_str().unwrap_or_default())})
        };
        object["apiVersion"] = request["desiredAPIVersion"].clone();
    }
    json!({"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": {
        "uid": request["uid"], "convertedObjects": objects, "result": {"status": "Success"}}})
}

fn admitted(review: &Value, response: Value) -> Value {
    let mut answer =
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    answer["response"]["uid"] = review["request"]["uid"].clone();
    answer
}

fn complete(review: &Value) -> Value {
    let spec = &review["request"]["object"]["spec"];
    if spec["colour"].as_str().is_some_and(|colour| !colour.is_empty()) {
        return admitted(review, json!({"allowed": true}));
    }
    let patch = json!([{"op": "add", "path": "/spec/colour", "value": "plain"}]).to_string();
    admitted(review, json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch)}))
}

fn judge(review: &Value) -> Value {
    let legs = review["request"]["object"]["spec"]["legs"].as_i64().unwrap_or_default();
    match legs {
        3.. => admitted(review, json!({"allowed": true})),
        _ => admitted(review, json!({"allowed": false, "status": {"message": "a table needs three legs"}})),
    }
}

fn hooks() -> Webhook {
    Webhook::start(&[], |path, review| match path.split('?').next()? {
        "/convert" => Some(convert(review)),
        "/complete" => Some(complete(review)),
        "/judge" => Some(judge(review)),
        _ => None,
    })
}

struct Operator {
    client: kube::Client,
    tables: ApiResource,
}

type Failure = finalizer::Error<kube::Error>;

impl Operator {
    /// A table has a bill of its parts, which goes with it, and says in its status how many legs were ordered.
    async fn reconcile(table: Arc<DynamicObject>, this: Arc<Self>) -> Result<Action, Failure> {
        let namespace = table.namespace().unwrap_or_default();
        let tables: Api<DynamicObject> = Api::namespaced_with(this.client.clone(), &namespace, &this.tables);
        finalizer(&tables, "furniture.example.com/bill", table, |event| async {
            match event {
                finalizer::Event::Apply(table) => this.apply(&tables, &namespace, &table).await,
                finalizer::Event::Cleanup(_) => Ok(Action::await_change()),
            }
        })
        .await
    }

    async fn apply(
        &self,
        tables: &Api<DynamicObject>,
        namespace: &str,
        table: &DynamicObject,
    ) -> Result<Action, kube::Error> {
        let spec = &table.data["spec"];
        let name = format!("{}-bill", table.name_any());
        let bill = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "ownerReferences": [table.controller_owner_ref(&self.tables)]},
            "data": {"parts": format!("{} legs, {}", spec["legs"], spec["colour"].as_str().unwrap_or_default())}});
        let bills: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        bills.patch(&name, &PatchParams::apply("furniture"), &Patch::Apply(bill)).await?;
        let status = json!({"status": {"legs": spec["legs"]}});
        tables.patch_status(&table.name_any(), &PatchParams::default(), &Patch::Merge(status)).await?;
        Ok(Action::await_change())
    }
}

/// Runs the operator until what comes back is dropped.
fn operate(plane: &Plane) -> tokio::runtime::Runtime {
    let kubeconfig = Kubeconfig::read_from(plane.data().join("admin.kubeconfig")).expect("a kubeconfig");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.spawn(async move {
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let client = kube::Client::try_from(config.expect("a configuration")).expect("a client");
        let tables = ApiResource::from_gvk(&GroupVersionKind::gvk("furniture.example.com", "v1", "Table"));
        let all: Api<DynamicObject> = Api::all_with(client.clone(), &tables);
        let bills: Api<ConfigMap> = Api::all(client.clone());
        let operator = Arc::new(Operator { client, tables: tables.clone() });
        Controller::new_with(all, watcher::Config::default(), tables.clone())
            .owns_with(bills, (), watcher::Config::default())
            .run(Operator::reconcile, |_, _, _| Action::requeue(Duration::from_millis(500)), operator)
            .for_each(|_| std::future::ready(()))
            .await;
    });
    runtime
}

#[test]
fn an_operator_of_others_manages_a_kind_in_two_versions_with_its_webhooks() {
    let hooks = hooks();
    let plane = start(&["--disable", "node,edge", "--webhook-allow", "127.0.0.1"]);
    plane.apply(&SETTINGS.replace("URL", &hooks.url("")).replace("BUNDLE", &hooks.ca_bundle));
    let established =
        ["wait", "--for=condition=Established", "crd/tables.furniture.example.com", "--timeout=20s"];
    plane.kubectl_ok(&established);
    let operator = operate(&plane);
    let field = |resource: &str, path: &str| {
        plane.kubectl(&["get", resource, "-o", &format!("jsonpath={{{path}}}")]).out
    };
    let becomes = |resource: &str, path: &str, wanted: &str| {
        eventually(&format!("{path} of {resource} is {wanted}"), || {
            (field(resource, path) == wanted).then_some(())
        });
    };

    let old = "apiVersion: furniture.example.com/v1alpha1\nkind: Table\nmetadata: {name: old}\nspec: {look: 4 red}\n";
    plane.apply(old);
    becomes("configmap/old-bill", ".data.parts", "4 legs, red");
    becomes("tables.v1.furniture.example.com/old", ".status.legs", "4");
    let new = |name: &str, legs: u8| {
        format!(
            "apiVersion: furniture.example.com/v1\nkind: Table\nmetadata: {{name: {name}}}\nspec: {{legs: {legs}}}\n"
        )
    };
    plane.apply(&new("new", 3));
    becomes("configmap/new-bill", ".data.parts", "3 legs, plain");
    assert_eq!(field("tables.v1alpha1.furniture.example.com/new", ".spec.look"), "3 plain");
    let said = plane.kubectl_with(&["apply", "-f", "-"], &new("unsafe", 2));
    let denied =
        "admission webhook \"judge.furniture.example.com\" denied the request: a table needs three legs";
    assert!(!said.ok && said.err.contains(denied), "{said:?}");

    // Somebody tampers with what it owns, and the server is killed: it goes on all the same.
    plane.kubectl_ok(&["delete", "configmap", "old-bill"]);
    becomes("configmap/old-bill", ".data.parts", "4 legs, red");
    plane.restart("server", 9);
    eventually("a change through the old version is taken", || {
        let look = r#"{"spec":{"look":"5 blue"}}"#;
        let words = ["patch", "tables.v1alpha1.furniture.example.com", "old", "--type=merge", "-p", look];
        plane.kubectl(&words).ok.then_some(())
    });
    becomes("configmap/old-bill", ".data.parts", "5 legs, blue");

    plane.kubectl_ok(&["delete", "tables.v1.furniture.example.com", "old", "new", "--timeout=60s"]);
    becomes("configmaps", ".items[?(@.data.parts)].metadata.name", "");
    operator.shutdown_background();
}
