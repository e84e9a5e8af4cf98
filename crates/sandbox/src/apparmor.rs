//! AppArmor profiles, where the kernel enforces them. The runtime's own is loaded when it is first asked for.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use runtime::{Error, SecurityContext, SecurityProfile};

const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";
/// The runtime's own, as `apparmor.profile` names it.
const DEFAULT: &str = "monoplane-default";
const TEXT: &str = include_str!("apparmor.profile");

/// The profile that a container's processes run under; `None`: none.
pub(crate) fn profile(security: &SecurityContext) -> Result<Option<String>, Error> {
    // As CRI has it: who is privileged is not confined.
    if security.privileged || security.apparmor == SecurityProfile::Unconfined {
        return Ok(None);
    }
    if !fs::read_to_string(ENABLED).is_ok_and(|text| text.starts_with('Y')) {
        return Err(Error::Unsupported("AppArmor is not enabled on the host".to_owned()));
    }
    let failed = |what: &str, why: String| Error::Failed(format!("AppArmor profile {what:?}: {why}"));
    let loaded = |name: &str| {
        let text = fs::read_to_string(LOADED).map_err(|error| failed(name, format!("{LOADED}: {error}")))?;
        Ok(lists(&text, name))
    };
    match &security.apparmor {
        SecurityProfile::Unconfined => Ok(None),
        SecurityProfile::Localhost(name) if loaded(name)? => Ok(Some(name.clone())),
        SecurityProfile::Localhost(name) => Err(failed(name, "it is not loaded".to_owned())),
        SecurityProfile::RuntimeDefault => {
            if !loaded(DEFAULT)? {
                load().map_err(|why| failed(DEFAULT, why))?;
            }
            Ok(Some(DEFAULT.to_owned()))
        }
    }
}

/// Whether the kernel's list, of lines `name (mode)`, has a profile.
fn lists(text: &str, name: &str) -> bool {
    text.lines().any(|line| line.rsplit_once(" (").is_some_and(|(listed, _)| listed == name))
}

fn load() -> Result<(), String> {
    let broken = |error: std::io::Error| format!("apparmor_parser: {error}");
    let mut command = Command::new("apparmor_parser");
    // Nothing of it is kept in the parser's cache, which is the machine's.
    command
        .args(["--skip-cache", "--replace"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut parser = command.spawn().map_err(broken)?;
    if let Some(mut input) = parser.stdin.take() {
        input.write_all(TEXT.as_bytes()).map_err(broken)?;
    }
    let output = parser.wait_with_output().map_err(broken)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("apparmor_parser: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_is_read_by_whole_names() {
        let text = "monoplane-default (enforce)\n/usr/bin/man (complain)\nwith space (x) (kill)\n";
        for (name, there) in [
            (DEFAULT, true),
            ("monoplane", false),
            ("with space (x)", true),
            ("/usr/bin/man", true),
            ("", false),
        ] {
            assert_eq!(lists(text, name), there, "{name}");
        }
        assert!(TEXT.contains(&format!("profile {DEFAULT} ")));
    }

    #[test]
    fn who_asks_for_nothing_needs_no_kernel_for_it() {
        assert_eq!(profile(&SecurityContext::default()).unwrap(), None);
        let privileged = SecurityContext {
            privileged: true,
            apparmor: SecurityProfile::RuntimeDefault,
            ..SecurityContext::default()
        };
        assert_eq!(profile(&privileged).unwrap(), None);
    }
}
