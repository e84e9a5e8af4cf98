//! What conforms once conforms for ever; a schema that is accepted renders as one that is accepted; any object is
//! pruned, defaulted and validated.

#![no_main]

use std::sync::LazyLock;

use apimachinery::field::Path;
use apimachinery::gvk::GroupVersionKind;
use apimachinery::schema::table::Table;
use apimachinery::schema::{OpenApi, Schema};
use serde_json::Value;

static TABLE: LazyLock<Table> =
    LazyLock::new(|| Table::new(include_str!("../../crates/api/schema/v1.36.txt")).unwrap());

fn pod() -> &'static Schema {
    TABLE.kind(&GroupVersionKind::of("", "v1", "Pod")).unwrap()
}

fn run(object: &str, schema: &str) {
    let (Ok(object), Ok(schema)) =
        (serde_json::from_str::<Value>(object), serde_json::from_str::<Value>(schema))
    else {
        return;
    };
    let mut once = object.clone();
    if pod().conform(&mut once).is_ok() {
        let mut twice = once.clone();
        assert!(pod().conform(&mut twice).is_ok_and(|done| done.unknown.is_empty()));
        assert_eq!(once, twice);
    }
    let path = Path::new("schema");
    let Ok(schema) = Schema::from_crd(&schema, None, &path) else { return };
    assert!(Schema::from_crd(&schema.to_openapi(OpenApi::V3), None, &path).is_ok());
    let mut pruned = object;
    schema.prune(&mut pruned);
    assert!(schema.unknown_fields(&pruned).is_empty());
    schema.prune_nulls(&mut pruned);
    schema.apply_defaults(&mut pruned);
    let _ = schema.validate(&pruned, None, &Path::empty());
}

// Two documents, one a line: so that seeds can be written by hand.
libfuzzer_sys::fuzz_target!(|text: &str| {
    let Some((object, schema)) = text.split_once('\n') else { return };
    LazyLock::force(&TABLE);
    fuzz::bounded(text.len(), || run(object, schema));
});
