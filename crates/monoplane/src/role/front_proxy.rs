//! The server as a front proxy: the certificate that it shows to servers of aggregated APIs, by which these know that they
//! may believe who it says is asking; and the ConfigMap that tells them so, as upstream's.
//!
//! The certificate is of an authority of its own: whoever trusts that one believes names in headers, which nobody must whom
//! the plane's authority issued a certificate.

use std::sync::Arc;

use anyhow::{Context, Result};
use api::k8s::api::core::v1::ConfigMap;
use apiserver::tls::Presented;
use client::kube::Error;
use client::{Api, Client, ObjectMeta, PostParams};
use clock::Clock;
use jiff::Timestamp;
use pki::{Authority, Identity};

use super::certificates::EVERY;
use crate::layout::Layout;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";
/// The authority of clients' certificates, and that of front proxies.
const CLIENTS: &str = "client-ca-file";
const PROXIES: &str = "requestheader-client-ca-file";
/// How the headers are called, as JSON lists; and whose certificates may use them.
const HEADERS: [(&str, &str); 5] = [
    ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
    ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
    ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
    ("requestheader-uid-headers", r#"["X-Remote-Uid"]"#),
    ("requestheader-username-headers", r#"["X-Remote-User"]"#),
];
/// Authorities that are named at a time: servers of one store may each have their own, and one is renewed now and then.
const AUTHORITIES: usize = 16;
/// How often the ConfigMap is written again because another server was faster.
const TRIES: usize = 5;

/// The front proxy's certificate.
pub struct FrontProxy {
    layout: Layout,
    presented: Arc<Presented>,
}

impl FrontProxy {
    /// The one kept, or a new one.
    pub fn open(layout: &Layout, now: Timestamp) -> Result<Self> {
        let authority = authority(layout, now)?;
        let presented = Presented::new(&authority.client(&Identity::FrontProxy, now)?)?;
        Ok(Self { layout: layout.clone(), presented })
    }

    /// What is shown in handshakes.
    pub fn presented(&self) -> Arc<Presented> {
        self.presented.clone()
    }

    /// Renews the certificate where that is due, and says in the ConfigMap whom to trust; now and then, for as long as the
    /// server runs.
    pub async fn keep(self, client: Client, clients: String, clock: Arc<dyn Clock>) {
        loop {
            if let Err(error) = self.settle(&client, &clients, clock.now()).await {
                let error = format!("{error:#}");
                tracing::warn!(error, "servers of aggregated APIs may not know whom to trust; trying again");
            }
            clock.sleep(EVERY).await;
        }
    }

    async fn settle(&self, client: &Client, clients: &str, now: Timestamp) -> Result<()> {
        let authority = authority(&self.layout, now)?;
        self.presented.renew(&authority.client(&Identity::FrontProxy, now)?)?;
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
        let mut tries = TRIES;
        loop {
            tries -= 1;
            match publish(&maps, clients, authority.certificate_pem()).await {
                Err(Error::Api(status)) if status.code == 409 && tries > 0 => {}
                done => return done.with_context(|| format!("the ConfigMap {NAMESPACE}/{NAME}")),
            }
        }
    }
}

fn authority(layout: &Layout, now: Timestamp) -> Result<Authority> {
    let directory = layout.server().join("pki").join("front-proxy");
    Authority::open(&directory, now).context("opening the front proxy's CA")
}

async fn publish(maps: &Api<ConfigMap>, clients: &str, proxies: &str) -> Result<(), Error> {
    let known = maps.get_opt(NAME).await?;
    let is_new = known.is_none();
    let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
    let mut map = known.unwrap_or_else(|| ConfigMap { metadata, ..ConfigMap::default() });
    let before = map.data.clone();
    let data = map.data.get_or_insert_default();
    for (name, own) in [(CLIENTS, clients), (PROXIES, proxies)] {
        let known = data.get(name).map(String::as_str).unwrap_or_default();
        data.insert(name.to_owned(), joined(known, own));
    }
    data.extend(HEADERS.map(|(name, value)| (name.to_owned(), value.to_owned())));
    if is_new {
        maps.create(&PostParams::default(), &map).await?;
    } else if map.data != before {
        maps.replace(NAME, &PostParams::default(), &map).await?;
    }
    Ok(())
}

/// The certificates of a bundle with our own, if it is not among them; the oldest go when there are too many.
fn joined(bundle: &str, own: &str) -> String {
    let own = own.trim();
    if bundle.contains(own) {
        return bundle.to_owned();
    }
    let known = bundle.split_inclusive("-----END CERTIFICATE-----").map(str::trim);
    let mut blocks: Vec<&str> = known.filter(|block| !block.is_empty()).chain([own]).collect();
    let surplus = blocks.len().saturating_sub(AUTHORITIES);
    blocks.drain(..surplus);
    blocks.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn block(text: &str) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----")
    }

    #[test]
    fn every_server_of_a_store_is_named_once() {
        let (a, b) = (block("a"), block("b"));
        let one = joined("", &a);
        assert_eq!(one, format!("{a}\n"));
        let two = joined(&one, &format!("{b}\n"));
        assert_eq!(two, format!("{a}\n{b}\n"));
        assert_eq!((joined(&two, &a), joined(&two, &b)), (two.clone(), two));
        let many = (0..40).fold(String::new(), |bundle, number| joined(&bundle, &block(&number.to_string())));
        assert_eq!(many.matches("BEGIN").count(), AUTHORITIES);
        assert!(many.ends_with(&format!("{}\n", block("39"))));
    }
}
