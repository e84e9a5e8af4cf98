//! Bootstrap tokens, from the Secret that holds one to what its holder may do.

use serde_json::{Value, json};

use crate::ask::Asker;
use crate::plane::Plane;
use crate::{directory, start};

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const TOKEN: &str = "abcdef.0123456789abcdef";

async fn keep(admin: &Asker<'_>, data: Value) {
    let mut whole = json!({"token-id": "abcdef", "token-secret": "0123456789abcdef",
        "usage-bootstrap-authentication": "true"});
    for (key, value) in data.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let secret = json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token",
        "stringData": whole});
    admin.post(SECRETS, &secret).await.ok();
}

async fn reviewed(admin: &Asker<'_>, token: &str) -> Value {
    admin.post(REVIEWS, &json!({"spec": {"token": token}})).await.ok()["status"].clone()
}

#[tokio::test]
async fn who_holds_a_token_may_join_and_nothing_else() {
    let directory = directory();
    let plane: Plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let joiner = Asker::token(&plane, TOKEN);
    assert_eq!(joiner.get("/api").await.code, 401, "there is no such token yet");
    keep(&admin, json!({"auth-extra-groups": "system:bootstrappers:workers"})).await;
    let who = joiner.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await.ok();
    let groups = json!(["system:bootstrappers", "system:bootstrappers:workers", "system:authenticated"]);
    assert_eq!(who["status"]["userInfo"], json!({"username": "system:bootstrap:abcdef", "groups": groups}));
    assert_eq!(reviewed(&admin, TOKEN).await["user"]["username"], "system:bootstrap:abcdef");
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    assert_eq!(joiner.get(requests).await.code, 403, "upstream binds no role to them");
    let binding = json!({"metadata": {"name": "joining"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-bootstrapper"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:bootstrappers:workers"}]});
    admin.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await.ok();
    for _ in 0..2000 {
        if joiner.get(requests).await.code == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(joiner.get(requests).await.code, 200);
    assert_eq!(joiner.get(SECRETS).await.code, 403);
    admin.delete(&format!("{SECRETS}/bootstrap-token-abcdef")).await.ok();
    assert_eq!(joiner.get("/api").await.code, 401);
    plane.stop().await;
}

#[tokio::test]
async fn what_is_no_token_is_refused_in_the_same_words() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    keep(&admin, json!({"expiration": "2020-01-01T00:00:00Z"})).await;
    let words = "invalid bearer token";
    for token in
        [TOKEN, "abcdef.0123456789abcdeg", "ghijkl.0123456789abcdef", "abcdef", "../../x.0123456789abcdef"]
    {
        assert_eq!(reviewed(&admin, token).await["error"], words, "{token}");
    }
    admin.delete(&format!("{SECRETS}/bootstrap-token-abcdef")).await.ok();
    keep(&admin, json!({"usage-bootstrap-authentication": "false"})).await;
    assert_eq!(reviewed(&admin, TOKEN).await["error"], words);
    plane.stop().await;
}
