//! How a trigger shows who it is to an HTTP server.

pub(crate) mod aws;
pub(crate) mod google_key;
pub(crate) mod oauth;
pub(crate) mod tls;
pub(crate) mod tokens;

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Response};

use crate::context::{Identity, TriggerContext};
use crate::error::{BuildError, ScalerError};
use crate::http::{Http, HttpError, sent, unavailable};
use crate::metadata::{Choice, Secret, TriggerMetadata};
use aws::{AwsAuth, Signer};
use oauth::OAuth;
use tls::Certificates;
use tokens::Tokens;

/// A way to show who one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Choice)]
pub(crate) enum AuthMode {
    #[value("apiKey")]
    ApiKey,
    #[value("basic")]
    Basic,
    #[value("tls")]
    Tls,
    #[value("bearer")]
    Bearer,
    #[value("custom")]
    Custom,
    #[value("oauth")]
    OAuth,
}

/// Where an API key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Choice)]
pub(crate) enum ApiKeyMethod {
    #[value("header")]
    Header,
    #[value("query")]
    Query,
}

/// Credentials that several types share.
#[derive(Debug, TriggerMetadata)]
#[trigger(check = HttpAuth::check)]
pub(crate) struct HttpAuth {
    /// How the trigger shows who it is; each way needs the parameters below that belong to it.
    #[param(name = "authModes", alias("authMode"), from(metadata, auth), at_most_one("basic", "bearer", "oauth"))]
    modes: Vec<AuthMode>,
    /// User name of `basic`.
    #[param(from(auth))]
    username: Option<String>,
    /// Password of `basic`; may be empty.
    #[param(from(auth))]
    password: Option<Secret>,
    /// Token of `bearer`.
    #[param(alias("token"), from(auth))]
    bearer_token: Option<Secret>,
    /// Header of `custom`.
    #[param(from(auth))]
    custom_auth_header: Option<String>,
    /// The value of that header.
    #[param(from(auth))]
    custom_auth_value: Option<Secret>,
    /// Key of `apiKey`.
    #[param(from(auth))]
    api_key: Option<Secret>,
    /// Whether the key is sent in a header or in the query.
    #[param(name = "method", from(auth, metadata), default = "header")]
    api_key_method: ApiKeyMethod,
    /// Name of that header (`X-API-KEY`) or query parameter (`api_key`).
    #[param(from(auth, metadata))]
    key_param_name: Option<String>,
    #[param(nested)]
    certificates: Certificates,
    #[param(nested)]
    oauth: OAuth,
}

impl HttpAuth {
    fn check(&self) -> Vec<BuildError> {
        let needs = |mode: AuthMode, name: &str, there: bool| {
            let what = || {
                BuildError::new(
                    format!("authenticationRef {name}"),
                    format!("is required by authMode {}", AuthMode::WORDS[mode as usize]),
                )
            };
            (self.modes.contains(&mode) && !there).then(what)
        };
        let checks = [
            needs(AuthMode::Basic, "username", self.username.is_some()),
            needs(AuthMode::Bearer, "bearerToken", self.bearer_token.is_some()),
            needs(AuthMode::Custom, "customAuthHeader", self.custom_auth_header.is_some()),
            needs(AuthMode::Custom, "customAuthValue", self.custom_auth_value.is_some()),
            needs(AuthMode::ApiKey, "apiKey", self.api_key.is_some()),
            needs(AuthMode::Tls, "cert", self.certificates.is_pair()),
            needs(AuthMode::OAuth, "oauthTokenURI", self.oauth.is_complete()),
        ];
        checks.into_iter().flatten().collect()
    }

    /// Gets everything ready that does not change between requests.
    ///
    /// # Errors
    /// A credential cannot be sent, or a certificate cannot be read.
    pub(crate) fn prepare(self, http: &Http, verify: bool) -> Result<Session, BuildError> {
        let pair = self.modes.contains(&AuthMode::Tls);
        let client = self.certificates.client(http, verify, pair)?;
        let mut session = Session { client, credentials: Vec::new(), signer: None };
        for mode in &self.modes {
            let credential = match mode {
                AuthMode::Tls => continue,
                AuthMode::Basic => Credential::Basic(self.username.clone().unwrap_or_default(), self.password.clone()),
                AuthMode::Bearer => header("authorization", "Bearer ", self.bearer_token.as_ref())?,
                AuthMode::Custom => {
                    let name = self.custom_auth_header.as_deref().unwrap_or_default();
                    header(name, "", self.custom_auth_value.as_ref())?
                }
                AuthMode::ApiKey => match self.api_key_method {
                    ApiKeyMethod::Header => {
                        let name = self.key_param_name.as_deref().unwrap_or("X-API-KEY");
                        header(name, "", self.api_key.as_ref())?
                    }
                    ApiKeyMethod::Query => Credential::Query(
                        self.key_param_name.clone().unwrap_or_else(|| "api_key".into()),
                        self.api_key.clone().unwrap_or_else(|| "".into()),
                    ),
                },
                AuthMode::OAuth => Credential::Tokens(self.oauth.tokens(session.client.clone())?),
            };
            session.credentials.push(credential);
        }
        Ok(session)
    }
}

