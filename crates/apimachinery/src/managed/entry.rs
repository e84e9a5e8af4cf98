//! `metadata.managedFields`: the managers and what each owns.

use serde_json::{Map, Value};

use super::element::ElementError;
use super::set::Set;

/// How a manager came to what it owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// It applied a configuration.
    Apply,
    /// It created, updated or patched.
    Update,
}

impl Operation {
    /// The word in metadata.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// A manager and what it owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub manager: String,
    /// How it came to what it owns.
    pub operation: Operation,
    /// The version of the object that the paths are of.
    pub api_version: String,
    /// The subresource that it wrote through, or empty.
    pub subresource: String,
    /// When what it owns changed last.
    pub time: Option<String>,
    /// The paths.
    pub fields: Set,
}

/// `managedFields` that say nothing that could be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Neither a list nor a list of objects.
    #[error("managedFields must be a list of objects")]
    Shape,
    /// Another operation.
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    /// More than anybody needs.
    #[error("more than {MAX_GIVEN} managers")]
    TooMany,
    /// No version.
    #[error("apiVersion must not be empty")]
    Version,
    /// No or another type of fields.
    #[error("invalid fieldsType {found:?} in managed fields entry {index}")]
    FieldsType {
        /// Which entry.
        index: usize,
        /// What it says.
        found: String,
    },
    /// The fields themselves.
    #[error("error decoding set: {0}")]
    Fields(#[from] ElementError),
}

