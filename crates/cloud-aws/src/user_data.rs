//! The script or settings a machine boots with, so that its kubelet joins the cluster.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cloud::CloudError;
use scheduling::Taint;
use serde_json::{Value, json};
use units::{Amount, Quantity, ResourceName};

use crate::class::{Class, Family};
use crate::errors::Field;
use crate::kubelet::{Kubelet, Rows};
use crate::settings::Settings;

/// Boundary of the MIME document. Karpenter's, which people's own tools look for.
const BOUNDARY: &str = "//";

/// What the kubelet is told.
#[derive(Debug)]
pub(crate) struct Boot<'a> {
    pub(crate) class: &'a Class,
    pub(crate) kubelet: &'a Kubelet,
    pub(crate) settings: &'a Settings,
    pub(crate) labels: &'a BTreeMap<String, String>,
    /// Lasting ones, then startup ones.
    pub(crate) taints: &'a [&'a Taint],
    /// What the scheduler counted on.
    pub(crate) max_pods: i64,
}

/// Whether machines of the family can be told all of these settings.
///
/// # Errors
/// `Misconfigured` with the path of the first that they cannot.
pub(crate) fn can_tell(family: Family, kubelet: &Kubelet) -> Result<(), CloudError> {
    match family {
        Family::Al2 | Family::Ubuntu => kubelet.flags().map(drop),
        Family::Al2023 => only_containerd(family, kubelet).and_then(|()| kubelet.config().map(drop)),
        Family::Bottlerocket => only_containerd(family, kubelet).and_then(|()| kubelet.bottlerocket().map(drop)),
        // Its owner tells it everything, in user data of their own.
        Family::Custom => Ok(()),
    }
}

/// The user data, not encoded.
///
/// # Errors
/// `Misconfigured` when the class's own user data cannot be merged, or when the family needs to know more of the
/// cluster than was set.
pub(crate) fn render(boot: &Boot<'_>) -> Result<String, CloudError> {
    match boot.class.family {
        Family::Al2 | Family::Ubuntu => Ok(mime(boot.class.user_data.as_deref(), SCRIPT, &bootstrap_script(boot)?)),
        Family::Al2023 => Ok(mime(boot.class.user_data.as_deref(), NODE_CONFIG, &node_config(boot)?)),
        Family::Bottlerocket => bottlerocket(boot),
        Family::Custom => Ok(boot.class.user_data.clone().unwrap_or_default()),
    }
}

const SCRIPT: &str = "text/x-shellscript; charset=\"us-ascii\"";
const NODE_CONFIG: &str = "application/node.eks.aws";

/// EKS's own script on AL2 and Ubuntu, on one line so that it is found and read easily.
fn bootstrap_script(boot: &Boot<'_>) -> Result<String, CloudError> {
    let settings = boot.settings;
    let mut line = format!(
        "/etc/eks/bootstrap.sh {} --apiserver-endpoint {}",
        quoted(&settings.cluster_name),
        quoted(&settings.cluster_endpoint)
    );
    if let Some(ca) = &settings.cluster_ca {
        let _ = write!(line, " --b64-cluster-ca {}", quoted(ca));
    }
    if let Some(runtime) = &boot.kubelet.container_runtime {
        let _ = write!(line, " --container-runtime {}", quoted(runtime));
    }
    if let Some(dns) = &boot.kubelet.cluster_dns {
        let _ = write!(line, " --dns-cluster-ip {}", quoted(dns));
    }
    if boot.class.raid0 {
        line.push_str(" --local-disks raid0");
    }
    let _ = write!(line, " --use-max-pods false --kubelet-extra-args {}", quoted(&kubelet_flags(boot)?.join(" ")));
    Ok(format!(
        "#!/bin/bash -xe\nexec > >(tee /var/log/user-data.log | logger -t user-data -s 2>/dev/console) 2>&1\n{line}\n"
    ))
}

fn kubelet_flags(boot: &Boot<'_>) -> Result<Vec<String>, CloudError> {
    let mut flags = Vec::new();
    if !boot.labels.is_empty() {
        let pairs: Vec<String> = boot.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        flags.push(format!("--node-labels={}", pairs.join(",")));
    }
    if !boot.taints.is_empty() {
        let taints: Vec<String> = boot.taints.iter().map(|taint| taint_flag(taint)).collect();
        flags.push(format!("--register-with-taints={}", taints.join(",")));
    }
    flags.push(format!("--max-pods={}", boot.max_pods));
    if let Some(per_core) = boot.kubelet.pods_per_core {
        flags.push(format!("--pods-per-core={per_core}"));
    }
    for (flag, amounts) in
        [("kube-reserved", &boot.kubelet.kube_reserved), ("system-reserved", &boot.kubelet.system_reserved)]
    {
        if !amounts.is_empty() {
            let pairs: Vec<String> =
                quantities(amounts).into_iter().map(|(name, text)| format!("{name}={text}")).collect();
            flags.push(format!("--{flag}={}", pairs.join(",")));
        }
    }
    flags.extend(boot.kubelet.flags()?);
    Ok(flags)
}

