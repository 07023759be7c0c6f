//! The adapter against the project's AWS double (moto with prices, empty pools and client tokens).
//!
//! Needs a Python with the moto of `tests/aws-double/requirements.txt`: `TANDEM_PYTHON`, which `cargo xtask test` sets, or the
//! test bed's own. Without one the test says so and passes.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_ec2::config::{Credentials, SharedCredentialsProvider};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloud::conformance::{self, Harness};
use cloud::{CloudError, CloudProvider, LaunchRequest, NodeClass};
use cloud_aws::{AwsCloud, Settings};
use scheduling::{CapacityType, OfferingKey, PoolKey, PoolKind, PricedOffering, Taint, TaintEffect};
use serde_json::{Value, json};
use units::{ResourceList, UsdMicrosPerHour};

const CLUSTER: &str = "conformance";

/// The double, which ends with the test.
struct Double {
    process: Child,
    endpoint: String,
    http: reqwest::Client,
}

impl Drop for Double {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Double {
    /// `None`, with one line that says why, if it cannot be started here.
    async fn start() -> Option<Self> {
        let main = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/aws-double/main.py");
        let Some(python) = python_with_moto() else {
            eprintln!("skipped: no Python with moto, see tests/aws-double/README.md");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("has one").port();
        let process = Command::new(python)
            .arg(main)
            .args(["--region", "us-east-1", "--port", &port.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .expect("python starts");
        let http = reqwest::Client::new();
        let mut double = Self { process, endpoint: format!("http://127.0.0.1:{port}"), http };
        double.wait_until_it_answers().await;
        Some(double)
    }

    async fn wait_until_it_answers(&mut self) {
        let health = format!("{}/tandem/health", self.endpoint);
        let answers = async {
            while self.http.get(&health).send().await.is_err() {
                let ended = self.process.try_wait().expect("a child may be asked");
                assert!(ended.is_none(), "the AWS double ended with {ended:?} before it answered");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(3), answers)
            .await
            .expect("the AWS double answers within three minutes");
    }

    async fn post(&self, control: &str, body: Value) -> Value {
        let answer = self.http.post(format!("{}/tandem/{control}", self.endpoint)).json(&body).send().await;
        answer.expect("answers").error_for_status().expect("accepts").json().await.expect("is JSON")
    }

    /// The client tokens of the fleets that were made for a claim.
    async fn tokens(&self, claim_uid: &str) -> Vec<String> {
        let answer = self.http.get(format!("{}/tandem/log", self.endpoint)).send().await.expect("answers");
        let log: Value = answer.json().await.expect("is JSON");
        let tokens = log["fleets"].as_array().into_iter().flatten().filter_map(|fleet| fleet["token"].as_str());
        tokens.filter(|token| token.starts_with(claim_uid)).map(str::to_owned).collect()
    }

    async fn instances(&self) -> Vec<Value> {
        let answer = self.http.get(format!("{}/tandem/instances", self.endpoint)).send().await.expect("answers");
        let all: Value = answer.json().await.expect("is JSON");
        all["instances"].as_array().cloned().unwrap_or_default()
    }
}

fn python_with_moto() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let beds = cache.and_then(|cache| std::fs::read_dir(cache.join("tandem/testbed")).ok());
    let of_bed = beds
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("python-"))
        .map(|entry| entry.path().join("bin/python"));
    let named = std::env::var_os("TANDEM_PYTHON").map(PathBuf::from);
    named.into_iter().chain(of_bed).find(|python| {
        let tried = Command::new(python).args(["-c", "import moto.server"]).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    })
}

fn class(kind: &str, spec: Value) -> NodeClass {
    NodeClass {
        group: "karpenter.k8s.aws".to_owned(),
        kind: kind.to_owned(),
        name: "default".to_owned(),
        uid: format!("class-{kind}"),
        spec,
    }
}

fn inline() -> Value {
    json!({
        "subnetSelector": {"karpenter.sh/discovery": CLUSTER},
        "securityGroupSelector": {"karpenter.sh/discovery": "*"},
        "instanceProfile": format!("{CLUSTER}-node"),
        "tags": {"team": "core"},
    })
}

struct Bed<'a> {
    double: &'a Double,
}

fn request(class: NodeClass, claim_name: &str, claim_uid: &str, capacity_type: CapacityType) -> LaunchRequest {
    let taint = |key: &str| Taint { key: key.to_owned(), value: "x".to_owned(), effect: TaintEffect::NoSchedule };
    let offering = |name: &str, zone: &str, micros| PricedOffering {
        key: OfferingKey { instance_type: name.to_owned(), zone: zone.to_owned(), capacity_type },
        price: UsdMicrosPerHour(micros),
    };
    LaunchRequest {
        claim_name: claim_name.to_owned(),
        claim_uid: claim_uid.to_owned(),
        pool: PoolKey { kind: PoolKind::Provisioner, name: "default".to_owned() },
        class,
        offerings: vec![
            offering("c6g.large", "us-east-1a", 68_000),
            offering("c5.large", "us-east-1b", 85_000),
            offering("m5.large", "us-east-1b", 96_000),
        ],
        labels: BTreeMap::from([
            ("karpenter.sh/provisioner-name".to_owned(), "default".to_owned()),
            ("node-role.kubernetes.io/worker".to_owned(), "true".to_owned()),
        ]),
        taints: vec![taint("dedicated")],
        startup_taints: vec![taint("starting")],
        kubelet: Value::Null,
        requests: ResourceList::new(),
    }
}

#[async_trait]
impl Harness for Bed<'_> {
    fn request(&self, claim_name: &str, claim_uid: &str) -> LaunchRequest {
        request(class("Provisioner", inline()), claim_name, claim_uid, CapacityType::OnDemand)
    }

