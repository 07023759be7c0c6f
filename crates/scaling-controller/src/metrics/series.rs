//! What is known under some names: kept once, and made series of when somebody scrapes.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};

/// All members of one kind.
///
/// Whoever has something to say waits for at most one look at the set and one at the member. A scrape, which is long, holds
/// neither while it writes: it takes the members out first, and of each one value at a time.
#[derive(Debug)]
pub(super) struct Kept<N, S>(Mutex<HashSet<ByNames<N, S>>>);

/// One of them.
#[derive(Debug)]
pub(super) struct Member<N, S> {
    names: N,
    state: Mutex<S>,
}

impl<N: Clone + Eq + Hash, S: Default> Kept<N, S> {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Changes what is known under these names, which is nothing at first.
    pub(super) fn update(&self, names: &N, change: impl FnOnce(&mut S)) {
        let member = self.member(names);
        change(&mut lock(&member.state));
    }

    pub(super) fn forget(&self, names: &N) {
        lock(&self.0).remove(names);
    }

    /// Those that are there now, in no order.
    pub(super) fn all(&self) -> Vec<Arc<Member<N, S>>> {
        lock(&self.0).iter().map(|ByNames(member)| Arc::clone(member)).collect()
    }

    fn member(&self, names: &N) -> Arc<Member<N, S>> {
        let mut kept = lock(&self.0);
        if let Some(ByNames(member)) = kept.get(names) {
            return Arc::clone(member);
        }
        let member = Arc::new(Member { names: names.clone(), state: Mutex::default() });
        kept.insert(ByNames(Arc::clone(&member)));
        member
    }
}

/// The labels of those that have a value, and the value.
pub(super) fn each<'a, N, S, L, V>(
    members: &'a [Arc<Member<N, S>>],
    labels: impl Fn(&'a N) -> L,
    value: impl Fn(&S) -> Option<V>,
) -> impl Iterator<Item = (L, V)> {
    members.iter().filter_map(move |member| {
        let value = value(&lock(&member.state))?;
        Some((labels(&member.names), value))
    })
}

/// Writes a family as those of the library are written: not at all while it is empty. `help` ends with a full stop.
pub(super) fn family<L: EncodeLabelSet, M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    series: impl Iterator<Item = (L, M)>,
) -> fmt::Result {
    let mut series = series.peekable();
    let Some((_, first)) = series.peek() else { return Ok(()) };
    let mut family = encoder.encode_descriptor(name, help, None, first.metric_type())?;
    series.try_for_each(|(labels, metric)| metric.encode(family.encode_family(&labels)?))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A member in the set.
#[derive(Debug)]
struct ByNames<N, S>(Arc<Member<N, S>>);

impl<N, S> Borrow<N> for ByNames<N, S> {
    fn borrow(&self) -> &N {
        &self.0.names
    }
}

impl<N: Hash, S> Hash for ByNames<N, S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.names.hash(state);
    }
}

impl<N: PartialEq, S> PartialEq for ByNames<N, S> {
    fn eq(&self, other: &Self) -> bool {
        self.0.names == other.0.names
    }
}

impl<N: Eq, S> Eq for ByNames<N, S> {}

#[cfg(test)]
mod tests {
    use prometheus_client::collector::Collector;
    use prometheus_client::encoding::text;
    use prometheus_client::metrics::gauge::ConstGauge;
    use prometheus_client::registry::Registry;

    use super::*;

    type Numbers = Kept<&'static str, i64>;

    #[derive(Debug)]
    struct Family(Arc<Numbers>);

    impl Collector for Family {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            let all = self.0.all();
            let numbers = each(&all, |name| [("name", *name)], |number| Some(ConstGauge::new(*number)));
            family(&mut encoder, ("numbers", "Numbers."), numbers)
        }
    }

    /// Asks at every word whether somebody who has something to say would have to wait.
    struct Page {
        numbers: Arc<Numbers>,
        text: String,
    }

    impl fmt::Write for Page {
        fn write_str(&mut self, word: &str) -> fmt::Result {
            assert!(self.numbers.0.try_lock().is_ok(), "the set is held at {word}");
            let free = self.numbers.all().iter().all(|member| member.state.try_lock().is_ok());
            assert!(free, "a member is held at {word}");
            self.text.write_str(word)
        }
    }

    #[test]
    fn nobody_waits_while_a_page_is_written() {
        let numbers = Arc::new(Numbers::new());
        numbers.update(&"a", |number| *number += 1);
        numbers.update(&"a", |number| *number += 1);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Family(Arc::clone(&numbers))));
        let mut page = Page { numbers, text: String::new() };
        text::encode(&mut page, &registry).unwrap();
        assert!(page.text.contains("numbers{name=\"a\"} 2\n"), "{}", page.text);
    }
}
