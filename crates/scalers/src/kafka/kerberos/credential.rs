//! What shows a KDC who we are.

use super::crypto::{Etype, Key};
use super::messages::Hint;
use super::principal::Principal;
use crate::metadata::Secret;

/// Long-lived keys, or what they are made of.
#[derive(Debug)]
pub(super) enum Credential {
    /// A password; the KDC says how it becomes a key.
    Password(Secret),
    /// The keys of a keytab, one of each type.
    Keytab(Vec<Key>),
}

impl Credential {
    /// What it can be used with, best first.
    pub(super) fn etypes(&self) -> Vec<Etype> {
        let mut etypes = Etype::ALL.to_vec();
        if let Self::Keytab(keys) = self {
            etypes.retain(|etype| keys.iter().any(|key| key.etype == *etype));
        }
        etypes
    }

    /// The key of this type. `hints` are what the KDC says of the owner's password.
    ///
    /// # Errors
    /// There is none, or the KDC wants what must not be done. The error is for a person.
    pub(super) fn key(&self, etype: Etype, hints: &[Hint], owner: &Principal) -> Result<Key, &'static str> {
        match self {
            Self::Password(password) => {
                let hint = hints.iter().find(|hint| hint.etype == etype.number());
                let salt = hint.and_then(|hint| Some(hint.salt.as_ref()?.0.clone())).unwrap_or_else(|| owner.salt());
                let parameters = hint.and_then(|hint| Some(hint.parameters.as_ref()?.as_bytes()));
                Key::of_password(etype, password.reveal(), &salt, parameters)
            }
            Self::Keytab(keys) => {
                let key = keys.iter().find(|key| key.etype == etype);
                key.cloned().ok_or("the KDC asks for a key that the keytab does not have")
            }
        }
    }

    /// What the KDC may have against it.
    pub(super) fn called(&self) -> &'static str {
        match self {
            Self::Password(_) => "password",
            Self::Keytab(_) => "keytab's key",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::kerberos::encoding::octets;

    #[test]
    fn a_password_is_salted_as_the_kdc_says() {
        let (owner, etype) = (Principal::user("keda", "R"), Etype::Aes128Sha1);
        let credential = Credential::Password("hunter2".into());
        let hint = |salt: Option<&str>, parameters: Option<&[u8]>| {
            let parameters = parameters.map(octets);
            vec![Hint { etype: etype.number(), salt: salt.map(Into::into), parameters }]
        };
        let key = |hints: &[Hint]| credential.key(etype, hints, &owner);
        let usual = Key::of_password(etype, "hunter2", b"Rkeda", None).unwrap();
        assert_eq!(key(&[]), Ok(usual.clone()));
        assert_eq!(key(&hint(None, Some(&[0, 0, 0x10, 0]))), Ok(usual.clone()));
        assert_ne!(key(&hint(Some("R1"), None)), Ok(usual));
        assert!(key(&hint(None, Some(&[0, 0, 0, 1]))).is_err());
        assert!(!format!("{credential:?}").contains("hunter2"));
    }

    #[test]
    fn a_keytab_is_good_for_the_types_it_has() {
        let (owner, key) = (Principal::user("keda", "R"), Key::new(Etype::Aes128Sha2, &[7; 16]).unwrap());
        let credential = Credential::Keytab(vec![key.clone()]);
        assert_eq!(credential.etypes(), [Etype::Aes128Sha2]);
        assert_eq!(credential.key(Etype::Aes128Sha2, &[], &owner), Ok(key));
        assert!(credential.key(Etype::Aes256Sha1, &[], &owner).is_err());
    }
}
