//! The committed manifests are what the types say.

use api::monoplane::{CRD_MANIFESTS, crds};

/// Set this to rewrite the manifests instead of comparing them.
const REWRITE: &str = "MONOPLANE_WRITE_CONTRACTS";

#[test]
fn manifests_are_what_the_types_say() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/crds");
    let definitions = crds();
    assert_eq!(definitions.len(), CRD_MANIFESTS.len());
    for (definition, committed) in definitions.iter().zip(CRD_MANIFESTS) {
        let name = definition.metadata.name.as_deref().unwrap();
        let text = format!("# Made from crates/api/src/monoplane; do not edit.\n{}", serde_yaml_ng::to_string(definition).unwrap());
        if std::env::var_os(REWRITE).is_some() {
            std::fs::write(format!("{folder}/{name}.yaml"), text).unwrap();
        } else {
            assert_eq!(&text, committed, "run this test with {REWRITE}=1 to bring contracts/crds/{name}.yaml up to date");
        }
    }
}
