//! The requests in flight, in the order they were sent, with order statistics over them.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::mem;

use crate::core::time::Timestamp;

/// One request's number on its [`Ceiling`](super::Ceiling), in the order of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

impl Seq {
    /// The number as it would be written in a log line: 1 for the first request.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What is remembered of a request in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) sent: Timestamp,
    /// How many were in flight right after it was sent, itself among them.
    pub(super) rank: u32,
    /// It was sent above the window: planned learning.
    pub(super) beyond: bool,
    /// The server let it in, or it outlived the time a rejection takes.
    pub(super) confirmed: bool,
    /// Once confirmed: how many of ours the server then held, itself among them, as it met them.
    pub(super) level: u32,
    /// Something of its answer came.
    answered: bool,
    /// When the answer's head came.
    pub(super) headers: Option<Timestamp>,
    /// Over here, but perhaps still counted by the server.
    lingering: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    seq: Seq,
    /// `None` once it has left; swept out at the next compaction.
    flight: Option<Flight>,
}

/// The requests in flight, lingering ones among them.
///
/// Entries stay sorted by number; a Fenwick tree over their positions counts the living. Positions are only appended
/// to; when they run out, the dead are swept out and the tree rebuilt with room for as many again, so every operation
/// costs O(log n) (appending amortised) and memory follows the requests in flight, however long the oldest lives.
#[derive(Debug)]
pub(super) struct Flights {
    entries: Vec<Entry>,
    /// 1-based Fenwick tree over `entries`; its length less one is the capacity.
    tree: Vec<u32>,
    next: u64,
    live: u32,
    /// Cancelled ones that are still counted, and until when.
    lingering: VecDeque<(Timestamp, Seq)>,
    /// Completed ones that are still counted, and since when.
    leaving: VecDeque<(Timestamp, Seq)>,
    /// How long completed ones stay counted, in seconds.
    pub(super) hold: f64,
    /// In sending order, and when each was sent. The first is always unconfirmed; later ones may have been confirmed or
    /// have left.
    unconfirmed: VecDeque<(Seq, Timestamp)>,
    unconfirmed_count: u32,
    /// Flights that were let in for sure.
    answered: u32,
    /// When the latest of the completed ones left, for [`Flights::MEMORY`].
    completions: VecDeque<Timestamp>,
}

const ROOM: usize = 64;

