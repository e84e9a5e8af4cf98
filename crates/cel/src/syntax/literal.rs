//! The escapes of texts and bytes.

/// One unescaped unit.
enum Unit {
    Character(char),
    Byte(u8),
}

/// The text with its escapes replaced; none if one is malformed.
pub(super) fn text(inner: &str) -> Option<String> {
    let mut out = String::with_capacity(inner.len());
    each(inner, true, |unit| match unit {
        Unit::Character(character) => out.push(character),
        Unit::Byte(byte) => out.push(char::from(byte)),
    })?;
    Some(out)
}

/// The bytes with their escapes replaced; none if one is malformed.
pub(super) fn bytes(inner: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(inner.len());
    each(inner, false, |unit| match unit {
        Unit::Character(character) => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        Unit::Byte(byte) => out.push(byte),
    })?;
    Some(out)
}

fn each(inner: &str, unicode: bool, mut take: impl FnMut(Unit)) -> Option<()> {
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            take(Unit::Character(character));
            continue;
        }
        let escaped = characters.next()?;
        let mut number = |digits: usize, radix: u32, first: Option<char>| {
            let mut value = first.map_or(Some(0), |digit| digit.to_digit(radix))?;
            for _ in 0..digits {
                value = value.checked_mul(radix)?.checked_add(characters.next()?.to_digit(radix)?)?;
            }
            Some(value)
        };
        let unit = match escaped {
            'a' => Unit::Byte(7),
            'b' => Unit::Byte(8),
            'f' => Unit::Byte(12),
            'n' => Unit::Byte(b'\n'),
            'r' => Unit::Byte(b'\r'),
            't' => Unit::Byte(b'\t'),
            'v' => Unit::Byte(11),
            '"' | '\'' | '\\' | '?' | '`' => Unit::Character(escaped),
            'x' | 'X' => Unit::Byte(u8::try_from(number(2, 16, None)?).ok()?),
            'u' if unicode => Unit::Character(char::from_u32(number(4, 16, None)?)?),
            'U' if unicode => Unit::Character(char::from_u32(number(8, 16, None)?)?),
            '0'..='3' => Unit::Byte(u8::try_from(number(2, 8, Some(escaped))?).ok()?),
            _ => return None,
        };
        take(unit);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_replaced() {
        assert_eq!(text(r#"a\n\"\x41\u00e9\U0001F600\101"#).as_deref(), Some("a\n\"A\u{e9}\u{1F600}A"));
        assert_eq!(bytes(r"\xff\101é"), Some(vec![0xff, b'A', 0xc3, 0xa9]));
        for bad in [r"\q", r"\x4", r"\ud800", r"\U00110000", r"\8", "\\"] {
            assert_eq!(text(bad), None, "{bad}");
        }
        assert_eq!(bytes(r"\u0041"), None);
    }
}
