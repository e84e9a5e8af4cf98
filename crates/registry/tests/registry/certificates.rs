//! CertificateSigningRequests: what is asked for stays, approval and signing are separate.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use registry::{ListOptions, Part};
use serde_json::{Value, json};

use crate::refusals::check;
use crate::world::{World, now};

const RESOURCE: &str = "certificatesigningrequests.certificates.k8s.io";

fn request() -> Value {
    let pem = STANDARD.encode(include_str!("../fixtures/request.pem"));
    json!({"metadata": {"name": "jane"}, "spec": {"request": pem, "signerName": "x.test/jane",
        "usages": ["client auth"], "username": "who", "expirationSeconds": 3600}})
}

#[tokio::test]
async fn a_request_is_approved_and_then_signed() {
    let world = World::new().await;
    let made = world.create(RESOURCE, request()).await.unwrap();
    assert_eq!(made["status"], json!({}));
    let row = world.row(RESOURCE, "jane").await;
    let expected = json!({"Name": "jane", "Age": row["Age"], "SignerName": "x.test/jane", "Requestor": "who",
        "RequestedDuration": "60m", "Condition": "Pending"});
    assert_eq!(row, expected);

    let approve = |mut request: Value| {
        request["status"]["conditions"] = json!([{"type": "Approved", "status": "True", "reason": "Fine"}]);
        request["spec"]["signerName"] = json!("other.test/x");
        request
    };
    for (part, why) in
        [(Part::Status, "status.conditions: Forbidden: updates may not add a condition of type \"Approved\"")]
    {
        let refused = world.update_part(RESOURCE, part, approve(made.clone())).await.unwrap_err();
        assert!(refused.message.ends_with(why), "{}", refused.message);
    }
    let approved = world.update_part(RESOURCE, Part::Approval, approve(made)).await.unwrap();
    let at = apimachinery::time::format(now());
    let condition = json!({"type": "Approved", "status": "True", "reason": "Fine", "lastUpdateTime": at, "lastTransitionTime": at});
    assert_eq!(approved["status"]["conditions"], json!([condition]));
    assert_eq!(approved["spec"]["signerName"], "x.test/jane");

    let mut denied = approved.clone();
    denied["status"]["conditions"] = json!([condition, {"type": "Denied", "status": "True"}]);
    let refused = world.update_part(RESOURCE, Part::Approval, denied).await.unwrap_err();
    let why = "status.conditions[1].type: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive";
    assert!(refused.message.ends_with(why), "{}", refused.message);
    let mut undone = approved.clone();
    undone["status"]["conditions"] = json!([]);
    let refused = world.update_part(RESOURCE, Part::Approval, undone).await.unwrap_err();
    assert!(refused.message.ends_with("updates may not remove a condition of type \"Approved\""));

    let mut signed = approved;
    signed["status"]["certificate"] = json!(STANDARD.encode("nothing"));
    let refused = world.update_part(RESOURCE, Part::Status, signed.clone()).await.unwrap_err();
    let why = "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block";
    assert!(refused.message.ends_with(why), "{}", refused.message);
    signed["status"]["certificate"] = json!(STANDARD.encode(include_str!("../fixtures/certificate.pem")));
    let mut signed = world.update_part(RESOURCE, Part::Status, signed).await.unwrap();
    assert_eq!(world.row(RESOURCE, "jane").await["Condition"], "Approved,Issued");
    signed["status"]["certificate"] = Value::Null;
    let refused = world.update_part(RESOURCE, Part::Status, signed).await.unwrap_err();
    let why = "status.certificate: Forbidden: updates may not modify existing certificate content";
    assert!(refused.message.ends_with(why), "{}", refused.message);

    let found = |signer: &str| ListOptions {
        field_selector: format!("spec.signerName={signer}"),
        ..ListOptions::default()
    };
    assert_eq!(world.list(RESOURCE, found("x.test/jane")).await.unwrap().len(), 1);
    assert_eq!(world.list(RESOURCE, found("x.test/joe")).await.unwrap().len(), 0);
}

#[tokio::test]
async fn what_a_request_may_not_say() {
    let long = "a".repeat(64);
    let own = STANDARD.encode(include_str!("../fixtures/certificate.pem"));
    let mut forged = STANDARD.decode(request()["spec"]["request"].as_str().unwrap()).unwrap();
    // Within the name that is asked for.
    let at = forged.windows(4).position(|window| window == b"DQYD").map_or(120, |at| at + 40);
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    let world = World::new().await;
    let mut other = request();
    other["spec"]["request"] = json!(STANDARD.encode(forged));
    let refused = world.create(RESOURCE, other).await.unwrap_err();
    assert!(
        refused.message.contains("spec.request: Invalid value") && refused.message.contains("x509:"),
        "{refused}"
    );
    let mut other = request();
    other["spec"]["request"] = json!(own);
    let refused = world.create(RESOURCE, other).await.unwrap_err();
    assert!(refused.message.ends_with("PEM block type must be CERTIFICATE REQUEST"), "{refused}");
    let cases = [
        (json!({"spec": {"usages": []}}), "spec.usages: Required value"),
        (json!({"spec": {"usages": ["signing", "signing"]}}), "spec.usages[1]: Duplicate value: \"signing\""),
        (json!({"spec": {"signerName": ""}}), "spec.signerName: Required value"),
        (
            json!({"spec": {"signerName": "plain"}}),
            "spec.signerName: Invalid value: \"plain\": must be a fully qualified domain and path of the form \
             'example.com/signer-name'",
        ),
        (
            json!({"spec": {"signerName": "kubernetes.io/legacy-unknown"}}),
            "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via \
             this API version",
        ),
        (
            json!({"spec": {"expirationSeconds": 599}}),
            "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)",
        ),
    ];
    check(RESOURCE, &request(), &cases).await;
    let mut other = request();
    other["spec"]["signerName"] = json!(format!("{long}.test/x"));
    assert_eq!(world.create(RESOURCE, other).await.unwrap_err().code, 422);
    let mut other = request();
    other["spec"]["usages"] = json!(["fun"]);
    let refused = world.create(RESOURCE, other).await.unwrap_err();
    let expected = "spec.usages[0]: Unsupported value: \"fun\": supported values: \"any\", \"cert sign\"";
    assert!(refused.message.contains(expected), "{refused}");
}
