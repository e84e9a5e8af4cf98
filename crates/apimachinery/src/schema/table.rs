//! Many definitions in a compact text, parsed one at a time when first used.
//!
//! ```text
//! package io.k8s.api.core.v1
//! :ConfigMap /v1/ConfigMap
//! binaryData {y
//! data {s
//! immutable b
//! metadata @io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta
//! :PodSpec
//! containers [@Container ! map=name merge key=name
//! ```
//!
//! A line `package` names the prefix of the definitions that follow; a line `:Name` begins one, with the kinds that it
//! is (`group/version/Kind`) and, where it is no object with fields, `=` and its type; any other line is a field, its type
//! and its marks. Types: `s` text, `i` int32, `l` int64, `n` number, `b` boolean, `y` base64 bytes, `t` time, `u` time
//! to the microsecond, `q` quantity, `x` int or text, `j` any JSON, `r` an object of unknown fields, `[T` a list, `{T` a map, `@Name` another
//! definition (of the same package, if it has no dot). Marks: `!` required, `set`, `atomic`, `map=a,b` list types,
//! `merge`, `replace`, `retain`, `key=name` patch strategies.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::{ListType, MapType, PatchStrategy, Property, Ref, Schema, Type};
use crate::gvk::GroupVersionKind;

/// The text does not follow the table's grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schema table, line {line}: {what}")]
pub struct TableError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

/// Definitions by name and by kind. Lives as long as the program, since definitions refer to each other in circles.
#[derive(Default)]
pub struct Table {
    definitions: Vec<Definition>,
    by_name: HashMap<&'static str, HashMap<&'static str, u32>>,
    by_kind: HashMap<(&'static str, &'static str, &'static str), u32>,
    /// Nodes without anything of their own, by their letter: most fields are one of these and need no copy.
    plain: [OnceLock<Arc<Schema>>; 26],
}

struct Definition {
    package: &'static str,
    name: &'static str,
    full_name: OnceLock<String>,
    /// The type after `=`, if the definition is no object with fields.
    alias: Option<&'static str>,
    marks: Vec<&'static str>,
    body: &'static str,
    schema: OnceLock<Schema>,
}

static UNKNOWN: Schema = Schema {
    name: Cow::Borrowed(""),
    kind: Type::Any,
    format: Cow::Borrowed(""),
    properties: Vec::new(),
    items: None,
    additional: None,
    required: Vec::new(),
    preserve_unknown: true,
    embedded_resource: false,
    nullable: false,
    list_type: None,
    list_map_keys: Vec::new(),
    map_type: None,
    rules: None,
};

impl Table {
    /// Indexes the text. Definitions are parsed later, one by one.
    ///
    /// # Errors
    /// When a definition stands outside a package or is there twice.
    pub fn new(text: &'static str) -> Result<Self, TableError> {
        let mut table = Self::default();
        let mut package = "";
        let mut offset = 0;
        let mut body_start = 0;
        for (number, line) in text.split_inclusive('\n').enumerate() {
            let fail = |what: &str| TableError { line: number + 1, what: what.to_owned() };
            let start = offset;
            offset += line.len();
            let line = line.trim_end();
            let header = line.strip_prefix(':');
            let named = line.strip_prefix("package ");
            if header.is_none() && named.is_none() {
                continue;
            }
            table.close(text.get(body_start..start).unwrap_or_default());
            body_start = offset;
            if let Some(named) = named {
                package = named;
            } else if let Some(header) = header {
                if package.is_empty() {
                    return Err(fail("a definition outside a package"));
                }
                table.open(package, header).map_err(|what| fail(&what))?;
            }
        }
        table.close(text.get(body_start..).unwrap_or_default());
        Ok(table)
    }

