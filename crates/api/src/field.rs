//! What is wrong with a field, and what is not acted upon yet.

use std::fmt;

/// Something a person has to correct.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldError {
    /// Path of the field, such as `spec.limits.resources.memory`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl FieldError {
    /// The error of one field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// `spec.weight: must be from 1 to 100`
impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Something that is accepted, but has no effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldNotice {
    /// Path of the field.
    pub field: String,
    /// What does not happen.
    pub message: String,
}

impl FieldNotice {
    /// The notice of one field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// `spec.consolidation: not supported yet`
impl fmt::Display for FieldNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// All errors in one line, for a condition's message.
pub fn in_one_line(errors: &[FieldError]) -> String {
    joined(errors.iter().map(ToString::to_string))
}

/// Texts in one, with `; ` between them, or a new line after one that has several.
pub fn joined(texts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut all = String::new();
    let mut between = "";
    for text in texts {
        let text = text.as_ref();
        all.push_str(between);
        all.push_str(text);
        between = if text.contains('\n') { "\n" } else { "; " };
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_follows_an_arrow_on_its_line() {
        assert_eq!(joined(["a", "b"]), "a; b");
        assert_eq!(joined(["a (1:1)\n | a\n | ^", "b", "c"]), "a (1:1)\n | a\n | ^\nb; c");
    }
}
