//! Prints the tables that the server renders.

use std::io::Write;

use anyhow::Result;
use serde_json::Value;

/// Prints `answer` in aligned columns; says whether there was any row. `prefix` goes before each name, as `kind/`.
pub(crate) fn print(
    answer: &Value,
    wide: bool,
    namespace: bool,
    prefix: Option<String>,
    after_another: bool,
    out: &mut dyn Write,
) -> Result<bool> {
    let none = Vec::new();
    let rows = answer["rows"].as_array().unwrap_or(&none);
    if rows.is_empty() {
        return Ok(false);
    }
    let columns = answer["columnDefinitions"].as_array().unwrap_or(&none);
    let shown: Vec<usize> =
        (0..columns.len()).filter(|i| wide || columns[*i]["priority"].as_i64().unwrap_or(0) == 0).collect();
    let mut lines = Vec::with_capacity(rows.len() + 1);
    let mut head: Vec<String> = if namespace { vec!["NAMESPACE".to_owned()] } else { Vec::new() };
    head.extend(shown.iter().map(|i| columns[*i]["name"].as_str().unwrap_or_default().to_uppercase()));
    lines.push(head);
    for row in rows {
        let mut line = Vec::with_capacity(shown.len() + 1);
        if namespace {
            line.push(cell(&row["object"]["metadata"]["namespace"]));
        }
        for (place, index) in shown.iter().enumerate() {
            let text = cell(&row["cells"][*index]);
            line.push(match (&prefix, place) {
                (Some(prefix), 0) => format!("{prefix}/{text}"),
                _ => text,
            });
        }
        lines.push(line);
    }
    if after_another {
        writeln!(out)?;
    }
    aligned(&lines, out)?;
    Ok(true)
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "<none>".to_owned(),
        Value::String(text) => text.replace(['\n', '\r', '\t'], " "),
        other => other.to_string(),
    }
}

/// Three spaces between columns, none at a line's end.
pub(crate) fn aligned(lines: &[Vec<String>], out: &mut dyn Write) -> Result<()> {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|i| lines.iter().filter_map(|l| l.get(i)).map(|c| c.chars().count()).max().unwrap_or(0))
        .collect();
    for line in lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width + 3 - cell.chars().count()));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn narrow_and_wide_tables() {
        let answer = json!({
            "columnDefinitions": [{"name": "Name", "priority": 0}, {"name": "Ready"}, {"name": "IP", "priority": 1}],
            "rows": [{"cells": ["web", "1/1", "10.0.0.1"], "object": {"metadata": {"namespace": "a"}}},
                     {"cells": ["longer-name", null, "x"], "object": {"metadata": {"namespace": "default"}}}]});
        let shown = |wide, namespace| {
            let mut out = Vec::new();
            print(&answer, wide, namespace, None, false, &mut out).expect("printed");
            String::from_utf8(out).expect("text")
        };
        assert_eq!(shown(false, false), "NAME          READY\nweb           1/1\nlonger-name   <none>\n");
        assert_eq!(
            shown(true, true),
            "NAMESPACE   NAME          READY    IP\na           web           1/1      10.0.0.1\ndefault     longer-name   <none>   x\n"
        );
    }
}
