//! What went wrong, for people.

use kube::Error;

/// What the server said, without the wrapping of the client; or what kept it from being asked.
pub fn message(error: &Error) -> String {
    match error {
        Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}
