//! The HTTP clients that scalers share, and what else they share.

use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use regex::{Captures, Regex};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{RequestBuilder, Url, redirect};
use serde::de::DeserializeOwned;

use crate::error::ScalerError;
use crate::shared::Shared;

/// How long a source may take, when a trigger does not say. KEDA's `KEDA_HTTP_DEFAULT_TIMEOUT`.
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(3);
/// Most redirects that are followed, all to the same host.
const REDIRECTS: usize = 5;
/// Most bytes of an answer that are read, unless a scaler says otherwise. A metrics page of some ten thousand series
/// fits; an answer meant for somebody else does not fill the memory.
pub(crate) const ANSWER_BYTES: usize = 4 << 20;
/// Longest part of a foreign text that is repeated in an error.
const QUOTED_CHARS: usize = 300;
/// Idle connections to one host. A poll needs one; more come from several triggers being due together.
const IDLE_PER_HOST: usize = 16;

/// A client could not be made: the machine's certificates cannot be read, for example.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be set up")]
pub struct HttpError(#[source] reqwest::Error);

/// One client for all triggers, one for those that do not verify certificates, and the connections of other protocols.
///
/// Sharing them keeps connections few: thousands of triggers usually ask the same server.
pub struct Http {
    timeout: Duration,
    verifying: OnceLock<reqwest::Client>,
    trusting: OnceLock<reqwest::Client>,
    pub(crate) shared: Shared,
}

impl Http {
    /// Clients whose requests take at most `timeout`, unless a trigger says otherwise.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, verifying: OnceLock::new(), trusting: OnceLock::new(), shared: Shared::default() }
    }

    /// The default deadline.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The client that does or does not verify certificates.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub(crate) fn client(&self, verify: bool) -> Result<reqwest::Client, HttpError> {
        let cell = if verify { &self.verifying } else { &self.trusting };
        if let Some(client) = cell.get() {
            return Ok(client.clone());
        }
        let client = Self::builder(verify).build().map_err(HttpError)?;
        // A second task may have been faster; both clients are alike.
        Ok(cell.get_or_init(|| client).clone())
    }

    /// Sends a text that somebody waits for, and takes any success as its receipt; follows redirects of this host only.
    ///
    /// # Errors
    /// By what to do next: correct the address (`Misconfigured`), or try again (`Unavailable`). The answer itself is not
    /// repeated in them, for who reads them may not have been meant to see it.
    pub async fn post(&self, uri: &str, headers: &[(&'static str, String)], text: String) -> Result<(), ScalerError> {
        const SETTING: &str = "destination";
        let wrong = |what: String| ScalerError::Misconfigured { what };
        let url = Url::parse(uri).map_err(|error| wrong(format!("the address is not a URL: {error}")))?;
        let client = self.client(true).map_err(|error| ScalerError::Unavailable(Box::new(error)))?;
        let mut request = client.post(url.clone()).timeout(self.timeout).body(text);
        for (name, value) in headers {
            let value =
                HeaderValue::from_str(value).map_err(|_| wrong(format!("{name} cannot be sent in a header")))?;
            request = request.header(*name, value);
        }
        let response = request.send().await.map_err(|error| unavailable(SETTING, &url, error))?;
        refusal(response.status().as_u16(), &[], SETTING).map_or(Ok(()), Err)
    }

    /// What a client of one trigger starts from, when it cannot share one.
    pub(crate) fn builder(verify: bool) -> reqwest::ClientBuilder {
        reqwest::Client::builder()
            .redirect(redirect::Policy::custom(follow))
            .tls_danger_accept_invalid_certs(!verify)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .user_agent(concat!("tandem-pod-autoscaler/", env!("CARGO_PKG_VERSION")))
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Told of each HTTP request that a trigger makes while it is read.
pub trait HttpObserver: Send + Sync {
    /// A request ended: with this status, or without an answer.
    fn request(&self, status: Option<u16>, took: Duration);
}

tokio::task_local! {
    static OBSERVER: Arc<dyn HttpObserver>;
}

/// Runs a read whose HTTP requests `observer` is told of, as far as they are made in this task.
pub async fn observed<F: Future>(observer: Arc<dyn HttpObserver>, read: F) -> F::Output {
    OBSERVER.scope(observer, read).await
}

/// Waits for the answer to a request, and tells whoever observes the read.
pub(crate) async fn sent(
    request: impl Future<Output = Result<reqwest::Response, reqwest::Error>>,
) -> Result<reqwest::Response, reqwest::Error> {
    let began = Instant::now();
    let answered = request.await;
    let status = answered.as_ref().ok().map(|response| response.status().as_u16());
    // Outside of a read nobody observes.
    let _ = OBSERVER.try_with(|observer| observer.request(status, began.elapsed()));
    answered
}

/// Follows redirects on the same host only: headers and query may carry credentials of a tenant.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let first = attempt.previous().first();
    let same = first.is_some_and(|first| may_follow(first, attempt.url()));
    if same && attempt.previous().len() <= REDIRECTS { attempt.follow() } else { attempt.stop() }
}

fn may_follow(from: &Url, to: &Url) -> bool {
    let downgrade = from.scheme() == "https" && to.scheme() != "https";
    let same_place = from.host() == to.host() && (from.port() == to.port() || from.scheme() != to.scheme());
    same_place && !downgrade
}

/// Status and body of an answer, if it has at most `most` bytes.
///
/// # Errors
/// The answer does not end, or is too long.
pub(crate) async fn whole(
    setting: &'static str,
    url: &Url,
    mut response: reqwest::Response,
    most: usize,
) -> Result<(u16, Vec<u8>), ScalerError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unavailable(setting, url, error))? {
        if bytes.len() + chunk.len() > most {
            let what = format!("the answer is larger than {most} bytes; it must be one number");
            return Err(ScalerError::no_number(what));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok((response.status().as_u16(), bytes))
}

/// There was no answer, or only a part of one.
#[derive(Debug, thiserror::Error)]
#[error("{setting} {address}")]
struct Silent {
    setting: &'static str,
    address: String,
    #[source]
    cause: reqwest::Error,
}

/// Says which server did not answer, without showing a password in its address.
pub(crate) fn unavailable(setting: &'static str, url: &Url, error: reqwest::Error) -> ScalerError {
    ScalerError::Unavailable(Box::new(Silent { setting, address: host(url), cause: error.without_url() }))
}

/// Host and port. The rest of an address may hold a password.
pub(crate) fn host(url: &Url) -> String {
    let port = url.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or_default())
}

/// The body of a successful answer of at most [`ANSWER_BYTES`].
///
/// # Errors
/// By what to do next: other credentials, another question, or later.
pub(crate) async fn answer(
    setting: &'static str,
    url: &Url,
    response: reqwest::Response,
) -> Result<Vec<u8>, ScalerError> {
    let (status, bytes) = whole(setting, url, response, ANSWER_BYTES).await?;
    match refusal(status, &bytes, setting) {
        Some(error) => Err(error),
        None => Ok(bytes),
    }
}

/// Sends a request and reads its [`answer`]. `setting` is where its address comes from.
///
/// # Errors
/// There is no answer, or see [`answer`].
pub(crate) async fn ask(setting: &'static str, request: RequestBuilder) -> Result<Vec<u8>, ScalerError> {
    let (client, request) = request.build_split();
    let request = request.map_err(|error| ScalerError::Misconfigured { what: error.without_url().to_string() })?;
    let url = request.url().clone();
    let response = sent(client.execute(request)).await.map_err(|error| unavailable(setting, &url, error))?;
    answer(setting, &url, response).await
}

/// What an answer in JSON says; `whose` it should be.
///
/// # Errors
/// It is something else: [`ScalerError::NoNumber`].
pub(crate) fn json<T: DeserializeOwned>(whose: &str, body: &[u8]) -> Result<T, ScalerError> {
    serde_json::from_slice(body)
        .map_err(|error| ScalerError::no_number(format!("the answer is not that of {whose}: {error}")))
}

/// What a status that is not a success means.
pub(crate) fn refusal(status: u16, body: &[u8], setting: &str) -> Option<ScalerError> {
    let what = || format!("HTTP {status}{}", quoted(body));
    Some(match status {
        200..=299 => return None,
        401 | 403 => ScalerError::Unauthorized { what: what() },
        300..=399 => ScalerError::Misconfigured {
            what: format!("HTTP {status} redirects to another host, which is not followed; correct {setting}"),
        },
        408 | 429 => ScalerError::Unavailable(what().into()),
        400..=499 => ScalerError::Misconfigured { what: what() },
        _ => ScalerError::Unavailable(what().into()),
    })
}

/// A foreign text after a colon, shortened.
fn quoted(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * QUOTED_CHARS)]);
    let text = shorten(text.trim());
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// What servers write into each answer anew: times, and ids of requests and traces.
static PASSING: LazyLock<Regex> = LazyLock::new(|| {
    let time =
        r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}[T ])?[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?";
    let uuid = "[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}";
    // Seconds or milliseconds since 1970 are numbers, too; other numbers may be what was measured.
    let number = "[0-9a-fA-F]{16,}|1[6-9][0-9]{8}(?:[0-9]{3})?";
    Regex::new(&format!(r"(?-u:\b)(?:{time}|{uuid}|{number})(?-u:\b)")).expect("a constant that is a pattern")
});