/// `key=value:Effect`, also for an empty value, as the kubelet's flag wants it.
fn taint_flag(taint: &Taint) -> String {
    format!("{}={}:{:?}", taint.key, taint.value, taint.effect)
}

fn quantities(amounts: &BTreeMap<ResourceName, Amount>) -> BTreeMap<String, String> {
    amounts.iter().map(|(name, amount)| (name.to_string(), Quantity::of(name, *amount).to_string())).collect()
}

/// What is said when the range of Services is not known.
const CIDR: &str = "the cluster's range of Service addresses: --cluster-service-cidr, chart value clusterServiceCidr";

/// AL2023's NodeConfig. Written as JSON, which is YAML.
fn node_config(boot: &Boot<'_>) -> Result<String, CloudError> {
    let settings = boot.settings;
    // What the program was not told is no field's fault.
    let needed = |value: &Option<String>, what: &str| {
        let missing = || CloudError::Misconfigured { what: format!("nodes with AL2023 need {what}") };
        value.clone().ok_or_else(missing)
    };
    can_tell(boot.class.family, boot.kubelet)?;
    let mut config = Value::Object(boot.kubelet.config()?);
    config["maxPods"] = json!(boot.max_pods);
    if let Some(per_core) = boot.kubelet.pods_per_core {
        config["podsPerCore"] = json!(per_core);
    }
    let taints: Vec<Value> = boot
        .taints
        .iter()
        .map(|taint| json!({"key": taint.key, "value": taint.value, "effect": format!("{:?}", taint.effect)}))
        .collect();
    if !taints.is_empty() {
        config["registerWithTaints"] = Value::Array(taints);
    }
    if let Some(dns) = &boot.kubelet.cluster_dns {
        config["clusterDNS"] = json!([dns]);
    }
    if !boot.kubelet.kube_reserved.is_empty() {
        config["kubeReserved"] = json!(quantities(&boot.kubelet.kube_reserved));
    }
    if !boot.kubelet.system_reserved.is_empty() {
        config["systemReserved"] = json!(quantities(&boot.kubelet.system_reserved));
    }
    let pairs: Vec<String> = boot.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let flags = [format!("--node-labels={}", pairs.join(","))];
    let mut document = json!({
        "apiVersion": "node.eks.aws/v1alpha1",
        "kind": "NodeConfig",
        "spec": {
            "cluster": {
                "name": settings.cluster_name,
                "apiServerEndpoint": settings.cluster_endpoint,
                "certificateAuthority": needed(&settings.cluster_ca, "the cluster's CA certificate: --cluster-ca-bundle")?,
                "cidr": needed(&settings.service_cidr, CIDR)?,
            },
            "kubelet": {"config": config, "flags": flags},
        },
    });
    if boot.class.raid0 {
        document["spec"]["instance"] = json!({"localStorage": {"strategy": "RAID0"}});
    }
    Ok(format!("{document:#}\n"))
}

/// Newer families have no other runtime.
fn only_containerd(family: Family, kubelet: &Kubelet) -> Result<(), CloudError> {
    match kubelet.container_runtime.as_deref() {
        None | Some("containerd") => Ok(()),
        Some(other) => {
            let what = format!("machines of family {} have no {other}", family.name());
            Err(CloudError::misconfigured("kubeletConfiguration.containerRuntime", what))
        }
    }
}

