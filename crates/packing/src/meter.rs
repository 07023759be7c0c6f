//! What a computation may spend.

use std::cell::Cell;

/// How much a call of [`pack`](crate::pack) may spend.
#[derive(Clone, Copy)]
pub struct Budget<'a> {
    /// Steps of inner loops. A step is a nanosecond or two, but the same everywhere: equal input and equal work give an
    /// equal plan on any machine.
    pub work: u64,
    /// The caller's guard, asked about every hundred thousand steps: once it says `true`, the best plan so far is
    /// returned. It can only end the work earlier.
    pub stop: &'a dyn Fn() -> bool,
    /// Good enough: stop when cost exceeds the proven bound by no more than this many parts per million.
    pub gap_ppm: u32,
}

impl std::fmt::Debug for Budget<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budget").field("work", &self.work).field("gap_ppm", &self.gap_ppm).finish_non_exhaustive()
    }
}

/// Steps between two looks at the caller's guard.
const POLL: u64 = 100_000;

pub(crate) struct Meter<'a> {
    work: u64,
    stop: &'a dyn Fn() -> bool,
    spent: Cell<u64>,
    next_poll: Cell<u64>,
    over: Cell<bool>,
    /// Whether what is half done when it is over stays half done.
    breaks: bool,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(budget: &Budget<'a>) -> Self {
        let (spent, next_poll, over) = (Cell::new(0), Cell::new(POLL), Cell::new(budget.work == 0));
        Self { work: budget.work, stop: budget.stop, spent, next_poll, over, breaks: false }
    }

    /// Counts, and never says that it is over.
    pub(crate) fn endless() -> Self {
        Self::new(&Budget { work: u64::MAX, stop: &|| false, gap_ppm: 0 })
    }

    /// For what is to be done whatever work it is: only the caller's guard ends it, and then at once.
    pub(crate) fn guarded(&self) -> Self {
        let meter = Self::new(&Budget { work: u64::MAX, stop: self.stop, gap_ppm: 0 });
        meter.over.set((self.stop)());
        Self { breaks: true, ..meter }
    }

    /// Whether it is over and plans are not even completed.
    pub(crate) fn breaks_off(&self) -> bool {
        self.breaks && self.over()
    }

    pub(crate) fn spend(&self, steps: usize) {
        let spent = self.spent.get() + steps as u64;
        self.spent.set(spent);
        if spent >= self.work {
            self.over.set(true);
        }
        if spent >= self.next_poll.get() && !self.over.get() {
            self.next_poll.set(spent + POLL);
            if (self.stop)() {
                self.over.set(true);
            }
        }
    }

    pub(crate) fn over(&self) -> bool {
        self.over.get()
    }

    pub(crate) fn spent(&self) -> u64 {
        self.spent.get()
    }

    pub(crate) fn left(&self) -> u64 {
        self.work.saturating_sub(self.spent.get())
    }
}
