//! Links in a page of HTML, rewritten as it comes by: of start tags alone, in the attributes that hold links. Everything else
//! goes through as it is, and nothing is held back but a tag that is not whole yet.

use super::links::Links;

/// Bytes of a tag; the links of a longer one stay as they are.
const TAG: usize = 16 << 10;
/// Elements whose text holds no tags but their own end.
const TEXTS: [&[u8]; 9] =
    [b"iframe", b"noembed", b"noframes", b"noscript", b"script", b"style", b"textarea", b"title", b"xmp"];

/// Attributes of an element that hold links: those of HTML 4 and 5, as upstream knows them.
fn linking(element: &[u8]) -> &'static [&'static str] {
    match element {
        b"a" | b"area" | b"base" | b"link" => &["href"],
        b"audio" | b"embed" | b"script" | b"source" => &["src"],
        b"applet" => &["codebase"],
        b"blockquote" | b"del" | b"ins" | b"q" => &["cite"],
        b"body" => &["background"],
        b"button" => &["formaction"],
        b"command" => &["icon"],
        b"form" => &["action"],
        b"frame" | b"iframe" => &["longdesc", "src"],
        b"head" => &["profile"],
        b"html" => &["manifest"],
        b"img" => &["longdesc", "src", "usemap"],
        b"input" => &["src", "usemap", "formaction"],
        b"object" => &["classid", "codebase", "data", "usemap"],
        b"video" => &["poster", "src"],
        _ => &[],
    }
}

/// Where in the page the next byte is.
#[derive(Clone, Copy)]
enum At {
    Text,
    /// In a comment.
    Comment,
    /// In an end tag, a declaration or a tag that is too long.
    Markup,
    /// In an element that holds text alone.
    Element(&'static [u8]),
}

/// A page that is rewritten piece by piece.
pub(super) struct Page {
    links: Links,
    at: At,
    /// What is not decided yet.
    held: Vec<u8>,
}

impl Page {
    pub(super) fn new(links: Links) -> Self {
        Self { links, at: At::Text, held: Vec::new() }
    }

    /// Takes in a piece of the page; gives what can go out.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(piece);
        let (mut out, mut rest) = (Vec::with_capacity(held.len()), &held[..]);
        while let Some(taken) = self.step(rest, &mut out) {
            rest = rest.get(taken..).unwrap_or_default();
        }
        self.held = rest.to_vec();
        out
    }

    /// The page has ended.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Goes on by some bytes, which are then in `out`; `None`: it takes more to decide.
    fn step(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        if rest.is_empty() {
            return None;
        }
        let until = |end: usize| rest.get(..end).unwrap_or(rest);
        let (end, next) = match self.at {
            At::Text => match rest.iter().position(|byte| *byte == b'<') {
                Some(0) => return self.markup(rest, out),
                Some(at) => (at, At::Text),
                None => (rest.len(), At::Text),
            },
            At::Comment => match find(rest, b"-->") {
                Some(at) => (at + 3, At::Text),
                // Its end may have begun.
                None => (rest.len().saturating_sub(2), At::Comment),
            },
            At::Markup => match rest.iter().position(|byte| *byte == b'>') {
                Some(at) => (at + 1, At::Text),
                None => (rest.len(), At::Markup),
            },
            At::Element(name) => match element_end(rest, name) {
                // Up to the end of its end tag.
                Some(at) => (at + 2, At::Markup),
                None => (rest.len().saturating_sub(name.len() + 2), self.at),
            },
        };
        self.at = next;
        let piece = until(end);
        out.extend_from_slice(piece);
        (!piece.is_empty()).then_some(piece.len())
    }

    /// What begins with `<`.
    fn markup(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let (at, length) = match rest {
            [_, first, ..] if first.is_ascii_alphabetic() => return self.tag(rest, out),
            [_, b'!', b'-', b'-', ..] => (At::Comment, 4),
            [_] | [_, b'!'] | [_, b'!', b'-'] => return None,
            [_, b'!' | b'?' | b'/', ..] => (At::Markup, 2),
            _ => (At::Text, 1),
        };
        self.at = at;
        out.extend_from_slice(rest.get(..length).unwrap_or(rest));
        Some(length)
    }

