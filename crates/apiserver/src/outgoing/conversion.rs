//! The way from the registry to webhooks that convert custom resources.

use std::time::Duration;

use async_trait::async_trait;
use registry::AskWebhook;
use serde_json::Value;

use super::{Outgoing, Post, Webhook};

/// How long a conversion may take. Upstream sets no bound; clients give up after this, as a rule.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer: several times what the registry sends in one call.
const LIMIT: usize = 32 << 20;

#[async_trait]
impl AskWebhook for Outgoing {
    async fn ask(&self, client_config: &Value, review: &Value) -> Result<Value, String> {
        let webhook = Webhook::of(client_config).map_err(|error| error.to_string())?;
        let how = Post { patience: PATIENCE, told: false, limit: LIMIT, agent: "kube-apiserver" };
        self.post(&webhook, review, how).await.map_err(|error| error.to_string())
    }
}
