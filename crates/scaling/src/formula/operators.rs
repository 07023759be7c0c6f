//! The operators of expr-lang 1.17 (`parser/operator/operator.go`), and its numbers.

use super::tree::{Binary, Comparison};
use super::value::Value;

/// How tight the sign of a number binds.
pub(super) const SIGN: u16 = 90;
/// How tight `not` and `!` bind.
pub(super) const NOT: u16 = 50;

/// How tight an operator between two parts binds; a greater number binds tighter.
pub(super) fn precedence(operator: &str) -> Option<u16> {
    Some(match operator {
        "|" => 0,
        "or" | "||" => 10,
        "and" | "&&" => 15,
        "==" | "!=" | "<" | ">" | ">=" | "<=" | "in" | "matches" | "contains" | "startsWith" | "endsWith" => 20,
        ".." => 25,
        "+" | "-" => 30,
        "*" | "/" | "%" => 60,
        "**" | "^" => 100,
        "??" => 500,
        _ => return None,
    })
}

/// The operator that puts two values in order.
pub(super) fn comparison(operator: &str) -> Option<Comparison> {
    Some(match operator {
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::More,
        ">=" => Comparison::MoreOrEqual,
        _ => return None,
    })
}

/// The operator between two values, but for those that put them in order.
pub(super) fn binary(operator: &str) -> Option<Binary> {
    Some(match operator {
        "or" | "||" => Binary::Or,
        "and" | "&&" => Binary::And,
        "==" => Binary::Equal,
        "!=" => Binary::Unequal,
        "in" => Binary::In,
        "contains" => Binary::Contains,
        "startsWith" => Binary::StartsWith,
        "endsWith" => Binary::EndsWith,
        ".." => Binary::Range,
        "+" => Binary::Add,
        "-" => Binary::Subtract,
        "*" => Binary::Multiply,
        "/" => Binary::Divide,
        "%" => Binary::Modulo,
        "**" | "^" => Binary::Power,
        "??" => Binary::Coalesce,
        _ => return None,
    })
}

/// The value of a number that is written out.
pub(super) fn literal(written: &str) -> Result<Value, String> {
    let plain = written.replace('_', "").to_ascii_lowercase();
    let whole = |digits: &str, radix| {
        i64::from_str_radix(digits, radix)
            .map(Value::Int)
            .map_err(|error| format!("invalid integer literal {written}: {error}"))
    };
    if let Some(digits) = plain.strip_prefix("0x") {
        whole(digits, 16)
    } else if plain.contains(['.', 'e']) {
        let float = plain.parse::<f64>().ok().filter(|float| float.is_finite());
        float.map(Value::Float).ok_or_else(|| format!("invalid float literal {written}"))
    } else if let Some(digits) = plain.strip_prefix("0b") {
        whole(digits, 2)
    } else if let Some(digits) = plain.strip_prefix("0o") {
        whole(digits, 8)
    } else {
        whole(&plain, 10)
    }
}
