//! The authorizers as a server uses them: the index against a naive reading of the rules, the bootstrap policy by what
//! it lets each identity do, and the node authorizer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bootstrap;
mod edge;
mod model;
mod node;

use auth::{Attributes, Resource, Target, UserInfo};

/// A user of these groups.
fn user(name: &str, groups: &[&str]) -> UserInfo {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    UserInfo { name: name.to_owned(), groups, ..UserInfo::default() }.authenticated()
}

/// A request written as `VERB GROUP/RESOURCE[/SUBRESOURCE] NAMESPACE NAME`, `-` for nothing, or `VERB path:/path`.
fn request<'a>(user: &'a UserInfo, text: &'a str) -> Attributes<'a> {
    let words: Vec<&str> = text.split(' ').map(|word| if word == "-" { "" } else { word }).collect();
    let target = match words[1].strip_prefix("path:") {
        Some(path) => Target::Path(path),
        None => {
            let mut parts = words[1].splitn(3, '/');
            let mut part = || parts.next().unwrap_or_default();
            let (group, resource, subresource) = (part(), part(), part());
            Target::Resource(Resource {
                group,
                version: "v1",
                resource,
                subresource,
                namespace: words.get(2).copied().unwrap_or_default(),
                name: words.get(3).copied().unwrap_or_default(),
                field_selector: words.get(4).copied().unwrap_or_default(),
            })
        }
    };
    Attributes { user, verb: words[0], target }
}
