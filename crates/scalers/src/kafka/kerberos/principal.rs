//! Who somebody is in a realm.

use std::fmt;

use super::encoding::Text;
use super::messages::PrincipalName;

/// What a name is for (RFC 4120, 6.2). No comparison asks for it.
#[derive(Debug, Clone, Copy)]
pub(super) enum NameKind {
    /// A user.
    Principal = 1,
    /// A service, such as the one that gives tickets.
    Service = 2,
    /// A service on a host.
    ServiceHost = 3,
}

/// A name, mostly of one part or two, and its realm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Principal {
    pub(super) parts: Vec<String>,
    pub(super) realm: String,
}

impl Principal {
    /// The client of a user's name, `name`, `name/host`, or either with `@` and this realm.
    pub(super) fn user(name: &str, realm: &str) -> Self {
        let name = name.strip_suffix(realm).and_then(|name| name.strip_suffix('@')).unwrap_or(name);
        Self { parts: name.split('/').map(str::to_owned).collect(), realm: realm.to_owned() }
    }

    /// A service on a host.
    pub(super) fn service(service: &str, host: &str, realm: &str) -> Self {
        Self { parts: vec![service.to_owned(), host.to_owned()], realm: realm.to_owned() }
    }

    /// Who gives tickets for services (RFC 4120, 7.3).
    pub(super) fn granting(realm: &str) -> Self {
        Self::service("krbtgt", realm, realm)
    }

    pub(super) fn name(&self, kind: NameKind) -> PrincipalName {
        PrincipalName { kind: kind as i32, parts: self.parts.iter().map(|part| part.as_str().into()).collect() }
    }

    /// Whether this name in that realm is this one.
    pub(super) fn is(&self, name: &PrincipalName, realm: &Text) -> bool {
        self.name(NameKind::Principal).parts == name.parts && Text::from(self.realm.as_str()) == *realm
    }

    /// What a password is salted with where the KDC does not say (RFC 4120, 4).
    pub(super) fn salt(&self) -> Vec<u8> {
        format!("{}{}", self.realm, self.parts.concat()).into_bytes()
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.parts.join("/"), self.realm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_name_may_have_parts_and_say_its_realm() {
        for (name, wanted) in [
            ("keda", "keda@EXAMPLE.COM"),
            ("keda@EXAMPLE.COM", "keda@EXAMPLE.COM"),
            ("keda/host.example.com", "keda/host.example.com@EXAMPLE.COM"),
            ("keda@OTHER", "keda@OTHER@EXAMPLE.COM"),
        ] {
            let user = Principal::user(name, "EXAMPLE.COM");
            assert_eq!(user.to_string(), wanted);
            assert!(user.is(&user.name(NameKind::ServiceHost), &"EXAMPLE.COM".into()));
            assert!(!user.is(&user.name(NameKind::Principal), &"example.com".into()));
        }
        assert_eq!(Principal::user("a/b", "R").salt(), b"Rab");
    }
}
