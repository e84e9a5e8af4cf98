//! The three ways to change an object by saying only what changes.

pub mod json;
pub mod merge;
pub mod strategic;

/// Why a patch could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed: 400.
    #[error("{0}")]
    Malformed(String),
    /// The patch is fine but does not fit the object (a `test` that fails, a path that is not there): 422.
    #[error("{0}")]
    Unfit(String),
    /// The patch or its result is larger than it may be: 413.
    #[error("{0}")]
    TooLarge(String),
}

impl PatchError {
    /// The status that upstream answers.
    pub fn to_status(&self) -> crate::status::Status {
        use crate::status::Status;
        match self {
            Self::Malformed(message) => Status::bad_request(message),
            Self::Unfit(message) => Status::unprocessable(message),
            Self::TooLarge(message) => Status::request_entity_too_large(message),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    /// Any small tree, over few keys so that two of them meet.
    pub(crate) fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3i64..3).prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c~/]{1,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
