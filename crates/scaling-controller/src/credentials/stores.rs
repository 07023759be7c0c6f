//! Parameters from secret stores outside the cluster, each asked as often as its answers last.

use std::collections::BTreeMap;
use std::path::{Component, Path};
use std::sync::Arc;

use api::keda::{
    AwsSecretManager, AzureKeyVault, AzureKeyVaultCloud, GcpSecretManager, HashiCorpVault, VaultPkiData,
    VaultSecret as WrittenVaultSecret,
};
use scalers::stores::{
    AwsKeys, AwsSecret, AwsSecrets, AzureCloud, AzureKeys, AzureSecret, AzureVault, GoogleKeys, GoogleSecret,
    GoogleSecrets, Stored, Vault, VaultKind, VaultSecret,
};
use scalers::{Http, Identity, ScalerError};

use super::found::{Failure, Found};
use super::kept::Kept;
use super::objects::Objects;
use super::parameters::{self, Parameters};

/// The token of the program's own ServiceAccount.
const OWN_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// Where files with tokens may be. A TriggerAuthentication names the file and the server it is shown to, so that any other
/// file of this program must not be read.
const TOKEN_FOLDERS: [&str; 2] = ["/var/run/secrets", "/run/secrets"];

/// The stores, and what they said last.
pub(super) struct Stores {
    http: Arc<Http>,
    logins: Kept<Login, String>,
    vaults: Kept<(Vault, String, Vec<VaultSecret>), Parameters>,
    aws: Kept<(AwsSecrets, OwnedKeys), Parameters>,
    azure: Kept<(AzureVault, Application), Parameters>,
    google: Kept<(GoogleSecrets, Option<String>), Parameters>,
}

/// A login at Vault with the token of a ServiceAccount.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Login {
    vault: Vault,
    mount: String,
    role: String,
    jwt: String,
}

/// Who asks an Azure Key Vault.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Application {
    Registered { tenant: String, client: String, secret: String },
    Workload { client: Option<String>, tenant: Option<String>, authority: Option<String> },
}

/// What requests to AWS are signed with.
#[derive(Clone, PartialEq, Eq, Hash)]
enum OwnedKeys {
    Given { id: String, secret: String, token: Option<String> },
    Role { role: Option<String>, external_id: Option<String> },
}

impl Stores {
    pub(super) fn new(http: Arc<Http>) -> Self {
        Self {
            http,
            logins: Kept::new(),
            vaults: Kept::new(),
            aws: Kept::new(),
            azure: Kept::new(),
            google: Kept::new(),
        }
    }

    /// What HashiCorp Vault has.
    pub(super) async fn vault(
        &self,
        written: &HashiCorpVault,
        namespace: &str,
        objects: &Objects,
    ) -> Result<Parameters, Failure> {
        let vault = Vault { address: written.address.clone(), namespace: written.namespace.clone() };
        let secrets = written.secrets.iter().map(vault_secret).collect::<Result<Vec<_>, _>>()?;
        let login = login(&vault, written, namespace, objects).await?;
        let token = match &login {
            Access::Token(token) => token.clone(),
            Access::Login(login) => {
                let Login { vault, mount, role, jwt } = login;
                let ask = async { vault.login(&self.http, mount, role, jwt).await.map_err(|error| failure(&error)) };
                self.logins.get(login.clone(), ask).await?
            }
        };
        let ask = async { kept(vault.read(&self.http, &token, &secrets).await) };
        let read = self.vaults.get((vault.clone(), token.clone(), secrets.clone()), ask).await;
        if let (Err(Failure::Refused(_)), Access::Login(login)) = (&read, &login) {
            // The token may have been revoked; the next poll asks for another one.
            self.logins.forget(login).await;
        }
        read
    }

