//! Signatures as text: `list(A).(A) -> int`, `(string, bool) -> Semver`. Single capital letters are type parameters.

use super::Overload;
use crate::cel_type::{self, Type};

/// The overload of that signature; none if it is malformed, which a test excludes.
pub(super) fn parse(id: &'static str, text: &str) -> Option<Overload> {
    let mut reader = Reader { rest: text, params: Vec::new() };
    let mut args = Vec::new();
    let method = !text.starts_with('(');
    if method {
        args.push(reader.one()?);
        reader.take(".")?;
    }
    reader.take("(")?;
    args.extend(reader.list()?);
    reader.take("->")?;
    let result = reader.one()?;
    let params = u32::try_from(reader.params.len()).ok()?;
    reader.rest.is_empty().then_some(Overload { id, method, args, result, params })
}

struct Reader<'t> {
    rest: &'t str,
    params: Vec<&'t str>,
}

impl<'t> Reader<'t> {
    fn take(&mut self, sign: &str) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(sign)?.trim_start();
        Some(())
    }

    /// Types up to a closing bracket, which is taken.
    fn list(&mut self) -> Option<Vec<Type>> {
        let mut types = Vec::new();
        if self.take(")").is_some() {
            return Some(types);
        }
        loop {
            types.push(self.one()?);
            if self.take(",").is_none() {
                self.take(")")?;
                return Some(types);
            }
        }
    }

    fn one(&mut self) -> Option<Type> {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest.trim_start();
        let mut inner = Vec::new();
        if ["list", "map", "optional", "type"].contains(&name) {
            self.take("(")?;
            inner = self.list()?;
        }
        let mut inner = inner.into_iter();
        Some(match name {
            "list" => Type::list(inner.next()?),
            "map" => Type::map(inner.next()?, inner.next()?),
            "optional" => Type::optional(inner.next()?),
            "type" => Type::Of(Some(inner.next()?.into())),
            "dyn" => Type::Dyn,
            "duration" => Type::Duration,
            "timestamp" => Type::Timestamp,
            "URL" => Type::Library(cel_type::URL),
            "Quantity" => Type::Library(cel_type::QUANTITY),
            "Semver" => Type::Library(cel_type::SEMVER),
            "Format" => Type::Library(cel_type::FORMAT),
            "IP" => Type::Opaque(cel_type::IP, Vec::new()),
            "CIDR" => Type::Opaque(cel_type::CIDR, Vec::new()),
            "Authorizer" => Type::Library(cel_type::AUTHORIZER),
            "PathCheck" => Type::Library(cel_type::PATH_CHECK),
            "GroupCheck" => Type::Library(cel_type::GROUP_CHECK),
            "ResourceCheck" => Type::Library(cel_type::RESOURCE_CHECK),
            "Decision" => Type::Library(cel_type::DECISION),
            name if name.len() == 1 => {
                let known = self.params.iter().position(|param| *param == name);
                let index = known.unwrap_or_else(|| {
                    self.params.push(name);
                    self.params.len() - 1
                });
                Type::Param(u32::try_from(index).ok()?)
            }
            name => Type::named(name)?,
        })
    }
}
