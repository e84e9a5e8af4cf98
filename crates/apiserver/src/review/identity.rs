//! Who am I, and whose token is this?

use apimachinery::status::Status;
use serde_json::{Value, json};

use super::Asked;

pub(super) fn own(asked: &Asked<'_>) -> Result<Value, Status> {
    Ok(asked.with_status(json!({"userInfo": &**asked.call.user})))
}

pub(super) fn of_token(asked: &Asked<'_>) -> Result<Value, Status> {
    let token = asked.text("/spec/token");
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let wanted = asked.object.pointer("/spec/audiences").and_then(Value::as_array);
    let wanted: Vec<String> =
        wanted.into_iter().flatten().filter_map(|audience| audience.as_str().map(str::to_owned)).collect();
    let status = match asked.server.authenticators.user_of_token(token, &wanted, asked.call.now) {
        Ok((user, audiences)) => json!({"authenticated": true, "user": &*user, "audiences": audiences}),
        Err(why) => json!({"user": {}, "error": why}),
    };
    Ok(asked.with_status(status))
}
