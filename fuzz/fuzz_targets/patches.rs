//! Any patch is applied or refused; a JSON patch that is refused changes nothing; merging twice is merging once.

#![no_main]

use std::sync::LazyLock;

use apimachinery::gvk::GroupVersionKind;
use apimachinery::patch::{json, merge, strategic};
use apimachinery::schema::Schema;
use apimachinery::schema::table::Table;
use serde_json::Value;

static TABLE: LazyLock<Table> =
    LazyLock::new(|| Table::new(include_str!("../../crates/api/schema/v1.36.txt")).unwrap());

fn pod() -> &'static Schema {
    TABLE.kind(&GroupVersionKind::of("", "v1", "Pod")).unwrap()
}

fn run(object: &str, patch: &str) {
    let (Ok(object), Ok(patch)) =
        (serde_json::from_str::<Value>(object), serde_json::from_str::<Value>(patch))
    else {
        return;
    };
    let mut found = object.clone();
    if json::apply(&mut found, &patch).is_err() {
        assert_eq!(found, object);
    }
    let mut once = object.clone();
    merge::apply(&mut once, &patch);
    let mut twice = once.clone();
    merge::apply(&mut twice, &patch);
    assert_eq!(once, twice);
    let mut found = object;
    let _ = strategic::apply(&mut found, patch, pod());
}

// Two documents, one a line: so that seeds can be written by hand.
libfuzzer_sys::fuzz_target!(|text: &str| {
    let Some((object, patch)) = text.split_once('\n') else { return };
    LazyLock::force(&TABLE);
    fuzz::bounded(text.len(), || run(object, patch));
});
