//! Credentials of triggers, from everywhere they may be kept in a cluster and from a Vault: with the rights of the chart,
//! through rotation, and through mistakes.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use testkit::eventually::{always, when};
use testkit::programs::NAMESPACE;

use crate::door::{Door, Guest};
use crate::world::*;

const SECRET: Kind = Kind("", "v1", "Secret");
const AUTHENTICATION: Kind = Kind("keda.sh", "v1alpha1", "TriggerAuthentication");
/// Long enough for an HPA that looks every two seconds and remembers for five to do what it must not.
const LONG_ENOUGH: Duration = Duration::from_secs(12);
/// The ServiceAccount whose tokens are shown.
const CALLER: &str = "web:caller";

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_from_where_they_are_kept() -> Result<()> {
    let world = World::start().await?;
    world.bed.namespace("web").await?;
    let tokens =
        [("rbac.serviceAccountTokens[0].namespace", "web"), ("rbac.serviceAccountTokens[0].names[0]", "caller")];
    let mut world = world.with_metrics_and(&tokens).await?;
    let door = Door::start().await?;
    let stories = async {
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "caller", "namespace": "web"}});
        world.apply(&account).await?;
        let ends: [Result<()>; 6] = tokio::join!(
            a_rotation_and_mistakes(&world, &door),
            an_environment(&world, &door),
            a_cluster_wide_secret(&world, &door),
            a_token(&world, &door),
            a_vault(&world, &door),
            no_right_to_look_around(&world)
        )
        .into();
        let failed: Vec<String> =
            ends.into_iter().filter_map(|end| end.err().map(|error| format!("{error:#}"))).collect();
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        Ok(())
    };
    let mut result = Box::pin(stories).await;
    if result.is_ok() {
        result = a_secret_that_goes_while_nobody_runs(&mut world).await;
    }
    world.end(result)
}

/// A workload with one replica, and a ScaledObject that asks at the door with what `authentication` gives.
async fn asks(world: &World, door: &Door, name: &str, mode: &str, authentication: &Value) -> Result<()> {
    world.apply(&authentication_of(name, authentication)).await?;
    let object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": name, "namespace": "web"},
        "spec": {
            "scaleTargetRef": {"name": name},
            "minReplicaCount": 1, "maxReplicaCount": 10, "pollingInterval": 1, "cooldownPeriod": 5,
            "triggers": [{
                "type": "metrics-api",
                "metadata": {
                    "url": door.url(&format!("/{name}")), "valueLocation": "number", "targetValue": "10", "authMode": mode,
                },
                "authenticationRef": {"name": name, "kind": authentication["kind"]},
            }],
        },
    });
    world.apply(&object).await
}

/// `{"kind": …, "spec": …}` as an object.
fn authentication_of(name: &str, written: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": written["kind"], "metadata": {"name": name}, "spec": written["spec"],
    });
    if written["kind"] == "TriggerAuthentication" {
        object["metadata"]["namespace"] = json!("web");
    }
    object
}

fn secret(namespace: &str, name: &str, data: &Value) -> Value {
    let metadata = json!({"name": name, "namespace": namespace});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})
}

fn from_secret(name: &str, keys: [&str; 2]) -> Value {
    json!([
        {"parameter": "username", "name": name, "key": keys[0]},
        {"parameter": "password", "name": name, "key": keys[1]},
    ])
}

async fn stays_at(world: &World, name: &str, wanted: u64, why: &str) -> Result<()> {
    always(format!("{name} has {wanted} replicas: {why}"), LONG_ENOUGH, || async {
        let replicas = world.replicas("web", name).await?;
        Ok(when(replicas == wanted, replicas).found((replicas == wanted).then_some(())))
    })
    .await
}

