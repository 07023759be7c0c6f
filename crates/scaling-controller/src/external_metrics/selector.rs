//! Label selectors in the form they have in a URL: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use kube::core::Expression;

/// A parsed label selector; all of its terms have to hold. Empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    terms: Vec<Expression>,
}

/// What is wrong with a selector, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at} of {text:?}")]
pub struct SelectorError {
    what: String,
    at: usize,
    text: String,
}

impl Selector {
    /// The terms, in the order written.
    pub fn terms(&self) -> &[Expression] {
        &self.terms
    }

    /// The one value that the selector demands of `key`, if it demands exactly one: `key=value` or `key in (value)`.
    pub fn exact(&self, key: &str) -> Option<&str> {
        self.terms.iter().find_map(|term| match term {
            Expression::Equal(name, value) if name == key => Some(value.as_str()),
            Expression::In(name, values) if name == key && values.len() == 1 => values.first().map(String::as_str),
            _ => None,
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{term}")?;
        }
        Ok(())
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parser = Parser { text, at: 0 };
        let mut terms = Vec::new();
        parser.skip_space();
        while parser.at < text.len() {
            terms.push(parser.term()?);
            parser.skip_space();
            if parser.at < text.len() {
                parser.expect(",")?;
                parser.skip_space();
                if parser.at == text.len() {
                    return Err(parser.error("a term is missing"));
                }
            }
        }
        Ok(Self { terms })
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn term(&mut self) -> Result<Expression, SelectorError> {
        if self.eat("!") {
            self.skip_space();
            return Ok(Expression::DoesNotExist(self.key()?));
        }
        let key = self.key()?;
        self.skip_space();
        // Two characters first, or `==` would read as `=` and an empty value.
        if self.eat("!=") {
            return Ok(Expression::NotEqual(key, self.value()));
        }
        if self.eat("==") || self.eat("=") {
            return Ok(Expression::Equal(key, self.value()));
        }
        match self.rest().chars().next() {
            None | Some(',') => Ok(Expression::Exists(key)),
            Some(_) if self.eat_word("in") => Ok(Expression::In(key, self.set()?)),
            Some(_) if self.eat_word("notin") => Ok(Expression::NotIn(key, self.set()?)),
            Some(_) => Err(self.error("an operator is missing")),
        }
    }

    fn set(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        self.skip_space();
        self.expect("(")?;
        let mut values = BTreeSet::new();
        loop {
            values.insert(self.value());
            self.skip_space();
            if self.eat(")") {
                return Ok(values);
            }
            self.expect(",")?;
        }
    }

    fn key(&mut self) -> Result<String, SelectorError> {
        let word = self.word();
        if word.is_empty() { Err(self.error("a label's name is missing")) } else { Ok(word.to_owned()) }
    }

    /// May be empty.
    fn value(&mut self) -> String {
        self.skip_space();
        self.word().to_owned()
    }

    /// The characters that label names and values are made of.
    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        let end = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let before = self.at;
        let found = self.word() == word;
        if !found {
            self.at = before;
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), SelectorError> {
        if self.eat(token) { Ok(()) } else { Err(self.error(&format!("{token:?} is missing"))) }
    }

    fn error(&self, what: &str) -> SelectorError {
        SelectorError { what: what.to_owned(), at: self.at, text: self.text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Selector, String> {
        text.parse::<Selector>().map_err(|error| error.to_string())
    }

    #[test]
    fn each_operator_reads_as_what_it_says() {
        let set = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        let selector = parse("a.b/c=d, e==f,g != h,i in (j, k),l notin(m),n,!o,p=").unwrap();
        assert_eq!(
            selector.terms(),
            [
                Expression::Equal("a.b/c".into(), "d".into()),
                Expression::Equal("e".into(), "f".into()),
                Expression::NotEqual("g".into(), "h".into()),
                Expression::In("i".into(), set(&["j", "k"])),
                Expression::NotIn("l".into(), set(&["m"])),
                Expression::Exists("n".into()),
                Expression::DoesNotExist("o".into()),
                Expression::Equal("p".into(), String::new()),
            ]
        );
    }

    #[test]
    fn the_object_is_named_by_equality_or_a_set_of_one() {
        let key = "scaledobject.keda.sh/name";
        for (text, expected) in [
            ("scaledobject.keda.sh/name=cart", Some("cart")),
            ("x=y,scaledobject.keda.sh/name in (cart)", Some("cart")),
            ("scaledobject.keda.sh/name in (cart,shop)", None),
            ("scaledobject.keda.sh/name!=cart", None),
            ("scaledobject.keda.sh/name", None),
            ("", None),
        ] {
            assert_eq!(parse(text).unwrap().exact(key), expected, "{text}");
        }
    }

    #[test]
    fn a_malformed_selector_is_refused_with_the_place() {
        for (text, expected) in [
            ("a=b,", r#"a term is missing at byte 4 of "a=b,""#),
            ("=b", r#"a label's name is missing at byte 0 of "=b""#),
            ("a ~ b", r#"an operator is missing at byte 2 of "a ~ b""#),
            ("a in b", r#""(" is missing at byte 5 of "a in b""#),
            ("a in (b", r#""," is missing at byte 7 of "a in (b""#),
            ("a=b c=d", r#""," is missing at byte 4 of "a=b c=d""#),
        ] {
            assert_eq!(parse(text), Err(expected.to_owned()), "{text}");
        }
    }

    fn expression() -> impl Strategy<Value = Expression> {
        let key = || "[a-z]{1,3}(\\.[a-z]{1,3}/[a-z]{1,3})?".prop_map(String::from);
        let value = || "[a-z0-9._-]{0,4}".prop_map(String::from);
        let set = || proptest::collection::btree_set("[a-z0-9]{1,3}".prop_map(String::from), 1..3);
        prop_oneof![
            (key(), value()).prop_map(|(k, v)| Expression::Equal(k, v)),
            (key(), value()).prop_map(|(k, v)| Expression::NotEqual(k, v)),
            (key(), set()).prop_map(|(k, v)| Expression::In(k, v)),
            (key(), set()).prop_map(|(k, v)| Expression::NotIn(k, v)),
            key().prop_map(Expression::Exists),
            key().prop_map(Expression::DoesNotExist),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(terms in proptest::collection::vec(expression(), 0..4)) {
            let selector = Selector { terms };
            prop_assert_eq!(selector.to_string().parse::<Selector>(), Ok(selector));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[a-cin!=(), ä]{0,20}") {
            let _ = text.parse::<Selector>();
        }
    }
}
