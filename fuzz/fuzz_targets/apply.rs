//! Any list of managers is refused or read, and comes out as it went in; any configuration applied to any object is refused,
//! conflicts, or owns what it says; applied again it changes nothing.

#![no_main]

use std::sync::LazyLock;

use apimachinery::gvk::GroupVersionKind;
use apimachinery::managed::{self, Entry, Place, Reset, Writer};
use apimachinery::schema::Schema;
use apimachinery::schema::table::Table;
use serde_json::Value;

static TABLE: LazyLock<Table> =
    LazyLock::new(|| Table::new(include_str!("../../crates/api/schema/v1.36.txt")).unwrap());

fn pod() -> &'static Schema {
    TABLE.kind(&GroupVersionKind::of("", "v1", "Pod")).unwrap()
}

fn managers(text: &str) -> Vec<Entry> {
    let Ok(given) = serde_json::from_str::<Value>(text) else { return Vec::new() };
    let Ok(entries) = managed::decode(given, false) else { return Vec::new() };
    let encoded = managed::encode(entries.clone());
    let again = encoded.map(|encoded| managed::decode(encoded, false).expect("what was written is read"));
    let again = again.unwrap_or_default();
    assert_eq!(managed::encode(again.clone()), managed::encode(entries));
    again
}

fn run(parts: [&str; 3]) {
    let entries = managers(parts[0]);
    let (Ok(mut object), Ok(mut applied)) =
        (serde_json::from_str::<Value>(parts[1]), serde_json::from_str::<Value>(parts[2]))
    else {
        return;
    };
    // As a request comes: what does not conform is refused before.
    if pod().conform(&mut object).is_err() || pod().conform(&mut applied).is_err() {
        return;
    }
    for place in [Place::root(Some(pod()), false), Place::root(None, true)] {
        let writer = Writer {
            place,
            manager: "fuzzer",
            api_version: "v1",
            subresource: "",
            reset: Reset::Nothing,
            now: "2026-01-01T00:00:00Z",
        };
        let _ = writer.update(Some(&object), &applied, || entries.clone());
        let Ok(once) = writer.apply(&object, entries.clone(), &applied, true) else { continue };
        let twice =
            writer.apply(&once.object, once.entries.clone(), &applied, true).expect("it was applied before");
        assert_eq!(once.object, twice.object);
    }
}

// Managers, an object and a configuration, one a line: so that seeds can be written by hand.
libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut lines = text.splitn(3, '\n');
    let (Some(managers), Some(object), Some(applied)) = (lines.next(), lines.next(), lines.next()) else {
        return;
    };
    LazyLock::force(&TABLE);
    fuzz::bounded(text.len(), || run([managers, object, applied]));
});