/// A client with the credentials of one trigger.
#[derive(Debug)]
pub(crate) struct Session {
    client: reqwest::Client,
    credentials: Vec<Credential>,
    signer: Option<Signer>,
}

#[derive(Debug)]
enum Credential {
    Basic(String, Option<Secret>),
    Header(HeaderName, HeaderValue),
    Query(String, Secret),
    Tokens(Tokens),
}

impl Session {
    /// Shows the identity that the trigger's `podIdentity` names instead of credentials of its own.
    ///
    /// # Errors
    /// There are credentials as well, or the program's environment does not have such an identity.
    pub(crate) fn with_identity(mut self, identity: &Identity, scope: &str) -> Result<Self, BuildError> {
        let tokens = match identity {
            Identity::None | Identity::Aws { .. } => return Ok(self),
            Identity::Azure { client, tenant, authority } => {
                Tokens::azure(self.client.clone(), client.as_deref(), tenant.as_deref(), authority.as_deref(), scope)?
            }
            Identity::Gcp => Tokens::google(self.client.clone())?,
        };
        self.exclusive()?;
        self.credentials.push(Credential::Tokens(tokens));
        Ok(self)
    }

    /// Signs requests for a service of AWS instead of showing credentials, if the trigger names a region or shows an
    /// identity of AWS.
    ///
    /// # Errors
    /// There is no region or nothing to sign with, or there are credentials as well.
    pub(crate) fn for_amazon(
        mut self,
        service: &'static str,
        region: Option<String>,
        aws: AwsAuth,
        context: &TriggerContext<'_>,
    ) -> Result<Self, BuildError> {
        if region.is_none() && !matches!(context.identity(), Identity::Aws { .. }) {
            return Ok(self);
        }
        let region = region.ok_or_else(|| BuildError::new("awsRegion", "is required by podIdentity aws"))?;
        let keys = aws.keys(&region, context)?;
        self.exclusive()?;
        self.signer = Some(Signer { keys, region, service });
        Ok(self)
    }

    fn exclusive(&self) -> Result<(), BuildError> {
        let what = "excludes a cloud identity; use one of them";
        if self.credentials.is_empty() { Ok(()) } else { Err(BuildError::new("authModes", what)) }
    }

    /// The client without credentials, to make a request with.
    pub(crate) fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Sends a request that shows who we are. `setting` is where its address comes from.
    ///
    /// # Errors
    /// A token or a key could not be had, or the server is silent.
    pub(crate) async fn send(
        &self,
        setting: &'static str,
        mut request: RequestBuilder,
    ) -> Result<Response, ScalerError> {
        for credential in &self.credentials {
            request = match credential {
                Credential::Basic(user, password) => request.basic_auth(user, password.as_ref().map(Secret::reveal)),
                Credential::Header(name, value) => request.header(name, value),
                Credential::Query(name, key) => request.query(&[(name.as_str(), key.reveal())]),
                Credential::Tokens(tokens) => request.bearer_auth(tokens.get().await?.reveal()),
            };
        }
        let wrong = |error: reqwest::Error| ScalerError::Misconfigured { what: error.without_url().to_string() };
        let mut request = request.build().map_err(wrong)?;
        if let Some(signer) = &self.signer {
            signer.sign(&mut request).await?;
        }
        let url = request.url().clone();
        sent(self.client.execute(request)).await.map_err(|error| unavailable(setting, &url, error))
    }
}

fn header(name: &str, prefix: &str, secret: Option<&Secret>) -> Result<Credential, BuildError> {
    let wrong = |what: &str| BuildError::new("authenticationRef", format!("the header {name:?} {what}"));
    let header: HeaderName = name.parse().map_err(|_| wrong("is not the name of a header"))?;
    let text = format!("{prefix}{}", secret.map(Secret::reveal).unwrap_or_default());
    let mut value = HeaderValue::from_str(&text).map_err(|_| wrong("cannot hold the value it is given"))?;
    value.set_sensitive(true);
    Ok(Credential::Header(header, value))
}

