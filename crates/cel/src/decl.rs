//! Declared types: what a variable may hold, how JSON becomes its values, and how large these may be.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cel_type::{self, Type};
use crate::escape::escape;

/// The largest request that upstream's API server takes, in bytes; sizes that no schema limits follow from it.
pub const MAX_REQUEST_BYTES: u64 = 3 * 1024 * 1024;

/// A declared type. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DeclType {
    pub(crate) shape: Shape,
    /// Most characters, bytes, items or entries; 0 for what has none.
    pub(crate) max_elements: u64,
    /// Fewest bytes of its JSON.
    pub(crate) min_size: u64,
    /// Takes null.
    pub(crate) nullable: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Shape {
    Dyn,
    /// Any JSON, and more, of a declared size.
    Any,
    /// A whole number or text; dynamic to the checker.
    IntOrString,
    Bool,
    Int,
    Double,
    String,
    /// Base64 in JSON.
    Bytes,
    /// Text in JSON.
    Duration,
    /// RFC 3339 in JSON.
    Timestamp,
    /// `2006-01-02` in JSON.
    Date,
    List(Arc<List>),
    Map(Arc<MapOf>),
    Object(Arc<Object>),
    Optional(Arc<DeclType>),
    /// A type of a library, by name; never in JSON.
    Library(&'static str),
}

/// How the items of a list belong together, which decides what equal lists are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListKind {
    /// Order counts.
    #[default]
    Atomic,
    /// Order does not count.
    Set,
    /// One item for each value of the keys; order does not count.
    Map,
}

/// A list.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) items: DeclType,
    pub(crate) kind: ListKind,
    /// Property names that identify an item.
    pub(crate) keys: Vec<String>,
}

/// A map of text to something.
#[derive(Debug)]
pub(crate) struct MapOf {
    /// Most characters of a key; 0 where nobody says.
    pub(crate) key_length: u64,
    pub(crate) values: DeclType,
}

/// An object with declared fields. Two are the same type when their names are.
#[derive(Debug)]
pub struct Object {
    pub(crate) name: String,
    /// By the identifier in expressions.
    pub(crate) fields: BTreeMap<String, Field>,
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

#[derive(Debug)]
pub(crate) struct Field {
    /// The name in JSON.
    pub(crate) name: String,
    pub(crate) decl: DeclType,
}

impl Object {
    /// The field of that name in JSON.
    pub(crate) fn property(&self, name: &str) -> Option<&Field> {
        // Most names are their own identifier.
        match self.fields.get(name) {
            Some(field) if field.name == name => Some(field),
            _ => self.fields.get(&escape(name)?),
        }
    }
}

/// What values without a declaration are.
pub(crate) static DYN: DeclType = DeclType::simple(Shape::Dyn, 1);

impl DeclType {
    pub(crate) const fn simple(shape: Shape, min_size: u64) -> Self {
        Self { shape, max_elements: 0, min_size, nullable: false }
    }

    /// Any JSON.
    pub const fn dynamic() -> Self {
        Self::simple(Shape::Dyn, 1)
    }

    /// What nobody can know before. Unlike [`DeclType::dynamic`] it cannot be gone through.
    pub const fn any() -> Self {
        Self::simple(Shape::Any, 1)
    }

    /// True or false.
    pub const fn bool() -> Self {
        Self::simple(Shape::Bool, 4)
    }

    /// A whole number.
    pub const fn int() -> Self {
        Self::simple(Shape::Int, 1)
    }

    /// Any number.
    pub const fn double() -> Self {
        Self::simple(Shape::Double, 1)
    }

    /// Text of at most so many characters, where that is known.
    pub const fn string(max_length: Option<u64>) -> Self {
        let max_elements = match max_length {
            Some(length) => length,
            None => MAX_REQUEST_BYTES - 2,
        };
        Self { shape: Shape::String, max_elements, min_size: 2, nullable: false }
    }

    /// A moment, as RFC 3339 in JSON.
    pub const fn timestamp() -> Self {
        Self { shape: Shape::Timestamp, max_elements: 32, min_size: 21, nullable: false }
    }

    /// A list of at most so many items, where that is known.
    pub fn list(items: DeclType, max_items: Option<u64>) -> Self {
        Self::list_of(items, max_items, ListKind::Atomic, Vec::new())
    }

    /// The same of a list of that kind.
    pub(crate) fn list_of(
        items: DeclType,
        max_items: Option<u64>,
        kind: ListKind,
        keys: Vec<String>,
    ) -> Self {
        // Two bytes for the brackets, one for each comma.
        let max_elements = max_items.unwrap_or((MAX_REQUEST_BYTES - 2) / (items.min_size + 1));
        let shape = Shape::List(Arc::new(List { items, kind, keys }));
        Self { shape, max_elements, min_size: 2, nullable: false }
    }

    /// A map of text to that, of at most so many entries, where that is known.
    pub fn map(values: DeclType, max_properties: Option<u64>) -> Self {
        Self::map_of(0, values, max_properties)
    }

