//! As much of AMQP 0-9-1 as it takes to ask how many messages are ready.
//!
//! A client library would bring an executor, recovery and consumers; what is needed is eight short frames over our own
//! TLS, under the deadline of the reading.

use std::hash::Hash;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::place::Place;
use super::{Settings, http};
use crate::auth::tls::{Certificates, Switch};
use crate::auth::tokens::Tokens;
use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::http::shorten;
use crate::kept::{Dial, Kept};
use crate::metadata::Secret;
use crate::net::{Address, Wire};
use crate::source::Reading;

/// Frames of the server are smaller: it proposes 128 KiB as the most, and what is asked for takes far less.
const FRAME: usize = 1 << 17;
/// What ends every frame.
const END: u8 = 0xCE;

type Method = (u16, u16);
const START: Method = (10, 10);
const START_OK: Method = (10, 11);
const TUNE: Method = (10, 30);
const TUNE_OK: Method = (10, 31);
const OPEN: Method = (10, 40);
const OPEN_OK: Method = (10, 41);
const CLOSE: Method = (10, 50);
const CLOSE_OK: Method = (10, 51);
/// The arguments of [`CLOSE`]: success, no text, no method that is to blame.
const GOODBYE: [u8; 7] = [0, 200, 0, 0, 0, 0, 0];
const CHANNEL_OPEN: Method = (20, 10);
const CHANNEL_OPEN_OK: Method = (20, 11);
const CHANNEL_CLOSE: Method = (20, 40);
const DECLARE: Method = (50, 10);
const DECLARE_OK: Method = (50, 11);

/// A queue at a broker.
#[derive(Debug)]
pub(crate) struct Broker {
    address: Address,
    user: String,
    password: Secret,
    /// Tokens that take the password's place.
    tokens: Option<Tokens>,
    vhost: String,
    queue: String,
    kept: Kept<Line>,
}

/// A connection with one open channel.
pub(crate) struct Line(Wire);

impl Broker {
    pub(super) fn new(settings: &Settings, place: Place, context: &TriggerContext<'_>) -> Result<Self, BuildError> {
        if let Some(field) = settings.needs_http() {
            return Err(BuildError::new(field, "needs protocol http and the address of the management API in host"));
        }
        for (field, text) in [("queueName", &settings.queue_name), ("vhostName", &place.vhost)] {
            if text.len() > usize::from(u8::MAX) {
                return Err(BuildError::new(field, "has more than 255 bytes"));
            }
        }
        let certificates = match settings.tls {
            Switch::Enable => settings.certificates.open()?,
            Switch::Disable => Certificates { ca: None, cert: None, key: None },
        };
        let tls = place.secure.then(|| certificates.shared_config(!settings.unsafe_ssl)).transpose()?;
        Ok(Self {
            address: Address { setting: "host", host: place.host, port: place.port, tls },
            user: place.user,
            password: place.password,
            tokens: http::azure(settings, context)?,
            vhost: place.vhost,
            queue: settings.queue_name.clone(),
            kept: Kept::new(context, &settings.login(), context.http.timeout()),
        })
    }

    pub(super) async fn read(&self) -> Result<Reading, ScalerError> {
        self.kept.read(self).await
    }

    /// SASL PLAIN: nobody else, user, password.
    async fn login(&self) -> Result<Vec<u8>, ScalerError> {
        Ok(match &self.tokens {
            Some(tokens) => format!("\0\0{}", tokens.get().await?.reveal()),
            None => format!("\0{}\0{}", self.user, self.password.reveal()),
        }
        .into_bytes())
    }
}

impl Settings {
    /// What decides what a connection over AMQP may see.
    fn login(&self) -> impl Hash {
        let Self { host, vhost_name, username, password, tls, unsafe_ssl, certificates, .. } = self;
        let resource = &self.workload_identity_resource;
        (host, vhost_name, username, password, tls, unsafe_ssl, certificates, resource)
    }
}

#[async_trait]
impl Dial for Broker {
    type Line = Line;

    async fn dial(&self) -> Result<Line, ScalerError> {
        let silent = |error| self.address.unavailable(&error);
        let mut line = Line(self.address.connect().await.map_err(silent)?);
        line.0.write_all(b"AMQP\x00\x00\x09\x01").await.map_err(silent)?;
        line.receive(START).await?;
        let mut hello = capabilities();
        short(&mut hello, "PLAIN");
        long(&mut hello, &self.login().await?);
        short(&mut hello, "en_US");
        line.send(0, START_OK, &hello).await?;
        let tune = line.receive(TUNE).await?;
        // As the server proposes, but without heartbeats: between two readings nobody is here to answer them.
        let mut tuned = tune.get(..6).ok_or_else(odd)?.to_vec();
        tuned.extend([0, 0]);
        line.send(0, TUNE_OK, &tuned).await?;
        let mut open = Vec::new();
        short(&mut open, &self.vhost);
        open.extend([0, 0]);
        line.send(0, OPEN, &open).await?;
        line.receive(OPEN_OK).await?;
        line.send(1, CHANNEL_OPEN, &[0]).await?;
        line.receive(CHANNEL_OPEN_OK).await?;
        Ok(line)
    }

    async fn ask(&self, line: &mut Line) -> Result<Reading, ScalerError> {
        const PASSIVE: u8 = 1;
        let mut question = vec![0, 0];
        short(&mut question, &self.queue);
        question.extend([PASSIVE, 0, 0, 0, 0]);
        line.send(1, DECLARE, &question).await?;
        ready(&line.receive(DECLARE_OK).await?)
    }

