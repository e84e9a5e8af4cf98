//! Macros over the items of a range.

use std::sync::Arc;

use super::ast::{ACCUMULATOR, Expr, Fold, Kind, Literal};
use super::lexer::Fault;
use super::parser::Parser;

type Parsed = Result<Expr, Fault>;

/// Makes nodes that all stand where the macro's bracket does.
pub(super) struct Builder<'p> {
    pub(super) parser: &'p mut Parser,
    pub(super) at: u32,
}

impl Builder<'_> {
    pub(super) fn node(&mut self, kind: Kind) -> Parsed {
        self.parser.node(self.at, kind)
    }

    pub(super) fn literal(&mut self, literal: Literal) -> Parsed {
        self.node(Kind::Literal(literal))
    }

    pub(super) fn ident(&mut self, name: &str) -> Parsed {
        self.node(Kind::Ident(name.into()))
    }

    pub(super) fn call(&mut self, function: &str, args: Vec<Expr>) -> Parsed {
        self.node(Kind::Call { function: function.into(), target: None, args })
    }

    pub(super) fn method(&mut self, function: &str, target: Expr, args: Vec<Expr>) -> Parsed {
        self.node(Kind::Call { function: function.into(), target: Some(Box::new(target)), args })
    }

    fn accumulator(&mut self) -> Parsed {
        self.ident(ACCUMULATOR)
    }
}

/// The name that an argument gives to a variable.
fn variable(arg: &Expr, listing: bool) -> Result<Arc<str>, Fault> {
    match &arg.kind {
        Kind::Ident(name) if **name == *"__result__" || **name == *ACCUMULATOR => {
            Err((arg.at, "iteration variable overwrites accumulator variable".to_owned()))
        }
        Kind::Ident(name) => Ok(name.clone()),
        _ if listing => Err((arg.at, "argument is not an identifier".to_owned())),
        _ => Err((arg.at, "argument must be a simple name".to_owned())),
    }
}

/// What is done with each item.
struct Body {
    filter: Option<Expr>,
    value: Expr,
}

/// The fold that the macro of that name is. The number of arguments has been looked at.
pub(super) fn expand(build: &mut Builder<'_>, name: &str, range: Expr, args: Vec<Expr>) -> Parsed {
    let transforms = name.starts_with("transform");
    let listing = matches!(name, "map" | "filter");
    let two = transforms || (!listing && args.len() == 3);
    let mut args = args.into_iter();
    let missing = || (0, format!("{name}() takes more arguments"));
    let first = args.next().ok_or_else(missing)?;
    let var = variable(&first, listing)?;
    let var2 = if two {
        let second = args.next().ok_or_else(missing)?;
        let var2 = variable(&second, listing)?;
        if var == var2 {
            return Err((second.at, format!("duplicate variable name: {var}")));
        }
        Some(var2)
    } else {
        None
    };
    let (one, other) = (args.next().ok_or_else(missing)?, args.next());
    let body = match other {
        Some(value) => Body { filter: Some(one), value },
        // A filter keeps the items themselves.
        None if name == "filter" => Body { filter: Some(one), value: first },
        None => Body { filter: None, value: one },
    };
    let (init, condition, step, result) = match name {
        "all" | "exists" | "exists_one" | "existsOne" => quantifier(build, name, body)?,
        "transformMap" | "transformMapEntry" => mapping(build, name, body, &var)?,
        _ => collecting(build, body)?,
    };
    let accu = ACCUMULATOR.into();
    build.node(Kind::Fold(Box::new(Fold { range, var, var2, accu, init, condition, step, result })))
}

type Parts = (Expr, Expr, Expr, Expr);

fn quantifier(build: &mut Builder<'_>, name: &str, body: Body) -> Result<Parts, Fault> {
    let accumulator = build.accumulator()?;
    Ok(match name {
        "all" => {
            let init = build.literal(Literal::Bool(true))?;
            let condition = build.call("@not_strictly_false", vec![accumulator])?;
            let accumulator = build.accumulator()?;
            let step = build.call("_&&_", vec![accumulator, body.value])?;
            (init, condition, step, build.accumulator()?)
        }
        "exists" => {
            let init = build.literal(Literal::Bool(false))?;
            let not = build.call("!_", vec![accumulator])?;
            let condition = build.call("@not_strictly_false", vec![not])?;
            let accumulator = build.accumulator()?;
            let step = build.call("_||_", vec![accumulator, body.value])?;
            (init, condition, step, build.accumulator()?)
        }
        _ => {
            let init = build.literal(Literal::Int(0))?;
            let condition = build.literal(Literal::Bool(true))?;
            let one = build.literal(Literal::Int(1))?;
            let more = build.call("_+_", vec![accumulator, one])?;
            let same = build.accumulator()?;
            let step = build.call("_?_:_", vec![body.value, more, same])?;
            let (accumulator, one) = (build.accumulator()?, build.literal(Literal::Int(1))?);
            (init, condition, step, build.call("_==_", vec![accumulator, one])?)
        }
    })
}

/// A list of what the items become.
fn collecting(build: &mut Builder<'_>, body: Body) -> Result<Parts, Fault> {
    let init = build.node(Kind::List(Vec::new()))?;
    let item = build.node(Kind::List(vec![(body.value, false)]))?;
    let accumulator = build.accumulator()?;
    let step = build.call("_+_", vec![accumulator, item])?;
    finish(build, init, body.filter, step)
}

/// A map of what the entries become.
fn mapping(build: &mut Builder<'_>, name: &str, body: Body, key: &str) -> Result<Parts, Fault> {
    let init = build.node(Kind::Map(Vec::new()))?;
    let accumulator = build.accumulator()?;
    let args = if name == "transformMap" {
        vec![accumulator, build.ident(key)?, body.value]
    } else {
        vec![accumulator, body.value]
    };
    let step = build.call("cel.@mapInsert", args)?;
    finish(build, init, body.filter, step)
}

fn finish(build: &mut Builder<'_>, init: Expr, filter: Option<Expr>, step: Expr) -> Result<Parts, Fault> {
    let condition = build.literal(Literal::Bool(true))?;
    let step = match filter {
        Some(filter) => {
            let same = build.accumulator()?;
            build.call("_?_:_", vec![filter, step, same])?
        }
        None => step,
    };
    Ok((init, condition, step, build.accumulator()?))
}
