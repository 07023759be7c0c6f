//! The word somebody most likely meant.

/// The known word that is closest, if it is close enough to be a typing error.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let distance = |known: &str| edits(&lower, &known.to_lowercase());
    // Two slips in a word of some length; one in a short word, or everything resembles everything.
    let most = (word.chars().count() / 3).min(2);
    known.into_iter().map(|known| (distance(known), known)).filter(|(d, _)| *d <= most).min().map(|(_, known)| known)
}

/// `; did you mean …?`, or nothing.
pub(crate) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default()
}

/// Levenshtein's distance. Names have some twenty characters, so the plain table is enough.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["threshold", "query", "queryValue", "value", "mode"];
        for (word, wanted) in [
            ("tresholdd", Some("threshold")),
            ("Threshold", Some("threshold")),
            ("quary", Some("query")),
            ("queryvalue", Some("queryValue")),
            ("node", Some("mode")),
            ("qry", None),
            ("timeout", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), wanted, "{word}");
        }
    }
}
