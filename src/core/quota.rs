//! Rate quotas of a lane: requests and tokens a minute, requests a day, and what the server says of them.
//!
//! DeepSeek has none (its limit is on requests in flight), but providers that carry its models do, and a 429 about rate
//! must slow the sending without touching the concurrency limit.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use super::backoff::jittered_floor;
use super::outcome::{QuotaHint, QuotaHints};
use super::time::{Timestamp, micros, scaled};

/// A provider's rate limits for one lane, as its documentation states them. All absent by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaSpec {
    /// Requests in any 60 seconds.
    pub requests_per_minute: Option<u64>,
    /// Tokens, prompt and completion together, in any 60 seconds.
    pub tokens_per_minute: Option<u64>,
    /// Requests in any 24 hours.
    pub requests_per_day: Option<u64>,
}

/// At most `limit` units in any span of `window`, counted in sixtieths of it, so what leaves the window does so up to
/// a sixtieth late, never early.
#[derive(Debug)]
struct RollingWindow {
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

    fn new(limit: u64, window: Duration) -> Self {
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
    fn fits_at(&mut self, now: Timestamp, units: u64) -> Timestamp {
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

    fn spend(&mut self, now: Timestamp, units: u64) {
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
    fn correct(&mut self, when: Timestamp, estimated: u64, actual: u64) {
        let index = when.as_micros() / self.slice_micros;
        if let Ok(at) = self.slices.binary_search_by_key(&index, |&(index, _)| index) {
            let slice = &mut self.slices[at].1;
            let corrected = slice.saturating_sub(estimated).saturating_add(actual).min(Self::MOST);
            self.spent = self.spent - *slice + corrected;
            *slice = corrected;
        }
    }
}

/// The quota of one lane: what was configured, and what the server said.
#[derive(Debug)]
pub struct Quota {
    requests: Vec<RollingWindow>,
    tokens: Option<RollingWindow>,
    closed_until: Timestamp,
    /// Rate rejections in a row: the wait doubles where the server names none.
    rejections: u32,
}

impl Quota {
    /// A full quota by `spec`.
    pub fn new(spec: &QuotaSpec) -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        let minute = spec.requests_per_minute.map(|limit| RollingWindow::new(limit, MINUTE));
        let day = spec.requests_per_day.map(|limit| RollingWindow::new(limit, MINUTE * 60 * 24));
        Self {
            requests: minute.into_iter().chain(day).collect(),
            tokens: spec.tokens_per_minute.map(|limit| RollingWindow::new(limit, MINUTE)),
            closed_until: Timestamp::ZERO,
            rejections: 0,
        }
    }

    /// When a request of about `tokens` tokens may be sent; `now` if at once.
    pub fn opens_at(&mut self, now: Timestamp, tokens: u64) -> Timestamp {
        let mut at = self.closed_until.max(now);
        for window in &mut self.requests {
            at = at.max(window.fits_at(now, 1));
        }
        if let Some(window) = &mut self.tokens {
            at = at.max(window.fits_at(now, tokens));
        }
        at
    }

    /// A request of about `tokens` tokens is sent.
    pub fn on_send(&mut self, now: Timestamp, tokens: u64) {
        for window in &mut self.requests {
            window.spend(now, 1);
        }
        if let Some(window) = &mut self.tokens {
            window.spend(now, tokens);
        }
    }

    /// The request sent at `sent` with an estimate of `estimated` tokens came to `actual` (zero if it was rejected).
    pub fn on_usage(&mut self, sent: Timestamp, estimated: u64, actual: u64) {
        if let Some(window) = &mut self.tokens {
            window.correct(sent, estimated, actual);
        }
    }

    /// What an answer's headers say. A dimension with nothing left closes the lane until it resets.
    pub fn on_hints(&mut self, now: Timestamp, hints: &QuotaHints) {
        for hint in [hints.requests, hints.tokens] {
            if let QuotaHint { remaining: Some(0), reset: Some(reset), .. } = hint {
                self.closed_until = self.closed_until.max(now + reset);
            }
        }
    }

    /// A request was accepted by the rate limiter.
    pub fn on_accepted(&mut self) {
        self.rejections = 0;
    }

    /// A request was rejected for its rate. Waits as long as the server says; else (a wait of zero says nothing) a second, doubling to a minute (the
    /// usual window), jittered. A later, shorter wait never cuts an earlier, longer one.
    pub fn on_rejected(
        &mut self,
        now: Timestamp,
        retry_after: Option<Duration>,
        hints: &QuotaHints,
        rng: &mut fastrand::Rng,
    ) {
        // Rejections of one burst arrive together; only the first after the wait says anything new.
        if now >= self.closed_until {
            self.rejections = self.rejections.saturating_add(1);
        }
        let reset = [hints.requests, hints.tokens]
            .into_iter()
            .filter(|hint| hint.remaining == Some(0))
            .filter_map(|hint| hint.reset)
            .max();
        let wait = match retry_after.max(reset).filter(|asked| !asked.is_zero()) {
            Some(asked) => jittered_floor(asked, rng),
            None => {
                let doubled = Duration::from_secs(1 << (self.rejections.clamp(1, 7) - 1));
                scaled(doubled.min(Duration::from_secs(60)), 0.75 + 0.5 * rng.f64())
            }
        };
        self.closed_until = self.closed_until.max(now + wait);
    }

    /// Forgets what the server said; configured limits stay.
    pub fn reset(&mut self) {
        self.closed_until = Timestamp::ZERO;
        self.rejections = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secs(secs: f64) -> Timestamp {
        Timestamp::from_secs_f64(secs)
    }

    #[test]
    fn absurd_counts_of_tokens_do_no_harm() {
        let mut quota = Quota::new(&QuotaSpec { tokens_per_minute: Some(100), ..QuotaSpec::default() });
        for at in 0..200 {
            let now = secs(f64::from(at));
            quota.on_send(now, u64::from(u32::MAX));
            quota.on_usage(now, 10, u64::MAX);
            quota.on_usage(now, u64::MAX, u64::MAX);
        }
        assert_eq!(quota.opens_at(secs(1000.0), 100), secs(1000.0));
    }

    #[test]
    fn without_a_spec_it_is_always_open() {
        let mut quota = Quota::new(&QuotaSpec::default());
        for _ in 0..10_000 {
            assert_eq!(quota.opens_at(secs(3.0), u64::MAX), secs(3.0));
            quota.on_send(secs(3.0), 1_000_000);
        }
    }

    #[test]
    fn a_prompt_larger_than_the_whole_quota_goes_alone_instead_of_never() {
        let mut quota = Quota::new(&QuotaSpec { tokens_per_minute: Some(1000), ..QuotaSpec::default() });
        quota.on_send(secs(0.0), 10);
        let at = quota.opens_at(secs(0.0), 5000);
        assert!(at >= secs(60.0) && at <= secs(62.0), "{at:?}");
        assert_eq!(quota.opens_at(at, 5000), at);
    }

    #[test]
    fn usage_replaces_the_estimate() {
        let mut quota = Quota::new(&QuotaSpec { tokens_per_minute: Some(1000), ..QuotaSpec::default() });
        quota.on_send(secs(1.0), 900);
        assert!(quota.opens_at(secs(2.0), 500) > secs(50.0));
        quota.on_usage(secs(1.0), 900, 100);
        assert_eq!(quota.opens_at(secs(2.0), 500), secs(2.0));
    }

    #[test]
    fn the_servers_wait_is_obeyed_and_never_shortened_by_a_later_one() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut quota = Quota::new(&QuotaSpec::default());
        let none = QuotaHints::default();
        quota.on_rejected(secs(0.0), Some(Duration::from_secs(90)), &none, &mut rng);
        let at = quota.opens_at(secs(0.0), 0);
        assert!(at >= secs(90.0) && at <= secs(99.0));
        quota.on_rejected(secs(1.0), Some(Duration::from_secs(2)), &none, &mut rng);
        assert_eq!(quota.opens_at(secs(1.0), 0), at);
        let empty = QuotaHint { limit: Some(60), remaining: Some(0), reset: Some(Duration::from_secs(200)) };
        quota.on_hints(secs(2.0), &QuotaHints { requests: empty, ..none });
        assert_eq!(quota.opens_at(secs(2.0), 0), secs(202.0));
    }

    #[test]
    fn without_a_word_from_the_server_the_wait_doubles_by_bursts_not_by_rejections() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut quota = Quota::new(&QuotaSpec::default());
        let mut now = secs(0.0);
        for (round, top) in [1.25, 2.5, 5.0, 10.0].into_iter().enumerate() {
            for _ in 0..20 {
                quota.on_rejected(now, None, &QuotaHints::default(), &mut rng);
            }
            let open = quota.opens_at(now, 0);
            assert!((open - now).as_secs_f64() <= top + 1e-6, "round {round}: {:?}", open - now);
            now = open;
        }
    }

    proptest! {
        /// No 60 seconds hold more than the limit, and the quota never starves: it opens within a window and a slice.
        #[test]
        fn a_rolling_minute_never_holds_more_than_the_limit(
            limit in 1u64..40,
            gaps in prop::collection::vec(0u64..20_000_000, 1..300),
        ) {
            let mut quota = Quota::new(&QuotaSpec { requests_per_minute: Some(limit), ..QuotaSpec::default() });
            let mut now = Timestamp::ZERO;
            let mut sent: Vec<Timestamp> = Vec::new();
            for gap in gaps {
                now += Duration::from_micros(gap);
                let at = quota.opens_at(now, 0);
                prop_assert!(at <= now + Duration::from_secs(62));
                prop_assert_eq!(quota.opens_at(at, 0), at, "it keeps its word");
                now = at;
                quota.on_send(now, 0);
                sent.push(now);
                let recent = sent.iter().filter(|&&then| now - then < Duration::from_secs(60)).count() as u64;
                prop_assert!(recent <= limit, "{} sent in the last minute", recent);
            }
        }
    }
}
