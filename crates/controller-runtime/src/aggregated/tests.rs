use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Extension;
use axum::body::Body;
use axum::routing::get;
use http::Method;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::fake_api::FakeApi;

const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const TOKENS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const METRIC: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/s0-prometheus";

struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn client(&self, name: &str) -> Peer {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), &self.0).unwrap();
        let certificates: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        Peer { certificates: certificates.into() }
    }

    fn config(&self) -> BTreeMap<String, String> {
        [
            ("requestheader-client-ca-file", self.0.pem().as_str()),
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }
}

fn hpa_request() -> http::request::Builder {
    http::Request::get(METRIC)
        .header("X-Remote-User", "system:serviceaccount:kube-system:horizontal-pod-autoscaler")
        .header("X-Remote-Group", "system:serviceaccounts")
        .header("X-Remote-Group", "system:authenticated")
        .header("X-Remote-Extra-example.com%2Fpod", "hpa-1")
}

/// An API server that lets users through whose name does not begin with "no", and knows one token.
fn api() -> FakeApi {
    let api = FakeApi::new();
    api.answer(REVIEWS, |review| {
        let user = review["spec"]["user"].as_str().unwrap();
        json!({ "kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {},
            "spec": review["spec"], "status": { "allowed": !user.starts_with("no"), "reason": "by the rule" } })
    });
    api.answer(TOKENS, |review| {
        let known = review["spec"]["token"] == "good";
        let user = json!({ "username": "ann", "uid": "7", "groups": ["people"] });
        json!({ "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
            "spec": review["spec"], "status": { "authenticated": known, "user": if known { user } else { Value::Null } } })
    });
    api
}

fn delegated(api: &FakeApi, ca: &Ca) -> Delegated {
    Delegated::with_front_proxy(&api.client(), FrontProxy::from_config(&ca.config()).unwrap())
}

async fn ask(delegated: &Delegated, peer: Option<Peer>, request: http::request::Builder) -> (StatusCode, String) {
    let inner = Router::new()
        .route("/healthz", get(async || "alive"))
        .fallback(async |Extension(user): Extension<User>| format!("{user:?}"));
    let mut request = request.body(Body::empty()).unwrap();
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    let answer = delegated.protect(inner).oneshot(request).await.unwrap();
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 65536).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn the_front_proxy_speaks_for_the_user_in_its_headers() {
    let (api, ca) = (api(), Ca::new("front-proxy-ca"));
    let (status, user) = ask(&delegated(&api, &ca), Some(ca.client("front-proxy-client")), hpa_request()).await;
    assert_eq!(status, StatusCode::OK);
    let expected = User {
        name: "system:serviceaccount:kube-system:horizontal-pod-autoscaler".into(),
        uid: None,
        groups: vec!["system:serviceaccounts".into(), "system:authenticated".into()],
        extra: [("example.com/pod".to_owned(), vec!["hpa-1".to_owned()])].into(),
    };
    assert_eq!(user, format!("{expected:?}"));
    let (method, path, review) = api.writes().remove(0);
    assert_eq!((method, path.as_str()), (Method::POST, REVIEWS));
    let attributes = &review["spec"]["resourceAttributes"];
    assert_eq!(
        [&attributes["verb"], &attributes["group"], &attributes["namespace"], &attributes["resource"]],
        ["list", "external.metrics.k8s.io", "shop", "s0-prometheus"]
    );
    assert_eq!(review["spec"]["extra"]["example.com/pod"], json!(["hpa-1"]));
}

#[tokio::test]
async fn headers_of_anybody_else_are_not_believed() {
    let (api, ca) = (api(), Ca::new("front-proxy-ca"));
    let delegated = delegated(&api, &ca);
    // The same name of CA, another key.
    let forged = Ca::new("front-proxy-ca").client("front-proxy-client");
    for (who, peer) in [
        ("no certificate", None),
        ("a certificate of another CA", Some(forged)),
        ("a name that is not allowed", Some(ca.client("kubelet"))),
    ] {
        let (status, body) = ask(&delegated, peer, hpa_request()).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{who}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&body["kind"], &body["reason"], &body["code"]),
            (&json!("Status"), &json!("Unauthorized"), &json!(401))
        );
    }
    assert!(api.writes().is_empty(), "nobody was asked about a stranger");
}

