//! Data source names as Go's MySQL driver writes them: `user:password@tcp(host:3306)/db?name=value`.

use std::str::FromStr;

use percent_encoding::percent_decode_str;
use sqlx::ConnectOptions as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};

use crate::metadata::Secret;
use crate::net::host_port;

/// MySQL's port.
const PORT: u16 = 3306;
/// What the driver keeps for itself. All other names are variables of the session.
const OF_THE_DRIVER: [&str; 23] = [
    "allowAllFiles",
    "allowCleartextPasswords",
    "allowFallbackToPlaintext",
    "allowNativePasswords",
    "allowOldPasswords",
    "charset",
    "checkConnLiveness",
    "clientFoundRows",
    "collation",
    "columnsWithAlias",
    "compress",
    "connectionAttributes",
    "interpolateParams",
    "loc",
    "maxAllowedPacket",
    "multiStatements",
    "parseTime",
    "readTimeout",
    "rejectReadOnly",
    "serverPubKey",
    "timeTruncate",
    "timeout",
    "writeTimeout",
];

/// How a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Tls {
    /// Not at all.
    #[default]
    None,
    /// If the server can, without looking at its certificate.
    Preferred,
    /// Without looking at the server's certificate.
    Unverified,
    /// With the server's certificate verified.
    Verified,
}

/// A server and who we are to it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Dsn {
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) host: String,
    pub(super) port: u16,
    /// A Unix socket instead.
    pub(super) socket: Option<String>,
    pub(super) database: String,
    pub(super) tls: Tls,
    /// Name and value in SQL.
    pub(super) settings: Vec<(String, String)>,
}

impl Dsn {
    /// How the library connects to it.
    pub(super) fn options(&self) -> MySqlConnectOptions {
        // The session is left as the server has it, so that a query means what it means to its writer.
        let mut options = MySqlConnectOptions::new()
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .timezone(None)
            .set_names(false)
            .database(&self.database)
            .ssl_mode(match self.tls {
                Tls::None => MySqlSslMode::Disabled,
                Tls::Preferred => MySqlSslMode::Preferred,
                Tls::Unverified => MySqlSslMode::Required,
                Tls::Verified => MySqlSslMode::VerifyIdentity,
            })
            .disable_statement_logging();
        options = match &self.socket {
            Some(path) => options.socket(path),
            None => options.host(&self.host).port(self.port),
        };
        if let Some(user) = &self.user {
            options = options.username(user);
        }
        if let Some(password) = &self.password {
            options = options.password(password.reveal());
        }
        options
    }

    /// The statement that sets the session's variables.
    pub(super) fn variables(&self) -> Option<String> {
        let pairs: Vec<String> = self.settings.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        (!pairs.is_empty()).then(|| format!("SET {}", pairs.join(", ")))
    }
}

impl FromStr for Dsn {
    type Err = String;

    /// No error repeats a piece of the text: a password may be anywhere in it.
    fn from_str(text: &str) -> Result<Self, String> {
        // A password may hold every one of the separators, so the last slash and the last at sign count.
        let (left, right) = text.rsplit_once('/').ok_or("has no / before the name of the database")?;
        let (login, address) = left.rsplit_once('@').map_or((None, left), |(login, rest)| (Some(login), rest));
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (Some(user.to_owned()), Some(password).filter(|password| !password.is_empty())),
            None => (None, None),
        };
        let mut dsn = Self { user, password: password.map(Secret::from), ..Self::default() };
        dsn.place(address)?;
        let (database, query) = right.split_once('?').map_or((right, None), |(name, query)| (name, Some(query)));
        dsn.database = decoded(database);
        for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or("has a parameter without =")?;
            dsn.parameter(name, decoded(value))?;
        }
        Ok(dsn)
    }
}

