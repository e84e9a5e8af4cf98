//! Tokens of service accounts.

use pki::Identity;
use serde_json::{Value, json};

use crate::ask::Asker;
use crate::plane::{ISSUER, Plane};
use crate::{directory, start};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ROBOT: &str = "/api/v1/namespaces/default/serviceaccounts/robot/token";

async fn account(plane: &Plane, name: &str) {
    Asker::admin(plane).post(ACCOUNTS, &json!({"metadata": {"name": name}})).await.ok();
}

async fn token(asker: &Asker<'_>, spec: Value) -> String {
    let answer = asker.post(ROBOT, &json!({"spec": spec})).await.ok();
    answer["status"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_account_is_known_by_its_token_for_as_long_as_it_is_there() {
    let directory = directory();
    let plane = start(directory.path()).await;
    account(&plane, "robot").await;
    let admin = Asker::admin(&plane);
    let answer = admin.post(ROBOT, &json!({"spec": {}})).await;
    assert_eq!(answer.code, 201);
    let granted = answer.ok();
    assert_eq!(
        (&granted["kind"], &granted["apiVersion"]),
        (&json!("TokenRequest"), &json!("authentication.k8s.io/v1"))
    );
    assert_eq!(granted["spec"], json!({"audiences": [ISSUER], "expirationSeconds": 3600}));
    let token = granted["status"]["token"].as_str().unwrap();
    let robot = Asker::token(&plane, token);
    let who = robot.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await.ok();
    let user = &who["status"]["userInfo"];
    assert_eq!(user["username"], "system:serviceaccount:default:robot");
    assert_eq!(
        user["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
    let list = robot.get("/api/v1/namespaces/default/pods").await.failure();
    assert_eq!(
        list.2,
        r#"pods is forbidden: User "system:serviceaccount:default:robot" cannot list resource "pods" in API group "" in the namespace "default""#
    );
    let review = |token: &str, audiences: Value| {
        let body = json!({"spec": {"token": token, "audiences": audiences}});
        let admin = &admin;
        async move { admin.post(REVIEWS, &body).await.ok()["status"].clone() }
    };
    let known = review(token, json!([ISSUER, "x"])).await;
    assert_eq!((&known["authenticated"], &known["audiences"]), (&json!(true), &json!([ISSUER])));
    assert!(known["user"]["uid"].as_str().is_some_and(|uid| !uid.is_empty()));
    let other = review(token, json!(["x"])).await;
    assert!(
        other["authenticated"].is_null() && other["error"].as_str().unwrap().contains("audiences"),
        "{other}"
    );

    // Another account of that name is another.
    admin.delete(&format!("{ACCOUNTS}/robot")).await.ok();
    assert_eq!(robot.get("/api").await.code, 401);
    account(&plane, "robot").await;
    assert_eq!(robot.get("/api").await.code, 401);
    let gone = review(token, json!([])).await;
    assert_eq!(gone["error"], "[invalid bearer token, service account token has been invalidated]");
    plane.stop().await;
}

#[tokio::test]
async fn a_token_ends_with_what_it_is_bound_to_and_is_for_whom_it_says() {
    let directory = directory();
    let plane = start(directory.path()).await;
    account(&plane, "robot").await;
    let admin = Asker::admin(&plane);
    let secrets = "/api/v1/namespaces/default/secrets";
    let made = admin.post(secrets, &json!({"metadata": {"name": "s"}})).await.ok();
    let reference =
        json!({"apiVersion": "v1", "kind": "Secret", "name": "s", "uid": made["metadata"]["uid"]});
    let bound = token(&admin, json!({"boundObjectRef": reference})).await;
    let elsewhere = token(&admin, json!({"audiences": ["vault"]})).await;
    assert_eq!(Asker::token(&plane, &bound).get("/api").await.code, 200);
    assert_eq!(Asker::token(&plane, &elsewhere).get("/api").await.code, 401, "not meant for this API");
    admin.delete(&format!("{secrets}/s")).await.ok();
    assert_eq!(Asker::token(&plane, &bound).get("/api").await.code, 401);

    let refused = async |spec: Value| admin.post(ROBOT, &json!({"spec": spec})).await.failure();
    let short = refused(json!({"expirationSeconds": 599})).await;
    let why = "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes";
    assert!(short.0 == 422 && short.2.ends_with(why), "{short:?}");
    let mut other = reference.clone();
    assert_eq!(refused(json!({"boundObjectRef": other})).await.0, 404);
    other["kind"] = json!("ConfigMap");
    let why = "cannot bind token to object of type /v1, Kind=ConfigMap";
    assert_eq!(refused(json!({"boundObjectRef": other})).await, (400, "BadRequest".into(), why.into()));
    let nobody = format!("{ACCOUNTS}/nobody/token");
    assert_eq!(admin.post(&nobody, &json!({"spec": {}})).await.code, 404);
    let year = admin.post(ROBOT, &json!({"spec": {"expirationSeconds": 40_000_000}})).await;
    assert!(year.header("warning").contains("shortened to 31536000 seconds"), "{year:?}");
    plane.stop().await;
}

#[tokio::test]
async fn a_kubelet_gets_tokens_for_its_own_pods_alone() {
    let directory = directory();
    let plane = start(directory.path()).await;
    account(&plane, "robot").await;
    let (admin, node) = (Asker::admin(&plane), Asker::of(&plane, &Identity::Node("one".into())));
    let pods = "/api/v1/namespaces/default/pods";
    let pod = |name: &str, node: &str| {
        json!({
            "metadata": {"name": name},
            "spec": {"serviceAccountName": "robot", "nodeName": node, "containers": [{"name": "c", "image": "i"}]},
        })
    };
    let own = admin.post(pods, &pod("own", "one")).await.ok();
    let theirs = admin.post(pods, &pod("theirs", "two")).await.ok();
    let mounted = own["spec"]["containers"][0]["volumeMounts"][0].clone();
    assert_eq!(mounted["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(own["spec"]["volumes"][0]["name"], mounted["name"]);
    let bound = |pod: &Value| {
        let meta = &pod["metadata"];
        json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}})
    };
    // The authorizer sees a pod a moment after it is there.
    while node.post(ROBOT, &json!({"spec": bound(&own)})).await.code == 403 {
        tokio::task::yield_now().await;
    }
    let given = token(&node, bound(&own)).await;
    let robot = Asker::token(&plane, &given);
    let who = robot.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await.ok();
    let extra = &who["status"]["userInfo"]["extra"];
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["own"]));
    assert_eq!(extra["authentication.kubernetes.io/node-name"], json!(["one"]));
    let refused = async |spec: Value| node.post(ROBOT, &json!({"spec": spec})).await.failure().2;
    assert!(refused(bound(&theirs)).await.ends_with("scheduled on a different node"));
    assert!(refused(json!({})).await.ends_with("node requested token not bound to a pod"));
    let mut vault = bound(&own);
    vault["audiences"] = json!(["vault"]);
    assert!(refused(vault).await.ends_with("audience \"vault\" not found in pod spec volume"));

    // Whoever verifies tokens elsewhere finds the keys.
    let configuration = robot.get("/.well-known/openid-configuration").await.ok();
    assert_eq!(configuration["issuer"], ISSUER);
    let keys = robot.get("/openid/v1/jwks").await;
    assert_eq!(keys.header("content-type"), "application/jwk-set+json");
    assert_eq!(keys.ok()["keys"][0]["alg"], "ES256");
    plane.stop().await;
}
