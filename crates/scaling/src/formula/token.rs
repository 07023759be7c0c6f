//! The tokens of a formula, as expr-lang cuts them (`parser/lexer/state.go`).

use super::Fault;

/// A token, and the byte where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) byte: usize,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// A name, `true`, `false` or `nil`.
    Name(&'a str),
    Number(&'a str),
    /// What stands between quotes.
    Text(String),
    Bracket(char),
    /// A symbol, or a word that the language keeps to itself.
    Operator(&'a str),
    End,
}

/// Words of the language that cannot be names.
const WORDS: [&str; 11] =
    ["not", "in", "or", "and", "matches", "contains", "startsWith", "endsWith", "let", "if", "else"];

/// Cuts a formula into tokens; the last is always [`Kind::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Fault> {
    let mut tokens = Vec::new();
    let mut byte = 0;
    while let Some(first) = text[byte..].chars().next() {
        let rest = &text[byte..];
        let fault = |what: String| Fault { what, byte };
        let (kind, length) = match first {
            _ if first.is_whitespace() => (None, first.len_utf8()),
            _ if rest.starts_with("//") => (None, rest.find('\n').unwrap_or(rest.len())),
            _ if rest.starts_with("/*") => {
                let end = rest.find("*/").ok_or_else(|| fault("unclosed comment".to_owned()))?;
                (None, end + 2)
            }
            '"' | '\'' | '`' => {
                let (text, length) = quoted(rest, first).map_err(fault)?;
                (Some(Kind::Text(text)), length)
            }
            'b' | 'B' if rest[1..].starts_with(['"', '\'']) => {
                return Err(fault("bytes cannot be used in a formula: it reckons with numbers".to_owned()));
            }
            _ if first.is_ascii_digit() || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) => {
                let length = number(rest);
                if rest[length..].starts_with(in_name) {
                    return Err(fault(format!("bad number syntax: {:?}", &rest[..=length])));
                }
                (Some(Kind::Number(&rest[..length])), length)
            }
            '(' | '[' | '{' | ')' | ']' | '}' => (Some(Kind::Bracket(first)), 1),
            _ if in_name(first) => {
                let word = &rest[..rest.find(|c| !in_name(c)).unwrap_or(rest.len())];
                let kind = if WORDS.contains(&word) { Kind::Operator(word) } else { Kind::Name(word) };
                (Some(kind), word.len())
            }
            _ => {
                let length = symbol(rest)
                    .ok_or_else(|| fault(format!("unrecognized character: U+{:04X} '{first}'", u32::from(first))))?;
                (Some(Kind::Operator(&rest[..length])), length)
            }
        };
        tokens.extend(kind.map(|kind| Token { kind, byte }));
        byte += length;
    }
    tokens.push(Token { kind: Kind::End, byte });
    Ok(tokens)
}

fn in_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// The length of the symbol at the beginning.
fn symbol(rest: &str) -> Option<usize> {
    const TWO: [&str; 11] = ["?.", "??", "||", "::", "..", "&&", "==", "!=", "<=", ">=", "**"];
    if TWO.iter().any(|two| rest.starts_with(two)) {
        return Some(2);
    }
    rest.starts_with(['?', '/', '#', '|', ':', ',', ';', '%', '+', '-', '^', '&', '!', '=', '*', '<', '>', '.'])
        .then_some(1)
}

/// What is between quotes, and the length with them.
fn quoted(rest: &str, quote: char) -> Result<(String, usize), String> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((byte, c)) = chars.next() {
        match c {
            _ if c == quote => return Ok((text, byte + 1)),
            '\n' if quote != '`' => break,
            '\\' if quote != '`' => match chars.next().map(|(_, escaped)| escaped) {
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some('t') => text.push('\t'),
                Some(same @ ('\\' | '"' | '\'')) => text.push(same),
                _ => return Err("invalid char escape".to_owned()),
            },
            _ => text.push(c),
        }
    }
    Err("literal not terminated".to_owned())
}

/// The length of a number: `12`, `1.5`, `.5`, `1e-3`, `0x1f`, `1_000`; `1..5` begins with the number 1.
fn number(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let run = |from: usize, digit: fn(&u8) -> bool| {
        from + bytes[from..].iter().take_while(|byte| digit(byte) || **byte == b'_').count()
    };
    let decimal: fn(&u8) -> bool = u8::is_ascii_digit;
    let mut end = match bytes {
        [b'0', b'x' | b'X', ..] => run(2, u8::is_ascii_hexdigit),
        [b'0', b'o' | b'O' | b'b' | b'B', ..] => run(2, decimal),
        _ => run(0, decimal),
    };
    if bytes.get(end) == Some(&b'.') {
        if bytes.get(end + 1) == Some(&b'.') {
            return end;
        }
        end = run(end + 1, decimal);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        end = run(end + 1 + sign, decimal);
    }
    end
}
