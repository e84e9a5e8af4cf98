//! Names within objects, beyond those that `apimachinery` knows.

/// A key of a ConfigMap's or Secret's data: a file name.
pub(crate) fn config_map_key(key: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if key.len() > 253 {
        faults.push("must be no more than 253 bytes".to_owned());
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if key.is_empty() || !key.bytes().all(allowed) {
        faults.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
             'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    }
    if key == "." || key == ".." {
        faults.push(format!("must not be '{key}'"));
    } else if key.starts_with("..") {
        faults.push("must not start with '..'".to_owned());
    }
    faults
}

/// A name of an environment variable.
pub(crate) fn env_var(name: &str) -> Vec<String> {
    let printable = !name.is_empty() && name.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=');
    if printable {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '=' (e.g. \
         'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', regex used for validation is '[!-<>-~]+( [!-<>-~]+)*')"
            .to_owned(),
    ]
}

/// A name of a port: an IANA service name.
pub(crate) fn port_name(name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if name.len() > 15 {
        faults.push("must be no more than 15 characters".to_owned());
    }
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        faults.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        faults.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        faults.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        faults.push("must not begin or end with a hyphen".to_owned());
    }
    faults
}

/// What is wrong with a port number.
pub(crate) fn port_number(port: i64) -> Option<&'static str> {
    (!(1..=65535).contains(&port)).then_some("must be between 1 and 65535, inclusive")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_pass_and_bad_ones_do_not() {
        let check = |rule: fn(&str) -> Vec<String>, good: &[&str], bad: &[&str]| {
            good.iter().for_each(|name| assert_eq!(rule(name), Vec::<String>::new(), "{name}"));
            bad.iter().for_each(|name| assert_ne!(rule(name), Vec::<String>::new(), "{name}"));
        };
        check(
            config_map_key,
            &["a", "A.b-c_d", ".x"],
            &["", "a/b", "..", ".", "..a", "a b", &"a".repeat(254)],
        );
        check(env_var, &["PATH", "my.env-name"], &["", "a=b", "ü", "\n"]);
        check(
            port_name,
            &["http", "a1", "80a"],
            &["", "8080", "HTTP", "a--b", "-a", "a-", "abcdefghijklmnop"],
        );
        assert!(port_number(0).is_some() && port_number(65536).is_some() && port_number(1).is_none());
    }
}