/// A password that changes, a key that is not there, and a Secret that goes.
async fn a_rotation_and_mistakes(world: &World, door: &Door) -> Result<()> {
    const NAME: &str = "rotated";
    let place = (SCALED_OBJECT, Some("web"), NAME);
    world.apply(&deployment("web", NAME, 2, "1", &json!({}))).await?;
    door.set(NAME, Guest::User("reader", "first"), 30);
    let spec = json!({"secretTargetRef": from_secret("login", ["user", "password"])});
    asks(world, door, NAME, "basic", &json!({"kind": "TriggerAuthentication", "spec": spec})).await?;
    world.condition(place, "Ready", "False", &["ScaledObjectCheckFailed", "there is no Secret web/login"]).await?;
    ensure!(world.replicas("web", NAME).await? == 2, "scaled without knowing anything");
    world.apply(&secret("web", "login", &json!({"user": "reader", "password": "first"}))).await?;
    world.wait_for_replicas("web", NAME, 3).await?;

    // The server has the new password before we have it.
    door.set(NAME, Guest::User("reader", "second"), 50);
    world.condition(place, "Ready", "False", &["TriggerError", "HTTP 401"]).await?;
    world.apply(&secret("web", "login", &json!({"password": "second"}))).await?;
    world.wait_for_replicas("web", NAME, 5).await?;
    world.condition(place, "Ready", "True", &[]).await?;

    // The number falls while we cannot ask for it.
    let wrong = json!({"spec": {"secretTargetRef": from_secret("login", ["user", "passwrd"])}});
    world.patch(AUTHENTICATION, Some("web"), NAME, &wrong).await?;
    let says = ["TriggerError", "Secret web/login has no key \"passwrd\""];
    world.condition(place, "Ready", "False", &says).await?;
    door.set(NAME, Guest::User("reader", "second"), 20);
    stays_at(world, NAME, 5, "nobody knows the number").await?;
    world.patch(AUTHENTICATION, Some("web"), NAME, &json!({"spec": spec})).await?;
    world.wait_for_replicas("web", NAME, 2).await?;

    world.delete(SECRET, Some("web"), "login").await?;
    world.condition(place, "Ready", "False", &["TriggerError", "there is no Secret web/login"]).await?;
    world.told(SCALED_OBJECT, NAME, &["KEDAScalerFailed", "there is no Secret web/login"]).await?;
    door.set(NAME, Guest::User("reader", "second"), 10);
    stays_at(world, NAME, 2, "the Secret is gone").await?;
    world.apply(&secret("web", "login", &json!({"user": "reader", "password": "second"}))).await?;
    world.wait_for_replicas("web", NAME, 1).await
}

/// What the scale target itself knows: through `envFrom`, a key of a Secret, and a variable in a variable.
async fn an_environment(world: &World, door: &Door) -> Result<()> {
    const NAME: &str = "environment";
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "base", "namespace": "web"},
                     "data": {"TEAM": "shop"}});
    world.apply(&map).await?;
    world.apply(&secret("web", "own", &json!({"word": "open"}))).await?;
    let mut workload = deployment("web", NAME, 1, "1", &json!({}));
    let mut side = workload["spec"]["template"]["spec"]["containers"][0].clone();
    side["name"] = json!("side");
    side["envFrom"] = json!([{"configMapRef": {"name": "base"}}]);
    side["env"] = json!([
        {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "own", "key": "word"}}},
        {"name": "USER", "value": "$(TEAM)-reader"},
        // Nobody asks for this one, so that its Secret need not be there.
        {"name": "OTHER", "valueFrom": {"secretKeyRef": {"name": "nowhere", "key": "x"}}},
    ]);
    workload["spec"]["template"]["spec"]["containers"] =
        json!([workload["spec"]["template"]["spec"]["containers"][0], side]);
    world.apply(&workload).await?;
    door.set(NAME, Guest::User("shop-reader", "open"), 40);
    let spec = json!({"env": [
        {"parameter": "username", "name": "USER", "containerName": "side"},
        {"parameter": "password", "name": "WORD", "containerName": "side"},
    ]});
    asks(world, door, NAME, "basic", &json!({"kind": "TriggerAuthentication", "spec": spec})).await?;
    world.wait_for_replicas("web", NAME, 4).await
}

/// A Secret beside the program, for triggers of any namespace.
async fn a_cluster_wide_secret(world: &World, door: &Door) -> Result<()> {
    const NAME: &str = "shared";
    world.apply(&deployment("web", NAME, 1, "1", &json!({}))).await?;
    world.apply(&secret(NAMESPACE, "shared", &json!({"user": "all", "password": "us"}))).await?;
    door.set(NAME, Guest::User("all", "us"), 20);
    let spec = json!({"secretTargetRef": from_secret("shared", ["user", "password"])});
    asks(world, door, NAME, "basic", &json!({"kind": "ClusterTriggerAuthentication", "spec": spec})).await?;
    world.wait_for_replicas("web", NAME, 2).await
}

