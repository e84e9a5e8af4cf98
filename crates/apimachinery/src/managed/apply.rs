//! Server-side apply: a configuration becomes part of an object, and what it no longer says goes.

use serde_json::Value;

use super::check::check;
use super::entry::{Entry, Operation};
use super::fields::{fields, with_named};
use super::last_applied;
use super::merge::{merge, remove};
use super::set::Set;
use super::writer::{Elsewhere, Seen, Writer};

/// Why a configuration was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It does not fit its kind.
    #[error("{0}")]
    Unfit(String),
    /// Others own what it would change.
    #[error("Apply failed with conflicts")]
    Conflicts(Vec<Conflict>),
}

/// A field that somebody else owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Who.
    pub manager: String,
    /// Its path.
    pub path: String,
}

/// An object after an apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The object; its `managedFields` are still the old ones.
    pub object: Value,
    /// Who owns what now.
    pub entries: Vec<Entry>,
}

/// Who owns what an object has that nobody was written down for.
const BEFORE: &str = "before-first-apply";
/// The manager whose applies take over from its client-side ones.
const KUBECTL: &str = "kubectl";

impl ApplyError {
    /// In upstream's words: each conflict's manager and path, by manager.
    pub fn describe(conflicts: &[Conflict]) -> String {
        if let [one] = conflicts {
            return format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager, one.path);
        }
        let mut lines: Vec<String> = Vec::new();
        let mut last = None;
        for conflict in conflicts {
            if last != Some(&conflict.manager) {
                lines.push(format!("conflicts with {}:", conflict.manager));
            }
            last = Some(&conflict.manager);
            lines.push(format!("- {}", conflict.path));
        }
        format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
    }
}

/// A configuration merged into an object, before it is known whether it may be.
#[derive(Debug)]
pub struct Merged {
    /// The object with it.
    pub object: Value,
    /// The others.
    entries: Vec<Entry>,
    own: Entry,
    last: Option<Entry>,
}

impl Merged {
    /// The versions that its other managers wrote it in.
    pub fn versions(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.api_version.as_str())
    }
}

/// Others' fields that an apply would change, by entry.
type Conflicting = Vec<(usize, Set)>;

impl Writer<'_> {
    /// Applies the configuration to the object as it is now.
    ///
    /// # Errors
    /// When the configuration does not fit its kind, or changes what others own and may not `force` it.
    pub fn apply(
        &self,
        live: &Value,
        entries: Vec<Entry>,
        config: &Value,
        force: bool,
    ) -> Result<Applied, ApplyError> {
        let merged = self.merge(live, entries, config)?;
        self.settle(live, merged, config, force, &[])
    }

    /// The first half of that: the object as it would be.
    ///
    /// # Errors
    /// When the configuration does not fit its kind.
    pub fn merge(&self, live: &Value, mut entries: Vec<Entry>, config: &Value) -> Result<Merged, ApplyError> {
        let wrong = check(self.place, config);
        if !wrong.is_empty() {
            return Err(ApplyError::Unfit(wrong));
        }
        if entries.is_empty() {
            let before = Writer { manager: BEFORE, ..*self };
            entries = before.update(None, live, Vec::new).unwrap_or_default();
        }
        self.reconcile(&mut entries);
        let own = self.entry(Operation::Apply);
        let last =
            entries.iter().position(|entry| entry.is_same_manager(&own)).map(|at| entries.swap_remove(at));
        let mut own = Entry { fields: fields(self.place, config), ..own };
        self.reset.filter(&mut own.fields);

        let merged = merge(self.place, live, config);
        let object = self.prune(merged, &entries, &own, last.as_ref());
        Ok(Merged { object, entries, own, last })
    }

    /// The second half: who owns what then. `others` is the change from `live` to the merged object in the versions that
    /// some managers wrote it in.
    ///
    /// # Errors
    /// When the change is of what others own, and the writer may not `force` it.
    pub fn settle(
        &self,
        live: &Value,
        merged: Merged,
        config: &Value,
        force: bool,
        others: &[Elsewhere<'_>],
    ) -> Result<Applied, ApplyError> {
        let Merged { object, mut entries, mut own, last } = merged;
        let seen = self.seen(self.compare(Some(live), &object), others);
        let conflicting = conflicts(&entries, &seen);
        if !conflicting.is_empty() && !force {
            self.judge(live, &entries, &conflicting)?;
        }
        entries.iter_mut().for_each(|entry| seen.subtract_from(entry));
        own.fields.drop_unowned();
        own.time = if object == *live { last.and_then(|last| last.time) } else { Some(self.now.to_owned()) };
        entries.push(own);
        entries.retain(|entry| !entry.fields.is_empty());
        let mut object = object;
        if self.manager == KUBECTL {
            last_applied::refresh(&mut object, config);
        }
        Ok(Applied { object, entries })
    }

    /// Lets conflicts pass that are with the manager's own client-side applies; fails with the others.
    fn judge(&self, live: &Value, entries: &[Entry], conflicting: &Conflicting) -> Result<(), ApplyError> {
        let allowed = match self.manager {
            KUBECTL => last_applied::still_there(self.place, live, self.api_version),
            _ => None,
        };
        let mut conflicts = Vec::new();
        for (at, set) in conflicting {
            let mut set = set.clone();
            if let Some(allowed) = &allowed {
                set.subtract(allowed);
            }
            let manager = entries.get(*at).map(Entry::describe).unwrap_or_default();
            conflicts.extend(set.paths().into_iter().map(|path| Conflict { manager: manager.clone(), path }));
        }
        // A stable sort: the paths of one manager stay in their order.
        conflicts.sort_by(|a, b| a.manager.cmp(&b.manager));
        if conflicts.is_empty() { Ok(()) } else { Err(ApplyError::Conflicts(conflicts)) }
    }

    /// The merged object without what this manager applied last time and does not any more, unless somebody else owns it.
    fn prune(&self, merged: Value, others: &[Entry], own: &Entry, last: Option<&Entry>) -> Value {
        let Some(last) = last.filter(|last| !last.fields.is_empty()) else { return merged };
        let place = self.place;
        let named = |set: Set| with_named(place, set);
        let last = named(last.fields.clone());
        let pruned = remove(place, &merged, &last);
        let everything = named(fields(place, &merged));

        // What it took along but others own, or the manager itself in its new configuration, comes back.
        let mut owned = own.fields.clone();
        others.iter().for_each(|entry| owned.join(entry.fields.clone()));
        let mut doomed = everything.clone();
        doomed.subtract(&named(fields(place, &pruned)));
        doomed.subtract(&named(owned));
        let pruned = remove(place, &merged, &doomed);

        // And so does what the manager never owned.
        let mut doomed = everything;
        doomed.subtract(&named(fields(place, &pruned)));
        remove(place, &merged, &doomed.meet(&last))
    }
}

fn conflicts(entries: &[Entry], seen: &Seen<'_>) -> Conflicting {
    let each = entries.iter().enumerate().map(|(at, entry)| (at, entry.fields.meet(&seen.by(entry).0)));
    each.filter(|(_, set)| !set.is_empty()).collect()
}
