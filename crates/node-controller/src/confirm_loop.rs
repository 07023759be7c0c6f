//! Asks the API server about claims that were created here and that no watch has shown for a while.
//!
//! A watch may lag by minutes. Forgetting such a claim would plan its pods again and spend its limit twice; believing in
//! one that is gone would keep its pods waiting. So neither is guessed.

use std::time::Duration;

use api::karpenter_v1::NodeClaim;
use controller_runtime::boot::chain;
use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::context::Context;

/// Between two looks. A claim is asked for once a minute at most, so this is how late the first question may be.
const PERIOD: Duration = Duration::from_secs(5);

/// Runs until the shutdown. Only the leader may run it.
pub(crate) async fn run(ctx: Context) {
    loop {
        round(&ctx, Timestamp::now()).await;
        tokio::select! {
            () = ctx.shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// One question for each doubtful claim. Without an answer the claim stays in the reckoning.
async fn round(ctx: &Context, now: Timestamp) {
    let doubtful = ctx.memory().doubtful(now);
    for claim in doubtful {
        match ctx.all::<NodeClaim>().get_opt(&claim.name_any()).await {
            Ok(found) => {
                let gone = found.is_none();
                tracing::warn!(nodeclaim = %claim.name_any(), gone, "asked for a claim that no watch has shown");
                ctx.memory().confirm(&claim, found, now);
                if gone {
                    ctx.wakeup.ring();
                }
            }
            Err(error) => {
                tracing::warn!(nodeclaim = %claim.name_any(), error = %chain(&error), "cannot ask for a claim, trying again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::StatusCode;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        testing::{Answer, context},
        world::World,
    };

    fn claim() -> Value {
        json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "metadata": { "name": "c", "uid": "u" },
            "spec": { "requirements": [], "nodeClassRef": { "group": "g", "kind": "k", "name": "n" } },
        })
    }

    #[tokio::test]
    async fn only_a_clear_no_makes_us_forget_a_claim() {
        let table = [
            (Answer(StatusCode::OK, claim()), true),
            (Answer::status(StatusCode::SERVICE_UNAVAILABLE), true),
            (Answer::status(StatusCode::NOT_FOUND), false),
        ];
        for (answer, kept) in table {
            let said = answer.0;
            let (ctx, asked) = context(move |_| answer.clone());
            let created: NodeClaim = serde_json::from_value(claim()).unwrap();
            let now = Timestamp::now();
            ctx.memory().assume(Arc::new(created), now);
            round(&ctx, now).await;
            assert_eq!(asked.all(), Vec::<String>::new(), "too early");
            round(&ctx, now + Duration::from_mins(1)).await;
            assert_eq!(asked.all(), ["GET /apis/karpenter.sh/v1/nodeclaims/c"]);
            assert_eq!(ctx.memory().unseen(&World::default()).len() == 1, kept, "{said}");
        }
    }
}