/// Whoever starts without the credentials counts failures as those do who lose them, and falls back.
async fn a_secret_that_goes_while_nobody_runs(world: &mut World) -> Result<()> {
    const NAME: &str = "shared";
    let place = (SCALED_OBJECT, Some("web"), NAME);
    world.kill_programs();
    world.delete(SECRET, Some(NAMESPACE), "shared").await?;
    let fallback = json!({"spec": {"fallback": {"failureThreshold": 2, "replicas": 4}}});
    world.patch(SCALED_OBJECT, Some("web"), NAME, &fallback).await?;
    world.start_programs().await?;
    world.wait_for_replicas("web", NAME, 4).await?;
    world.condition(place, "Fallback", "True", &[]).await?;
    world.apply(&secret(NAMESPACE, "shared", &json!({"user": "all", "password": "us"}))).await?;
    world.condition(place, "Fallback", "False", &[]).await?;
    world.wait_for_replicas("web", NAME, 2).await
}

/// The token of a ServiceAccount that the chart was told about; another one's is not to be had.
async fn a_token(world: &World, door: &Door) -> Result<()> {
    const NAME: &str = "token";
    world.apply(&deployment("web", NAME, 1, "1", &json!({}))).await?;
    door.set(NAME, Guest::Account(CALLER), 30);
    let of = |account: &str| {
        let token = json!({"parameter": "bearerToken", "serviceAccountName": account});
        json!({"kind": "TriggerAuthentication", "spec": {"boundServiceAccountToken": [token]}})
    };
    asks(world, door, NAME, "bearer", &of("default")).await?;
    let says = ["a token of ServiceAccount web/default cannot be had", "forbidden"];
    world.condition((SCALED_OBJECT, Some("web"), NAME), "Ready", "False", &says).await?;
    world.apply(&authentication_of(NAME, &of("caller"))).await?;
    world.wait_for_replicas("web", NAME, 3).await
}

/// A password that only a Vault has, and only for who shows the right token.
async fn a_vault(world: &World, door: &Door) -> Result<()> {
    const NAME: &str = "vault";
    world.apply(&deployment("web", NAME, 1, "1", &json!({}))).await?;
    door.set(NAME, Guest::User("v", "ault"), 30);
    door.set_vault(CALLER, json!({"user": "v", "word": "ault"}));
    let secrets = json!([
        {"parameter": "username", "path": "secret/data/door", "key": "user"},
        {"parameter": "password", "path": "secret/data/door", "key": "word", "type": "secretV2"},
    ]);
    let spec = json!({"hashiCorpVault": {
        "address": door.url(""), "authentication": "kubernetes", "mount": "kubernetes", "role": "keda",
        "credential": {"serviceAccountName": "caller"}, "secrets": secrets,
    }});
    asks(world, door, NAME, "basic", &json!({"kind": "TriggerAuthentication", "spec": spec})).await?;
    world.wait_for_replicas("web", NAME, 3).await?;
    let missing = json!({"spec": {"hashiCorpVault": {"secrets": [
        {"parameter": "username", "path": "secret/data/door", "key": "usr"},
    ]}}});
    world.patch(AUTHENTICATION, Some("web"), NAME, &missing).await?;
    let says = ["TriggerError", "Vault secret secret/data/door has no key \"usr\""];
    world.condition((SCALED_OBJECT, Some("web"), NAME), "Ready", "False", &says).await.map(drop)
}

/// The program may read a Secret whose name it is told, and may not find out which there are.
async fn no_right_to_look_around(world: &World) -> Result<()> {
    for (verb, wanted) in [("get", true), ("list", false), ("watch", false)] {
        let review = json!({"spec": {
            "user": format!("system:serviceaccount:{NAMESPACE}:pod-autoscaler"),
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "resourceAttributes": {"verb": verb, "version": "v1", "resource": "secrets", "namespace": "web"},
        }});
        let reviews: Api<SubjectAccessReview> = Api::all(world.bed.client());
        let reviewed = reviews.create(&PostParams::default(), &serde_json::from_value(review)?).await?;
        let allowed = reviewed.status.is_some_and(|status| status.allowed);
        ensure!(allowed == wanted, "{verb} of Secrets is {}", if allowed { "allowed" } else { "not allowed" });
    }
    Ok(())
}
