//! A configured quota: so many units in any span of a window.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::core::time::{Timestamp, micros};

/// At most `limit` units in any span of `window`, counted in sixtieths of it, so what leaves the window does so up to
/// a sixtieth late, never early.
#[derive(Debug)]
pub(super) struct RollingWindow {
    limit: u64,
    slice_micros: u64,
    /// (index of the slice, units spent in it), oldest first.
    slices: VecDeque<(u64, u64)>,
    spent: u64,
}

impl RollingWindow {
    const SLICES: u64 = 60;
    /// More than this in one slice is nobody's honest count.
    const MOST: u64 = 1 << 48;

    pub(super) fn new(limit: u64, window: Duration) -> Self {
        let slice_micros = (micros(window) / Self::SLICES).max(1);
        Self { limit, slice_micros, slices: VecDeque::new(), spent: 0 }
    }

    fn index(&self, now: Timestamp) -> u64 {
        let index = now.as_micros() / self.slice_micros;
        self.slices.back().map_or(index, |&(last, _)| index.max(last))
    }

    fn expire(&mut self, now: Timestamp) {
        let index = self.index(now);
        // One slice more than the window: a unit spent at the end of its slice must not leave early.
        while let Some(&(first, units)) = self.slices.front()
            && first + Self::SLICES < index
        {
            self.spent -= units;
            self.slices.pop_front();
        }
    }

    /// When `units` fit. More than the whole limit fit when the window is empty: refusing them would be for ever.
    pub(super) fn fits_at(&mut self, now: Timestamp, units: u64) -> Timestamp {
        self.expire(now);
        let room = self.limit.saturating_sub(units.min(self.limit));
        let mut spent = self.spent;
        for &(index, slice) in &self.slices {
            if spent <= room {
                break;
            }
            spent -= slice;
            if spent <= room {
                let free = (index + Self::SLICES + 1).saturating_mul(self.slice_micros);
                return Timestamp::from_micros(free).max(now);
            }
        }
        now
    }

    pub(super) fn spend(&mut self, now: Timestamp, units: u64) {
        self.expire(now);
        let index = self.index(now);
        match self.slices.back_mut() {
            Some((last, slice)) if *last == index => *slice += units,
            _ => self.slices.push_back((index, units)),
        }
        self.spent += units;
    }

    /// Replaces an estimate spent at `when` by what it came to; forgotten if that has left the window. What came from
    /// outside is cut to what cannot overflow the sums.
    pub(super) fn correct(&mut self, when: Timestamp, estimated: u64, actual: u64) {
        let index = when.as_micros() / self.slice_micros;
        if let Ok(at) = self.slices.binary_search_by_key(&index, |&(index, _)| index) {
            let slice = &mut self.slices[at].1;
            let corrected = slice.saturating_sub(estimated).saturating_add(actual).min(Self::MOST);
            self.spent = self.spent - *slice + corrected;
            *slice = corrected;
        }
    }
}
