//! The HTTP clients that scalers share.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::redirect;

/// How long a source may take, when a trigger does not say. KEDA's `KEDA_HTTP_DEFAULT_TIMEOUT`.
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(3);
/// Most redirects that are followed, all to the same host.
const REDIRECTS: usize = 5;
/// Idle connections to one host. A poll needs one; more come from several triggers being due together.
const IDLE_PER_HOST: usize = 16;

/// A client could not be made: the machine's certificates cannot be read, for example.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be set up")]
pub struct HttpError(#[source] reqwest::Error);

/// One client for all triggers, and one for those that do not verify certificates.
///
/// Sharing them keeps connections few: thousands of triggers usually ask the same server.
pub struct Http {
    timeout: Duration,
    verifying: OnceLock<reqwest::Client>,
    trusting: OnceLock<reqwest::Client>,
}

impl Http {
    /// Clients whose requests take at most `timeout`, unless a trigger says otherwise.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, verifying: OnceLock::new(), trusting: OnceLock::new() }
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
        let client = reqwest::Client::builder()
            .redirect(redirect::Policy::custom(follow))
            .tls_danger_accept_invalid_certs(!verify)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .user_agent(concat!("tandem-pod-autoscaler/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(HttpError)?;
        // A second task may have been faster; both clients are alike.
        Ok(cell.get_or_init(|| client).clone())
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Follows redirects on the same host only: headers and query may carry credentials of a tenant.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let first = attempt.previous().first();
    let same = first.is_some_and(|first| may_follow(first, attempt.url()));
    if same && attempt.previous().len() <= REDIRECTS { attempt.follow() } else { attempt.stop() }
}

fn may_follow(from: &reqwest::Url, to: &reqwest::Url) -> bool {
    let downgrade = from.scheme() == "https" && to.scheme() != "https";
    let same_place = from.host() == to.host() && (from.port() == to.port() || from.scheme() != to.scheme());
    same_place && !downgrade
}

/// Reads a body of at most `most` bytes.
pub(crate) async fn body(mut response: reqwest::Response, most: usize) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if bytes.len() + chunk.len() > most {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_stays_on_its_host_and_does_not_drop_tls() {
        let url = |text: &str| reqwest::Url::parse(text).unwrap();
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
