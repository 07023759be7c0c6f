//! Lines no wider than the reader's terminal.

/// How much further than its line a continuation is indented.
const HANGING: usize = 2;

/// Breaks at spaces what is wider than so many characters. A word that is wider stays as it is.
pub(super) fn wrapped(text: &str, columns: usize) -> String {
    let mut said = String::new();
    for line in text.split_inclusive('\n') {
        if width(line.trim_end()) <= columns {
            said.push_str(line);
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let mut at = indent;
        said.push_str(&line[..indent]);
        for (index, word) in line.split_whitespace().enumerate() {
            if index > 0 && at + 1 + width(word) > columns {
                at = indent + HANGING;
                said.push('\n');
                said.push_str(&" ".repeat(at));
            } else if index > 0 {
                at += 1;
                said.push(' ');
            }
            at += width(word);
            said.push_str(word);
        }
        said.push('\n');
    }
    said
}

/// How many characters a terminal shows of it: all but ANSI escape codes, which end with an `m` here.
fn width(text: &str) -> usize {
    let mut is_code = false;
    let shown = text.chars().filter(|letter| {
        is_code |= *letter == '\x1b';
        let is_shown = !is_code;
        is_code &= *letter != 'm';
        is_shown
    });
    shown.count()
}
