use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Credential;

/// A kubeconfig with everything embedded: who to trust (PEM), where to call, as whom. Its only context is `monoplane`.
pub fn kubeconfig(authority: &str, server: &str, user: &str, credential: &Credential) -> String {
    // Names go in as JSON strings, which YAML reads as they are; base64 needs no quotes.
    let (server, user) = (quoted(server), quoted(user));
    let trust = STANDARD.encode(authority);
    let certificate = STANDARD.encode(&credential.certificate_pem);
    let key = STANDARD.encode(&credential.key_pem);
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: monoplane\n  \
           cluster:\n    \
             certificate-authority-data: {trust}\n    \
             server: {server}\n\
         users:\n\
         - name: {user}\n  \
           user:\n    \
             client-certificate-data: {certificate}\n    \
             client-key-data: {key}\n\
         contexts:\n\
         - name: monoplane\n  \
           context:\n    \
             cluster: monoplane\n    \
             user: {user}\n\
         current-context: monoplane\n\
         preferences: {{}}\n"
    )
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}
