//! `get`: shows objects.

use std::io::Write;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use client::Client;
use serde_json::{Value, json};

use crate::kinds::{Kind, Kinds};
use crate::request::{self, TABLE};
use crate::table;

/// How to show objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// The server's table
    #[default]
    Table,
    /// The table with all its columns
    Wide,
    /// YAML
    Yaml,
    /// JSON
    Json,
    /// One `kind/name` a line
    Name,
}

/// Flags of `get`.
#[derive(Clone, Debug, Args)]
pub struct Get {
    /// A kind and names (`pods web-1`), several kinds (`deploy,rs`), or `kind/name`
    #[arg(required = true, value_name = "KIND [NAME…]")]
    pub what: Vec<String>,
    /// Namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// All namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only objects with these labels
    #[arg(short = 'l', long, default_value = "")]
    pub selector: String,
    /// How to show them
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// One thing to fetch.
pub(crate) struct Target<'a> {
    pub(crate) kind: &'a Kind,
    pub(crate) name: Option<String>,
}

/// What the words mean: `kind/name …`, or kinds and then names.
pub(crate) fn targets<'a>(kinds: &'a Kinds, words: &[String]) -> Result<Vec<Target<'a>>> {
    let mut targets = Vec::new();
    if words.iter().any(|w| w.contains('/')) {
        for word in words {
            let Some((kind, name)) = word.split_once('/') else {
                bail!("{word:?}: either all arguments are kind/name, or none")
            };
            let name = request::path_segment(name)?.to_owned();
            targets
                .extend(kinds.named(kind)?.into_iter().map(|kind| Target { kind, name: Some(name.clone()) }));
        }
        return Ok(targets);
    }
    let Some((first, names)) = words.split_first() else { bail!("name a kind") };
    for word in first.split(',') {
        for kind in kinds.named(word)? {
            match names {
                [] => targets.push(Target { kind, name: None }),
                names => {
                    for name in names {
                        targets.push(Target { kind, name: Some(request::path_segment(name)?.to_owned()) });
                    }
                }
            }
        }
    }
    Ok(targets)
}

impl Get {
    /// Shows the objects on `out`.
    ///
    /// # Errors
    /// When a kind or an object is not there, or the server refuses.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        let kinds = Kinds::discover(client).await?;
        let targets = targets(&kinds, &self.what)?;
        let several = targets.len() > 1;
        let mut objects = Vec::new();
        let mut tables = 0;
        for target in targets {
            let namespace = (!self.all_namespaces).then_some(self.namespace.as_str());
            let mut path = target.kind.collection(namespace);
            if let Some(name) = &target.name {
                path = format!("{path}/{name}");
            } else if !self.selector.is_empty() {
                path += &request::query(&[("labelSelector", &self.selector)]);
            }
            if matches!(self.output, Output::Table | Output::Wide) {
                let answer = request::get(client, &path, TABLE).await?;
                let prefix = several.then(|| target.kind.qualified());
                if table::print(
                    &answer,
                    self.output == Output::Wide,
                    self.all_namespaces && target.kind.namespaced,
                    prefix,
                    tables > 0,
                    out,
                )? {
                    tables += 1;
                }
                continue;
            }
            let mut answer = request::get(client, &path, "application/json").await?;
            match answer["items"].take() {
                Value::Array(items) => objects.extend(items.into_iter().map(|item| typed(item, target.kind))),
                _ => objects.push(answer),
            }
        }
        self.print(objects, several, tables, out)
    }

    fn print(
        &self,
        mut objects: Vec<Value>,
        several: bool,
        tables: usize,
        out: &mut dyn Write,
    ) -> Result<()> {
        match self.output {
            Output::Table | Output::Wide if tables == 0 => writeln!(out, "No resources found")?,
            Output::Table | Output::Wide => {}
            Output::Name => {
                for object in &objects {
                    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
                    writeln!(out, "{kind}/{}", object["metadata"]["name"].as_str().unwrap_or_default())?;
                }
            }
            Output::Yaml | Output::Json => {
                // As kubectl: they are many, and seldom asked for.
                for metadata in objects.iter_mut().filter_map(|object| object["metadata"].as_object_mut()) {
                    metadata.remove("managedFields");
                }
                let single = objects.len() == 1
                    && !several
                    && self.what.iter().any(|w| w.contains('/')) | (self.what.len() > 1);
                let whole = match single.then(|| objects.pop()).flatten() {
                    Some(one) => one,
                    None => json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": objects}),
                };
                match self.output {
                    Output::Yaml => write!(out, "{}", serde_yaml_ng::to_string(&whole)?)?,
                    _ => writeln!(out, "{}", serde_json::to_string_pretty(&whole)?)?,
                }
            }
        }
        Ok(())
    }
}

/// Items of a list of built-in kinds come without their type.
fn typed(mut item: Value, kind: &Kind) -> Value {
    if item["kind"].is_null() {
        let version = if kind.group.is_empty() {
            kind.version.clone()
        } else {
            format!("{}/{}", kind.group, kind.version)
        };
        item["apiVersion"] = json!(version);
        item["kind"] = json!(kind.kind);
    }
    item
}
