//! The scheduler's alarms, the earliest first.

use alloc::collections::{BinaryHeap, VecDeque};
use core::cmp::Reverse;

use crate::core::time::Timestamp;

/// Alarms by their time. Nearly all are calls' clocks, which are of one length and so are set in the order in which they
/// run out: those stand in a line, at whose ends adding and taking is cheap. What comes out of order goes to a heap.
#[derive(Debug)]
pub(super) struct Timers<T> {
    line: VecDeque<(Timestamp, T)>,
    heap: BinaryHeap<Reverse<(Timestamp, T)>>,
}

impl<T: Copy + Ord> Timers<T> {
    pub(super) fn new() -> Self {
        Self { line: VecDeque::new(), heap: BinaryHeap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.line.len() + self.heap.len()
    }

    pub(super) fn push(&mut self, at: Timestamp, timer: T) {
        let entry = (at, timer);
        if self.line.back().is_none_or(|last| *last <= entry) {
            self.line.push_back(entry);
        } else {
            self.heap.push(Reverse(entry));
        }
    }

    /// The earliest; of two at the same time the lesser.
    pub(super) fn first(&self) -> Option<(Timestamp, T)> {
        if self.is_in_line() { self.line.front().copied() } else { self.heap.peek().map(|entry| entry.0) }
    }

    /// Takes the [`first`](Self::first) out.
    pub(super) fn pop(&mut self) {
        if self.is_in_line() {
            self.line.pop_front();
        } else {
            self.heap.pop();
        }
    }

    /// Whether the first of all stands in the line.
    fn is_in_line(&self) -> bool {
        match (self.line.front(), self.heap.peek()) {
            (Some(line), Some(Reverse(heap))) => line <= heap,
            (line, _) => line.is_some(),
        }
    }

    /// Takes all of them out, in no order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Timestamp, T)> + use<T> {
        let heap = core::mem::take(&mut self.heap).into_vec();
        core::mem::take(&mut self.line).into_iter().chain(heap.into_iter().map(|entry| entry.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_come_out_in_order(steps in proptest::collection::vec(proptest::option::weighted(0.6, (0..20u64, 0..3u8)), 0..200)) {
            let mut timers = Timers::new();
            let mut model: Vec<(Timestamp, u8)> = Vec::new();
            for step in steps {
                match step {
                    Some((at, timer)) => {
                        let at = Timestamp::from_micros(at);
                        timers.push(at, timer);
                        model.push((at, timer));
                        model.sort_unstable();
                    }
                    None => {
                        timers.pop();
                        if !model.is_empty() {
                            model.remove(0);
                        }
                    }
                }
                prop_assert_eq!((timers.first(), timers.len()), (model.first().copied(), model.len()));
            }
            let mut rest: Vec<_> = timers.drain().collect();
            rest.sort_unstable();
            prop_assert_eq!((rest, timers.len()), (model, 0));
        }
    }
}
