//! What machines run, whatever the API says of it: a name never twice at once.

use std::collections::BTreeMap;

use client::ObjectKey;

/// By UID: where, and as what.
#[derive(Debug, Default)]
pub struct Running(BTreeMap<String, (&'static str, ObjectKey)>);

impl Running {
    /// A pod runs on a node. Pods that must not run twice have a name of their own, as those of StatefulSets do: another of
    /// its name has ended by now.
    pub fn begin(&mut self, node: &'static str, pod: &ObjectKey, uid: &str) -> Result<(), String> {
        let is_known = self.0.insert(uid.to_owned(), (node, pod.clone())).is_some();
        let other = self.0.iter().find(|(other, (_, name))| *other != uid && name == pod);
        match other {
            Some((_, (elsewhere, _))) if !is_known => {
                Err(format!("pod {pod} runs twice at once: on {elsewhere} still, and on {node}"))
            }
            _ => Ok(()),
        }
    }

    /// A pod does not run any more.
    pub fn end(&mut self, uid: &str) {
        self.0.remove(uid);
    }

    /// Nothing runs on a node any more.
    pub fn end_all(&mut self, node: &str) {
        self.0.retain(|_, (at, _)| *at != node);
    }
}