impl Entry {
    /// Whether both are the same manager. One that applies is the same in every version.
    pub(super) fn is_same_manager(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// Who that is, for people.
    pub(super) fn describe(&self) -> String {
        let mut text = crate::field::quote(&self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {}", crate::field::quote(&self.subresource)));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }

    fn into_value(self) -> Value {
        let mut map = Map::new();
        map.insert("apiVersion".to_owned(), self.api_version.into());
        map.insert("fieldsType".to_owned(), "FieldsV1".into());
        map.insert("fieldsV1".to_owned(), self.fields.into_value());
        if !self.manager.is_empty() {
            map.insert("manager".to_owned(), self.manager.into());
        }
        map.insert("operation".to_owned(), self.operation.as_str().into());
        if !self.subresource.is_empty() {
            map.insert("subresource".to_owned(), self.subresource.into());
        }
        if let Some(time) = self.time {
            map.insert("time".to_owned(), time.into());
        }
        Value::Object(map)
    }
}

/// Whether a client asks to forget all managers: an empty list, or one empty entry.
pub fn is_reset(managed: &Value) -> bool {
    match managed.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([one]) => one.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

/// How many managers a client may write down by hand.
const MAX_GIVEN: usize = 1000;

/// The entries of `managedFields`. What the server wrote itself is `trusted` to be in canonical form.
///
/// # Errors
/// When it says what cannot be understood.
pub fn decode(managed: Value, trusted: bool) -> Result<Vec<Entry>, EntryError> {
    let entries = match managed {
        Value::Null => return Ok(Vec::new()),
        Value::Array(entries) => entries,
        _ => return Err(EntryError::Shape),
    };
    if !trusted && entries.len() > MAX_GIVEN {
        return Err(EntryError::TooMany);
    }
    let mut decoded: Vec<Entry> = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let Value::Object(entry) = entry else { return Err(EntryError::Shape) };
        let entry = decode_one(entry, index, trusted)?;
        match decoded.iter_mut().find(|known| !trusted && known.is_same_manager(&entry)) {
            Some(known) => *known = entry,
            None => decoded.push(entry),
        }
    }
    Ok(decoded)
}

fn decode_one(mut entry: Map<String, Value>, index: usize, trusted: bool) -> Result<Entry, EntryError> {
    let mut text = |name: &str| match entry.remove(name) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let operation = match text("operation").as_str() {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err(EntryError::Operation),
    };
    let (manager, api_version, subresource) = (text("manager"), text("apiVersion"), text("subresource"));
    let (time, found) = (text("time"), text("fieldsType"));
    if api_version.is_empty() {
        return Err(EntryError::Version);
    }
    if found != "FieldsV1" {
        return Err(EntryError::FieldsType { index, found });
    }
    let fields = entry.remove("fieldsV1").unwrap_or_else(|| Value::Object(Map::new()));
    let fields = if trusted { Set::trusted(fields) } else { Set::read(&fields)? };
    let time = Some(time).filter(|time| !time.is_empty());
    Ok(Entry { manager, operation, api_version, subresource, time, fields })
}

/// The entries in upstream's order; `None` if there are none.
pub fn encode(mut entries: Vec<Entry>) -> Option<Value> {
    if entries.is_empty() {
        return None;
    }
    // Times are of one form, in which later is greater.
    entries.sort_by(|a, b| {
        let key = |entry: &Entry| (entry.operation, entry.time.clone());
        let name =
            |entry: &Entry| (entry.manager.clone(), entry.api_version.clone(), entry.subresource.clone());
        key(a).cmp(&key(b)).then_with(|| name(a).cmp(&name(b)))
    });
    Some(Value::Array(entries.into_iter().map(Entry::into_value).collect()))
}

/// How many managers that update are told apart.
const MAX_UPDATERS: usize = 10;
/// Who stands for those before.
const ANCIENT: &str = "ancient-changes";

/// Lets one entry a version stand for the oldest managers that update, until there are few enough.
pub(super) fn cap(entries: Vec<Entry>) -> Vec<Entry> {
    let updaters = entries.iter().filter(|entry| entry.operation == Operation::Update).count();
    if updaters <= MAX_UPDATERS {
        return entries;
    }
    let mut over = updaters - MAX_UPDATERS;
    let (mut updates, mut kept): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().partition(|entry| entry.operation == Operation::Update);
    updates.sort_by(|a, b| (&a.time, &a.manager, &a.api_version).cmp(&(&b.time, &b.manager, &b.api_version)));
    let appliers = kept.len();
    for entry in updates {
        let older = kept.iter_mut().skip(appliers).find(|known| known.api_version == entry.api_version);
        match older {
            Some(older) if over > 0 => {
                ANCIENT.clone_into(&mut older.manager);
                older.subresource.clear();
                older.fields.join(entry.fields);
                older.time = entry.time;
                over -= 1;
            }
            _ => match kept.iter_mut().find(|known| known.is_same_manager(&entry)) {
                Some(known) => known.fields.join(entry.fields),
                None => kept.push(entry),
            },
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(manager: &str, version: &str, time: &str, field: &str) -> Entry {
        Entry {
            manager: manager.to_owned(),
            operation: Operation::Update,
            api_version: version.to_owned(),
            subresource: String::new(),
            time: Some(time.to_owned()),
            fields: Set::read(&json!({ field: {} })).unwrap(),
        }
    }

    #[test]
    fn entries_are_read_and_written_in_order() {
        let written = json!([
            {"apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}, "manager": "b", "operation": "Apply"},
            {"apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}, "manager": "z", "operation": "Update",
                "time": "2026-01-01T00:00:00Z"},
            {"apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}, "manager": "a", "operation": "Update",
                "subresource": "status", "time": "2026-01-02T00:00:00Z"},
        ]);
        let mut mixed = written.clone();
        mixed.as_array_mut().unwrap().reverse();
        assert_eq!(encode(decode(mixed, false).unwrap()), Some(written));
        assert_eq!(encode(Vec::new()), None);
    }

    #[test]
    fn what_cannot_be_understood_is_an_error() {
        let good =
            json!({"apiVersion": "v1", "fieldsType": "FieldsV1", "manager": "b", "operation": "Apply"});
        assert!(decode(json!([good]), false).is_ok());
        for (name, value) in [
            ("operation", json!("Other")),
            ("apiVersion", json!("")),
            ("fieldsType", json!("V2")),
            ("fieldsV1", json!({"x": {}})),
            ("fieldsV1", json!({"f:a": 1})),
        ] {
            let mut bad = good.clone();
            bad[name] = value;
            assert!(decode(json!([bad]), false).is_err(), "{bad}");
        }
        assert!(decode(json!({}), false).is_err() && decode(json!([1]), false).is_err());
        assert_eq!(decode(Value::Array(vec![good.clone(); MAX_GIVEN + 1]), false), Err(EntryError::TooMany));
        assert_eq!(decode(json!([good, good]), false).unwrap().len(), 1);
        assert!(
            is_reset(&json!([]))
                && is_reset(&json!([{}]))
                && !is_reset(&json!([good]))
                && !is_reset(&json!(null))
        );
    }

    #[test]
    fn the_oldest_updaters_become_one() {
        let mut entries: Vec<Entry> = (0..11)
            .map(|i| {
                entry(&format!("m{i}"), "v1", &format!("2026-01-{:02}T00:00:00Z", i + 1), &format!("f:x{i}"))
            })
            .collect();
        assert_eq!(cap(entries[..10].to_vec()), entries[..10]);
        entries.reverse();
        let capped = cap(entries);
        assert_eq!(capped.len(), 10);
        let ancient = capped.iter().find(|entry| entry.manager == ANCIENT).unwrap();
        assert_eq!(ancient.fields.paths(), [".x0", ".x1"]);
        assert_eq!(ancient.time.as_deref(), Some("2026-01-02T00:00:00Z"));
        assert!(capped.iter().all(|entry| entry.manager != "m0" && entry.manager != "m1"));
    }
}
