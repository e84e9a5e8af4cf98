//! The rules of the house as a program: which crate may know which, and what may not be said in which room.
//!
//! ARCHITECTURE.md tells the same in words. A rule that has to change changes in both, with its reason.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, bail};

use crate::house::{self, Room};

/// The floors, lowest first. A crate may depend on floors below its own.
const FLOORS: [&[&str]; 6] = [
    &["apimachinery", "disk", "clock", "container", "instruments"],
    &["api", "cel", "store", "runtime", "effects", "pki", "egress", "streams", "tunnel"],
    &["client", "auth", "expressions", "capabilities", "images"],
    &["registry", "admission", "sandbox", "wasm", "durable", "network"],
    &["apiserver", "controllers", "scheduler", "metrics", "kubelet", "proxy", "gateway"],
    &["monoplane", "cli"],
];

/// Arrows within a floor that the design names.
const SIDEWAYS: [(&str, &str); 1] = [("monoplane", "cli")];

/// Composition knows every room; development crates stand outside the house.
const EVERYWHERE: [&str; 5] = ["monoplane", "testkit", "harness", "conformance", "simulator"];

/// No async runtime, no sockets, no files, no clock of their own.
const PURE: [&str; 6] = ["apimachinery", "cel", "api", "auth", "runtime", "effects"];
const IMPURE_CRATES: [&str; 6] = ["tokio", "hyper", "hyper-util", "futures-timer", "reqwest", "kube-client"];
const IMPURE_WORDS: [&str; 9] = [
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "std::process",
    "tokio::",
];

/// Rooms that know nothing of Kubernetes objects.
const PLAIN: [&str; 11] = [
    "sandbox",
    "container",
    "images",
    "network",
    "wasm",
    "capabilities",
    "durable",
    "store",
    "disk",
    "streams",
    "tunnel",
];
const KUBERNETES: [&str; 7] =
    ["apimachinery", "api", "client", "registry", "kube", "kube-core", "k8s-openapi"];

/// `(what, who may depend on it)`: everyone else reaches it through somebody's seam.
const KEPT: [(&str, &[&str]); 14] = [
    ("registry", &["apiserver"]),
    ("admission", &["apiserver"]),
    ("store", &["registry"]),
    ("disk", &["store", "durable", "capabilities"]),
    ("wasmtime", &["wasm", "capabilities"]),
    ("wasmtime-wasi", &["wasm", "capabilities"]),
    ("wasmtime-wasi-http", &["wasm", "capabilities"]),
    ("wasmtime-wasi-io", &["wasm", "capabilities"]),
    ("rusqlite", &["disk"]),
    ("fjall", &["disk"]),
    ("redb", &["disk"]),
    ("container", &["sandbox"]),
    ("sandbox", &[]),
    ("rtnetlink", &["network"]),
];

/// How flags and the environment are read.
const ENVIRONMENT: [&str; 3] = ["env::var(", "env::var_os(", "env::args"];

/// Names that say nothing.
const DRAWERS: [&str; 5] = ["common", "utils", "util", "types", "core"];

/// Who opens connections: `egress` for guests and stores; the kubelet's probes and hooks, to the pod itself and nowhere
/// else, at addresses that `egress` exists to refuse; the API server's way to kubelets, under certificates of the plane;
/// cluster DNS, to the machine's own resolvers; the store, to the etcd cluster that the operator names.
const CONNECT: [&str; 5] = ["egress", "kubelet", "apiserver", "proxy", "store"];

/// Where `unsafe` may stand.
fn may_be_unsafe(room: &str, file: &Path) -> bool {
    match room {
        "sandbox" | "container" | "network" => true,
        "wasm" => file.starts_with("artifact") || file == Path::new("artifact.rs"),
        _ => false,
    }
}

/// Checks the workspace at `root`; prints a line a room, and fails with every broken rule.
pub fn run(root: &Path) -> Result<String> {
    let rooms = house::read(root)?;
    let broken = check(&rooms);
    if !broken.is_empty() {
        bail!("the house has {} forbidden thing(s):\n  {}", broken.len(), broken.join("\n  "));
    }
    let mut report = format!("{} crates, no forbidden arrow\n", rooms.len());
    for hint in hints(&rooms) {
        let _ = writeln!(report, "  look: {hint}");
    }
    Ok(report)
}

