//! Where a PersistentVolume's bytes are: one source of many kinds.

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::dns1123_label;
use serde_json::{Value, json};

use crate::checks::{csi_driver, invalid, required, secret_reference, supported};
use crate::tree::{at, at_mut, default, default_text, entries, is_true, items, number, text};

/// Each kind of source in upstream's order: its field, and what of it must be there.
const SOURCES: &[(&str, &[&str])] = &[
    ("hostPath", &["path"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("nfs", &["server", "path"]),
    ("rbd", &["monitors", "image"]),
    ("quobyte", &[]),
    ("cephfs", &["monitors"]),
    ("iscsi", &["targetPortal"]),
    ("cinder", &["volumeID"]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("local", &["path"]),
    ("storageos", &["volumeName"]),
    ("csi", &[]),
];

/// Sources that nothing serves any more, and since when.
const DEPRECATED: &[(&str, &str, &str)] = &[
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated since v1.11, non-functional in v1.16+"),
    ("scaleIO", "scaleIO", "deprecated since v1.16, non-functional in v1.22+"),
    ("storageos", "storageOS", "deprecated since v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated since v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated since v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated since v1.28, non-functional in v1.31+"),
];

const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// The fields of a spec that say where its bytes are.
pub(crate) fn fields() -> impl Iterator<Item = &'static str> {
    SOURCES.iter().map(|(name, _)| *name)
}

/// What users of a source should know.
pub(crate) fn warnings(spec: &Value) -> impl Iterator<Item = String> + '_ {
    let used = DEPRECATED.iter().filter(|(field, _, _)| spec.get(*field).is_some());
    used.map(|(_, name, why)| format!("spec.{name}: {why}"))
}

/// Fills in what upstream does.
pub(crate) fn default_source(spec: &mut Value) {
    let fill = |spec: &mut Value, source: &str, texts: &[(&str, &str)]| {
        if let Some(source) = at_mut(spec, &[source]) {
            texts.iter().for_each(|(field, value)| default_text(source, field, value));
        }
    };
    if let Some(path) = at_mut(spec, &["hostPath"]) {
        default(path, "type", "");
    }
    fill(spec, "iscsi", &[("iscsiInterface", "default")]);
    fill(spec, "rbd", &[("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")]);
    fill(spec, "scaleIO", &[("storageMode", "ThinProvisioned"), ("fsType", "xfs")]);
    if let Some(disk) = at_mut(spec, &["azureDisk"]) {
        for (field, value) in [("cachingMode", "ReadWrite"), ("kind", "Shared"), ("fsType", "ext4")] {
            default(disk, field, value);
        }
        default(disk, "readOnly", false);
    }
}

/// Checks that there is one source, and what is wrong with it. `name` is the volume's.
pub(crate) fn validate(spec: &Value, name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut is_found = false;
    for (field, fields) in SOURCES {
        let Some(source) = spec.get(*field).filter(|source| source.is_object()) else { continue };
        if is_found {
            let shown = if *field == "cephfs" { "cephFS" } else { field };
            let why = "may not specify more than 1 volume type";
            errors.push(FieldError::forbidden(&path.child(shown), why));
            continue;
        }
        is_found = true;
        let at_source = path.child(if *field == "gcePersistentDisk" { "persistentDisk" } else { field });
        let before = errors.len();
        for needed in *fields {
            required(source, needed, &at_source, errors);
        }
        if !(errors.len() > before && matches!(*field, "hostPath" | "local")) {
            validate_one(field, source, Some(name), &at_source, errors);
        }
    }
    if !is_found {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
    if spec.get("local").is_some() && at(spec, &["nodeAffinity", "required"]).is_none() {
        errors.push(FieldError::required(&path.child("nodeAffinity"), "Local volume requires node affinity"));
    }
}

/// Checks a source of that kind, of which what must be there is. `name` is that of the PersistentVolume; a volume of a pod
/// gives none.
pub(super) fn validate_one(
    kind: &str,
    source: &Value,
    name: Option<&str>,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    match kind {
        "hostPath" => {
            no_backsteps(text(source, &["path"]), &path.child("path"), errors);
            supported(source, "type", HOST_PATH_TYPES, path, errors);
        }
        "local" => no_backsteps(text(source, &["path"]), &path.child("path"), errors),
        "nfs" if !text(source, &["path"]).starts_with('/') => {
            let given = text(source, &["path"]);
            errors.push(FieldError::invalid(&path.child("path"), given, "must be an absolute path"));
        }
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            let partition = number(source, &["partition"]).unwrap_or_default();
            if !(0..=255).contains(&partition) {
                // Upstream's words, though it takes 0 for unset.
                let why = "must be between 1 and 255, inclusive";
                errors.push(FieldError::invalid(&path.child("partition"), partition, why));
            }
        }
        "glusterfs" => validate_glusterfs(source, path, errors),
        "flocker" => validate_flocker(source, path, errors),
        "quobyte" => validate_quobyte(source, path, errors),
        "iscsi" => validate_iscsi(source, name, path, errors),
        "fc" => validate_fc(source, path, errors),
        "flexVolume" => validate_flex(source, path, errors),
        "azureFile" if at(source, &["secretNamespace"]) == Some(&json!("")) => {
            errors.push(FieldError::required(&path.child("secretNamespace"), ""));
        }
        "azureDisk" => validate_azure_disk(source, path, errors),
        "cinder" => secret_names(source, path, errors),
        "storageos" => {
            for field in ["volumeName", "volumeNamespace"] {
                let name = text(source, &[field]);
                if !name.is_empty() {
                    invalid(&path.child(field), name, dns1123_label(name), errors);
                }
            }
            secret_names(source, path, errors);
        }
        "csi" => {
            csi_driver(text(source, &["driver"]), &path.child("driver"), errors);
            required(source, "volumeHandle", path, errors);
            for field in [
                "controllerPublishSecretRef",
                "controllerExpandSecretRef",
                "nodePublishSecretRef",
                "nodeExpandSecretRef",
            ] {
                if let Some(reference) = source.get(field) {
                    secret_reference(reference, &path.child(field), errors);
                }
            }
        }
        _ => {}
    }
}

/// A path that does not lead up.
pub(super) fn no_backsteps(given: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if given.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, given, "must not contain '..'"));
    }
}

