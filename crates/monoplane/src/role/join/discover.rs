//! What a machine that holds a token alone believes of a server: the information that is signed with the token, of an
//! authority with the pin that came with it (kubeadm's discovery).

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use api::k8s::api::core::v1::ConfigMap;
use auth::bootstrap_token::Token;
use client::kube::config::Kubeconfig;
use client::{Ambient, Api, Client};
use serde_json::{Value, json};

/// Where the information is.
pub const NAMESPACE: &str = "kube-public";
/// And what it is called.
pub const NAME: &str = "cluster-info";
const CONTENT: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";
/// A token that was made a moment ago may not have signed yet.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// A kubeconfig as clients read it.
pub fn kubeconfig(server: &str, cluster: &Value, user: &Value) -> String {
    let mut cluster = cluster.clone();
    cluster["server"] = json!(server);
    // JSON is YAML.
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "monoplane",
        "clusters": [{ "name": "monoplane", "cluster": cluster }],
        "users": [{ "name": "monoplane", "user": user }],
        "contexts": [{ "name": "monoplane", "context": { "cluster": "monoplane", "user": "monoplane" } }],
    })
    .to_string()
}

/// The certificate (PEM) of the authority of a server, if it has that pin and the token signs for it.
///
/// # Errors
/// When there is no such server, or it is another.
pub async fn authority(server: &str, token: &Token<'_>, pin: &str, ambient: &Ambient) -> Result<String> {
    // Whoever answers: what it says is believed only with the signature.
    let anybody = json!({ "insecure-skip-tls-verify": true });
    let client = client::transport::from_kubeconfig(&kubeconfig(server, &anybody, &json!({}))).await?;
    let content = signed(&client, server, token, ambient).await?;
    let authority = authority_in(&content).with_context(|| format!("what {server} says of its cluster"))?;
    let found = pki::pin(&authority)?;
    ensure!(
        found == pin,
        "the authority of {server} is {found}, and --ca-hash says {pin}: this is not the server that the token is of, or its \
         authority is a new one. Take the whole command from `monoplane token create` on the server"
    );
    // Nobody between us has answered in its place.
    let trusted = json!({ "certificate-authority-data": encoded(&authority) });
    let client = client::transport::from_kubeconfig(&kubeconfig(server, &trusted, &json!({}))).await?;
    let again = read(&client).await.with_context(|| {
        format!(
            "asking {server} again, now by its authority (if its certificate is for other names or addresses than this one, \
             start the server with --tls-san)"
        )
    })?;
    ensure!(
        again.get(CONTENT) == Some(&content),
        "{server} says one thing to all and another to those who know it"
    );
    Ok(authority)
}

/// The information, once the token has signed it.
async fn signed(client: &Client, server: &str, token: &Token<'_>, ambient: &Ambient) -> Result<String> {
    let mut left = TRIES;
    loop {
        let data = read(client).await.with_context(|| {
            format!("asking {server} who it is (does it listen there? a server that others join needs --bind-address)")
        })?;
        let content = data.get(CONTENT).ok_or_else(|| anyhow!("{server} says nothing of its cluster"))?;
        match data.get(&format!("{SIGNATURE}{}", token.id)) {
            Some(signature) if *signature == pki::detached_signature(content, token.id, token.secret) => {
                return Ok(content.clone());
            }
            Some(_) if left == 0 => bail!(
                "the token {} has another secret at {server}: mistyped? `monoplane token create` there prints the command",
                token.id
            ),
            None if left == 0 => bail!(
                "{server} does not know the token {}: it has expired, or is another cluster's. `monoplane token create` there \
                 makes a new one",
                token.id
            ),
            _ => left -= 1,
        }
        ambient.clock.sleep(PAUSE).await;
    }
}

async fn read(client: &Client) -> Result<std::collections::BTreeMap<String, String>, client::Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    Ok(maps.get(NAME).await?.data.unwrap_or_default())
}

fn authority_in(content: &str) -> Result<String> {
    let read = Kubeconfig::from_yaml(content)?;
    let cluster = read.clusters.into_iter().find_map(|cluster| cluster.cluster);
    let encoded = cluster.and_then(|cluster| cluster.certificate_authority_data);
    decoded(&encoded.context("no authority")?)
}

/// Text in base64, as kubeconfigs have it.
pub fn encoded(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn decoded(text: &str) -> Result<String> {
    use base64::Engine as _;
    Ok(String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text.trim())?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_found_in_what_a_server_says() {
        let said =
            kubeconfig("https://a:1", &json!({ "certificate-authority-data": encoded("PEM\n") }), &json!({}));
        assert_eq!(authority_in(&said).unwrap(), "PEM\n");
        for bad in
            ["", "{}", "clusters: [{name: a, cluster: {server: b}}]", &said.replace(&encoded("PEM\n"), "!")]
        {
            assert!(authority_in(bad).is_err(), "{bad}");
        }
    }
}
