//! Files into documents: YAML and JSON, folders, standard input.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;

use crate::{BadInput, Origin, Problem};

/// One document and where it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Where.
    pub origin: Origin,
    /// What; never null.
    pub value: Value,
}

/// Reads a file, every `.yaml`, `.yml` and `.json` file below a folder, or standard input (`-`).
///
/// Files are read in the order of their paths; hidden ones are left out. Every document that cannot be read is an error.
pub fn read(path: &Path) -> Result<Vec<Document>, BadInput> {
    let mut documents = Vec::new();
    read_each(path, &mut |document| documents.push(document))?;
    Ok(documents)
}

/// The same, one document after the other: of a hundred thousand pods all documents together take more memory than anything
/// made of them.
pub(crate) fn read_each(path: &Path, take: &mut dyn FnMut(Document)) -> Result<(), BadInput> {
    let mut problems = Vec::new();
    let mut parse_all = |name: &str, text: &str| problems.extend(parse_each(name, text, take));
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map_err(|error| Problem::of_file("-", reason(&error)))?;
        parse_all("-", &text);
    } else {
        let files = files(path)?;
        if files.is_empty() {
            let empty = "there is no .yaml, .yml or .json file in this folder";
            return Err(Problem::of_file(path.display().to_string(), empty).into());
        }
        for file in files {
            let name = file.strip_prefix(".").unwrap_or(&file).display().to_string();
            let text = fs::read_to_string(&file).map_err(|error| Problem::of_file(&*name, reason(&error)))?;
            parse_all(&name, &text);
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(BadInput(problems)) }
}

fn files(path: &Path) -> Result<Vec<PathBuf>, Problem> {
    let wrong = |path: &Path, error: &io::Error| Problem::of_file(path.display().to_string(), reason(error));
    if !fs::metadata(path).map_err(|error| wrong(path, &error))?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| wrong(&folder, &error))? {
            let entry = entry.map_err(|error| wrong(&folder, &error))?;
            if entry.file_name().as_encoded_bytes().first() == Some(&b'.') {
                continue;
            }
            let path = entry.path();
            // Links to folders are not followed: they may lead round in a circle.
            if entry.file_type().map_err(|error| wrong(&path, &error))?.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "yaml" || kind == "yml" || kind == "json") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// An operating system's words, without the number behind them.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file or folder".to_owned(),
        io::ErrorKind::InvalidData => "this is not text (UTF-8)".to_owned(),
        _ => error.to_string(),
    }
}

/// Splits a text into its documents and parses each; empty ones are left out but counted.
pub fn parse(file: &str, text: &str) -> Result<Vec<Document>, BadInput> {
    let mut documents = Vec::new();
    let problems = parse_each(file, text, &mut |document| documents.push(document));
    if problems.is_empty() { Ok(documents) } else { Err(BadInput(problems)) }
}

/// Hands over each document that can be read, and returns what is wrong with the others.
fn parse_each(file: &str, text: &str, take: &mut dyn FnMut(Document)) -> Vec<Problem> {
    let file: Arc<str> = Arc::from(file);
    let mut problems = Vec::new();
    for (index, (first_line, part)) in split(text).into_iter().enumerate() {
        let origin = Origin { file: Arc::clone(&file), document: index + 1, item: None };
        match parse_one(part, first_line) {
            Ok(Value::Null) => {}
            Ok(value) => take(Document { origin, value }),
            Err(message) => problems.push(Problem::at(&origin, message)),
        }
    }
    problems
}

/// The parts between lines that begin with `---`, each with the number of its first line.
///
/// Such a line always ends a document: what belongs to a block of text is indented.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut first_line, mut offset) = (0, 1, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let rest = line.strip_prefix("---").map(|rest| rest.trim_end_matches(['\r', '\n']));
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t'])) {
            parts.push((first_line, &text[start..offset]));
            // What stands behind the dashes belongs to the document.
            (start, first_line) = (offset + "---".len(), number + 1);
        }
        offset += line.len();
    }
    parts.push((first_line, &text[start..]));
    // A file may begin with `---`; that opens its first document.
    if parts.len() > 1 && is_blank(parts[0].1) {
        parts.remove(0);
    }
    parts
}

