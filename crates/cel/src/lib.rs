//! CEL, the expression language in which Kubernetes objects carry rules, as Kubernetes v1.36 has it.
//!
//! **Owns**: parsing, type checking against declared types ([`DeclType`], also from structural schemas), bounds of what an
//! expression costs before it is evaluated, and evaluation over JSON that is borrowed, within a budget. The functions are
//! those of upstream's base environment, the messages and the costs are the reference implementation's.
//!
//! **Never does**: I/O, time, async, or anything particular to who evaluates: which variables there are, what a false rule
//! means, and what the authorizer answers ([`Authorize`]) come from outside.
//!
//! **Begin** with [`Env`] and [`Program`]; inside, the way of an expression is `syntax`, `check`, `cost`, `eval`.
//!
//! ```
//! use cel::{Activation, Budget, DeclType, Env, Value};
//!
//! let list = DeclType::list(DeclType::int(), Some(10));
//! let env = Env::new().with_variable("numbers", list.clone());
//! let program = env.compile("numbers.all(n, n > 0)")?;
//! assert!(program.cost().max < 100);
//!
//! let json = serde_json::json!([1, 2, 3]);
//! let mut activation = Activation::new();
//! activation.bind_json("numbers", &json, &list);
//! let result = program.evaluate(&activation, &mut Budget::new(cel::OBJECT_BUDGET))?;
//! assert_eq!(result.as_bool(), Some(true));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod authorizer;
mod cel_type;
mod check;
mod context;
mod cost;
mod decl;
mod env;
mod error;
mod escape;
mod eval;
mod json;
mod library;
mod structural;
mod syntax;
mod value;

pub use authorizer::{Authorize, Check, Decision, Question, ResourceTarget, Subject, Target};
pub use cel_type::Type;
pub use context::MAX_MADE;
pub use cost::{CostRange, MATCH_CONDITIONS_BUDGET, OBJECT_BUDGET, PER_CALL_LIMIT};
pub use decl::{DeclType, ListKind, MAX_REQUEST_BYTES, Object};
pub use env::{Activation, Budget, Env, Program};
pub use error::{CompileError, CompileErrors, EvalError};
pub use escape::{escape, is_reserved};
pub use value::{Library, List, Map, Outcome, Text, Value};
