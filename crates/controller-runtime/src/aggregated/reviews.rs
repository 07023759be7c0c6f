//! Questions to the API server: whose token is this, and may they? With short memories.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};
use moka::future::Cache;
use sha2::{Digest, Sha256};

use super::{Access, Attributes, User};

/// How long an answer is believed, yes and no alike. Go's aggregated servers use 10 s too.
pub const DECISION_TTL: Duration = Duration::from_secs(10);

/// One HPA controller asks about every metric name: 4,096 decisions of some 500 bytes are 2 MB.
const DECISIONS_MAX: u64 = 4096;
/// Callers with tokens are people and monitoring, few.
const TOKENS_MAX: u64 = 1024;
/// A caller waits for its metric for 5 s in all.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(4);

/// The API server could not be asked: answer 503, never yes.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReviewError {
    /// It refused or could not be reached.
    #[error("the API server could not be asked")]
    Kube(#[source] Arc<kube::Error>),
    /// It did not answer in time.
    #[error("the API server did not answer in time")]
    Timeout,
}

pub(super) struct Reviews {
    client: Client,
    decisions: Cache<(User, Attributes), Access>,
    /// By SHA-256 of the token, so that no token is kept.
    tokens: Cache<[u8; 32], Option<User>>,
}

impl Reviews {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            decisions: Cache::builder().max_capacity(DECISIONS_MAX).time_to_live(DECISION_TTL).build(),
            tokens: Cache::builder().max_capacity(TOKENS_MAX).time_to_live(DECISION_TTL).build(),
        }
    }

    pub(super) async fn token(&self, token: &str) -> Result<Option<User>, ReviewError> {
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        self.tokens.try_get_with(key, bounded(self.review_token(token))).await.map_err(|error| (*error).clone())
    }

    pub(super) async fn access(&self, user: &User, attributes: &Attributes) -> Result<Access, ReviewError> {
        let key = (user.clone(), attributes.clone());
        self.decisions
            .try_get_with(key, bounded(self.review_access(user, attributes)))
            .await
            .map_err(|error| (*error).clone())
    }

    async fn review_token(&self, token: &str) -> Result<Option<User>, ReviewError> {
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let status = api.create(&PostParams::default(), &review).await.map_err(kube_error)?.status.unwrap_or_default();
        if status.authenticated != Some(true) {
            return Ok(None);
        }
        let user = status.user.unwrap_or_default();
        let Some(name) = user.username.filter(|name| !name.is_empty()) else { return Ok(None) };
        Ok(Some(User {
            name,
            uid: user.uid,
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        }))
    }

    async fn review_access(&self, user: &User, attributes: &Attributes) -> Result<Access, ReviewError> {
        let mut spec = SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: user.uid.clone(),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()),
            ..SubjectAccessReviewSpec::default()
        };
        match attributes.clone() {
            Attributes::Path { verb, path } => {
                spec.non_resource_attributes = Some(NonResourceAttributes { path: Some(path), verb: Some(verb) });
            }
            Attributes::Resource { verb, group, version, namespace, resource, name, subresource } => {
                spec.resource_attributes = Some(ResourceAttributes {
                    verb: Some(verb),
                    group: Some(group),
                    version: Some(version),
                    namespace: Some(namespace),
                    resource: Some(resource),
                    name: Some(name),
                    subresource: Some(subresource),
                    ..ResourceAttributes::default()
                });
            }
        }
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let status = api.create(&PostParams::default(), &review).await.map_err(kube_error)?.status.unwrap_or_default();
        if status.allowed {
            return Ok(Access::Allowed);
        }
        // An evaluation error is common beside a "no": one dangling RoleBinding somewhere is enough.
        let reason = status.reason.or(status.evaluation_error).unwrap_or_default();
        Ok(Access::Denied { reason })
    }
}

async fn bounded<T>(review: impl Future<Output = Result<T, ReviewError>>) -> Result<T, ReviewError> {
    tokio::time::timeout(REVIEW_TIMEOUT, review).await.unwrap_or(Err(ReviewError::Timeout))
}

fn kube_error(error: kube::Error) -> ReviewError {
    ReviewError::Kube(Arc::new(error))
}