    /// What AWS Secrets Manager has.
    pub(super) async fn aws(
        &self,
        written: &AwsSecretManager,
        identity: Identity,
        namespace: &str,
        found: &Found,
    ) -> Result<Parameters, Failure> {
        let keys = match (&written.credentials, identity) {
            (Some(credentials), _) => OwnedKeys::Given {
                id: parameters::value(&credentials.access_key, namespace, found)?,
                secret: parameters::value(&credentials.access_secret_key, namespace, found)?,
                token: match &credentials.access_token {
                    Some(token) => Some(parameters::value(token, namespace, found)?),
                    None => None,
                },
            },
            (None, Identity::Aws { role, external_id }) => OwnedKeys::Role { role, external_id },
            (None, _) => {
                let what = "awsSecretManager needs credentials or the podIdentity aws";
                return Err(Failure::Refused(what.into()));
            }
        };
        let secrets = AwsSecrets {
            region: region(written)?,
            endpoint: variable("AWS_ENDPOINT_URL_SECRETS_MANAGER").or_else(|| variable("AWS_ENDPOINT_URL")),
            secrets: written.secrets.iter().map(aws_secret).collect(),
        };
        let ask = async {
            let identity;
            let with = match &keys {
                OwnedKeys::Given { id, secret, token } => AwsKeys::Given { id, secret, token: token.as_deref() },
                OwnedKeys::Role { role, external_id } => {
                    identity = Identity::Aws { role: role.clone(), external_id: external_id.clone() };
                    AwsKeys::Identity(&identity)
                }
            };
            kept(secrets.read(&self.http, with).await)
        };
        self.aws.get((secrets.clone(), keys.clone()), ask).await
    }
}

impl Stores {
    /// What Azure Key Vault has.
    pub(super) async fn azure(
        &self,
        written: &AzureKeyVault,
        identity: Identity,
        namespace: &str,
        found: &Found,
    ) -> Result<Parameters, Failure> {
        let application = match (&written.credentials, identity) {
            (Some(credentials), _) => Application::Registered {
                tenant: credentials.tenant_id.clone(),
                client: credentials.client_id.clone(),
                secret: parameters::value(&credentials.client_secret, namespace, found)?,
            },
            (None, Identity::Azure { client, tenant, authority }) => {
                Application::Workload { client, tenant, authority }
            }
            (None, _) => {
                let what = "azureKeyVault needs credentials or the podIdentity azure-workload";
                return Err(Failure::Refused(what.into()));
            }
        };
        let secret = |secret: &api::keda::AzureKeyVaultSecret| AzureSecret {
            parameter: secret.parameter.clone(),
            name: secret.name.clone(),
            version: secret.version.clone(),
        };
        let vault = AzureVault {
            uri: written.vault_uri.clone(),
            cloud: azure_cloud(written.cloud.as_ref())?,
            secrets: written.secrets.iter().map(secret).collect(),
        };
        let ask = async {
            let identity;
            let with = match &application {
                Application::Registered { tenant, client, secret } => AzureKeys::Application { tenant, client, secret },
                Application::Workload { client, tenant, authority } => {
                    let (client, tenant, authority) = (client.clone(), tenant.clone(), authority.clone());
                    identity = Identity::Azure { client, tenant, authority };
                    AzureKeys::Identity(&identity)
                }
            };
            kept(vault.read(&self.http, with).await)
        };
        self.azure.get((vault.clone(), application.clone()), ask).await
    }

    /// What Google Secret Manager has.
    pub(super) async fn google(
        &self,
        written: &GcpSecretManager,
        identity: &Identity,
        namespace: &str,
        found: &Found,
    ) -> Result<Parameters, Failure> {
        let key = match &written.credentials {
            Some(credentials) => Some(parameters::value(&credentials.client_secret, namespace, found)?),
            None if *identity == Identity::Gcp => None,
            None => {
                let what = "gcpSecretManager needs credentials or the podIdentity gcp";
                return Err(Failure::Refused(what.into()));
            }
        };
        let secret = |secret: &api::keda::GcpSecret| GoogleSecret {
            parameter: secret.parameter.clone(),
            id: secret.id.clone(),
            version: secret.version.clone(),
        };
        let secrets = GoogleSecrets { secrets: written.secrets.iter().map(secret).collect() };
        let ask = async {
            let keys = key.as_deref().map_or(GoogleKeys::Workload, GoogleKeys::Key);
            kept(secrets.read(&self.http, keys).await)
        };
        self.google.get((secrets.clone(), key.clone()), ask).await
    }
}

