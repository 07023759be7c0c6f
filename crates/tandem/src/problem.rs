use std::{fmt, sync::Arc};

use scheduling::{PoolKey, PoolKind};

/// Where in the input something was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The file, as it was named or found.
    pub file: Arc<str>,
    /// Which document of the file, counted from 1.
    pub document: usize,
    /// Which item of a `List`, counted from 1.
    pub item: Option<usize>,
}

/// `web.yaml, document 2, item 7`
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, document {}", self.file, self.document)?;
        self.item.map_or(Ok(()), |item| write!(f, ", item {item}"))
    }
}

/// Something in the input that a person has to correct.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// Where in it, as far as that is known.
    pub origin: Option<Origin>,
    /// Which object: `Deployment shop/web`.
    pub object: Option<String>,
    /// Path of the field, such as `spec.replicas`.
    pub field: Option<String>,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Problem {
    /// A problem of a file as a whole.
    pub fn of_file(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self { file: file.into(), origin: None, object: None, field: None, message: message.into() }
    }

    /// A problem of something that was read there.
    pub fn at(origin: &Origin, message: impl Into<String>) -> Self {
        Self {
            file: origin.file.to_string(),
            origin: Some(origin.clone()),
            object: None,
            field: None,
            message: message.into(),
        }
    }

    /// The same, about this object.
    #[must_use]
    pub fn of(mut self, object: impl Into<String>) -> Self {
        self.object = Some(object.into());
        self
    }

    /// The pool it is about, and what is wrong there: field and message.
    pub(crate) fn of_pool(&self) -> Option<(PoolKey, String)> {
        let (kind, name) = self.object.as_deref()?.split_once(' ')?;
        let kind = match kind {
            "NodePool" => PoolKind::NodePool,
            "Provisioner" => PoolKind::Provisioner,
            _ => return None,
        };
        let why = match &self.field {
            Some(field) => format!("{field}: {}", self.message),
            None => self.message.clone(),
        };
        Some((PoolKey { kind, name: name.to_owned() }, why))
    }

    /// The same, about this field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        let field = field.into();
        // serde's name for the value itself.
        self.field = (field != ".").then_some(field);
        self
    }
}

/// `web.yaml, document 2, Deployment shop/web: spec.replicas: invalid type: …`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Some(origin) => origin.fmt(f)?,
            None => f.write_str(&self.file)?,
        }
        if let Some(object) = &self.object {
            write!(f, ", {object}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ": {field}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A message of a deserializer, which names what it expected as programs do, for people.
pub(crate) fn in_words(message: &str) -> String {
    let Some((said, expected)) = message.rsplit_once("expected ") else { return message.to_owned() };
    let words = match expected {
        "f64" | "f32" => "a number",
        "usize" | "u64" | "u32" | "u16" | "u8" => "a whole number of 0 or more",
        "i64" | "i32" | "i16" | "i8" => "a whole number",
        _ => return message.to_owned(),
    };
    format!("{said}expected {words}")
}

/// All that is wrong with the input; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct BadInput(pub Vec<Problem>);

/// How many problems are printed: more than anybody corrects in one go.
const SHOWN: usize = 20;

/// One problem a line, the first twenty.
impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n… and {more} more"),
        }
    }
}

impl From<Problem> for BadInput {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}
