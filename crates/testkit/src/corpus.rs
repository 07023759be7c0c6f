//! What real KEDA was seen to do with many manifests, and the table that says where we differ.
//!
//! The corpus is not part of this repository; who looks for it and does not find it says so. A difference has a scenario, a
//! field, KEDA's text and ours. It passes if a row of the table covers it, and each row must cover something, so that the
//! table says no more and no less than what is so.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::binaries::workspace;

/// The section of `docs/differences.md` with the table.
const SECTION: &str = "KEDA's scenarios";
/// How a table says that there is nothing.
pub const NOTHING: &str = "–";

/// One story: what is there, and what somebody then applies.
#[derive(Debug, Clone, Deserialize)]
pub struct Scenario {
    pub name: String,
    /// What exists beforehand.
    pub objects: Vec<Value>,
    /// What is looked at.
    pub object: Value,
}

/// The scenarios, with what KEDA did in each.
#[derive(Debug, Clone)]
pub struct Corpus {
    pub scenarios: Vec<Scenario>,
    pub expected: BTreeMap<String, Value>,
}

/// KEDA's corpus, where it is beside the repository or where `TANDEM_SHARED` says; nothing if it is not there.
pub fn keda() -> Result<Option<Corpus>> {
    let shared = std::env::var_os("TANDEM_SHARED").map_or_else(|| workspace().join("../shared"), PathBuf::from);
    let folder = shared.join("conformance/keda");
    if !folder.is_dir() {
        println!("skipped: there is no ../shared/conformance/keda");
        return Ok(None);
    }
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).with_context(|| file.to_owned());
    let scenarios = serde_json::from_str(&read("scenarios.json")?)?;
    let expected = serde_json::from_str(&read("expected.json")?)?;
    Ok(Some(Corpus { scenarios, expected }))
}

/// Where we do something else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    pub scenario: String,
    /// What differs: `admission`, `hpa`, …
    pub field: String,
    pub keda: String,
    pub tandem: String,
}

impl Difference {
    /// Compares two texts; an empty one is [`NOTHING`]. A line break is written as `⏎`.
    pub fn of(scenario: &str, field: &str, keda: &str, tandem: &str) -> Option<Self> {
        let tidy = |text: &str| match text.trim() {
            "" => NOTHING.to_owned(),
            text => text.replace('\n', " ⏎ ").split_whitespace().collect::<Vec<_>>().join(" "),
        };
        let (keda, tandem) = (tidy(keda), tidy(tandem));
        (keda != tandem).then(|| Self { scenario: scenario.to_owned(), field: field.to_owned(), keda, tandem })
    }

    fn row(&self) -> String {
        let cell =
            |text: &str| if text == NOTHING { text.to_owned() } else { format!("`{}`", text.replace('|', "\\|")) };
        format!("| `{}` | {} | {} | {} | |", self.scenario, self.field, cell(&self.keda), cell(&self.tandem))
    }
}

/// A row of the table. In texts `…` stands for anything; in names of scenarios `*` does.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    scenarios: Vec<String>,
    field: String,
    keda: String,
    tandem: String,
    line: usize,
}

impl Row {
    fn covers(&self, found: &Difference) -> bool {
        self.field == found.field
            && self.scenarios.iter().any(|pattern| matches(pattern, '*', &found.scenario))
            && matches(&self.keda, '…', &found.keda)
            && matches(&self.tandem, '…', &found.tandem)
    }
}

/// The table of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// The table of `docs/differences.md`.
    pub fn read() -> Result<Self> {
        Self::parse(&std::fs::read_to_string(workspace().join("docs/differences.md"))?)
    }

    fn parse(page: &str) -> Result<Self> {
        let mut rows = Vec::new();
        let mut here = false;
        for (line, text) in page.lines().enumerate() {
            if let Some(heading) = text.strip_prefix("## ") {
                here = heading == SECTION;
            }
            let Some(text) = text.strip_prefix("| `").filter(|_| here) else { continue };
            let cells = cells(&format!("`{text}"));
            ensure!(cells.len() == 5, "line {} of the differences has {} cells, not 5", line + 1, cells.len());
            ensure!(!cells[4].is_empty(), "line {} of the differences gives no reason", line + 1);
            let bare = |cell: &str| cell.trim_matches('`').to_owned();
            rows.push(Row {
                scenarios: cells[0].split(", ").map(bare).collect(),
                field: cells[1].clone(),
                keda: bare(&cells[2]),
                tandem: bare(&cells[3]),
                line: line + 1,
            });
        }
        Ok(Self { rows })
    }

    /// What of these differences is not in the table, and what of the table is none of them. `fields` are those that were
    /// compared, in the scenarios that `played` says.
    pub fn judge(&self, found: &[Difference], fields: &[&str], played: impl Fn(&str) -> bool) -> Vec<String> {
        let unlisted = found.iter().filter(|difference| !self.rows.iter().any(|row| row.covers(difference)));
        let mut wrong: Vec<String> = unlisted.map(Difference::row).collect();
        for row in self.rows.iter().filter(|row| fields.contains(&row.field.as_str())) {
            for pattern in &row.scenarios {
                let one = Row { scenarios: vec![pattern.clone()], ..row.clone() };
                let asked = pattern.contains('*') || played(pattern);
                if asked && !found.iter().any(|difference| one.covers(difference)) {
                    wrong.push(format!("line {}: `{pattern}` does not differ in {} like this", row.line, row.field));
                }
            }
        }
        wrong
    }
}

