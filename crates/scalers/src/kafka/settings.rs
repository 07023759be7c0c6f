//! What may be written.

use std::hash::Hash;

use reqwest::Url;

use super::cluster::Cluster;
use super::kerberos::{Given, Kerberos};
use super::lag::{Limit, Policy};
use super::sasl::Sasl;
use crate::auth::aws::{AwsAuth, Signer};
use crate::auth::tls::{LockedCertificates, Switch};
use crate::auth::tokens::Tokens;
use crate::context::TriggerContext;
use crate::error::BuildError;
use crate::metadata::{Choice, Pairs, Secret, TriggerMetadata};
use crate::net::{Address, host_port};

/// How far a Kafka consumer group lags behind: messages in the log that it has not committed.
///
/// More replicas than partitions are not asked for, unless `allowIdleConsumers` is `true`.
#[derive(Debug, TriggerMetadata)]
#[trigger(
    ignored("version", "requests are made in versions that every broker since 0.11 understands, so it has no effect"),
    ignored("fullMetadata", "only the topics in question are asked for, so it has no effect"),
    check = Settings::check
)]
pub(crate) struct Settings {
    /// Brokers to begin with, each `host:9092`; they are tried in turn.
    #[param(from(metadata, env), required)]
    bootstrap_servers: Vec<String>,
    /// The consumer group.
    #[param(from(metadata, env))]
    pub(super) consumer_group: String,
    /// The topic. Without it, all topics count in which the group has committed offsets.
    #[param(from(metadata, env))]
    pub(super) topic: Option<String>,
    /// Partitions that count; all of the topic otherwise.
    #[param(at_least = "0", ranges)]
    pub(super) partition_limitation: Vec<i64>,
    /// By how many messages one replica may lag behind.
    #[param(default = "10", at_least = "1")]
    pub(super) lag_threshold: i64,
    /// Active when the lag is above this.
    #[param(default = "0", at_least = "0")]
    activation_lag_threshold: i64,
    /// Where the group begins in a partition in which it has committed nothing: `latest` lags by one message, `earliest`
    /// by the whole log.
    #[param(default = "latest")]
    offset_reset_policy: Reset,
    /// Ask for more replicas than there are partitions, if the lag is that large.
    #[param(default = "false")]
    allow_idle_consumers: bool,
    /// A partition in which the group has committed nothing does not lag.
    #[param(default = "false")]
    scale_to_zero_on_invalid_offset: bool,
    /// A partition whose committed offset has not moved since the last reading does not count for the replicas, only for
    /// whether the trigger is active.
    #[param(default = "false")]
    exclude_persistent_lag: bool,
    /// Ask for no more replicas than there are partitions with a lag.
    #[param(default = "false")]
    limit_to_partitions_with_lag: bool,
    /// Ask for as many replicas as divide the partitions evenly.
    #[param(default = "false")]
    ensure_even_distribution_of_partitions: bool,
    /// How to log in.
    #[param(from(auth, metadata), default = "none")]
    sasl: Mechanism,
    /// User name; with `oauthbearer`, the client's id; with `gssapi`, the client's name in its realm.
    #[param(from(auth))]
    username: Option<String>,
    /// Password; with `oauthbearer`, the client's secret. `gssapi` needs it or `keytab`.
    #[param(from(auth))]
    password: Option<Secret>,
    /// For `gssapi`: the content of a keytab that has a key of AES for `username`, as it is in a Secret or in base64.
    #[param(from(auth))]
    keytab: Option<Secret>,
    /// For `gssapi`: the realm of client and brokers; the `default_realm` of `kerberosConfig` if it is not given.
    #[param(from(auth))]
    realm: Option<String>,
    /// For `gssapi`: the content of a `krb5.conf`. Its `default_realm` and the `kdc` lines of the realm have an effect;
    /// these KDCs are asked over TCP, and none is looked for in DNS.
    #[param(from(auth))]
    kerberos_config: Option<String>,
    /// For `gssapi`: the first part of the brokers' names in Kerberos; the second is the host by which a broker is reached.
    #[param(from(auth), default = "kafka")]
    kerberos_service_name: String,
    /// For `gssapi`: has no effect. FAST is never used, as if this were `true`; a KDC that insists on it refuses us.
    #[param(name = "kerberosDisableFAST", from(auth), default = "false")]
    #[expect(dead_code, reason = "there is nothing to switch off")]
    kerberos_disable_fast: bool,
    /// Where the token of `oauthbearer` comes from: `bearer` gets it at `oauthTokenEndpointUri`, `aws_msk_iam` makes it of
    /// credentials of AWS, for Amazon MSK.
    #[param(from(metadata, auth), default = "bearer")]
    sasl_token_provider: Provider,
    /// Region of the cluster, for `aws_msk_iam`.
    aws_region: Option<String>,
    #[param(nested)]
    aws: AwsAuth,
    /// Where `oauthbearer` gets its token.
    #[param(from(auth))]
    oauth_token_endpoint_uri: Option<Url>,
    /// Scopes that the token should have.
    #[param(from(auth))]
    scopes: Vec<String>,
    /// What else the broker wants to be told with the token.
    #[param(from(auth))]
    oauth_extensions: Pairs,
    /// Whether connections are encrypted, with the certificates below if there are any.
    #[param(from(auth, metadata), default = "disable")]
    tls: Switch,
    /// Do not verify the brokers' certificates.
    #[param(default = "false")]
    unsafe_ssl: bool,
    #[param(nested)]
    certificates: LockedCertificates,
}

