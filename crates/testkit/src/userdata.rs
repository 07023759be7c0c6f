//! Reading a machine's user data as its boot would: Amazon Linux 2's `bootstrap.sh` and the kubelet flags in it.
//!
//! Written from the EKS side, without a look at how the provisioner writes it: what this does not understand, a real
//! machine would not either.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use k8s_openapi::api::core::v1::Taint;

/// What a machine's boot learns from its user data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bootstrap {
    pub cluster: String,
    /// The API server's URL.
    pub endpoint: Option<String>,
    /// The certificate authority, in PEM.
    pub authority: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// `None`: the number that the network interfaces allow.
    pub max_pods: Option<u32>,
    /// Further kubelet flags by name.
    pub kubelet_flags: BTreeMap<String, String>,
}

/// Parses base64 user data: a shell script, or a MIME archive whose parts run in order.
pub fn parse(encoded: &str) -> Result<Bootstrap> {
    let compact: String = encoded.chars().filter(|c| !c.is_whitespace()).collect();
    let bytes = base64::engine::general_purpose::STANDARD.decode(compact).context("user data is not base64")?;
    let text = String::from_utf8(bytes).context("user data is not text")?;
    let script = scripts(&text);
    let command = joined_lines(&script)
        .into_iter()
        .find(|line| line.split_whitespace().next() == Some("/etc/eks/bootstrap.sh"))
        .context("user data does not call /etc/eks/bootstrap.sh")?;
    from_words(&words(&command)?)
}

/// The shell scripts of a MIME archive one after the other, or the text itself.
fn scripts(text: &str) -> String {
    let Some(boundary) = text.lines().find_map(|line| {
        let (_, rest) = line.split_once("boundary=")?;
        Some(rest.trim().trim_end_matches(';').trim_matches('"').to_owned())
    }) else {
        return text.to_owned();
    };
    let marker = format!("--{boundary}");
    let mut found = String::new();
    for part in text.replace("\r\n", "\n").split(&marker).skip(1) {
        if let Some((headers, body)) = part.trim_start_matches('\n').split_once("\n\n")
            && headers.contains("text/x-shellscript")
        {
            found.push_str(body);
            found.push('\n');
        }
    }
    found
}

/// Lines with a trailing backslash go on in the next one.
fn joined_lines(script: &str) -> Vec<String> {
    script.replace("\\\n", " ").lines().map(|line| line.trim().to_owned()).collect()
}

/// Shell words: quotes single and double, backslashes, and nothing that expands.
fn words(line: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let (mut word, mut inside, mut started) = (String::new(), None, false);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (inside, letter) {
            (Some(quote), letter) if letter == quote => inside = None,
            (Some('"') | None, '\\') => word.push(letters.next().context("a backslash at the end")?),
            (Some('"') | None, '$' | '`') => {
                bail!("user data expands a shell variable, which the test bed does not: {line}")
            }
            (None, '\'' | '"') => (inside, started) = (Some(letter), true),
            (None, '#') if word.is_empty() && !started => break,
            (None, letter) if letter.is_whitespace() => {
                if started || !word.is_empty() {
                    found.push(std::mem::take(&mut word));
                    started = false;
                }
            }
            (_, letter) => word.push(letter),
        }
    }
    ensure!(inside.is_none(), "an open quote in {line}");
    if started || !word.is_empty() {
        found.push(word);
    }
    Ok(found)
}

/// `--name value` and `--name=value`, both of which bootstrap.sh and the kubelet take.
fn flags(words: &[String]) -> (Vec<String>, BTreeMap<String, String>) {
    let (mut plain, mut named) = (Vec::new(), BTreeMap::new());
    let mut rest = words.iter().peekable();
    while let Some(word) = rest.next() {
        let Some(flag) = word.strip_prefix("--") else {
            plain.push(word.clone());
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => match rest.next_if(|next| !next.starts_with("--")) {
                Some(value) => (flag.to_owned(), value.clone()),
                None => (flag.to_owned(), "true".to_owned()),
            },
        };
        named.insert(name, value);
    }
    (plain, named)
}

