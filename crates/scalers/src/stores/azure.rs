//! Azure Key Vault, by its REST API.

use reqwest::Url;
use serde_json::Value;

use super::{STORE_AGAIN, Stored, about};
use crate::auth::tokens::Tokens;
use crate::context::Identity;
use crate::error::{BuildError, ScalerError};
use crate::http::{Http, answer, unavailable};

/// The version of the API. Every vault has it since 2022.
const API_VERSION: &str = "7.3";
/// Where the address comes from.
const ADDRESS: &str = "azureKeyVault.vaultUri";

/// One vault, and what is read from it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AzureVault {
    /// URL of the vault.
    pub uri: String,
    /// Which Azure it is in.
    pub cloud: AzureCloud,
    /// The secrets.
    pub secrets: Vec<AzureSecret>,
}

/// One secret of Azure Key Vault.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AzureSecret {
    /// The parameter it becomes.
    pub parameter: String,
    /// Its name.
    pub name: String,
    /// Its version; the latest if absent.
    pub version: Option<String>,
}

/// Which Azure.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AzureCloud {
    /// What tokens are for, and below which vaults are: `https://vault.azure.net`.
    pub resource: String,
    /// Where applications get tokens.
    pub authority: String,
}

impl AzureCloud {
    /// A cloud by the name that Azure's own tools use; none for one that is not known.
    pub fn named(name: &str) -> Option<Self> {
        let (resource, authority) = match name.to_ascii_lowercase().as_str() {
            "" | "azurepubliccloud" => ("https://vault.azure.net", "https://login.microsoftonline.com"),
            "azureusgovernmentcloud" => ("https://vault.usgovcloudapi.net", "https://login.microsoftonline.us"),
            "azurechinacloud" => ("https://vault.azure.cn", "https://login.chinacloudapi.cn"),
            _ => return None,
        };
        Some(Self { resource: resource.into(), authority: authority.into() })
    }
}

/// Who asks a vault.
#[derive(Clone, Copy)]
pub enum AzureKeys<'a> {
    /// A registered application.
    Application {
        /// Its tenant.
        tenant: &'a str,
        /// Its id.
        client: &'a str,
        /// Its secret.
        secret: &'a str,
    },
    /// A `podIdentity`, which must be `azure-workload`.
    Identity(&'a Identity),
}

impl std::fmt::Debug for AzureKeys<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AzureKeys").finish_non_exhaustive()
    }
}

impl AzureVault {
    /// Reads the secrets.
    ///
    /// # Errors
    /// The vault is not one of its cloud, is silent or refuses us, or a secret is not there; the error names it.
    pub async fn read(&self, http: &Http, keys: AzureKeys<'_>) -> Result<Stored, ScalerError> {
        let wrong = |what: String| ScalerError::Misconfigured { what };
        let vault = Url::parse(&self.uri).map_err(|error| wrong(format!("{ADDRESS}: {error}")))?;
        if !is_below(&vault, &self.cloud.resource) {
            // The token is good for every vault of the cloud; nobody else may see it.
            let resource = &self.cloud.resource;
            return Err(wrong(format!("{ADDRESS} {:?} is not a vault of {resource}", self.uri)));
        }
        let client = http.client(true).map_err(|error| ScalerError::Unavailable(Box::new(error)))?;
        let tokens = self.tokens(&client, keys).map_err(|error| wrong(error.to_string()))?;
        let mut stored = Stored { parameters: [].into(), lasts: STORE_AGAIN };
        for secret in &self.secrets {
            let told = |error: ScalerError| about(&format!("Azure secret {}", secret.name), &error);
            let mut url = vault.clone();
            if let Ok(mut path) = url.path_segments_mut() {
                path.pop_if_empty().extend(["secrets", &secret.name]);
                path.extend(secret.version.as_deref().filter(|version| !version.is_empty()));
            }
            url.query_pairs_mut().append_pair("api-version", API_VERSION);
            let token = tokens.get().await.map_err(told)?;
            let request = client.get(url.clone()).timeout(http.timeout()).bearer_auth(token.reveal());
            let response = request.send().await.map_err(|error| told(unavailable(ADDRESS, &url, error)))?;
            let bytes = answer(ADDRESS, &url, response).await.map_err(told)?;
            let found: Option<Value> = serde_json::from_slice(&bytes).ok();
            let value = found.as_ref().and_then(|found| found["value"].as_str());
            let value = value.ok_or_else(|| told(wrong("the answer has no value; is this a vault?".into())))?;
            stored.parameters.insert(secret.parameter.clone(), value.to_owned());
        }
        Ok(stored)
    }

