//! What can be linked, and what is said of what cannot.

use wasm::{ComponentSpec, DeployError};

use crate::fixture::Fixture;

async fn deploy(fixture: &Fixture, wat: &str, durable: bool) -> DeployError {
    let bytes = wat::parse_str(wat).unwrap();
    let mut spec = ComponentSpec::new(fixture.host.compile(bytes.into()).await.unwrap());
    spec.durable = durable;
    fixture.host.deploy("test/bad", spec).unwrap_err()
}

#[tokio::test]
async fn missing_imports_are_named() {
    let fixture = Fixture::new();
    let wat = r#"(component
        (import "wasi:io/poll@0.2.3" (instance))
        (import "acme:mail/send@1.0.0" (instance))
        (import "wasi:keyvalue/store@0.2.0-draft2" (instance)))"#;
    match deploy(&fixture, wat, false).await {
        DeployError::ImportsUnsatisfied { missing } => {
            assert_eq!(missing, ["acme:mail/send@1.0.0", "wasi:keyvalue/store@0.2.0-draft2"]);
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_function_that_nobody_decided_on_does_not_become_durable() {
    let fixture = Fixture::new();
    let wat = r#"(component
        (import "wasi:keyvalue/atomics@0.2.0-draft" (instance (export "decrement" (func)))))"#;
    match deploy(&fixture, wat, true).await {
        DeployError::Unclassified { interfaces } => {
            assert_eq!(interfaces, ["wasi:keyvalue/atomics@0.2.0-draft#decrement"]);
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_component_that_answers_no_http_is_refused() {
    let fixture = Fixture::new();
    let error = deploy(&fixture, "(component)", false).await;
    assert!(matches!(error, DeployError::NotHttp), "{error}");
}

#[tokio::test]
async fn a_component_that_begins_over_its_limit_is_refused() {
    let fixture = Fixture::new();
    let mut spec = fixture.spec("echo").await;
    spec.limits.memory = 64 << 10;
    let error = fixture.host.deploy("test/echo", spec).unwrap_err();
    assert!(matches!(error, DeployError::TooLarge(_)), "{error}");
}