fn from_words(words: &[String]) -> Result<Bootstrap> {
    // One exception to "a value does not begin with dashes": the kubelet's own flags travel in one quoted word.
    let mut arguments = words[1..].to_vec();
    let mut kubelet_words = Vec::new();
    while let Some(at) = arguments.iter().position(|word| word == "--kubelet-extra-args") {
        ensure!(at + 1 < arguments.len(), "--kubelet-extra-args without a value");
        kubelet_words.extend(self::words(&arguments[at + 1])?);
        arguments.drain(at..=at + 1);
    }
    let (plain, named) = flags(&arguments);
    let (_, mut kubelet) = flags(&kubelet_words);
    let decode = |text: &String| -> Result<String> {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).context("--b64-cluster-ca is not base64")?;
        String::from_utf8(bytes).context("--b64-cluster-ca is not PEM")
    };
    let labels = kubelet.remove("node-labels").unwrap_or_default();
    let taints = kubelet.remove("register-with-taints").unwrap_or_default();
    let max_pods = kubelet.remove("max-pods").map(|text| text.parse()).transpose().context("--max-pods")?;
    Ok(Bootstrap {
        cluster: plain.first().context("bootstrap.sh without a cluster name")?.clone(),
        endpoint: named.get("apiserver-endpoint").cloned(),
        authority: named.get("b64-cluster-ca").map(decode).transpose()?,
        labels: list(&labels).map(label).collect::<Result<_>>()?,
        taints: list(&taints).map(taint).collect::<Result<_>>()?,
        max_pods,
        kubelet_flags: kubelet,
    })
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn label(item: &str) -> Result<(String, String)> {
    let (key, value) = item.split_once('=').with_context(|| format!("label {item} without ="))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn taint(item: &str) -> Result<Taint> {
    let (head, effect) = item.rsplit_once(':').with_context(|| format!("taint {item} without an effect"))?;
    ensure!(["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect), "taint {item}: unknown effect {effect}");
    let (key, value) = head.split_once('=').unwrap_or((head, ""));
    let value = (!value.is_empty()).then(|| value.to_owned());
    Ok(Taint { key: key.to_owned(), value, effect: effect.to_owned(), time_added: None })
}

/// A label that the NodeRestriction rules keep a kubelet from giving itself; it refuses to start with it.
pub fn refused_label(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return false };
    let of = |suffix: &str| domain == suffix || domain.ends_with(&format!(".{suffix}"));
    if !of("kubernetes.io") && !of("k8s.io") {
        return false;
    }
    let known = [
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.kubernetes.io/zone",
        "failure-domain.kubernetes.io/region",
    ];
    !(known.contains(&key) || of("kubelet.kubernetes.io") || of("node.kubernetes.io"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str) -> String {
        base64::engine::general_purpose::STANDARD.encode(text)
    }

    const SCRIPT: &str = "#!/bin/bash -xe\n/etc/eks/bootstrap.sh 'walk' --apiserver-endpoint 'https://127.0.0.1:6443' --b64-cluster-ca 'UEVN' \\\n--use-max-pods false \\\n--kubelet-extra-args '--node-labels=a=b,karpenter.sh/capacity-type=spot --register-with-taints=x=y:NoSchedule,z:NoExecute --max-pods=29'\n";

    fn expected() -> Bootstrap {
        let taint = |key: &str, value: Option<&str>, effect: &str| Taint {
            key: key.into(),
            value: value.map(Into::into),
            effect: effect.into(),
            time_added: None,
        };
        Bootstrap {
            cluster: "walk".into(),
            endpoint: Some("https://127.0.0.1:6443".into()),
            authority: Some("PEM".into()),
            labels: [("a", "b"), ("karpenter.sh/capacity-type", "spot")].map(|(k, v)| (k.into(), v.into())).into(),
            taints: vec![taint("x", Some("y"), "NoSchedule"), taint("z", None, "NoExecute")],
            max_pods: Some(29),
            kubelet_flags: BTreeMap::new(),
        }
    }

    #[test]
    fn a_script_is_read() {
        assert_eq!(parse(&encoded(SCRIPT)).unwrap(), expected());
    }

    #[test]
    fn a_mime_archive_is_read() {
        let mime = format!(
            "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"//\"\n\n--//\nContent-Type: text/x-shellscript; charset=\"us-ascii\"\n\necho mine\n--//\nContent-Type: text/x-shellscript; charset=\"us-ascii\"\n\n{SCRIPT}--//--\n"
        );
        assert_eq!(parse(&encoded(&mime)).unwrap(), expected());
    }

    #[test]
    fn a_machine_without_bootstrap_does_not_boot() {
        let error = parse(&encoded("#!/bin/sh\necho hello\n")).unwrap_err();
        assert!(error.to_string().contains("bootstrap.sh"), "{error}");
    }

    #[test]
    fn a_kubelet_refuses_foreign_kubernetes_labels() {
        assert!(refused_label("node-role.kubernetes.io/worker"));
        assert!(!refused_label("node.kubernetes.io/instance-type"));
        assert!(!refused_label("karpenter.k8s.aws/instance-cpu"));
        assert!(!refused_label("team"));
    }
}
