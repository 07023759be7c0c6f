//! The question: what is to be packed, and into what.

/// Pods to place, bins to place them in, and what may not be exceeded.
///
/// Lists may be ragged: a missing amount counts as zero. Negative requests count as zero; a negative capacity holds only
/// what asks for nothing of that resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// Number of resources; every request and capacity has this many entries, in the same order and units.
    pub resources: usize,
    pub groups: Vec<Group>,
    pub bins: Vec<Bin>,
    pub limits: Vec<Limit>,
}

/// Pods that are equal in every respect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// How many pods there are. What exceeds 2^48 stays unplaced.
    pub demand: u64,
    /// What one pod takes of each resource.
    pub request: Vec<i64>,
    /// How many of these pods one node may hold; [`u32::MAX`] for no such rule.
    pub max_per_node: u32,
    /// Labels of which a node holds at most one pod, whatever its group: a host port, an anti-affinity term.
    pub exclusive: Vec<u32>,
    /// The bins (by index) these pods may use.
    pub eligible: Bits,
}

/// A kind of node that can be opened, or nodes that are already there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bin {
    /// Micro-USD per hour of one node. Negative prices count as zero.
    pub price: i64,
    /// What one node has left for pods, for each resource.
    pub capacity: Vec<i64>,
    /// How many such nodes there are; `None` for as many as wanted.
    pub available: Option<u64>,
    /// Exclusive labels that something on the node already holds.
    pub pre_taken: Vec<u32>,
}

/// A ceiling on what all opened nodes take together, such as the vCPUs of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// What one node of each bin (by index) counts. Negative amounts count as zero.
    pub per_bin: Vec<i64>,
    /// The sum over opened nodes stays at or below this.
    pub most: i64,
}

/// A set of small integers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// The empty set, with room for members below `length`.
    pub fn none(length: usize) -> Self {
        Self { words: vec![0; length.div_ceil(64)] }
    }

    /// Every integer below `length`.
    pub fn all(length: usize) -> Self {
        (0..length).collect()
    }

    pub fn insert(&mut self, member: usize) {
        let word = member / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (member % 64);
    }

    pub fn has(&self, member: usize) -> bool {
        self.words.get(member / 64).is_some_and(|word| word >> (member % 64) & 1 == 1)
    }

    /// Whether every member of `other` is a member.
    pub fn covers(&self, other: &Self) -> bool {
        other.words.iter().enumerate().all(|(at, word)| word & !self.words.get(at).copied().unwrap_or(0) == 0)
    }
}

impl FromIterator<usize> for Bits {
    fn from_iter<I: IntoIterator<Item = usize>>(members: I) -> Self {
        let mut bits = Self::default();
        for member in members {
            bits.insert(member);
        }
        bits
    }
}
