//! Types of expressions: what each part is, which functions its calls mean, and what does not go together.

mod checker;
mod literals;
mod unify;

pub(crate) use checker::check;

use crate::cel_type::Type;
use crate::library::{Function, Overload};

/// A call and the overloads that fit it.
pub(crate) struct Resolved {
    pub(crate) function: &'static Function,
    pub(crate) overloads: Vec<&'static Overload>,
    /// Whether the target is an argument, and not a part of the function's name.
    pub(crate) method: bool,
}

/// What is known about the parts of an expression, by their numbers.
#[derive(Default)]
pub(crate) struct Checked {
    types: Vec<Option<Type>>,
    calls: Vec<Option<Resolved>>,
    names: Vec<Option<Name>>,
}

/// What a name stands for that is no variable of a fold.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Name {
    /// The variable at that place of the environment.
    Variable(usize),
    /// A type.
    Type(Type),
}

fn slot<T>(of: &mut Vec<Option<T>>, id: u32) -> Option<&mut Option<T>> {
    let index = usize::try_from(id).ok()?;
    if of.len() <= index {
        of.resize_with(index + 1, || None);
    }
    of.get_mut(index)
}

fn find<T>(of: &[Option<T>], id: u32) -> Option<&T> {
    of.get(usize::try_from(id).ok()?)?.as_ref()
}

impl Checked {
    pub(crate) fn type_of(&self, id: u32) -> &Type {
        find(&self.types, id).unwrap_or(&Type::Error)
    }

    pub(crate) fn call(&self, id: u32) -> Option<&Resolved> {
        find(&self.calls, id)
    }

    pub(crate) fn name(&self, id: u32) -> Option<&Name> {
        find(&self.names, id)
    }

    /// The place of the variable that a name stands for.
    pub(crate) fn variable(&self, id: u32) -> Option<usize> {
        match self.name(id)? {
            Name::Variable(index) => Some(*index),
            Name::Type(_) => None,
        }
    }

    /// The places of all variables that are used.
    pub(crate) fn variables(&self) -> impl Iterator<Item = usize> + '_ {
        self.names.iter().flatten().filter_map(|name| match name {
            Name::Variable(index) => Some(*index),
            Name::Type(_) => None,
        })
    }

    fn set_type(&mut self, id: u32, of: Type) {
        if let Some(slot) = slot(&mut self.types, id) {
            *slot = Some(of);
        }
    }

    fn set_call(&mut self, id: u32, call: Resolved) {
        if let Some(slot) = slot(&mut self.calls, id) {
            *slot = Some(call);
        }
    }

    fn set_name(&mut self, id: u32, name: Name) {
        if let Some(slot) = slot(&mut self.names, id) {
            *slot = Some(name);
        }
    }
}