    fn tag(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let mut tag = Tag { bytes: rest, at: 1 };
        let name = tag.until(|byte| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>'));
        let name = rest.get(name).unwrap_or_default().to_ascii_lowercase();
        let (linking, mut copied) = (linking(&name), 0);
        let before = out.len();
        while let Some((attribute, value)) = tag.attribute() {
            let text =
                |range: std::ops::Range<usize>| std::str::from_utf8(rest.get(range).unwrap_or_default());
            let attribute = text(attribute).unwrap_or_default();
            let links = linking.iter().any(|known| attribute.eq_ignore_ascii_case(known));
            let link = text(value.clone()).ok().filter(|_| links);
            if let Some(new) = link.and_then(|link| self.links.rewritten(link.trim_ascii())) {
                out.extend_from_slice(rest.get(copied..value.start).unwrap_or_default());
                out.extend_from_slice(new.as_bytes());
                copied = value.end;
            }
        }
        if tag.at >= rest.len() {
            out.truncate(before);
            if rest.len() < TAG {
                return None;
            }
            self.at = At::Markup;
            out.push(b'<');
            return Some(1);
        }
        let end = tag.at + 1;
        out.extend_from_slice(rest.get(copied..end).unwrap_or_default());
        self.at = TEXTS.iter().find(|text| **text == name).map_or(At::Text, |text| At::Element(text));
        Some(end)
    }
}

/// A start tag that is read: it ends at a `>`, or with the bytes if it is not whole.
struct Tag<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Tag<'_> {
    /// From here to the first such byte.
    fn until(&mut self, is_end: impl Fn(u8) -> bool) -> std::ops::Range<usize> {
        let start = self.at;
        while self.peek().is_some_and(|byte| !is_end(byte)) {
            self.at += 1;
        }
        start..self.at
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The next attribute, where its name and its value are; `None`: the tag ends here.
    fn attribute(&mut self) -> Option<(std::ops::Range<usize>, std::ops::Range<usize>)> {
        self.until(|byte| !byte.is_ascii_whitespace() && byte != b'/');
        if matches!(self.peek()?, b'>') {
            return None;
        }
        let start = self.at;
        // An equals sign may begin a name.
        self.at += 1;
        self.until(|byte| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'=' | b'>'));
        let name = start..self.at;
        self.until(|byte| !byte.is_ascii_whitespace());
        if self.peek() != Some(b'=') {
            return Some((name, self.at..self.at));
        }
        self.at += 1;
        self.until(|byte| !byte.is_ascii_whitespace());
        let value = match self.peek()? {
            quote @ (b'"' | b'\'') => {
                self.at += 1;
                let value = self.until(|byte| byte == quote);
                self.peek()?;
                self.at += 1;
                value
            }
            _ => self.until(|byte| byte.is_ascii_whitespace() || byte == b'>'),
        };
        Some((name, value))
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Where the end tag of an element begins.
fn element_end(bytes: &[u8], name: &[u8]) -> Option<usize> {
    bytes.windows(name.len() + 3).position(|window| match window {
        [b'<', b'/', of @ .., after] => {
            of.eq_ignore_ascii_case(name) && (after.is_ascii_whitespace() || matches!(after, b'/' | b'>'))
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page() -> Page {
        Page::new(Links { prefix: "/p".to_owned(), host: "h:1".to_owned(), asked: String::new() })
    }

    /// The page, pushed in pieces of so many bytes.
    fn rewritten(text: &[u8], pieces: usize) -> Vec<u8> {
        let mut page = page();
        let mut out: Vec<u8> = text.chunks(pieces).flat_map(|piece| page.push(piece)).collect();
        out.extend(page.finish());
        out
    }

    fn check(text: &str, expected: &str) {
        for pieces in [1, 2, 7, text.len().max(1)] {
            let out = String::from_utf8(rewritten(text.as_bytes(), pieces)).unwrap();
            assert_eq!(out, expected, "{text} in pieces of {pieces}");
        }
    }

    #[test]
    fn links_of_tags() {
        check("<a href=\"/x?a=1&amp;b=2\">/x</a>", "<a href=\"/p/x?a=1&amp;b=2\">/x</a>");
        check("<A class=b HREF = '/x' >", "<A class=b HREF = '/p/x' >");
        check("<img src=/x.png><img src=x.png>", "<img src=/p/x.png><img src=x.png>");
        check("<link href=http://h:1/s.css rel=x/>", "<link href=/p/s.css rel=x/>");
        check("<form method=post action='/f'/>", "<form method=post action='/p/f'/>");
        check("<img src=\"/a\" usemap=\"/b\" alt='/c'>", "<img src=\"/p/a\" usemap=\"/p/b\" alt='/c'>");
        check("<div href='/x'><a name=/x href>", "<div href='/x'><a name=/x href>");
        check("<a title='>' href='/x'>", "<a title='>' href='/p/x'>");
    }

    #[test]
    fn what_is_no_tag_stays() {
        check("1 < 2 <a href='/x'", "1 < 2 <a href='/x'");
        check("<!-- <a href='/x'> --><a href='/x'>", "<!-- <a href='/x'> --><a href='/p/x'>");
        check("<!doctype html><a href='/x'>", "<!doctype html><a href='/p/x'>");
        check(
            "<script src='/s'>'<a href=\"/x\">'</SCRIPT ><a href='/x'>",
            "<script src='/p/s'>'<a href=\"/x\">'</SCRIPT ><a href='/p/x'>",
        );
        check("<style>a</stylex><a href='/x'></style>", "<style>a</stylex><a href='/x'></style>");
        check("</a href='/x'><", "</a href='/x'><");
        check("a<!-", "a<!-");
    }

    #[test]
    fn a_tag_without_end_is_not_held() {
        let mut text = b"<a href='/x' title='".to_vec();
        text.extend(std::iter::repeat_n(b'y', TAG * 3));
        let mut page = page();
        let mut sent = 0;
        for piece in text.chunks(1000) {
            sent += page.push(piece).len();
            assert!(page.held.len() <= TAG, "{}", page.held.len());
        }
        assert!(sent > TAG);
        assert_eq!(rewritten(&text, 1000), text);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(text in "[-<>!/a ='\"hrefscipt]{0,60}", pieces in 1usize..9) {
            prop_assert_eq!(rewritten(text.as_bytes(), pieces), rewritten(text.as_bytes(), 60));
        }

        #[test]
        fn a_page_without_links_stays(text in prop::collection::vec(any::<u8>(), 0..200), pieces in 1usize..9) {
            // No attribute that holds a link can begin with a slash.
            let text: Vec<u8> = text.into_iter().filter(|byte| *byte != b'=').collect();
            prop_assert_eq!(rewritten(&text, pieces), text);
        }
    }
}
