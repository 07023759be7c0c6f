//! What is said of an object again and again: only what is news.

use std::time::Duration;

use api::condition::KedaCondition;
use tokio::time::Instant;

/// A condition that differs from the one before in numbers alone is written again after this time at the earliest.
const AGAIN: Duration = Duration::from_mins(10);

/// What was said last of one object.
#[derive(Debug, Default)]
pub(crate) struct Wording {
    /// The generation of which a condition was written that differs in numbers alone, and when.
    renumbered: Option<(i64, Instant)>,
    /// Why the object could not be acted on.
    warned: Option<Box<str>>,
}

impl Wording {
    /// Keeps the old words of conditions that say what they said before in other numbers.
    ///
    /// A server may write into each answer how long it took or what time it is. Written down, that would be a status, an event
    /// and a look of the HPA controller at every poll.
    pub(crate) fn steady(&mut self, generation: i64, old: &[KedaCondition], new: &mut [KedaCondition]) {
        let held = self.renumbered.is_some_and(|(of, at)| of == generation && at.elapsed() < AGAIN);
        let mut renumbered = false;
        for now in new {
            let same = |before: &&KedaCondition| {
                (&before.r#type, &before.status, &before.reason) == (&now.r#type, &now.status, &now.reason)
                    && before.message != now.message
                    && same_but_numbers(&before.message, &now.message)
            };
            match old.iter().find(same) {
                Some(before) if held => now.message.clone_from(&before.message),
                Some(_) => renumbered = true,
                None => {}
            }
        }
        if renumbered {
            self.renumbered = Some((generation, Instant::now()));
        }
    }

    /// Whether this, why the object cannot be acted on, is to be logged: the same was not said before.
    pub(crate) fn is_news(&mut self, what: &str) -> bool {
        let news = self.warned.as_deref().is_none_or(|said| !same_but_numbers(said, what));
        if news {
            self.warned = Some(what.into());
        }
        news
    }

    /// The object was acted on: what stops it next is news.
    pub(crate) fn all_well(&mut self) {
        self.warned = None;
    }
}

fn same_but_numbers(a: &str, b: &str) -> bool {
    let words = |text: &'_ str| text.chars().filter(|c| !c.is_ascii_digit() && *c != '.').collect::<String>();
    words(a) == words(b)
}

#[cfg(test)]
mod tests {
    use api::condition::Status;

    use super::*;

    fn ready(message: &str) -> Vec<KedaCondition> {
        vec![KedaCondition::new("Ready", Status::False, "TriggerError", message)]
    }

    fn written(wording: &mut Wording, generation: i64, old: &str, new: &str) -> String {
        let mut conditions = ready(new);
        wording.steady(generation, &ready(old), &mut conditions);
        conditions.remove(0).message
    }

    #[tokio::test(start_paused = true)]
    async fn other_numbers_are_written_once_in_a_while_and_other_words_at_once() {
        let mut wording = Wording::default();
        assert_eq!(written(&mut wording, 1, "waited 1.5 s", "waited 20 s"), "waited 20 s");
        assert_eq!(written(&mut wording, 1, "waited 20 s", "waited 3 s"), "waited 20 s");
        assert_eq!(written(&mut wording, 1, "waited 20 s", "refused"), "refused");
        assert_eq!(written(&mut wording, 2, "waited 20 s", "waited 3 s"), "waited 3 s", "its owner has changed it");
        assert_eq!(written(&mut wording, 2, "waited 3 s", "waited 4 s"), "waited 3 s");
        tokio::time::advance(AGAIN).await;
        assert_eq!(written(&mut wording, 2, "waited 3 s", "waited 4 s"), "waited 4 s");
    }

    #[test]
    fn another_status_or_reason_takes_its_own_words() {
        let mut wording = Wording { renumbered: Some((1, Instant::now())), warned: None };
        let mut now = vec![
            KedaCondition::new("Ready", Status::True, "TriggerError", "waited 2 s"),
            KedaCondition::new("Ready", Status::False, "CheckFailed", "waited 2 s"),
        ];
        wording.steady(1, &ready("waited 1 s"), &mut now);
        assert!(now.iter().all(|condition| condition.message == "waited 2 s"), "{now:?}");
    }

    #[test]
    fn what_is_said_again_is_no_news() {
        let mut wording = Wording::default();
        let mut news = |what: &str| wording.is_news(what);
        assert_eq!(["gone", "gone", "gone at 7", "gone at 8", "gone"].map(&mut news), [true, false, true, false, true]);
        wording.all_well();
        assert!(wording.is_news("gone"));
    }
}
