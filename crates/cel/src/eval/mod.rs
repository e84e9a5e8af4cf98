//! From a checked tree to values: [`lower`] makes a plan in which names are places and macros are loops, [`machine`] runs it.

mod fold;
pub(crate) mod lower;
pub(crate) mod machine;

use std::sync::Arc;

use crate::library::Function;
use crate::library::regex::Pattern;
use crate::value::Value;

/// A step of a plan.
#[derive(Debug)]
pub(crate) enum Node {
    Const(Value<'static>),
    /// The variable at that place of the environment.
    Variable(usize),
    /// The variable at that place of the enclosing loops.
    Local(usize),
    Select {
        operand: Box<Node>,
        field: Arc<str>,
    },
    Has {
        operand: Box<Node>,
        field: Arc<str>,
    },
    OptionalSelect {
        operand: Box<Node>,
        field: Arc<str>,
    },
    Call(Box<Call>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    NotStrictlyFalse(Box<Node>),
    Conditional(Box<[Node; 3]>),
    /// `optional.or(optional)`, and with `value` `optional.orValue(value)`.
    OptionalOr {
        one: Box<Node>,
        other: Box<Node>,
        value: bool,
    },
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    /// A value under a name: the place it takes is that of the innermost local.
    Bind {
        value: Box<Node>,
        body: Box<Node>,
    },
    Fold(Box<Loop>),
}

pub(crate) struct Call {
    function: &'static Function,
    args: Vec<Node>,
    /// The regular expression that the call names itself.
    pattern: Option<Pattern>,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("function", &self.function.name).field("args", &self.args).finish()
    }
}

/// A loop: its locals are the accumulator, then one variable or two.
#[derive(Debug)]
pub(crate) struct Loop {
    range: Node,
    two: bool,
    init: Node,
    condition: Node,
    step: Step,
    result: Node,
}

/// What is done with each item. Collecting is done in place: otherwise it would take the square of the time.
#[derive(Debug)]
enum Step {
    /// The accumulator becomes that.
    Any(Node),
    /// That is added to the list, where the filter holds.
    Append { filter: Option<Node>, item: Node },
    /// These are added to the map, where the filter holds.
    Insert { filter: Option<Node>, args: Vec<Node> },
}
