//! Text to tokens. Positions count characters, as messages do.

use super::literal;

/// A token: what it is, where it begins, and its text.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) at: u32,
    pub(super) text: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    /// An identifier.
    Ident,
    /// An identifier in backticks, without them.
    Quoted,
    Int,
    Uint,
    Float,
    /// Text, its escapes replaced.
    Text(String),
    /// Bytes, their escapes replaced.
    Bytes(Vec<u8>),
    /// A sign or a word of the language; the token's text says which.
    Sign,
    End,
}

impl Token {
    pub(super) fn is(&self, sign: &str) -> bool {
        self.kind == TokenKind::Sign && self.text == sign
    }

    /// Whether an operand may begin with it.
    pub(super) fn begins_operand(&self) -> bool {
        match self.kind {
            TokenKind::Sign => {
                ["[", "{", "(", ".", "-", "!", "true", "false", "null"].contains(&self.text.as_str())
            }
            TokenKind::Quoted | TokenKind::End => false,
            _ => true,
        }
    }
}

/// A position and what is wrong there.
pub(super) type Fault = (u32, String);

/// Signs, those that begin with another before it.
const SIGNS: [&str; 22] = [
    "==", "!=", "<=", ">=", "&&", "||", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":", "+", "*",
    "/", "%",
];
const WORDS: [&str; 4] = ["in", "true", "false", "null"];

struct Lexer {
    characters: Vec<char>,
    at: usize,
    tokens: Vec<Token>,
}

/// Everything up to the end, which is a token of its own.
pub(super) fn tokens(source: &str) -> Result<Vec<Token>, Fault> {
    let mut lexer = Lexer { characters: source.chars().collect(), at: 0, tokens: Vec::new() };
    while let Some(character) = lexer.peek(0) {
        match character {
            ' ' | '\t' | '\r' | '\n' | '\u{c}' => lexer.at += 1,
            '/' if lexer.peek(1) == Some('/') => lexer.skip_comment(),
            _ => lexer.token(character)?,
        }
    }
    let end = lexer.characters.len();
    lexer.push(TokenKind::End, end, "<EOF>".to_owned());
    Ok(lexer.tokens)
}

fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.characters.get(self.at + ahead).copied()
    }

    fn push(&mut self, kind: TokenKind, at: usize, text: String) {
        self.tokens.push(Token { kind, at: position(at), text });
    }

    /// The text from there to here.
    fn since(&self, start: usize) -> String {
        self.characters.get(start..self.at).unwrap_or_default().iter().collect()
    }

    fn skip_comment(&mut self) {
        while self.peek(0).is_some_and(|character| character != '\n') {
            self.at += 1;
        }
    }

    fn fault<T>(&self, start: usize, end: usize) -> Result<T, Fault> {
        let text: String = self.characters.get(start..end).unwrap_or_default().iter().collect();
        Err((position(start), format!("Syntax error: token recognition error at: '{text}'")))
    }

    fn token(&mut self, character: char) -> Result<(), Fault> {
        let start = self.at;
        if self.is_text_ahead() {
            return self.text();
        }
        if character.is_ascii_digit()
            || (character == '.' && self.peek(1).is_some_and(|next| next.is_ascii_digit()))
        {
            self.number();
            return Ok(());
        }
        if character.is_ascii_alphabetic() || character == '_' {
            while self.peek(0).is_some_and(|next| next.is_ascii_alphanumeric() || next == '_') {
                self.at += 1;
            }
            let text = self.since(start);
            let kind = if WORDS.contains(&text.as_str()) { TokenKind::Sign } else { TokenKind::Ident };
            self.push(kind, start, text);
            return Ok(());
        }
        if character == '`' {
            return self.quoted();
        }
        // The two that others begin with come last.
        let sign = SIGNS.iter().chain(&["<", ">"]).find(|sign| {
            sign.chars().enumerate().all(|(ahead, character)| self.peek(ahead) == Some(character))
        });
        match sign {
            Some(sign) => {
                self.at += sign.len();
                self.push(TokenKind::Sign, start, (*sign).to_owned());
                Ok(())
            }
            None => self.fault(start, start + 1),
        }
    }

    fn quoted(&mut self) -> Result<(), Fault> {
        let start = self.at;
        self.at += 1;
        while self.peek(0).is_some_and(|next| next.is_ascii_alphanumeric() || "_.-/ ".contains(next)) {
            self.at += 1;
        }
        if self.peek(0) != Some('`') || self.at == start + 1 {
            return self.fault(start, self.at + 1);
        }
        let text = self.since(start + 1);
        self.at += 1;
        self.push(TokenKind::Quoted, start, text);
        Ok(())
    }

    fn digits(&mut self, of: fn(&char) -> bool) {
        while self.peek(0).is_some_and(|next| of(&next)) {
            self.at += 1;
        }
    }

    fn number(&mut self) {
        let start = self.at;
        let mut kind = TokenKind::Int;
        let hexadecimal = self.peek(0) == Some('0')
            && self.peek(1) == Some('x')
            && self.peek(2).is_some_and(|next| next.is_ascii_hexdigit());
        if hexadecimal {
            self.at += 2;
            self.digits(char::is_ascii_hexdigit);
        } else {
            self.digits(char::is_ascii_digit);
            if self.peek(0) == Some('.') && self.peek(1).is_some_and(|next| next.is_ascii_digit()) {
                kind = TokenKind::Float;
                self.at += 1;
                self.digits(char::is_ascii_digit);
            }
            if self.peek(0).is_some_and(|next| next == 'e' || next == 'E') {
                let signed = usize::from(self.peek(1).is_some_and(|next| next == '+' || next == '-'));
                if self.peek(1 + signed).is_some_and(|next| next.is_ascii_digit()) {
                    kind = TokenKind::Float;
                    self.at += 1 + signed;
                    self.digits(char::is_ascii_digit);
                }
            }
        }
        let text = self.since(start);
        if kind == TokenKind::Int && self.peek(0).is_some_and(|next| next == 'u' || next == 'U') {
            self.at += 1;
            kind = TokenKind::Uint;
        }
        self.push(kind, start, text);
    }

    /// Whether a text or bytes begin here: a quote, after prefixes `b`, `r` or `br`.
    fn is_text_ahead(&self) -> bool {
        let is = |ahead: usize, of: &str| self.peek(ahead).is_some_and(|next| of.contains(next));
        is(0, "\"'") || (is(0, "rRbB") && is(1, "\"'")) || (is(0, "bB") && is(1, "rR") && is(2, "\"'"))
    }

    fn text(&mut self) -> Result<(), Fault> {
        let start = self.at;
        let (mut raw, mut bytes) = (false, false);
        while let Some(prefix) = self.peek(0).filter(|next| "rRbB".contains(*next)) {
            raw |= prefix.eq_ignore_ascii_case(&'r');
            bytes |= prefix.eq_ignore_ascii_case(&'b');
            self.at += 1;
        }
        let Some(quote) = self.peek(0) else { return self.fault(start, self.at) };
        let triple = self.peek(1) == Some(quote) && self.peek(2) == Some(quote);
        let width = if triple { 3 } else { 1 };
        self.at += width;
        let from = self.at;
        loop {
            let Some(next) = self.peek(0) else { return self.fault(start, self.at) };
            if next == quote && (0..width).all(|ahead| self.peek(ahead) == Some(quote)) {
                break;
            }
            if !triple && (next == '\n' || next == '\r') {
                return self.fault(start, self.at);
            }
            self.at += if next == '\\' && !raw { 2 } else { 1 };
        }
        let inner = self.since(from);
        self.at += width;
        let kind = if bytes {
            if raw {
                Some(TokenKind::Bytes(inner.into_bytes()))
            } else {
                literal::bytes(&inner).map(TokenKind::Bytes)
            }
        } else if raw {
            Some(TokenKind::Text(inner))
        } else {
            literal::text(&inner).map(TokenKind::Text)
        };
        let Some(kind) = kind else { return self.fault(start, self.at) };
        let text = self.since(start);
        self.push(kind, start, text);
        Ok(())
    }
}
