//! What a registry says it wants to know: `WWW-Authenticate`.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// How to say who one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// With a name and a password.
    Basic,
    /// With a token that somebody else gives out.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The best of the challenges that an answer holds.
pub(crate) fn of(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let mut found: Vec<Challenge> = values.filter_map(parse).collect();
    let bearer = found.iter().position(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    match bearer {
        Some(position) => Some(found.swap_remove(position)),
        None => found.pop(),
    }
}

fn parse(text: &str) -> Option<Challenge> {
    let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (None, None, None);
    for (name, value) in parameters(rest) {
        match name.to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value),
            "service" => service = Some(value),
            "scope" => scope = Some(value),
            _ => {}
        }
    }
    Some(Challenge::Bearer { realm: realm?, service, scope })
}

/// `name="value", name=value`: a quoted value may hold commas.
fn parameters(mut text: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    while let Some((name, rest)) = text.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']);
        let value = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (mut value, mut escaped, mut end) = (String::new(), false, quoted.len());
                for (at, c) in quoted.char_indices() {
                    match c {
                        _ if escaped => (escaped, _) = (false, value.push(c)),
                        '\\' => escaped = true,
                        '"' => {
                            end = at + 1;
                            break;
                        }
                        _ => value.push(c),
                    }
                }
                text = &quoted[end..];
                value
            }
            None => {
                let (value, after) = rest.split_once(',').unwrap_or((rest, ""));
                text = after;
                value.trim().to_owned()
            }
        };
        found.push((name, value));
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn challenges_are_read() {
        let text =
            r#"Bearer realm="https://auth.example/token",service="a, \"b\"",scope="repository:x:pull,push""#;
        let bearer = Challenge::Bearer {
            realm: "https://auth.example/token".into(),
            service: Some("a, \"b\"".into()),
            scope: Some("repository:x:pull,push".into()),
        };
        assert_eq!(parse(text), Some(bearer.clone()));
        assert_eq!(parse("basic realm=x"), Some(Challenge::Basic));
        assert_eq!(parse("Bearer service=x"), None);
        assert_eq!(parse("Negotiate"), None);
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, text.parse().unwrap());
        headers.append(WWW_AUTHENTICATE, "Basic realm=\"y\"".parse().unwrap());
        assert_eq!(of(&headers), Some(bearer));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = parse(&format!("Bearer {text}"));
        }
    }
}
