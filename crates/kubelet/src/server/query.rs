//! Parameters of a request.

/// Names and values, decoded. A name without a value stands for true.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
        (decoded(name), decoded(value))
    })
}

/// Whether a value says yes.
pub(super) fn truth(value: &str) -> bool {
    matches!(value, "true" | "1" | "")
}

fn decoded(value: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), value.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match (first, pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded() {
        let pairs: Vec<_> = pairs("command=sh&command=-c&command=echo+a%26b%20c&x&%6eame=%").collect();
        let expected =
            [("command", "sh"), ("command", "-c"), ("command", "echo a&b c"), ("x", "true"), ("name", "%")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