impl Dsn {
    /// `tcp(host:port)`, `unix(/path)`, or nothing for the server on this machine.
    fn place(&mut self, text: &str) -> Result<(), String> {
        let (protocol, address) = match text.split_once('(') {
            Some((protocol, rest)) => (protocol, rest.strip_suffix(')').ok_or("has no ) after the address")?),
            None => (text, ""),
        };
        match (protocol, address) {
            ("" | "tcp", "") => (self.host, self.port) = ("127.0.0.1".into(), PORT),
            ("unix", path) if !path.is_empty() => self.socket = Some(path.to_owned()),
            ("" | "tcp", address) => {
                (self.host, self.port) =
                    host_port(address, Some(PORT)).map_err(|_| "has an address that is not HOST:PORT")?;
            }
            _ => return Err("needs an address such as tcp(HOST:PORT)".into()),
        }
        Ok(())
    }

    fn parameter(&mut self, name: &str, value: String) -> Result<(), String> {
        if name == "tls" {
            self.tls = match value.to_ascii_lowercase().as_str() {
                "false" | "0" => Tls::None,
                "true" | "1" => Tls::Verified,
                "skip-verify" => Tls::Unverified,
                "preferred" => Tls::Preferred,
                _ => return Err("has a tls that is not true, false, skip-verify or preferred".into()),
            };
        } else if !OF_THE_DRIVER.contains(&name) {
            if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || name.is_empty() {
                return Err("has a parameter whose name is not that of a variable".into());
            }
            self.settings.push((name.to_owned(), value));
        }
        Ok(())
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Dsn, String> {
        text.parse()
    }

    fn check(text: &str, user: &str, password: &str, host: &str, port: u16, database: &str) {
        let dsn = parse(text).unwrap();
        assert_eq!(dsn.user.unwrap_or_default(), user, "{text}");
        assert_eq!(dsn.password.as_ref().map_or("", Secret::reveal), password, "{text}");
        assert_eq!((dsn.host.as_str(), dsn.port, dsn.database.as_str()), (host, port, database), "{text}");
    }

    #[test]
    fn a_name_is_read_as_go_reads_it() {
        check("user:password@tcp(mysql:3306)/stats_db", "user", "password", "mysql", 3306, "stats_db");
        check("u:p:a@b/c@tcp(db:3307)/d", "u", "p:a@b/c", "db", 3307, "d");
        check("u@tcp(db)/d", "u", "", "db", 3306, "d");
        check("u:p@/d", "u", "p", "127.0.0.1", 3306, "d");
        check("u:p@tcp([de:ad::1]:80)/", "u", "p", "de:ad::1", 80, "");
        check("/", "", "", "127.0.0.1", 3306, "");
        assert_eq!(parse("u@unix(/run/mysqld.sock)/d").unwrap().socket.as_deref(), Some("/run/mysqld.sock"));
    }

    #[test]
    fn parameters_are_of_the_driver_or_of_the_session() {
        for (value, tls) in [
            ("true", Tls::Verified),
            ("false", Tls::None),
            ("skip-verify", Tls::Unverified),
            ("preferred", Tls::Preferred),
        ] {
            assert_eq!(parse(&format!("/d?parseTime=true&tls={value}")).unwrap().tls, tls, "{value}");
        }
        assert_eq!(parse("/d?charset=utf8&loc=US%2FPacific").unwrap().variables(), None);
        let set = parse("/d?time_zone=%27Europe%2FParis%27&sql_mode=ANSI").unwrap().variables();
        assert_eq!(set.as_deref(), Some("SET time_zone = 'Europe/Paris', sql_mode = ANSI"));
    }

    #[test]
    fn what_is_wrong_is_said_without_a_password() {
        for text in [
            "u:hunter2@tcp(db:3306)",
            "u:hunter2@udp(db:1)/d",
            "u:hunter2@tcp(db:3306/d",
            "u:hunter2@tcp(db:hunter2)/d",
            "u:hunter2@tcp(db)/d?tls=hunter2",
            "u:hunter2@tcp(db)/d?hunter2",
            "u:hunter2@tcp(db)/d?a;b=1",
        ] {
            let error = parse(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
    }
}
