//! `krb5.conf`: who the KDCs of a realm are (krb5.conf(5) of MIT Kerberos).
//!
//! Of all that may be in it, `default_realm` and the `kdc` lines of the realm have an effect. Nothing is looked up in DNS,
//! and no other file is included.

use std::collections::BTreeMap;

use crate::metadata::nearest;
use crate::net::{Address, host_port};

/// The port of KDCs (RFC 4120, 7.2.2).
const PORT: u16 = 88;

/// What it says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Krb5Conf {
    default_realm: Option<String>,
    /// The `kdc` lines by realm.
    realms: BTreeMap<String, Vec<String>>,
}

impl Krb5Conf {
    /// Reads it.
    ///
    /// # Errors
    /// A line cannot be understood, or something is not closed.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut conf = Self::default();
        let mut section = "";
        // The braces that are open, by their names.
        let mut open: Vec<&str> = Vec::new();
        for (index, line) in text.lines().map(str::trim).enumerate() {
            let wrong = |what: &str| Err(format!("line {} {what}", index + 1));
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some((name, _)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                if !open.is_empty() {
                    return wrong("begins a section within braces");
                }
                section = name.trim();
            } else if line.trim_end_matches('*') == "}" {
                if open.pop().is_none() {
                    return wrong("closes braces that are not open");
                }
            } else if let Some((name, value)) = line.split_once('=') {
                let (name, value) = (name.trim().trim_end_matches('*'), value.trim().trim_matches('"'));
                match (section, &open[..], name) {
                    _ if value == "{" => {
                        if section == "realms" && open.is_empty() {
                            conf.realms.entry(name.to_owned()).or_default();
                        }
                        open.push(name);
                    }
                    ("libdefaults", [], "default_realm") => conf.default_realm = Some(value.to_owned()),
                    ("realms", [realm], "kdc") => {
                        conf.realms.entry((*realm).to_owned()).or_default().push(value.to_owned());
                    }
                    _ => {}
                }
            } else if !section.is_empty() {
                return wrong("is neither a section nor NAME = VALUE");
            }
        }
        if open.is_empty() { Ok(conf) } else { Err(format!("the braces of {:?} are not closed", open[0])) }
    }

    /// The realm that is asked for, or the one of who asks for none.
    ///
    /// # Errors
    /// There is neither.
    pub(super) fn realm<'a>(&'a self, asked: Option<&'a str>) -> Result<&'a str, String> {
        let realm = asked.or(self.default_realm.as_deref());
        realm.ok_or_else(|| "has no default_realm, and no realm is given".into())
    }

    /// The KDCs of a realm, in their order.
    ///
    /// # Errors
    /// There is none that can be asked.
    pub(super) fn kdcs(&self, realm: &str) -> Result<Vec<Address>, String> {
        let Some(lines) = self.realms.get(realm) else {
            let near = nearest(realm, self.realms.keys().map(String::as_str));
            let hint = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
            return Err(format!("has no realm {realm:?} in [realms]{hint}"));
        };
        if lines.is_empty() {
            return Err(format!("names no kdc of realm {realm:?}; none is looked for in DNS"));
        }
        // Proxies that speak HTTPS, and servers that speak UDP only, are left out if there is another.
        let over_tcp = |line: &&String| !line.starts_with("udp/") && !line.contains("://");
        let address = |line: &String| {
            let (host, port) = host_port(line.strip_prefix("tcp/").unwrap_or(line), Some(PORT))?;
            Ok(Address { setting: "kdc", host, port, tls: None })
        };
        let kdcs = lines.iter().filter(over_tcp).map(address).collect::<Result<Vec<_>, String>>();
        let kdcs = kdcs.map_err(|what| format!("kdc of realm {realm:?}: {what}"))?;
        if kdcs.is_empty() {
            return Err(format!("names no kdc of realm {realm:?} that is asked over TCP"));
        }
        Ok(kdcs)
    }
}

#[cfg(test)]
mod tests {
    use super::super::noise;
    use super::*;

    const CONF: &str = r#"
        # Of a distribution.
        includedir /etc/krb5.conf.d/
        [logging]
            default = FILE:/var/log/krb5libs.log
        [libdefaults]
            default_realm = EXAMPLE.COM
            dns_lookup_kdc = false
        ; The realms.
        [realms]
        EXAMPLE.COM = {
            kdc = one.example.com
            kdc = tcp/two.example.com:1088
            kdc = "[::1]:88"
            admin_server = one.example.com
            auth_to_local_names = {
                kdc = nobody
            }
        }
        DNS.EXAMPLE.COM = {
        }
        PROXY.EXAMPLE.COM = {
            kdc = https://proxy.example.com/KdcProxy
            kdc = udp/old.example.com
        }
        BAD.EXAMPLE.COM = {
            kdc = one.example.com:port
        }
        [domain_realm]
            .example.com = EXAMPLE.COM
    "#;

    #[test]
    fn the_kdcs_of_a_realm_are_found() {
        let conf = Krb5Conf::read(CONF).unwrap();
        assert_eq!(conf.realm(None).unwrap(), "EXAMPLE.COM");
        assert_eq!(conf.realm(Some("OTHER")).unwrap(), "OTHER");
        let kdcs = conf.kdcs("EXAMPLE.COM").unwrap();
        let kdcs: Vec<_> = kdcs.iter().map(|kdc| (kdc.host.as_str(), kdc.port)).collect();
        assert_eq!(kdcs, [("one.example.com", 88), ("two.example.com", 1088), ("::1", 88)]);
    }

    #[test]
    fn what_is_missing_is_said() {
        let conf = Krb5Conf::read(CONF).unwrap();
        for (realm, wanted) in [
            ("example.com", "has no realm \"example.com\" in [realms]; did you mean \"EXAMPLE.COM\"?"),
            ("DNS.EXAMPLE.COM", "names no kdc of realm \"DNS.EXAMPLE.COM\"; none is looked for in DNS"),
            ("PROXY.EXAMPLE.COM", "names no kdc of realm \"PROXY.EXAMPLE.COM\" that is asked over TCP"),
            ("BAD.EXAMPLE.COM", "kdc of realm \"BAD.EXAMPLE.COM\": \"one.example.com:port\" is not HOST:PORT"),
        ] {
            assert_eq!(conf.kdcs(realm).unwrap_err(), wanted);
        }
        assert!(Krb5Conf::default().realm(None).is_err());
    }

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        for (text, wanted) in [
            ("[realms]\nR = {\nkdc = a\n", "the braces of \"R\" are not closed"),
            ("[realms]\nR = {\n[libdefaults]", "line 3 begins a section within braces"),
            ("[realms]\n}", "line 2 closes braces that are not open"),
            ("[realms]\n\nkdc a", "line 3 is neither a section nor NAME = VALUE"),
        ] {
            assert_eq!(Krb5Conf::read(text).unwrap_err(), wanted);
        }
    }

    #[test]
    fn damaged_text_is_no_reason_to_panic() {
        noise(CONF.as_bytes(), |bytes| {
            if let Ok(conf) = Krb5Conf::read(&String::from_utf8_lossy(bytes)) {
                let _ = conf.kdcs("EXAMPLE.COM");
            }
        });
    }
}
