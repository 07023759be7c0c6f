//! Where the server is: as libpq writes it (a URL, or `name=value` with spaces between), or in settings of its own.

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::Settings;
use crate::error::BuildError;
use crate::metadata::Choice;
use crate::sql::{needs, place};

/// How a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Choice)]
pub(super) enum SslMode {
    #[value("disable")]
    Disable,
    #[value("allow")]
    Allow,
    #[value("prefer")]
    Prefer,
    #[value("require")]
    Require,
    #[value("verify-ca")]
    VerifyCa,
    #[value("verify-full")]
    VerifyFull,
}

impl From<SslMode> for PgSslMode {
    fn from(mode: SslMode) -> Self {
        match mode {
            SslMode::Disable => Self::Disable,
            SslMode::Allow => Self::Allow,
            SslMode::Prefer => Self::Prefer,
            SslMode::Require => Self::Require,
            SslMode::VerifyCa => Self::VerifyCa,
            SslMode::VerifyFull => Self::VerifyFull,
        }
    }
}

impl Settings {
    /// How the library connects to it; `has_tokens` if tokens take the password's place.
    ///
    /// # Errors
    /// The connection cannot be read, or a setting is missing.
    pub(super) fn options(&self, has_tokens: bool) -> Result<PgConnectOptions, BuildError> {
        const OR: &str = "connection";
        if let Some(text) = &self.connection {
            let options = options(text.reveal());
            return options.map_err(|what| BuildError::new("authenticationRef connection", what));
        }
        let (host, port) = place(self.host.as_ref(), self.port.as_ref(), OR)?;
        let user = needs("userName", self.user_name.as_ref(), OR)?;
        let database = needs("dbName", self.db_name.as_ref(), OR)?;
        let mode = self.ssl_mode.ok_or_else(|| BuildError::new("sslmode", "is required, or connection"))?;
        let options = PgConnectOptions::new_without_pgpass().host(&host).port(port).username(&user).database(&database);
        let options = options.ssl_mode(mode.into());
        match &self.password {
            Some(password) => Ok(options.password(password.reveal())),
            None if has_tokens => Ok(options),
            None => Err(BuildError::new("password", "is required, or a podIdentity")),
        }
    }
}

/// Reads a connection. No error repeats a value of it.
fn options(text: &str) -> Result<PgConnectOptions, String> {
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return text.parse().map_err(|_| "is not a URL such as postgresql://USER:PASSWORD@HOST:PORT/DATABASE".into());
    }
    let mut options = PgConnectOptions::new_without_pgpass();
    for (name, value) in pairs(text)? {
        options = with(options, &name, &value)?;
    }
    Ok(options)
}

fn with(options: PgConnectOptions, name: &str, value: &str) -> Result<PgConnectOptions, String> {
    Ok(match name {
        "host" | "hostaddr" => options.host(value),
        "port" => options.port(value.parse().map_err(|_| "has a port that is not a number")?),
        "user" => options.username(value),
        "password" => options.password(value),
        "dbname" => options.database(value),
        "sslmode" => options.ssl_mode(mode(value)?),
        "sslrootcert" => options.ssl_root_cert(value),
        "sslcert" => options.ssl_client_cert(value),
        "sslkey" => options.ssl_client_key(value),
        "application_name" => options.application_name(value),
        // The trigger has a deadline of its own.
        "connect_timeout" => options,
        // Whatever else there is, the server may know.
        other => options.options([(other, value)]),
    })
}

fn mode(text: &str) -> Result<PgSslMode, String> {
    text.parse()
        .map_err(|_| "has an sslmode that is not disable, allow, prefer, require, verify-ca or verify-full".into())
}

/// `name = 'a value'`; a backslash takes the next character as it is.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or("has a word without =")?;
        let name = name.trim();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') {
            return Err("has a name that is not one of a parameter".into());
        }
        let (value, left) = value(after.trim_start())?;
        pairs.push((name.to_owned(), value));
        rest = left.trim_start();
    }
    Ok(pairs)
}

/// The value at the start of a text, and what follows it.
fn value(text: &str) -> Result<(String, &str), String> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            space if !quoted && space.is_whitespace() => return Ok((value, &text[at..])),
            other => value.push(other),
        }
    }
    if quoted { Err("has a quote that does not end".into()) } else { Ok((value, "")) }
}

#[cfg(test)]
mod tests {
    use super::super::PostgreSql;
    use super::*;
    use crate::sql::Query;
    use crate::testing::{Trigger, refusal};

    fn check(text: &str, wanted: &[(&str, &str)]) {
        let found = pairs(text).unwrap();
        let found: Vec<(&str, &str)> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, wanted, "{text}");
    }

    #[test]
    fn words_are_read_as_libpq_reads_them() {
        check("host=db  port = 5433", &[("host", "db"), ("port", "5433")]);
        check(r"password='a b\'c\\' user=u", &[("password", r"a b'c\"), ("user", "u")]);
        check(r"password=a\ b dbname=''", &[("password", "a b"), ("dbname", "")]);
        check("user= dbname=d", &[("user", "dbname=d")]);
        check("", &[]);
    }

    #[test]
    fn both_forms_name_the_same_server() {
        for text in [
            "postgresql://u:p@db:5433/stats?sslmode=require",
            "user=u password=p host=db port=5433 dbname=stats sslmode=require connect_timeout=3",
        ] {
            let options = options(text).unwrap();
            assert_eq!((options.get_host(), options.get_port()), ("db", 5433), "{text}");
            assert_eq!((options.get_username(), options.get_database()), ("u", Some("stats")), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_a_value() {
        for text in [
            "hunter2",
            "password='hunter2",
            "port=hunter2",
            "sslmode=hunter2",
            "hunter 2=x",
            "postgres://u:hunter2@db:hunter2/d",
        ] {
            let error = options(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
    }

    const PLACE: [(&str, &str); 5] =
        [("host", "db"), ("port", "5432"), ("userName", "keda"), ("dbName", "stats"), ("sslmode", "disable")];
    const QUESTION: [(&str, &str); 2] = [("query", "SELECT 1"), ("targetQueryValue", "2.2")];

    #[test]
    fn what_is_missing_is_named() {
        for (given, missing) in [(1, "port"), (2, "userName"), (3, "dbName"), (4, "sslmode"), (5, "password")] {
            let metadata = [&QUESTION[..], &PLACE[..given]].concat();
            assert_eq!(refusal::<Query<PostgreSql>>(&metadata), [missing]);
        }
        let odd = Trigger::new(&QUESTION).auth(&[("connection", "password=hunter2 port=x")]);
        let error = odd.build::<Query<PostgreSql>>().expect_err("a port that is none");
        assert_eq!(error.field, "authenticationRef connection");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
