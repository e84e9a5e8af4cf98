//! Manifests that several tests need.

use base64::Engine;

/// A Component in namespace default with its guest inside, routed by host name; `rest` are further lines of its spec.
pub fn component(name: &str, host: &str, guest: &[u8], rest: &str) -> String {
    let inline = base64::engine::general_purpose::STANDARD.encode(guest);
    format!(
        "apiVersion: monoplane.dev/v1alpha1
kind: Component
metadata: {{name: {name}}}
spec:
  source: {{inline: {inline}}}
  routes: [{{host: {host}, path: /}}]
{rest}"
    )
}
