//! The choice of the cloud.

use std::{fmt::Write as _, sync::Arc};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cloud::CloudProvider;
use cloud_aws::AwsCloud;
use cloud_kwok::{KwokCloud, catalogue};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Config, ResourceExt as _};

use crate::args::{Args, Cloud};

/// Connects to the cloud the flags name.
pub(crate) async fn connect(args: &Args, client: &Client, config: &Config) -> anyhow::Result<Arc<dyn CloudProvider>> {
    match args.cloud {
        Cloud::Aws => aws(args, client, config).await,
        Cloud::Kwok => {
            let mut settings = cloud_kwok::Settings { boot_delay: args.kwok_boot_delay.0, ..Default::default() };
            if let Some(path) = &args.kwok_catalogue {
                let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
                settings.types = catalogue::parse(&text).with_context(|| path.display().to_string())?;
            }
            Ok(Arc::new(KwokCloud::new(client.clone(), settings)))
        }
    }
}

async fn aws(args: &Args, client: &Client, config: &Config) -> anyhow::Result<Arc<dyn CloudProvider>> {
    let version = client.apiserver_version().await.context("cannot ask the API server for its version")?;
    // Some vendors write a minor version as `28+`.
    let minor: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
    let endpoint = args.cluster_endpoint.clone().unwrap_or_else(|| config.cluster_url.to_string());
    let endpoint = endpoint.trim_end_matches('/');
    let version = format!("{}.{minor}", version.major);
    let mut settings = cloud_aws::Settings::new(&args.cluster_name, &cluster_uid(client).await?, endpoint, &version);
    settings.cluster_ca = args.cluster_ca_bundle.clone().or_else(|| config.root_cert.as_deref().map(ca_bundle));
    settings.service_cidr.clone_from(&args.cluster_service_cidr);
    settings.default_instance_profile.clone_from(&args.aws.aws_default_instance_profile);
    settings.vm_memory_overhead_permille = args.aws.vm_memory_overhead_percent;
    settings.eni_limited_pod_density = args.aws.aws_eni_limited_pod_density;
    settings.reserved_enis = args.aws.reserved_enis;
    settings.isolated_vpc = args.aws.isolated_vpc;
    Ok(Arc::new(AwsCloud::connect(settings).await.context("cannot connect to AWS")?))
}

/// What tells this cluster from any other, whatever its name: nobody can delete `kube-system`, so its UID stays.
async fn cluster_uid(client: &Client) -> anyhow::Result<String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let found = namespaces.get_metadata("kube-system").await.context("cannot read the namespace kube-system")?;
    found.uid().context("the namespace kube-system has no UID")
}

/// Certificates as user data wants them: base64 of their PEM.
fn ca_bundle(certificates: &[Vec<u8>]) -> String {
    const LINE: usize = 64;
    let mut pem = String::new();
    for certificate in certificates {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = STANDARD.encode(certificate);
        for line in text.as_bytes().chunks(LINE) {
            // Writing to a String cannot fail, and base64 is ASCII.
            let _ = writeln!(pem, "{}", String::from_utf8_lossy(line));
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    STANDARD.encode(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_bundle_is_base64_of_pem() {
        let text = STANDARD.decode(ca_bundle(&[vec![0xff; 60], vec![1]])).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.matches("-----BEGIN CERTIFICATE-----\n").count(), 2);
        assert!(text.lines().all(|line| line.len() <= 64));
        assert!(text.ends_with("AQ==\n-----END CERTIFICATE-----\n"), "{text}");
    }
}
