//! Paths into JSON, as GJSON writes them: the part of the notation that leads to one value.
//!
//! `a.b` or `a|b`, `a.0`, `a\.b`, `a*` and `a?` (the first key that matches), `#` (the length of a list), `#(key=="x")` (its first
//! element for which that holds; also `!=`, `<`, `<=`, `>`, `>=`). Paths that lead to several values (`#.a`, `#(…)#`,
//! `{…}`, `[…]`), modifiers (`@…`) and comparisons with a pattern (`%`) are refused.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

/// Whether a path can lead to one value.
pub(super) fn check(path: &str) -> Result<(), String> {
    let steps = steps(path)?;
    let counted = steps.iter().position(|step| *step == Step::Length);
    match counted {
        Some(at) if at + 1 < steps.len() => {
            Err(format!("{path:?} leads to several values; choose one element, or count them with #"))
        }
        _ => Ok(()),
    }
}

/// The value at a path; `None` when there is none.
pub(super) fn find<'a>(value: &'a Value, path: &str) -> Result<Option<Cow<'a, Value>>, String> {
    let mut at = value;
    for step in steps(path)? {
        let next = match (&step, at) {
            (Step::Length, Value::Array(list)) => return Ok(Some(Cow::Owned(Value::from(list.len())))),
            (Step::Where { key, comparison, wanted }, Value::Array(list)) => list.iter().find(|element| {
                let field = if key.is_empty() { Some(*element) } else { element.get(key) };
                field.and_then(|field| compare(field, wanted)).is_some_and(|order| comparison.holds(order))
            }),
            (Step::Key(key), Value::Object(fields)) => fields.get(key),
            (Step::Pattern(pattern), Value::Object(fields)) => {
                fields.iter().find(|(key, _)| matches(pattern, key)).map(|(_, field)| field)
            }
            (Step::Key(key), Value::Array(list)) => key.parse::<usize>().ok().and_then(|index| list.get(index)),
            _ => None,
        };
        match next {
            Some(next) => at = next,
            None => return Ok(None),
        }
    }
    Ok(Some(Cow::Borrowed(at)))
}

#[derive(Debug, PartialEq)]
enum Step {
    Key(String),
    /// With `*` and `?`.
    Pattern(Vec<Part>),
    Length,
    Where {
        key: String,
        comparison: Comparison,
        wanted: Value,
    },
}

#[derive(Debug, PartialEq)]
enum Part {
    Any,
    One,
    Letter(char),
}

#[derive(Debug, PartialEq, Clone, Copy)]
enum Comparison {
    Is,
    IsNot,
    Below,
    AtMost,
    Above,
    AtLeast,
}

impl Comparison {
    /// Two letters before one, so that `<=` is not read as `<`.
    const SIGNS: [(&'static str, Self); 6] = [
        ("==", Self::Is),
        ("!=", Self::IsNot),
        ("<=", Self::AtMost),
        (">=", Self::AtLeast),
        ("<", Self::Below),
        (">", Self::Above),
    ];

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Is => order.is_eq(),
            Self::IsNot => order.is_ne(),
            Self::Below => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Above => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }
}

/// What GJSON takes for a modifier where a key could be; any other key may begin with `@`.
const MODIFIERS: [&str; 13] = [
    "@dig", "@flatten", "@fromstr", "@group", "@join", "@keys", "@pretty", "@reverse", "@this", "@tostr", "@ugly",
    "@valid", "@values",
];

fn steps(path: &str) -> Result<Vec<Step>, String> {
    if path.is_empty() || path.starts_with(['@', '{', '[', '!']) {
        return Err(format!("{path:?} is not a path to one value"));
    }
    let mut steps = Vec::new();
    let mut rest = path;
    loop {
        let (step, after) = match rest.strip_prefix("#(") {
            Some(query) => condition(query).ok_or_else(|| format!("{path:?}: #(…) is not key==value"))?,
            None => plain(rest),
        };
        if matches!(&step, Step::Key(key) if MODIFIERS.contains(&key.split(':').next().unwrap_or_default())) {
            return Err(format!("{path:?}: modifiers (@…) are not taken, only paths to one value"));
        }
        steps.push(step);
        match after.strip_prefix(['.', '|']) {
            Some(after) if !after.is_empty() => rest = after,
            None if after.is_empty() => return Ok(steps),
            Some(_) => return Err(format!("{path:?} ends with a dot")),
            None => return Err(format!("{path:?} is not a path to one value: {after:?} is too much")),
        }
    }
}

