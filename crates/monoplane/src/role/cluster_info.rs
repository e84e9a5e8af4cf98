//! What a machine that is to join reads first: where the API is, and its authority. Signed with the tokens by the controllers,
//! it may be read by everybody.

use std::sync::Arc;
use std::time::Duration;

use api::k8s::api::core::v1::ConfigMap;
use client::kube::Error;
use client::{Api, Client, ObjectMeta, Patch, PatchParams, PostParams};
use clock::Clock;
use serde_json::json;

use super::certificates::EVERY;
use super::join::{CLUSTER_INFO, PUBLIC};

const CONTENT: &str = "kubeconfig";
/// After a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// Keeps it so, now and then, for as long as the server runs.
pub async fn keep(client: Client, server: String, authority: String, clock: Arc<dyn Clock>) {
    let content = content(&server, &authority);
    loop {
        let published = publish(&client, &content).await;
        if let Err(error) = &published {
            tracing::warn!(%error, "no machine can join: {PUBLIC}/{CLUSTER_INFO} is not written; trying again");
        }
        clock.sleep(if published.is_ok() { EVERY } else { AGAIN }).await;
    }
}

/// A kubeconfig of nobody.
fn content(server: &str, authority: &str) -> String {
    use base64::Engine as _;
    let authority = base64::engine::general_purpose::STANDARD.encode(authority);
    let cluster = json!({ "server": server, "certificate-authority-data": authority });
    json!({ "apiVersion": "v1", "kind": "Config", "clusters": [{ "name": "", "cluster": cluster }] })
        .to_string()
}

async fn publish(client: &Client, content: &str) -> Result<(), Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), PUBLIC);
    let Some(known) = maps.get_opt(CLUSTER_INFO).await? else {
        let metadata = ObjectMeta { name: Some(CLUSTER_INFO.to_owned()), ..ObjectMeta::default() };
        let data = Some([(CONTENT.to_owned(), content.to_owned())].into());
        let map = ConfigMap { metadata, data, ..ConfigMap::default() };
        return maps.create(&PostParams::default(), &map).await.map(drop);
    };
    if known.data.as_ref().and_then(|data| data.get(CONTENT)).is_some_and(|known| known == content) {
        return Ok(());
    }
    // The signatures beside it are the controllers'.
    let patch = Patch::Merge(json!({ "data": { CONTENT: content } }));
    maps.patch(CLUSTER_INFO, &PatchParams::default(), &patch).await.map(drop)
}