fn azure_cloud(written: Option<&AzureKeyVaultCloud>) -> Result<AzureCloud, Failure> {
    let refused = |what: String| Failure::Refused(format!("azureKeyVault.cloud.{what}"));
    let Some(written) = written else { return azure_cloud(Some(&AzureKeyVaultCloud::default())) };
    if !written.r#type.eq_ignore_ascii_case("private") {
        return AzureCloud::named(&written.r#type)
            .ok_or_else(|| refused(format!("type {:?} is not a cloud of Azure", written.r#type)));
    }
    let needed = |name: &str, text: &Option<String>| {
        let text = text.clone().filter(|text| !text.is_empty());
        text.ok_or_else(|| refused(format!("{name} is required by a private cloud")))
    };
    Ok(AzureCloud {
        resource: needed("keyVaultResourceURL", &written.key_vault_resource_url)?,
        authority: needed("activeDirectoryEndpoint", &written.active_directory_endpoint)?,
    })
}

/// How we come into a Vault.
enum Access {
    Token(String),
    Login(Login),
}

async fn login(vault: &Vault, written: &HashiCorpVault, namespace: &str, objects: &Objects) -> Result<Access, Failure> {
    let refused = |what: String| Failure::Refused(format!("hashiCorpVault.{what}"));
    let credential = written.credential.clone().unwrap_or_default();
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    match written.authentication.as_str() {
        "token" => filled(&credential.token)
            .map(Access::Token)
            .ok_or_else(|| refused("credential.token is required by authentication token".into())),
        "kubernetes" => {
            let needed = |name: &str, text: &Option<String>| {
                filled(text).ok_or_else(|| refused(format!("{name} is required by authentication kubernetes")))
            };
            let (mount, role) = (needed("mount", &written.mount)?, needed("role", &written.role)?);
            let jwt = match filled(&credential.service_account_name) {
                Some(account) => objects.token(namespace, &account).await?,
                None => own_token(filled(&credential.service_account).as_deref().unwrap_or(OWN_TOKEN)).await?,
            };
            Ok(Access::Login(Login { vault: vault.clone(), mount, role, jwt }))
        }
        other => Err(refused(format!("authentication {other:?} is neither token nor kubernetes"))),
    }
}

async fn own_token(path: &str) -> Result<String, Failure> {
    if !is_token_file(path) {
        let what = format!("hashiCorpVault.credential.serviceAccount {path:?} is not a file below /var/run/secrets");
        return Err(Failure::Refused(what));
    }
    let missing = |error| Failure::Missing(format!("hashiCorpVault.credential.serviceAccount {path:?}: {error}"));
    Ok(tokio::fs::read_to_string(path).await.map_err(missing)?.trim().to_owned())
}

fn is_token_file(path: &str) -> bool {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    plain && TOKEN_FOLDERS.iter().any(|folder| Path::new(path).starts_with(folder))
}

fn vault_secret(written: &WrittenVaultSecret) -> Result<VaultSecret, Failure> {
    let kind = match written.r#type.as_deref().unwrap_or_default() {
        "" => VaultKind::Any,
        "secret" => VaultKind::Plain,
        "secretV2" => VaultKind::Versioned,
        "pki" => VaultKind::Certificate(written.pki_data.as_ref().map(certificate).unwrap_or_default()),
        other => {
            let what = format!("hashiCorpVault.secrets: type {other:?} is none of secret, secretV2, pki");
            return Err(Failure::Refused(what));
        }
    };
    let (parameter, path, key) = (written.parameter.clone(), written.path.clone(), written.key.clone());
    Ok(VaultSecret { parameter, path, key, kind })
}

/// The certificate that is wanted, in Vault's words.
fn certificate(written: &VaultPkiData) -> BTreeMap<String, String> {
    let VaultPkiData { common_name, alt_names, ip_sans, uri_sans, other_sans, ttl, format } = written;
    [
        ("common_name", common_name),
        ("alt_names", alt_names),
        ("ip_sans", ip_sans),
        ("uri_sans", uri_sans),
        ("other_sans", other_sans),
        ("ttl", ttl),
        ("format", format),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value.clone().filter(|value| !value.is_empty())?)))
    .collect()
}

