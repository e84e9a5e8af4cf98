//! Copies of a part for macros that use it twice where the copies are checked apart.

use super::ast::{Entry, Expr, Fold, Kind};
use super::lexer::Fault;
use super::parser::Parser;

/// The same expression in nodes of its own.
pub(super) fn copy(parser: &mut Parser, expr: &Expr) -> Result<Expr, Fault> {
    let kind = match &expr.kind {
        Kind::Literal(_) | Kind::Ident(_) | Kind::Message(_) => expr.kind.clone(),
        Kind::Select { operand, field, test } => {
            let operand = Box::new(copy(parser, operand)?);
            Kind::Select { operand, field: field.clone(), test: *test }
        }
        Kind::Call { function, target, args } => {
            let target = match target {
                Some(target) => Some(Box::new(copy(parser, target)?)),
                None => None,
            };
            let args = args.iter().map(|arg| copy(parser, arg)).collect::<Result<_, _>>()?;
            Kind::Call { function: function.clone(), target, args }
        }
        Kind::List(items) => {
            let items = items.iter().map(|(item, optional)| Ok((copy(parser, item)?, *optional)));
            Kind::List(items.collect::<Result<_, Fault>>()?)
        }
        Kind::Map(entries) => {
            let entries = entries.iter().map(|entry| {
                let (key, value) = (copy(parser, &entry.key)?, copy(parser, &entry.value)?);
                Ok(Entry { key, value, optional: entry.optional })
            });
            Kind::Map(entries.collect::<Result<_, Fault>>()?)
        }
        Kind::Fold(fold) => Kind::Fold(Box::new(Fold {
            range: copy(parser, &fold.range)?,
            var: fold.var.clone(),
            var2: fold.var2.clone(),
            accu: fold.accu.clone(),
            init: copy(parser, &fold.init)?,
            condition: copy(parser, &fold.condition)?,
            step: copy(parser, &fold.step)?,
            result: copy(parser, &fold.result)?,
        })),
    };
    parser.node(expr.at, kind)
}
