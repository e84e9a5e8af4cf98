//! Regular expressions: `matches`, `find`, `findAll`. They run in linear time; their size is bounded.

use std::sync::Arc;

use apimachinery::regexp;

use super::{Decl, decl, no_overload};
use crate::context::Context;
use crate::cost::Cost;
use crate::error::EvalError;
use crate::value::{Outcome, Value, size};

pub(super) const TABLE: &[Decl] = &[
    decl(
        "matches",
        Cost::Matches,
        matches,
        &[("matches", "(string, string) -> bool"), ("matches_string", "string.(string) -> bool")],
    ),
    decl("find", Cost::Find, find, &[("string_find_string", "string.(string) -> string")]),
    decl(
        "findAll",
        Cost::Find,
        find_all,
        &[
            ("string_find_all_string", "string.(string) -> list(string)"),
            ("string_find_all_string_int", "string.(string, int) -> list(string)"),
        ],
    ),
];

/// Most bytes of a compiled expression.
const MAX_COMPILED: usize = 1 << 17;
/// Most repetitions that one operator may ask for, as in the reference implementation.
const MAX_REPEAT: u64 = 1_000;

/// A compiled expression. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    text: Arc<str>,
    regex: regex::Regex,
    /// About how many states a match may be in.
    states: u64,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Result<Self, EvalError> {
        let states = states(text);
        match regexp::compile(text, MAX_COMPILED) {
            Ok(regex) => Ok(Self { text: text.into(), regex, states }),
            Err(error) => Err(EvalError::new(format!("error parsing regexp: {}", one_line(&error)))),
        }
    }

    /// The steps that compiling takes at most.
    pub(crate) fn compile_steps(text: &str) -> u64 {
        20_000 + states(text).saturating_mul(400).min(3_000_000)
    }

    /// Counts the steps of going through a text.
    fn scan(&self, context: &mut Context, text: &str) -> Result<(), EvalError> {
        // A search begins with its states, however short the text is.
        let begin = 300 + self.states.saturating_mul(6);
        context.work(begin.saturating_add(size(text.len()).saturating_mul(self.states) / 16))
    }
}

/// The last line of the library's message says what is wrong; the others show where.
fn one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// About how many states an expression has: its characters, those of repeated groups as often as they are repeated.
pub(crate) fn states(text: &str) -> u64 {
    let mut groups: Vec<u64> = vec![0];
    let mut last: u64 = 0;
    let mut characters = text.chars().peekable();
    let add = |groups: &mut Vec<u64>, weight: u64| {
        if let Some(top) = groups.last_mut() {
            *top = top.saturating_add(weight);
        }
    };
    while let Some(character) = characters.next() {
        match character {
            '(' => {
                groups.push(0);
                last = 0;
            }
            ')' if groups.len() > 1 => {
                last = groups.pop().unwrap_or_default();
                add(&mut groups, last);
            }
            '{' => {
                let inner: String = characters.by_ref().take_while(|next| *next != '}').take(16).collect();
                let numbers = inner.split(',').filter_map(|number| number.trim().parse::<u64>().ok());
                let most = numbers.max().unwrap_or(1).clamp(1, MAX_REPEAT);
                add(&mut groups, last.saturating_mul(most - 1));
                last = last.saturating_mul(most);
            }
            _ => {
                // A class of many characters, `\w` or `[^a]`, takes several states.
                last = if character == '\\' || character == '[' || character == '.' { 4 } else { 1 };
                add(&mut groups, last);
            }
        }
    }
    groups.iter().fold(1, |sum, weight| sum.saturating_add(*weight))
}

/// The expressions of one evaluation. Few: those that the text of the program has are compiled with it.
#[derive(Default)]
pub(crate) struct Patterns(Vec<Pattern>);

/// Most that are kept.
const MAX_PATTERNS: usize = 16;

impl Patterns {
    pub(crate) fn get(&self, text: &str) -> Option<Pattern> {
        self.0.iter().find(|pattern| *pattern.text == *text).cloned()
    }

    /// Keeps one that is compiled already.
    pub(crate) fn known(&mut self, pattern: &Pattern) {
        if !self.0.iter().any(|known| Arc::ptr_eq(&known.text, &pattern.text) || known.text == pattern.text) {
            self.put(pattern.clone());
        }
    }

    pub(crate) fn put(&mut self, pattern: Pattern) {
        if self.0.len() >= MAX_PATTERNS {
            self.0.remove(0);
        }
        self.0.push(pattern);
    }
}

fn matches<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text), Value::String(pattern)] = args else { return no_overload() };
    let pattern = context.pattern(pattern)?;
    pattern.scan(context, text)?;
    Ok(Value::Bool(pattern.regex.is_match(text)))
}

fn find<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text), Value::String(pattern)] = args else { return no_overload() };
    let pattern = context.pattern(pattern)?;
    pattern.scan(context, text)?;
    context.make(text.len())?;
    let found = pattern.regex.find(text).map(|found| text.part(found.range()));
    Ok(found.unwrap_or_else(|| Value::from("")))
}

fn find_all<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, pattern, most) = match args {
        [Value::String(text), Value::String(pattern)] => (text, pattern, -1),
        [Value::String(text), Value::String(pattern), Value::Int(most)] => (text, pattern, *most),
        _ => return no_overload(),
    };
    let pattern = context.pattern(pattern)?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    // Each search may look at all that is left: it is bounded by the text it goes through.
    let mut matches = pattern.regex.find_iter(text);
    while found.len() < most {
        let rest = found.len();
        context.work(1 + size(text.len() / (1 + rest)).saturating_mul(pattern.states) / 16)?;
        match matches.next() {
            Some(one) => {
                context.items(2)?;
                context.make(one.len())?;
                found.push(text.part(one.range()));
            }
            None => break,
        }
    }
    Ok(found.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_grow_with_repetitions() {
        assert!(states("abc") < 10);
        assert!(states("a{1000}") >= 1_000);
        assert!(states("((a{100}){100}){10}") >= 100_000);
        assert!(states("(a{1000}){1000}(") >= 1_000_000);
    }

    #[test]
    fn large_expressions_are_refused() {
        assert!(Pattern::new("((a{100}){100}){100}").is_err());
        assert!(Pattern::new("(").is_err());
        assert!(Pattern::new("^[a-z]+$").is_ok());
    }
}
