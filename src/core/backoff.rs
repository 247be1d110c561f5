//! When a failed attempt may be tried again: exponential backoff with full jitter, and a budget that stops storms.
//!
//! Slot rejections and overload do not come here: a call rejected for concurrency waits for a slot, not for a timer,
//! and an overloaded lane pauses as a whole.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::time::{Timestamp, scaled};

/// How failed attempts (500, 408, connection errors, timeouts) are retried.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// How many attempts may fail before the call does, the first among them. Slot rejections, rate-quota rejections
    /// and fast 503s are not counted. Default 5; at least 1.
    pub max_attempts: u32,
    /// Upper end of the first delay. Default 500 ms.
    pub base: Duration,
    /// Upper end of every delay. Default 30 s.
    pub cap: Duration,
    /// How long after its first attempt was sent a call may still be tried again, for whatever reason. Time spent
    /// queued before the first attempt is not counted. Default 30 min.
    pub max_elapsed: Duration,
    /// Retries allowed per recent success, beyond [`RetryPolicy::budget_floor`]. Default 0.2.
    pub budget_ratio: f64,
    /// Retries always allowed in any ten seconds. Default 10; at least 1.
    pub budget_floor: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            base: Duration::from_millis(500),
            cap: Duration::from_secs(30),
            max_elapsed: Duration::from_secs(30 * 60),
            budget_ratio: 0.2,
            budget_floor: 10,
        }
    }
}

impl RetryPolicy {
    /// The delay before retry number `retry` (0 for the first): uniform between zero and `base · 2^retry`, at most
    /// `cap`. Full jitter spreads a burst of failures best
    /// (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).
    pub fn delay(&self, retry: u32, rng: &mut fastrand::Rng) -> Duration {
        let ceiling = self.base.saturating_mul(1u32.checked_shl(retry.min(31)).unwrap_or(u32::MAX)).min(self.cap);
        scaled(ceiling, rng.f64())
    }
}

/// A delay the server asked for, with up to a tenth on top: everyone who was told "10 seconds" must not return in the
/// same millisecond, and nobody early.
pub fn jittered_floor(asked: Duration, rng: &mut fastrand::Rng) -> Duration {
    asked.saturating_add(scaled(asked, 0.1 * rng.f64()))
}

/// Retries allowed over any [`RetryBudget::WINDOW`]: a floor plus a share of the successes in it.
///
/// A retry the budget has no room for is postponed until it has, not refused: a storm is spread out, and no call is lost.
/// It counts in the window in which it was asked for, not in that in which it starts, so that one bad minute does not put off
/// the retries of the next: failures that go on are the breaker's to stop.
#[derive(Debug)]
pub struct RetryBudget {
    ratio: f64,
    floor: u32,
    slices: VecDeque<Slice>,
}

#[derive(Debug)]
struct Slice {
    index: u64,
    successes: u64,
    retries: u64,
}

impl RetryBudget {
    /// The span over which successes and retries are counted.
    pub const WINDOW: Duration = Duration::from_secs(10);
    const SLICE_MICROS: u64 = 1_000_000;
    const SLICES: u64 = 10;

    /// A budget by `policy`'s `budget_ratio` and `budget_floor`.
    pub fn new(policy: &RetryPolicy) -> Self {
        Self { ratio: policy.budget_ratio, floor: policy.budget_floor.max(1), slices: VecDeque::new() }
    }

    fn slice(&mut self, now: Timestamp) -> &mut Slice {
        let last = self.slices.back().map_or(0, |slice| slice.index);
        let index = (now.as_micros() / Self::SLICE_MICROS).max(last);
        while self.slices.front().is_some_and(|slice| slice.index + Self::SLICES <= index) {
            self.slices.pop_front();
        }
        if self.slices.back().is_none_or(|slice| slice.index < index) {
            self.slices.push_back(Slice { index, successes: 0, retries: 0 });
        }
        let at = self.slices.len() - 1;
        &mut self.slices[at]
    }

    /// Counts a call that succeeded.
    pub fn on_success(&mut self, now: Timestamp) {
        self.slice(now).successes += 1;
    }

