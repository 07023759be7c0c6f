//! What a formula names and what it may cost, read from its tokens.
//!
//! The library finds an unknown name only where it comes to use it, and has no bound on the lists that a range makes.

/// Words of the language that are no names.
const WORDS: [&str; 13] =
    ["true", "false", "nil", "in", "not", "and", "or", "matches", "contains", "startsWith", "endsWith", "if", "else"];
/// Functions that make much out of little.
const REFUSED: [&str; 1] = ["repeat"];

/// What the tokens say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Names that must come from outside, with the byte where each stands.
    pub(super) names: Vec<(String, usize)>,
    /// How deep brackets nest.
    pub(super) depth: usize,
    /// Steps that all ranges stand for, each walked inside every other; `None` if an end is not a whole number.
    pub(super) steps: Option<u64>,
    /// A function that must not be used.
    pub(super) refused: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Number(&'a str),
    Text,
    /// `..`
    Range,
    /// `.` or `?.`
    Member,
    Symbol(char),
}

/// Reads the tokens of a formula. What is no token is left to the parser.
pub(super) fn scan(text: &str) -> Scan {
    let tokens = tokens(text);
    let mut scan = Scan { steps: Some(1), ..Scan::default() };
    let mut locals = Vec::new();
    let mut open = Vec::new();
    let mut signs = 0;
    let at = |index: usize| tokens.get(index).map(|(token, _)| *token);
    for (index, (token, byte)) in tokens.iter().enumerate() {
        let before = index.checked_sub(1).and_then(at);
        // Signs and negations nest without a bracket.
        let sign = matches!(token, Token::Symbol('!' | '-' | '+') | Token::Word("not"));
        signs = if sign { signs + 1 } else { 0 };
        scan.depth = scan.depth.max(open.len() + signs);
        match *token {
            Token::Symbol(bracket @ ('(' | '[' | '{')) => {
                open.push(bracket);
                scan.depth = scan.depth.max(open.len());
            }
            Token::Symbol(')' | ']' | '}') => {
                open.pop();
            }
            Token::Range => {
                let ends = (before, at(index + 1));
                let length = match ends {
                    (Some(Token::Number(from)), Some(Token::Number(to))) => length(from, to),
                    _ => None,
                };
                scan.steps = scan.steps.zip(length).and_then(|(steps, length)| steps.checked_mul(length));
            }
            Token::Word(word) => {
                let after = at(index + 1);
                let key = after == Some(Token::Symbol(':'))
                    && open.last() == Some(&'{')
                    && matches!(before, Some(Token::Symbol('{' | ',')));
                if before == Some(Token::Word("let")) {
                    locals.push(word);
                } else if after == Some(Token::Symbol('(')) && !WORDS.contains(&word) {
                    scan.refused = scan.refused.or_else(|| REFUSED.into_iter().find(|refused| *refused == word));
                } else if !key
                    && word != "let"
                    && !WORDS.contains(&word)
                    && !locals.contains(&word)
                    && !matches!(before, Some(Token::Member | Token::Symbol('#')))
                {
                    scan.names.push((word.to_owned(), *byte));
                }
            }
            Token::Number(_) | Token::Text | Token::Member | Token::Symbol(_) => {}
        }
    }
    scan
}

/// How many numbers a range has.
fn length(from: &str, to: &str) -> Option<u64> {
    let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
    Some(to.saturating_sub(from).saturating_add(1))
}

fn tokens(text: &str) -> Vec<(Token<'_>, usize)> {
    let mut tokens = Vec::new();
    let mut byte = 0;
    while let Some(rest) = text.get(byte..).filter(|rest| !rest.is_empty()) {
        let first = rest.chars().next().unwrap_or_default();
        let (token, length) = match first {
            _ if first.is_whitespace() => (None, first.len_utf8()),
            _ if rest.starts_with("//") => (None, rest.find('\n').unwrap_or(rest.len())),
            _ if rest.starts_with("/*") => (None, rest.find("*/").map_or(rest.len(), |end| end + 2)),
            '"' | '\'' | '`' => (Some(Token::Text), quoted(rest, first)),
            _ if first.is_ascii_digit() => {
                let length = number(rest);
                (Some(Token::Number(&rest[..length])), length)
            }
            _ if word(first) => {
                let length = rest.find(|c: char| !word(c) && !c.is_ascii_digit()).unwrap_or(rest.len());
                (Some(Token::Word(&rest[..length])), length)
            }
            _ if rest.starts_with("..") => (Some(Token::Range), 2),
            _ if rest.starts_with("?.") && !rest[2..].starts_with(|c: char| c.is_ascii_digit()) => {
                (Some(Token::Member), 2)
            }
            '.' => (Some(Token::Member), 1),
            _ => (Some(Token::Symbol(first)), first.len_utf8()),
        };
        tokens.extend(token.map(|token| (token, byte)));
        byte += length;
    }
    tokens
}

fn word(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '$'
}

/// The length of a text in quotes.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (byte, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            _ if c == quote => return byte + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// The length of a number: `12`, `1.5`, `1e-3`, `0x1f`, `1_000`; `1..5` begins with the number 1.
fn number(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut length = 0;
    while let Some(byte) = bytes.get(length) {
        let part = match byte {
            b'.' => bytes.get(length + 1).is_some_and(u8::is_ascii_digit),
            b'+' | b'-' => matches!(bytes[length - 1], b'e' | b'E') && !rest.starts_with("0x"),
            other => other.is_ascii_alphanumeric() || *other == b'_',
        };
        if !part {
            break;
        }
        length += 1;
    }
    length
}