/// Bottlerocket's settings. The class's own come first; both may not speak about `settings.kubernetes`.
fn bottlerocket(boot: &Boot<'_>) -> Result<String, CloudError> {
    let own = boot.class.user_data.as_deref().unwrap_or_default();
    if own.lines().any(|line| line.trim_start().trim_start_matches('[').trim_start().starts_with("settings.kubernetes"))
    {
        return Err(boot.class.misconfigured(Field::UserData, "settings.kubernetes is not merged yet, leave it out"));
    }
    can_tell(boot.class.family, boot.kubelet)?;
    let (lines, tables) = boot.kubelet.bottlerocket()?;
    let settings = boot.settings;
    let mut text = own.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let mut line = |key: &str, value: Value| {
        let _ = writeln!(text, "{key} = {value}");
    };
    // JSON strings and numbers are TOML ones.
    line("[settings.kubernetes]\napi-server", json!(settings.cluster_endpoint));
    if let Some(ca) = &settings.cluster_ca {
        line("cluster-certificate", json!(ca));
    }
    line("cluster-name", json!(settings.cluster_name));
    line("max-pods", json!(boot.max_pods));
    if let Some(dns) = &boot.kubelet.cluster_dns {
        line("cluster-dns-ip", json!(dns));
    }
    for (key, value) in lines {
        line(&key, value);
    }
    let mut table = |name: &str, rows: Rows| {
        if !rows.is_empty() {
            let _ = writeln!(text, "\n[settings.kubernetes.{name}]");
            for (key, value) in rows {
                let _ = writeln!(text, "{} = {value}", json!(key));
            }
        }
    };
    table("node-labels", boot.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect());
    let mut taints: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for taint in boot.taints {
        taints.entry(&taint.key).or_default().push(format!("{}:{:?}", taint.value, taint.effect));
    }
    table("node-taints", taints.into_iter().map(|(key, values)| (key.to_owned(), json!(values))).collect());
    let rows = |amounts| quantities(amounts).into_iter().map(|(key, text)| (key, json!(text))).collect();
    table("kube-reserved", rows(&boot.kubelet.kube_reserved));
    table("system-reserved", rows(&boot.kubelet.system_reserved));
    for (name, rows) in tables {
        table(name, rows);
    }
    if boot.class.raid0 {
        text.push_str(INSTANCE_STORAGE);
    }
    Ok(text)
}

/// Bottlerocket puts its own and the pods' scratch space on the instance's disks at every start.
const INSTANCE_STORAGE: &str = r#"
[settings.bootstrap-commands.000-mount-instance-storage]
commands = [
    ["apiclient", "ephemeral-storage", "init"],
    ["apiclient", "ephemeral-storage", "bind", "--dirs", "/var/lib/containerd", "/var/lib/kubelet", "/var/log/pods"],
]
essential = true
mode = "always"
"#;

/// Ours as the last part, after the class's own: a MIME document's parts, or one script.
fn mime(own: Option<&str>, kind: &str, ours: &str) -> String {
    let mut document = format!("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"{BOUNDARY}\"\n\n");
    let own = own.unwrap_or_default();
    let parts = match boundary_of(own) {
        Some(boundary) => parts_of(own, &boundary),
        None if own.trim().is_empty() => Vec::new(),
        None => vec![format!("Content-Type: {SCRIPT}\n\n{}", own.trim_end())],
    };
    for part in parts {
        let _ = write!(document, "--{BOUNDARY}\n{part}\n");
    }
    let _ = write!(document, "--{BOUNDARY}\nContent-Type: {kind}\n\n{ours}--{BOUNDARY}--\n");
    document
}

/// The boundary of a MIME multipart document; `None` if it is none.
fn boundary_of(text: &str) -> Option<String> {
    let head = text.trim_start().split("\n\n").next()?;
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-type: multipart/"))?;
    let (_, boundary) = line.split_once("boundary=")?;
    Some(boundary.trim().trim_matches('"').to_owned())
}

fn parts_of(text: &str, boundary: &str) -> Vec<String> {
    let text = text.replace("\r\n", "\n");
    let separator = format!("--{boundary}");
    let mut parts = Vec::new();
    let mut part: Option<Vec<&str>> = None;
    for line in text.lines() {
        if line.trim_end() == separator || line.trim_end() == format!("{separator}--") {
            parts.extend(part.take().map(|lines| lines.join("\n").trim_end().to_owned()));
            part = (line.trim_end() == separator).then(Vec::new);
        } else if let Some(lines) = &mut part {
            lines.push(line);
        }
    }
    parts.extend(part.map(|lines| lines.join("\n").trim_end().to_owned()));
    parts.retain(|part| !part.is_empty());
    parts
}