/// A key up to the next dot that is not escaped.
fn plain(text: &str) -> (Step, &str) {
    let mut parts = Vec::new();
    let mut letters = text.char_indices();
    let mut end = text.len();
    while let Some((at, letter)) = letters.next() {
        parts.push(match letter {
            '.' | '|' => {
                end = at;
                break;
            }
            '*' => Part::Any,
            '?' => Part::One,
            '\\' => Part::Letter(letters.next().map_or('\\', |(_, escaped)| escaped)),
            other => Part::Letter(other),
        });
    }
    let key: Option<String> =
        parts.iter().map(|part| if let Part::Letter(letter) = part { Some(*letter) } else { None }).collect();
    let step = match key {
        Some(key) if key == "#" => Step::Length,
        Some(key) => Step::Key(key),
        None => Step::Pattern(parts),
    };
    (step, &text[end..])
}

/// `key=="x")…`, after `#(`.
fn condition(text: &str) -> Option<(Step, &str)> {
    let (at, (sign, comparison)) =
        Comparison::SIGNS.iter().filter_map(|sign| Some((text.find(sign.0)?, sign))).min_by_key(|(at, _)| *at)?;
    let wanted = text[at + sign.len()..].trim_start();
    // A JSON value ends where its reader stops; what follows must be the closing bracket.
    let mut values = serde_json::Deserializer::from_str(wanted).into_iter::<Value>();
    let (value, length) = if let Ok(value) = values.next()? {
        (value, values.byte_offset())
    } else {
        // A bare word is a text, too; a number is never followed by a bracket in JSON.
        let end = wanted.find(')')?;
        let word = wanted[..end].trim();
        (serde_json::from_str(word).unwrap_or_else(|_| Value::from(word)), end)
    };
    let after = wanted[length..].trim_start().strip_prefix(')')?;
    Some((Step::Where { key: text[..at].trim().to_owned(), comparison: *comparison, wanted: value }, after))
}

/// Numbers and texts are compared among themselves; other values only for being the same.
fn compare(field: &Value, wanted: &Value) -> Option<Ordering> {
    match (field, wanted) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (a, b) => (a == b).then_some(Ordering::Equal),
    }
}

fn matches(pattern: &[Part], key: &str) -> bool {
    match pattern.split_first() {
        None => key.is_empty(),
        Some((Part::Any, rest)) => {
            (0..=key.len()).filter(|at| key.is_char_boundary(*at)).any(|at| matches(rest, &key[at..]))
        }
        Some((part, rest)) => {
            let mut letters = key.chars();
            let letter = letters.next();
            letter.is_some_and(|letter| *part == Part::One || *part == Part::Letter(letter))
                && matches(rest, letters.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_leads_to_one_value() {
        let answer = json!({
            "a": {"b": [10, {"c": 20}], "x.y": 30, "@type": 40},
            "list": [{"name": "in", "size": 1}, {"name": "out) of", "size": 2}, {"size": 3, "name": "in"}],
            "plain": [4, 5, 6],
        });
        for (path, wanted) in [
            ("a.b.0", Some(10)),
            ("a.b.1.c", Some(20)),
            ("a.x\\.y", Some(30)),
            ("a|b|1.c", Some(20)),
            ("a.@type", Some(40)),
            ("a.x*", Some(30)),
            ("a.?.1.c", Some(20)),
            ("a.b.#", Some(2)),
            ("list.#(name==\"in\").size", Some(1)),
            ("list.#(name==in).size", Some(1)),
            ("list.#(name == \"out) of\").size", Some(2)),
            ("list.#(size>=3).size", Some(3)),
            ("list.#(name!=in).size", Some(2)),
            ("plain.#(>4)", Some(5)),
            ("a.c", None),
            ("a.b.2", None),
            ("a.b.0.c", None),
            ("list.#(name==\"none\").size", None),
            ("a.#", None),
        ] {
            let found = find(&answer, path).unwrap().and_then(|value| value.as_i64());
            assert_eq!(found, wanted, "{path}");
        }
    }

    #[test]
    fn what_leads_to_several_values_is_refused() {
        for path in [
            "",
            "list.#.size",
            "list.#(size>1)#.size",
            "@this",
            "a.@this",
            "list.@reverse.0",
            "plain|@join:{}",
            "{a,b}",
            "a.",
            "list.#(name).size",
        ] {
            assert!(check(path).is_err(), "{path}");
        }
    }
}
