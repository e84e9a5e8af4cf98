//! The canonical form of a selector reads back as the same selector.

#![no_main]

use apimachinery::selector::{FieldSelector, Selector};

fn run(text: &str) {
    if let Ok(selector) = Selector::parse(text) {
        assert_eq!(Selector::parse(&selector.to_string()).as_ref(), Ok(&selector));
        selector.matches_with(|_| Some("x"));
    }
    if let Ok(selector) = FieldSelector::parse(text) {
        assert_eq!(FieldSelector::parse(&selector.to_string()), Ok(selector));
    }
}

libfuzzer_sys::fuzz_target!(|text: &str| fuzz::bounded(text.len(), || run(text)));
