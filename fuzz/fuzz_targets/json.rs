//! Reading JSON while noticing repeated keys gives the tree that a plain reader gives, or refuses where it refuses.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let expected: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    fuzz::bounded(bytes.len(), || {
        let found = apimachinery::json::parse(bytes).ok();
        assert_eq!(found.map(|parsed| parsed.tree), expected);
    });
});
