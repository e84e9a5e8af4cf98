//! What the binary says on its terminal. Everything else goes to the log.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this module is the terminal")]

use std::io::{IsTerminal, Write};

use crate::layout::Endpoints;

/// A line on standard output.
pub fn line(text: impl std::fmt::Display) {
    println!("{text}");
}

/// A line on standard error, for notes that scripts need not read.
pub fn note(text: impl std::fmt::Display) {
    // Where nobody can be told, it is not told.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Bold, where a person is reading.
pub fn bold(text: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

/// The plane is up: where it is and what to do next.
pub fn up(endpoints: &Endpoints, without_node: bool) {
    line(format!("{} {}", bold("Monoplane is up."), "Ctrl-C stops it; its state stays."));
    line(format!("  API      {}", endpoints.api));
    if let Some(gateway) = &endpoints.gateway {
        let encrypted = endpoints.gateway_tls.iter().map(|tls| format!(", {tls}")).collect::<String>();
        line(format!("  gateway  {gateway}{encrypted}"));
    }
    line(format!(
        "  next     export KUBECONFIG={}   then: kubectl get nodes",
        endpoints.kubeconfig.display()
    ));
    if without_node {
        note(
            "Not root: this machine runs components and durable functions, but no containers (`monoplane check` says more).",
        );
    }
}
