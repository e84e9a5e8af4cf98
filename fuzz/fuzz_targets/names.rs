//! Images' names in their canonical form read back as the same; files of credentials are read or refused, and looked through.

#![no_main]

use images::{Keyring, Reference};

libfuzzer_sys::fuzz_target!(|input: (&str, &[u8])| {
    let (name, file) = input;
    let mut keyring = Keyring::default();
    let _ = keyring.add_config_json(file);
    let _ = keyring.add_dockercfg(file);
    if let Ok(reference) = name.parse::<Reference>() {
        assert_eq!(reference.to_string().parse(), Ok(reference.clone()));
        keyring.lookup(&reference);
    }
});