/// Where a group begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Choice)]
pub(super) enum Reset {
    #[value("latest")]
    Latest,
    #[value("earliest")]
    Earliest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Choice)]
enum Mechanism {
    #[value("none")]
    None,
    #[value("plaintext")]
    Plain,
    #[value("scram_sha256")]
    ScramSha256,
    #[value("scram_sha512")]
    ScramSha512,
    #[value("oauthbearer")]
    OAuthBearer,
    #[value("gssapi")]
    Gssapi,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Choice)]
enum Provider {
    #[value("bearer")]
    Bearer,
    #[value("aws_msk_iam")]
    AwsMskIam,
}

impl Settings {
    fn check(&self) -> Vec<BuildError> {
        let wrong = |bad: bool, field: &str, what: &str| bad.then(|| BuildError::new(field, what));
        let (limited, even) = (self.limit_to_partitions_with_lag, self.ensure_even_distribution_of_partitions);
        let bears = self.sasl == Mechanism::OAuthBearer;
        let msk = bears && self.sasl_token_provider == Provider::AwsMskIam;
        let kerberos = self.sasl == Mechanism::Gssapi;
        let by_name = self.sasl != Mechanism::None && !msk;
        let by_password = by_name && !kerberos;
        let checks = [
            wrong(limited && self.topic.is_none(), "limitToPartitionsWithLag", "needs a topic"),
            wrong(limited && self.allow_idle_consumers, "limitToPartitionsWithLag", "excludes allowIdleConsumers"),
            wrong(even && self.topic.is_none(), "ensureEvenDistributionOfPartitions", "needs a topic"),
            wrong(even && limited, "ensureEvenDistributionOfPartitions", "excludes limitToPartitionsWithLag"),
            wrong(
                !self.partition_limitation.is_empty() && self.topic.is_none(),
                "partitionLimitation",
                "needs a topic",
            ),
            wrong(
                kerberos && self.password.is_some() == self.keytab.is_some(),
                "authenticationRef keytab",
                "or password, one of both, is required by gssapi",
            ),
            wrong(
                kerberos && self.kerberos_config.is_none(),
                "authenticationRef kerberosConfig",
                "is required by gssapi",
            ),
            wrong(msk && self.aws_region.is_none(), "awsRegion", "is required by aws_msk_iam"),
            wrong(msk && self.tls != Switch::Enable, "tls", "must be enable with aws_msk_iam"),
            wrong(by_name && self.username.is_none(), "authenticationRef username", "is required by sasl"),
            wrong(by_password && self.password.is_none(), "authenticationRef password", "is required by sasl"),
            wrong(
                bears && !msk && self.oauth_token_endpoint_uri.is_none(),
                "authenticationRef oauthTokenEndpointUri",
                "is required by oauthbearer",
            ),
        ];
        checks.into_iter().flatten().collect()
    }

