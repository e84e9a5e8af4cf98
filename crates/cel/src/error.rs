//! What is wrong with an expression, before and while it is evaluated.

use std::fmt;

/// One thing that is wrong with the text of an expression.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CompileError {
    /// The line, counted from 1.
    pub line: u32,
    /// The column in characters, counted from 0.
    pub column: u32,
    /// What is wrong.
    pub message: String,
}

/// Everything that is wrong with the text of an expression, with the lines at fault. Displays as the reference
/// implementation's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileErrors {
    source: String,
    errors: Vec<CompileError>,
    /// How many more there are.
    more: usize,
}

impl std::error::Error for CompileErrors {}

/// Lines longer than this are not shown.
const MAX_SNIPPET: usize = 16_384;
/// More findings than this are only counted.
const MAX_ERRORS: usize = 100;

impl CompileErrors {
    /// Of positions in characters and what is wrong there.
    pub(crate) fn new(source: &str, findings: Vec<(u32, String)>) -> Self {
        let more = findings.len().saturating_sub(MAX_ERRORS);
        let shown = findings.into_iter().take(MAX_ERRORS);
        let mut errors: Vec<CompileError> = shown.map(|(at, message)| locate(source, at, message)).collect();
        errors.sort_by_key(|error| (error.line, error.column));
        errors.dedup();
        Self { source: source.to_owned(), errors, more }
    }

    /// The findings, in the order of the text.
    pub fn errors(&self) -> &[CompileError] {
        &self.errors
    }
}

/// The line and column of a position.
fn locate(source: &str, at: u32, message: String) -> CompileError {
    let (mut line, mut column) = (1, 0);
    for character in source.chars().take(usize::try_from(at).unwrap_or(usize::MAX)) {
        if character == '\n' {
            line += 1;
            column = 0;
        } else {
            column += 1;
        }
    }
    CompileError { line, column, message }
}

impl fmt::Display for CompileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<&str> = self.source.split('\n').collect();
        for (index, error) in self.errors.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}ERROR: <input>:{}:{}: {}", error.line, error.column + 1, error.message)?;
            let line = usize::try_from(error.line).ok().and_then(|line| lines.get(line.checked_sub(1)?));
            let Some(line) = line.filter(|line| line.len() <= MAX_SNIPPET) else { continue };
            write!(f, "\n | {}\n | ", line.replace('\t', " "))?;
            let mut characters = line.chars();
            let column = usize::try_from(error.column).unwrap_or(usize::MAX);
            for character in characters.by_ref().take(column) {
                f.write_str(if character.is_ascii() { "." } else { "\u{ff0e}" })?;
            }
            let wide = characters.next().is_some_and(|character| !character.is_ascii());
            f.write_str(if wide { "\u{ff3e}" } else { "^" })?;
        }
        if self.more > 0 {
            write!(f, "\n{} more errors were truncated", self.more)?;
        }
        Ok(())
    }
}

/// Why an evaluation has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// No function or operator takes these values.
    #[error("no such overload{0}")]
    NoSuchOverload(String),
    /// The one evaluation costs more than one may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CallLimit,
    /// What was left of the budget of several evaluations does not suffice.
    #[error("operation cancelled: running out of cost budget")]
    OutOfBudget,
    /// Anything else: `division by zero`, `no such key: x`, ….
    #[error("{0}")]
    Value(String),
}

impl EvalError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Value(message.into())
    }

    pub(crate) fn overload() -> Self {
        Self::NoSuchOverload(String::new())
    }

    /// Whether evaluation ends here, whatever `||` or `&&` would make of an error.
    pub(crate) const fn is_final(&self) -> bool {
        matches!(self, Self::CallLimit | Self::OutOfBudget)
    }
}
