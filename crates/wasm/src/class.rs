//! The class of every host function that a component can import: what a call does to the world.
//!
//! This is the one table. What is not in it is not linked: an interface missing here is an import that this host does not
//! have, and one without a class for durable components ([`Effect::Unclassified`]) is an error at deploy that names it.

use effects::Class;

/// What a host function touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing but this instance's own memory and handles, so that a replay does the same by itself. Never recorded.
    Instance,
    /// The world: recorded under this class.
    World(Class),
    /// The world, the class being that of the HTTP method: GET and HEAD read, everything else writes.
    ByMethod,
    /// The world, by way of a [`effects::Recorder::sleep`] when it waits for a time.
    Wait,
}

/// Which versions of an interface are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versions {
    /// Every 0.2.x.
    Stable,
    /// Exactly this draft.
    Exactly(&'static str),
}

/// One interface.
pub(crate) struct Interface {
    /// Without its version.
    pub(crate) name: &'static str,
    pub(crate) versions: Versions,
    /// The effect of every function not named in `functions`; `None`: every function has to be named.
    otherwise: Option<Effect>,
    functions: &'static [(&'static str, Effect)],
}

use Effect::{ByMethod, Instance, Wait, World};
use Versions::{Exactly, Stable};

const LOCAL: Effect = World(Class::LocalRead);
const REMOTE: Effect = World(Class::RemoteRead);
const WRITE: Effect = World(Class::Write);
const REFUSED: Effect = World(Class::Refused);

const fn all(name: &'static str, effect: Effect) -> Interface {
    Interface { name, versions: Stable, otherwise: Some(effect), functions: &[] }
}

const fn each(
    name: &'static str,
    versions: Versions,
    functions: &'static [(&'static str, Effect)],
) -> Interface {
    Interface { name, versions, otherwise: None, functions }
}

/// Every interface that this host has.
pub(crate) static INTERFACES: &[Interface] = &[
    // Streams are handles on bodies held in memory (and on the log); waiting is `poll`'s.
    all("wasi:io/error", Instance),
    all("wasi:io/streams", Instance),
    each(
        "wasi:io/poll",
        Stable,
        &[("poll", Wait), ("[method]pollable.block", Wait), ("[method]pollable.ready", Wait)],
    ),
    each("wasi:clocks/wall-clock", Stable, &[("now", LOCAL), ("resolution", Instance)]),
    each(
        "wasi:clocks/monotonic-clock",
        Stable,
        &[
            ("now", LOCAL),
            ("resolution", Instance),
            ("subscribe-instant", Instance),
            ("subscribe-duration", Instance),
        ],
    ),
    each("wasi:random/random", Stable, &[("get-random-bytes", LOCAL), ("get-random-u64", LOCAL)]),
    each(
        "wasi:random/insecure",
        Stable,
        &[("get-insecure-random-bytes", LOCAL), ("get-insecure-random-u64", LOCAL)],
    ),
    each("wasi:random/insecure-seed", Stable, &[("insecure-seed", LOCAL)]),
    // The environment, wasi:config and which stores there are belong to the revision that an invocation is pinned to.
    all("wasi:cli/environment", Instance),
    all("wasi:cli/exit", Instance),
    all("wasi:cli/stdin", Instance),
    all("wasi:cli/stdout", Instance),
    all("wasi:cli/stderr", Instance),
    all("wasi:cli/terminal-input", Instance),
    all("wasi:cli/terminal-output", Instance),
    all("wasi:cli/terminal-stdin", Instance),
    all("wasi:cli/terminal-stdout", Instance),
    all("wasi:cli/terminal-stderr", Instance),
    // Standard libraries import these whether used or not. No directory is ever granted, so there is no descriptor to
    // call anything with.
    all("wasi:filesystem/preopens", Instance),
    all("wasi:filesystem/types", Instance),
    // Likewise, but a socket can be asked for: it is denied, and in a durable component the call itself is refused.
    all("wasi:sockets/network", REFUSED),
    all("wasi:sockets/instance-network", REFUSED),
    all("wasi:sockets/ip-name-lookup", REFUSED),
    all("wasi:sockets/tcp", REFUSED),
    all("wasi:sockets/tcp-create-socket", REFUSED),
    all("wasi:sockets/udp", REFUSED),
    all("wasi:sockets/udp-create-socket", REFUSED),
    all("wasi:http/types", Instance),
    each("wasi:http/outgoing-handler", Stable, &[("handle", ByMethod)]),
    each("wasi:config/store", Exactly("0.2.0-rc.1"), &[("get", Instance), ("get-all", Instance)]),
    each(
        "wasi:keyvalue/store",
        Exactly("0.2.0-draft"),
        &[
            ("open", Instance),
            ("[method]bucket.get", REMOTE),
            ("[method]bucket.set", WRITE),
            ("[method]bucket.delete", WRITE),
            ("[method]bucket.exists", REMOTE),
            ("[method]bucket.list-keys", REMOTE),
        ],
    ),
    each("wasi:keyvalue/atomics", Exactly("0.2.0-draft"), &[("increment", WRITE)]),
    each(
        "wasi:keyvalue/batch",
        Exactly("0.2.0-draft"),
        &[("get-many", REMOTE), ("set-many", WRITE), ("delete-many", WRITE)],
    ),
];