    fn misconfigured(&self) -> Vec<(NodeClass, &'static str)> {
        let with = |field: &str, value: Value| {
            let mut spec = inline();
            spec[field] = value;
            class("Provisioner", spec)
        };
        vec![
            (
                with("subnetSelector", json!({"no": "such"})),
                "spec.provider.subnetSelector: no subnet matches {no: such}",
            ),
            (with("securityGroupSelector", json!({"aws-ids": "sg-1"})), "spec.provider.securityGroupSelector: no"),
            (with("amiFamily", json!("Bottlerocket")), "spec.provider.amiFamily: no Bottlerocket image"),
        ]
    }

    async fn set_sold_out(&self, offerings: &[OfferingKey], sold_out: bool) -> bool {
        let pools: Vec<Value> = offerings
            .iter()
            .filter(|_| sold_out)
            .map(|key| json!([key.capacity_type.as_str(), key.instance_type, key.zone]))
            .collect();
        self.double.post("capacity", json!({"exhausted": pools})).await;
        true
    }

    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn config(double: &Double) -> aws_config::SdkConfig {
    aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new("us-east-1"))
        .endpoint_url(&double.endpoint)
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "test")))
        .build()
}

fn connect(double: &Double) -> AwsCloud {
    connect_as(double, "this-cluster")
}

fn connect_as(double: &Double, cluster_uid: &str) -> AwsCloud {
    let settings = Settings::new(CLUSTER, cluster_uid, "https://api.example.com", "1.28");
    AwsCloud::with_config(&config(double), settings).expect("connects")
}

#[tokio::test]
async fn the_adapter_keeps_the_contract_on_an_emulated_account() {
    let Some(double) = Double::start().await else { return };
    double.post("seed", json!({"cluster": CLUSTER, "profile": format!("{CLUSTER}-node")})).await;
    conformance::run(&connect(&double), &Bed { double: &double }).await.unwrap();

    // Another process, which has not heard of the pools that were empty a moment ago.
    let cloud = connect(&double);
    a_restarted_process_finds_the_machine(&double).await;
    a_launch_of_unknown_outcome_is_not_repeated_while_lists_may_lag(&double).await;
    a_cluster_of_the_same_name_is_left_alone(&double).await;
    a_machine_from_before_the_uid_tag_is_found_by_its_claim_alone(&double).await;
    a_protected_machine_keeps_no_other_one(&double).await;
    a_machine_says_what_it_is(&double, &cloud).await;
    an_unknown_profile_is_named(&cloud).await;
    other_kinds_of_classes_launch_too(&cloud).await;
}

