//! Makes `protobuf/fields.txt`: the field numbers of Kubernetes' protobuf messages, and which fields Go holds behind a
//! pointer, read from the tags of upstream's Go types (names and numbers only; types come from the schemas that the
//! server decodes JSON with).
//!
//! `cargo run -p apiserver --example protobuf_fields -- K8S.IO/API K8S.IO/APIMACHINERY > crates/apiserver/protobuf/fields.txt`,
//! the arguments being the directories of those two modules in the version that `api::schemas` has.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

use std::path::{Path, PathBuf};

/// The packages of `k8s.io/api` whose kinds we serve or answer.
const PACKAGES: [&str; 19] = [
    "admissionregistration/v1",
    "apps/v1",
    "authentication/v1",
    "authorization/v1",
    "autoscaling/v1",
    "autoscaling/v2",
    "batch/v1",
    "certificates/v1",
    "coordination/v1",
    "core/v1",
    "discovery/v1",
    "events/v1",
    "networking/v1",
    "node/v1",
    "policy/v1",
    "rbac/v1",
    "resource/v1",
    "scheduling/v1",
    "storage/v1",
];
/// That of `k8s.io/apimachinery`.
const META: &str = "pkg/apis/meta/v1";

fn main() {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let (api, machinery) = (arguments.next().unwrap(), arguments.next().unwrap());
    println!("# Made by `cargo run -p apiserver --example protobuf_fields`; do not edit.");
    for package in PACKAGES {
        print_package(&format!("api/{package}"), &api.join(package));
    }
    print_package(&format!("apimachinery/{META}"), &machinery.join(META));
}

fn print_package(name: &str, directory: &Path) {
    println!("package io.k8s.{}", name.replace('/', "."));
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|end| end == "go")).collect();
    files.sort_unstable();
    for path in files {
        print_messages(&std::fs::read_to_string(path).unwrap());
    }
}

fn print_messages(text: &str) {
    let mut message = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("type ") {
            message = rest.split(' ').next().unwrap().to_owned();
        } else if let Some(field) = field(line.trim()) {
            message.push_str(&field);
        } else if line == "}" && message.contains('=') {
            println!("{}", std::mem::take(&mut message));
        }
    }
}

/// ` name=number`, with `?` behind it for a pointer and `:Message` for a message of the same package that Go embeds: JSON
/// shows that as part of this one.
fn field(line: &str) -> Option<String> {
    let (declared, tags) = line.split_once('`').filter(|_| !line.starts_with("//"))?;
    let tag = tags.split("protobuf:\"").nth(1)?.split('"').next()?;
    let number = tag.split(',').nth(1)?;
    let mut words = declared.split_whitespace();
    let (first, of) = (words.next()?, words.next());
    let name = tag.split(',').find_map(|part| part.strip_prefix("name=")).unwrap_or(first);
    let pointer = if of.unwrap_or(first).starts_with('*') { "?" } else { "" };
    let embedded = match of {
        None if !first.contains('.') => format!(":{}", first.trim_start_matches('*')),
        _ => String::new(),
    };
    Some(format!(" {}={number}{pointer}{embedded}", name.to_ascii_lowercase()))
}