    /// Takes room for one retry that is to start at `at` or later; returns when it may start.
    pub fn reserve(&mut self, now: Timestamp, at: Timestamp) -> Timestamp {
        self.slice(now);
        let (mut successes, mut retries) = (0, 0);
        for slice in &self.slices {
            successes += slice.successes;
            retries += slice.retries;
        }
        let allowed = f64::from(self.floor) + self.ratio * successes as f64;
        self.slice(now).retries += 1;
        let excess = retries as f64 - allowed;
        if excess < 0.0 {
            return at;
        }
        // The excess queues up behind the window at the budget's own rate.
        let rate = allowed / Self::WINDOW.as_secs_f64();
        at.max(now.plus_secs((excess + 1.0) / rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn delays_double_up_to_the_cap_and_fill_their_range() {
        let policy = RetryPolicy::default();
        let mut rng = fastrand::Rng::with_seed(1);
        for retry in [0u32, 1, 3, 6, 31, 32, u32::MAX] {
            let top = policy.base.mul_f64(2f64.powi(retry.min(20) as i32)).min(policy.cap);
            let delays: Vec<_> = (0..1000).map(|_| policy.delay(retry, &mut rng)).collect();
            assert!(delays.iter().all(|&delay| delay <= top));
            assert!(delays.iter().any(|&delay| delay > top.mul_f64(0.9)));
            assert!(delays.iter().any(|&delay| delay < top.mul_f64(0.1)));
        }
    }

    #[test]
    fn whoever_is_told_the_same_wait_returns_at_another_moment() {
        let mut rng = fastrand::Rng::with_seed(1);
        let asked = Duration::from_secs(10);
        assert_ne!(jittered_floor(asked, &mut rng), jittered_floor(asked, &mut rng));
    }

    #[test]
    fn a_budget_of_nothing_still_lets_every_retry_start_some_day() {
        let policy = RetryPolicy { budget_floor: 0, budget_ratio: 0.0, ..RetryPolicy::default() };
        let mut budget = RetryBudget::new(&policy);
        let now = Timestamp::from_secs_f64(100.0);
        assert_eq!(budget.reserve(now, now), now);
        assert_eq!(budget.reserve(now, now), now.plus_secs(10.0));
    }

    #[test]
    fn what_the_server_asked_for_is_never_undercut() {
        let mut rng = fastrand::Rng::with_seed(1);
        for asked in [Duration::ZERO, Duration::from_millis(1), Duration::from_secs(90), Duration::MAX] {
            let delay = jittered_floor(asked, &mut rng);
            assert!(delay >= asked && delay <= asked.saturating_add(asked / 9));
        }
    }

    #[test]
    fn a_storm_of_retries_is_spread_out_at_the_budgets_rate() {
        let mut budget = RetryBudget::new(&RetryPolicy::default());
        let now = Timestamp::from_secs_f64(100.0);
        let starts: Vec<_> = (0..30).map(|_| budget.reserve(now, now)).collect();
        assert!(starts[..10].iter().all(|&start| start == now), "the floor passes at once");
        assert!(starts[10..].windows(2).all(|pair| pair[1] > pair[0]), "the rest queues up");
        assert_eq!(starts[29], now.plus_secs(20.0), "at one a second, a floor of 10 in 10 s");
    }

    #[test]
    fn successes_earn_retries_and_are_forgotten_after_the_window() {
        let mut budget = RetryBudget::new(&RetryPolicy::default());
        let now = Timestamp::from_secs_f64(5.0);
        for _ in 0..1000 {
            budget.on_success(now);
        }
        for _ in 0..210 {
            assert_eq!(budget.reserve(now, now), now);
        }
        assert!(budget.reserve(now, now) > now);
        let later = now + RetryBudget::WINDOW;
        assert_eq!(budget.reserve(later, later), later, "a new window starts with its floor");
    }

    #[test]
    fn a_clock_that_steps_back_does_no_harm() {
        let mut budget = RetryBudget::new(&RetryPolicy::default());
        budget.on_success(Timestamp::from_secs_f64(50.0));
        let earlier = Timestamp::from_secs_f64(20.0);
        assert_eq!(budget.reserve(earlier, earlier), earlier);
    }

    proptest! {
        /// Whatever succeeds and fails when: no retry starts before it may, and in no nine seconds (a window, less the slice
        /// that is being counted) more start at once than the floor and the share of what succeeded.
        #[test]
        fn no_order_of_events_starts_a_retry_early_or_more_at_once_than_the_budget_has(
            floor in 1u32..20,
            ratio in 0.0f64..1.0,
            steps in prop::collection::vec((prop_oneof![Just(0), 0u64..1_000_000], any::<bool>()), 1..200),
        ) {
            let policy = RetryPolicy { budget_floor: floor, budget_ratio: ratio, ..RetryPolicy::default() };
            let mut budget = RetryBudget::new(&policy);
            let (mut now, mut successes, mut at_once) = (Timestamp::ZERO, 0u32, Vec::new());
            for (wait, succeeds) in steps {
                now += Duration::from_micros(wait);
                if succeeds {
                    budget.on_success(now);
                    successes += 1;
                    continue;
                }
                let start = budget.reserve(now, now);
                prop_assert!(start >= now);
                if start == now {
                    at_once.push(now);
                }
            }
            let most = f64::from(floor) + ratio * f64::from(successes) + 1.0;
            for (first, &start) in at_once.iter().enumerate() {
                let end = start + Duration::from_secs(9);
                let within = at_once[first..].iter().take_while(|&&start| start < end).count();
                prop_assert!((within as f64) < most, "{} in nine seconds, of {}", within, most);
            }
        }
    }
}
