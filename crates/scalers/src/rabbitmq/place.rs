//! Where the server is and who we are to it.

use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::Settings;
use crate::error::BuildError;
use crate::metadata::{Choice, Secret};

/// How the server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Choice)]
pub(super) enum Protocol {
    #[value("auto")]
    Auto,
    #[value("amqp")]
    Amqp,
    #[value("http")]
    Http,
}

/// What `host` says, with what replaces parts of it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) is_http: bool,
    pub(super) secure: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// Before `/api`, when a proxy serves the management API below a path; empty or beginning with a slash.
    pub(super) path: String,
    pub(super) vhost: String,
    pub(super) user: String,
    pub(super) password: Secret,
}

impl Place {
    /// Reads `host`. No error repeats a piece of it: there may be a password in it.
    pub(super) fn of(settings: &Settings) -> Result<Self, BuildError> {
        let wrong = |what: &str| BuildError::new("host", what);
        let url = Url::parse(settings.host.reveal())
            .map_err(|_| wrong("is not a URL such as amqp://USER:PASSWORD@HOST:5672/VHOST"))?;
        let (is_http, secure, port) = match url.scheme() {
            "amqp" => (false, false, 5672),
            "amqps" => (false, true, 5671),
            "http" => (true, false, 80),
            "https" => (true, true, 443),
            _ => return Err(wrong("must begin with amqp://, amqps://, http:// or https://")),
        };
        match settings.protocol {
            Protocol::Amqp if is_http => return Err(wrong("must begin with amqp:// or amqps:// for this protocol")),
            Protocol::Http if !is_http => return Err(wrong("must begin with http:// or https:// for this protocol")),
            _ => {}
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("has no host"))?;
        let (path, last) = match url.path().rsplit_once('/') {
            Some((path, last)) if is_http => (path.to_owned(), last.to_owned()),
            _ => (String::new(), url.path().trim_start_matches('/').to_owned()),
        };
        let vhost = settings.vhost_name.clone().unwrap_or_else(|| decoded(&last));
        let from_url = |text: &str| Some(decoded(text)).filter(|text| !text.is_empty());
        let user = settings.username.clone().or_else(|| from_url(url.username()));
        let in_url = url.password().map(|text| Secret::from(decoded(text).as_str()));
        Ok(Self {
            is_http,
            secure,
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port().unwrap_or(port),
            path,
            vhost: if vhost.is_empty() { "/".into() } else { vhost },
            // The server's own default.
            user: user.unwrap_or_else(|| "guest".into()),
            password: settings.password.clone().or(in_url).unwrap_or_else(|| "guest".into()),
        })
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::RabbitMq;
    use crate::testing::{Trigger, refusal};

    const QUEUE: (&str, &str) = ("queueName", "jobs");

    fn place(host: &str, more: &[(&str, &str)]) -> String {
        let metadata = [&[QUEUE, ("host", host)], more].concat();
        match Trigger::new(&metadata).connect::<RabbitMq>().unwrap().source {
            RabbitMq::Amqp(broker) => {
                let text = format!("{broker:?}");
                assert!(!text.contains("hunter2"), "{text}");
                let part = |name: &str| {
                    let rest = text.split(&format!("{name}: ")).nth(1).unwrap();
                    rest.split([',', ' ']).next().unwrap().trim_matches('"').to_owned()
                };
                ["user", "host", "port", "vhost"].map(part).join(" ")
            }
            RabbitMq::Http(_) => panic!("{host} is AMQP"),
        }
    }

    #[test]
    fn an_address_says_where_and_who() {
        assert_eq!(place("amqp://u:hunter2@mq:5673/shop", &[]), "u mq 5673 shop");
        assert_eq!(place("amqp://mq", &[]), "guest mq 5672 /");
        assert_eq!(place("amqps://u%40x:p@mq/%2F", &[]), "u@x mq 5671 /");
        assert_eq!(place("amqp://mq/a", &[("vhostName", "b")]), "guest mq 5672 b");
    }

    #[test]
    fn an_address_that_cannot_be_asked_so_is_refused() {
        for (host, protocol) in [("amqp://mq", "http"), ("http://mq:15672", "amqp"), ("mq:5672", "auto")] {
            assert_eq!(refusal::<RabbitMq>(&[QUEUE, ("host", host), ("protocol", protocol)]), ["host"], "{host}");
        }
    }
}
