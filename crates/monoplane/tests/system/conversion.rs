//! Custom resources in two versions, converted by a webhook, as kubectl sees them.

use harness::{Webhook, eventually};
use serde_json::{Value, json};

use crate::start;

const CRD: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: hosts.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: hosts, singular: host, kind: Host}
  versions:
  - name: v1beta1
    served: true
    storage: STORES_OLD
    schema: {openAPIV3Schema: {type: object, properties: {hostPort: {type: string}}}}
  - name: v1
    served: true
    storage: STORES_NEW
    schema: {openAPIV3Schema: {type: object, properties: {
      host: {type: string}, port: {type: string}, zone: {type: string, description: Where it is.}}}}
  conversion:
    strategy: Webhook
    webhook:
      conversionReviewVersions: [v1]
      clientConfig: {url: 'URL', caBundle: BUNDLE}
";

fn convert(review: &Value) -> Value {
    let request = &review["request"];
    let to = &request["desiredAPIVersion"];
    let mut objects = request["objects"].clone();
    for object in objects.as_array_mut().expect("objects") {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if to == "stable.example.com/v1" {
            let both = text(&object["hostPort"]);
            let (host, port) = both.split_once(':').unwrap_or((&both, ""));
            (object["host"], object["port"]) = (json!(host), json!(port));
        } else {
            object["hostPort"] = json!(format!("{}:{}", text(&object["host"]), text(&object["port"])));
        }
        object["apiVersion"] = to.clone();
    }
    json!({"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": {
        "uid": request["uid"], "convertedObjects": objects, "result": {"status": "Success"},
    }})
}

#[test]
fn versions_are_converted_by_a_webhook_and_migrated() {
    let hook = Webhook::start(&[], |_, review| Some(convert(review)));
    let mut plane = start(&["--disable", "node,edge", "--webhook-allow", "127.0.0.1"]);
    let definition = |old: &str, new: &str| {
        CRD.replace("STORES_OLD", old)
            .replace("STORES_NEW", new)
            .replace("URL", &hook.url("/convert"))
            .replace("BUNDLE", &hook.ca_bundle)
    };
    plane.apply(&definition("true", "false"));
    plane.kubectl_ok(&[
        "wait",
        "--for=condition=Established",
        "crd/hosts.stable.example.com",
        "--timeout=20s",
    ]);
    let old = "apiVersion: stable.example.com/v1beta1\nkind: Host\nmetadata: {name: a}\nhostPort: 'h:1'\n";
    assert_eq!(plane.apply(old), "host.stable.example.com/a created\n");
    assert_eq!(plane.apply(old), "host.stable.example.com/a unchanged\n");
    let new =
        "apiVersion: stable.example.com/v1\nkind: Host\nmetadata: {name: b}\nhost: i\nport: '2'\nzone: z\n";
    assert_eq!(plane.apply(new), "host.stable.example.com/b created\n");
    let get = |resource: &str, name: &str, field: &str| {
        plane.kubectl_ok(&["get", resource, name, "-o", &format!("jsonpath={{{field}}}")])
    };
    assert_eq!(get("hosts.v1.stable.example.com", "a", ".host"), "h");
    assert_eq!(get("hosts.v1beta1.stable.example.com", "b", ".hostPort"), "i:2");
    // The other version is stored from now on; what is there is still read, and stored anew when it is written.
    plane.apply(&definition("false", "true"));
    eventually("the other version is stored", || {
        let stored = plane.get(&["crd", "hosts.stable.example.com"]);
        (stored["status"]["storedVersions"] == json!(["v1beta1", "v1"])).then_some(())
    });
    let get = |resource: &str, name: &str, field: &str| {
        plane.kubectl_ok(&["get", resource, name, "-o", &format!("jsonpath={{{field}}}")])
    };
    assert_eq!(get("hosts.v1.stable.example.com", "a", ".host"), "h");
    plane.kubectl_ok(&["annotate", "hosts.v1.stable.example.com", "a", "b", "touched=yes"]);
    // After a restart each object is still known by the version that it was stored in.
    plane.stop();
    plane.up();
    drop(hook);
    let said = plane.kubectl(&["get", "hosts.v1.stable.example.com", "a", "-o", "jsonpath={.host}"]);
    assert_eq!((said.ok, said.out.as_str()), (true, "h"), "{said:?}");
    let said = plane.kubectl(&["get", "hosts.v1beta1.stable.example.com", "a"]);
    let expected =
        "conversion webhook for stable.example.com/v1, Kind=Host failed: Post \"https://127.0.0.1:";
    assert!(!said.ok && said.err.contains(expected) && said.err.contains("connection refused"), "{said:?}");
}
