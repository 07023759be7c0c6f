//! The chart grants what the program does, and nothing else.
//!
//! Who adds a request adds its verb here and in the chart; who takes the last one away takes both away. That what is listed is
//! enough is shown by the stories, which run with these rights.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;
use testkit::charts::render;

/// Where a right holds, the resource, its names if it is for some alone, the verbs; and who needs it.
const NEEDED: &str = "
cluster admissionregistration.k8s.io/validatingwebhookconfigurations [pod-autoscaler-admission] get patch            # tls: caBundle
cluster apiregistration.k8s.io/apiservices [v1beta1.external.metrics.k8s.io] get patch              # tls: caBundle
cluster authentication.k8s.io/tokenreviews create                                                   # aggregated: who asks
cluster authorization.k8s.io/subjectaccessreviews create                                            # aggregated: may they
cluster autoscaling/horizontalpodautoscalers create delete get list update watch                    # actor::prepare; watched
cluster batch/jobs create delete list                                                               # jobs: make, roll, count
cluster discovery.k8s.io/endpointslices list                                                        # cluster: metrics-api
cluster events.k8s.io/events create patch                                                           # events: new, again
cluster eventing.keda.sh/cloudeventsources list patch watch                                         # cloud_events: finalizer
cluster eventing.keda.sh/cloudeventsources/status patch                                             # cloud_events::courier
cluster eventing.keda.sh/clustercloudeventsources list patch watch
cluster eventing.keda.sh/clustercloudeventsources/status patch
cluster keda.sh/clustertriggerauthentications get list patch watch                                  # credentials::objects
cluster keda.sh/clustertriggerauthentications/status patch                                          # authentications
cluster keda.sh/scaledjobs list patch watch                                                         # jobs::actor: finalizer
cluster keda.sh/scaledjobs/status patch
cluster keda.sh/scaledobjects list patch watch                                                      # actor: finalizer, label
cluster keda.sh/scaledobjects/finalizers update                                                     # blockOwnerDeletion
cluster keda.sh/scaledobjects/status patch
cluster keda.sh/triggerauthentications get list patch watch                                         # credentials::objects
cluster keda.sh/triggerauthentications/status patch
cluster */*/scale get update                                                                        # target
cluster apps/deployments get                                                                        # target: pod template
cluster apps/replicasets get
cluster apps/statefulsets get
cluster /configmaps get                                                                             # credentials::objects
cluster /limitranges list                                                                           # admission::world
cluster /pods list                                                                                  # jobs, cluster
cluster /secrets get                                                                                # credentials::objects
cluster /serviceaccounts get                                                                        # credentials: role
here coordination.k8s.io/leases create                                                              # lease
here coordination.k8s.io/leases [pod-autoscaler] get update
here /secrets create                                                                                # tls::authority
here /secrets [certificates] get update
kube-system /configmaps [extension-apiserver-authentication] list watch                             # aggregated: front proxy
";

fn needed() -> BTreeSet<String> {
    let lines = NEEDED.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn texts(of: &Value) -> Vec<String> {
    let texts = of.as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut texts: Vec<String> = texts.map(str::to_owned).collect();
    texts.sort();
    texts
}

/// What the chart grants its own ServiceAccount, one line for each resource.
fn granted() -> Result<BTreeSet<String>> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/pod-autoscaler");
    let mut lines = BTreeSet::new();
    for role in render(&chart, "release", "here", &[("certificates.secretName", "certificates")])? {
        let (kind, name) = (role["kind"].as_str(), role["metadata"]["name"].as_str().unwrap_or_default());
        // What the HPA controller may do is not for us.
        if !matches!(kind, Some("Role" | "ClusterRole")) || name.ends_with("-external-metrics-reader") {
            continue;
        }
        let place = role["metadata"]["namespace"].as_str().unwrap_or("cluster");
        for rule in role["rules"].as_array().into_iter().flatten() {
            let names = texts(&rule["resourceNames"]).join(",");
            let names = if names.is_empty() { names } else { format!(" [{names}]") };
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    lines.insert(format!("{place} {group}/{resource}{names} {}", texts(&rule["verbs"]).join(" ")));
                }
            }
        }
    }
    Ok(lines)
}

#[test]
fn the_chart_grants_what_is_used_and_nothing_else() -> Result<()> {
    let (needed, granted) = (needed(), granted()?);
    let too_many: Vec<_> = granted.difference(&needed).collect();
    let too_few: Vec<_> = needed.difference(&granted).collect();
    assert!(
        too_many.is_empty() && too_few.is_empty(),
        "granted but not used: {too_many:#?}\nnot granted: {too_few:#?}"
    );
    Ok(())
}
