//! Query parameters, and the options of each verb that they stand for.

use apimachinery::field::{FieldError, Path};
use apimachinery::gvk::{GroupKind, GroupVersionKind};
use apimachinery::status::Status;
use registry::{DeleteOptions, FieldValidation, ListOptions, Propagation, ResourceVersionMatch};
use serde_json::Value;

use crate::protobuf::DELETE_OPTIONS;

/// The parameters of a request, decoded; of several of the same name the first counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let Some(query) = query.filter(|query| !query.is_empty()) else { return Self::default() };
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// The parameter's value.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Every value of the parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Every parameter.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// A parameter that is true unless it says that it is not: as upstream reads flags.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value, "false" | "False" | "FALSE" | "0" | "f" | "F"))
    }

    fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    /// A whole number, if the parameter is there.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax ({name})"))
            }),
        }
    }

    /// Options of list, watch and deletecollection.
    pub(crate) fn list_options(&self, is_watch: bool) -> Result<ListOptions, Status> {
        let resource_version_match = self.resource_version_match(is_watch)?;
        let limit = self.number("limit")?.unwrap_or(0);
        Ok(ListOptions {
            label_selector: self.text("labelSelector"),
            field_selector: self.text("fieldSelector"),
            limit: u64::try_from(limit).unwrap_or(0),
            continue_token: self.text("continue"),
            resource_version: self.text("resourceVersion"),
            resource_version_match,
            allow_bookmarks: self.flag("allowWatchBookmarks"),
            send_initial_events: self.flag("sendInitialEvents"),
        })
    }

    /// How the resourceVersion is meant; an error where it does not go together with other options.
    fn resource_version_match(&self, is_watch: bool) -> Result<Option<ResourceVersionMatch>, Status> {
        let mut errors = Vec::new();
        let (path, initial) = (Path::new("resourceVersionMatch"), Path::new("sendInitialEvents"));
        let said = self.get("resourceVersionMatch").filter(|said| !said.is_empty());
        let (version, sends) = (self.text("resourceVersion"), self.get("sendInitialEvents").is_some());
        let mut forbid = |path: &Path<'_>, why: &str| errors.push(FieldError::forbidden(path, why));
        if is_watch && sends && said != Some("NotOlderThan") {
            forbid(&path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
        }
        if is_watch && !sends && said.is_some() {
            forbid(&path, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
        }
        if !is_watch && said.is_some() && version.is_empty() {
            forbid(&path, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if said.is_some() && self.get("continue").is_some_and(|token| !token.is_empty()) {
            forbid(&path, "resourceVersionMatch is forbidden when continue is provided");
        }
        if !is_watch && said == Some("Exact") && version == "0" {
            forbid(&path, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
        if !is_watch && sends {
            forbid(&initial, "sendInitialEvents is forbidden for list");
        }
        let supported: &[&str] = if is_watch { &["NotOlderThan"] } else { &["Exact", "NotOlderThan", ""] };
        let read = match said {
            None => None,
            Some("NotOlderThan") => Some(ResourceVersionMatch::NotOlderThan),
            Some("Exact") if !is_watch => Some(ResourceVersionMatch::Exact),
            Some(other) => {
                errors.push(FieldError::not_supported(&path, other, supported));
                None
            }
        };
        if errors.is_empty() {
            return Ok(read);
        }
        Err(Status::invalid(&GroupKind::of("meta.k8s.io", "ListOptions"), "", errors))
    }

    /// What a write says about itself, under the name of its options' kind.
    pub(crate) fn write_options(&self, kind: &'static str) -> Result<WriteOptions, Status> {
        self.options(kind, Vec::new())
    }

    /// What a patch says about itself, and whether it forces others' fields. One that applies names its manager.
    pub(crate) fn patch_options(&self, applies: bool) -> Result<(WriteOptions, bool), Status> {
        let mut errors = Vec::new();
        if applies && self.get("fieldManager").is_none_or(str::is_empty) {
            errors.push(FieldError::required(&Path::new("fieldManager"), "is required for apply patch"));
        }
        if !applies && self.get("force").is_some() {
            errors
                .push(FieldError::forbidden(&Path::new("force"), "may not be specified for non-apply patch"));
        }
        Ok((self.options("PatchOptions", errors)?, self.flag("force")))
    }

    fn options(&self, kind: &'static str, mut errors: Vec<FieldError>) -> Result<WriteOptions, Status> {
        let dry_run = self.all("dryRun").any(|value| value == "All");
        if let Some(other) = self.all("dryRun").find(|value| !matches!(*value, "All" | "")) {
            errors.push(FieldError::not_supported(&Path::new("dryRun"), other, &["All"]));
        }
        let field_validation = match self.get("fieldValidation") {
            None | Some("") => FieldValidation::default(),
            Some("Ignore") => FieldValidation::Ignore,
            Some("Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let path = Path::new("fieldValidation");
                errors.push(FieldError::not_supported(&path, other, &["", "Ignore", "Strict", "Warn"]));
                FieldValidation::default()
            }
        };
        let field_manager = self.text("fieldManager");
        if field_manager.len() > 128 {
            errors.push(FieldError::too_long(&Path::new("fieldManager"), 128));
        }
        for (at, c) in field_manager.char_indices().filter(|(_, c)| c.is_control()) {
            let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
            errors.push(FieldError::invalid(&Path::new("fieldManager"), field_manager.as_str(), why));
        }
        if errors.is_empty() {
            return Ok(WriteOptions { dry_run, field_manager, field_validation });
        }
        Err(Status::invalid(&GroupKind::of("meta.k8s.io", kind), "", errors))
    }

    /// Options of delete: those of the body where it has any, else the parameters.
    pub(crate) fn delete_options(&self, body: Option<Value>) -> Result<(DeleteOptions, bool), Status> {
        let mut options = match body {
            Some(body) => body,
            None => self.delete_options_value()?,
        };
        conform_delete_options(&mut options)?;
        read_delete_options(&options)
    }

    fn delete_options_value(&self) -> Result<Value, Status> {
        let mut options = serde_json::Map::new();
        if let Some(seconds) = self.number("gracePeriodSeconds")? {
            options.insert("gracePeriodSeconds".into(), seconds.into());
        }
        if let Some(policy) = self.get("propagationPolicy") {
            options.insert("propagationPolicy".into(), policy.into());
        }
        if self.get("orphanDependents").is_some() {
            options.insert("orphanDependents".into(), self.flag("orphanDependents").into());
        }
        let dry_run: Vec<Value> = self.all("dryRun").map(Value::from).collect();
        if !dry_run.is_empty() {
            options.insert("dryRun".into(), dry_run.into());
        }
        Ok(Value::Object(options))
    }
}

/// What a write says about itself.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_manager: String,
    pub(crate) field_validation: FieldValidation,
}

/// Refuses what are no options of a delete: to pass over them could delete more, or sooner, than the client asked for.
fn conform_delete_options(options: &mut Value) -> Result<(), Status> {
    // They come under the group version of whatever they are options for.
    if let Some(other) = options.get("kind").filter(|kind| *kind != "DeleteOptions" && *kind != "") {
        return Err(Status::bad_request(format!(
            "decoded object cannot be converted to DeleteOptions: {other}"
        )));
    }
    let Some(schema) = api::schemas::builtin().definition(DELETE_OPTIONS) else { return Ok(()) };
    let gvk = GroupVersionKind::of("", "v1", "DeleteOptions");
    schema.get().conform(options).map(drop).map_err(|error| error.to_status(&gvk))
}

fn read_delete_options(options: &Value) -> Result<(DeleteOptions, bool), Status> {
    let mut errors = Vec::new();
    let text = |pointer: &str| options.pointer(pointer).and_then(Value::as_str);
    let orphan = options.get("orphanDependents").and_then(Value::as_bool);
    let mut propagation = orphan.map(|yes| if yes { Propagation::Orphan } else { Propagation::Background });
    if let Some(policy) = text("/propagationPolicy").filter(|policy| !policy.is_empty()) {
        let path = Path::new("propagationPolicy");
        if propagation.is_some() {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid(&path, policy, detail));
        }
        match policy {
            "Orphan" => propagation = Some(Propagation::Orphan),
            "Background" => propagation = Some(Propagation::Background),
            "Foreground" => propagation = Some(Propagation::Foreground),
            other => {
                errors.push(FieldError::not_supported(
                    &path,
                    other,
                    &["Foreground", "Background", "Orphan", "nil"],
                ));
            }
        }
    }
    let mut dry_run = false;
    for value in options.get("dryRun").and_then(Value::as_array).into_iter().flatten() {
        match value.as_str() {
            Some("All") => dry_run = true,
            Some("") => {}
            other => {
                let shown = other.unwrap_or_default();
                errors.push(FieldError::not_supported(&Path::new("dryRun"), shown, &["All"]));
            }
        }
    }
    if !errors.is_empty() {
        return Err(Status::invalid(&GroupKind::of("meta.k8s.io", "DeleteOptions"), "", errors));
    }
    let read = DeleteOptions {
        grace_period_seconds: options.get("gracePeriodSeconds").and_then(Value::as_i64),
        propagation,
        uid: text("/preconditions/uid").map(str::to_owned),
        resource_version: text("/preconditions/resourceVersion").map(str::to_owned),
    };
    Ok((read, dry_run))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn flags_are_read_as_upstream_reads_them() {
        let query = Query::parse(Some("a=true&b=false&c&d=0&e=x&f=1"));
        let set: Vec<&str> =
            ["a", "b", "c", "d", "e", "f", "g"].into_iter().filter(|name| query.flag(name)).collect();
        assert_eq!(set, ["a", "c", "e", "f"]);
    }

    #[test]
    fn delete_options_come_from_the_body_or_the_query() {
        let query = Query::parse(Some("propagationPolicy=Foreground&gracePeriodSeconds=5&dryRun=All"));
        let (options, dry_run) = query.delete_options(None).unwrap();
        assert!(dry_run);
        assert_eq!(
            (options.propagation, options.grace_period_seconds),
            (Some(Propagation::Foreground), Some(5))
        );
        let body = json!({"orphanDependents": true, "preconditions": {"uid": "u"}});
        let (options, dry_run) = query.delete_options(Some(body)).unwrap();
        assert!(!dry_run);
        assert_eq!((options.propagation, options.uid.as_deref()), (Some(Propagation::Orphan), Some("u")));
        let wrong = Query::parse(Some("propagationPolicy=Sideways")).delete_options(None).unwrap_err();
        assert_eq!(wrong.code, 422);
        assert!(wrong.message.contains("Sideways"), "{wrong}");
    }

    #[test]
    fn malformed_delete_options_delete_nothing() {
        let query = Query::default();
        for body in [
            json!({"dryRun": "All"}),
            json!({"gracePeriodSeconds": "soon"}),
            json!({"preconditions": {"uid": 7}}),
            json!({"preconditions": "u"}),
            json!({"propagationPolicy": ["Orphan"]}),
            json!({"orphanDependents": "true"}),
            json!({"kind": "Pod"}),
            json!([]),
            json!("All"),
        ] {
            let refused = query.delete_options(Some(body.clone())).unwrap_err();
            assert_eq!(refused.code, 400, "{body}: {refused}");
        }
        for body in
            [json!({"kind": "DeleteOptions", "apiVersion": "apps/v1"}), json!({"unknown": 1}), json!({})]
        {
            query.delete_options(Some(body)).unwrap();
        }
    }

    #[test]
    fn write_options_name_what_is_wrong() {
        let options = Query::parse(Some("dryRun=All&fieldManager=me&fieldValidation=Strict"));
        let options = options.write_options("CreateOptions").unwrap();
        assert!(options.dry_run && options.field_manager == "me");
        assert_eq!(options.field_validation, FieldValidation::Strict);
        let error = Query::parse(Some("dryRun=Some")).write_options("CreateOptions").unwrap_err();
        assert!(error.message.starts_with("CreateOptions.meta.k8s.io \"\" is invalid: dryRun:"), "{error}");
    }
}
