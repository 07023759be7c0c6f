//! The text format of Prometheus, as far as one number of it is wanted.

/// A metric and labels it must have.
#[derive(Debug, PartialEq)]
pub(super) struct Selector {
    name: String,
    labels: Labels,
}

type Labels = Vec<(String, String)>;

impl Selector {
    /// Reads `name{label="value"}`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a metric such as queue_size{{queue=\"a\"}}");
        let (name, labels, rest) = series(text.trim()).ok_or_else(wrong)?;
        if name.is_empty() || !rest.trim().is_empty() { Err(wrong()) } else { Ok(Self { name: name.into(), labels }) }
    }

    /// The value of the series with exactly these labels, or else of the one series that has them among others.
    pub(super) fn find(&self, page: &str) -> Result<f64, String> {
        let mut found = Vec::new();
        for line in page.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let wrong =
                || format!("the answer is not in the text format of Prometheus: {:?}", crate::http::shorten(line));
            let (name, labels, rest) = series(line).ok_or_else(wrong)?;
            let value = rest.split_whitespace().next().and_then(number).ok_or_else(wrong)?;
            if name == self.name && self.labels.iter().all(|label| labels.contains(label)) {
                found.push((labels.len() == self.labels.len(), value));
            }
        }
        if found.iter().any(|(is_exact, _)| *is_exact) {
            found.retain(|(is_exact, _)| *is_exact);
        }
        match found.as_slice() {
            [(_, one)] => Ok(*one),
            [] => Err(format!("the answer has no series of {} with these labels", self.name)),
            many => Err(format!("{} series of {} match; name more of their labels", many.len(), self.name)),
        }
    }
}

/// A number as the format writes it; NaN and infinities are told apart from what is no number.
fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        other => other.parse().ok(),
    }
}

/// Name, labels and what follows.
fn series(text: &str) -> Option<(&str, Labels, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    let mut labels = Vec::new();
    if !rest.trim_start().starts_with('{') {
        return Some((name, labels, rest));
    }
    rest = rest.trim_start().strip_prefix('{')?.trim_start();
    while !rest.starts_with('}') {
        let (label, after) = rest.split_once('=')?;
        let (value, after) = quoted(after.trim_start())?;
        labels.push((label.trim().to_owned(), value));
        rest = after.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    Some((name, labels, rest.strip_prefix('}')?))
}

/// A text in quotation marks, with `\"`, `\\` and `\n`.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inside = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut letters = inside.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &inside[at + 1..])),
            '\\' => value.push(match letters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP queue_size so many\n# TYPE queue_size gauge\n\
        queue_size{queue=\"a\",note=\"say \\\"hi\\\", {x}\"} 12 1700000000000\n\
        queue_size{queue=\"b\"} 3.5\r\nup 1\nodd NaN\nhuge +Inf\n";

    fn find(location: &str) -> Result<f64, String> {
        Selector::parse(location)?.find(PAGE)
    }

    #[test]
    fn the_one_series_that_matches_is_found() {
        assert_eq!(find("up"), Ok(1.0));
        assert_eq!(find(r#"queue_size{queue="b"}"#), Ok(3.5));
        assert_eq!(find(r#"queue_size{ note = "say \"hi\", {x}", queue="a" }"#), Ok(12.0));
        assert!(find("odd").unwrap().is_nan());
        assert_eq!(find("huge"), Ok(f64::INFINITY));
        let page = "foo{a=\"b\"} 7\nfoo 5\nfoo{a=\"b\",c=\"d\"} 9\n";
        let exact = |location: &str| Selector::parse(location).unwrap().find(page);
        assert_eq!((exact("foo"), exact("foo{a=\"b\"}"), exact("foo{c=\"d\"}")), (Ok(5.0), Ok(7.0), Ok(9.0)));
    }

    #[test]
    fn none_or_several_are_not_a_number() {
        assert_eq!(find("down"), Err("the answer has no series of down with these labels".into()));
        assert!(find(r#"queue_size{queue="c"}"#).is_err());
        assert_eq!(find("queue_size"), Err("2 series of queue_size match; name more of their labels".into()));
        for wrong in ["", "{a=\"b\"}", "a{b}", "a{b=\"c}", "a b", "a{b=\"c\"} 5"] {
            assert!(Selector::parse(wrong).is_err(), "{wrong}");
        }
        let html = Selector::parse("up").unwrap().find("<html>\nup 1").unwrap_err();
        assert!(html.contains("not in the text format"), "{html}");
    }
}