/// Whether what stands between these is a piece of an IPv6 address, which may look like a time.
fn is_of_an_address(before: &str, after: &str) -> bool {
    let hex = |text: &str| text.ends_with(|c: char| c.is_ascii_hexdigit() || c == ':');
    after.starts_with(':') || before.strip_suffix(':').is_some_and(hex)
}

/// A foreign text that fits in a condition and has no line breaks.
///
/// What differs from one answer to the next is left out: who told it would else tell the same thing at every poll.
pub(crate) fn shorten(text: &str) -> String {
    let text = PASSING.replace_all(text, |found: &Captures<'_>| {
        let found = found.get_match().range();
        if is_of_an_address(&text[..found.start], &text[found.end..]) { &text[found] } else { "…" }
    });
    let mut short: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(QUOTED_CHARS).collect();
    if text.chars().count() > QUOTED_CHARS {
        short.push('…');
    }
    short
}

/// A request with the fields of a form.
pub(crate) fn form_body<'a>(
    request: RequestBuilder,
    fields: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> RequestBuilder {
    let mut carrier = Url::parse("http://x").expect("a constant that is a URL");
    carrier.query_pairs_mut().extend_pairs(fields);
    let body = carrier.query().unwrap_or_default().to_owned();
    request.header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")).body(body)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::metrics_api::MetricsApi;
    use crate::testing::{Trigger, serve};

    #[derive(Default)]
    struct Statuses(Mutex<Vec<Option<u16>>>);

    impl HttpObserver for Statuses {
        fn request(&self, status: Option<u16>, _: Duration) {
            self.0.lock().unwrap().push(status);
        }
    }

    #[tokio::test]
    async fn whoever_observes_a_read_is_told_of_its_requests() {
        let refused = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned();
        let (address, served) = serve(vec![refused]).await;
        let statuses = Arc::new(Statuses::default());
        let trigger = Trigger::new(&[("url", &address), ("targetValue", "1"), ("valueLocation", "a")]);
        for _ in 0..2 {
            let observer: Arc<dyn HttpObserver> = Arc::<Statuses>::clone(&statuses);
            assert!(observed(observer, trigger.sample::<MetricsApi>()).await.is_err());
        }
        served.await.unwrap();
        assert_eq!(*statuses.0.lock().unwrap(), [Some(503), None], "the second finds nobody");
    }

    #[test]
    fn the_same_refusal_reads_the_same_each_time() {
        for (said, told) in [
            (r#"{"timestamp":"2026-11-29T02:10:11.123+00:00","status":500}"#, r#"{"timestamp":"…","status":500}"#),
            ("RequestId: 1f0c7e2a-90ab-4cde-8123-0123456789ab refused", "RequestId: … refused"),
            ("trace=4bf92f3577b34da6a3ce929d0e0e4736 at 1764382211123", "trace=… at …"),
            ("2026-11-29 02:10:11,5 [main] busy", "… [main] busy"),
            ("the value 12345678901 is out of range", "the value 12345678901 is out of range"),
            ("[fd00:10:20:30::5]:9090 refused", "[fd00:10:20:30::5]:9090 refused"),
            (
                "10.120.130.140:9090 answered 503 for orders-7d9f8b6c5d-x2x4z",
                "10.120.130.140:9090 answered 503 for orders-7d9f8b6c5d-x2x4z",
            ),
        ] {
            assert_eq!(shorten(said), told);
        }
    }

    #[test]
    fn a_redirect_stays_on_its_host_and_does_not_drop_tls() {
        let url = |text: &str| Url::parse(text).unwrap();
        for (from, to, followed) in [
            ("http://a/x", "http://a/y", true),
            ("http://a/x", "https://a/x", true),
            ("https://a/x", "http://a/x", false),
            ("http://a/x", "http://b/x", false),
            ("http://a:9090/x", "http://a:9091/x", false),
            ("http://a/x", "http://169.254.169.254/latest", false),
        ] {
            assert_eq!(may_follow(&url(from), &url(to)), followed, "{from} -> {to}");
        }
    }
}
