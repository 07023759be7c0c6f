//! What a TriggerAuthentication asks for in the cluster, and the parameters that come of it. Pure.
//!
//! Sources are laid over each other in KEDA's order: environment, ConfigMaps, Secrets, then what is outside the cluster
//! (see [`stores`](super::stores)), tokens of service accounts, OAuth 2.

use std::collections::{BTreeMap, BTreeSet};

use api::keda::{AuthPodIdentity, AuthTargetRef, OAuth2, SecretValue, TriggerAuthenticationSpec};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use scalers::Identity;

use super::found::{Failure, Found, Reference, References};

/// Parameters by name. Values are secrets.
pub(crate) type Parameters = BTreeMap<String, String>;

/// A container's name, or nothing for the one that the scaled object says; and variables of its environment.
pub(crate) type Wanted = BTreeMap<Option<String>, BTreeSet<String>>;

/// The variables of each container that were wanted and are there.
pub(crate) type Environments = BTreeMap<Option<String>, BTreeMap<String, String>>;

/// The environment variables that an authentication asks for.
pub(crate) fn wanted(spec: &TriggerAuthenticationSpec) -> Wanted {
    let mut wanted = Wanted::new();
    for variable in &spec.env {
        let container = variable.container_name.clone().filter(|name| !name.is_empty());
        wanted.entry(container).or_default().insert(variable.name.clone());
    }
    wanted
}

/// The Secrets and ConfigMaps that an authentication names, all in one namespace.
pub(crate) fn references(spec: &TriggerAuthenticationSpec, namespace: &str) -> References {
    let secrets = spec.secret_target_ref.iter().map(|target| Reference::secret(namespace, &target.name));
    let maps = spec.config_map_target_ref.iter().map(|target| Reference::config_map(namespace, &target.name));
    let of_value = |value: &SecretValue| Reference::secret(namespace, &value.value_from.secret_key_ref.name);
    let mut values = Vec::new();
    values.extend(spec.oauth2.iter().map(|oauth| of_value(&oauth.client_secret)));
    let azure = spec.azure_key_vault.iter().filter_map(|vault| vault.credentials.as_ref());
    values.extend(azure.map(|credentials| of_value(&credentials.client_secret)));
    let google = spec.gcp_secret_manager.iter().filter_map(|manager| manager.credentials.as_ref());
    values.extend(google.map(|credentials| of_value(&credentials.client_secret)));
    for credentials in spec.aws_secret_manager.iter().filter_map(|manager| manager.credentials.as_ref()) {
        values.extend([of_value(&credentials.access_key), of_value(&credentials.access_secret_key)]);
        values.extend(credentials.access_token.as_ref().map(of_value));
    }
    secrets.chain(maps).chain(values).collect()
}

/// The one parameter that may be no text; triggers take it in base64, too.
const KEYTAB: &str = "keytab";

/// The parameters that come from the cluster's own objects. `environments` has what was [`wanted`].
///
/// # Errors
/// All that is missing, each named.
pub(crate) fn from_cluster(
    spec: &TriggerAuthenticationSpec,
    namespace: &str,
    environments: &Environments,
    found: &Found,
) -> Result<Parameters, Failure> {
    let mut layers = Layers::of_environment(spec, environments);
    let read = |reference: Reference, target: &AuthTargetRef| match target.parameter.as_str() {
        KEYTAB => found.keytab(&reference, &target.key),
        _ => found.text(&reference, &target.key),
    };
    for target in &spec.config_map_target_ref {
        layers.add(&target.parameter, read(Reference::config_map(namespace, &target.name), target));
    }
    for target in &spec.secret_target_ref {
        layers.add(&target.parameter, read(Reference::secret(namespace, &target.name), target));
    }
    layers.end()
}

/// The parameters that come from environments alone.
///
/// # Errors
/// All that is missing, each named.
pub(crate) fn from_environment(
    spec: &TriggerAuthenticationSpec,
    environments: &Environments,
) -> Result<Parameters, Failure> {
    Layers::of_environment(spec, environments).end()
}