/// Every broken rule, as a line that names the crate, the rule and the way out.
pub fn check(rooms: &[Room]) -> Vec<String> {
    let mut broken = Vec::new();
    for room in rooms {
        check_arrows(room, rooms, &mut broken);
        check_kept(room, &mut broken);
        check_words(room, &mut broken);
        if DRAWERS.contains(&room.name.as_str()) {
            broken.push(format!("{}: a drawer crate; name it after what it owns", room.name));
        }
        for feature in room.features.iter().filter(|f| *f != "default") {
            broken.push(format!(
                "{}: cargo feature `{feature}`; choose behaviour by a runtime value",
                room.name
            ));
        }
    }
    broken
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|f| f.contains(&name))
}

fn check_arrows(room: &Room, rooms: &[Room], broken: &mut Vec<String>) {
    let Some(own) = floor(&room.name) else {
        if !EVERYWHERE.contains(&room.name.as_str()) {
            broken.push(format!(
                "{}: stands on no floor; add it to ARCHITECTURE.md and xtask's FLOORS",
                room.name
            ));
        }
        return;
    };
    for dependency in &room.dependencies {
        if !rooms.iter().any(|r| r.name == *dependency) {
            continue;
        }
        let allowed = floor(dependency).is_some_and(|f| f < own)
            || SIDEWAYS.contains(&(room.name.as_str(), dependency.as_str()));
        if !allowed {
            broken
                .push(format!("{} -> {dependency}: a crate depends only on floors below its own", room.name));
        }
    }
}

fn check_kept(room: &Room, broken: &mut Vec<String>) {
    if EVERYWHERE.contains(&room.name.as_str()) {
        return;
    }
    for (what, keepers) in KEPT {
        if room.name != what
            && room.dependencies.iter().any(|d| d == what)
            && !keepers.contains(&room.name.as_str())
        {
            broken.push(format!("{} -> {what}: only {} may", room.name, one_of(keepers)));
        }
    }
    if PURE.contains(&room.name.as_str()) {
        for dependency in room.dependencies.iter().filter(|d| IMPURE_CRATES.contains(&d.as_str())) {
            broken.push(format!("{} -> {dependency}: a pure crate does no I/O", room.name));
        }
    }
    if PLAIN.contains(&room.name.as_str()) {
        for dependency in room.dependencies.iter().filter(|d| KUBERNETES.contains(&d.as_str())) {
            broken
                .push(format!("{} -> {dependency}: it takes plain values, no Kubernetes objects", room.name));
        }
    }
    for (one, other) in [("wasm", "durable"), ("durable", "wasm")] {
        if room.name == one && room.dependencies.iter().any(|d| d == other) {
            broken.push(format!("{one} -> {other}: they meet only in `effects`"));
        }
    }
}

fn one_of(keepers: &[&str]) -> String {
    if keepers.is_empty() { "monoplane".to_owned() } else { keepers.join(", ") }
}

fn check_words(room: &Room, broken: &mut Vec<String>) {
    let pure = PURE.contains(&room.name.as_str());
    let composes = EVERYWHERE.contains(&room.name.as_str());
    for source in &room.sources {
        // Programs under `bin/` play a subcommand of the binary in their crate's tests, and so have words to read.
        let reads_environment = composes || source.path.starts_with("bin");
        let stem = source.path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        if DRAWERS.contains(&stem) {
            broken.push(format!("{}/{}: a drawer module", room.name, source.path.display()));
        }
        for (number, line) in source.code.iter().enumerate() {
            let mut complain = |what: &str| {
                broken.push(format!("{}/src/{}:{}: {what}", room.name, source.path.display(), number + 1));
            };
            if pure && let Some(word) = IMPURE_WORDS.iter().find(|w| line.contains(**w)) {
                complain(&format!("`{word}` in a pure crate"));
            }
            if !reads_environment && ENVIRONMENT.iter().any(|word| line.contains(word)) {
                complain("only monoplane reads flags and the environment");
            }
            if line.contains("TcpStream::connect") && !composes && !CONNECT.contains(&room.name.as_str()) {
                complain("sockets to the outside go through egress");
            }
            let speaks_unsafe =
                line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl");
            if (speaks_unsafe || line.contains("allow(unsafe_code)"))
                && !may_be_unsafe(&room.name, &source.path)
            {
                complain("`unsafe` lives in sandbox, network and wasm::artifact only");
            }
        }
    }
}

