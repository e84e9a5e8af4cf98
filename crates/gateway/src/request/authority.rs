//! Which host a request is for.

use std::borrow::Cow;

use http::header::HOST;
use http::{Request, Version};

/// The host, in lower case and without a port.
pub(super) fn host<B>(request: &Request<B>) -> Result<Cow<'_, str>, &'static str> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let header = hosts.next();
    if hosts.next().is_some() {
        // Two readers of such a request may choose differently; one of them may be a guard.
        return Err("the request has more than one Host header");
    }
    let authority = match (request.uri().authority(), header) {
        (Some(authority), _) => authority.as_str(),
        (None, Some(header)) => header.to_str().map_err(|_| "the Host header is not a host")?,
        (None, None) if request.version() == Version::HTTP_10 => "",
        (None, None) => return Err("the request has no Host header"),
    };
    let host = without_port(authority).ok_or("the Host header is not a host")?;
    let host = host.strip_suffix('.').unwrap_or(host);
    Ok(if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    })
}

fn without_port(authority: &str) -> Option<&str> {
    if authority.bytes().any(|byte| matches!(byte, b'@' | b'/' | b' ' | b'?' | b'#')) {
        return None;
    }
    if authority.starts_with('[') {
        let end = authority.find(']')? + 1;
        let rest = &authority[end..];
        return (rest.is_empty() || is_port(rest)).then(|| &authority[..end]);
    }
    match authority.find(':') {
        None => Some(authority),
        Some(at) if is_port(&authority[at..]) => Some(&authority[..at]),
        Some(_) => None,
    }
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, hosts: &[&str], want: Result<&str, &str>) {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let request = request.body(()).unwrap();
        assert_eq!(host(&request).as_deref().map_err(|why| *why), want, "{uri} {hosts:?}");
    }

    #[test]
    fn a_host_loses_its_port_its_final_dot_and_its_capitals() {
        check("/", &["Shop.Test.:8080"], Ok("shop.test"));
        check("/", &["[::1]:80"], Ok("[::1]"));
        check("/", &["[::1]"], Ok("[::1]"));
        check("http://a.test:1/x", &["b.test"], Ok("a.test"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        check("/", &[], Err("the request has no Host header"));
        check("/", &["a", "a"], Err("the request has more than one Host header"));
        for bad in ["a:b", "u@a", "a/b", "[::1", "[::1]x", "a:1:2"] {
            check("/", &[bad], Err("the Host header is not a host"));
        }
    }
}
