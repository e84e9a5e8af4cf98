//! Tokens to a tree. Depth and size are bounded, so that whatever comes after may recurse.

use std::sync::Arc;

use super::ast::{Entry, Expr, Kind, Literal};
use super::lexer::{Fault, Token, TokenKind, tokens};
use super::macros;
use crate::escape::is_reserved;

/// Most characters of an expression (the reference implementation's limit).
const MAX_CHARACTERS: usize = 100_000;
/// Most levels of an expression. The reference implementation has 250; half of that is what a thread's stack of 2 MiB
/// takes in a build without optimisation.
const MAX_DEPTH: u32 = 128;
/// Most nodes of a short text, with those that macros make: some use a part twice, and so double what is within one another.
const FEW_NODES: u32 = 2_048;
/// How many more each character may come to.
const NODES_OF_CHARACTER: u32 = 2;

const OPERANDS: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, \
                        IDENTIFIER}";

/// Parses an expression, in which `cel.bind` is known or not.
///
/// # Errors
/// Where the text is malformed, and how.
pub(crate) fn parse(source: &str, bindings: bool) -> Result<Expr, (Option<u32>, String)> {
    let size = source.chars().count();
    if size > MAX_CHARACTERS {
        let why = format!("expression code point size exceeds limit: size: {size}, limit {MAX_CHARACTERS}");
        return Err((None, why));
    }
    let placed = |(at, why): Fault| (Some(at), why);
    let tokens = tokens(source).map_err(placed)?;
    let more = u32::try_from(size).unwrap_or(u32::MAX).saturating_mul(NODES_OF_CHARACTER);
    let most_nodes = FEW_NODES.saturating_add(more);
    let mut parser = Parser { tokens, next: 0, nodes: 0, most_nodes, nesting: 0, bindings };
    let expression = parser.expression().map_err(placed)?;
    let token = parser.peek();
    if token.kind != TokenKind::End {
        let only = parser.ahead(1).is_none_or(|next| next.kind == TokenKind::End);
        let what = if only { "extraneous" } else { "mismatched" };
        let why = format!("Syntax error: {what} input '{}' expecting <EOF>", token.text);
        return Err((Some(token.at), why));
    }
    Ok(expression)
}

/// How many nodes were made; makes them.
pub(super) struct Parser {
    tokens: Vec<Token>,
    next: usize,
    nodes: u32,
    most_nodes: u32,
    nesting: u32,
    /// Whether `cel.bind` is known.
    pub(super) bindings: bool,
}

type Parsed = Result<Expr, Fault>;

/// A binary operator; the higher its level the more tightly it binds.
#[derive(Clone, Copy)]
struct Operator {
    sign: &'static str,
    function: &'static str,
    level: u8,
    at: u32,
}

const fn operator(sign: &'static str, function: &'static str, level: u8) -> Operator {
    Operator { sign, function, level, at: 0 }
}

/// `||` and `&&` are apart.
const OPERATORS: [Operator; 12] = [
    operator("<", "_<_", 1),
    operator("<=", "_<=_", 1),
    operator(">=", "_>=_", 1),
    operator(">", "_>_", 1),
    operator("==", "_==_", 1),
    operator("!=", "_!=_", 1),
    operator("in", "@in", 1),
    operator("+", "_+_", 2),
    operator("-", "_-_", 2),
    operator("*", "_*_", 3),
    operator("/", "_/_", 3),
    operator("%", "_%_", 3),
];

fn too_deep() -> String {
    format!("expression recursion limit exceeded: {MAX_DEPTH}")
}

impl Parser {
    /// A node of that kind.
    pub(super) fn node(&mut self, at: u32, kind: Kind) -> Parsed {
        if self.nodes >= self.most_nodes {
            return Err((at, format!("expression has more than {} parts", self.most_nodes)));
        }
        let mut expr = Expr { id: self.nodes, at, depth: 0, kind };
        self.nodes += 1;
        let mut below = 0;
        expr.each_child(&mut |child| below = below.max(child.depth));
        expr.depth = below + 1;
        if expr.depth > MAX_DEPTH {
            return Err((at, too_deep()));
        }
        Ok(expr)
    }

