//! Bounds of what an expression costs, from its form and the sizes that are declared.

use std::collections::HashMap;
use std::sync::Arc;

use super::calls::{self, Call};
use super::{Cost, CostRange, LIST, MAP, SELECT, STRUCT};
use crate::cel_type::Type;
use crate::check::Checked;
use crate::decl::{DeclType, Step};
use crate::syntax::ast::{ACCUMULATOR, Expr, Fold, Kind, Literal};

/// A way from a variable into what it holds: names of fields, `@items`, `@keys`, `@values`, `@indices`.
pub(super) type Path = Vec<Arc<str>>;

/// Sizes of the keys (or indexes) and values of a container.
#[derive(Clone, Copy)]
struct EntrySize {
    is_list: bool,
    key: CostRange,
    value: CostRange,
}

impl EntrySize {
    fn union(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let (one, other) = (one?, other?);
        let (key, value) = (one.key.union(other.key), one.value.union(other.value));
        Some(Self { is_list: one.is_list, key, value })
    }
}

/// A variable within a fold.
struct Local {
    name: Arc<str>,
    path: Path,
    size: Option<CostRange>,
    entry: Option<EntrySize>,
}

/// Goes through a checked expression.
pub(crate) struct Estimator<'e> {
    checked: &'e Checked,
    variable: &'e dyn Fn(&str) -> Option<DeclType>,
    paths: HashMap<u32, Path>,
    sizes: HashMap<u32, CostRange>,
    entries: HashMap<u32, EntrySize>,
    locals: Vec<Local>,
}

/// What the expression costs. `variable` gives the declarations of variables.
pub(crate) fn estimate(
    checked: &Checked,
    root: &Expr,
    variable: &dyn Fn(&str) -> Option<DeclType>,
) -> CostRange {
    let mut estimator = Estimator {
        checked,
        variable,
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        locals: Vec::new(),
    };
    estimator.cost(root)
}

