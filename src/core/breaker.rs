//! The circuit breaker of a lane: stops sending where sending keeps failing, and finds out by single trials when it may
//! go on.
//!
//! It counts what is the service's fault (500s, connection errors, timeouts, lasting overload), never a slot rejection:
//! a full lane is healthy. Half-open cannot get stuck: a trial that is let in closes the breaker before its answer is
//! complete, the end of any other leaves that state (a cancelled one by letting the next trial go at once), and one
//! nobody hears of gives way to the next.

use core::time::Duration;

use super::time::{Timestamp, scaled};

/// When a breaker opens and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerPolicy {
    /// Failures in a row, with no success between them, that open it. Default 10; 0 turns the breaker off.
    pub failures: u32,
    /// How long it stays open at first. Default 1 s.
    pub open: Duration,
    /// It doubles after each failed trial up to this, which is also how long a trial that says nothing keeps others
    /// back. Default 10 s.
    pub open_max: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { failures: 10, open: Duration::from_secs(1), open_max: Duration::from_secs(10) }
    }
}

/// What a breaker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything may pass.
    Closed,
    /// Nothing may pass before `until`; then one trial.
    Open {
        /// When a trial may be sent.
        until: Timestamp,
    },
    /// A trial is under way; nothing else may pass.
    HalfOpen,
}