    fn open(&mut self, package: &'static str, header: &'static str) -> Result<(), String> {
        let mut words = header.split(' ');
        let name = words.next().unwrap_or_default();
        let index = u32::try_from(self.definitions.len()).map_err(|_| "too many definitions".to_owned())?;
        let mut alias = None;
        let mut marks = Vec::new();
        for word in words {
            if let Some(kind) = word.strip_prefix('=') {
                alias = Some(kind);
            } else if let Some((group, version, kind)) = split_kind(word) {
                self.by_kind.insert((group, version, kind), index);
            } else {
                marks.push(word);
            }
        }
        if self.by_name.entry(package).or_default().insert(name, index).is_some() {
            return Err(format!("{package}.{name} is defined twice"));
        }
        let (full_name, schema) = (OnceLock::new(), OnceLock::new());
        self.definitions.push(Definition { package, name, full_name, alias, marks, body: "", schema });
        Ok(())
    }

    fn close(&mut self, body: &'static str) {
        if let Some(last) = self.definitions.last_mut().filter(|last| last.body.is_empty()) {
            last.body = body;
        }
    }

    /// The schema of a kind.
    pub fn kind(&'static self, gvk: &GroupVersionKind) -> Option<&'static Schema> {
        self.kind_ref(gvk).map(|found| match found {
            Ref::Named { index, .. } => self.at(index),
            Ref::Inline(_) => &UNKNOWN,
        })
    }

    /// A reference to the schema of a kind.
    pub fn kind_ref(&'static self, gvk: &GroupVersionKind) -> Option<Ref> {
        // The map's keys live for ever, the question's do not; a map of tuples of `&str` cannot be asked with shorter
        // lives unless the lives of its keys shrink, which a shared borrow does.
        let by_kind: &HashMap<(&str, &str, &str), u32> = &self.by_kind;
        let index = *by_kind.get(&(gvk.group.as_ref(), gvk.version.as_ref(), gvk.kind.as_ref()))?;
        Some(Ref::Named { table: self, index })
    }

    /// A reference to the definition of that full name.
    pub fn definition(&'static self, name: &str) -> Option<Ref> {
        let (package, name) = name.rsplit_once('.')?;
        self.find(package, name).map(|index| Ref::Named { table: self, index })
    }

    /// Every kind with its definition.
    pub fn kinds(&'static self) -> impl Iterator<Item = (GroupVersionKind, Ref)> {
        self.by_kind.iter().map(move |((group, version, kind), index)| {
            (GroupVersionKind::of(group, version, kind), Ref::Named { table: self, index: *index })
        })
    }

    /// Every definition, in the order of the text.
    pub fn definitions(&'static self) -> impl Iterator<Item = Ref> {
        (0u32..).zip(&self.definitions).map(move |(index, _)| Ref::Named { table: self, index })
    }

    /// The full name of a definition.
    pub fn name(&'static self, index: u32) -> Option<&'static str> {
        let definition = self.definitions.get(index as usize)?;
        Some(definition.full_name.get_or_init(|| format!("{}.{}", definition.package, definition.name)))
    }

    pub(super) fn at(&'static self, index: u32) -> &'static Schema {
        let Some(definition) = self.definitions.get(index as usize) else { return &UNKNOWN };
        definition.schema.get_or_init(|| self.parse(index, definition))
    }

    fn find(&self, package: &str, name: &str) -> Option<u32> {
        let by_name: &HashMap<&str, HashMap<&str, u32>> = &self.by_name;
        let names: &HashMap<&str, u32> = by_name.get(package)?;
        names.get(name).copied()
    }

    fn parse(&'static self, index: u32, definition: &Definition) -> Schema {
        let mut schema = match definition.alias {
            Some(kind) => self.parse_type(definition.package, kind),
            None => Schema { kind: Type::Object, ..Schema::default() },
        };
        schema.name = Cow::Borrowed(self.name(index).unwrap_or_default());
        if definition.marks.contains(&"atomic") {
            schema.map_type = Some(MapType::Atomic);
        }
        for line in definition.body.lines() {
            let mut words = line.split(' ');
            let (Some(name), Some(kind)) = (words.next(), words.next()) else { continue };
            let (property, required) = self.parse_property(definition.package, name, kind, words);
            if required {
                schema.required.push(Cow::Borrowed(name));
            }
            schema.properties.push(property);
        }
        schema.properties.sort_by(|a, b| a.name.cmp(&b.name));
        schema
    }

    fn parse_property(
        &'static self,
        package: &'static str,
        name: &'static str,
        kind: &'static str,
        marks: impl Iterator<Item = &'static str>,
    ) -> (Property, bool) {
        let mut patch = PatchStrategy::default();
        let mut required = false;
        let mut list_type = None;
        let mut keys = Vec::new();
        for mark in marks {
            match mark {
                "!" => required = true,
                "merge" => patch.merge = true,
                "replace" => patch.replace = true,
                "retain" => patch.retain_keys = true,
                "set" => list_type = Some(ListType::Set),
                "atomic" => list_type = Some(ListType::Atomic),
                _ => match mark.split_once('=') {
                    Some(("key", key)) => patch.merge_key = Some(Cow::Borrowed(key)),
                    Some(("map", names)) => {
                        list_type = Some(ListType::Map);
                        keys = names.split(',').map(Cow::Borrowed).collect();
                    }
                    _ => {}
                },
            }
        }
        let atomic = list_type == Some(ListType::Atomic);
        let mut schema = self.parse_ref(package, kind);
        match &mut schema {
            Ref::Inline(node) if node.kind == Type::Array => {
                let node = Arc::make_mut(node);
                node.list_type = list_type;
                node.list_map_keys = keys;
            }
            Ref::Inline(node) if atomic && node.kind == Type::Object => {
                Arc::make_mut(node).map_type = Some(MapType::Atomic);
            }
            _ => {}
        }
        (Property { name: Cow::Borrowed(name), patch, atomic, schema }, required)
    }

    fn parse_ref(&'static self, package: &'static str, kind: &'static str) -> Ref {
        if let Some(name) = kind.strip_prefix('@') {
            let (package, name) = name.rsplit_once('.').unwrap_or((package, name));
            if let Some(index) = self.find(package, name) {
                return Ref::Named { table: self, index };
            }
        }
        let shared = match kind.as_bytes() {
            [letter @ b'a'..=b'z'] => self.plain.get(usize::from(letter - b'a')),
            _ => None,
        };
        match shared {
            Some(shared) => {
                Ref::Inline(shared.get_or_init(|| Arc::new(self.parse_type(package, kind))).clone())
            }
            None => self.parse_type(package, kind).into(),
        }
    }

    fn parse_type(&'static self, package: &'static str, kind: &'static str) -> Schema {
        let of = |kind: Type, format: &'static str| Schema {
            kind,
            format: Cow::Borrowed(format),
            ..Schema::default()
        };
        match kind.split_at_checked(1).unwrap_or_default() {
            ("[", inner) => Schema { items: Some(self.parse_ref(package, inner)), ..of(Type::Array, "") },
            ("{", inner) => {
                Schema { additional: Some(self.parse_ref(package, inner)), ..of(Type::Object, "") }
            }
            ("s", _) => of(Type::String, ""),
            ("i", _) => of(Type::Integer, "int32"),
            ("l", _) => of(Type::Integer, "int64"),
            ("n", _) => of(Type::Number, "double"),
            ("b", _) => of(Type::Boolean, ""),
            ("y", _) => of(Type::String, "byte"),
            ("t", _) => of(Type::String, "date-time"),
            ("u", _) => of(Type::String, "micro-time"),
            ("q", _) => of(Type::Any, "quantity"),
            ("x", _) => of(Type::IntOrString, "int-or-string"),
            ("r", _) => Schema { preserve_unknown: true, ..of(Type::Object, "") },
            _ => UNKNOWN.clone(),
        }
    }
}

fn split_kind(word: &'static str) -> Option<(&'static str, &'static str, &'static str)> {
    let (rest, kind) = word.rsplit_once('/')?;
    let (group, version) = rest.split_once('/')?;
    Some((group, version, kind))
}
