//! The text form of label selectors.

use super::label::{Operator, Requirement, SelectorError};

/// More than anyone writes by hand; keeps a hostile query from costing much.
const MAX_REQUIREMENTS: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Comma,
    Open,
    Close,
    Not,
    Equals,
    NotEquals,
    Greater,
    Less,
    End,
}

struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    fn peek(&self) -> Token<'a> {
        self.scan().0
    }

    fn next(&mut self) -> Token<'a> {
        let (token, rest) = self.scan();
        self.rest = rest;
        token
    }

    fn scan(&self) -> (Token<'a>, &'a str) {
        const SYMBOLS: [(&str, Token<'static>); 9] = [
            ("==", Token::Equals),
            ("!=", Token::NotEquals),
            ("=", Token::Equals),
            ("!", Token::Not),
            (",", Token::Comma),
            ("(", Token::Open),
            (")", Token::Close),
            (">", Token::Greater),
            ("<", Token::Less),
        ];
        let rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if rest.is_empty() {
            return (Token::End, rest);
        }
        for (symbol, token) in SYMBOLS {
            if let Some(after) = rest.strip_prefix(symbol) {
                return (token, after);
            }
        }
        let end = rest.find(|c: char| " \t\r\n=!(),><".contains(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        (Token::Word(word), after)
    }
}

impl Token<'_> {
    fn text(self) -> String {
        match self {
            Self::Word(word) => word.to_owned(),
            Self::Comma => ",".to_owned(),
            Self::Open => "(".to_owned(),
            Self::Close => ")".to_owned(),
            Self::Not => "!".to_owned(),
            Self::Equals => "=".to_owned(),
            Self::NotEquals => "!=".to_owned(),
            Self::Greater => ">".to_owned(),
            Self::Less => "<".to_owned(),
            Self::End => String::new(),
        }
    }
}

fn unexpected(found: Token<'_>, expected: &str) -> SelectorError {
    SelectorError(format!("found '{}', expected: {expected}", found.text()))
}

pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut lexer = Lexer { rest: text };
    let mut found = Vec::new();
    if lexer.peek() == Token::End {
        return Ok(found);
    }
    loop {
        if found.len() == MAX_REQUIREMENTS {
            return Err(SelectorError(format!("more than {MAX_REQUIREMENTS} requirements")));
        }
        let next = requirement(&mut lexer);
        found.push(next.map_err(|error| SelectorError(format!("unable to parse requirement: {error}")))?);
        match lexer.next() {
            Token::End => return Ok(found),
            Token::Comma => match lexer.peek() {
                Token::Word(_) | Token::Not => {}
                other => {
                    let other = other.text();
                    return Err(SelectorError(format!("found '{other}', expected: identifier after ','")));
                }
            },
            other => {
                return Err(SelectorError(format!(
                    "found '{}', expected: ',' or 'end of string'",
                    other.text()
                )));
            }
        }
    }
}

fn requirement(lexer: &mut Lexer<'_>) -> Result<Requirement, SelectorError> {
    let negated = lexer.peek() == Token::Not;
    if negated {
        lexer.next();
    }
    let key = match lexer.next() {
        Token::Word(key) => key,
        other => return Err(unexpected(other, "identifier")),
    };
    if negated {
        return Requirement::new(key, Operator::DoesNotExist, Vec::new());
    }
    let operator = match lexer.peek() {
        Token::End | Token::Comma => return Requirement::new(key, Operator::Exists, Vec::new()),
        Token::Equals | Token::Word("in") => Operator::In,
        Token::NotEquals | Token::Word("notin") => Operator::NotIn,
        Token::Greater => Operator::GreaterThan,
        Token::Less => Operator::LessThan,
        other => return Err(unexpected(other, "in, notin, =, ==, !=, gt, lt")),
    };
    let values = match lexer.next() {
        Token::Word(_) => list(lexer)?,
        _ => vec![single(lexer)?],
    };
    Requirement::new(key, operator, values)
}

/// A value after `=`; nothing at all is the empty value.
fn single(lexer: &mut Lexer<'_>) -> Result<String, SelectorError> {
    match lexer.peek() {
        Token::End | Token::Comma => Ok(String::new()),
        Token::Word(word) => {
            lexer.next();
            Ok(word.to_owned())
        }
        other => Err(unexpected(other, "identifier")),
    }
}

fn list(lexer: &mut Lexer<'_>) -> Result<Vec<String>, SelectorError> {
    if lexer.peek() != Token::Open {
        return Err(unexpected(lexer.peek(), "'('"));
    }
    lexer.next();
    let mut values = Vec::new();
    loop {
        // An empty place between commas or brackets is the empty value.
        match lexer.peek() {
            Token::Word(word) => {
                lexer.next();
                values.push(word.to_owned());
            }
            Token::Comma | Token::Close => values.push(String::new()),
            other => return Err(unexpected(other, "',', ')' or identifier")),
        }
        match lexer.next() {
            Token::Comma => {}
            Token::Close => return Ok(values),
            other => return Err(unexpected(other, "',' or ')'")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::selector::Selector;

    #[test]
    fn texts_read_and_write_as_upstream() {
        for (text, canonical) in [
            ("", ""),
            ("a=b", "a=b"),
            ("a==b", "a=b"),
            (" a = b , c != d ", "a=b,c!=d"),
            ("x in (b, a,b),!y,z", "x in (a,b),!y,z"),
            ("z,a notin (q)", "a!=q,z"),
            ("a=", "a="),
            ("a in ()", "a="),
            ("a in (,b)", "a in (,b)"),
            ("n>5,m<3", "m<3,n>5"),
            ("app.kubernetes.io/name=x", "app.kubernetes.io/name=x"),
            ("in", "in"),
        ] {
            let selector = Selector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(selector.to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn faults_are_named() {
        for (text, message) in [
            ("a=b,", "found '', expected: identifier after ','"),
            ("=b", "unable to parse requirement: found '=', expected: identifier"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a in b", "unable to parse requirement: found 'b', expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("!!a", "unable to parse requirement: found '!', expected: identifier"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ] {
            assert_eq!(Selector::parse(text).unwrap_err().to_string(), message, "{text}");
        }
        for text in ["a/b/c", "-a", "a=b!", "a=-", "a>x", "!", "a=(b)"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}|[a-c=!(),<> in]{0,30}") {
            if let Ok(selector) = Selector::parse(&text) {
                let canonical = selector.to_string();
                prop_assert_eq!(Selector::parse(&canonical).unwrap(), selector);
            }
        }
    }
}
