//! A pod is bound once, and to one node.

use super::history::uid;
use super::{Change, History, text};

pub fn bound_once(_: &History, change: &Change) -> Result<(), String> {
    let (Some(before), Some(after)) = (&change.before, &change.after) else { return Ok(()) };
    if change.key.plural != "pods" || uid(before) != uid(after) {
        return Ok(());
    }
    let (first, now) = (text(before, "/spec/nodeName"), text(after, "/spec/nodeName"));
    if first.is_empty() || first == now {
        return Ok(());
    }
    Err(format!("a pod on {first} was bound again, to {now:?}"))
}