    async fn hang_up(&self, mut line: Line) {
        // Over either way; but who does not wait for the answer is logged as one that broke off.
        if line.send(0, CLOSE, &GOODBYE).await.is_ok() {
            let _ = line.receive(CLOSE_OK).await;
        }
    }
}

impl Line {
    async fn send(&mut self, channel: u16, (class, method): Method, arguments: &[u8]) -> Result<(), ScalerError> {
        let mut frame = vec![1];
        frame.extend(channel.to_be_bytes());
        let size = u32::try_from(arguments.len() + 4).map_err(|error| ScalerError::Unavailable(Box::new(error)))?;
        frame.extend(size.to_be_bytes());
        frame.extend(class.to_be_bytes());
        frame.extend(method.to_be_bytes());
        frame.extend(arguments);
        frame.push(END);
        self.0.write_all(&frame).await.map_err(broken)?;
        self.0.flush().await.map_err(broken)
    }

    /// The arguments of the next method, which must be this one.
    async fn receive(&mut self, wanted: Method) -> Result<Vec<u8>, ScalerError> {
        loop {
            let mut head = [0; 7];
            self.0.read_exact(&mut head).await.map_err(broken)?;
            let [kind, _, _, size @ ..] = head;
            let size = usize::try_from(u32::from_be_bytes(size)).unwrap_or(usize::MAX);
            if size > FRAME {
                return Err(odd());
            }
            let mut payload = vec![0; size + 1];
            self.0.read_exact(&mut payload).await.map_err(broken)?;
            // Heartbeats and whatever is not about methods.
            if kind != 1 {
                continue;
            }
            return method(&payload, wanted);
        }
    }
}

/// The arguments of a method in a frame's payload.
fn method(payload: &[u8], wanted: Method) -> Result<Vec<u8>, ScalerError> {
    let [a, b, c, d, arguments @ .., END] = payload else { return Err(odd()) };
    let found = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
    match found {
        found if found == wanted => Ok(arguments.to_vec()),
        CLOSE | CHANNEL_CLOSE => Err(refusal(arguments)),
        _ => Err(odd()),
    }
}

/// Why the server closes: a code and a text.
fn refusal(arguments: &[u8]) -> ScalerError {
    let [a, b, length, text @ ..] = arguments else { return odd() };
    let text = text.get(..usize::from(*length)).unwrap_or(text);
    let what = shorten(&String::from_utf8_lossy(text));
    match u16::from_be_bytes([*a, *b]) {
        403 => ScalerError::Unauthorized { what },
        404 | 405 | 406 | 530 => ScalerError::Misconfigured { what },
        _ => ScalerError::Unavailable(what.into()),
    }
}

/// The number of ready messages, after the queue's name.
fn ready(arguments: &[u8]) -> Result<Reading, ScalerError> {
    let [length, rest @ ..] = arguments else { return Err(odd()) };
    let count = rest.get(usize::from(*length)..).and_then(<[u8]>::first_chunk::<4>).ok_or_else(odd)?;
    Reading::count(i64::from(u32::from_be_bytes(*count)))
}

/// A table that says one thing: tell us when you refuse our login, instead of hanging up.
fn capabilities() -> Vec<u8> {
    let mut inner = Vec::new();
    short(&mut inner, "authentication_failure_close");
    inner.extend([b't', 1]);
    let mut outer = Vec::new();
    short(&mut outer, "capabilities");
    outer.push(b'F');
    long(&mut outer, &inner);
    let mut table = Vec::new();
    long(&mut table, &outer);
    table
}

/// A text of at most 255 bytes.
fn short(buffer: &mut Vec<u8>, text: &str) {
    buffer.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    buffer.extend(text.bytes().take(usize::from(u8::MAX)));
}

fn long(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    buffer.extend(bytes);
}

fn broken(error: std::io::Error) -> ScalerError {
    ScalerError::Unavailable(Box::new(error))
}

fn odd() -> ScalerError {
    ScalerError::Unavailable("the server does not speak AMQP 0-9-1".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(code: u16, text: &str) -> Vec<u8> {
        let mut payload = vec![0, 20, 0, 40];
        payload.extend(code.to_be_bytes());
        short(&mut payload, text);
        payload.extend([0, 50, 0, 10, END]);
        payload
    }

    #[test]
    fn a_refusal_says_what_to_do_next() {
        let said = |code| method(&close(code, "NOT_FOUND - no queue 'jobs'"), DECLARE_OK).unwrap_err();
        assert!(matches!(said(403), ScalerError::Unauthorized { .. }));
        assert!(matches!(said(404), ScalerError::Misconfigured { .. }));
        assert!(matches!(said(530), ScalerError::Misconfigured { .. }));
        assert!(matches!(said(320), ScalerError::Unavailable(_)));
        assert!(said(404).text().contains("no queue 'jobs'"));
    }

    #[test]
    fn only_the_right_answer_is_a_number() {
        let answer = [0, 50, 0, 11, 4, b'j', b'o', b'b', b's', 0, 0, 1, 2, 0, 0, 0, 7, END];
        assert_eq!(ready(&method(&answer, DECLARE_OK).unwrap()).unwrap().milli.to_string(), "258");
        for cut in 0..answer.len() - 4 {
            let mut short = answer[..cut].to_vec();
            short.push(END);
            assert!(method(&short, DECLARE_OK).and_then(|arguments| ready(&arguments)).is_err() || cut >= 13, "{cut}");
        }
        assert!(method(&answer, OPEN_OK).is_err());
    }
}