impl Flights {
    /// How far back completions are remembered, in microseconds: longer than nearly every rejection takes to arrive.
    const MEMORY: u64 = 10_000_000;

    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            tree: vec![0; ROOM + 1],
            next: 1,
            live: 0,
            lingering: VecDeque::new(),
            leaving: VecDeque::new(),
            hold: 0.0,
            unconfirmed: VecDeque::new(),
            unconfirmed_count: 0,
            answered: 0,
            completions: VecDeque::new(),
        }
    }

    /// The number the next request will get.
    pub(super) fn next_seq(&self) -> Seq {
        Seq(self.next)
    }

    /// All flights, lingering ones too: what the server may be counting.
    pub(super) fn len(&self) -> u32 {
        self.live
    }

    pub(super) fn lingering(&self) -> u32 {
        u32::try_from(self.lingering.len() + self.leaving.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn unconfirmed(&self) -> u32 {
        self.unconfirmed_count
    }

    /// Flights of which something was heard that was no rejection.
    pub(super) fn answered(&self) -> u32 {
        self.answered
    }

    pub(super) fn push(&mut self, now: Timestamp, beyond: bool) -> Seq {
        if self.entries.len() + 1 >= self.tree.len() {
            self.compact();
        }
        let seq = Seq(self.next);
        self.next += 1;
        let rank = self.live.saturating_add(1);
        let flight = Flight {
            sent: now,
            rank,
            beyond,
            confirmed: false,
            level: 0,
            answered: false,
            headers: None,
            lingering: false,
        };
        self.entries.push(Entry { seq, flight: Some(flight) });
        self.add(self.entries.len(), 1);
        self.live = rank;
        self.unconfirmed.push_back((seq, now));
        self.unconfirmed_count += 1;
        seq
    }

    /// The flight of `seq`, unless it has ended or been cancelled.
    pub(super) fn get(&self, seq: Seq) -> Option<&Flight> {
        let entry = self.entries.get(self.position(seq)?)?;
        entry.flight.as_ref().filter(|flight| !flight.lingering)
    }

    /// Notes that something of the answer came, and when its head did, if that is it; the first one counts.
    pub(super) fn heard(&mut self, seq: Seq, head: Option<Timestamp>) {
        let Some(flight) = self.get_mut(seq) else { return };
        flight.headers = flight.headers.or(head);
        if !mem::replace(&mut flight.answered, true) {
            self.answered += 1;
        }
    }

    /// Marks `seq` as let in, or as no longer of interest.
    pub(super) fn confirm(&mut self, seq: Seq, level: u32) {
        if let Some(flight) = self.get_mut(seq)
            && !core::mem::replace(&mut flight.confirmed, true)
        {
            flight.level = level;
            self.resolved(seq);
        }
    }

    /// Takes `seq` out, unless it has ended or been cancelled.
    pub(super) fn remove(&mut self, seq: Seq) -> Option<Flight> {
        let at = self.position(seq)?;
        let flight = self.entries[at].flight.filter(|flight| !flight.lingering)?;
        self.erase(at);
        if !flight.confirmed {
            self.resolved(seq);
        }
        Some(flight)
    }

    /// `seq` completed; it stays counted for [`Self::hold`] seconds. `None` if it had ended or been cancelled.
    pub(super) fn complete(&mut self, now: Timestamp, seq: Seq) -> Option<Flight> {
        if self.hold == 0.0 {
            let flight = self.remove(seq)?;
            self.left(now);
            Some(flight)
        } else {
            let flight = *self.get(seq)?;
            self.mark_over(seq);
            self.leaving.push_back((now, seq));
            Some(flight)
        }
    }

    /// Notes that a completed request left.
    fn left(&mut self, now: Timestamp) {
        while self.completions.front().is_some_and(|&at| now.micros_since(at) > Self::MEMORY) {
            self.completions.pop_front();
        }
        self.completions.push_back(now);
    }

    /// When the last completed request left before `at`.
    pub(super) fn left_before(&self, at: Timestamp) -> Option<Timestamp> {
        self.completions.get(self.left_by(at).checked_sub(1)?).copied()
    }

    /// Completed requests that left after `since`.
    fn completed_since(&self, since: Timestamp) -> u32 {
        u32::try_from(self.completions.len() - self.left_by(since)).unwrap_or(u32::MAX)
    }

    /// How many of the remembered completions were at `at` or before. It looks from the end in ever longer strides: asked
    /// for is nearly always a moment ago, and the memory of a busy lane is long.
    fn left_by(&self, at: Timestamp) -> usize {
        let (older, newer) = self.completions.as_slices();
        let all_newer = newer.first().is_none_or(|&first| first > at);
        let (known, part) = if all_newer { (0, older) } else { (older.len(), newer) };
        let mut end = part.len();
        let mut stride = 1;
        let mut start = end;
        while start > 0 {
            start = end.saturating_sub(stride);
            if part[start] <= at {
                break;
            }
            end = start;
            stride *= 2;
        }
        // What is sought lies between the two: all before `start` are no later than `at`, all from `end` on are.
        known + start + part[start..end].partition_point(|then| *then <= at)
    }

    /// Our occupancy as `flight` met it at the server: those sent earlier that are still there, and those that
    /// completed only after an answer at once would have been here (`prompt` seconds after it was sent). What is told
    /// late was decided when the request arrived; without the latter it would measure too little, by everything that
    /// completed meanwhile.
    pub(super) fn met_by(&self, seq: Seq, flight: Flight, prompt: f64) -> u32 {
        let since = self.completed_since(flight.sent.plus_secs(prompt));
        self.before(seq).saturating_add(since).min(flight.rank.saturating_sub(1))
    }

    /// Resolves `seq` but keeps counting it until `until`. False if it has ended or been cancelled.
    pub(super) fn linger(&mut self, seq: Seq, until: Timestamp) -> bool {
        let here = self.mark_over(seq);
        if here {
            self.lingering.push_back((until, seq));
        }
        here
    }

    fn mark_over(&mut self, seq: Seq) -> bool {
        self.confirm(seq, 0);
        let flight = self.get_mut(seq);
        flight.map(|flight| flight.lingering = true).is_some()
    }

    /// Lets go of every lingering flight whose time has come.
    pub(super) fn end_lingering(&mut self, now: Timestamp) {
        // As nearly always.
        if self.lingering() == 0 {
            return;
        }
        while let Some(&(_, seq)) = self.lingering.front().filter(|(until, _)| *until <= now) {
            self.lingering.pop_front();
            self.let_go(seq);
        }
        while let Some(&(_, seq)) = self.leaving.front().filter(|(at, _)| at.plus_secs(self.hold) <= now) {
            self.leaving.pop_front();
            self.let_go(seq);
            self.left(now);
        }
    }

    pub(super) fn lingering_until(&self) -> Option<Timestamp> {
        let cancelled = self.lingering.front().map(|&(until, _)| until);
        let completed = self.leaving.front().map(|&(at, _)| at.plus_secs(self.hold));
        cancelled.into_iter().chain(completed).min()
    }

    /// The longest-waiting flight about which nothing is known, and when it was sent.
    pub(super) fn oldest_unconfirmed(&self) -> Option<(Seq, Timestamp)> {
        self.unconfirmed.front().copied()
    }

    /// Flights sent before `seq` and still there: our occupancy as `seq` met it.
    pub(super) fn before(&self, seq: Seq) -> u32 {
        self.prefix(self.place(seq))
    }

    /// Flights sent up to and including `seq` and still there.
    pub(super) fn through(&self, seq: Seq) -> u32 {
        self.prefix(self.place(Seq(seq.0 + 1)))
    }

    /// Whether any flight sent after `first` and before `last`, as the `rank`-th or higher, is still there.
    pub(super) fn holds_between(&self, first: Seq, last: Seq, rank: u32) -> bool {
        let from = self.place(Seq(first.0 + 1));
        self.entries[from..]
            .iter()
            .take_while(|entry| entry.seq < last)
            .any(|entry| entry.flight.is_some_and(|flight| flight.rank >= rank))
    }

    /// `seq` is unconfirmed no longer.
    fn resolved(&mut self, seq: Seq) {
        self.unconfirmed_count = self.unconfirmed_count.saturating_sub(1);
        while let Some(&(first, _)) = self.unconfirmed.front()
            && (first == seq || !self.is_unconfirmed(first))
        {
            self.unconfirmed.pop_front();
        }
    }

    fn is_unconfirmed(&self, seq: Seq) -> bool {
        self.get(seq).is_some_and(|flight| !flight.confirmed)
    }

    fn let_go(&mut self, seq: Seq) {
        if let Some(at) = self.position(seq) {
            self.erase(at);
        }
    }

    fn erase(&mut self, at: usize) {
        if let Some(flight) = self.entries[at].flight.take() {
            self.answered = self.answered.saturating_sub(u32::from(flight.answered));
            self.live = self.live.saturating_sub(1);
            self.add(at + 1, -1);
        }
    }

    fn position(&self, seq: Seq) -> Option<usize> {
        let at = self.place(seq);
        (self.entries.get(at)?.seq == seq).then_some(at)
    }

    /// How many entries come before `seq`.
    fn place(&self, seq: Seq) -> usize {
        // As no number is given out twice, it is at most so many entries from the end; and just so many, unless some
        // sent after it were swept out. So nearly always nothing is left to search.
        let back = usize::try_from(self.next.saturating_sub(seq.0)).unwrap_or(usize::MAX);
        let least = self.entries.len().saturating_sub(back);
        if self.entries.get(least).is_none_or(|entry| entry.seq >= seq) {
            return least;
        }
        least + self.entries[least..].partition_point(|entry| entry.seq < seq)
    }

    fn get_mut(&mut self, seq: Seq) -> Option<&mut Flight> {
        let at = self.position(seq)?;
        self.entries.get_mut(at)?.flight.as_mut().filter(|flight| !flight.lingering)
    }

    fn add(&mut self, mut at: usize, by: i32) {
        while let Some(count) = self.tree.get_mut(at) {
            *count = count.saturating_add_signed(by);
            at += at & at.wrapping_neg();
        }
    }

    fn prefix(&self, mut at: usize) -> u32 {
        let mut sum = 0;
        while at > 0 {
            sum += self.tree.get(at).copied().unwrap_or(0);
            at &= at - 1;
        }
        sum
    }

    fn compact(&mut self) {
        self.entries.retain(|entry| entry.flight.is_some());
        let capacity = (self.entries.len() * 2).max(ROOM);
        self.tree.clear();
        self.tree.resize(capacity + 1, 0);
        // Linear construction: each node hands its sum to its parent.
        for at in 1..=capacity {
            let own = self.tree[at] + u32::from(at <= self.entries.len());
            self.tree[at] = own;
            let parent = at + (at & at.wrapping_neg());
            if let Some(count) = self.tree.get_mut(parent) {
                *count += own;
            }
        }
        if self.unconfirmed.len() > 2 * self.unconfirmed_count as usize + ROOM {
            let mut waiting = core::mem::take(&mut self.unconfirmed);
            waiting.retain(|&(seq, _)| self.is_unconfirmed(seq));
            self.unconfirmed = waiting;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push,
        Answer(usize),
        Confirm(usize),
        Remove(usize),
        Linger(usize),
        Complete(usize),
        Wait,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Push),
            2 => any::<usize>().prop_map(Step::Answer),
            2 => any::<usize>().prop_map(Step::Confirm),
            3 => any::<usize>().prop_map(Step::Remove),
            1 => any::<usize>().prop_map(Step::Linger),
            1 => any::<usize>().prop_map(Step::Complete),
            1 => Just(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn counts_agree_with_a_naive_list(steps in proptest::collection::vec(step(), 0..600)) {
            let mut flights = Flights::new();
            flights.hold = 2e-6;
            // seq -> (answered, confirmed, lingering until)
            let mut model: BTreeMap<Seq, (bool, bool, Option<u64>)> = BTreeMap::new();
            let mut now = 0;
            for step in steps {
                let pick = |i: usize| model.keys().nth(i % model.len().max(1)).copied();
                match step {
                    Step::Push => {
                        let seq = flights.push(Timestamp::from_micros(now), false);
                        prop_assert!(model.insert(seq, (false, false, None)).is_none());
                    }
                    Step::Answer(i) => if let Some(seq) = pick(i) {
                        flights.heard(seq, None);
                        let entry = model.get_mut(&seq).unwrap();
                        entry.0 |= entry.2.is_none();
                    },
                    Step::Confirm(i) => if let Some(seq) = pick(i) {
                        let entry = model.get_mut(&seq).unwrap();
                        flights.confirm(seq, 7);
                        if !std::mem::replace(&mut entry.1, true) {
                            prop_assert_eq!(flights.get(seq).map(|flight| flight.level), Some(7));
                        }
                    },
                    Step::Remove(i) => if let Some(seq) = pick(i) {
                        let gone = flights.remove(seq).is_some();
                        prop_assert_eq!(gone, model[&seq].2.is_none());
                        if gone { model.remove(&seq); }
                        prop_assert!(flights.remove(seq).is_none());
                    },
                    Step::Linger(i) => if let Some(seq) = pick(i) {
                        let fresh = flights.linger(seq, Timestamp::from_micros(now + 3));
                        prop_assert_eq!(fresh, model[&seq].2.is_none());
                        let entry = model.get_mut(&seq).unwrap();
                        entry.1 = true;
                        entry.2.get_or_insert(now + 3);
                    },
                    Step::Complete(i) => if let Some(seq) = pick(i) {
                        flights.complete(Timestamp::from_micros(now), seq);
                        let entry = model.get_mut(&seq).unwrap();
                        entry.1 = true;
                        entry.2.get_or_insert(now + 2);
                    },
                    Step::Wait => {
                        now += 1;
                        flights.end_lingering(Timestamp::from_micros(now));
                        model.retain(|_, flight| flight.2.is_none_or(|until| until > now));
                    }
                }
                prop_assert_eq!(flights.len() as usize, model.len());
                prop_assert_eq!(flights.lingering() as usize, model.values().filter(|f| f.2.is_some()).count());
                prop_assert_eq!(flights.unconfirmed() as usize, model.values().filter(|f| !f.1).count());
                prop_assert_eq!(flights.answered() as usize, model.values().filter(|f| f.0).count());
                let oldest = model.iter().find(|(_, f)| !f.1).map(|(&seq, _)| seq);
                prop_assert_eq!(flights.oldest_unconfirmed().map(|(seq, _)| seq), oldest);
                for (i, &seq) in model.keys().enumerate() {
                    prop_assert_eq!(flights.before(seq) as usize, i);
                    prop_assert_eq!(flights.through(seq) as usize, i + 1);
                }
                prop_assert_eq!(flights.before(flights.next_seq()) as usize, model.len());
            }
        }
    }

    #[test]
    fn one_old_flight_does_not_keep_the_memory_of_all_that_passed_it() {
        let mut flights = Flights::new();
        let old = flights.push(Timestamp::ZERO, false);
        for _ in 0..200_000 {
            let seq = flights.push(Timestamp::ZERO, false);
            assert_eq!(flights.before(seq), 1);
            flights.remove(seq);
        }
        assert_eq!(flights.through(old), 1);
        assert!(flights.entries.capacity() <= 4 * ROOM && flights.unconfirmed.len() <= 4 * ROOM);
    }
}