    fn peek(&self) -> &Token {
        static END: Token = Token { kind: TokenKind::End, at: 0, text: String::new() };
        self.tokens.get(self.next).unwrap_or(&END)
    }

    fn ahead(&self, count: usize) -> Option<&Token> {
        self.tokens.get(self.next + count)
    }

    /// Takes the next token; the last stays.
    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        if token.kind != TokenKind::End {
            self.next += 1;
        }
        token
    }

    fn take_sign(&mut self, sign: &str) -> Option<u32> {
        let token = self.peek();
        let at = token.at;
        token.is(sign).then(|| {
            self.next += 1;
            at
        })
    }

    fn expect(&mut self, sign: &str) -> Result<u32, Fault> {
        let found = self.take_sign(sign);
        found.ok_or_else(|| {
            let token = self.peek();
            let what = match token.kind {
                TokenKind::End => format!("missing '{sign}' at '<EOF>'"),
                _ => format!("mismatched input '{}' expecting '{sign}'", token.text),
            };
            (token.at, format!("Syntax error: {what}"))
        })
    }

    fn expression(&mut self) -> Parsed {
        self.nesting += 1;
        if self.nesting > MAX_DEPTH {
            return Err((self.peek().at, too_deep()));
        }
        let condition = self.logical()?;
        let expr = match self.take_sign("?") {
            None => condition,
            Some(at) => {
                let yes = self.logical()?;
                self.expect(":")?;
                let no = self.expression()?;
                self.call(at, "_?_:_", vec![condition, yes, no])?
            }
        };
        self.nesting -= 1;
        Ok(expr)
    }

    fn call(&mut self, at: u32, function: &str, args: Vec<Expr>) -> Parsed {
        self.node(at, Kind::Call { function: function.into(), target: None, args })
    }

    /// Terms joined by `&&` within terms joined by `||`, each as a balanced tree.
    fn logical(&mut self) -> Parsed {
        let (mut any, mut any_signs) = (Vec::new(), Vec::new());
        loop {
            let (mut all, mut all_signs) = (Vec::new(), Vec::new());
            loop {
                all.push(self.binary()?);
                match self.take_sign("&&") {
                    Some(at) => all_signs.push(at),
                    None => break,
                }
            }
            any.push(self.balanced("_&&_", &mut all.into_iter(), &all_signs)?);
            match self.take_sign("||") {
                Some(at) => any_signs.push(at),
                None => break,
            }
        }
        self.balanced("_||_", &mut any.into_iter(), &any_signs)
    }

    fn balanced(&mut self, function: &str, terms: &mut std::vec::IntoIter<Expr>, signs: &[u32]) -> Parsed {
        let middle = signs.len() / 2;
        let (Some(at), Some(left), Some(right)) =
            (signs.get(middle), signs.get(..middle), signs.get(middle + 1..))
        else {
            return terms.next().ok_or_else(|| (0, "Syntax error: no term".to_owned()));
        };
        let left = self.balanced(function, terms, left)?;
        let right = self.balanced(function, terms, right)?;
        self.call(*at, function, vec![left, right])
    }

    /// Operands with binary operators between them. A loop, so that parentheses cost few frames of the stack.
    fn binary(&mut self) -> Parsed {
        let mut operands = vec![self.member()?];
        let mut operators: Vec<Operator> = Vec::new();
        loop {
            let token = self.peek();
            let next = OPERATORS.iter().find(|operator| token.is(operator.sign)).copied();
            let level = next.map_or(0, |operator| operator.level);
            while operators.last().is_some_and(|before| before.level >= level) {
                self.reduce(&mut operands, &mut operators)?;
            }
            match next {
                Some(operator) => operators.push(Operator { at: self.take().at, ..operator }),
                None => return operands.pop().ok_or_else(|| (0, "Syntax error: no operand".to_owned())),
            }
            operands.push(self.member()?);
        }
    }

    /// Applies the last operator to the last two operands.
    fn reduce(&mut self, operands: &mut Vec<Expr>, operators: &mut Vec<Operator>) -> Result<(), Fault> {
        if let (Some(operator), Some(right), Some(left)) = (operators.pop(), operands.pop(), operands.pop()) {
            operands.push(self.call(operator.at, operator.function, vec![left, right])?);
        }
        Ok(())
    }

    /// How often a sign stands before an operand, and where first. A minus before a number belongs to it.
    fn prefix(&mut self) -> Option<(u32, &'static str)> {
        for (sign, function) in [("!", "!_"), ("-", "-_")] {
            if !self.peek().is(sign) {
                continue;
            }
            let is_number = |token: &Token| matches!(token.kind, TokenKind::Int | TokenKind::Float);
            if sign == "-" && self.ahead(1).is_some_and(is_number) {
                return None;
            }
            let at = self.peek().at;
            let mut odd = false;
            while self.take_sign(sign).is_some() {
                odd = !odd;
            }
            return odd.then_some((at, function));
        }
        None
    }

    fn member(&mut self) -> Parsed {
        let prefix = self.prefix();
        let mut operand = self.primary()?;
        loop {
            if let Some(at) = self.take_sign(".") {
                operand = self.select(at, operand)?;
            } else if let Some(at) = self.take_sign("[") {
                let optional = self.take_sign("?").is_some();
                let index = self.expression()?;
                self.expect("]")?;
                let function = if optional { "_[?_]" } else { "_[_]" };
                operand = self.call(at, function, vec![operand, index])?;
            } else {
                break;
            }
        }
        match prefix {
            Some((at, function)) => self.call(at, function, vec![operand]),
            None => Ok(operand),
        }
    }

    fn select(&mut self, at: u32, operand: Expr) -> Parsed {
        let optional = self.take_sign("?").is_some();
        let name = self.take();
        match name.kind {
            TokenKind::Ident => {}
            TokenKind::Quoted => return Err((name.at, "unsupported syntax: '`'".to_owned())),
            TokenKind::Sign | TokenKind::End => {
                let why = format!("Syntax error: mismatched input '{}' expecting IDENTIFIER", name.text);
                return Err((name.at, why));
            }
            _ => {
                let why = format!("Syntax error: no viable alternative at input '.{}'", name.text);
                return Err((name.at, why));
            }
        }
        if optional {
            let field = self.node(name.at, Kind::Literal(Literal::String(name.text.into())))?;
            return self.call(at, "_?._", vec![operand, field]);
        }
        if let Some(open) = self.take_sign("(") {
            let args = self.arguments()?;
            return macros::method(self, open, &name.text, operand, args);
        }
        let kind = Kind::Select { operand: Box::new(operand), field: name.text.into(), test: false };
        self.node(at, kind)
    }

    /// Arguments and the bracket behind them.
    fn arguments(&mut self) -> Result<Vec<Expr>, Fault> {
        let mut args = Vec::new();
        if self.take_sign(")").is_some() {
            return Ok(args);
        }
        loop {
            args.push(self.expression()?);
            if self.take_sign(",").is_none() {
                self.expect(")")?;
                return Ok(args);
            }
        }
    }

    fn primary(&mut self) -> Parsed {
        let token = self.peek();
        if token.kind == TokenKind::Ident || token.is(".") {
            return self.name();
        }
        let token = self.take();
        match (&token.kind, token.text.as_str()) {
            (TokenKind::Sign, "(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            (TokenKind::Sign, "[") => self.list(token.at),
            (TokenKind::Sign, "{") => self.map(token.at),
            (TokenKind::Sign, "-") => {
                let number = self.take();
                self.number(token.at, &format!("-{}", number.text), &number.kind)
            }
            (TokenKind::Sign, "true") => self.node(token.at, Kind::Literal(Literal::Bool(true))),
            (TokenKind::Sign, "false") => self.node(token.at, Kind::Literal(Literal::Bool(false))),
            (TokenKind::Sign, "null") => self.node(token.at, Kind::Literal(Literal::Null)),
            (TokenKind::Text(text), _) => {
                self.node(token.at, Kind::Literal(Literal::String(text.as_str().into())))
            }
            (TokenKind::Bytes(bytes), _) => {
                self.node(token.at, Kind::Literal(Literal::Bytes(bytes.as_slice().into())))
            }
            (TokenKind::Int | TokenKind::Uint | TokenKind::Float, text) => {
                self.number(token.at, text, &token.kind)
            }
            _ => {
                let what = if self.peek().begins_operand() { "extraneous" } else { "mismatched" };
                Err((token.at, format!("Syntax error: {what} input '{}' expecting {OPERANDS}", token.text)))
            }
        }
    }

    fn number(&mut self, at: u32, text: &str, kind: &TokenKind) -> Parsed {
        let (digits, sign) = text.strip_prefix('-').map_or((text, ""), |digits| (digits, "-"));
        let (digits, radix) = digits.strip_prefix("0x").map_or((digits, 10), |digits| (digits, 16));
        let literal = match kind {
            TokenKind::Uint => {
                u64::from_str_radix(digits, radix).map(Literal::Uint).map_err(|_| "invalid uint literal")
            }
            TokenKind::Float => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Literal::Double(number)),
                _ => Err("invalid double literal"),
            },
            _ => i64::from_str_radix(&format!("{sign}{digits}"), radix)
                .map(Literal::Int)
                .map_err(|_| "invalid int literal"),
        };
        match literal {
            Ok(literal) => self.node(at, Kind::Literal(literal)),
            Err(why) => Err((at, why.to_owned())),
        }
    }

    fn list(&mut self, at: u32) -> Parsed {
        let mut items = Vec::new();
        while self.take_sign("]").is_none() {
            let optional = self.take_sign("?").is_some();
            items.push((self.expression()?, optional));
            if self.take_sign(",").is_none() {
                self.expect("]")?;
                break;
            }
        }
        self.node(at, Kind::List(items))
    }

    fn map(&mut self, at: u32) -> Parsed {
        let mut entries = Vec::new();
        while self.take_sign("}").is_none() {
            let optional = self.take_sign("?").is_some();
            let key = self.expression()?;
            self.expect(":")?;
            let value = self.expression()?;
            entries.push(Entry { key, value, optional });
            if self.take_sign(",").is_none() {
                self.expect("}")?;
                break;
            }
        }
        self.node(at, Kind::Map(entries))
    }

    /// An identifier, a call of a function, or a message by its name.
    fn name(&mut self) -> Parsed {
        let absolute = self.take_sign(".").is_some();
        let token = self.take();
        if token.kind != TokenKind::Ident {
            let why = format!("Syntax error: no viable alternative at input '.{}'", token.text);
            return Err((token.at, why));
        }
        if let Some((open, name)) = self.message_name(&token.text) {
            return self.message(open, &name);
        }
        if is_reserved(&token.text) {
            return Err((token.at, format!("reserved identifier: {}", token.text)));
        }
        let name = if absolute { format!(".{}", token.text) } else { token.text };
        if let Some(open) = self.take_sign("(") {
            let args = self.arguments()?;
            return macros::function(self, open, &name, args);
        }
        self.node(token.at, Kind::Ident(name.into()))
    }

    /// The name of a message if one is made here: names with dots between, and a brace behind them.
    fn message_name(&self, first: &str) -> Option<(usize, Arc<str>)> {
        let mut name = first.to_owned();
        let mut at = 0;
        loop {
            let token = self.ahead(at)?;
            if token.is("{") {
                return Some((at, name.into()));
            }
            let next = self.ahead(at + 1)?;
            if !token.is(".") || next.kind != TokenKind::Ident {
                return None;
            }
            name = format!("{name}.{}", next.text);
            at += 2;
        }
    }

    /// Skips the name, and takes the fields between the braces.
    fn message(&mut self, skip: usize, name: &Arc<str>) -> Parsed {
        self.next += skip;
        let at = self.expect("{")?;
        while self.take_sign("}").is_none() {
            self.take_sign("?");
            let field = self.take();
            if !matches!(field.kind, TokenKind::Ident | TokenKind::Quoted) {
                let what = format!(
                    "mismatched input '{}' expecting {{'}}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}}",
                    field.text
                );
                return Err((field.at, format!("Syntax error: {what}")));
            }
            self.expect(":")?;
            self.expression()?;
            if self.take_sign(",").is_none() {
                self.expect("}")?;
                break;
            }
        }
        self.node(at, Kind::Message(name.clone()))
    }
}
