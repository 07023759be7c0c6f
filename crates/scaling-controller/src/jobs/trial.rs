//! Whether the API server would take the Jobs of a ScaledJob. Only it knows what a Job may look like.

use api::keda::ScaledJob;
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};

use super::actor::JobActor;
use super::make;
use crate::actor::Stop;

impl JobActor {
    /// Asks once per generation, without making a Job.
    pub(super) async fn try_out(&self, object: &ScaledJob) -> Result<(), Stop> {
        if self.rolled.is_some() && self.rolled == object.metadata.generation {
            return Ok(());
        }
        let (api, job) = (self.dynamic_jobs(), make::job(object, env!("CARGO_PKG_VERSION")));
        let job: DynamicObject = serde_json::from_value(job)
            .map_err(|error| Stop::Manifest(format!("spec.jobTargetRef cannot be written as a Job: {error}")))?;
        let _permit = self.shared.acting.acquire().await;
        match api.create(&PostParams { dry_run: true, ..PostParams::default() }, &job).await {
            Ok(_) => Ok(()),
            Err(error) => refusal(&error).map_or(Ok(()), Err),
        }
    }

    /// Jobs as they were written, with fields that we do not know.
    pub(super) fn dynamic_jobs(&self) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<Job>(&());
        Api::namespaced_with(self.shared.client.clone(), &self.key.namespace, &resource)
    }
}

/// What an answer to a trial says against the manifest. A quota that is used up, or an API server that is away, says nothing
/// against it; nor does a webhook that cannot be tried.
fn refusal(error: &kube::Error) -> Option<Stop> {
    let kube::Error::Api(status) = error else { return None };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let causes: Vec<String> = causes.map(|cause| format!("{}: {}", written_as(&cause.field), cause.message)).collect();
    match status.code {
        // Without the message, which has the random name of a Job that is not there.
        422 if !causes.is_empty() => Some(Stop::Manifest(causes.join("; "))),
        422 => Some(Stop::Manifest(format!("spec.jobTargetRef: {}", status.message))),
        // A webhook's answer may be another one later.
        400 if !status.message.contains("does not support dry run") => {
            Some(Stop::World(format!("spec.jobTargetRef: {}", status.message)))
        }
        _ => None,
    }
}

/// The field of a ScaledJob that a field of its Jobs comes from.
fn written_as(field: &str) -> String {
    field.strip_prefix("spec.").map_or_else(|| field.to_owned(), |rest| format!("spec.jobTargetRef.{rest}"))
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    fn said(code: u16, message: &str, field: Option<&str>) -> String {
        let causes: Vec<_> = field.iter().map(|field| json!({"message": "Bad value", "field": field})).collect();
        let status: Status = serde_json::from_value(json!({
            "status": "Failure", "code": code, "reason": "x", "message": message, "details": {"causes": causes},
        }))
        .unwrap();
        match refusal(&kube::Error::Api(Box::new(status))) {
            Some(Stop::Manifest(text)) => format!("manifest: {text}"),
            Some(Stop::World(text)) => format!("world: {text}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn what_is_wrong_with_a_job_is_named_as_it_was_written() {
        for (code, message, field, wanted) in [
            (
                422,
                "Job \"a-x1\" is invalid",
                Some("spec.template.x"),
                "manifest: spec.jobTargetRef.template.x: Bad value",
            ),
            (422, "Job \"a-x1\" is invalid", Some("metadata.labels"), "manifest: metadata.labels: Bad value"),
            (422, "invalid", None, "manifest: spec.jobTargetRef: invalid"),
            (400, "cannot unmarshal", None, "world: spec.jobTargetRef: cannot unmarshal"),
            (400, "admission webhook \"w\" does not support dry run", None, "None"),
            (403, "exceeded quota", None, "None"),
            (500, "away", None, "None"),
        ] {
            assert_eq!(said(code, message, field), wanted, "{code} {message}");
        }
    }
}
