//! The requests of one account to one model: how many there may be, and how many there are.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use crate::core::time::Timestamp;
use crate::sim::cap::CapTrack;
use crate::sim::pace::Pace;
use crate::sim::scenario::Rate;
use crate::sim::tally::{LaneTally, Sample};

/// The requests of one account to one model.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) account: usize,
    pub(super) model: String,
    pub(super) track: CapTrack,
    pub(super) punish_to: f64,
    pub(super) punished_until: Timestamp,
    pub(super) in_flight: u32,
    /// In flight by `user_id`; kept only where the scenario limits it.
    pub(super) by_user: HashMap<Box<str>, u32>,
    /// Requests that are over and still counted, by the time their place is given back.
    pub(super) lingering: BinaryHeap<Reverse<(Timestamp, Option<Box<str>>)>>,
    pub(super) pace: Pace,
    pub(super) slot_rejections: u64,
    pub(super) peak: u32,
    /// The first arrival. Before it nothing is counted: asking for the cap is not traffic.
    pub(super) from: Option<Timestamp>,
    /// Up to here the integrals reach.
    pub(super) at: Timestamp,
    pub(super) integrals: Integrals,
    /// The integrals when a request last ended.
    pub(super) at_last_end: (Timestamp, Integrals),
    pub(super) timeline: Vec<Sample>,
    pub(super) sample_every: Duration,
    pub(super) next_sample: Timestamp,
}

/// Slot-microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Integrals {
    pub(super) offered: u128,
    pub(super) used: u128,
}

impl Lane {
    pub(super) fn new(account: usize, model: &str, track: CapTrack, punish_to: f64, rate: &Rate) -> Self {
        Self {
            account,
            model: model.to_owned(),
            track,
            punish_to,
            punished_until: Timestamp::ZERO,
            in_flight: 0,
            by_user: HashMap::new(),
            lingering: BinaryHeap::new(),
            pace: Pace::new(rate),
            slot_rejections: 0,
            peak: 0,
            from: None,
            at: Timestamp::ZERO,
            integrals: Integrals::default(),
            at_last_end: (Timestamp::ZERO, Integrals::default()),
            timeline: Vec::new(),
            sample_every: Duration::from_secs(1),
            next_sample: Timestamp::ZERO,
        }
    }

    /// A request arrives; the first one begins the count.
    pub(super) fn begin(&mut self, now: Timestamp) {
        if self.from.is_none() {
            self.from = Some(now);
            self.at = now;
            self.at_last_end.0 = now;
            self.next_sample = now;
        }
    }

    /// The cap at `self.at` without a cut for an excess.
    pub(super) fn uncut(&mut self, account_cap: u32) -> u32 {
        self.track.at(self.at).min(account_cap)
    }

    /// The cap in force at `self.at`.
    pub(super) fn cap(&mut self, account_cap: u32) -> u32 {
        let cap = self.uncut(account_cap);
        if self.at < self.punished_until {
            // `as` truncates: the share is rounded down, but a punished account keeps one request.
            ((f64::from(cap) * self.punish_to) as u32).max(cap.min(1))
        } else {
            cap
        }
    }

    /// Follows the lane up to `to`: integrals, samples, and requests that stop lingering.
    pub(super) fn advance(&mut self, to: Timestamp, account_cap: u32) {
        if self.from.is_none() {
            self.at = to;
        }
        self.forget_lingering();
        while self.at < to {
            let cap = self.cap(account_cap);
            let mut next = to;
            for change in [self.track.next_change(self.at), Some(self.punished_until), self.next_linger_end()] {
                next = change.filter(|&change| change > self.at).map_or(next, |change| next.min(change));
            }
            let span = u128::from(next.as_micros() - self.at.as_micros());
            self.integrals.offered += span * u128::from(cap);
            self.integrals.used += span * u128::from(cap.min(self.in_flight));
            while self.next_sample < next {
                self.sample(cap);
            }
            self.at = next;
            self.forget_lingering();
        }
    }

    pub(super) fn sample(&mut self, cap: u32) {
        self.timeline.push(Sample {
            at: self.next_sample.as_secs_f64(),
            cap,
            in_flight: self.in_flight,
            rejected: self.slot_rejections,
        });
        if self.timeline.len() >= LaneTally::MAX_SAMPLES {
            let mut keep = false;
            self.timeline.retain(|_| {
                keep = !keep;
                keep
            });
            self.sample_every *= 2;
        }
        self.next_sample += self.sample_every;
    }

    pub(super) fn next_linger_end(&self) -> Option<Timestamp> {
        self.lingering.peek().map(|Reverse((at, _))| *at)
    }

    pub(super) fn forget_lingering(&mut self) {
        while self.next_linger_end().is_some_and(|at| at <= self.at) {
            if let Some(Reverse((_, user))) = self.lingering.pop() {
                self.release(user.as_deref());
            }
        }
    }

    pub(super) fn release_at(&mut self, at: Timestamp, now: Timestamp, user: Option<Box<str>>) {
        if at > now {
            self.lingering.push(Reverse((at, user)));
        } else {
            self.release(user.as_deref());
        }
    }

    pub(super) fn release(&mut self, user: Option<&str>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(user) = user
            && let Some(count) = self.by_user.get_mut(user)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_user.remove(user);
            }
        }
        self.at_last_end = (self.at, self.integrals);
    }

    /// `None` before the first arrival.
    pub(super) fn tally(&mut self, account: &str, account_cap: u32) -> Option<LaneTally> {
        let from = self.from?;
        let (to, integrals) = if self.in_flight > 0 { (self.at, self.integrals) } else { self.at_last_end };
        Some(LaneTally {
            account: account.to_owned(),
            model: self.model.clone(),
            cap: self.cap(account_cap),
            in_flight: self.in_flight,
            peak_in_flight: self.peak,
            from: from.as_secs_f64(),
            to: to.as_secs_f64(),
            offered: integrals.offered as f64 / 1e6,
            used: integrals.used as f64 / 1e6,
            timeline: self.timeline.clone(),
        })
    }
}