/// The breaker of one lane.
#[derive(Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: BreakerState,
    failures: u32,
    reopened: u32,
    /// When the latest trial was sent.
    trial: Timestamp,
    /// Attempts sent before this were judged by another state: their failures are old news.
    since: Timestamp,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            state: BreakerState::Closed,
            failures: 0,
            reopened: 0,
            trial: Timestamp::ZERO,
            since: Timestamp::ZERO,
        }
    }

    /// What it is doing.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// When an attempt may pass, if nothing happens before.
    pub fn opens_at(&self, now: Timestamp) -> Timestamp {
        match self.state {
            BreakerState::Closed => now,
            BreakerState::Open { until } => until.max(now),
            // Its connection may lead into the void; its own clocks are much longer.
            BreakerState::HalfOpen => (self.trial + self.policy.open_max).max(now),
        }
    }

    /// Notes that an attempt is sent; returns whether it is the trial of a half-open breaker, to be handed back with its
    /// end.
    pub fn on_send(&mut self, now: Timestamp) -> bool {
        let trial = self.state != BreakerState::Closed && self.opens_at(now) <= now;
        if trial {
            self.state = BreakerState::HalfOpen;
            self.trial = now;
        }
        trial
    }

    /// An attempt was let in; its answer may take long yet. Returns whether this closed the breaker: a trial does, but
    /// the next failure opens it again.
    pub fn on_admitted(&mut self, trial: bool) -> bool {
        let closed = trial && self.state == BreakerState::HalfOpen;
        if closed {
            self.state = BreakerState::Closed;
            self.failures = self.policy.failures.saturating_sub(1);
        }
        closed
    }

    /// An attempt succeeded, or was answered in a way that shows a healthy service. Returns whether this closed the
    /// breaker.
    pub fn on_success(&mut self) -> bool {
        self.failures = 0;
        self.reopened = 0;
        let closed = self.state != BreakerState::Closed;
        self.state = BreakerState::Closed;
        closed
    }

    /// An attempt sent at `sent` failed by the service's fault. Returns whether this opened the breaker.
    pub fn on_failure(&mut self, now: Timestamp, sent: Timestamp, trial: bool, rng: &mut fastrand::Rng) -> bool {
        if trial && self.state == BreakerState::HalfOpen {
            return self.open(now, rng);
        }
        if self.state != BreakerState::Closed || sent < self.since || self.policy.failures == 0 {
            return false;
        }
        self.failures += 1;
        self.failures >= self.policy.failures && self.open(now, rng)
    }

    /// An attempt ended in a way that says nothing of the service's health (cancelled, rejected for its slot).
    pub fn on_neutral(&mut self, now: Timestamp, trial: bool) {
        if trial && self.state == BreakerState::HalfOpen {
            self.state = BreakerState::Open { until: now };
        }
    }

    /// Closes it by hand.
    pub fn reset(&mut self, now: Timestamp) {
        self.on_success();
        self.since = now;
    }

    fn open(&mut self, now: Timestamp, rng: &mut fastrand::Rng) -> bool {
        let doubled = self.policy.open.saturating_mul(1 << self.reopened.min(31));
        // Until something succeeds, each time is longer than the one before.
        self.reopened = self.reopened.saturating_add(1);
        let span = scaled(doubled.min(self.policy.open_max), 0.75 + 0.5 * rng.f64());
        self.state = BreakerState::Open { until: now + span };
        self.failures = 0;
        self.since = now;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(secs: f64) -> Timestamp {
        Timestamp::from_secs_f64(secs)
    }

    #[test]
    fn after_a_success_it_opens_as_shortly_as_at_first() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut breaker = Breaker::new(BreakerPolicy { failures: 1, ..BreakerPolicy::default() });
        let mut now = at(1.0);
        for _ in 0..4 {
            let trial = breaker.on_send(now);
            breaker.on_failure(now, now, trial, &mut rng);
            now = breaker.opens_at(now);
        }
        breaker.on_send(now);
        breaker.on_success();
        breaker.on_failure(now, now, false, &mut rng);
        assert!(breaker.opens_at(now) <= now.plus_secs(1.25), "{breaker:?}");
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_a_successful_trial_closes_it() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut breaker = Breaker::new(BreakerPolicy::default());
        for i in 1..10 {
            assert!(!breaker.on_failure(at(1.0), at(0.5), false, &mut rng), "{i} failures");
        }
        assert!(!breaker.on_success(), "was closed already");
        for _ in 1..10 {
            breaker.on_failure(at(2.0), at(1.5), false, &mut rng);
        }
        assert!(breaker.on_failure(at(2.0), at(1.5), false, &mut rng), "the tenth in a row opens it");
        let BreakerState::Open { until } = breaker.state() else { panic!("{:?}", breaker.state()) };
        assert!(until >= at(2.75) && until <= at(3.25));
        assert!(!breaker.on_send(at(2.5)), "not due yet");
        assert!(breaker.on_send(until));
        assert!(breaker.opens_at(until) > until && !breaker.on_send(until), "one trial at a time");
        assert!(breaker.on_success());
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn a_failed_trial_doubles_the_time_up_to_the_maximum() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut breaker = Breaker::new(BreakerPolicy { failures: 1, ..BreakerPolicy::default() });
        breaker.on_failure(at(0.0), at(0.0), false, &mut rng);
        let mut spans = Vec::new();
        for _ in 0..8 {
            let BreakerState::Open { until } = breaker.state() else { panic!("open") };
            assert!(breaker.on_send(until));
            assert!(breaker.on_failure(until, until, true, &mut rng));
            let BreakerState::Open { until: next } = breaker.state() else { panic!("open") };
            spans.push((next - until).as_secs_f64());
        }
        assert!(spans[0] > 1.4 && spans[0] < 2.6, "{spans:?}");
        assert!(spans.iter().all(|&span| span <= 10.0 * 1.25));
        assert!(spans[7] > 7.0, "{spans:?}");
    }

    #[test]
    fn failures_of_attempts_sent_before_it_opened_are_old_news() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut breaker = Breaker::new(BreakerPolicy { failures: 2, ..BreakerPolicy::default() });
        breaker.on_failure(at(1.0), at(0.0), false, &mut rng);
        breaker.on_failure(at(1.0), at(0.0), false, &mut rng);
        let opened = breaker.state();
        assert!(!breaker.on_failure(at(1.1), at(0.1), false, &mut rng));
        assert_eq!(breaker.state(), opened, "does not push the trial out");
        breaker.on_send(at(9.0));
        breaker.on_success();
        assert!(!breaker.on_failure(at(9.1), at(0.9), false, &mut rng));
        assert!(!breaker.on_failure(at(9.1), at(0.9), false, &mut rng), "sent before it opened: not counted again");
    }

    #[test]
    fn a_trial_that_is_let_in_closes_it_until_the_next_failure() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut breaker = Breaker::new(BreakerPolicy { failures: 3, ..BreakerPolicy::default() });
        for _ in 0..3 {
            breaker.on_failure(at(0.0), at(0.0), false, &mut rng);
        }
        assert!(breaker.on_send(at(2.0)));
        assert!(!breaker.on_admitted(false), "another says nothing new");
        assert!(breaker.on_admitted(true) && !breaker.on_admitted(true));
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert!(breaker.on_failure(at(3.0), at(2.0), true, &mut rng), "but not for long if the answer breaks off");
        let BreakerState::Open { until } = breaker.state() else { panic!("{:?}", breaker.state()) };
        assert!(until >= at(4.5), "and for longer than at first");
    }

    #[test]
    fn an_old_trials_failure_does_not_open_what_was_closed_by_hand() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut breaker = Breaker::new(BreakerPolicy { failures: 1, ..BreakerPolicy::default() });
        breaker.on_failure(at(0.0), at(0.0), false, &mut rng);
        assert!(breaker.on_send(at(2.0)));
        breaker.reset(at(3.0));
        assert!(!breaker.on_failure(at(4.0), at(2.0), true, &mut rng));
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    proptest! {
        /// Whatever the order of sends and ends, a breaker without a trial under way lets one pass in bounded time.
        #[test]
        fn it_never_gets_stuck(steps in prop::collection::vec((0u8..7, 0u64..5_000_000), 1..200), seed: u64) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut breaker = Breaker::new(BreakerPolicy { failures: 3, ..BreakerPolicy::default() });
            let mut now = Timestamp::ZERO;
            let mut trial = false;
            for (what, micros) in steps {
                now += Duration::from_micros(micros);
                match what {
                    0 | 1 if breaker.opens_at(now) == now => trial = breaker.on_send(now) || trial,
                    5 => { breaker.on_admitted(trial); }
                    2 => { breaker.on_success(); trial = false; }
                    3 => { breaker.on_failure(now, now, std::mem::take(&mut trial), &mut rng); }
                    4 => breaker.on_neutral(now, std::mem::take(&mut trial)),
                    _ => { breaker.on_failure(now, now, false, &mut rng); }
                }
                prop_assert!(breaker.opens_at(now) <= now + Duration::from_millis(12_501));
                prop_assert!(trial || breaker.state() != BreakerState::HalfOpen, "half-open without a trial under way");
            }
        }
    }
}
