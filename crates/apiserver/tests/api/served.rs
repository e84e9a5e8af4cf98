//! Every path, verb and kind of upstream's against ours.

use serde_json::{Value, json};

use crate::ask::Asker;
use crate::coverage::{AGGREGATED, Resources, discovered, lacking, section, upstream};
use crate::{directory, start};

const PAGE: &str = include_str!("../../../../docs/kubernetes.md");

/// What upstream serves and we do not, each with the word for why. Shorter is better.
const GAPS: [&str; 6] = [
    // Mutating policies come later.
    "admissionregistration.k8s.io/v1 mutatingadmissionpolicies",
    "admissionregistration.k8s.io/v1 mutatingadmissionpolicybindings",
    // Priority and fairness come later.
    "flowcontrol.apiserver.k8s.io/v1 flowschemas",
    "flowcontrol.apiserver.k8s.io/v1 flowschemas/status",
    "flowcontrol.apiserver.k8s.io/v1 prioritylevelconfigurations",
    "flowcontrol.apiserver.k8s.io/v1 prioritylevelconfigurations/status",
];

async fn ours(asker: &Asker<'_>) -> Resources {
    let mut documents: Vec<Value> = Vec::new();
    for path in ["/api", "/apis"] {
        documents.push(asker.get_as(path, AGGREGATED).await.ok());
    }
    discovered(&documents)
}

#[tokio::test]
async fn every_path_and_verb_is_upstreams_but_for_the_gaps_that_are_named() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let (theirs, ours) = (upstream(), ours(&Asker::admin(&plane)).await);
    assert_eq!(lacking(&theirs, &ours), GAPS);
    assert_eq!(lacking(&ours, &theirs), Vec::<String>::new(), "what nobody else serves");
    let wrong: Vec<_> = theirs
        .iter()
        .filter(|((_, name), wanted)| !name.contains('/') && wanted.kind != "-")
        .filter(|(place, wanted)| ours.get(*place).is_some_and(|found| found.kind != wanted.kind))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    plane.stop().await;
}

#[tokio::test]
async fn every_verb_of_discovery_is_a_path_of_openapi() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let mut missing = Vec::new();
    let mut documents: std::collections::BTreeMap<String, Value> = Default::default();
    for ((group_version, resource), served) in ours(&admin).await {
        let root = if group_version.contains('/') { "apis" } else { "api" };
        if !documents.contains_key(&group_version) {
            let document = admin.get(&format!("/openapi/v3/{root}/{group_version}")).await.ok();
            documents.insert(group_version.clone(), document);
        }
        let paths = &documents[&group_version]["paths"];
        let (plural, part) = resource.split_once('/').unwrap_or((&resource, ""));
        let within = if served.namespaced { "/namespaces/{namespace}" } else { "" };
        let collection = format!("/{root}/{group_version}{within}/{plural}");
        let item = if part.is_empty() {
            format!("{collection}/{{name}}")
        } else {
            format!("{collection}/{{name}}/{part}")
        };
        for verb in &served.verbs {
            let (path, method) = match verb.as_str() {
                "list" | "watch" => (&collection, "get"),
                "deletecollection" => (&collection, "delete"),
                "create" if part.is_empty() => (&collection, "post"),
                "create" => (&item, "post"),
                "get" => (&item, "get"),
                "update" => (&item, "put"),
                "patch" => (&item, "patch"),
                _ => (&item, "delete"),
            };
            if paths[path][method].is_null() {
                missing.push(format!("{method} {path}"));
            }
        }
        let everywhere = format!("/{root}/{group_version}/{plural}");
        if part.is_empty() && served.verbs.contains("list") && paths[&everywhere]["get"].is_null() {
            missing.push(format!("get {everywhere}"));
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    for path in ["/version", "/.well-known/openid-configuration", "/openid/v1/jwks", "/openapi/v2"] {
        assert_eq!(admin.get(path).await.code, 200, "{path}");
    }
    plane.stop().await;
}

#[tokio::test]
async fn the_page_says_so() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let wanted = section(&upstream(), &ours(&Asker::admin(&plane)).await);
    let said = PAGE.split_once("<!-- made by `cargo xtask docs` -->\n").expect("the place for it").1;
    let said = said.split_once("<!-- end -->\n").expect("its end").0;
    assert!(said == wanted, "docs/kubernetes.md is stale: run `cargo xtask docs`\n{wanted}");
    plane.stop().await;
}

#[tokio::test]
async fn a_binding_may_name_its_pod_itself() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    admin.post("/api/v1/namespaces/default/pods", &pod).await.ok();
    let bindings = "/api/v1/namespaces/default/bindings";
    let binding = |pod: &str| json!({"metadata": {"name": pod}, "target": {"kind": "Node", "name": "n"}});
    let made = admin.post(bindings, &binding("p")).await;
    assert_eq!((made.code, &made.json()["status"]), (201, &json!("Success")));
    assert_eq!(admin.get("/api/v1/namespaces/default/pods/p").await.ok()["spec"]["nodeName"], "n");
    assert_eq!(admin.post(bindings, &binding("p")).await.failure().0, 409);
    assert_eq!(admin.post(bindings, &binding("q")).await.failure().0, 404);
    assert_eq!(admin.post(bindings, &binding("")).await.failure().0, 400);
    assert_eq!(admin.get(bindings).await.failure().0, 405);
    assert_eq!(Asker::token(&plane, "bob-token").post(bindings, &binding("p")).await.failure().0, 403);
    plane.stop().await;
}
