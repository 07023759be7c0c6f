//! Kubernetes events (`events.k8s.io/v1`) without floods.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// The API server's limit on a note, in bytes.
pub const NOTE_BYTES_MAX: usize = 1024;
/// The same event within this time after its last occurrence is a repetition.
pub const SAME_FOR: Duration = Duration::from_mins(10);
/// A repetition is written at most this often.
pub const SERIES_EVERY: Duration = Duration::from_mins(1);
/// Events remembered for recognising repetitions: 4,096 at about 500 bytes are 2 MB; the longest silent go first.
pub const REMEMBERED_MAX: usize = 4096;
/// Reason, action and reporting instance may have this many bytes.
const NAME_BYTES_MAX: usize = 128;
/// An event is a courtesy: whoever publishes one does not wait longer for it than this.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
/// Events on their way at once: each takes a connection of its own, and a thousand objects may change together.
const WRITING: usize = 24;

/// The two types of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Something happened as it should.
    Normal,
    /// Somebody should look.
    Warning,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Publishes events in the name of one component. Clones share the memory of what was said.
#[derive(Clone)]
pub struct Recorder {
    client: Client,
    component: Arc<str>,
    instance: Arc<str>,
    memory: Arc<Mutex<Memory>>,
    writing: Arc<Semaphore>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("component", &self.component).finish_non_exhaustive()
    }
}

impl Recorder {
    /// A recorder reporting as `component`, e.g. `keda-operator` or `karpenter`.
    pub fn new(client: Client, component: &str) -> Self {
        let instance = cut(&format!("{component}-{}", crate::lease::identity()), NAME_BYTES_MAX).to_owned();
        let writing = Arc::new(Semaphore::new(WRITING));
        Self { client, component: component.into(), instance: instance.into(), memory: Arc::default(), writing }
    }

    /// Says that something happened to `regarding`.
    ///
    /// The same event (object, kind, reason and note) within ten minutes of its last occurrence does not make a
    /// second one: it raises the count of the first, written at most once a minute. The note is cut to 1,024 bytes.
    /// Events of cluster-scoped objects go to the namespace `default`.
    ///
    /// # Errors
    /// None: an event that cannot be written is logged and forgotten. Waits at most 5 s.
    pub async fn publish(&self, regarding: &ObjectReference, kind: Kind, reason: &str, action: &str, note: String) {
        let note = cut(&note, NOTE_BYTES_MAX).to_owned();
        let key = Key {
            object: [&regarding.kind, &regarding.namespace, &regarding.name, &regarding.uid].map(Clone::clone),
            kind,
            reason: reason.to_owned(),
            note,
        };
        let told = self.memory.lock().unwrap_or_else(PoisonError::into_inner).tell(&key, Instant::now());
        if told == Told::Quiet {
            return;
        }
        let write = async {
            let _permit = self.writing.acquire().await;
            match told {
                Told::Quiet => Ok(()),
                Told::New => self.create(regarding, key, action).await,
                Told::Again { event, count } => match self.count(regarding, &event, count).await {
                    // The API server forgets events after an hour; then it is a new one.
                    Err(kube::Error::Api(status)) if status.is_not_found() => self.create(regarding, key, action).await,
                    result => result,
                },
            }
        };
        match tokio::time::timeout(PUBLISH_TIMEOUT, write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(reason, error = %crate::boot::chain(&error), "event not written"),
            Err(_) => tracing::warn!(reason, "event not written: no answer in time"),
        }
    }

    async fn create(&self, regarding: &ObjectReference, key: Key, action: &str) -> kube::Result<()> {
        let now = Timestamp::now();
        let object = regarding.name.as_deref().unwrap_or("unnamed");
        // Unique by time as in client-go; the name has room for 253 bytes.
        let name = format!("{}.{:x}", cut(object, 200), now.as_nanosecond());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace(regarding).to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            action: Some(cut(action, NAME_BYTES_MAX).to_owned()),
            reason: Some(cut(&key.reason, NAME_BYTES_MAX).to_owned()),
            note: Some(key.note.clone()),
            type_: Some(key.kind.as_str().to_owned()),
            regarding: Some(regarding.clone()),
            reporting_controller: Some(self.component.as_ref().to_owned()),
            reporting_instance: Some(self.instance.as_ref().to_owned()),
            ..Event::default()
        };
        self.api(regarding).create(&PostParams::default(), &event).await?;
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).created(&key, name);
        Ok(())
    }

    async fn count(&self, regarding: &ObjectReference, event: &str, count: i32) -> kube::Result<()> {
        let series = json!({ "series": { "count": count, "lastObservedTime": MicroTime(Timestamp::now()) } });
        self.api(regarding).patch(event, &PatchParams::default(), &Patch::Merge(&series)).await?;
        Ok(())
    }

    fn api(&self, regarding: &ObjectReference) -> Api<Event> {
        Api::namespaced(self.client.clone(), namespace(regarding))
    }
}

fn namespace(regarding: &ObjectReference) -> &str {
    regarding.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or("default")
}

/// The first `bytes` bytes of `text`, less if that would cut a character.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    object: [Option<String>; 4],
    kind: Kind,
    reason: String,
    note: String,
}

#[derive(Debug, Default)]
struct Memory {
    said: BTreeMap<Key, Said>,
}

#[derive(Debug)]
struct Said {
    /// Name of the event object, once it was created.
    event: Option<String>,
    count: i32,
    last: Instant,
    written: Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    New,
    Again { event: String, count: i32 },
    Quiet,
}

impl Memory {
    fn tell(&mut self, key: &Key, now: Instant) -> Told {
        if let Some(said) = self.said.get_mut(key)
            && now.duration_since(said.last) < SAME_FOR
        {
            said.count = said.count.saturating_add(1);
            said.last = now;
            if now.duration_since(said.written) < SERIES_EVERY {
                return Told::Quiet;
            }
            said.written = now;
            // Without a name the first writing failed: try that again.
            return match &said.event {
                Some(event) => Told::Again { event: event.clone(), count: said.count },
                None => Told::New,
            };
        }
        self.make_room(now);
        self.said.insert(key.clone(), Said { event: None, count: 1, last: now, written: now });
        Told::New
    }

    fn created(&mut self, key: &Key, event: String) {
        if let Some(said) = self.said.get_mut(key) {
            said.event = Some(event);
        }
    }

    fn make_room(&mut self, now: Instant) {
        if self.said.len() < REMEMBERED_MAX {
            return;
        }
        self.said.retain(|_, said| now.duration_since(said.last) < SAME_FOR);
        // A quarter at once, so that a flood of different events does not sort on each one.
        if self.said.len() >= REMEMBERED_MAX {
            let mut lasts: Vec<Instant> = self.said.values().map(|said| said.last).collect();
            lasts.sort_unstable();
            let oldest = lasts[REMEMBERED_MAX / 4];
            self.said.retain(|_, said| said.last > oldest);
        }
    }
}

#[cfg(test)]
mod tests;
