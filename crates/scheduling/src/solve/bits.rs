use std::cmp::Reverse;

/// A set of small numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn none(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    pub(super) fn of(len: usize, members: impl IntoIterator<Item = usize>) -> Self {
        let mut bits = Self::none(len);
        members.into_iter().for_each(|member| bits.insert(member));
        bits
    }

    pub(super) fn insert(&mut self, member: usize) {
        self.0[member / 64] |= 1 << (member % 64);
    }

    pub(super) fn remove(&mut self, member: usize) {
        self.0[member / 64] &= !(1 << (member % 64));
    }

    pub(super) fn contains(&self, member: usize) -> bool {
        self.0[member / 64] & (1 << (member % 64)) != 0
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }

    /// The members, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(word_index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest.checked_sub(1)?;
                Some(word_index * 64 + bit)
            })
        })
    }

    /// The least member of both.
    pub(super) fn first_common(&self, other: &Self) -> Option<usize> {
        let both = self.0.iter().zip(&other.0).map(|(a, b)| a & b).enumerate();
        let mut words = both.filter(|(_, word)| *word != 0);
        words.next().map(|(index, word)| index * 64 + word.trailing_zeros() as usize)
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        for (word_index, word) in self.0.iter_mut().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                if !keep(word_index * 64 + bit) {
                    *word &= !(1 << bit);
                }
            }
        }
    }

    pub(super) fn keep_common(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= other);
    }

    pub(super) fn remove_all(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= !other);
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(word, other)| word & other != 0)
    }

    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(word, other)| word & !other == 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

/// Which members have at least how much of something, ready to be asked for any amount.
#[derive(Clone)]
pub(super) struct AtLeast(Vec<(i64, Bits)>);

impl AtLeast {
    /// From what each member has.
    pub(super) fn new(amounts: &[i64]) -> Self {
        let mut members: Vec<usize> = (0..amounts.len()).collect();
        members.sort_unstable_by_key(|member| Reverse(amounts[*member]));
        let mut steps: Vec<(i64, Bits)> = Vec::new();
        let mut having = Bits::none(amounts.len());
        for same in members.chunk_by(|one, other| amounts[*one] == amounts[*other]) {
            for member in same {
                having.insert(*member);
            }
            steps.push((amounts[same[0]], having.clone()));
        }
        steps.reverse();
        Self(steps)
    }

    /// Drops the members that have less.
    pub(super) fn keep(&self, members: &mut Bits, amount: i64) {
        match self.0.partition_point(|(step, _)| *step < amount) {
            0 => {}
            past if past == self.0.len() => members.clear(),
            step => members.keep_common(&self.0[step].1),
        }
    }

    /// Drops the members that have more.
    pub(super) fn keep_at_most(&self, members: &mut Bits, amount: i64) {
        if let Some((_, more)) = self.0.get(self.0.partition_point(|(step, _)| *step <= amount)) {
            members.remove_all(more);
        }
    }

    /// The most that any of the members has.
    pub(super) fn most(&self, members: &Bits) -> Option<i64> {
        let reached = self.0.partition_point(|(_, having)| having.overlaps(members));
        reached.checked_sub(1).map(|step| self.0[step].0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_counts_and_lists_its_members_across_words() {
        let mut bits = Bits::of(130, [3, 64, 129]);
        assert_eq!((bits.iter().collect::<Vec<_>>(), bits.len()), (vec![3, 64, 129], 3));
        assert_eq!(bits.first_common(&Bits::of(130, [64, 129])), Some(64));
        bits.remove(3);
        assert_eq!((bits.contains(3), bits.contains(64)), (false, true));
        assert!(bits.is_within(&Bits::of(130, [64, 100, 129])) && !bits.is_within(&Bits::of(130, [64])));
    }

    #[test]
    fn who_has_at_least_so_much_is_known_for_every_amount() {
        let table = AtLeast::new(&[5, 1, 9, 5]);
        for (amount, expected) in
            [(-1, vec![0, 1, 2, 3]), (1, vec![0, 1, 2, 3]), (2, vec![0, 2, 3]), (6, vec![2]), (10, vec![])]
        {
            let mut members = Bits::of(4, 0..4);
            table.keep(&mut members, amount);
            assert_eq!(members.iter().collect::<Vec<_>>(), expected, "{amount}");
        }
        for (amount, expected) in [(0, vec![]), (1, vec![1]), (8, vec![0, 1, 3]), (9, vec![0, 1, 2, 3])] {
            let mut members = Bits::of(4, 0..4);
            table.keep_at_most(&mut members, amount);
            assert_eq!(members.iter().collect::<Vec<_>>(), expected, "{amount} at most");
        }
        assert_eq!(table.most(&Bits::of(4, [0, 1])), Some(5));
        assert_eq!(table.most(&Bits::none(4)), None);
    }
}
