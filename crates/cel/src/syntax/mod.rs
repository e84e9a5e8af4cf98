//! From text to a tree: [`lexer`], [`parser`], and the [`macros`] that the parser expands.

pub(crate) mod ast;
mod copy;
mod lexer;
mod literal;
mod macros;
pub(crate) mod parser;
mod quantifiers;
