//! Asking for a certificate through the API, as upstream's kubelets do.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::k8s::ByteString;
use api::k8s::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use client::{Ambient, Api, Client, ObjectMeta, PostParams};
use pki::{Application, Credential};

use super::files::Certificate;

/// How long a certificate may take. Where nobody approves by itself, somebody has to.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked for.
const PAUSE: Duration = Duration::from_millis(250);

/// Asks for a certificate of a node or an edge under these names, and waits for it.
///
/// # Errors
/// When it is refused, or does not come.
pub async fn certificate(
    client: &Client,
    which: Certificate,
    name: &str,
    names: &BTreeSet<String>,
    ambient: &Ambient,
) -> Result<Credential> {
    let application = Application::new(&which.identity(name), names)?;
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let metadata = ObjectMeta { generate_name: Some("csr-".to_owned()), ..ObjectMeta::default() };
    let spec = CertificateSigningRequestSpec {
        request: ByteString(application.request_pem.clone().into_bytes()),
        signer_name: which.signer().to_owned(),
        usages: Some(which.usages().map(str::to_owned).into()),
        ..CertificateSigningRequestSpec::default()
    };
    let request = CertificateSigningRequest { metadata, spec, status: None };
    let made = requests.create(&PostParams::default(), &request).await;
    let made = made.with_context(|| format!("asking for a certificate of {}", which.signer()))?;
    let made = made.metadata.name.unwrap_or_default();
    let until = ambient.clock.monotonic() + PATIENCE;
    loop {
        let status = requests
            .get(&made)
            .await
            .with_context(|| format!("looking at {made}"))?
            .status
            .unwrap_or_default();
        if let Some(certificate) = status.certificate.filter(|bytes| !bytes.0.is_empty()) {
            return Ok(application.granted(&String::from_utf8(certificate.0)?)?);
        }
        for condition in status.conditions.into_iter().flatten() {
            if matches!(condition.type_.as_str(), "Denied" | "Failed") {
                let why = condition.message.unwrap_or_default();
                bail!(
                    "the request {made} for a certificate of {} is {}: {why}",
                    which.signer(),
                    condition.type_
                );
            }
        }
        if ambient.clock.monotonic() > until {
            bail!(
                "nobody has approved the request {made} for a certificate of {}: `kubectl certificate approve {made}` does",
                which.signer()
            );
        }
        ambient.clock.sleep(PAUSE).await;
    }
}
