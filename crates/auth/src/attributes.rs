use crate::UserInfo;

/// What a request wants to do: all that an authorizer may look at.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a UserInfo,
    /// What for: `get`, `list`, `create` …; for a path, the HTTP method in lower case.
    pub verb: &'a str,
    /// On what.
    pub target: Target<'a>,
}

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// An object, or a collection of them.
    Resource(Resource<'a>),
    /// Any other path, such as `/version`.
    Path(&'a str),
}

/// An object or a collection. Empty strings stand for what the request does not name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resource<'a> {
    /// API group; empty for the core group.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// The plural.
    pub resource: &'a str,
    /// The subresource.
    pub subresource: &'a str,
    /// The namespace; empty at the cluster's scope.
    pub namespace: &'a str,
    /// The object's name; empty for a collection.
    pub name: &'a str,
    /// The field selector of a list or watch, as the client wrote it.
    pub field_selector: &'a str,
}

impl<'a> Attributes<'a> {
    /// The resource asked for, unless the request is about a path.
    pub fn resource(&self) -> Option<&Resource<'a>> {
        match &self.target {
            Target::Resource(resource) => Some(resource),
            Target::Path(_) => None,
        }
    }
}