#[tokio::test]
async fn without_allowed_names_any_name_of_the_ca_will_do() {
    let (api, ca) = (api(), Ca::new("front-proxy-ca"));
    let mut config = ca.config();
    config.insert("requestheader-allowed-names".into(), "[]".into());
    let delegated = Delegated::with_front_proxy(&api.client(), FrontProxy::from_config(&config).unwrap());
    assert_eq!(ask(&delegated, Some(ca.client("any")), hpa_request()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_bearer_token_is_its_owners_and_cannot_borrow_a_name_by_header() {
    let (api, ca) = (api(), Ca::new("front-proxy-ca"));
    let delegated = delegated(&api, &ca);
    let with = |token: &str| hpa_request().header("Authorization", format!("Bearer {token}"));
    let (status, user) = ask(&delegated, None, with("good")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(user.contains(r#"name: "ann""#), "{user}");
    assert_eq!(ask(&delegated, None, with("bad")).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_user_without_permission_is_told_what_is_missing() {
    let (api, ca) = (api(), Ca::new("front-proxy-ca"));
    let request = http::Request::get(METRIC).header("X-Remote-User", "nobody");
    let (status, body) = ask(&delegated(&api, &ca), Some(ca.client("front-proxy-client")), request).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["reason"], "Forbidden");
    let message = body["message"].as_str().unwrap();
    assert!(
        message.contains("nobody") && message.contains("s0-prometheus") && message.contains("by the rule"),
        "{message}"
    );
}

#[tokio::test]
async fn a_decision_is_asked_for_once_and_believed_for_its_time() {
    let (api, ca) = (FakeApi::new(), Ca::new("front-proxy-ca"));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    api.answer(REVIEWS, move |review| {
        count.fetch_add(1, Ordering::SeqCst);
        json!({ "kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {},
            "spec": review["spec"], "status": { "allowed": true } })
    });
    let (delegated, peer) = (delegated(&api, &ca), ca.client("front-proxy-client"));
    for _ in 0..20 {
        assert_eq!(ask(&delegated, Some(peer.clone()), hpa_request()).await.0, StatusCode::OK);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let other = http::Request::get(METRIC).header("X-Remote-User", "other");
    ask(&delegated, Some(peer), other).await;
    assert_eq!(asked.load(Ordering::SeqCst), 2, "another user is another decision");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_cannot_be_asked_is_never_a_yes() {
    let (api, ca) = (api(), Ca::new("front-proxy-ca"));
    let (delegated, peer) = (delegated(&api, &ca), ca.client("front-proxy-client"));
    api.break_with(Some(StatusCode::INTERNAL_SERVER_ERROR));
    assert_eq!(ask(&delegated, Some(peer.clone()), hpa_request()).await.0, StatusCode::SERVICE_UNAVAILABLE);
    api.break_with(None);
    api.silence(true);
    let begin = tokio::time::Instant::now();
    assert_eq!(ask(&delegated, Some(peer.clone()), hpa_request()).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert!(begin.elapsed() < std::time::Duration::from_secs(5));
    api.silence(false);
    assert_eq!(
        ask(&delegated, Some(peer.clone()), hpa_request()).await.0,
        StatusCode::OK,
        "failures are not remembered"
    );
    api.silence(true);
    let master = http::Request::get(METRIC).header("X-Remote-User", "admin").header("X-Remote-Group", "system:masters");
    assert_eq!(ask(&delegated, Some(peer), master).await.0, StatusCode::OK, "masters need no review");
}

#[tokio::test]
async fn probes_are_open() {
    let (api, ca) = (api(), Ca::new("front-proxy-ca"));
    let answer = ask(&delegated(&api, &ca), None, http::Request::get("/healthz")).await;
    assert_eq!(answer, (StatusCode::OK, "alive".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_changed_config_map_is_followed_and_a_broken_one_changes_nothing() {
    const CONFIG: &str = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let (api, old, new) = (api(), Ca::new("old"), Ca::new("new"));
    let object = |data: &BTreeMap<String, String>| json!({ "metadata": { "namespace": "kube-system" }, "data": data });
    api.put(CONFIG, object(&old.config()));
    let (shutdown, health) = (CancellationToken::new(), crate::health::Health::default());
    let delegated = Delegated::start(&api.client(), health.check("authentication"), &shutdown);
    let (old_peer, new_peer) = (old.client("front-proxy-client"), new.client("front-proxy-client"));
    let status = async |peer: &Peer| ask(&delegated, Some(peer.clone()), hpa_request()).await.0;
    // On a paused clock a sleep ends when every task has nothing left to do.
    let settle = async || tokio::time::sleep(std::time::Duration::from_secs(1)).await;

    assert_eq!(status(&old_peer).await, StatusCode::UNAUTHORIZED, "nothing is known yet");
    assert!(!health.not_ready().is_empty());
    settle().await;
    assert_eq!((status(&old_peer).await, health.not_ready().len()), (StatusCode::OK, 0));

    api.put(CONFIG, object(&new.config()));
    settle().await;
    assert_eq!((status(&old_peer).await, status(&new_peer).await), (StatusCode::UNAUTHORIZED, StatusCode::OK));

    let mut broken = new.config();
    broken.insert(
        "requestheader-client-ca-file".into(),
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".into(),
    );
    api.put(CONFIG, object(&broken));
    settle().await;
    assert_eq!((status(&new_peer).await, health.not_ready().len()), (StatusCode::OK, 1));
    shutdown.cancel();
}