fn is_blank(text: &str) -> bool {
    text.lines().map(str::trim_start).all(|line| line.is_empty() || line.starts_with(['#', '%']))
}

fn parse_one(text: &str, first_line: usize) -> Result<Value, String> {
    if is_blank(text) {
        return Ok(Value::Null);
    }
    if text.trim_start().starts_with(['{', '[']) {
        match serde_json::from_str(text) {
            Ok(value) => return Ok(value),
            // YAML's braces look the same; only what looks like JSON is judged as such.
            Err(error) if text.trim_start()[1..].trim_start().starts_with(['"', '{', '[', '}', ']']) => {
                let line = first_line + error.line().saturating_sub(1);
                let what = error.to_string();
                let what = what.split(" at line ").next().unwrap_or(&what);
                let wrong = || format!("line {line}: this is not JSON: {what}");
                // What is no number in JSON is text in YAML, and then told with its field.
                let has_no_number = ["NaN", "Infinity", ".nan", ".inf"].iter().any(|word| text.contains(word));
                return if has_no_number { parse_yaml(text, first_line).map_err(|_| wrong()) } else { Err(wrong()) };
            }
            Err(_) => {}
        }
    }
    parse_yaml(text, first_line)
}

fn parse_yaml(text: &str, first_line: usize) -> Result<Value, String> {
    // No budget: the file is the user's own, and a cluster's dump is large. What is no number is text, so that whoever wants a
    // number says which one it is.
    let options = serde_saphyr::options! {
        budget: None,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let said = error.without_snippet().to_string();
        let what = said.lines().next().unwrap_or_default();
        let what = what.split(" at line ").next().unwrap_or(what);
        // Whoever writes the file sets no options of ours.
        let what = match what.rsplit_once(", set ") {
            Some((what, advice)) if advice.contains(" in Options") => what,
            _ => what,
        };
        match error.location() {
            Some(at) => {
                let line = first_line + usize::try_from(at.line()).unwrap_or(usize::MAX).saturating_sub(1);
                format!("line {line}, column {}: this is not YAML: {what}", at.column())
            }
            None => format!("this is not YAML: {what}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, expected: &Expect) {
        let said = match parse("f.yaml", text) {
            Ok(found) => found.iter().fold(String::new(), |said, d| said + &format!("{}: {}\n", d.origin, d.value)),
            Err(error) => format!("{error}\n"),
        };
        expected.assert_eq(&said);
    }

    #[test]
    fn documents_are_counted_and_empty_ones_left_out() {
        check(
            "---\na: 1\n--- # second\n\n---\nb: |\n  --- no end\n---\n{\"c\": [1]}\n",
            &expect![[r#"
                f.yaml, document 1: {"a":1}
                f.yaml, document 3: {"b":"--- no end\n"}
                f.yaml, document 4: {"c":[1]}
            "#]],
        );
    }

    #[test]
    fn a_mistake_is_found_by_its_line_in_the_file() {
        check(
            "a: 1\n---\nb: [1\nc: 2\n",
            &expect![[r"
            f.yaml, document 2: line 4, column 2: this is not YAML: illegal placement of ':' indicator
        "]],
        );
        check(
            "a: 1\nb: 2\na: 3\n",
            &expect![[r"
            f.yaml, document 1: line 3, column 1: this is not YAML: duplicate mapping key: a
        "]],
        );
        check(
            "a: 1\n---\n{\"b\": 1,\n\"c\" 2}\n",
            &expect![[r"
            f.yaml, document 2: line 4: this is not JSON: expected `:`
        "]],
        );
    }
}