fn aws_secret(written: &api::keda::AwsSecret) -> AwsSecret {
    AwsSecret {
        parameter: written.parameter.clone(),
        name: written.name.clone(),
        version_id: written.version_id.clone(),
        version_stage: written.version_stage.clone(),
        field: written.secret_key.clone(),
    }
}

/// A variable of this program's environment.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// The region that is written, or the program's own.
fn region(written: &AwsSecretManager) -> Result<String, Failure> {
    let own = || variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
    let region = written.region.clone().filter(|region| !region.is_empty()).or_else(own);
    let region = region.ok_or_else(|| Failure::Refused("awsSecretManager.region is required".into()))?;
    // It becomes a part of a host name.
    if region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        Ok(region)
    } else {
        Err(Failure::Refused(format!("awsSecretManager.region {region:?} is not a region")))
    }
}

fn kept(read: Result<Stored, ScalerError>) -> Result<(Parameters, std::time::Duration), Failure> {
    read.map(|stored| (stored.parameters, stored.lasts)).map_err(|error| failure(&error))
}

fn failure(error: &ScalerError) -> Failure {
    match error {
        ScalerError::Unavailable(_) | ScalerError::TimedOut { .. } => Failure::Unavailable(error.text()),
        _ => Failure::Refused(error.text()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_files_with_tokens_are_shown_to_a_vault() {
        for (path, may) in [
            (OWN_TOKEN, true),
            ("/run/secrets/vault/token", true),
            ("/etc/passwd", false),
            ("/var/run/secrets/../../etc/passwd", false),
            ("/var/run/secretsx/token", false),
            ("var/run/secrets/token", false),
        ] {
            assert_eq!(is_token_file(path), may, "{path}");
        }
    }

    #[test]
    fn a_type_says_what_is_at_a_path() {
        let kind = |kind: &str| {
            let written = json!({"parameter": "p", "path": "x", "key": "k", "type": kind, "pkiData": {"ttl": "1h"}});
            vault_secret(&serde_json::from_value(written).unwrap()).map(|secret| secret.kind)
        };
        assert_eq!(kind(""), Ok(VaultKind::Any));
        assert_eq!(kind("secret"), Ok(VaultKind::Plain));
        assert_eq!(kind("secretV2"), Ok(VaultKind::Versioned));
        assert_eq!(kind("pki"), Ok(VaultKind::Certificate([("ttl".to_owned(), "1h".to_owned())].into())));
        assert!(matches!(kind("magic"), Err(Failure::Refused(_))));
    }

    #[test]
    fn a_cloud_has_a_name_or_is_private() {
        let cloud = |written: serde_json::Value| azure_cloud(Some(&serde_json::from_value(written).unwrap()));
        assert_eq!(azure_cloud(None).unwrap().resource, "https://vault.azure.net");
        assert!(cloud(json!({"type": "Mars"})).is_err());
        assert!(cloud(json!({"type": "Private", "keyVaultResourceURL": "https://v"})).is_err());
        let private =
            json!({"type": "Private", "keyVaultResourceURL": "https://v", "activeDirectoryEndpoint": "https://a"});
        assert_eq!(cloud(private).unwrap().authority, "https://a");
    }

    #[test]
    fn a_region_is_not_a_way_to_another_host() {
        let with = |region: &str| AwsSecretManager { region: Some(region.into()), ..AwsSecretManager::default() };
        assert_eq!(region(&with("eu-west-1")), Ok("eu-west-1".into()));
        assert!(region(&with("evil.example/")).is_err());
    }
}
