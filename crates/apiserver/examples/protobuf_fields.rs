//! Makes `protobuf/fields.txt`: the field numbers of Kubernetes' protobuf messages, read from the source of the crate
//! `k8s-pb` (names and numbers only; types come from the schemas that the server decodes JSON with).
//!
//! `cargo run -p apiserver --example protobuf_fields -- DIRECTORY-OF-K8S-PB > crates/apiserver/protobuf/fields.txt`

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

use std::path::{Path, PathBuf};

/// The packages whose kinds we serve or answer.
const PACKAGES: [&str; 12] = [
    "api/apps/v1",
    "api/authentication/v1",
    "api/authorization/v1",
    "api/autoscaling/v1",
    "api/coordination/v1",
    "api/core/v1",
    "api/discovery/v1",
    "api/events/v1",
    "api/node/v1",
    "api/policy/v1",
    "api/rbac/v1",
    "apimachinery/pkg/apis/meta/v1",
];

fn main() {
    let root = PathBuf::from(std::env::args().nth(1).unwrap());
    println!("# Made by `cargo run -p apiserver --example protobuf_fields`; do not edit.");
    for package in PACKAGES {
        println!("package io.k8s.{}", package.replace('/', "."));
        print_package(&root.join("src").join(package).join("mod.rs"));
    }
}

fn print_package(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines().map(str::trim);
    let mut message = String::new();
    let mut tag = None;
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("pub struct ") {
            message = rest.trim_end_matches(['{', ' ', ';', '}']).to_owned();
        } else if line.starts_with("#[prost(") {
            tag = line.split("tag = \"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
        } else if let (Some(number), Some(field)) = (tag.clone(), line.strip_prefix("pub ")) {
            let (name, mut of) = field.split_once(':').unwrap();
            if of.trim().is_empty() {
                of = lines.next().unwrap();
            }
            let name: String =
                name.trim_start_matches("r#").chars().filter(char::is_ascii_alphanumeric).collect();
            // A message of the same package, which JSON may show as part of this one.
            let inner = of.trim().trim_start_matches("::core::option::Option<").trim_end_matches([',', '>']);
            let of = if inner.chars().all(char::is_alphanumeric) && inner.starts_with(char::is_uppercase) {
                format!(":{inner}")
            } else {
                String::new()
            };
            message.push_str(&format!(" {}={number}{of}", name.to_lowercase()));
            tag = None;
        } else if line == "}" && message.contains('=') {
            println!("{}", std::mem::take(&mut message));
        }
    }
}
