//! Which types go together: unification of type parameters, as the language's reference checker does it.

use std::cell::Cell;
use std::sync::Arc;

use crate::cel_type::Type;

/// Steps that checking may take for each part of an expression, and some for any. Parameters that stand for maps of parameters, and so
/// on, make types of which there is more than one could ever go through.
const STEPS: u32 = 512;
const BASE_STEPS: u32 = 1 << 16;

/// What is known about type parameters, by their numbers.
#[derive(Debug)]
pub(super) struct Mapping {
    known: Vec<Option<Type>>,
    /// What was known before the attempt under way: it is taken back if it fails.
    before: Vec<(u32, Option<Type>)>,
    /// Steps that are left. Without any nothing goes together.
    left: Cell<u32>,
}

impl Mapping {
    /// For an expression of so many parts.
    pub(super) fn new(parts: u32) -> Self {
        let left = parts.saturating_mul(STEPS).saturating_add(BASE_STEPS);
        Self { known: Vec::new(), before: Vec::new(), left: Cell::new(left) }
    }

    /// Whether there is a step left; takes it.
    fn step(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }

    fn get(&self, number: u32) -> Option<&Type> {
        self.known.get(usize::try_from(number).ok()?)?.as_ref()
    }

    fn put(&mut self, number: u32, of: Option<Type>) -> Option<Type> {
        let index = usize::try_from(number).ok()?;
        if self.known.len() <= index {
            self.known.resize_with(index + 1, || None);
        }
        std::mem::replace(self.known.get_mut(index)?, of)
    }

    fn learn(&mut self, number: u32, of: Type) {
        let before = self.put(number, Some(of));
        self.before.push((number, before));
    }

    /// Whether a value of type `from` may stand where `to` is wanted. What follows for type parameters is kept if so.
    pub(super) fn assign(&mut self, to: &Type, from: &Type) -> bool {
        self.assign_all(&[(to, from)])
    }

    /// The same of several pairs at once.
    pub(super) fn assign_all(&mut self, pairs: &[(&Type, &Type)]) -> bool {
        self.before.clear();
        let fits = pairs.iter().all(|(one, other)| self.assignable(one, other));
        while let (false, Some((number, before))) = (fits, self.before.pop()) {
            self.put(number, before);
        }
        fits
    }

    /// The type with its parameters replaced by what is known; unknown ones become `dyn` where `settle` is set.
    pub(super) fn substitute(&self, of: &Type, settle: bool) -> Type {
        if !self.step() {
            return Type::Dyn;
        }
        match of {
            Type::Param(number) => match self.get(*number) {
                Some(known) => self.substitute(known, settle),
                None if settle => Type::Dyn,
                None => of.clone(),
            },
            Type::List(items) => Type::list(self.substitute(items, settle)),
            Type::Map(pair) => Type::map(self.substitute(&pair.0, settle), self.substitute(&pair.1, settle)),
            Type::Opaque(name, parameters) => {
                Type::Opaque(name, parameters.iter().map(|one| self.substitute(one, settle)).collect())
            }
            Type::Of(Some(inner)) => Type::Of(Some(Arc::new(self.substitute(inner, settle)))),
            other => other.clone(),
        }
    }

    fn assignable(&mut self, one: &Type, other: &Type) -> bool {
        if !self.step() {
            return false;
        }
        if let Type::Param(_) = other {
            match self.fits_param(one, other) {
                (true, _) => return true,
                (false, true) => return false,
                (false, false) => {}
            }
        }
        if let Type::Param(_) = one {
            return self.fits_param(other, one).0;
        }
        if one.is_dyn_or_error() || other.is_dyn_or_error() {
            return true;
        }
        match (one, other) {
            (Type::Null, other) | (other, Type::Null) => takes_null(other),
            (Type::List(a), Type::List(b)) => self.assignable(a, b),
            (Type::Map(a), Type::Map(b)) => self.assignable(&a.0, &b.0) && self.assignable(&a.1, &b.1),
            (Type::Opaque(name, a), Type::Opaque(known, b)) => {
                name == known && a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.assignable(a, b))
            }
            (Type::Of(_), Type::Of(_)) => true,
            _ => one == other,
        }
    }

    /// Whether the parameter may stand for the type, and whether it stood for one already.
    fn fits_param(&mut self, one: &Type, param: &Type) -> (bool, bool) {
        if one == param {
            return (true, true);
        }
        let Type::Param(number) = param else { return (false, false) };
        if let Some(known) = self.get(*number).cloned() {
            if *one == known {
                return (true, true);
            }
            if self.assignable(one, &known) {
                let general = most_general(one, &known);
                if self.is_free_of(*number, &general) {
                    self.learn(*number, general);
                }
                return (true, true);
            }
            return (false, true);
        }
        if self.is_free_of(*number, one) {
            self.learn(*number, one.clone());
            return (true, false);
        }
        (false, false)
    }

    /// Whether the parameter does not occur within the type.
    fn is_free_of(&self, number: u32, within: &Type) -> bool {
        match within {
            _ if !self.step() => false,
            Type::Param(other) if *other == number => false,
            Type::Param(other) => self.get(*other).is_none_or(|known| self.is_free_of(number, known)),
            Type::List(items) => self.is_free_of(number, items),
            Type::Map(pair) => self.is_free_of(number, &pair.0) && self.is_free_of(number, &pair.1),
            Type::Opaque(_, parameters) => parameters.iter().all(|one| self.is_free_of(number, one)),
            Type::Of(Some(inner)) => self.is_free_of(number, inner),
            _ => true,
        }
    }
}

/// What stands for a message in the reference implementation takes null.
const fn takes_null(of: &Type) -> bool {
    matches!(
        of,
        Type::Null | Type::Opaque(..) | Type::Object(_) | Type::Library(_) | Type::Duration | Type::Timestamp
    )
}

/// The more general of two types that go together.
pub(super) fn most_general(one: &Type, other: &Type) -> Type {
    if is_less_specific(one, other) { one.clone() } else { other.clone() }
}

fn is_less_specific(one: &Type, other: &Type) -> bool {
    match (one, other) {
        (Type::Dyn | Type::Any | Type::Param(_), _) => true,
        (_, Type::Dyn | Type::Any | Type::Param(_)) => false,
        (Type::List(a), Type::List(b)) => is_less_specific(a, b),
        (Type::Map(a), Type::Map(b)) => is_less_specific(&a.0, &b.0) && is_less_specific(&a.1, &b.1),
        (Type::Opaque(name, a), Type::Opaque(known, b)) => {
            name == known && a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_less_specific(a, b))
        }
        (Type::Of(_), Type::Of(_)) => true,
        _ => one == other,
    }
}