impl Estimator<'_> {
    fn cost(&mut self, expr: &Expr) -> CostRange {
        match &expr.kind {
            Kind::Literal(_) => CostRange::default(),
            Kind::Ident(name) => {
                let path = self.local(name).map_or_else(|| vec![name.clone()], |local| local.path.clone());
                self.paths.insert(expr.id, path);
                CostRange::fixed(SELECT)
            }
            // A variable with a dot in its name costs as one without.
            Kind::Select { .. } if self.checked.variable(expr.id).is_some() => CostRange::fixed(SELECT),
            Kind::Select { operand, test: true, .. } => self.cost(operand),
            Kind::Select { operand, field, .. } => self.select(expr, operand, field),
            Kind::Call { function, target, args } => self.call(expr, function, target.as_deref(), args),
            Kind::List(items) => self.list(expr, items),
            Kind::Map(_) => self.map(expr),
            Kind::Message(_) => CostRange::fixed(STRUCT),
            Kind::Fold(fold) if fold.is_bind() => self.bind(expr, fold),
            Kind::Fold(fold) => self.fold(expr, fold),
        }
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|local| *local.name == *name)
    }

    pub(super) fn type_of(&self, expr: &Expr) -> &Type {
        self.checked.type_of(expr.id)
    }

    fn path(&self, expr: &Expr) -> Path {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&expr.id).cloned().unwrap_or_default()
    }

    /// The path of a call's argument: none within what macros collect.
    pub(super) fn argument_path(&self, expr: &Expr) -> Path {
        let path = self.path(expr);
        if path.first().is_some_and(|first| **first == *ACCUMULATOR) { Path::new() } else { path }
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &Arc<str>) -> CostRange {
        let sum = self.cost(operand);
        let charged = matches!(
            self.type_of(operand),
            Type::Map(_) | Type::Object(_) | Type::Library(_) | Type::Param(_)
        );
        let mut path = self.path(operand);
        path.push(field.clone());
        self.paths.insert(expr.id, path);
        if charged { sum.plus(CostRange::fixed(SELECT)) } else { sum }
    }

    fn call(&mut self, expr: &Expr, function: &str, target: Option<&Expr>, args: &[Expr]) -> CostRange {
        if let ("dyn", [arg]) = (function, args) {
            let cost = self.cost(arg);
            self.copy_sizes(expr, arg);
            return cost.plus(CostRange::fixed(1));
        }
        if let ("_?._", [operand, _]) = (function, args) {
            return self.cost(operand).plus(CostRange::fixed(1));
        }
        let arg_costs: Vec<CostRange> = args.iter().map(|arg| self.cost(arg)).collect();
        let Some(resolved) = self.checked.call(expr.id) else { return CostRange::default() };
        let target = target.filter(|_| resolved.method);
        let sum = target.map(|target| self.cost(target)).unwrap_or_default();
        let mut function_cost = CostRange::new(u64::MAX, 0);
        let mut result_size: Option<CostRange> = None;
        for overload in &resolved.overloads {
            let call = Call { cost: resolved.function.cost, overload: overload.id, target, args };
            let (cost, size) = self.function_cost(expr, &call, &arg_costs);
            function_cost = function_cost.union(cost);
            if let Some(size) = size {
                result_size = Some(result_size.map_or(size, |known| known.union(size)));
            }
            if let ("index_list" | "index_map", Some(container)) = (overload.id, args.first()) {
                result_size = self.entry_size(container).map(|entry| entry.value);
                let mut path = self.path(container);
                path.push(if overload.id == "index_list" { "@items" } else { "@values" }.into());
                self.paths.insert(expr.id, path);
            }
            if result_size.is_none() {
                result_size = self.compute_size(expr);
            }
        }
        self.set_size(expr, result_size);
        sum.plus(function_cost)
    }

    fn function_cost(
        &mut self,
        expr: &Expr,
        call: &Call<'_>,
        arg_costs: &[CostRange],
    ) -> (CostRange, Option<CostRange>) {
        let all = arg_costs.iter().fold(CostRange::default(), |sum, cost| sum.plus(*cost));
        match (call.cost, arg_costs, call.args) {
            (Cost::Logical, [one, other], _) => {
                (CostRange::new(one.min, one.max.saturating_add(other.max)), None)
            }
            (Cost::Conditional, [condition, yes, no], [_, one, other]) => {
                let size = self.size_or_unknown(one).union(self.size_or_unknown(other));
                let entry = EntrySize::union(self.entry_size(one), self.entry_size(other));
                if let Some(entry) = entry {
                    self.entries.insert(expr.id, entry);
                }
                (condition.plus(yes.union(*no)), Some(size))
            }
            (Cost::Add, _, [one, other]) => {
                let entry = EntrySize::union(self.entry_size(one), self.entry_size(other));
                if let Some(entry) = entry {
                    self.entries.insert(expr.id, entry);
                }
                let (cost, size) = calls::estimate(self, call);
                (cost.plus(all), size)
            }
            _ => {
                let (cost, size) = calls::estimate(self, call);
                (cost.plus(all), size)
            }
        }
    }

    fn list(&mut self, expr: &Expr, items: &[(Expr, bool)]) -> CostRange {
        let mut sum = CostRange::default();
        let mut value = CostRange::new(if items.is_empty() { 0 } else { u64::MAX }, 0);
        for (item, _) in items {
            sum = sum.plus(self.cost(item));
            value = value.union(self.size_or_unknown(item));
        }
        self.entries.insert(expr.id, EntrySize { is_list: true, key: CostRange::fixed(1), value });
        sum.plus(CostRange::fixed(LIST))
    }

    fn map(&mut self, expr: &Expr) -> CostRange {
        let Kind::Map(entries) = &expr.kind else { return CostRange::default() };
        let mut sum = CostRange::default();
        let least = if entries.is_empty() { 0 } else { u64::MAX };
        let (mut key, mut value) = (CostRange::new(least, 0), CostRange::new(least, 0));
        for entry in entries {
            sum = sum.plus(self.cost(&entry.key)).plus(self.cost(&entry.value));
            key = key.union(self.size_or_unknown(&entry.key));
            value = value.union(self.size_or_unknown(&entry.value));
        }
        self.entries.insert(expr.id, EntrySize { is_list: false, key, value });
        sum.plus(CostRange::fixed(MAP))
    }

    fn bind(&mut self, expr: &Expr, fold: &Fold) -> CostRange {
        let sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        self.push_value(&fold.accu, &fold.init);
        let sum = sum.plus(self.cost(&fold.result));
        self.locals.pop();
        self.copy_sizes(expr, &fold.result);
        sum
    }

    fn fold(&mut self, expr: &Expr, fold: &Fold) -> CostRange {
        let mut sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        self.push_value(&fold.accu, &fold.init);
        let entry = self.entry_size(&fold.range);
        let is_list =
            entry.map_or_else(|| matches!(self.type_of(&fold.range), Type::List(_)), |entry| entry.is_list);
        let (key, value) = if is_list { ("@indices", "@items") } else { ("@keys", "@values") };
        let key_size = entry.map(|entry| entry.key);
        let value_size = entry.map(|entry| entry.value);
        match &fold.var2 {
            Some(var2) => {
                self.push_item(&fold.var, &fold.range, key, key_size);
                self.push_item(var2, &fold.range, value, value_size);
            }
            None if is_list => self.push_item(&fold.var, &fold.range, value, value_size),
            None => self.push_item(&fold.var, &fold.range, key, key_size),
        }
        let each = self.cost(&fold.condition).plus(self.cost(&fold.step));
        let pushed = if fold.var2.is_some() { 2 } else { 1 };
        self.locals.truncate(self.locals.len().saturating_sub(pushed));
        sum = sum.plus(self.cost(&fold.result));
        self.locals.pop();
        let count = self.size_or_unknown(&fold.range);
        match &fold.init.kind {
            Kind::Literal(_) => {
                let size = self.compute_size(&fold.init);
                self.set_size(expr, size);
            }
            Kind::List(_) | Kind::Map(_) => {
                self.set_size(expr, Some(count));
                if let Some(entry) = self.entry_size(&fold.step) {
                    self.entries.insert(expr.id, entry);
                }
            }
            _ => {}
        }
        sum.plus(count.times(each))
    }

    /// A variable that stands for an expression.
    fn push_value(&mut self, name: &Arc<str>, of: &Expr) {
        let (path, entry) = (self.path(of), self.entry_size(of));
        let size = self.compute_size(of);
        self.locals.push(Local { name: name.clone(), path, size, entry });
    }

    /// A variable that stands for the items of a range.
    fn push_item(&mut self, name: &Arc<str>, range: &Expr, step: &str, size: Option<CostRange>) {
        let mut path = self.path(range);
        path.push(step.into());
        self.locals.push(Local { name: name.clone(), path, size, entry: None });
    }

    fn set_size(&mut self, expr: &Expr, size: Option<CostRange>) {
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
    }

    fn copy_sizes(&mut self, to: &Expr, from: &Expr) {
        let size = self.compute_size(from);
        self.set_size(to, size);
        if let Some(entry) = self.entry_size(from) {
            self.entries.insert(to.id, entry);
        }
    }

    fn entry_size(&self, expr: &Expr) -> Option<EntrySize> {
        if let Some(known) = self.entries.get(&expr.id) {
            return Some(*known);
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name)?.entry,
            _ => None,
        }
    }

    pub(super) fn size_or_unknown(&mut self, expr: &Expr) -> CostRange {
        self.compute_size(expr).unwrap_or(CostRange::UNKNOWN)
    }

    fn compute_size(&mut self, expr: &Expr) -> Option<CostRange> {
        if let Some(known) = self.sizes.get(&expr.id) {
            return Some(*known);
        }
        if let Some(size) = size_of_form(expr) {
            return Some(CostRange::fixed(size));
        }
        if let Some(size) = self.declared_size(&self.path(expr)) {
            self.sizes.insert(expr.id, size);
            return Some(size);
        }
        if self.type_of(expr).is_scalar() {
            return Some(CostRange::fixed(1));
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name)?.size,
            _ => None,
        }
    }

    /// The size that the declarations allow at a path.
    pub(super) fn declared_size(&self, path: &Path) -> Option<CostRange> {
        let (first, rest) = path.split_first()?;
        let root = (self.variable)(first)?;
        let mut decl = &root;
        let mut size = root.max_elements;
        for (index, name) in rest.iter().enumerate() {
            match decl.step(name)? {
                Step::Decl(below) => {
                    decl = below;
                    size = below.max_elements;
                }
                Step::Key(length) if index + 1 == rest.len() => size = length,
                Step::Key(_) => return None,
            }
        }
        Some(CostRange::new(0, size))
    }
}

fn size_of_form(expr: &Expr) -> Option<u64> {
    let count = match &expr.kind {
        Kind::Literal(Literal::String(text)) => text.chars().count(),
        Kind::Literal(Literal::Bytes(bytes)) => bytes.len(),
        Kind::Literal(_) => 1,
        Kind::List(items) => items.len(),
        Kind::Map(entries) => entries.len(),
        _ => return None,
    };
    Some(crate::value::size(count))
}