fn within_a_byte(given: i64, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if !(0..=255).contains(&given) {
        errors.push(FieldError::invalid(path, given, "must be between 0 and 255, inclusive"));
    }
}

fn secret_names(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(reference) = source.get("secretRef") {
        let at_reference = path.child("secretRef");
        required(reference, "name", &at_reference, errors);
        required(reference, "namespace", &at_reference, errors);
    }
}

fn validate_glusterfs(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let Some(namespace) = at(source, &["endpointsNamespace"]).and_then(Value::as_str) else { return };
    let at_namespace = path.child("endpointsNamespace");
    if namespace.is_empty() {
        let why = "if the endpointnamespace is set, it must be a valid namespace name";
        errors.push(FieldError::invalid(&at_namespace, namespace, why));
    } else {
        invalid(&at_namespace, namespace, dns1123_label(namespace), errors);
    }
}

fn validate_flocker(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (name, uuid) = (text(source, &["datasetName"]), text(source, &["datasetUUID"]));
    if name.is_empty() && uuid.is_empty() {
        errors.push(FieldError::required(path, "one of datasetName and datasetUUID is required"));
    }
    if !name.is_empty() && !uuid.is_empty() {
        let why = "datasetName and datasetUUID can not be specified simultaneously";
        errors.push(FieldError::invalid(path, "resource", why));
    }
    if name.contains('/') {
        errors.push(FieldError::invalid(&path.child("datasetName"), name, "must not contain '/'"));
    }
}

fn validate_quobyte(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let registry = text(source, &["registry"]);
    let why = "must be a host:port pair or multiple pairs separated by commas";
    if registry.is_empty() {
        errors.push(FieldError::required(&path.child("registry"), why));
    } else if text(source, &["tenant"]).len() >= 65 {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(FieldError::required(&path.child("tenant"), why));
    } else {
        let broken = registry.split(',').filter(|pair| !pair.contains(':'));
        errors.extend(broken.map(|_| FieldError::invalid(&path.child("registry"), registry, why)));
    }
    required(source, "volume", path, errors);
}