/// One argument of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use scheduling::TaintEffect;

    use super::*;
    use crate::class::tests::{template, v1};

    fn rendered(class: &Class, kubelet: &Value) -> Result<String, CloudError> {
        rendered_in(Some("10.100.0.0/16"), class, kubelet)
    }

    fn rendered_in(service_cidr: Option<&str>, class: &Class, kubelet: &Value) -> Result<String, CloudError> {
        let mut settings = Settings::new("my-cluster", "u", "https://api.example.com", "1.28");
        settings.cluster_ca = Some("Q0E=".to_owned());
        settings.service_cidr = service_cidr.map(str::to_owned);
        let taint = |key: &str, value: &str, effect| Taint { key: key.to_owned(), value: value.to_owned(), effect };
        let taints = [taint("gpu", "true", TaintEffect::NoSchedule), taint("cni", "", TaintEffect::NoExecute)];
        render(&Boot {
            class,
            kubelet: &Kubelet::parse(kubelet).expect("parses"),
            settings: &settings,
            labels: &BTreeMap::from([("karpenter.sh/provisioner-name".to_owned(), "default".to_owned())]),
            taints: &taints.iter().collect::<Vec<_>>(),
            max_pods: 29,
        })
    }

    #[test]
    fn al2_boots_with_one_line_that_says_it_all() {
        let kubelet = json!({"clusterDNS": ["10.0.0.10"], "kubeReserved": {"cpu": "100m", "memory": "1Gi"}});
        let text = rendered(&template(), &kubelet).expect("renders");
        let expected = "/etc/eks/bootstrap.sh 'my-cluster' --apiserver-endpoint 'https://api.example.com' \
            --b64-cluster-ca 'Q0E=' --dns-cluster-ip '10.0.0.10' --use-max-pods false --kubelet-extra-args \
            '--node-labels=karpenter.sh/provisioner-name=default \
            --register-with-taints=gpu=true:NoSchedule,cni=:NoExecute --max-pods=29 \
            --kube-reserved=cpu=100m,memory=1Gi'\n";
        assert!(text.contains(expected), "{text}");
        assert!(text.starts_with("MIME-Version: 1.0\n") && text.ends_with("--//--\n"), "{text}");
    }

    #[test]
    fn ones_own_script_and_ones_own_parts_run_first() {
        let mut class = template();
        class.user_data = Some("#!/bin/sh\necho hello".to_owned());
        let text = rendered(&class, &Value::Null).expect("renders");
        assert!(text.find("echo hello") < text.find("bootstrap.sh"), "{text}");

        let own = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"X\"\n\n--X\nContent-Type: text/plain\n\n\
            one\n--X\nContent-Type: text/plain\n\ntwo\n--X--\n";
        class.user_data = Some(own.to_owned());
        let text = rendered(&class, &Value::Null).expect("renders");
        assert_eq!(text.matches("\n--//\n").count(), 3, "{text}");
        assert!(!text.contains("--X"), "{text}");
    }

    #[test]
    fn al2023_gets_a_node_config() {
        let text = rendered(&v1(), &Value::Null).expect("renders");
        let json = text.split("application/node.eks.aws\n\n").nth(1).and_then(|it| it.split("--//--").next());
        let document: Value = serde_json::from_str(json.expect("has the part")).expect("is JSON");
        assert_eq!(document.pointer("/spec/kubelet/config/maxPods"), Some(&json!(29)));
        assert_eq!(document.pointer("/spec/cluster/cidr"), Some(&json!("10.100.0.0/16")));
        let error = rendered_in(None, &v1(), &Value::Null).expect_err("the program was not told").to_string();
        assert!(error.contains("--cluster-service-cidr") && !error.contains("amiFamily"), "{error}");
    }

    #[test]
    fn bottlerocket_gets_settings_and_ones_own_may_not_collide() {
        let mut class = template();
        class.family = Family::Bottlerocket;
        class.user_data = Some("[settings.motd]\nmotd = \"hi\"".to_owned());
        let text = rendered(&class, &Value::Null).expect("renders");
        assert!(text.contains("[settings.kubernetes]\napi-server = \"https://api.example.com\"\n"), "{text}");
        assert!(text.contains("\n\"gpu\" = [\"true:NoSchedule\"]\n"), "{text}");
        class.user_data = Some("[settings.kubernetes]\nmax-pods = 1".to_owned());
        let error = rendered(&class, &Value::Null).expect_err("is refused").to_string();
        assert!(error.starts_with("spec.userData: "), "{error}");
    }

    #[test]
    fn every_family_is_told_of_disks_and_of_what_the_kubelet_is_to_do() {
        let kubelet =
            json!({"evictionHard": {"memory.available": "5%"}, "cpuManagerPolicy": "static", "podsPerCore": 4});
        let said = |family, expected: &[&str]| {
            let class = Class { family, raid0: true, ..v1() };
            let text = rendered(&class, &kubelet).expect("renders");
            let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for part in expected {
                assert!(text.contains(part), "{part} is not in {text}");
            }
            let docker = rendered(&class, &json!({"containerRuntime": "dockerd"}));
            assert_eq!(docker.is_ok(), family == Family::Al2, "{docker:?}");
        };
        let flags = ["--local-disks raid0", "--eviction-hard=memory.available<5%", "--cpu-manager-policy=static"];
        said(Family::Al2, &flags);
        said(
            Family::Al2023,
            &[
                "\"strategy\": \"RAID0\"",
                "\"memory.available\": \"5%\"",
                "\"cpuManagerPolicy\": \"static\"",
                "\"podsPerCore\": 4",
            ],
        );
        said(
            Family::Bottlerocket,
            &[
                "[settings.bootstrap-commands.000-mount-instance-storage]",
                "[settings.kubernetes.eviction-hard] \"memory.available\" = \"5%\"",
                "cpu-manager-policy = \"static\"",
            ],
        );
    }

    #[test]
    fn a_quote_in_a_name_stays_inside_its_argument() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
