//! The JSONPath of printer columns, scale and selectable fields: fields, indexes, `[*]`, `['a.b']` and filters such as
//! `[?(@.type=="Ready")]`.

use serde_json::Value;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// Items whose value at the path compares to the literal, or where something is at the path at all.
    Filter {
        path: Vec<String>,
        test: Option<(Test, Value)>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

const TESTS: [(&str, Test); 6] = [
    ("==", Test::Equal),
    ("!=", Test::NotEqual),
    ("<=", Test::LessOrEqual),
    (">=", Test::GreaterOrEqual),
    ("<", Test::Less),
    (">", Test::Greater),
];

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JsonPath(Vec<Step>);

/// The text is no path that is understood here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct JsonPathError(String);

fn fail<T>(why: impl Into<String>) -> Result<T, JsonPathError> {
    Err(JsonPathError(why.into()))
}

impl JsonPath {
    /// Reads `.a.b`, with or without `$` or braces around it.
    pub(crate) fn parse(text: &str) -> Result<Self, JsonPathError> {
        let text = text.trim();
        let text = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            rest = if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                match &after[..end] {
                    "" if after.starts_with('[') => {}
                    "" => return fail(format!("unexpected end of path in {text:?}")),
                    "*" => steps.push(Step::All),
                    name if name.contains([']', '(', ')', '\'', '"', ' ']) => {
                        return fail(format!("unexpected character in {name:?}"));
                    }
                    name => steps.push(Step::Field(name.replace("\\.", "."))),
                }
                &after[end..]
            } else if let Some(after) = rest.strip_prefix('[') {
                let end =
                    closing(after).ok_or_else(|| JsonPathError(format!("unterminated array in {text:?}")))?;
                steps.push(bracket(&after[..end])?);
                &after[end + 1..]
            } else if steps.is_empty() {
                return fail(format!("path {text:?} must begin with a dot"));
            } else {
                return fail(format!("unexpected {rest:?} in {text:?}"));
            };
        }
        Ok(Self(steps))
    }

    /// Everything that the path finds, in order.
    pub(crate) fn find<'a>(&self, tree: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![tree];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.apply(value)).collect();
        }
        found
    }

    /// The path as names of fields, if it is nothing more.
    pub(crate) fn fields(&self) -> Option<Vec<String>> {
        let name = |step: &Step| match step {
            Step::Field(name) => Some(name.clone()),
            _ => None,
        };
        self.0.iter().map(name).collect()
    }
}

/// Offset of the bracket that closes; quoted ones do not count.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Result<Step, JsonPathError> {
    let inner = inner.trim();
    if inner == "*" {
        return Ok(Step::All);
    }
    if let Some(name) = unquoted(inner) {
        return Ok(Step::Field(name.to_owned()));
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        return parse_filter(filter.trim());
    }
    match inner.parse() {
        Ok(index) => Ok(Step::Index(index)),
        Err(_) => fail(format!("invalid array index {inner}")),
    }
}

fn unquoted(text: &str) -> Option<&str> {
    let inner = |quote: char| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inner('\'').or_else(|| inner('"'))
}

fn parse_filter(text: &str) -> Result<Step, JsonPathError> {
    let Some(rest) = text.strip_prefix('@') else { return fail(format!("unrecognized filter {text:?}")) };
    let split = TESTS.iter().filter_map(|(sign, test)| Some((rest.find(sign)?, *sign, *test)));
    // The leftmost operator, and of those that begin there the longest (they are listed first).
    let first = split.min_by_key(|(at, ..)| *at);
    let (path, test) = match first {
        Some((at, sign, test)) => {
            let literal = rest[at + sign.len()..].trim();
            let value = match unquoted(literal) {
                Some(text) => Value::from(text),
                None => serde_json::from_str(literal)
                    .or_else(|_| fail(format!("unrecognized value {literal:?}")))?,
            };
            (&rest[..at], Some((test, value)))
        }
        None => (rest, None),
    };
    let path = JsonPath::parse(path.trim())?.fields();
    let path = path.ok_or_else(|| JsonPathError(format!("unrecognized filter {text:?}")))?;
    Ok(Step::Filter { path, test })
}

impl Step {
    fn apply<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Step::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
            (Step::Index(index), Value::Array(items)) => {
                let from_end = || items.len().checked_sub(usize::try_from(index.unsigned_abs()).ok()?);
                let at = usize::try_from(*index).ok().or_else(from_end);
                at.and_then(|at| items.get(at)).into_iter().collect()
            }
            (Step::All, Value::Array(items)) => items.iter().collect(),
            (Step::All, Value::Object(map)) => map.values().collect(),
            (Step::Filter { path, test }, Value::Array(items)) => {
                items.iter().filter(|item| passes(item, path, test.as_ref())).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn passes(item: &Value, path: &[String], test: Option<&(Test, Value)>) -> bool {
    let Some(found) = path.iter().try_fold(item, |value, name| value.get(name.as_str())) else {
        return false;
    };
    let Some((test, wanted)) = test else { return true };
    let order = match (found, wanted) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    };
    match test {
        Test::Equal => found == wanted || order.is_some_and(|order| order.is_eq()),
        Test::NotEqual => found != wanted && order.is_none_or(|order| order.is_ne()),
        Test::Less => order.is_some_and(|order| order.is_lt()),
        Test::LessOrEqual => order.is_some_and(|order| order.is_le()),
        Test::Greater => order.is_some_and(|order| order.is_gt()),
        Test::GreaterOrEqual => order.is_some_and(|order| order.is_ge()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_find_what_they_say() {
        let tree = json!({
            "spec": {"replicas": 3, "a.b": "dotted", "list": [1, 2, 3]},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "n": 1},
                {"type": "Other", "status": "False", "n": 2},
            ]},
        });
        let check = |path: &str, expected: Value| {
            let parsed = JsonPath::parse(path).unwrap();
            assert_eq!(json!(parsed.find(&tree)), expected, "{path}");
        };
        check(".spec.replicas", json!([3]));
        check("$.spec.replicas", json!([3]));
        check("{.spec.replicas}", json!([3]));
        check(".spec['a.b']", json!(["dotted"]));
        check(".spec.list[0]", json!([1]));
        check(".spec.list[-1]", json!([3]));
        check(".spec.list[9]", json!([]));
        check(".spec.list[*]", json!([1, 2, 3]));
        check(r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"]));
        check(".status.conditions[?(@.type == 'Ready')].status", json!(["True"]));
        check(".status.conditions[?(@.type!='Ready')].status", json!(["False"]));
        check(".status.conditions[?(@.n>=2)].type", json!(["Other"]));
        check(".status.conditions[?(@.n)].type", json!(["Ready", "Other"]));
        check(".status.nothing", json!([]));
    }

    #[test]
    fn malformed_paths_are_refused() {
        for bad in ["spec", ".", ".a[", ".a[x]", ".a[?(type)]", ".a[?(@.b==)]", ".a..b", ".a]"] {
            assert!(JsonPath::parse(bad).is_err(), "{bad}");
        }
    }
}
