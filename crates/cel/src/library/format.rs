//! Named formats of text: `format.dns1123Label().validate(x)` gives what is wrong with it, if anything is.

use apimachinery::meta::names;
use apimachinery::schema::format_holds;

use super::{Decl, Run, decl, no_overload};
use crate::context::Context;
use crate::cost::Cost;
use crate::value::{Library, Outcome, Value};

pub(super) const TABLE: &[Decl] = &[
    decl(
        "validate",
        Cost::Validate,
        validate,
        &[("format-validate", "Format.(string) -> optional(list(string))")],
    ),
    decl("format.named", Cost::One, named, &[("format-named", "(string) -> optional(Format)")]),
];

/// A format.
#[derive(Debug)]
pub struct NamedFormat {
    pub(crate) name: &'static str,
    /// What is wrong with a text.
    faults: fn(&str) -> Vec<String>,
    /// The length that its regular expression would have, for costs.
    pub(crate) pattern_length: u64,
}

/// A format and the function that gives it.
macro_rules! formats {
    ($($constant:ident $name:literal $faults:expr, $length:literal;)*) => {
        $(static $constant: NamedFormat = NamedFormat { name: $name, faults: $faults, pattern_length: $length };)*

        const FORMATS: &[&NamedFormat] = &[$(&$constant),*];

        pub(super) const NAMED: &[Decl] = &[$({
            fn give<'a>(_: &mut Context, _: &[Value<'a>]) -> Outcome<'a> {
                Ok(Value::Library(Library::Format(&$constant)))
            }
            const RUN: Run = give;
            const ID: &str = concat!("format.", $name);
            decl(ID, Cost::One, RUN, &[(ID, "() -> Format")])
        }),*];
    };
}

formats! {
    DNS1123_LABEL "dns1123Label" names::dns1123_label, 30;
    DNS1123_SUBDOMAIN "dns1123Subdomain" names::dns1123_subdomain, 60;
    DNS1035_LABEL "dns1035Label" names::dns1035_label, 30;
    QUALIFIED_NAME "qualifiedName" names::qualified_name, 60;
    DNS1123_LABEL_PREFIX "dns1123LabelPrefix" |text| names::dns1123_label(&masked(text)), 30;
    DNS1123_SUBDOMAIN_PREFIX "dns1123SubdomainPrefix" |text| names::dns1123_subdomain(&masked(text)), 60;
    DNS1035_LABEL_PREFIX "dns1035LabelPrefix" |text| names::dns1035_label(&masked(text)), 30;
    LABEL_VALUE "labelValue" names::label_value, 40;
    URI "uri" uri, 1103;
    UUID "uuid" |text| of("uuid", text, "does not match the UUID format"), 69;
    BYTE "byte" |text| of("byte", text, "invalid base64"), 84;
    DATE "date" |text| of("date", text, "invalid date"), 97;
    DATETIME "datetime" |text| of("datetime", text, "invalid datetime"), 97;
}

/// A prefix of a name may end in a dash: what is generated follows it.
fn masked(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => {
            let kept = rest.char_indices().next_back().map_or(0, |(at, _)| at);
            format!("{}a", rest.get(..kept).unwrap_or_default())
        }
        _ => text.to_owned(),
    }
}

fn of(format: &str, text: &str, fault: &str) -> Vec<String> {
    if format_holds(format, text) { Vec::new() } else { vec![fault.to_owned()] }
}

fn uri(text: &str) -> Vec<String> {
    super::url::parse(text).err().into_iter().collect()
}

fn validate<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Library(Library::Format(format)), Value::String(text)] = args else { return no_overload() };
    context.work(1 + crate::value::size(text.len()))?;
    let faults: Vec<Value<'a>> = (format.faults)(text).into_iter().map(Value::from).collect();
    Ok(Value::optional(if faults.is_empty() { None } else { Some(faults.into()) }))
}

fn named<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(name)] = args else { return no_overload() };
    let found = FORMATS.iter().find(|format| *format.name == **name);
    Ok(Value::optional(found.map(|format| Value::Library(Library::Format(format)))))
}
