//! Triggers whose source answers, with nothing in the answer.

use std::collections::BTreeSet;

use super::ObjectSource;

/// Which triggers are silent, so that each is told of once, when it falls silent.
///
/// That an empty answer counts as 0 is KEDA's default, and right for series that come and go with their workload. It is also
/// what a mistake in a metric's name looks like.
#[derive(Debug, Default)]
pub(crate) struct Silent(BTreeSet<usize>);

impl Silent {
    /// What is to be told after a look at all triggers.
    pub(crate) fn notice(&mut self, source: &ObjectSource) -> Option<String> {
        self.changed(source.silent().collect())
    }

    fn changed(&mut self, now: BTreeSet<usize>) -> Option<String> {
        let before = std::mem::replace(&mut self.0, now);
        let new: Vec<String> = self.0.difference(&before).map(|index| text(*index)).collect();
        (!new.is_empty()).then(|| new.join("; "))
    }
}

fn text(index: usize) -> String {
    format!(
        "spec.triggers[{index}].metadata: the source answers with no series at all, which counts as 0; if that is not what was \
         meant, look at the query, or let it be an error with ignoreNullValues: \"false\""
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_falls_silent_is_told_of_once() {
        let mut silent = Silent::default();
        let mut told = |now: &[usize]| silent.changed(now.iter().copied().collect());
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[1]), Some(text(1)));
        assert_eq!(told(&[1]), None);
        assert_eq!(told(&[0, 1]), Some(text(0)));
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[0, 1]), Some(format!("{}; {}", text(0), text(1))));
    }
}