/// The parameters of `oauth2`.
///
/// # Errors
/// The client's secret is not there.
pub(crate) fn oauth(oauth: &OAuth2, namespace: &str, found: &Found) -> Result<Parameters, Failure> {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let more = oauth.token_url_params.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    let mut parameters: Parameters = [
        ("oauthTokenURI", oauth.token_url.clone()),
        ("clientID", oauth.client_id.clone()),
        ("clientSecret", value(&oauth.client_secret, namespace, found)?),
        ("scopes", oauth.scopes.join(",")),
        ("endpointParams", more.collect::<Vec<_>>().join("&")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    parameters.retain(|_, value| !value.is_empty());
    Ok(parameters)
}

/// A value in a Secret.
///
/// # Errors
/// It is not there.
pub(crate) fn value(value: &SecretValue, namespace: &str, found: &Found) -> Result<String, Failure> {
    let key = &value.value_from.secret_key_ref;
    found.text(&Reference::secret(namespace, &key.name), &key.key)
}

/// Whose identity is shown to a cloud; `workload_role` is the role of the scale target's ServiceAccount.
pub(crate) fn identity(identity: Option<&AuthPodIdentity>, workload_role: Option<String>) -> Identity {
    let Some(identity) = identity else { return Identity::None };
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    match identity.provider.as_str() {
        "aws" | "aws-eks" => {
            let role = if is_workloads(identity) { workload_role } else { filled(&identity.role_arn) };
            Identity::Aws { role, external_id: filled(&identity.external_id) }
        }
        "azure-workload" => Identity::Azure {
            client: filled(&identity.identity_id),
            tenant: filled(&identity.identity_tenant_id),
            authority: filled(&identity.identity_authority_host),
        },
        "gcp" => Identity::Gcp,
        _ => Identity::None,
    }
}

/// Whether the role is that of the scale target. `aws-eks`, which is deprecated, means that unless it says otherwise.
pub(crate) fn is_workloads(identity: &AuthPodIdentity) -> bool {
    match (identity.provider.as_str(), identity.identity_owner.as_deref()) {
        ("aws" | "aws-eks", Some("workload")) => true,
        ("aws-eks", None) => identity.role_arn.is_none(),
        _ => false,
    }
}

/// Parameters under construction, and what could not be had.
#[derive(Default)]
struct Layers {
    parameters: Parameters,
    failures: Vec<Failure>,
}

impl Layers {
    fn of_environment(spec: &TriggerAuthenticationSpec, environments: &Environments) -> Self {
        let mut layers = Self::default();
        for variable in &spec.env {
            let container = variable.container_name.clone().filter(|name| !name.is_empty());
            let value = environments.get(&container).and_then(|environment| environment.get(&variable.name));
            let missing = || {
                let place = container.as_ref().map(|name| format!(" {name:?}")).unwrap_or_default();
                let name = &variable.name;
                Failure::Missing(format!("the scale target's container{place} has no environment variable {name:?}"))
            };
            layers.add(&variable.parameter, value.cloned().ok_or_else(missing));
        }
        layers
    }

    /// A later value of a parameter replaces an earlier one.
    fn add(&mut self, parameter: &str, value: Result<String, Failure>) {
        match value {
            Ok(value) => drop(self.parameters.insert(parameter.to_owned(), value)),
            Err(failure) => self.failures.push(failure),
        }
    }

    fn end(self) -> Result<Parameters, Failure> {
        match Failure::join(&self.failures) {
            Some(failure) => Err(failure),
            None => Ok(self.parameters),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::found::{Kind, found};
    use super::*;

    fn spec(spec: serde_json::Value) -> TriggerAuthenticationSpec {
        serde_json::from_value(spec).unwrap()
    }

    fn target(parameter: &str, name: &str, key: &str) -> serde_json::Value {
        json!({"parameter": parameter, "name": name, "key": key})
    }

    #[test]
    fn secrets_beat_config_maps_and_these_the_environment() {
        let spec = spec(json!({
            "env": [{"parameter": "a", "name": "V"}, {"parameter": "b", "name": "V"}, {"parameter": "c", "name": "V"}],
            "configMapTargetRef": [target("b", "o", "k"), target("c", "o", "k")],
            "secretTargetRef": [target("c", "o", "k")],
        }));
        let environment = BTreeMap::from([(None, BTreeMap::from([("V".to_owned(), "env".to_owned())]))]);
        let found = found(&[(Kind::Secret, "o", &[("k", "secret")]), (Kind::ConfigMap, "o", &[("k", "map")])]);
        let parameters = from_cluster(&spec, "web", &environment, &found).unwrap();
        let parameters: Vec<_> = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(parameters, [("a", "env"), ("b", "map"), ("c", "secret")]);
    }

    #[test]
    fn a_keytab_in_a_secret_is_handed_on_as_text() {
        let spec = spec(json!({"secretTargetRef": [target("keytab", "o", "k"), target("a", "o", "k")]}));
        let found = found(&[(Kind::Secret, "o", &[("k", "\u{5}\u{2}")])]);
        let parameters = from_cluster(&spec, "web", &BTreeMap::new(), &found).unwrap();
        assert_eq!((parameters["keytab"].as_str(), parameters["a"].as_str()), ("BQI=", "\u{5}\u{2}"));
    }

    #[test]
    fn all_that_is_missing_is_said_at_once() {
        let spec = spec(json!({
            "env": [{"parameter": "a", "name": "V", "containerName": "side"}],
            "secretTargetRef": [target("b", "o", "wrong"), target("c", "o", "k")],
        }));
        let found = found(&[(Kind::Secret, "o", &[("k", "secret")])]);
        let said = from_cluster(&spec, "web", &BTreeMap::new(), &found).unwrap_err().to_string();
        assert_eq!(
            said,
            "the scale target's container \"side\" has no environment variable \"V\"; Secret web/o has no key \"wrong\""
        );
    }

    #[test]
    fn what_is_asked_for_is_what_is_named() {
        let value = |name: &str| json!({"valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}});
        let spec = spec(json!({
            "env": [{"parameter": "a", "name": "V"}, {"parameter": "b", "name": "W", "containerName": "side"}],
            "configMapTargetRef": [target("b", "map", "k")],
            "secretTargetRef": [target("c", "one", "k"), target("d", "one", "l")],
            "oauth2": {"clientId": "id", "tokenUrl": "http://t", "clientSecret": value("oauth")},
            "awsSecretManager": {"secrets": [], "credentials": {
                "accessKey": value("aws"), "accessSecretKey": value("aws"), "accessToken": value("aws-token")}},
        }));
        let names: Vec<String> = references(&spec, "web").iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            ["Secret web/aws", "Secret web/aws-token", "Secret web/oauth", "Secret web/one", "ConfigMap web/map"]
        );
        let wanted = wanted(&spec);
        assert_eq!(wanted.keys().cloned().collect::<Vec<_>>(), [None, Some("side".to_owned())]);
    }

    #[test]
    fn oauth_becomes_the_parameters_of_http_triggers() {
        let oauth2: OAuth2 = serde_json::from_value(json!({
            "clientId": "id", "tokenUrl": "http://t", "scopes": ["a", "b"], "tokenUrlParams": {"aud": "x&y"},
            "clientSecret": {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        }))
        .unwrap();
        let parameters = oauth(&oauth2, "web", &found(&[(Kind::Secret, "s", &[("k", "secret")])])).unwrap();
        let wanted = [
            ("clientID", "id"),
            ("clientSecret", "secret"),
            ("endpointParams", "aud=x%26y"),
            ("oauthTokenURI", "http://t"),
            ("scopes", "a,b"),
        ];
        assert_eq!(parameters, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn a_role_is_given_or_the_workloads() {
        let of = |value: serde_json::Value| -> AuthPodIdentity { serde_json::from_value(value).unwrap() };
        let role = |written: serde_json::Value| match identity(Some(&of(written)), Some("workload".into())) {
            Identity::Aws { role, .. } => role,
            other => panic!("{other:?}"),
        };
        assert_eq!(role(json!({"provider": "aws"})), None);
        assert_eq!(role(json!({"provider": "aws", "roleArn": "r"})), Some("r".into()));
        assert_eq!(role(json!({"provider": "aws", "identityOwner": "workload"})), Some("workload".into()));
        assert_eq!(role(json!({"provider": "aws-eks"})), Some("workload".into()));
        assert_eq!(role(json!({"provider": "aws-eks", "identityOwner": "keda"})), None);
        assert_eq!(identity(Some(&of(json!({"provider": "none"}))), None), Identity::None);
        assert_eq!(identity(Some(&of(json!({"provider": "gcp"}))), None), Identity::Gcp);
    }
}
