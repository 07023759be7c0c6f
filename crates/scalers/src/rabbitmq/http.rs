//! The management API.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::measure::{Measure, Mode, Queue};
use super::place::Place;
use super::{Settings, Switch};
use crate::auth::tokens::Tokens;
use crate::context::{Identity, TriggerContext};
use crate::error::{BuildError, ScalerError};
use crate::http::{ask, json};
use crate::metadata::Secret;
use crate::source::Reading;

/// Most pages of queues that one reading asks for.
const PAGES: u32 = 50;

/// A queue, or all that match, at the management API.
#[derive(Debug)]
pub(crate) struct Management {
    client: reqwest::Client,
    url: Url,
    login: Login,
    regex: bool,
    measure: Measure,
}

#[derive(Debug)]
enum Login {
    Basic(String, Secret),
    Tokens(Box<Tokens>),
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Queue>,
    page_count: u32,
}

impl Management {
    pub(super) fn new(settings: &Settings, place: Place, context: &TriggerContext<'_>) -> Result<Self, BuildError> {
        let verify = !settings.unsafe_ssl;
        let client = if settings.tls == Switch::Enable {
            let certificates = settings.certificates.open()?;
            certificates.client(context.http, verify, certificates.is_pair())?
        } else {
            context.http.client(verify)?
        };
        let url = url(&place, settings).map_err(|what| BuildError::new("host", what))?;
        let login = if settings.oauth.is_complete() {
            Login::Tokens(Box::new(settings.oauth.tokens(client.clone())?))
        } else if let Some(tokens) = azure(settings, context)? {
            Login::Tokens(Box::new(tokens))
        } else {
            Login::Basic(place.user, place.password)
        };
        Ok(Self { client, url, login, regex: settings.use_regex, measure: Measure::of(settings) })
    }

    pub(super) async fn read(&self) -> Result<Reading, ScalerError> {
        if !self.regex {
            return self.measure.of_queues(&[self.get(&self.url).await?]);
        }
        let mut queues = Vec::new();
        for number in 1..=PAGES {
            let mut url = self.url.clone();
            url.query_pairs_mut().append_pair("page", &number.to_string());
            let page: Page = self.get(&url).await?;
            queues.extend(page.items);
            if number >= page.page_count {
                return self.measure.of_queues(&queues);
            }
        }
        let what = format!("more than {PAGES} pages of queues match; narrow queueName or raise pageSize");
        Err(ScalerError::Misconfigured { what })
    }

    async fn get<T: DeserializeOwned>(&self, url: &Url) -> Result<T, ScalerError> {
        let request = self.client.get(url.clone());
        let request = match &self.login {
            Login::Basic(user, password) => request.basic_auth(user, Some(password.reveal())),
            Login::Tokens(tokens) => request.bearer_auth(tokens.get().await?.reveal()),
        };
        json("RabbitMQ", &ask("host", request).await?)
    }
}

/// Tokens of Azure, with a workload identity.
pub(super) fn azure(settings: &Settings, context: &TriggerContext<'_>) -> Result<Option<Tokens>, BuildError> {
    if !matches!(context.identity(), Identity::Azure { .. }) {
        return Ok(None);
    }
    let resource = settings.workload_identity_resource.as_deref();
    let field = "authenticationRef workloadIdentityResource";
    let resource = resource.ok_or_else(|| BuildError::new(field, "is required by podIdentity azure-workload"))?;
    Tokens::of_azure(context, resource)
}

impl Settings {
    /// What needs the management API.
    pub(super) fn needs_http(&self) -> Option<&'static str> {
        let mode = self.mode.is_some_and(|mode| mode != Mode::QueueLength);
        let needs = [
            (mode, "mode"),
            (self.use_regex, "useRegex"),
            (self.exclude_unacknowledged, "excludeUnacknowledged"),
            (self.timeout.is_some(), "timeout"),
            (self.oauth.is_complete(), "authenticationRef oauthTokenURI"),
        ];
        needs.into_iter().find(|(needed, _)| *needed).map(|(_, field)| field)
    }
}

fn url(place: &Place, settings: &Settings) -> Result<Url, String> {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let scheme = if place.secure { "https" } else { "http" };
    let host = if place.host.contains(':') { format!("[{}]", place.host) } else { place.host.clone() };
    let vhost = encoded(&place.vhost);
    let base = format!("{scheme}://{host}:{}{}/api/queues/{vhost}", place.port, place.path);
    let wrong = |_| "is not a URL".to_owned();
    if !settings.use_regex {
        return Url::parse(&format!("{base}/{}", encoded(&settings.queue_name))).map_err(wrong);
    }
    let mut url = Url::parse(&base).map_err(wrong)?;
    url.query_pairs_mut()
        .append_pair("use_regex", "true")
        .append_pair("pagination", "false")
        .append_pair("name", &settings.queue_name)
        .append_pair("page_size", &settings.page_size.to_string());
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::super::RabbitMq;
    use crate::testing::{Trigger, ok, refusal, serve};

    const QUEUE: (&str, &str) = ("queueName", "jobs/new a");
    const AMQP: (&str, &str) = ("host", "amqp://u:hunter2@mq:5673/shop");

    #[test]
    fn what_needs_the_management_api_says_so() {
        let wrong = |more: &[(&str, &str)]| refusal::<RabbitMq>(&[&[QUEUE, AMQP], more].concat());
        assert_eq!(wrong(&[("mode", "MessageRate"), ("value", "1")]), ["mode"]);
        assert_eq!(wrong(&[("useRegex", "true")]), ["useRegex"]);
        assert_eq!(wrong(&[("excludeUnacknowledged", "true")]), ["excludeUnacknowledged"]);
        assert_eq!(wrong(&[("timeout", "1s")]), ["timeout"]);
    }

    #[tokio::test]
    async fn all_pages_of_queues_count() {
        let page = |messages: u32| ok(&format!(r#"{{"page_count": 2, "items": [{{"messages": {messages}}}]}}"#));
        let (address, served) = serve(vec![page(3), page(4)]).await;
        let host = address.replace("http://", "http://u:hunter2@") + "/sub/sh%2Fop";
        let metadata = [QUEUE, ("host", host.as_str()), ("useRegex", "true"), ("pageSize", "1")];
        let sampled = Trigger::new(&metadata).sample::<RabbitMq>().await.unwrap();
        assert_eq!(sampled.value.thousandths(), 7_000);
        let asked = served.await.unwrap();
        assert!(asked[0].starts_with("GET /sub/api/queues/sh%2Fop?use_regex=true&"), "{}", asked[0]);
        assert!(asked[0].contains("name=jobs%2Fnew+a") && asked[1].contains("page=2"), "{asked:?}");
    }
}
