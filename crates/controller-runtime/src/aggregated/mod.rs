//! The duties of an aggregated API server: who asks, and may they?
//!
//! The API server calls us over TLS with its front-proxy client certificate and says in headers for whom
//! ([`front_proxy`]); anybody else may come with a bearer token that the API server vouches for. What the caller may
//! do is the API server's decision too, asked by SubjectAccessReview ([`reviews`]). [`Delegated::protect`] puts both
//! before a router and answers 401 and 403 as `metav1.Status`.

pub mod front_proxy;
mod request;
mod reviews;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

pub use request::{Attributes, attributes};
pub use reviews::{DECISION_TTL, ReviewError};
pub use status::{Reason, failure};

use crate::index::{Wakeup, Watched};
use crate::tls::Peer;
use front_proxy::FrontProxy;
use reviews::Reviews;

/// Namespace of the ConfigMap in which the API server says how it authenticates itself.
pub const CONFIG_NAMESPACE: &str = "kube-system";
/// Name of that ConfigMap.
pub const CONFIG_NAME: &str = "extension-apiserver-authentication";

/// Paths anybody may ask for: probes.
const OPEN_PATHS: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// `system:serviceaccount:kube-system:horizontal-pod-autoscaler`
    pub name: String,
    /// Set for service accounts and some others.
    pub uid: Option<String>,
    /// Every group.
    pub groups: Vec<String>,
    /// Whatever else the authenticator knows, by lower-case key.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The answer to "may they?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Yes.
    Allowed,
    /// No, with the API server's reason, which may be empty.
    Denied {
        /// For the caller to read.
        reason: String,
    },
}

/// Authentication and authorisation, both delegated to the API server. Clones share the caches.
#[derive(Clone)]
pub struct Delegated {
    front_proxy: Arc<ArcSwap<FrontProxy>>,
    reviews: Arc<Reviews>,
}

impl std::fmt::Debug for Delegated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delegated").field("front_proxy", &self.front_proxy.load()).finish_non_exhaustive()
    }
}

impl Delegated {
    /// Watches the API server's ConfigMap and follows its changes until `shutdown`.
    ///
    /// Needs the Role `kube-system/extension-apiserver-authentication-reader` and the ClusterRole
    /// `system:auth-delegator`. Until the ConfigMap has been read, and whenever it is not usable, only bearer tokens
    /// authenticate; `ready` says so.
    pub fn start(client: &Client, ready: crate::health::Check, shutdown: &CancellationToken) -> Self {
        let delegated = Self::with_front_proxy(client, FrontProxy::none());
        let wakeup = Wakeup::new();
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), CONFIG_NAMESPACE);
        let config = watcher::Config::default().fields(&format!("metadata.name={CONFIG_NAME}"));
        let mut changes = wakeup.listen();
        let watched = Watched::spawn(api, config, &wakeup, shutdown);
        let (target, shutdown) = (Arc::clone(&delegated.front_proxy), shutdown.clone());
        ready.not_ready("the API server's authentication configuration has not been read");
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    changed = changes.changed() => if changed.is_err() { return },
                }
                if !watched.is_synced() {
                    continue;
                }
                let data = watched.get(CONFIG_NAMESPACE, CONFIG_NAME).and_then(|config| config.data.clone());
                match FrontProxy::from_config(&data.unwrap_or_default()) {
                    Ok(front_proxy) => {
                        target.store(Arc::new(front_proxy));
                        ready.ready();
                    }
                    Err(error) => {
                        // Keep what we had: a half-written ConfigMap must not lock the API server out.
                        tracing::warn!(%error, "the API server's authentication configuration is not usable");
                        ready.not_ready(error.to_string());
                    }
                }
            }
        });
        delegated
    }

    /// With a fixed front proxy, and nothing watched.
    pub fn with_front_proxy(client: &Client, front_proxy: FrontProxy) -> Self {
        Self {
            front_proxy: Arc::new(ArcSwap::from_pointee(front_proxy)),
            reviews: Arc::new(Reviews::new(client.clone())),
        }
    }

    /// Who asks: the front proxy's word if the client certificate is the front proxy's, else the bearer token's owner.
    ///
    /// `None` when neither says so: 401.
    ///
    /// # Errors
    /// The token could not be reviewed.
    pub async fn authenticate(&self, peer: &Peer, headers: &HeaderMap) -> Result<Option<User>, ReviewError> {
        if let Some(user) = self.front_proxy.load().user(peer, headers, Timestamp::now()) {
            return Ok(Some(user));
        }
        match bearer(headers) {
            Some(token) => self.reviews.token(token).await,
            None => Ok(None),
        }
    }

    /// Whether `user` may do that. Answers are kept for [`DECISION_TTL`].
    ///
    /// # Errors
    /// The API server could not be asked; never taken for a yes.
    pub async fn authorize(&self, user: &User, attributes: &Attributes) -> Result<Access, ReviewError> {
        // As every aggregated API server does: this group may do everything, also while nobody can be asked.
        if user.groups.iter().any(|group| group == "system:masters") {
            return Ok(Access::Allowed);
        }
        self.reviews.access(user, attributes).await
    }

    /// `router` behind authentication and authorisation; the probes stay open. The [`User`] is in the extensions of
    /// the requests that pass.
    pub fn protect(&self, router: Router) -> Router {
        router.layer(from_fn_with_state(self.clone(), guard))
    }
}

async fn guard(State(delegated): State<Delegated>, mut request: Request, next: Next) -> Response {
    if OPEN_PATHS.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
    let user = match delegated.authenticate(&peer, request.headers()).await {
        Ok(Some(user)) => user,
        Ok(None) => return failure(Reason::Unauthorized, "Unauthorized").into_response(),
        Err(error) => return unavailable(&error),
    };
    let attributes = attributes(request.method(), request.uri().path());
    match delegated.authorize(&user, &attributes).await {
        Ok(Access::Allowed) => {}
        Ok(Access::Denied { reason }) => {
            let mut message = format!("user {:?} cannot {attributes}", user.name);
            if !reason.is_empty() {
                message = format!("{message}: {reason}");
            }
            return failure(Reason::Forbidden, message).into_response();
        }
        Err(error) => return unavailable(&error),
    }
    request.extensions_mut().insert(user);
    next.run(request).await
}

fn unavailable(error: &ReviewError) -> Response {
    let text = crate::boot::chain(error);
    tracing::warn!(error = %text, "a request could not be authenticated or authorised");
    (StatusCode::SERVICE_UNAVAILABLE, failure(Reason::ServiceUnavailable, text)).into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests;
