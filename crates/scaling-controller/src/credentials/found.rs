//! Secrets and ConfigMaps by name, and what came of asking for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use thiserror::Error;

/// Why a credential is not known.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Failure {
    /// The place was looked at, and it is not there.
    #[error("{0}")]
    Missing(String),
    /// A person has to change something.
    #[error("{0}")]
    Refused(String),
    /// The place could not be asked. What was known before may be as it was.
    #[error("{0}")]
    Unavailable(String),
}

impl Failure {
    /// Several failures as one: all their texts, and lasting if one of them is.
    pub(crate) fn join(failures: &[Self]) -> Option<Self> {
        let mut texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
        // Two parameters may miss the same Secret.
        texts.dedup();
        let text = texts.join("; ");
        let lasting = failures.iter().any(|failure| !matches!(failure, Self::Unavailable(_)));
        (!failures.is_empty()).then_some(if lasting { Self::Refused(text) } else { Self::Unavailable(text) })
    }
}

/// Which kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Secret,
    ConfigMap,
}

/// One object that is to be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Reference {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Reference {
    pub(crate) fn secret(namespace: &str, name: &str) -> Self {
        Self { kind: Kind::Secret, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub(crate) fn config_map(namespace: &str, name: &str) -> Self {
        Self { kind: Kind::ConfigMap, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Objects to be read.
pub(crate) type References = BTreeSet<Reference>;

/// How a keytab of Kerberos begins (`keytab_file_format` of MIT Kerberos). Its base64 begins with another byte.
const KEYTAB_MAGIC: u8 = 5;

/// The keys of an object.
pub(crate) type Data = BTreeMap<String, Vec<u8>>;

/// What came of reading objects.
#[derive(Default)]
pub(crate) struct Found(BTreeMap<Reference, Result<Arc<Data>, Failure>>);

impl Found {
    /// All keys of an object.
    ///
    /// # Errors
    /// It could not be read.
    pub(super) fn data(&self, reference: &Reference) -> Result<&Data, Failure> {
        match self.0.get(reference) {
            Some(Ok(data)) => Ok(data),
            Some(Err(failure)) => Err(failure.clone()),
            None => Err(Failure::Unavailable(format!("{reference} was not asked for"))),
        }
    }

    /// One key of an object.
    ///
    /// # Errors
    /// The object could not be read, has no such key, or the key is no text. The error names both.
    pub(super) fn text(&self, reference: &Reference, key: &str) -> Result<String, Failure> {
        text(reference, key, self.bytes(reference, key)?)
    }

    /// One key of an object in which a keytab may be. That is no text, so what is returned is its base64.
    ///
    /// # Errors
    /// See [`Self::text`].
    pub(super) fn keytab(&self, reference: &Reference, key: &str) -> Result<String, Failure> {
        match self.bytes(reference, key)? {
            keytab @ [KEYTAB_MAGIC, ..] => Ok(BASE64.encode(keytab)),
            bytes => text(reference, key, bytes),
        }
    }

    fn bytes(&self, reference: &Reference, key: &str) -> Result<&[u8], Failure> {
        let bytes = self.data(reference)?.get(key).map(Vec::as_slice);
        bytes.ok_or_else(|| Failure::Missing(format!("{reference} has no key {key:?}")))
    }
}

impl FromIterator<(Reference, Result<Arc<Data>, Failure>)> for Found {
    fn from_iter<T: IntoIterator<Item = (Reference, Result<Arc<Data>, Failure>)>>(iter: T) -> Self {
        Self(iter.into_iter().collect())
    }
}

/// A key's value as text.
pub(super) fn text(reference: &Reference, key: &str, bytes: &[u8]) -> Result<String, Failure> {
    let wrong = |_| Failure::Refused(format!("the key {key:?} of {reference} is not text"));
    String::from_utf8(bytes.to_vec()).map_err(wrong)
}

/// An object of a test: kind, name, keys.
#[cfg(test)]
pub(super) type Thing<'a> = (Kind, &'a str, &'a [(&'a str, &'a str)]);

/// Objects in the namespace `web`.
#[cfg(test)]
pub(super) fn found(objects: &[Thing<'_>]) -> Found {
    let data = |pairs: &[(&str, &str)]| -> Data {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    };
    let object = |(kind, name, pairs): &Thing<'_>| {
        let reference = Reference { kind: *kind, namespace: "web".into(), name: (*name).to_owned() };
        (reference, Ok(Arc::new(data(pairs))))
    };
    objects.iter().map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_object_and_the_key() {
        let secret = Reference::secret("web", "db");
        let found = found(&[(Kind::Secret, "db", &[("user", "a")])]);
        assert_eq!(found.text(&secret, "user"), Ok("a".into()));
        let missing = found.text(&secret, "password").unwrap_err();
        assert_eq!(missing.to_string(), "Secret web/db has no key \"password\"");
        let binary = text(&secret, "user", &[0xff]).unwrap_err();
        assert_eq!(binary.to_string(), "the key \"user\" of Secret web/db is not text");
    }

    #[test]
    fn a_keytab_becomes_text() {
        let secret = Reference::secret("web", "kafka");
        let data = [("binary", &[5, 2, 0xFF][..]), ("encoded", b"BQL/"), ("other", &[0xFF])];
        let data: Data = data.map(|(key, bytes)| (key.to_owned(), bytes.to_vec())).into();
        let found: Found = [(secret.clone(), Ok(Arc::new(data)))].into_iter().collect();
        for key in ["binary", "encoded"] {
            assert_eq!(found.keytab(&secret, key), Ok("BQL/".into()), "{key}");
        }
        for key in ["other", "missing"] {
            assert_eq!(found.keytab(&secret, key), found.text(&secret, key));
        }
    }

    #[test]
    fn what_is_lasting_outweighs_what_may_pass() {
        let passing = || Failure::Unavailable("a".into());
        assert_eq!(Failure::join(&[]), None);
        assert_eq!(Failure::join(&[passing(), passing()]), Some(Failure::Unavailable("a".into())));
        let joined = Failure::join(&[passing(), Failure::Missing("b".into())]);
        assert_eq!(joined, Some(Failure::Refused("a; b".into())));
    }
}
