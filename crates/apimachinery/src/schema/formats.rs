//! Checks of text by `format`.

/// Where the text stops being standard base64, if it does.
pub(super) fn base64_fault(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut seen = 0usize;
    let mut padding = 0usize;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            // Go's decoder skips line ends.
            b'\r' | b'\n' => continue,
            b'=' if seen % 4 >= 2 => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => {}
            _ => return Some(at),
        }
        seen += 1;
    }
    (!seen.is_multiple_of(4)).then_some(bytes.len())
}