    /// What decides what a connection may see.
    pub(super) fn login(&self) -> impl Hash {
        let Self { bootstrap_servers, sasl, username, password, tls, unsafe_ssl, certificates, .. } = self;
        let Self { sasl_token_provider, aws_region, aws, oauth_token_endpoint_uri, scopes, oauth_extensions, .. } =
            self;
        let tokens = (sasl_token_provider, aws_region, aws, oauth_token_endpoint_uri, scopes, oauth_extensions);
        (bootstrap_servers, sasl, username, password, tokens, self.tickets(), tls, unsafe_ssl, certificates)
    }

    /// What decides which tickets of Kerberos there are.
    fn tickets(&self) -> impl Hash {
        let Self { username, password, keytab, realm, kerberos_config, kerberos_service_name, .. } = self;
        (username, password, keytab, realm, kerberos_config, kerberos_service_name)
    }

    pub(super) fn policy(&self) -> Policy {
        Policy {
            threshold: self.lag_threshold,
            activation: self.activation_lag_threshold,
            reset: self.offset_reset_policy,
            zero_without_commit: self.scale_to_zero_on_invalid_offset,
            without_persistent: self.exclude_persistent_lag,
            limit: match (self.allow_idle_consumers, self.limit_to_partitions_with_lag) {
                (_, true) => Limit::PartitionsWithLag,
                (true, _) => Limit::None,
                _ => Limit::Partitions,
            },
            even: self.ensure_even_distribution_of_partitions,
        }
    }

    pub(super) fn cluster(&self, context: &TriggerContext<'_>) -> Result<Cluster, BuildError> {
        const FIELD: &str = "bootstrapServers";
        let tls = match self.tls {
            Switch::Enable => Some(self.certificates.open()?.shared_config(!self.unsafe_ssl)?),
            Switch::Disable => None,
        };
        let address = |text: &String| match host_port(text, None) {
            Ok((host, port)) => Ok(Address { setting: FIELD, host, port, tls: tls.clone() }),
            Err(what) => Err(BuildError::new(FIELD, what)),
        };
        let bootstrap = self.bootstrap_servers.iter().map(address).collect::<Result<_, _>>()?;
        Ok(Cluster { bootstrap, sasl: self.sasl(context)? })
    }

    fn sasl(&self, context: &TriggerContext<'_>) -> Result<Option<Sasl>, BuildError> {
        let user = self.username.clone().unwrap_or_default();
        let password = self.password.clone().unwrap_or_else(|| "".into());
        Ok(Some(match self.sasl {
            Mechanism::None => return Ok(None),
            Mechanism::Gssapi => {
                let given = Given {
                    username: &user,
                    password: self.password.as_ref(),
                    keytab: self.keytab.as_ref(),
                    realm: self.realm.as_deref(),
                    kerberos_config: self.kerberos_config.as_deref().unwrap_or_default(),
                    service: &self.kerberos_service_name,
                };
                Sasl::Kerberos(context.shared(&self.tickets(), || Kerberos::new(&given))?)
            }
            Mechanism::Plain => Sasl::Plain { user, password },
            Mechanism::ScramSha256 => Sasl::Scram { hash: super::scram::Hash::Sha256, user, password },
            Mechanism::ScramSha512 => Sasl::Scram { hash: super::scram::Hash::Sha512, user, password },
            Mechanism::OAuthBearer if self.sasl_token_provider == Provider::AwsMskIam => {
                let region = self.aws_region.clone().unwrap_or_default();
                let keys = self.aws.clone().keys(&region, context)?;
                Sasl::Msk { signer: Box::new(Signer { keys, region, service: "kafka-cluster" }) }
            }
            Mechanism::OAuthBearer => {
                let Some(url) = self.oauth_token_endpoint_uri.clone() else { return Ok(None) };
                let mut form = vec![("grant_type".to_owned(), Secret::from("client_credentials"))];
                if !self.scopes.is_empty() {
                    form.push(("scope".into(), self.scopes.join(" ").as_str().into()));
                }
                let place = ("oauthTokenEndpointUri", url);
                let tokens = Tokens::client(context.http.client(true)?, place, form, (user, password));
                Sasl::Bearer { tokens: Box::new(tokens), extensions: self.oauth_extensions.clone() }
            }
        }))
    }
}
