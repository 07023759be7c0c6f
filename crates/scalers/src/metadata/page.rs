//! `docs/scalers/<type>.md`.

use std::fmt::Write as _;

use super::reader::origins;
use super::{Kind, Origin, Parameter, Shape};

/// The page of a trigger type.
pub(crate) fn page(trigger_type: &str, shape: &'static Shape) -> String {
    let mut page = format!(
        "<!-- Generated from the settings struct: cargo run -p scalers --example docs -->\n# {trigger_type}\n\n"
    );
    let _ = writeln!(page, "{}\n", intro(shape));
    page.push_str("| parameter | value | default | from |\n|---|---|---|---|\n");
    let parameters = shape.parameters();
    for parameter in &parameters {
        let need = match (parameter.default, parameter.required) {
            (Some(default), _) => format!("`{default}`"),
            (None, true) => "**required**".into(),
            (None, false) => "–".into(),
        };
        let _ = writeln!(page, "| `{}` | {} | {need} | {} |", parameter.name, looks(parameter), origins(parameter));
    }
    page.push('\n');
    for parameter in &parameters {
        let _ = write!(page, "**`{}`**: {}", parameter.name, parameter.doc);
        if !parameter.aliases.is_empty() {
            let _ = write!(page, " Also written {}.", code(parameter.aliases));
        }
        for (old, notice) in parameter.deprecated {
            let _ = write!(page, " Old name: `{old}` ({notice}).");
        }
        page.push_str("\n\n");
    }
    rules(&mut page, shape);
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

/// The shape's own text, or that of the first nested one that has any.
fn intro(shape: &'static Shape) -> &'static str {
    shape.all().into_iter().map(|shape| shape.intro).find(|intro| !intro.is_empty()).unwrap_or_default()
}

fn rules(page: &mut String, shape: &'static Shape) {
    for shape in shape.all() {
        for set in shape.exclusive {
            let _ = writeln!(page, "- At most one of {}.", code(set));
        }
        for set in shape.some_of {
            let _ = writeln!(page, "- At least one of {}.", code(set));
        }
        for (name, advice) in shape.removed {
            let _ = writeln!(page, "- `{name}` is refused: {advice}.");
        }
        for (name, reason) in shape.ignored {
            let _ = writeln!(page, "- `{name}`: {reason}.");
        }
    }
    if shape.open {
        page.push_str("- Other keys are part of the trigger.\n");
    }
}

/// What a value looks like, in words.
fn looks(parameter: &Parameter) -> String {
    let mut text = kind(parameter.kind, parameter);
    for (word, limit) in [("above", parameter.above), ("at least", parameter.at_least), ("at most", parameter.at_most)]
    {
        if let Some(limit) = limit {
            let _ = write!(text, ", {word} {limit}");
        }
    }
    if parameter.secret && parameter.sources != [Origin::Metadata] {
        text.push_str(", secret");
    }
    text
}

fn kind(kind_of: Kind, parameter: &Parameter) -> String {
    match kind_of {
        Kind::Text => "text".into(),
        Kind::Whole if parameter.ranges => "whole numbers and ranges (`3-7`)".into(),
        Kind::Whole => "whole number".into(),
        Kind::Number => "number".into(),
        Kind::Boolean => "`true` or `false`".into(),
        Kind::Duration => "duration (`500ms`, `10s`; a bare number is milliseconds)".into(),
        Kind::Url => "URL (http, https)".into(),
        Kind::OneOf(words) => code(words),
        Kind::List(of) => format!("list of {}, separated by `{}`", kind(*of, parameter), parameter.separator),
        Kind::Pairs => format!("`name=value`, separated by `{}`", parameter.separator),
        Kind::QueryPairs => "`name=value&name=value`".into(),
    }
}

fn code(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
