//! The management API.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::measure::{Measure, Queue};
use super::place::Place;
use super::{Settings, Switch};
use crate::auth::tokens::Tokens;
use crate::context::{Identity, TriggerContext};
use crate::error::{BuildError, ScalerError};
use crate::http::{answer, sent, unavailable};
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
        let response = sent(request.send()).await.map_err(|error| unavailable("host", url, error))?;
        let body = answer("host", url, response).await?;
        serde_json::from_slice(&body)
            .map_err(|error| ScalerError::NoNumber { what: format!("the answer is not that of RabbitMQ: {error}") })
    }
}

/// Tokens of Azure, with a workload identity.
pub(super) fn azure(settings: &Settings, context: &TriggerContext<'_>) -> Result<Option<Tokens>, BuildError> {
    let Identity::Azure { client, tenant, authority } = context.identity() else { return Ok(None) };
    let resource = settings.workload_identity_resource.as_deref();
    let field = "authenticationRef workloadIdentityResource";
    let resource = resource.ok_or_else(|| BuildError::new(field, "is required by podIdentity azure-workload"))?;
    let http = context.http.client(true)?;
    Tokens::azure(http, client.as_deref(), tenant.as_deref(), authority.as_deref(), resource).map(Some)
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