/// Sizes that tell a reader to look for the missing seam. They do not fail.
fn hints(rooms: &[Room]) -> Vec<String> {
    let mut hints = Vec::new();
    for room in rooms {
        let lines: usize = room.sources.iter().map(|s| s.code.len()).sum();
        if lines > 6000 && room.name != "registry" {
            hints.push(format!("{} has {lines} lines (over 6,000)", room.name));
        }
        for source in room.sources.iter().filter(|s| s.code.len() > 600) {
            hints.push(format!(
                "{}/src/{} has {} lines (over 600)",
                room.name,
                source.path.display(),
                source.code.len()
            ));
        }
        let internal = room.dependencies.iter().filter(|d| floor(d).is_some()).count();
        if internal > 8 && room.name != "monoplane" {
            hints.push(format!("{} depends on {internal} crates of the house (over 8)", room.name));
        }
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::{Source, blank};

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
    }

    fn house_with(change: impl FnOnce(&mut Vec<Room>)) -> Vec<String> {
        let mut rooms = house::read(root()).expect("the workspace can be read");
        change(&mut rooms);
        check(&rooms)
    }

    fn room<'a>(rooms: &'a mut [Room], name: &str) -> &'a mut Room {
        rooms.iter_mut().find(|r| r.name == name).expect("the room exists")
    }

    #[test]
    fn the_house_as_it_stands_keeps_its_rules() {
        assert_eq!(house_with(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn every_forbidden_arrow_is_refused() {
        for (from, to) in [
            ("kubelet", "sandbox"),
            ("wasm", "durable"),
            ("durable", "wasm"),
            ("controllers", "store"),
            ("controllers", "registry"),
            ("apimachinery", "api"),
            ("auth", "tokio"),
            ("sandbox", "k8s-openapi"),
            ("gateway", "wasmtime"),
            ("apiserver", "rusqlite"),
            ("scheduler", "controllers"),
        ] {
            let broken = house_with(|rooms| room(rooms, from).dependencies.push(to.to_owned()));
            assert!(!broken.is_empty(), "{from} -> {to} went through");
            assert!(broken.iter().all(|b| b.starts_with(&format!("{from} -> {to}"))), "{broken:?}");
        }
    }

    #[test]
    fn words_out_of_place_are_refused() {
        for (name, code) in [
            ("apimachinery", "let t = std::time::SystemTime::now();"),
            ("auth", "let f = std::fs::read(path);"),
            ("kubelet", "let v = std::env::var(\"HOME\");"),
            ("durable", "unsafe { libc::getpid() }"),
            ("capabilities", "TcpStream::connect(address)"),
        ] {
            let source = Source { path: "x.rs".into(), code: blank(code) };
            let broken = house_with(|rooms| room(rooms, name).sources.push(source));
            assert_eq!(broken.len(), 1, "{name}: {code}: {broken:?}");
        }
    }

    #[test]
    fn comments_strings_and_tests_are_not_code() {
        let text =
            "let a = \"unsafe { std::fs }\"; // std::env::var\n#[cfg(test)]\nmod tests { unsafe {} }\n";
        assert_eq!(blank(text), vec!["let a = \"\"; ".to_owned()]);
    }

    #[test]
    fn an_item_for_tests_hides_itself_and_nothing_behind_it() {
        for item in [
            "mod tests;",
            "use std::fs;",
            "fn helper(\n    a: &str,\n) -> usize {\n    if a.is_empty() { 0 } else { 1 }\n}",
            "#[allow(dead_code)]\nfn helper() {}",
            "pub(crate) mod helpers;",
        ] {
            let text = format!("before\n#[cfg(test)]\n{item}\nbehind\n#[cfg(test)]\nmod tests {{\nnever");
            let code = blank(&text);
            assert_eq!(
                (code[0].as_str(), code.last().map(String::as_str)),
                ("before", Some("behind")),
                "{item}"
            );
            assert!(code[1..code.len() - 1].iter().all(String::is_empty), "{item}: {code:?}");
            assert_eq!(code.len(), 3 + item.lines().count(), "lines keep their numbers: {item}");
        }
    }
}