impl From<HttpError> for BuildError {
    fn from(error: HttpError) -> Self {
        Self::new("authenticationRef", ScalerError::Unavailable(Box::new(error)).text())
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics_api::MetricsApi;
    use crate::prometheus::Prometheus;
    use crate::testing::{Texts, Trigger, changed, ok, serve};

    const PLAIN: [(&str, &str); 3] = [("url", "http://api/v1"), ("valueLocation", "a.b"), ("targetValue", "5")];

    #[test]
    fn each_way_needs_its_parameters() {
        let mode = |mode| Trigger::new(&changed(&PLAIN, "authModes", mode));
        for (name, parameter) in [
            ("basic", "username"),
            ("bearer", "bearerToken"),
            ("apiKey", "apiKey"),
            ("custom", "customAuthHeader"),
            ("tls", "cert"),
            ("oauth", "oauthTokenURI"),
        ] {
            let error = mode(name).build::<MetricsApi>().expect_err("a credential is missing");
            assert_eq!(error.field, format!("authenticationRef {parameter}"), "{name}");
        }
    }

    #[tokio::test]
    async fn every_way_to_show_who_one_is_reaches_the_server() {
        let token = ok(r#"{"access_token": "t0", "expires_in": 3600}"#);
        for (metadata, auth, wanted) in [
            (vec![("authMode", "basic")], vec![("username", "u"), ("password", "p")], "authorization: basic dtpw"),
            (vec![("authModes", "bearer")], vec![("token", "t1")], "authorization: bearer t1"),
            (vec![("authMode", "apiKey")], vec![("apiKey", "k")], "x-api-key: k"),
            (vec![("authMode", "apiKey"), ("method", "query"), ("keyParamName", "q")], vec![("apiKey", "k")], "?q=k"),
            (vec![("authModes", "custom")], vec![("customAuthHeader", "X-A"), ("customAuthValue", "v")], "x-a: v"),
            (
                vec![("authModes", "oauth")],
                vec![("clientID", "c"), ("clientSecret", "s"), ("scopes", "one,two")],
                "authorization: bearer t0",
            ),
        ] {
            let (address, served) = serve(vec![ok(r#"{"a": {"b": 4}}"#)]).await;
            let (tokens, _asked) = serve(vec![token.clone()]).await;
            let mut metadata = metadata.clone();
            metadata.extend([("url", address.as_str()), PLAIN[1], PLAIN[2]]);
            let mut auth = auth.clone();
            auth.push(("oauthTokenURI", &tokens));
            let sampled = Trigger::new(&metadata).auth(&auth).sample::<MetricsApi>().await.unwrap();
            assert_eq!(sampled.value.thousandths(), 4_000);
            let asked = served.await.unwrap().remove(0).to_lowercase();
            assert!(asked.contains(wanted), "{wanted}\n{asked}");
        }
    }

    const QUERY: [(&str, &str); 3] = [("serverAddress", "http://p:9090"), ("query", "up"), ("threshold", "1")];

    #[test]
    fn amazons_requests_need_a_region_and_keys_and_no_other_credentials() {
        let keys = [("awsAccessKeyID", "AKID"), ("awsSecretAccessKey", "s"), ("username", "u")];
        let refused = |auth: Texts<'_>, more: Texts<'_>| {
            let trigger = Trigger::new(&[&QUERY, more].concat()).auth(auth);
            trigger.build::<Prometheus>().expect_err("wrong").field
        };
        let region = [("awsRegion", "eu-west-1"), ("authModes", "basic")];
        assert_eq!(refused(&[], &region[..1]), "authenticationRef");
        assert_eq!(refused(&keys[..1], &region[..1]), "authenticationRef");
        assert_eq!(refused(&keys, &region), "authModes");
    }

    #[tokio::test]
    async fn amazons_requests_are_signed() {
        let body = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}"#;
        let (address, served) = serve(vec![ok(body)]).await;
        let metadata = [("serverAddress", address.as_str()), QUERY[1], QUERY[2], ("awsRegion", "eu-west-1")];
        let keys = [("awsAccessKeyID", "AKID"), ("awsSecretAccessKey", "hunter2"), ("awsSessionToken", "t")];
        Trigger::new(&metadata).auth(&keys).sample::<Prometheus>().await.unwrap();
        let asked = served.await.unwrap().remove(0);
        for part in [
            "authorization: AWS4-HMAC-SHA256 Credential=AKID/",
            "/eu-west-1/aps/aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token",
        ] {
            assert!(asked.contains(part), "{asked}");
        }
        assert!(!asked.contains("hunter2"), "{asked}");
    }
}
