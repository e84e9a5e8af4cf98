//! What every write must pass beside the registry's own validation.

use std::sync::Arc;

use auth::UserInfo;
use registry::Admit;

use crate::ApiServer;

mod escalation;

pub use escalation::Escalation;

/// Makes each request's admission: the plugins, told who asks.
pub trait Admission: Send + Sync {
    /// The admission of one request of this user.
    fn of_request(&self, user: &Arc<UserInfo>, server: &Arc<ApiServer>) -> Arc<dyn Admit>;
}
