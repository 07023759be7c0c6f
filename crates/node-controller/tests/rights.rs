//! The chart grants what the program does, and nothing else.
//!
//! Who adds a request adds its verb here and in the chart; who takes the last one away takes both away. That what is listed is
//! enough is shown by the stories, which run with these rights.

use std::path::Path;

use anyhow::Result;
use testkit::rights::grants;

const NEEDED: &str = "
cluster /namespaces get list watch                                   # clouds: the cluster's UID; watched
cluster /persistentvolumeclaims list watch                           # watched
cluster /persistentvolumes list watch
cluster /pods delete get list watch                                  # leave: overdue; nominate: as it is now; watched
cluster /pods/eviction create                                        # leave
cluster /pods/status patch                                           # nominate
cluster apps/daemonsets list watch
cluster events.k8s.io/events create patch                            # events: new, again
cluster karpenter.k8s.aws/awsnodetemplates list watch
cluster karpenter.k8s.aws/ec2nodeclasses list watch
cluster karpenter.k8s.aws/ec2nodeclasses/status patch                # pool_loop
cluster karpenter.sh/nodeclaims create delete get list patch watch   # act: recorded; lifecycle: finalizer, end
cluster karpenter.sh/nodeclaims/finalizers update                    # blockOwnerDeletion of Nodes
cluster karpenter.sh/nodeclaims/status patch                         # lifecycle::status
cluster karpenter.sh/nodeoverlays list watch
cluster karpenter.sh/nodeoverlays/status patch                       # pool_loop
cluster karpenter.sh/nodepools list watch
cluster karpenter.sh/nodepools/finalizers update                     # blockOwnerDeletion of NodeClaims
cluster karpenter.sh/nodepools/status patch
cluster karpenter.sh/provisioners list watch
cluster karpenter.sh/provisioners/finalizers update
cluster karpenter.sh/provisioners/status patch
cluster policy/poddisruptionbudgets list watch
cluster storage.k8s.io/csinodes list watch
cluster storage.k8s.io/storageclasses list watch
cluster storage.k8s.io/volumeattachments list watch
here coordination.k8s.io/leases create                               # lease
here coordination.k8s.io/leases [karpenter-leader-election] get update
";

/// With machines of EC2 alone.
const ON_AWS: &str = "cluster /nodes delete get list patch watch     # lifecycle, removal, garbage";

/// Where no kubelet makes a node, the program does.
const ON_KWOK: &str = "
cluster /nodes create delete get list patch watch
cluster karpenter.kwok.sh/kwoknodeclasses list watch
";

fn as_installed(cloud: &str, more: &str, without: &str, values: &[(&str, &str)]) -> Result<()> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/node-provisioner");
    let always = [("cloud", cloud), ("clusterName", "c"), ("clusterEndpoint", "https://c")];
    let values = [&always, values].concat();
    let needed: Vec<&str> = NEEDED.lines().filter(|line| without.is_empty() || !line.contains(without)).collect();
    grants(&chart, &values, &format!("{}\n{more}", needed.join("\n")), &[])
}

#[test]
fn the_chart_grants_what_is_used_and_nothing_else() -> Result<()> {
    as_installed("aws", ON_AWS, "", &[])?;
    as_installed("kwok", ON_KWOK, "", &[])
}

#[test]
fn who_does_not_want_pods_nominated_need_not_let_the_program_write_their_status() -> Result<()> {
    as_installed("aws", ON_AWS, "/pods/status", &[("nominatePods", "false")])
}
