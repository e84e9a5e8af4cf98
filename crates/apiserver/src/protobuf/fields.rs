//! Field numbers, message by message.

use std::collections::HashMap;
use std::sync::LazyLock;

const TEXT: &str = include_str!("../../protobuf/fields.txt");

/// A message's fields by number.
#[derive(Debug, Default)]
pub(super) struct Message {
    package: &'static str,
    fields: Vec<Field>,
}

/// A field.
#[derive(Debug)]
pub(super) struct Field {
    number: u64,
    /// Its name in lower case, without separators.
    pub(super) name: &'static str,
    /// Go holds it behind a pointer, so whatever is written was meant, if it is empty or zero too.
    pub(super) is_pointer: bool,
    /// The message of the same package that it holds, if it does.
    of: Option<&'static str>,
}

impl Message {
    /// The field of that number.
    pub(super) fn field(&self, number: u64) -> Option<&Field> {
        self.fields.iter().find(|field| field.number == number)
    }

    /// The message that the field holds, where it is one of the same package.
    pub(super) fn inner(&self, field: &Field) -> Option<&'static Message> {
        of(&format!("{}.{}", self.package, field.of?))
    }
}

/// The message of that full name (`io.k8s.api.core.v1.HTTPGetAction`), in whatever case: the list knows `HttpGetAction`.
pub(super) fn of(name: &str) -> Option<&'static Message> {
    static MESSAGES: LazyLock<HashMap<String, Message>> = LazyLock::new(parse);
    MESSAGES.get(&name.to_ascii_lowercase())
}

fn parse() -> HashMap<String, Message> {
    let mut messages = HashMap::new();
    let mut package = "";
    for line in TEXT.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("package ") {
            package = name;
            continue;
        }
        let mut words = line.split(' ');
        let Some(name) = words.next() else { continue };
        messages.insert(
            format!("{package}.{name}").to_ascii_lowercase(),
            Message { package, fields: words.filter_map(field).collect() },
        );
    }
    messages
}

fn field(word: &'static str) -> Option<Field> {
    let (name, rest) = word.split_once('=')?;
    let (number, of) = match rest.split_once(':') {
        Some((number, of)) => (number, Some(of)),
        None => (rest, None),
    };
    let pointer = number.strip_suffix('?');
    Some(Field { number: pointer.unwrap_or(number).parse().ok()?, name, is_pointer: pointer.is_some(), of })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read() {
        let messages = parse();
        assert!(messages.len() > 350, "{}", messages.len());
        assert!(messages.values().all(|message| !message.fields.is_empty()));
        let volume = of("io.k8s.api.core.v1.Volume").unwrap();
        let source = volume.inner(volume.field(2).unwrap()).unwrap();
        assert_eq!(source.field(2).unwrap().name, "emptydir");
        let rolling = of("io.k8s.api.apps.v1.RollingUpdateDeployment").unwrap();
        assert!(rolling.field(1).unwrap().is_pointer);
        let port = of("io.k8s.api.core.v1.ServicePort").unwrap();
        assert!(!port.field(4).unwrap().is_pointer);
    }
}