/// The cells of a row; `\|` is no border.
fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_end_matches('|').replace("\\|", "\u{0}");
    row.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// Whether a text is what a pattern says, in which one sign stands for anything.
fn matches(pattern: &str, anything: char, text: &str) -> bool {
    let mut parts = pattern.split(anything);
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// Paths at which two values differ, as `path=value` of each; a path that one lacks is not in its list. What is empty and
/// what is absent are alike.
pub fn paths(keda: &Value, tandem: &Value) -> (String, String) {
    let mut lists = (Vec::new(), Vec::new());
    walk("", keda, tandem, &mut lists);
    (lists.0.join("; "), lists.1.join("; "))
}

fn walk(path: &str, keda: &Value, tandem: &Value, lists: &mut (Vec<String>, Vec<String>)) {
    let (none_keda, none_tandem) = (is_empty(keda), is_empty(tandem));
    match (keda, tandem) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(&inner, keda.get(key).unwrap_or(&Value::Null), tandem.get(key).unwrap_or(&Value::Null), lists);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                walk(&format!("{path}[{index}]"), a, b, lists);
            }
        }
        _ if keda == tandem || (none_keda && none_tandem) => {}
        _ => {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if !none_keda {
                lists.0.push(format!("{path}={}", text(keda)));
            }
            if !none_tandem {
                lists.1.push(format!("{path}={}", text(tandem)));
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PAGE: &str = "## KEDA's scenarios\n\n| scenarios | field | KEDA | Tandem | why |\n|---|---|---|---|---|\n\
        | `a-*`, `b` | admission | `allowed … \\| x` | – | because |\n\n## Other\n\n| `c` | d | e | f | g |\n";

    fn difference(scenario: &str, keda: &str, tandem: &str) -> Difference {
        Difference::of(scenario, "admission", keda, tandem).unwrap()
    }

    #[test]
    fn a_row_covers_what_it_says_and_nothing_else() {
        let table = Table::parse(PAGE).unwrap();
        let found = [difference("a-1", "allowed with a | x", ""), difference("b", "allowed … | x", "")];
        assert_eq!(table.judge(&found, &["admission"], |_| true), Vec::<String>::new());
        let other = [difference("a-1", "refused", ""), found[1].clone()];
        let said = table.judge(&other, &["admission"], |_| true);
        assert_eq!(
            said,
            ["| `a-1` | admission | `refused` | – | |", "line 5: `a-*` does not differ in admission like this"]
        );
        assert_eq!(table.judge(&[], &["hpa"], |_| true), Vec::<String>::new(), "a field that was not compared");
        assert_eq!(table.judge(&found[..1], &["admission"], |name| name != "b"), Vec::<String>::new(), "not played");
    }

    #[test]
    fn a_row_needs_a_reason() {
        let page = PAGE.replace("because", "");
        assert!(Table::parse(&page).is_err());
    }

    #[test]
    fn a_sign_stands_for_anything() {
        for (pattern, text, wanted) in [
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("*", "", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c", false),
            ("ab", "ab", true),
            ("ab", "abc", false),
        ] {
            assert_eq!(matches(pattern, '*', text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn only_what_differs_is_named_by_its_path() {
        let keda = json!({"a": {"b": 1, "c": ""}, "d": [1, {"e": "x"}]});
        let ours = json!({"a": {"b": 2}, "d": [1, {"e": "y", "f": true}]});
        assert_eq!(paths(&keda, &ours), ("a.b=1; d[1].e=x".to_owned(), "a.b=2; d[1].e=y; d[1].f=true".to_owned()));
    }
}
