//! Manifests: where they are read from and what they hold.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use serde::Deserialize;
use serde_json::Value;

/// Every object in the files, directories (`*.yaml`, `*.yml`, `*.json`, by name) and standard input (`-`), in order; `List`s
/// are taken apart, empty documents left out. A component whose source is a file gets that file's content in its place,
/// since the server cannot read it.
///
/// # Errors
/// When something cannot be read, is no YAML or JSON, or has no kind.
pub fn read(sources: &[PathBuf]) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for source in sources {
        if source.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
            parse(&text, Path::new("."), &mut objects).context("standard input")?;
        } else if source.is_dir() {
            let mut files: Vec<PathBuf> = std::fs::read_dir(source)
                .with_context(|| format!("reading {}", source.display()))?
                .map(|entry| entry.map(|e| e.path()))
                .collect::<std::io::Result<_>>()?;
            files.retain(|f| {
                f.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e == *known))
            });
            files.sort();
            files.iter().try_for_each(|file| read_file(file, &mut objects))?;
        } else {
            read_file(source, &mut objects)?;
        }
    }
    if objects.is_empty() {
        bail!("no objects found");
    }
    Ok(objects)
}

fn read_file(path: &Path, objects: &mut Vec<Value>) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    parse(&text, folder, objects).with_context(|| path.display().to_string())
}

fn parse(text: &str, folder: &Path, objects: &mut Vec<Value>) -> Result<()> {
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let value = Value::deserialize(document)?;
        if !value.is_null() {
            take(value, folder, objects)?;
        }
    }
    Ok(())
}

fn take(mut value: Value, folder: &Path, objects: &mut Vec<Value>) -> Result<()> {
    for field in ["apiVersion", "kind"] {
        if value[field].as_str().is_none_or(str::is_empty) {
            bail!("an object has no {field}");
        }
    }
    if value["kind"] == "List"
        && let Some(items) = value["items"].as_array_mut()
    {
        return std::mem::take(items).into_iter().try_for_each(|item| take(item, folder, objects));
    }
    let component = value["kind"] == "Component"
        && value["apiVersion"].as_str().is_some_and(|v| v.starts_with("monoplane.dev/"));
    if component && let Some(path) = value["spec"]["source"]["path"].as_str() {
        let path = folder.join(path);
        let bytes =
            std::fs::read(&path).with_context(|| format!("spec.source.path: reading {}", path.display()))?;
        value["spec"]["source"] =
            serde_json::json!({ "inline": base64::engine::general_purpose::STANDARD.encode(bytes) });
    }
    objects.push(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_lists_and_folders_are_taken_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
        write(
            "a.yaml",
            "apiVersion: v1\nkind: A\n---\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: B}\n",
        );
        write("b.json", "{\"apiVersion\":\"v1\",\"kind\":\"C\"}");
        write("ignored.txt", "x: [");
        let kinds: Vec<String> = read(&[folder.path().to_owned()])
            .expect("objects")
            .iter()
            .map(|o| o["kind"].as_str().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(kinds, ["A", "B", "C"]);
    }

    #[test]
    fn a_component_file_is_inlined() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("c.wasm"), b"\0asm").expect("a file");
        let manifest = folder.path().join("c.yaml");
        let text = "apiVersion: monoplane.dev/v1alpha1\nkind: Component\nspec: {source: {path: c.wasm}}\n";
        std::fs::write(&manifest, text).expect("a file");
        let objects = read(&[manifest]).expect("objects");
        assert_eq!(objects[0]["spec"]["source"], serde_json::json!({"inline": "AGFzbQ=="}));
    }

    #[test]
    fn what_is_no_object_is_refused_by_name() {
        let mut objects = Vec::new();
        let error = parse("metadata: {}", Path::new("."), &mut objects).expect_err("no kind");
        assert!(error.to_string().contains("apiVersion"), "{error}");
    }
}
