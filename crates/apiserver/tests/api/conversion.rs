//! Custom resources whose versions a webhook converts, over HTTPS.

use harness::Webhook;
use serde_json::{Value, json};

use crate::ask::Asker;
use crate::{directory, start};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const NEW: &str = "/apis/stable.example.com/v1/namespaces/default/hosts";
const OLD: &str = "/apis/stable.example.com/v1beta1/namespaces/default/hosts";

/// v1beta1 has `hostPort: "h:1"`, v1 has `host: h` and `port: "1"`.
fn convert(review: &Value) -> Value {
    let request = &review["request"];
    let to = request["desiredAPIVersion"].as_str().unwrap();
    let mut objects = request["objects"].as_array().unwrap().clone();
    for object in &mut objects {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if to.ends_with("/v1") {
            let both = text(&object["hostPort"]);
            let (host, port) = both.split_once(':').unwrap_or((&both, ""));
            (object["host"], object["port"]) = (json!(host), json!(port));
        } else {
            object["hostPort"] = json!(format!("{}:{}", text(&object["host"]), text(&object["port"])));
        }
        object["apiVersion"] = json!(to);
    }
    json!({"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": {
        "uid": request["uid"], "convertedObjects": objects, "result": {"status": "Success"},
    }})
}

fn definition(client_config: &Value) -> Value {
    let text = json!({"type": "string"});
    let version = |name: &str, storage: bool, fields: Value| {
        json!({"name": name, "served": true, "storage": storage,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": fields}}})
    };
    json!({
        "metadata": {"name": "hosts.stable.example.com"},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced", "names": {"plural": "hosts", "kind": "Host"},
            "versions": [
                version("v1beta1", false, json!({"hostPort": text})),
                version("v1", true, json!({"host": text, "port": text})),
            ],
            "conversion": {"strategy": "Webhook", "webhook": {
                "clientConfig": client_config, "conversionReviewVersions": ["v1"],
            }},
        },
    })
}

async fn until_served(admin: &Asker<'_>) {
    for _ in 0..2000 {
        if admin.get(NEW).await.code == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("never served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_webhook_converts_and_its_connection_is_kept() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let hook = Webhook::start(&[], |_, review| Some(convert(review)));
    let config = json!({"url": hook.url("/convert"), "caBundle": hook.ca_bundle});
    admin.post(CRDS, &definition(&config)).await.ok();
    until_served(&admin).await;
    for name in ["a", "b", "c"] {
        let old = json!({"apiVersion": "stable.example.com/v1beta1", "kind": "Host",
            "metadata": {"name": name}, "hostPort": "h:1"});
        assert_eq!(admin.post(OLD, &old).await.ok()["hostPort"], "h:1");
    }
    assert_eq!(admin.get(&format!("{NEW}/a")).await.ok()["host"], "h");
    let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let partial = admin.get_as(OLD, metadata).await.ok();
    assert_eq!(partial["items"].as_array().unwrap().len(), 3);
    let heard = hook.heard();
    assert!(heard.iter().all(|heard| heard.target == "/convert" && heard.connection == 0), "{heard:?}");
    let review = &heard[0].body;
    assert_eq!(
        (&review["kind"], &review["apiVersion"], &review["request"]["desiredAPIVersion"]),
        (&json!("ConversionReview"), &json!("apiextensions.k8s.io/v1"), &json!("stable.example.com/v1"))
    );
    let object = &review["request"]["objects"][0];
    assert_eq!(
        (&object["apiVersion"], &object["kind"]),
        (&json!("stable.example.com/v1beta1"), &json!("Host"))
    );
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_told() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let hook = Webhook::start(&[], |_, review| Some(convert(review)));
    let other = Webhook::start(&[], |_, _| None);
    let config = |url: String, bundle: &str| json!({"url": url, "caBundle": bundle});
    admin.post(CRDS, &definition(&config(hook.url("/"), &hook.ca_bundle))).await.ok();
    until_served(&admin).await;
    let new = json!({"apiVersion": "stable.example.com/v1", "kind": "Host", "metadata": {"name": "a"}, "host": "h"});
    admin.post(NEW, &new).await.ok();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (url, bundle, expected) in [
        (
            hook.url("/"),
            &other.ca_bundle,
            "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned(),
        ),
        (
            format!("https://127.0.0.1:{nobody}/"),
            &hook.ca_bundle,
            format!("dial tcp 127.0.0.1:{nobody}: connect: connection refused"),
        ),
        (
            "https://127.0.0.2:9/".to_owned(),
            &hook.ca_bundle,
            "connecting to 127.0.0.2 is refused: 127.0.0.2 is a loopback address (see the server's --webhook-allow)".to_owned(),
        ),
    ] {
        let change = json!({"spec": {"conversion": {"webhook": {"clientConfig": config(url.clone(), bundle)}}}});
        admin.patch(&format!("{CRDS}/hosts.stable.example.com"), "merge-patch", &change).await.ok();
        let url = if url.matches(':').count() > 1 { url } else { url.replace("/\"", ":443/") };
        let wanted = format!("conversion webhook for stable.example.com/v1, Kind=Host failed: Post {url:?}: {expected}");
        let mut said = String::new();
        for _ in 0..400 {
            let answer = admin.get(&format!("{OLD}/a")).await;
            said = if answer.code == 200 { String::new() } else { answer.failure().2 };
            if said == wanted {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(said, wanted);
        assert_eq!(admin.get(&format!("{NEW}/a")).await.code, 200);
    }
    plane.stop().await;
}
