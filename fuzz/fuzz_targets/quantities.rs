//! The canonical form of a quantity reads back as the same quantity.

#![no_main]

use apimachinery::quantity::Quantity;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(quantity) = text.parse::<Quantity>() {
        let canonical = quantity.to_string();
        assert!(quantity.is_written(&canonical));
        assert_eq!(canonical.parse(), Ok(quantity));
        let _ = (quantity.value(), quantity.milli_value(), quantity + quantity);
    }
});