    fn tokens(&self, client: &reqwest::Client, keys: AzureKeys<'_>) -> Result<Tokens, BuildError> {
        let AzureCloud { resource, authority } = &self.cloud;
        let scope = format!("{}/.default", resource.trim_end_matches('/'));
        match keys {
            AzureKeys::Application { tenant, client: id, secret } => {
                let text = format!("{}/{tenant}/oauth2/v2.0/token", authority.trim_end_matches('/'));
                let wrong = |error| BuildError::new("azureKeyVault.credentials.tenantId", format!("{text:?}: {error}"));
                let url = Url::parse(&text).map_err(wrong)?;
                let form = vec![
                    ("grant_type".to_owned(), "client_credentials".into()),
                    ("scope".to_owned(), scope.as_str().into()),
                ];
                let place = ("Azure's authority host", url);
                Ok(Tokens::client(client.clone(), place, form, (id.to_owned(), secret.into())))
            }
            AzureKeys::Identity(Identity::Azure { client: id, tenant, authority }) => {
                Tokens::azure(client.clone(), id.as_deref(), tenant.as_deref(), authority.as_deref(), &scope)
            }
            AzureKeys::Identity(_) => {
                Err(BuildError::new("azureKeyVault", "needs credentials or the podIdentity azure-workload"))
            }
        }
    }
}

/// Whether a vault is at the host of its cloud, or below it, and as well protected.
fn is_below(vault: &Url, resource: &str) -> bool {
    let Ok(resource) = Url::parse(resource) else { return false };
    let (Some(host), Some(cloud)) = (vault.host_str(), resource.host_str()) else { return false };
    vault.scheme() == resource.scheme() && (host == cloud || host.ends_with(&format!(".{cloud}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HTTP_TIMEOUT;
    use crate::testing::{ok, serve};

    #[test]
    fn a_token_is_shown_to_vaults_of_its_cloud_only() {
        let cloud = AzureCloud::named("").unwrap().resource;
        for (uri, may) in [
            ("https://shop.vault.azure.net", true),
            ("https://shop.vault.azure.net/", true),
            ("http://shop.vault.azure.net", false),
            ("https://evil.example", false),
            ("https://shopvault.azure.net", false),
            ("https://shop.vault.azure.net.evil.example", false),
        ] {
            assert_eq!(is_below(&Url::parse(uri).unwrap(), &cloud), may, "{uri}");
        }
        assert_eq!(AzureCloud::named("AzureChinaCloud").unwrap().resource, "https://vault.azure.cn");
        assert!(AzureCloud::named("Mars").is_none());
    }

    #[tokio::test]
    async fn an_application_gets_a_token_and_reads_a_version() {
        let token = ok(r#"{"access_token": "t", "expires_in": 3600}"#);
        let (address, served) = serve(vec![token, ok(r#"{"value": "s3cret", "id": "x"}"#)]).await;
        let cloud = AzureCloud { resource: address.clone(), authority: address.clone() };
        let secret = AzureSecret { parameter: "password".into(), name: "db".into(), version: Some("v1".into()) };
        let vault = AzureVault { uri: address, cloud, secrets: vec![secret] };
        let keys = AzureKeys::Application { tenant: "tenant", client: "id", secret: "pw" };
        let stored = vault.read(&Http::new(HTTP_TIMEOUT), keys).await.unwrap();
        assert_eq!(stored.parameters["password"], "s3cret");
        let asked = served.await.unwrap();
        assert!(asked[0].starts_with("POST /tenant/oauth2/v2.0/token "), "{}", asked[0]);
        assert!(asked[0].contains("scope=http%3A%2F%2F127.0.0.1"), "{}", asked[0]);
        assert!(asked[1].starts_with("GET /secrets/db/v1?api-version=7.3 "), "{}", asked[1]);
        assert!(asked[1].contains("authorization: Bearer t\r\n"), "{}", asked[1]);
    }

    #[tokio::test]
    async fn a_missing_secret_is_named() {
        let token = ok(r#"{"access_token": "t", "expires_in": 3600}"#);
        let missing = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned();
        let (address, _served) = serve(vec![token, missing]).await;
        let cloud = AzureCloud { resource: address.clone(), authority: address.clone() };
        let secret = AzureSecret { parameter: "p".into(), name: "db".into(), version: None };
        let vault = AzureVault { uri: address, cloud, secrets: vec![secret] };
        let keys = AzureKeys::Application { tenant: "tenant", client: "id", secret: "pw" };
        let error = vault.read(&Http::new(HTTP_TIMEOUT), keys).await.unwrap_err();
        assert!(matches!(error, ScalerError::Misconfigured { .. }) && error.text().contains("Azure secret db"));
    }
}
