use http::Method;
use serde_json::Value;

use super::*;
use crate::fake_api::FakeApi;

const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/shop/events";

fn object() -> ObjectReference {
    ObjectReference {
        kind: Some("ScaledObject".into()),
        namespace: Some("shop".into()),
        name: Some("cart".into()),
        uid: Some("u1".into()),
        ..ObjectReference::default()
    }
}

async fn say(recorder: &Recorder, note: &str) {
    recorder.publish(&object(), Kind::Warning, "ScalerFailed", "Sample", note.to_owned()).await;
}

fn counts(api: &FakeApi) -> Vec<(String, Value)> {
    let events = api.list(EVENTS);
    events
        .into_iter()
        .map(|event| (event["note"].as_str().unwrap().to_owned(), event["series"]["count"].clone()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn an_event_carries_what_the_api_server_requires() {
    let api = FakeApi::new();
    say(&Recorder::new(api.client(), "keda-operator"), "no route to host").await;
    let event = api.list(EVENTS).remove(0);
    for (field, value) in [
        ("type", "Warning"),
        ("reason", "ScalerFailed"),
        ("action", "Sample"),
        ("note", "no route to host"),
        ("reportingController", "keda-operator"),
    ] {
        assert_eq!(event[field], value, "{field}");
    }
    assert!(event["eventTime"].is_string() && event["reportingInstance"].is_string());
    assert_eq!(event["regarding"]["uid"], "u1");
    assert!(event["metadata"]["name"].as_str().unwrap().starts_with("cart."));
}

#[tokio::test(start_paused = true)]
async fn a_repetition_raises_the_count_of_the_first_at_most_once_a_minute() {
    let api = FakeApi::new();
    let recorder = Recorder::new(api.client(), "keda-operator");
    for _ in 0..30 {
        say(&recorder, "down").await;
    }
    assert_eq!((counts(&api), api.writes().len()), (vec![("down".into(), Value::Null)], 1));
    tokio::time::advance(Duration::from_secs(61)).await;
    for _ in 0..30 {
        say(&recorder, "down").await;
    }
    assert_eq!((counts(&api), api.writes().len()), (vec![("down".into(), 31.into())], 2));
    assert_eq!(api.writes()[1].0, Method::PATCH);
}

#[tokio::test(start_paused = true)]
async fn another_note_is_another_event_and_so_is_the_same_after_ten_quiet_minutes() {
    let api = FakeApi::new();
    let recorder = Recorder::new(api.client(), "keda-operator");
    say(&recorder, "down").await;
    say(&recorder, "slow").await;
    assert_eq!(counts(&api).len(), 2);
    tokio::time::advance(SAME_FOR).await;
    say(&recorder, "down").await;
    assert_eq!(counts(&api).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_event_the_api_server_forgot_is_written_anew() {
    let api = FakeApi::new();
    let recorder = Recorder::new(api.client(), "keda-operator");
    say(&recorder, "down").await;
    let name = api.list(EVENTS)[0]["metadata"]["name"].as_str().unwrap().to_owned();
    api.delete(&format!("{EVENTS}/{name}"));
    tokio::time::advance(Duration::from_secs(61)).await;
    say(&recorder, "down").await;
    assert_eq!(counts(&api).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_costs_five_seconds() {
    let api = FakeApi::new();
    api.silence(true);
    let begin = Instant::now();
    say(&Recorder::new(api.client(), "keda-operator"), "down").await;
    assert_eq!(begin.elapsed(), PUBLISH_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_cluster_scoped_object_goes_to_default() {
    let api = FakeApi::new();
    let node = ObjectReference { kind: Some("Node".into()), name: Some("n1".into()), ..ObjectReference::default() };
    Recorder::new(api.client(), "karpenter").publish(&node, Kind::Normal, "Launched", "Launch", "ok".into()).await;
    assert_eq!(api.list("/apis/events.k8s.io/v1/namespaces/default/events").len(), 1);
}

#[test]
fn a_long_note_is_cut_between_characters() {
    let note = "ä".repeat(600);
    assert_eq!(cut(&note, NOTE_BYTES_MAX), "ä".repeat(512));
    assert_eq!(cut(&note, 1023), "ä".repeat(511));
}

#[test]
fn a_flood_of_different_events_does_not_grow_the_memory() {
    let mut memory = Memory::default();
    let start = Instant::now();
    for n in 0..3 * u64::try_from(REMEMBERED_MAX).unwrap() {
        let key = Key { object: Default::default(), kind: Kind::Normal, reason: String::new(), note: n.to_string() };
        assert_eq!(memory.tell(&key, start + Duration::from_millis(n)), Told::New);
        assert!(memory.said.len() <= REMEMBERED_MAX);
    }
}
