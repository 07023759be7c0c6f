//! Texts as Go's `net/url` writes them into query strings.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What a query string keeps as it is.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Encodes as `QueryEscape` does. Some of KEDA's metric names are made so.
pub(crate) fn escape(text: &str) -> String {
    utf8_percent_encode(text, KEPT).to_string().replace("%20", "+")
}

/// Decodes `%41` and `+`, as `QueryUnescape` does.
pub(crate) fn unescape(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back() {
        assert_eq!(escape("jobs/new a-b_c.d~é"), "jobs%2Fnew+a-b_c.d~%C3%A9");
        assert_eq!(unescape(&escape("1 + 1 = 2 %")), "1 + 1 = 2 %");
    }
}