impl Interface {
    /// The effect of `function`; `None` when nobody has decided it.
    pub(crate) fn effect(&self, function: &str) -> Option<Effect> {
        let named = self.functions.iter().find(|(name, _)| *name == function).map(|(_, effect)| *effect);
        named.or(self.otherwise)
    }

    /// The functions with a decision of their own.
    #[cfg(test)]
    pub(crate) fn named(&self) -> &'static [(&'static str, Effect)] {
        self.functions
    }

    /// Whether no durable component may call any of it.
    pub(crate) fn refused(&self) -> bool {
        self.otherwise == Some(REFUSED)
    }

    fn serves(&self, version: Option<&str>) -> bool {
        match (self.versions, version) {
            (Stable, Some(version)) => {
                version.strip_prefix("0.2.").is_some_and(|patch| patch.parse::<u32>().is_ok())
            }
            (Exactly(served), Some(version)) => version == served,
            (_, None) => false,
        }
    }
}

/// The interface that serves an import by its full name (`wasi:io/poll@0.2.3`).
pub(crate) fn find(import: &str) -> Option<&'static Interface> {
    let (name, version) = match import.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (import, None),
    };
    INTERFACES.iter().find(|interface| interface.name == name && interface.serves(version))
}

/// The class of a function of the table, for the choke point.
pub(crate) fn class(interface: &str, function: &str) -> Option<Class> {
    let interface = INTERFACES.iter().find(|candidate| candidate.name == interface)?;
    match interface.effect(function)? {
        World(class) => Some(class),
        Instance | ByMethod | Wait => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_matched_as_their_interface_promises() {
        assert!(find("wasi:io/poll@0.2.0").is_some());
        assert!(find("wasi:io/poll@0.2.99").is_some());
        for missing in ["wasi:io/poll@0.3.0", "wasi:io/poll", "wasi:io/poll@0.2.0-rc-1", "wasi:io/pol@0.2.0"]
        {
            assert!(find(missing).is_none(), "{missing}");
        }
        assert!(find("wasi:keyvalue/store@0.2.0-draft").is_some());
        assert!(find("wasi:keyvalue/store@0.2.0-draft2").is_none());
    }

    #[test]
    fn a_function_without_a_decision_has_no_effect_to_offer() {
        let atomics = find("wasi:keyvalue/atomics@0.2.0-draft").unwrap();
        assert_eq!(atomics.effect("increment"), Some(WRITE));
        assert_eq!(atomics.effect("decrement"), None);
        assert_eq!(find("wasi:http/types@0.2.0").unwrap().effect("[constructor]fields"), Some(Instance));
    }

    #[test]
    fn every_interface_is_listed_once() {
        for (at, interface) in INTERFACES.iter().enumerate() {
            let again = INTERFACES[at + 1..]
                .iter()
                .any(|other| other.name == interface.name && other.versions == interface.versions);
            assert!(!again, "{}", interface.name);
        }
    }
}
