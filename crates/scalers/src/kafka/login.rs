//! Who we are to the brokers, and how connections are encrypted.

use std::hash::Hash;

use reqwest::Url;

use super::cluster::Cluster;
use super::kerberos::{Given, Kerberos};
use super::sasl::Sasl;
use crate::auth::aws::{AwsAuth, Signer};
use crate::auth::tls::{LockedCertificates, Switch};
use crate::auth::tokens::Tokens;
use crate::context::TriggerContext;
use crate::error::BuildError;
use crate::metadata::{Choice, Pairs, Secret, TriggerMetadata};
use crate::net::{Address, host_port};

/// Settings that say who we are.
#[derive(Debug, TriggerMetadata)]
#[trigger(check = Login::check)]
pub(crate) struct Login {
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

impl Login {
    fn check(&self) -> Vec<BuildError> {
        let wrong = |bad: bool, field: &str, what: &str| bad.then(|| BuildError::new(field, what));
        let bears = self.sasl == Mechanism::OAuthBearer;
        let msk = bears && self.sasl_token_provider == Provider::AwsMskIam;
        let kerberos = self.sasl == Mechanism::Gssapi;
        let by_name = self.sasl != Mechanism::None && !msk;
        let by_password = by_name && !kerberos;
        let checks = [
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
    pub(super) fn identity(&self) -> impl Hash {
        let Self { sasl, username, password, tls, unsafe_ssl, certificates, .. } = self;
        let Self { sasl_token_provider, aws_region, aws, oauth_token_endpoint_uri, scopes, oauth_extensions, .. } =
            self;
        let tokens = (sasl_token_provider, aws_region, aws, oauth_token_endpoint_uri, scopes, oauth_extensions);
        (sasl, username, password, tokens, self.tickets(), tls, unsafe_ssl, certificates)
    }

    /// What decides which tickets of Kerberos there are.
    fn tickets(&self) -> impl Hash {
        let Self { username, password, keytab, realm, kerberos_config, kerberos_service_name, .. } = self;
        (username, password, keytab, realm, kerberos_config, kerberos_service_name)
    }

    /// Where to begin, and who we are.
    ///
    /// # Errors
    /// What concerns several settings, or cannot be done.
    pub(super) fn cluster(&self, bootstrap: &[String], context: &TriggerContext<'_>) -> Result<Cluster, BuildError> {
        const FIELD: &str = "bootstrapServers";
        let tls = match self.tls {
            Switch::Enable => Some(self.certificates.open()?.shared_config(!self.unsafe_ssl)?),
            Switch::Disable => None,
        };
        let address = |text: &String| match host_port(text, None) {
            Ok((host, port)) => Ok(Address { setting: FIELD, host, port, tls: tls.clone() }),
            Err(what) => Err(BuildError::new(FIELD, what)),
        };
        let bootstrap = bootstrap.iter().map(address).collect::<Result<_, _>>()?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Kafka;
    use crate::http::{HTTP_TIMEOUT, Http};
    use crate::testing::{Trigger, refusal};

    const PLACE: [(&str, &str); 2] = [("bootstrapServers", "a:9092,b:9092"), ("consumerGroup", "my.group")];

    fn wrong(more: &[(&str, &str)]) -> Vec<String> {
        refusal::<Kafka>(&[&PLACE[..], more].concat())
    }

    #[test]
    fn a_broker_has_a_port() {
        assert_eq!(refusal::<Kafka>(&[("bootstrapServers", "a"), PLACE[1]]), ["bootstrapServers"]);
    }

    #[test]
    fn a_login_needs_its_parameters() {
        assert_eq!(wrong(&[("sasl", "plaintext")]), ["authenticationRef username", "authenticationRef password"]);
        let bearer = Trigger::new(&PLACE).auth(&[("sasl", "oauthbearer"), ("username", "u"), ("password", "p")]);
        assert_eq!(bearer.build::<Kafka>().expect_err("no address").field, "authenticationRef oauthTokenEndpointUri");
        let scram = Trigger::new(&PLACE).auth(&[("sasl", "scram_sha512"), ("username", "u"), ("password", "hunter2")]);
        let connected = scram.connect::<Kafka>().unwrap();
        assert!(!format!("{connected:?}").contains("hunter2"));
    }

    #[test]
    fn kerberos_needs_a_name_a_secret_and_its_configuration() {
        let refused = |auth: &[(&str, &str)]| -> Vec<String> {
            let trigger = Trigger::new(&PLACE).auth(&[&[("sasl", "gssapi")], auth].concat());
            trigger.build::<Kafka>().expect_err("incomplete").each().map(|(field, _)| field.to_owned()).collect()
        };
        let [keytab, config] = ["authenticationRef keytab", "authenticationRef kerberosConfig"];
        assert_eq!(refused(&[]), [keytab, config, "authenticationRef username"]);
        let [user, password] = [("username", "keda"), ("password", "hunter2")];
        let conf = ("kerberosConfig", "[libdefaults]\ndefault_realm = R\n[realms]\nR = {\nkdc = kdc.example.com\n}");
        assert_eq!(refused(&[user, password, ("keytab", "BQI="), conf]), [keytab]);
        assert_eq!(refused(&[user, ("keytab", "BQI="), conf]), [keytab]);
        assert_eq!(refused(&[user, password, ("kerberosConfig", "[realms]")]), [config]);
        assert_eq!(refused(&[user, password, conf, ("realm", "OTHER")]), [config]);
        let fast = |text| ("kerberosDisableFAST", text);
        assert_eq!(refused(&[user, password, conf, fast("maybe")]), ["authenticationRef kerberosDisableFAST"]);
        let whole = [("sasl", "gssapi"), user, password, conf, fast("true"), ("realm", "R")];
        let connected = Trigger::new(&PLACE).auth(&whole).connect::<Kafka>().unwrap();
        assert!(!format!("{connected:?}").contains("hunter2"));
    }

    #[test]
    fn triggers_that_log_in_as_the_same_share_tickets() {
        let http = Arc::new(Http::new(HTTP_TIMEOUT));
        let conf = ("kerberosConfig", "[libdefaults]\ndefault_realm = R\n[realms]\nR = {\nkdc = kdc.example.com\n}");
        let trigger = |servers, password| {
            let auth = [("sasl", "gssapi"), ("username", "keda"), ("password", password), conf];
            Trigger::new(&[("bootstrapServers", servers), PLACE[1]])
                .auth(&auth)
                .sharing(&http)
                .connect::<Kafka>()
                .unwrap()
        };
        let mut all = Vec::new();
        // Connections and tickets; the tickets are good for another cluster, too.
        for (servers, password, shared) in
            [("a:9092", "hunter2", 2), ("a:9092", "hunter2", 2), ("b:9092", "hunter2", 3), ("a:9092", "hunter3", 5)]
        {
            all.push(trigger(servers, password));
            assert_eq!(http.shared.count().0, shared, "{servers} {password}");
        }
    }

    #[test]
    fn msk_needs_a_region_encryption_and_credentials_of_aws() {
        let msk = [("sasl", "oauthbearer"), ("saslTokenProvider", "aws_msk_iam"), ("awsRegion", "eu-west-1")];
        assert_eq!(wrong(&msk[..2]), ["awsRegion", "tls"]);
        assert_eq!(wrong(&[&msk[..], &[("tls", "enable")]].concat()), ["authenticationRef"]);
        let whole = [&PLACE[..], &msk, &[("tls", "enable")]].concat();
        let keys = [("awsAccessKeyID", "AKID"), ("awsSecretAccessKey", "hunter2")];
        let connected = Trigger::new(&whole).auth(&keys).connect::<Kafka>().unwrap();
        assert!(!format!("{connected:?}").contains("hunter2"));
    }
}
