//! The checker: one pass over the tree, in the manner and the words of the reference implementation.

use std::sync::Arc;

use super::unify::{Mapping, most_general};
use super::{Checked, Name, Resolved, literals};
use crate::cel_type::Type;
use crate::library::{Function, Overload, function};
use crate::syntax::ast::{Expr, Fold, Kind, Literal};

/// A position in characters, and what is wrong there.
pub(crate) type Finding = (u32, String);

/// Checks an expression in which these variables are known.
///
/// # Errors
/// Everything that does not go together.
pub(crate) fn check(root: &Expr, variables: &[(Arc<str>, Type)]) -> Result<Checked, Vec<Finding>> {
    let mut checker = Checker {
        variables,
        locals: Vec::new(),
        mapping: Mapping::new(root.id.saturating_add(1)),
        next_param: FIRST_FREE,
        checked: Checked::default(),
        findings: Vec::new(),
    };
    checker.check(root);
    let Checker { mapping, mut checked, mut findings, .. } = checker;
    if findings.is_empty() {
        for of in checked.types.iter_mut().flatten() {
            *of = mapping.substitute(of, true);
        }
        literals::check(root, &checked, &mut findings);
    }
    if findings.is_empty() { Ok(checked) } else { Err(findings) }
}

/// Numbers of parameters that signatures do not use.
const FIRST_FREE: u32 = 16;

