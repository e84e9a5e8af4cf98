//! The field that a rule says is at fault: `.spec.replicas`, `.metadata['a.b']`.

use apimachinery::schema::{Ref, Schema};

/// The path as errors write it, if it leads to something that the schema knows.
///
/// # Errors
/// What is wrong with it, in upstream's words.
pub(super) fn normalize(path: &str, schema: &Schema) -> Result<String, String> {
    find(path, schema).map(|node| node.path)
}

/// What the schema has at the path.
///
/// # Errors
/// As for [`normalize`].
pub(crate) fn find<'s>(path: &str, schema: &'s Schema) -> Result<Node<'s>, String> {
    let mut tokens = Tokens(path);
    let mut node = Node { schema, path: String::new() };
    while let Some(token) = tokens.next() {
        match token {
            "." => {
                let name = tokens.next().ok_or("unexpected end of JSON path")?;
                node = node.step(name)?;
            }
            "[" => {
                let quoted = tokens.next().ok_or("unexpected end of JSON path")?;
                let name = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                let name = name.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                node = node.step(&unescape(name)?)?;
                match tokens.next() {
                    Some("]") => {}
                    Some(other) => return Err(format!("expected ] but got {other}")),
                    None => return Err("unexpected end of JSON path".to_owned()),
                }
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        }
    }
    Ok(node)
}

/// A place in a schema.
pub(crate) struct Node<'s> {
    /// What may stand there.
    pub(crate) schema: &'s Schema,
    /// The path that leads there, as errors write it.
    pub(crate) path: String,
}

impl<'s> Node<'s> {
    fn step(self, name: &str) -> Result<Node<'s>, String> {
        let unknown = || "does not refer to a valid field".to_owned();
        let Node { schema, mut path } = self;
        if schema.properties.is_empty() {
            let values = schema.additional.as_ref().map(Ref::get).ok_or_else(unknown)?;
            return Ok(Node { schema: values, path: format!("{path}[{name}]") });
        }
        let property = schema.property(name).ok_or_else(unknown)?;
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(name);
        Ok(Node { schema: property.schema.get(), path })
    }
}

/// Delimiters, quoted texts, and what is between.
struct Tokens<'t>(&'t str);

impl<'t> Iterator for Tokens<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        let first = self.0.chars().next()?;
        let end = if first == '\'' {
            let mut before = '\'';
            let closing = self.0.char_indices().skip(1).find(|(_, character)| {
                let closes = *character == '\'' && before != '\\';
                before = *character;
                closes
            });
            closing.map_or(self.0.len(), |(at, _)| at + 1)
        } else if ['.', '[', ']'].contains(&first) {
            1
        } else {
            self.0.find(['.', '[', ']']).unwrap_or(self.0.len())
        };
        let (token, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        Some(token)
    }
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        out.push(match characters.next() {
            Some('a') => '\u{7}',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\u{b}',
            Some('\'') => '\'',
            Some('\\') => '\\',
            other => {
                let other = other.map(String::from).unwrap_or_default();
                return Err(format!("invalid string literal: invalid escape char \\{other}"));
            }
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use apimachinery::field::Path;
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_fields() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "a.b": {"type": "string"}, "m": {"type": "object", "additionalProperties": {"type": "string"}}}}}});
        let schema = Schema::from_crd(&schema, None, &Path::empty()).unwrap();
        let check = |path: &str, expected: Result<&str, &str>| {
            let found = normalize(path, &schema);
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{path}");
        };
        check(".spec", Ok("spec"));
        check(".spec['a.b']", Ok("spec.a.b"));
        check(".spec.m['x']", Ok("spec.m[x]"));
        check(".spec.m.x", Ok("spec.m[x]"));
        check("spec", Err("expected [ or . but got: spec"));
        check(".nothing", Err("does not refer to a valid field"));
        check(".spec[0]", Err("expected single quoted string but got 0"));
        check(".spec['a.b'", Err("unexpected end of JSON path"));
        check(".", Err("unexpected end of JSON path"));
        check(".spec['\\q']", Err("invalid string literal: invalid escape char \\q"));
    }
}
