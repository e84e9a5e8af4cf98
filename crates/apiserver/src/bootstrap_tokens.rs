//! Bootstrap tokens, looked up in the Secrets that they are in.

use std::sync::Arc;

use auth::UserInfo;
use auth::bootstrap_token::{NAMESPACE, Token, TokenSecret};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use registry::Registry;

/// Knows whom bootstrap tokens speak for.
pub(crate) struct BootstrapTokens {
    registry: Arc<Registry>,
}

impl BootstrapTokens {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    /// The user of a token; `None` if it is none, or is not to be believed (any more). Nothing tells which of these: that
    /// would be something to try words against.
    pub(crate) fn user(&self, token: &str, now: Timestamp) -> Option<Arc<UserInfo>> {
        let token = Token::parse(token)?;
        let kinds = self.registry.kinds();
        let secret =
            self.registry.known(kinds.lookup("", "v1", "secrets")?, NAMESPACE, &token.secret_name())?;
        let secret = secret.tree();
        if apimachinery::meta::is_deleting(&secret) {
            return None;
        }
        let value = |key: &str| STANDARD.decode(secret["data"][key].as_str()?).ok();
        let secret_type = secret["type"].as_str().unwrap_or_default();
        let stored = TokenSecret::read(apimachinery::meta::name(&secret), secret_type, value)?;
        stored.user(&token, now).map(Arc::new)
    }
}