struct Checker<'c> {
    variables: &'c [(Arc<str>, Type)],
    locals: Vec<(Arc<str>, Type)>,
    mapping: Mapping,
    next_param: u32,
    checked: Checked,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn report(&mut self, at: &Expr, what: String) {
        self.findings.push((at.at, what));
    }

    fn fresh(&mut self) -> Type {
        self.next_param += 1;
        Type::Param(self.next_param)
    }

    fn known(&self, expr: &Expr) -> Type {
        self.checked.type_of(expr.id).clone()
    }

    fn check(&mut self, expr: &Expr) {
        let of = match &expr.kind {
            Kind::Literal(literal) => literal_type(literal),
            Kind::Ident(name) => self.ident(expr, name),
            Kind::Select { operand, field, test } => self.select(expr, operand, field, *test),
            Kind::Call { function, target, args } => self.call(expr, function, target.as_deref(), args),
            Kind::List(items) => self.list(items),
            Kind::Map(_) => self.map(expr),
            Kind::Message(name) => {
                self.report(expr, undeclared(name));
                Type::Error
            }
            Kind::Fold(fold) => self.fold(fold),
        };
        self.checked.set_type(expr.id, of);
    }

    fn ident(&mut self, expr: &Expr, name: &str) -> Type {
        let plain = name.strip_prefix('.').unwrap_or(name);
        if plain.len() == name.len()
            && let Some((_, of)) = self.locals.iter().rev().find(|(known, _)| **known == *name)
        {
            return of.clone();
        }
        self.global(expr, plain).unwrap_or_else(|| {
            self.report(expr, undeclared(name));
            Type::Error
        })
    }

    /// A variable of the environment, or a type.
    fn global(&mut self, expr: &Expr, name: &str) -> Option<Type> {
        if let Some(index) = self.variables.iter().position(|(known, _)| **known == *name) {
            self.checked.set_name(expr.id, Name::Variable(index));
            return self.variables.get(index).map(|(_, of)| of.clone());
        }
        let named = Type::named(name)?;
        self.checked.set_name(expr.id, Name::Type(named.clone()));
        Some(Type::Of(Some(named.into())))
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, test: bool) -> Type {
        if !test
            && let Some(name) = self.qualified(expr)
            && let Some(of) = self.global(expr, &name)
        {
            return of;
        }
        let of = self.field(expr, operand, field, false);
        if test { Type::Bool } else { self.mapping.substitute(&of, false) }
    }

    /// The name that a chain of fields is, unless it begins with a variable of a fold.
    fn qualified(&self, expr: &Expr) -> Option<String> {
        match &expr.kind {
            Kind::Ident(name) if self.locals.iter().all(|(known, _)| known != name) => Some(name.to_string()),
            Kind::Select { operand, field, test: false } => {
                Some(format!("{}.{field}", self.qualified(operand)?))
            }
            _ => None,
        }
    }

    fn field(&mut self, expr: &Expr, operand: &Expr, field: &str, optional: bool) -> Type {
        self.check(operand);
        let of = self.mapping.substitute(&self.known(operand), false);
        let target = of.unwrap_optional().unwrap_or(&of).clone();
        let is_optional = of.unwrap_optional().is_some();
        let result = match &target {
            Type::Map(pair) => pair.1.clone(),
            Type::Object(object) => match object.fields.get(field) {
                Some(found) => found.decl.cel_type(),
                None => {
                    self.report(expr, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Library(name) => {
                self.report(expr, format!("unexpected failed resolution of '{name}'"));
                Type::Error
            }
            Type::Param(_) => {
                self.mapping.assign(&Type::Dyn, &target);
                Type::Dyn
            }
            other => {
                if !other.is_dyn_or_error() {
                    self.report(expr, format!("type '{other}' does not support field selection"));
                }
                Type::Dyn
            }
        };
        if is_optional || optional { Type::optional(result) } else { result }
    }

    fn call(&mut self, expr: &Expr, name: &str, target: Option<&Expr>, args: &[Expr]) -> Type {
        if let ("_?._", [operand, field]) = (name, args) {
            let Some(text) = field.as_text() else { return Type::Error };
            let of = self.field(expr, operand, text, true);
            self.checked.set_type(field.id, Type::String);
            return self.mapping.substitute(&of, false);
        }
        args.iter().for_each(|arg| self.check(arg));
        let Some(target) = target else {
            let plain = name.strip_prefix('.').unwrap_or(name);
            return match function(plain) {
                Some(found) => self.resolve(expr, found, None, args),
                None => self.unknown(expr, name),
            };
        };
        if let Some(prefix) = self.qualified(target)
            && let Some(found) = function(&format!("{prefix}.{name}"))
        {
            return self.resolve(expr, found, None, args);
        }
        self.check(target);
        match function(name) {
            Some(found) => self.resolve(expr, found, Some(target), args),
            None => self.unknown(expr, name),
        }
    }

    fn unknown(&mut self, expr: &Expr, name: &str) -> Type {
        self.report(expr, undeclared(name));
        Type::Error
    }

    fn resolve(
        &mut self,
        expr: &Expr,
        found: &'static Function,
        target: Option<&Expr>,
        args: &[Expr],
    ) -> Type {
        let given: Vec<Type> = target.into_iter().chain(args).map(|arg| self.known(arg)).collect();
        let logical = matches!(found.name, "_&&_" | "_||_");
        if logical && let Some(overload) = found.overloads.first() {
            return self.logical(expr, found, overload, args);
        }
        let mut fitting: Vec<&'static Overload> = Vec::new();
        let mut result: Option<Type> = None;
        for overload in found.overloads.iter().filter(|overload| overload.method == target.is_some()) {
            let (params, of) = self.instantiate(overload);
            if params.len() != given.len() {
                continue;
            }
            let pairs: Vec<(&Type, &Type)> = given.iter().zip(&params).collect();
            if !self.mapping.assign_all(&pairs) {
                continue;
            }
            fitting.push(overload);
            let of = self.mapping.substitute(&of, false);
            result = Some(match result {
                None => of,
                Some(known) if matches!(known, Type::Dyn | Type::Any) || known == of => known,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let given: Vec<Type> = given.iter().map(|of| self.mapping.substitute(of, true)).collect();
            let signature = signature(&given, target.is_some());
            let what = format!("found no matching overload for '{}' applied to '{signature}'", found.name);
            self.report(expr, what);
            return Type::Error;
        };
        let call = Resolved { function: found, overloads: fitting, method: target.is_some() };
        self.checked.set_call(expr.id, call);
        result
    }

    fn logical(
        &mut self,
        expr: &Expr,
        found: &'static Function,
        overload: &'static Overload,
        args: &[Expr],
    ) -> Type {
        let mut fits = true;
        for arg in args {
            let of = self.known(arg);
            if !self.mapping.assign(&of, &Type::Bool) {
                self.mismatch(arg, &Type::Bool, &of);
                fits = false;
            }
        }
        if !fits {
            return Type::Error;
        }
        let call = Resolved { function: found, overloads: vec![overload], method: false };
        self.checked.set_call(expr.id, call);
        Type::Bool
    }

    /// The parameters and the result of an overload, with type parameters of their own.
    fn instantiate(&mut self, overload: &Overload) -> (Vec<Type>, Type) {
        if overload.params == 0 {
            return (overload.args.clone(), overload.result.clone());
        }
        let mut own = Mapping::new(0);
        for param in 0..overload.params {
            own.assign(&self.fresh(), &Type::Param(param));
        }
        (
            overload.args.iter().map(|arg| own.substitute(arg, false)).collect(),
            own.substitute(&overload.result, false),
        )
    }

    fn mismatch(&mut self, at: &Expr, expected: &Type, found: &Type) {
        self.report(at, format!("expected type '{expected}' but found '{found}'"));
    }

    /// The type of an optional item or entry, without what makes it optional.
    fn unwrapped(&mut self, expr: &Expr, optional: bool) -> Type {
        let of = self.known(expr);
        if !optional {
            return of;
        }
        match of.unwrap_optional() {
            Some(inner) => inner.clone(),
            None => {
                if !matches!(of, Type::Dyn | Type::Any) {
                    self.mismatch(expr, &Type::optional(of.clone()), &of);
                }
                of
            }
        }
    }

    fn list(&mut self, items: &[(Expr, bool)]) -> Type {
        let mut joined = None;
        for (item, optional) in items {
            self.check(item);
            let of = self.unwrapped(item, *optional);
            joined = Some(self.join(item, joined, of));
        }
        Type::list(joined.unwrap_or_else(|| self.fresh()))
    }

    fn map(&mut self, expr: &Expr) -> Type {
        let Kind::Map(entries) = &expr.kind else { return Type::Error };
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.check(&entry.key);
            let key = self.known(&entry.key);
            keys = Some(self.join(&entry.key, keys, key));
            self.check(&entry.value);
            let value = self.unwrapped(&entry.value, entry.optional);
            values = Some(self.join(&entry.value, values, value));
        }
        let key = keys.unwrap_or_else(|| self.fresh());
        let value = values.unwrap_or_else(|| self.fresh());
        Type::map(key, value)
    }

    /// The type that both have in common.
    fn join(&mut self, at: &Expr, before: Option<Type>, of: Type) -> Type {
        let Some(before) = before else { return of };
        if self.mapping.assign(&before, &of) {
            return most_general(&before, &of);
        }
        self.mismatch(at, &before, &of);
        Type::Error
    }

    fn fold(&mut self, fold: &Fold) -> Type {
        self.check(&fold.range);
        self.check(&fold.init);
        let range = self.mapping.substitute(&self.known(&fold.range), false);
        let accu = self.known(&fold.init);
        let depth = self.locals.len();
        self.locals.push((fold.accu.clone(), accu.clone()));
        let (var, var2) = match &range {
            Type::List(items) if fold.var2.is_some() => (Type::Int, (**items).clone()),
            Type::List(items) => ((**items).clone(), Type::Dyn),
            Type::Map(pair) => pair.as_ref().clone(),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.mapping.assign(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let what = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.report(&fold.range, what);
                (Type::Error, Type::Error)
            }
        };
        self.locals.push((fold.var.clone(), var));
        if let Some(name) = &fold.var2 {
            self.locals.push((name.clone(), var2));
        }
        self.check(&fold.condition);
        self.expect(&fold.condition, &Type::Bool);
        self.check(&fold.step);
        self.expect(&fold.step, &accu);
        self.locals.truncate(depth + 1);
        self.check(&fold.result);
        self.locals.truncate(depth);
        self.mapping.substitute(&self.known(&fold.result), false)
    }

    fn expect(&mut self, expr: &Expr, wanted: &Type) {
        let of = self.known(expr);
        if !self.mapping.assign(wanted, &of) {
            self.mismatch(expr, wanted, &of);
        }
    }
}

fn undeclared(name: &str) -> String {
    format!("undeclared reference to '{name}' (in container '')")
}

fn signature(given: &[Type], method: bool) -> String {
    let texts: Vec<String> = given.iter().map(ToString::to_string).collect();
    match texts.split_first() {
        Some((target, args)) if method => format!("{target}.({})", args.join(", ")),
        _ => format!("({})", texts.join(", ")),
    }
}

const fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