fn validate_iscsi(source: &Value, name: Option<&str>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let portal = text(source, &["targetPortal"]);
    let initiator = at(source, &["initiatorName"]).and_then(Value::as_str);
    if initiator.is_some() && name.is_some_and(|name| name.len() + portal.len() + 1 > 64) {
        let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                   iscsi.initiatorName is specified.";
        errors.push(FieldError::invalid(&path.child("targetportal"), portal, why));
    }
    if required(source, "iqn", path, errors) {
        let iqn = text(source, &["iqn"]);
        iscsi_name(iqn, &path.child("iqn"), errors);
    }
    within_a_byte(number(source, &["lun"]).unwrap_or_default(), &path.child("lun"), errors);
    let needs_secret = is_true(source, &["chapAuthDiscovery"]) || is_true(source, &["chapAuthSession"]);
    match source.get("secretRef") {
        None if needs_secret => errors.push(FieldError::required(&path.child("secretRef"), "")),
        // Upstream does not look at the name in a pod's own volume.
        Some(reference) if name.is_some() => {
            required(reference, "name", &path.child("secretRef"), errors);
        }
        _ => {}
    }
    if let Some(initiator) = initiator {
        iscsi_name(initiator, &path.child("initiatorname"), errors);
    }
}

fn iscsi_name(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let why = if !["iqn", "eui", "naa"].iter().any(|prefix| name.starts_with(prefix)) {
        "must be valid format starting with iqn, eui, or naa"
    } else if !is_iscsi_name(name) {
        "must be valid format"
    } else {
        return;
    };
    errors.push(FieldError::invalid(path, name, why));
}

/// `iqn.YYYY-MM.domain:name`, `eui.` and 16 digits, or `naa.` and 32.
fn is_iscsi_name(name: &str) -> bool {
    let is_plain =
        |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if let Some(rest) = name.strip_prefix("eui.") {
        return is_plain(rest, 16);
    }
    if let Some(rest) = name.strip_prefix("naa.") {
        return is_plain(rest, 32);
    }
    let Some((date, rest)) = name.strip_prefix("iqn.").and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    let digits = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
    let is_date = date.split_once('-').is_some_and(|(year, month)| digits(year, 4) && digits(month, 2));
    let Some((domain, own)) = rest.split_once(':') else { return false };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let is_own = !own.is_empty() && !own.contains([',', ';', '*', '&', '$', '|', ' ', '\t', '\n', '\r']);
    is_date && !domain.is_empty() && domain.bytes().all(fits) && is_own
}

fn validate_fc(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (targets, ids) = (items(source, &["targetWWNs"]), items(source, &["wwids"]));
    let at_targets = path.child("targetWWNs");
    if targets.is_empty() && ids.is_empty() {
        let why = "must specify either targetWWNs or wwids, but not both";
        errors.push(FieldError::required(&at_targets, why));
    }
    if !targets.is_empty() && !ids.is_empty() {
        let why = "targetWWNs and wwids can not be specified simultaneously";
        errors.push(FieldError::invalid(&at_targets, targets.to_vec(), why));
    }
    if targets.is_empty() {
        return;
    }
    match number(source, &["lun"]) {
        Some(lun) => within_a_byte(lun, &path.child("lun"), errors),
        None => {
            let why = "lun is required if targetWWNs is specified";
            errors.push(FieldError::required(&path.child("lun"), why));
        }
    }
}

fn validate_flex(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let options = path.child("options");
    for (key, _) in entries(source, &["options"]) {
        let domain = key.split_once('/').map_or(key.as_str(), |(domain, _)| domain).to_lowercase();
        let domain = format!(".{domain}");
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let why = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(FieldError::invalid(&options.key(key), key.as_str(), why));
        }
    }
}

fn validate_azure_disk(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    supported(source, "cachingMode", &["None", "ReadOnly", "ReadWrite"], path, errors);
    supported(source, "kind", &["Dedicated", "Managed", "Shared"], path, errors);
    let (kind, uri) = (text(source, &["kind"]), text(source, &["diskURI"]));
    let form = match kind {
        "" => return,
        "Managed" if !uri.starts_with("/subscriptions/") => {
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
        }
        "Managed" => return,
        _ if !uri.starts_with("https://") => {
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
        }
        _ => return,
    };
    errors.push(FieldError::not_supported(&path.child("diskURI"), uri, &[form]));
}
