//! One expression, compiled.

use cel::{DeclType, Env, Program, Type};

/// What the value of an expression must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returns {
    Bool,
    Text,
    TextOrNull,
    Anything,
}

impl Returns {
    /// Whether that type is it, by upstream's rule: what is not known before is not.
    fn takes(self, found: &Type) -> bool {
        match self {
            Self::Bool => *found == Type::Bool,
            Self::Text => *found == Type::String,
            Self::TextOrNull => matches!(found, Type::String | Type::Null),
            Self::Anything => true,
        }
    }

    fn wanted(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Text => "string",
            Self::TextOrNull => "one of [string null_type]",
            Self::Anything => "any",
        }
    }
}

/// An expression, or what is wrong with it.
#[derive(Debug)]
pub(crate) struct Expression {
    pub(crate) source: String,
    pub(crate) program: Result<Program, String>,
}

impl Expression {
    pub(crate) fn compile(env: &Env, source: &str, returns: Returns) -> Self {
        Self { source: source.to_owned(), program: compile(env, source, returns) }
    }

    /// What its value is declared as; any, where nobody knows.
    pub(crate) fn decl(&self) -> DeclType {
        self.program.as_ref().map_or(DeclType::dynamic(), |program| decl_of(program.result_type()))
    }
}

/// The expression, or what is wrong with it, in upstream's words.
fn compile(env: &Env, source: &str, returns: Returns) -> Result<Program, String> {
    let program = env.compile(source).map_err(|errors| format!("compilation failed: {errors}"))?;
    let found = program.result_type();
    if returns.takes(found) {
        return Ok(program);
    }
    let got = if *found == Type::Null { "null_type".to_owned() } else { found.to_string() };
    Err(format!("must evaluate to {} but got {got}", returns.wanted()))
}

/// As upstream: what variables are is known as far as it is text, numbers, times, lists and maps.
fn decl_of(of: &Type) -> DeclType {
    match of {
        Type::Bool => DeclType::bool(),
        Type::Int => DeclType::int(),
        Type::Double => DeclType::double(),
        Type::String => DeclType::string(None),
        Type::Timestamp => DeclType::timestamp(),
        Type::List(items) => DeclType::list(decl_of(items), None),
        Type::Map(pair) if pair.0 == Type::String => DeclType::map(decl_of(&pair.1), None),
        _ => DeclType::dynamic(),
    }
}
