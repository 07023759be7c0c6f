//! `etcd`: the number under one key.
//!
//! Read through the JSON gateway that etcd's client port serves beside gRPC.
//!
//! Differs from KEDA: the value is polled, like that of any other source; nothing is pushed between polls, so
//! `watchProgressNotifyInterval` has no effect. A key that is not there is an error, never 0.

mod gateway;

use async_trait::async_trait;
use reqwest::{Client, Url};

use crate::auth::tls::{Certificates, Switch};
use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::members::Members;
use crate::metadata::{Number, Secret, TriggerMetadata};
use crate::source::{Connected, Reading, Source};

/// The number under one key of an etcd cluster.
#[derive(Debug, TriggerMetadata)]
#[trigger(ignored("watchProgressNotifyInterval", "the key is polled and not watched, so it has no effect"))]
pub(crate) struct Settings {
    /// Addresses of the members' client ports; they are tried in turn. Without a scheme, `http://` (`https://` with TLS).
    #[param(required)]
    endpoints: Vec<String>,
    /// The key.
    watch_key: String,
    /// The value one replica should have.
    #[param(above = "0")]
    value: Number,
    /// Active when the number is above this.
    #[param(default = "0")]
    activation_value: Number,
    /// User name, when the cluster asks for one.
    #[param(from(auth))]
    username: Option<String>,
    /// Password of that user.
    #[param(from(auth))]
    password: Option<Secret>,
    /// Whether the connection uses the certificates below.
    #[param(from(auth), default = "disable")]
    tls: Switch,
    #[param(nested)]
    certificates: Certificates,
}

/// One key of an etcd cluster.
#[derive(Debug)]
pub(crate) struct Etcd {
    members: Members,
    key: String,
    login: Option<(String, Secret)>,
    client: Client,
}

#[async_trait]
impl Source for Etcd {
    type Settings = Settings;
    const LABEL: &'static str = "etcdScaler";

    fn connect(settings: Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError> {
        let (scheme, client) = match settings.tls {
            Switch::Disable => ("http", context.http.client(true)?),
            Switch::Enable => {
                let certificates = settings.certificates;
                ("https", certificates.client(context.http, true, certificates.is_pair())?)
            }
        };
        let url = |text: &String| {
            let text = if text.contains("://") { text.clone() } else { format!("{scheme}://{text}") };
            Url::parse(&text).map_err(|error| BuildError::new("endpoints", format!("{text:?} is not a URL: {error}")))
        };
        let members = settings.endpoints.iter().map(url).collect::<Result<_, _>>()?;
        let source = Self {
            members: Members::new(members, context),
            key: settings.watch_key.clone(),
            login: settings.username.zip(settings.password),
            client,
        };
        let name = format!("etcd-{}", settings.watch_key);
        Ok(Connected::new(context, source, name, settings.value, settings.activation_value))
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        self.members.first(|member| self.ask(member)).await
    }
}

impl Etcd {
    async fn ask(&self, member: &Url) -> Result<Reading, ScalerError> {
        let token = match &self.login {
            Some(login) => Some(gateway::token(&self.client, member, login).await?),
            None => None,
        };
        gateway::number(&self.client, member, token.as_deref(), &self.key).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{metric_name, refusal};

    #[test]
    fn the_metric_is_named_after_the_key() {
        let metadata = [("endpoints", "a:2379,https://b:2379"), ("watchKey", "q/len"), ("value", "5")];
        assert_eq!(metric_name::<Etcd>(&metadata), "s0-etcd-q-len");
        assert_eq!(refusal::<Etcd>(&[("endpoints", "http://[")]), ["watchKey", "value"]);
        assert_eq!(refusal::<Etcd>(&[("endpoints", "http://["), metadata[1], metadata[2]]), ["endpoints"]);
    }
}
