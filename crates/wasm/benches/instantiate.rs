//! Placeholder until the host stands.
fn main() {}