    /// The same with keys of at most so many characters.
    pub fn map_of(key_length: u64, values: DeclType, max_properties: Option<u64>) -> Self {
        // Two bytes for the braces; for each entry at least two of a key, quotes, colon and comma.
        let max_elements = max_properties.unwrap_or((MAX_REQUEST_BYTES - 2) / (values.min_size + 6));
        let shape = Shape::Map(Arc::new(MapOf { key_length, values }));
        Self { shape, max_elements, min_size: 2, nullable: false }
    }

    /// An object of that name with these fields. Fields whose names no identifier can express are left out.
    pub fn object(name: &str, fields: impl IntoIterator<Item = (String, DeclType)>) -> Self {
        let named = |(name, decl): (String, DeclType)| Some((escape(&name)?, Field { name, decl }));
        let fields = fields.into_iter().filter_map(named).collect();
        Self::simple(Shape::Object(Arc::new(Object { name: name.to_owned(), fields })), 2)
    }

    /// The same of fields that are named in expressions as they are in JSON, also by words that elsewhere are escaped
    /// (`namespace`).
    pub fn plain_object(name: &str, fields: impl IntoIterator<Item = (String, DeclType)>) -> Self {
        let fields = fields.into_iter().map(|(name, decl)| (name.clone(), Field { name, decl }));
        Self::simple(Shape::Object(Arc::new(Object { name: name.to_owned(), fields: fields.collect() })), 2)
    }

    /// A value that may not be there.
    pub fn optional(inner: DeclType) -> Self {
        let max_elements = inner.max_elements;
        Self { shape: Shape::Optional(Arc::new(inner)), max_elements, min_size: 1, nullable: false }
    }

    /// The library's amounts.
    pub const fn quantity() -> Self {
        Self::simple(Shape::Library(cel_type::QUANTITY), 8)
    }

    /// The library's `authorizer`.
    pub const fn authorizer() -> Self {
        Self::simple(Shape::Library(cel_type::AUTHORIZER), 1)
    }

    /// The library's check of one resource: `authorizer.requestResource`.
    pub const fn resource_check() -> Self {
        Self::simple(Shape::Library(cel_type::RESOURCE_CHECK), 1)
    }

    /// The same of at most so many characters, bytes, items or entries.
    #[must_use]
    pub const fn sized(mut self, max_elements: u64) -> Self {
        self.max_elements = max_elements;
        self
    }

    /// The same that takes null.
    pub fn nullable(mut self) -> Self {
        self.nullable = true;
        self
    }

    /// Fewest bytes of its JSON.
    pub const fn min_size(&self) -> u64 {
        self.min_size
    }

    /// How often such data can occur in one request at most, if no schema above limits it.
    pub const fn max_cardinality(&self) -> u64 {
        MAX_REQUEST_BYTES / (self.min_size + 1)
    }

    /// The declaration of a field, by its name in JSON.
    pub fn field(&self, name: &str) -> Option<&DeclType> {
        match &self.shape {
            Shape::Object(object) => object.property(name).map(|field| &field.decl),
            _ => None,
        }
    }

    /// What a list or a map holds.
    pub fn element(&self) -> Option<&DeclType> {
        match &self.shape {
            Shape::List(list) => Some(&list.items),
            Shape::Map(map) => Some(&map.values),
            _ => None,
        }
    }

    /// The type that the checker sees.
    pub fn cel_type(&self) -> Type {
        match &self.shape {
            Shape::Dyn | Shape::IntOrString => Type::Dyn,
            Shape::Any => Type::Any,
            Shape::Bool => Type::Bool,
            Shape::Int => Type::Int,
            Shape::Double => Type::Double,
            Shape::String => Type::String,
            Shape::Bytes => Type::Bytes,
            Shape::Duration => Type::Duration,
            Shape::Timestamp | Shape::Date => Type::Timestamp,
            Shape::List(list) => Type::list(list.items.cel_type()),
            Shape::Map(map) => Type::map(Type::String, map.values.cel_type()),
            Shape::Object(object) => Type::Object(object.clone()),
            Shape::Optional(inner) => Type::optional(inner.cel_type()),
            Shape::Library(name) => Type::Library(name),
        }
    }

    /// The declaration one step of a path further: a field's identifier, `@items` or `@values`.
    pub(crate) fn step(&self, name: &str) -> Option<Step<'_>> {
        match (&self.shape, name) {
            (Shape::Optional(inner), _) => inner.step(name),
            (Shape::List(list), "@items" | "@values") => Some(Step::Decl(&list.items)),
            (Shape::Map(map), "@items" | "@values") => Some(Step::Decl(&map.values)),
            (Shape::Map(map), "@keys") => Some(Step::Key(map.key_length)),
            // Selecting a key is as good as asking for it, where it can be told from nothing else.
            (Shape::Map(map), _) if matches!(map.values.shape, Shape::Any) => Some(Step::Decl(&map.values)),
            (Shape::Object(object), _) => object.fields.get(name).map(|field| Step::Decl(&field.decl)),
            _ => None,
        }
    }
}

/// Where a step of a path leads.
pub(crate) enum Step<'d> {
    Decl(&'d DeclType),
    /// A key of a map: text of at most so many characters. Where nobody says how many, upstream takes none.
    Key(u64),
}