async fn a_restarted_process_finds_the_machine(double: &Double) {
    let request = request(class("Provisioner", inline()), "restarted", "uid-restarted", CapacityType::Spot);
    let first = connect(double).launch(&request).await.expect("launches");
    let mut changed = request.clone();
    changed.offerings.remove(0);
    let second = connect(double).launch(&changed).await.expect("finds it");
    assert_eq!(first.provider_id, second.provider_id);
    assert_eq!((first.capacity, first.allocatable), (second.capacity, second.allocatable));
    assert_eq!(first.labels, second.labels);
}

async fn a_launch_of_unknown_outcome_is_not_repeated_while_lists_may_lag(double: &Double) {
    let request = request(class("Provisioner", inline()), "unknown", "uid-unknown", CapacityType::OnDemand);
    // What EC2 says when an earlier process asked with the claim's token and died; its machine is in no list yet.
    double.post("fail", json!({"action": "CreateFleet", "code": "IdempotentParameterMismatch", "times": 1})).await;
    let first = connect(double).launch(&request).await;
    let told = match &first {
        Err(CloudError::Unavailable(cause)) => cause.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(told.contains("does not list yet"), "{told}");
    assert_eq!(double.tokens("uid-unknown").await, [""; 0], "the refused call alone was made");
    connect(double).launch(&request).await.expect("launches");
    assert_eq!(
        double.tokens("uid-unknown").await,
        ["uid-unknown"],
        "the token is the same, so EC2 would start no second one"
    );
}

async fn a_cluster_of_the_same_name_is_left_alone(double: &Double) {
    let (ours, theirs) = (connect(double), connect_as(double, "another-cluster"));
    let request = request(class("Provisioner", inline()), "theirs", "uid-theirs", CapacityType::OnDemand);
    let machine = theirs.launch(&request).await.expect("launches");
    let in_list = |list: Vec<cloud::Machine>| list.iter().any(|it| it.provider_id == machine.provider_id);
    assert!(in_list(theirs.list().await.expect("lists")));
    assert!(!in_list(ours.list().await.expect("lists")), "who lists it may end it as nobody's");
}

async fn a_machine_from_before_the_uid_tag_is_found_by_its_claim_alone(double: &Double) {
    let cloud = connect(double);
    let request = request(class("Provisioner", inline()), "older", "uid-older", CapacityType::OnDemand);
    let machine = cloud.launch(&request).await.expect("launches");
    let id = machine.provider_id.rsplit('/').next().expect("has one");
    let untag = aws_sdk_ec2::types::Tag::builder().key("tandem.dev/cluster-uid").build();
    let ec2 = aws_sdk_ec2::Client::new(&config(double));
    ec2.delete_tags().resources(id).tags(untag).send().await.expect("untags");

    let cloud = connect(double);
    let listed = cloud.list().await.expect("lists");
    assert!(!listed.iter().any(|it| it.provider_id == machine.provider_id), "nobody can prove whose it is");
    let found = cloud.launch(&request).await.expect("finds it");
    assert_eq!(found.provider_id, machine.provider_id, "its claim proves it");
    assert_eq!(cloud.get(&machine.provider_id).await.expect("is there").provider_id, machine.provider_id);
    cloud.terminate(&machine.provider_id).await.expect("a claim that recorded it may end it");
}

/// EC2 ends none of a call's instances in a zone where one of them is protected.
async fn a_protected_machine_keeps_no_other_one(double: &Double) {
    let cloud = connect(double);
    let mut machines = Vec::new();
    for name in ["kept", "ended"] {
        let request = request(class("Provisioner", inline()), name, &format!("uid-{name}"), CapacityType::OnDemand);
        machines.push(cloud.launch(&request).await.expect("launches").provider_id);
    }
    let protect = |on: bool| {
        let id = machines[0].rsplit('/').next().expect("has one").to_owned();
        let on = aws_sdk_ec2::types::AttributeBooleanValue::builder().value(on).build();
        let ec2 = aws_sdk_ec2::Client::new(&config(double));
        async move {
            let call = ec2.modify_instance_attribute().instance_id(id).disable_api_termination(on);
            call.send().await.expect("protects")
        }
    };
    protect(true).await;
    let (kept, ended) = tokio::join!(cloud.terminate(&machines[0]), cloud.terminate(&machines[1]));
    match kept {
        Err(CloudError::Misconfigured { what }) => assert!(what.starts_with("the machine's protection:"), "{what}"),
        other => panic!("{other:?}"),
    }
    ended.expect("it is not protected");
    let left = cloud.get(&machines[1]).await;
    assert!(matches!(left, Err(CloudError::NotFound)), "{left:?}");
    protect(false).await;
    cloud.terminate(&machines[0]).await.expect("nobody protects it any more");
}

async fn a_machine_says_what_it_is(double: &Double, cloud: &AwsCloud) {
    let request = request(class("Provisioner", inline()), "described", "uid-described", CapacityType::OnDemand);
    let machine = cloud.launch(&request).await.expect("launches");
    let id = machine.provider_id.rsplit('/').next().expect("has one").to_owned();
    let instances = double.instances().await;
    let instance = instances.iter().find(|it| it["id"] == id.as_str()).expect("is there");
    let tags = &instance["tags"];
    assert_eq!(tags["tandem.dev/nodeclaim-uid"], "uid-described");
    assert_eq!(tags["tandem.dev/cluster-uid"], "this-cluster");
    assert_eq!(tags["karpenter.sh/nodeclaim"], "described");
    assert_eq!(tags["karpenter.sh/provisioner-name"], "default");
    assert_eq!(tags["team"], "core");
    let user_data = instance["user_data"].as_str().expect("is text");
    let user_data = match STANDARD.decode(user_data.trim()) {
        Ok(bytes) => String::from_utf8(bytes).expect("is text"),
        Err(_) => user_data.to_owned(),
    };
    assert!(user_data.contains("/etc/eks/bootstrap.sh 'conformance' --apiserver-endpoint 'https://api.example.com'"));
    assert!(user_data.contains("--register-with-taints=dedicated=x:NoSchedule,starting=x:NoSchedule"), "{user_data}");
    assert!(!user_data.contains("node-role.kubernetes.io"), "a kubelet refuses to start with it: {user_data}");
    assert!(machine.capacity.get(&units::ResourceName::pods()).0 > 0);
}

async fn an_unknown_profile_is_named(cloud: &AwsCloud) {
    let mut spec = inline();
    spec["instanceProfile"] = json!("nobody");
    let request = request(class("Provisioner", spec), "profile", "uid-profile", CapacityType::OnDemand);
    match cloud.launch(&request).await {
        Err(CloudError::Misconfigured { what }) => {
            assert!(what.starts_with("spec.provider.instanceProfile: "), "{what}");
        }
        other => panic!("{other:?}"),
    }
}

async fn other_kinds_of_classes_launch_too(cloud: &AwsCloud) {
    let template = class("AWSNodeTemplate", inline());
    let v1 = class(
        "EC2NodeClass",
        json!({
            "amiSelectorTerms": [{"alias": "al2@latest"}],
            "subnetSelectorTerms": [{"tags": {"karpenter.sh/discovery": CLUSTER}}],
            "securityGroupSelectorTerms": [{"tags": {"karpenter.sh/discovery": CLUSTER}}],
            "instanceProfile": format!("{CLUSTER}-node"),
        }),
    );
    for class in [template, v1] {
        let kind = class.kind.clone();
        cloud.validate(&class).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
        let request = request(class, &kind, &format!("uid-{kind}"), CapacityType::OnDemand);
        cloud.launch(&request).await.unwrap_or_else(|error| panic!("{kind}: {error:?}"));
    }
}
