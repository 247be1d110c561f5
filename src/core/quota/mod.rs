//! Rate quotas of a lane: requests and tokens a minute, requests a day, as configured and as the server tells them.
//!
//! DeepSeek has none (its limit is on requests in flight), but providers that carry its models do, and a 429 about rate
//! must slow the sending without touching the concurrency limit.
//!
//! Most of these providers tell with every answer what is left (`x-ratelimit-limit`, `-remaining`, `-reset`). That is
//! believed over any books of one's own, for others may share the account; but it is old, as of when the request was taken
//! in, so what was sent since counts too. What comes back before the next word depends on the kind of limit, and the reset
//! gives it away: in a token bucket (OpenAI, Groq, Anthropic) it is in proportion to what was used, in a fixed window it
//! runs down with the clock, in a rolling window it stays. A bucket is then sent to at its own pace, a rolling window when
//! what was sent has left it, a fixed one when it ends. Until the kind is known the least of the three is assumed.
//!
//! Where nothing is told, the pace is what the server took between two rejections, and it is raised slowly. And after
//! whatever closed the lane one request goes ahead, and more follow as they are let in, so that a mistake costs one 429
//! and not a burst of them.

mod stated;
mod window;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use self::stated::{Sendings, Stated, Word};
use self::window::RollingWindow;
use super::backoff::jittered_floor;
use super::outcome::QuotaHints;
use super::time::{Timestamp, scaled};

/// A provider's rate limits for one lane, as its documentation states them. All absent by default: what `x-ratelimit-*`
/// headers tell is learned and kept to without them, and where nothing is told a limit is found out at the price of some
/// 429s. Limits given here hold besides, and are kept from the first request on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaSpec {
    /// Requests in any 60 seconds.
    pub requests_per_minute: Option<u64>,
    /// Tokens, prompt and completion together, in any 60 seconds.
    pub tokens_per_minute: Option<u64>,
    /// Requests in any 24 hours.
    pub requests_per_day: Option<u64>,
}

/// The quota of one lane: what was configured, and what the server said.
#[derive(Debug)]
pub struct Quota {
    requests: Vec<RollingWindow>,
    tokens: Option<RollingWindow>,
    closed_until: Timestamp,
    /// Rate rejections in a row: the wait doubles where the server names none.
    rejections: u32,
    /// The last request sent before the newest rejection was heard: whether the server takes what follows must show.
    doubt: f64,
    /// When the first of the last row was sent, and how many have been rejected from it on.
    row: (f64, f64),
    /// How long it took from there until one was let in.
    recovery: f64,
    sendings: Sendings,
    /// The limits that the server's answers tell, on requests and on tokens.
    learned: [Option<Box<Stated>>; 2],
}

impl Quota {
    /// How long a rejection says anything of what is sent now: the longest of the usual windows.
    const NEWS: Duration = Duration::from_secs(3600);

    /// A full quota by `spec`.
    pub fn new(spec: &QuotaSpec) -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        let mut requests = Vec::new();
        for (limit, window) in [(spec.requests_per_minute, MINUTE), (spec.requests_per_day, MINUTE * 60 * 24)] {
            if let Some(limit) = limit {
                requests.push(RollingWindow::new(limit, window));
            }
        }
        Self {
            requests,
            tokens: spec.tokens_per_minute.map(|limit| RollingWindow::new(limit, MINUTE)),
            closed_until: Timestamp::ZERO,
            rejections: 0,
            doubt: f64::MAX,
            row: (0.0, 0.0),
            recovery: 0.0,
            sendings: Sendings::default(),
            learned: [None, None],
        }
    }

    /// When a request of about `tokens` tokens may be sent (up to 1: nobody knows how many); `now` if at once.
    pub fn opens_at(&mut self, now: Timestamp, tokens: u64) -> Timestamp {
        // Whoever sends little would be as careful for days: the first request lets in only a few more.
        if self.doubt < f64::MAX && now >= self.closed_until + Self::NEWS {
            self.rejections = 0;
            self.doubt = f64::MAX;
        }
        let mut at = self.closed_until.max(now);
        for window in &mut self.requests {
            at = at.max(window.fits_at(now, 1));
        }
        if let Some(window) = &mut self.tokens {
            at = at.max(window.fits_at(now, tokens));
        }
        // The rule, and quickly told.
        if self.doubt == f64::MAX && matches!(self.learned, [None, None]) {
            return at;
        }
        let mut learned = self.sendings.trial_at(self.doubt);
        for stated in self.learned.iter().flatten() {
            learned = learned.max(stated.opens_at(&self.sendings, now.as_secs_f64(), tokens as f64));
        }
        at.max(Timestamp::from_secs_f64(learned))
    }

    /// How many requests and how many tokens a minute can be kept up, as far as the server told it or it was found out.
    pub fn per_minute(&self) -> [Option<f64>; 2] {
        [&self.learned[0], &self.learned[1]].map(|learned| learned.as_ref()?.per_minute())
    }

    /// A request of about `tokens` tokens is sent, the `number`-th of its lane.
    pub fn on_send(&mut self, now: Timestamp, number: u64, tokens: u64) {
        for window in &mut self.requests {
            window.spend(now, 1);
        }
        if let Some(window) = &mut self.tokens {
            window.spend(now, tokens);
        }
        let now = now.as_secs_f64();
        self.sendings.note(now, number as f64);
        for stated in self.learned.iter_mut().flatten() {
            stated.spend(now, 1.0);
        }
    }

    /// The request sent at `sent` with an estimate of `estimated` tokens came to `actual` (zero if it was rejected).
    pub fn on_usage(&mut self, sent: Timestamp, estimated: u64, actual: u64) {
        if let Some(window) = &mut self.tokens {
            window.correct(sent, estimated, actual);
        }
    }

    /// What the headers say with the answer to request `number`, which was sent at `sent`: how things stood then.
    pub fn on_hints(&mut self, now: Timestamp, sent: Timestamp, number: u64, hints: &QuotaHints) {
        self.hear(now, sent, number, hints, true);
    }

    fn hear(&mut self, now: Timestamp, sent: Timestamp, number: u64, hints: &QuotaHints, admitted: bool) {
        // As nearly always.
        if hints.requests.remaining.is_none() && hints.tokens.remaining.is_none() {
            return;
        }
        for (at, hint) in [&hints.requests, &hints.tokens].into_iter().enumerate() {
            let Some(remaining) = hint.remaining else { continue };
            let Some(limit) = hint.limit else {
                // Of how many is not known, so all that can be done is to wait.
                if let (0, Some(reset)) = (remaining, hint.reset) {
                    self.closed_until = self.closed_until.max(sent + reset);
                }
                continue;
            };
            let (now, sent, number) = (now.as_secs_f64(), sent.as_secs_f64(), number as f64);
            let limit = limit.max(1) as f64;
            let used = (limit - remaining as f64).max(0.0);
            // Who names no reset has windows of a minute (Mistral).
            let reset = hint.reset.map_or(60.0, |reset| reset.as_secs_f64());
            let word = Word { sent, number, used, reset };
            let slot = &mut self.learned[at];
            if slot.as_ref().is_none_or(|known| known.guess.is_some()) {
                *slot = Some(Box::new(Stated::new(at == 1, limit, word)));
            }
            let Some(stated) = slot else { continue };
            stated.hear(now, &self.sendings, limit, word, admitted);
            self.sendings.keep(now, sent, number, stated.window);
        }
    }

    /// Nothing was said of a limit, and yet there is one: finds it out. From the second row of rejections on it is known
    /// how much the server took in how long. If it took more soon after a rejection, as a bucket does, that is the pace;
    /// if it took nothing for long, what it took in the last minute is what a minute holds. Less than the server takes would
    /// never be noticed, so a guess grows, ever faster, until a rejection corrects it.
    fn guess(&mut self, now: Timestamp, sent: Timestamp, number: u64, first: bool) {
        const MINUTE: f64 = 60.0;
        if self.learned.iter().flatten().any(|stated| stated.guess.is_none()) {
            return;
        }
        let (now, sent, number) = (now.as_secs_f64(), sent.as_secs_f64(), number as f64);
        if first {
            if !self.sendings.log.is_empty() {
                let slow = self.recovery > 5.0;
                let span = if slow { MINUTE } else { (sent - self.row.0).clamp(1.0, MINUTE) };
                let took = (number - 1.0 - self.sendings.by(sent - span) - self.row.1).max(1.0);
                self.learned[0] = Some(Box::new(Stated::guessed(sent, span, took, slow)));
            }
            self.sendings.keep(now, sent, number, MINUTE);
            self.row = (sent, 0.0);
        }
        self.row.1 += 1.0;
    }

    /// The request `number`, sent at `sent`, was accepted by the rate limiter.
    pub fn on_accepted(&mut self, sent: Timestamp, number: u64) {
        let number = number as f64;
        self.sendings.admitted = self.sendings.admitted.max(number);
        // What was sent before the last rejection came says nothing about what follows it.
        if self.rejections > 0 && number > self.doubt {
            self.rejections = 0;
            self.recovery = sent.as_secs_f64() - self.row.0;
        }
    }

    /// Request `number`, sent at `sent`, was rejected for its rate. Waits as long as the server says; else (a wait of zero
    /// says nothing) a second, doubling to a minute (the usual window), jittered. A later, shorter wait never cuts an
    /// earlier, longer one.
    pub fn on_rejected(
        &mut self,
        now: Timestamp,
        sent: Timestamp,
        number: u64,
        retry_after: Option<Duration>,
        hints: &QuotaHints,
        rng: &mut fastrand::Rng,
    ) {
        let first = self.rejections == 0;
        self.doubt = self.sendings.count;
        // Rejections of one burst arrive together; only the first after the wait says anything new.
        if now >= self.closed_until {
            self.rejections = self.rejections.saturating_add(1);
        }
        let wait = match retry_after.filter(|asked| !asked.is_zero()) {
            Some(asked) => jittered_floor(asked, rng),
            None => {
                let doubled = Duration::from_secs(1 << (self.rejections.clamp(1, 7) - 1));
                scaled(doubled.min(Duration::from_secs(60)), 0.75 + 0.5 * rng.f64())
            }
        };
        self.closed_until = self.closed_until.max(now + wait);
        self.hear(now, sent, number, hints, false);
        self.guess(now, sent, number, first);
    }

    /// Forgets what the server said; configured limits stay.
    pub fn reset(&mut self) {
        self.closed_until = Timestamp::ZERO;
        self.rejections = 0;
        self.doubt = f64::MAX;
        self.sendings.log.clear();
        self.learned = [None, None];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::outcome::QuotaHint;
    #[cfg(feature = "sim")]
    use crate::sim::pace::{Pace, REQUESTS};
    #[cfg(feature = "sim")]
    use crate::sim::scenario::{Rate, Refill};
    #[cfg(feature = "sim")]
    use alloc::collections::BinaryHeap;
    use alloc::collections::VecDeque;
    #[cfg(feature = "sim")]
    use core::cmp::Reverse;
    use proptest::prelude::*;

    fn secs(secs: f64) -> Timestamp {
        Timestamp::from_secs_f64(secs)
    }

    #[test]
    fn absurd_counts_of_tokens_do_no_harm() {
        let mut quota = Quota::new(&QuotaSpec { tokens_per_minute: Some(100), ..QuotaSpec::default() });
        for at in 0..200 {
            let now = secs(f64::from(at));
            quota.on_send(now, 1, u64::from(u32::MAX));
            quota.on_usage(now, 10, u64::MAX);
            quota.on_usage(now, u64::MAX, u64::MAX);
        }
        assert_eq!(quota.opens_at(secs(1000.0), 100), secs(1000.0));
    }

    #[test]
    fn without_a_spec_it_is_always_open() {
        let mut quota = Quota::new(&QuotaSpec::default());
        for number in 1..10_000 {
            assert_eq!(quota.opens_at(secs(3.0), u64::MAX), secs(3.0));
            quota.on_send(secs(3.0), number, 1_000_000);
        }
    }

    #[test]
    fn a_prompt_larger_than_the_whole_quota_goes_alone_instead_of_never() {
        let mut quota = Quota::new(&QuotaSpec { tokens_per_minute: Some(1000), ..QuotaSpec::default() });
        quota.on_send(secs(0.0), 1, 10);
        let at = quota.opens_at(secs(0.0), 5000);
        assert!(at >= secs(60.0) && at <= secs(62.0), "{at:?}");
        assert_eq!(quota.opens_at(at, 5000), at);
    }

    #[test]
    fn usage_replaces_the_estimate() {
        let mut quota = Quota::new(&QuotaSpec { tokens_per_minute: Some(1000), ..QuotaSpec::default() });
        quota.on_send(secs(1.0), 1, 900);
        assert!(quota.opens_at(secs(2.0), 500) > secs(50.0));
        quota.on_usage(secs(1.0), 900, 100);
        assert_eq!(quota.opens_at(secs(2.0), 500), secs(2.0));
    }

    #[test]
    fn the_servers_wait_is_obeyed_and_never_shortened_by_a_later_one() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut quota = Quota::new(&QuotaSpec::default());
        let none = QuotaHints::default();
        quota.on_rejected(secs(0.0), secs(0.0), 1, Some(Duration::from_secs(90)), &none, &mut rng);
        let at = quota.opens_at(secs(0.0), 0);
        assert!(at >= secs(90.0) && at <= secs(99.0));
        quota.on_rejected(secs(1.0), secs(0.0), 2, Some(Duration::from_secs(2)), &none, &mut rng);
        assert_eq!(quota.opens_at(secs(1.0), 0), at);
        // Of what limit nothing is left is not said: the whole reset, then.
        let empty = QuotaHint { limit: None, remaining: Some(0), reset: Some(Duration::from_secs(200)) };
        quota.on_hints(secs(2.0), secs(1.5), 3, &QuotaHints { requests: empty, ..none });
        assert_eq!(quota.opens_at(secs(2.0), 0), secs(201.5));
    }

    #[test]
    fn after_a_rejection_one_goes_ahead_and_the_others_follow_when_it_is_let_in() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut quota = Quota::new(&QuotaSpec::default());
        quota.on_send(secs(0.0), 1, 0);
        quota.on_rejected(secs(0.1), secs(0.0), 1, Some(Duration::from_secs(5)), &QuotaHints::default(), &mut rng);
        let at = quota.opens_at(secs(0.1), 0);
        quota.on_send(at, 2, 0);
        assert_eq!(quota.opens_at(at, 0), at + Duration::from_secs(1));
        quota.on_accepted(secs(0.0), 1);
        assert!(quota.opens_at(at, 0) > at, "that one was sent before the rejection");
        quota.on_accepted(at, 2);
        for number in [3, 4] {
            assert_eq!(quota.opens_at(at, 0), at);
            quota.on_send(at, number, 0);
        }
        assert!(quota.opens_at(at, 0) > at, "each draws two more");
    }

    /// The word of a limit on requests, with the answer to request `number`, sent at `sent`.
    fn hear(quota: &mut Quota, now: f64, sent: f64, number: u64, (limit, remaining, reset): (u64, u64, f64)) {
        let (limit, remaining) = (Some(limit), Some(remaining));
        let requests = QuotaHint { limit, remaining, reset: Some(Duration::from_secs_f64(reset)) };
        quota.on_hints(secs(now), secs(sent), number, &QuotaHints { requests, ..QuotaHints::default() });
    }

    /// `requests` are sent at once at 0 s; 3 s later the answers come to the first and the one halfway.
    fn burst(limit: u64, requests: u64, reset: impl Fn(u64) -> f64) -> Quota {
        let mut quota = Quota::new(&QuotaSpec::default());
        for number in 1..=requests {
            quota.on_send(secs(0.0), number, 0);
        }
        for number in [1, requests / 2] {
            hear(&mut quota, 3.0, 0.0, number, (limit, limit - number, reset(number)));
        }
        quota
    }

    #[test]
    fn what_was_sent_since_the_servers_word_counts_too() {
        let mut quota = burst(100, 98, |_| 60.0);
        assert_eq!(quota.opens_at(secs(3.0), 0), secs(3.0));
        quota.on_send(secs(3.0), 99, 0);
        quota.on_send(secs(3.0), 100, 0);
        assert!(quota.opens_at(secs(3.0), 0) >= secs(60.0));
        // An older word says nothing new; a newer one is believed over any books, here that another client had ten.
        hear(&mut quota, 4.0, 0.0, 10, (100, 90, 60.0));
        assert!(quota.opens_at(secs(4.0), 0) >= secs(60.0));
        hear(&mut quota, 5.0, 3.0, 99, (100, 30, 57.0));
        assert_eq!(quota.opens_at(secs(5.0), 0), secs(5.0));
    }

    #[test]
    fn a_bucket_is_known_by_its_reset_and_gives_a_permit_each_interval() {
        // 100 a minute: 0.6 s each.
        let mut quota = burst(100, 100, |used| 0.6 * used as f64);
        let mut now = secs(3.0);
        for number in 101..120 {
            let at = quota.opens_at(now, 0);
            now = at.max(now);
            quota.on_send(now, number, 0);
        }
        let at = now.as_secs_f64();
        assert!((0.6 * 19.0..0.6 * 21.0).contains(&at), "the nineteenth went at {at}");
    }

    #[test]
    fn a_bucket_that_nobody_used_for_an_hour_has_no_more_than_its_limit() {
        let mut quota = burst(100, 50, |used| 0.6 * used as f64);
        let sent = (51..).take_while(|&number| {
            let open = quota.opens_at(secs(3600.0), 0) == secs(3600.0);
            quota.on_send(secs(3600.0), number, 0);
            open
        });
        assert!((95..=100).contains(&sent.count()));
    }

    #[test]
    fn a_rolling_window_gives_back_what_was_sent_a_window_ago() {
        let mut quota = Quota::new(&QuotaSpec::default());
        for number in 1..=60u64 {
            let now = number as f64 / 2.0;
            quota.on_send(secs(now), number, 0);
            hear(&mut quota, now + 0.1, now, number, (60, 60 - number, 60.0));
        }
        let at = quota.opens_at(secs(31.0), 0);
        assert!((60.5..60.7).contains(&at.as_secs_f64()), "{at:?}");
        quota.on_send(at, 61, 0);
        let next = quota.opens_at(at, 0);
        assert!((61.0..61.2).contains(&next.as_secs_f64()), "{next:?}");
    }

    #[test]
    fn a_fixed_window_opens_when_it_ends_for_one_and_then_for_all() {
        let mut quota = Quota::new(&QuotaSpec::default());
        for number in 1..=60u64 {
            let now = number as f64 / 2.0;
            quota.on_send(secs(now), number, 0);
            hear(&mut quota, now + 0.1, now, number, (60, 60 - number, 40.0 - now));
        }
        let at = quota.opens_at(secs(31.0), 0);
        assert!((40.0..40.1).contains(&at.as_secs_f64()), "{at:?}");
        quota.on_send(at, 61, 0);
        assert_eq!(quota.opens_at(at, 0), at + Duration::from_secs(1));
        for number in 62..=119 {
            quota.on_accepted(at, number - 1);
            assert_eq!(quota.opens_at(at, 0), at, "{number}");
            quota.on_send(at, number, 0);
        }
    }

    #[test]
    fn tokens_are_reckoned_with_what_the_server_took_for_the_requests_before() {
        let mut quota = Quota::new(&QuotaSpec::default());
        for number in 1..=30 {
            quota.on_send(secs(0.0), number, 0);
        }
        for number in 1..=10u64 {
            let remaining = Some(10_000 - 300 * number);
            let tokens = QuotaHint { limit: Some(10_000), remaining, reset: Some(Duration::from_secs(60)) };
            quota.on_hints(secs(2.0), secs(0.0), number, &QuotaHints { tokens, ..QuotaHints::default() });
        }
        // 9,000 of 10,000 are gone, and a sixty-fourth is kept for errors.
        assert_eq!(quota.opens_at(secs(2.0), 0), secs(2.0));
        assert_eq!(quota.opens_at(secs(2.0), 800), secs(2.0));
        assert!(quota.opens_at(secs(2.0), 900) > secs(50.0), "it is known to be larger than most");
        for number in 31..=33 {
            quota.on_send(secs(2.0), number, 0);
        }
        assert!(quota.opens_at(secs(2.0), 0) > secs(50.0));
    }

    #[test]
    fn tokens_that_others_have_used_are_not_taken_for_the_size_of_a_request() {
        let mut quota = Quota::new(&QuotaSpec::default());
        let (mut used, mut ends, mut number) = (9000, 10.0, 0);
        let mut flying: VecDeque<(f64, u64, u64, f64)> = VecDeque::new();
        let mut now = 0.0;
        while now < 190.0 {
            if now >= ends {
                (used, ends) = (0, ends + 60.0);
            }
            while let Some(&(sent, number, used, reset)) = flying.front().filter(|flight| now >= flight.0 + 20.0) {
                flying.pop_front();
                let (limit, remaining) = (Some(10_000), Some(10_000 - used));
                let tokens = QuotaHint { limit, remaining, reset: Some(Duration::from_secs_f64(reset)) };
                quota.on_accepted(secs(sent), number);
                quota.on_hints(secs(now), secs(sent), number, &QuotaHints { tokens, ..QuotaHints::default() });
            }
            if flying.len() < if now < 20.0 { 2 } else { 20 } && quota.opens_at(secs(now), 1) <= secs(now) {
                assert!(used <= 9_700, "it would have been refused");
                (number, used) = (number + 1, used + 300);
                quota.on_send(secs(now), number, 0);
                flying.push_back((now, number, used, ends - now));
            }
            now += 0.1;
        }
        assert!(number > 75, "{number} of 102");
    }

    #[test]
    fn a_limit_of_a_minute_is_not_taken_for_the_days_that_was_told_before() {
        let mut quota = Quota::new(&QuotaSpec::default());
        let mut rng = fastrand::Rng::with_seed(1);
        let mut refuse = |quota: &mut Quota, now: f64, number, limit, reset| {
            let reset = Some(Duration::from_secs_f64(reset));
            let requests = QuotaHint { limit: Some(limit), remaining: Some(0), reset };
            let hints = QuotaHints { requests, ..QuotaHints::default() };
            quota.on_send(secs(now), number, 0);
            quota.on_rejected(secs(now + 0.1), secs(now), number, None, &hints, &mut rng);
        };
        // OpenRouter tells of limits with its rejections only, of whichever was met.
        refuse(&mut quota, 0.0, 1, 50, 7200.0);
        refuse(&mut quota, 7300.0, 2, 20, 40.0);
        for number in 3..40 {
            let at = quota.opens_at(secs(7400.0), 1);
            assert!(at < secs(7560.0), "request {number} is held until {at:?}");
            quota.on_send(at, number, 0);
            quota.on_accepted(at, number);
        }
    }

    #[test]
    fn a_burst_is_not_held_for_a_rejection_of_an_hour_ago() {
        let mut rng = fastrand::Rng::with_seed(1);
        let none = QuotaHints::default();
        for (idle, free) in [(3500.0, false), (3700.0, true)] {
            let mut quota = Quota::new(&QuotaSpec::default());
            quota.on_send(secs(0.0), 1, 0);
            quota.on_rejected(secs(0.0), secs(0.0), 1, Some(Duration::from_secs(30)), &none, &mut rng);
            quota.on_send(secs(40.0), 2, 0);
            quota.on_accepted(secs(40.0), 2);
            let then = secs(40.0 + idle);
            let burst = (3..103).take_while(|&number| {
                let open = quota.opens_at(then, 0) == then;
                quota.on_send(then, number, 0);
                open
            });
            assert_eq!(burst.count() == 100, free, "after {idle} s");
        }
    }

    #[test]
    fn what_was_found_out_of_a_limit_long_ago_holds_no_more() {
        let mut quota = Quota::new(&QuotaSpec::default());
        let mut rng = fastrand::Rng::with_seed(1);
        for (number, now) in [(1, 0.0), (3, 3600.0)] {
            quota.on_send(secs(now), number, 0);
            quota.on_rejected(
                secs(now),
                secs(now),
                number,
                Some(Duration::from_secs(30)),
                &QuotaHints::default(),
                &mut rng,
            );
            quota.on_send(secs(now + 40.0), number + 1, 0);
            quota.on_accepted(secs(now + 40.0), number + 1);
        }
        let mut now = secs(3600.0 * 8.0);
        for number in 5..35 {
            now = quota.opens_at(now, 1).max(now);
            quota.on_send(now, number, 0);
            quota.on_accepted(now, number);
        }
        assert!(now < secs(3600.0 * 8.0 + 120.0), "{now:?}");
    }

    /// Sends for an hour, one at a time, to a server that takes by `takes` and never says why not. Returns how many it
    /// took and how many not.
    fn felt(mut takes: impl FnMut(Timestamp) -> bool) -> (u32, u32) {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut quota = Quota::new(&QuotaSpec::default());
        let (mut now, mut took, mut refused) = (Timestamp::ZERO, 0, 0);
        for number in 1.. {
            now = quota.opens_at(now, 0).max(now + Duration::from_millis(50));
            if now > secs(3600.0) {
                break;
            }
            quota.on_send(now, number, 0);
            if takes(now) {
                quota.on_accepted(now, number);
                took += 1;
            } else {
                quota.on_rejected(now, now, number, None, &QuotaHints::default(), &mut rng);
                refused += 1;
            }
        }
        (took, refused)
    }

    #[test]
    fn a_limit_that_is_only_felt_is_learned_from_what_was_let_in() {
        let mut recent: VecDeque<Timestamp> = VecDeque::new();
        let (took, refused) = felt(|now| {
            recent.retain(|&at| now - at < Duration::from_secs(60));
            let room = recent.len() < 120;
            recent.extend(room.then_some(now));
            room
        });
        assert!(took > 6500 && refused * 100 < took, "{took} of 7,200, {refused} refused");
        let (mut left, mut at) = (120.0, Timestamp::ZERO);
        let (took, refused) = felt(|now| {
            left = f64::min(120.0, left + 2.0 * now.secs_since(at));
            at = now;
            let room = left >= 1.0;
            left -= f64::from(u8::from(room));
            room
        });
        assert!(took > 5700 && refused * 100 < took, "{took} of 7,320, {refused} refused");
    }

    #[test]
    fn without_a_word_from_the_server_the_wait_doubles_by_bursts_not_by_rejections() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut quota = Quota::new(&QuotaSpec::default());
        let mut now = secs(0.0);
        for (round, top) in [1.25, 2.5, 5.0, 10.0].into_iter().enumerate() {
            for _ in 0..20 {
                quota.on_rejected(now, now, 1, None, &QuotaHints::default(), &mut rng);
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
                sent.push(now);
                quota.on_send(now, sent.len() as u64, 0);
                let recent = sent.iter().filter(|&&then| now - then < Duration::from_secs(60)).count() as u64;
                prop_assert!(recent <= limit, "{} sent in the last minute", recent);
            }
        }

        /// Whatever the headers say and whatever happens, the lane opens within the longest reset that was named (at most
        /// a day), and when it says it will.
        #[test]
        fn no_headers_close_a_lane_for_good(
            steps in prop::collection::vec(
                (0u64..30_000_000, 0u8..4, any_number(), any_number(), prop::option::of(0.0f64..1e5), any::<bool>()),
                1..120,
            ),
        ) {
            let mut rng = fastrand::Rng::with_seed(1);
            let mut quota = Quota::new(&QuotaSpec::default());
            let mut now = Timestamp::ZERO;
            let mut sent = Vec::new();
            for (gap, what, limit, remaining, reset, tokens) in steps {
                now += Duration::from_micros(gap);
                let reset = reset.map(|secs| Duration::from_secs_f64(secs).min(Duration::from_secs(86_400)));
                let hint = QuotaHint { limit, remaining, reset };
                let hints = match tokens {
                    true => QuotaHints { tokens: hint, ..QuotaHints::default() },
                    false => QuotaHints { requests: hint, ..QuotaHints::default() },
                };
                let number = sent.len() as u64;
                match (what, sent.get(sent.len() * 2 / 3).copied()) {
                    (1, Some(at)) => quota.on_hints(now, at, number * 2 / 3 + 1, &hints),
                    (2, Some(at)) => quota.on_rejected(now, at, number * 2 / 3 + 1, None, &hints, &mut rng),
                    (3, Some(at)) => quota.on_accepted(at, number * 2 / 3 + 1),
                    _ => {
                        sent.push(now);
                        quota.on_send(now, number + 1, 0);
                    }
                }
                let at = quota.opens_at(now, 0);
                prop_assert!(at <= now + Duration::from_secs(86_400 + 200), "{:?} at {:?}", at, now);
                prop_assert_eq!(quota.opens_at(at, 0), at, "it keeps its word");
            }
        }
    }

    /// A client with more work than it can do, alone with a simulated server for five minutes.
    #[cfg(feature = "sim")]
    struct Alone {
        rate: Rate,
        /// When it begins, in seconds of the server's minute.
        from: f64,
        places: u32,
        rtt: f64,
        /// The longest answer, in seconds; the shortest is a tenth of it.
        longest: f64,
    }

    #[cfg(feature = "sim")]
    impl Alone {
        /// How many requests are let in and how many refused, if the client asks `quota`, or else the server itself.
        fn play(&self, mut quota: Option<Quota>) -> (u32, u32) {
            #[derive(PartialEq, Eq, PartialOrd, Ord)]
            enum Event {
                Arrives,
                LetIn,
                Ends,
                Refused,
            }
            let span = Duration::from_secs_f64;
            let mut rng = fastrand::Rng::with_seed(1);
            let mut server = Pace::new(&self.rate);
            let mut events = BinaryHeap::new();
            let mut words = Vec::new();
            let (mut now, mut number, mut flying, mut let_in, mut refused) = (secs(self.from), 0, 0, 0, 0);
            let end = now + span(300.0);
            while now < end {
                server.advance(now);
                while flying < self.places {
                    let open = match &mut quota {
                        Some(quota) => quota.opens_at(now, 0),
                        None => now + server.until_room(0),
                    };
                    if open > now {
                        break;
                    }
                    number += 1;
                    flying += 1;
                    words.push((now, QuotaHints::default()));
                    if let Some(quota) = &mut quota {
                        quota.on_send(now, number, 0);
                        events.push(Reverse((now + span(self.rtt / 2.0), number, Event::Arrives)));
                    } else {
                        server.spend(0);
                        let_in += 1;
                        events.push(Reverse((now + span(self.longest * (0.1 + 0.9 * rng.f64())), number, Event::Ends)));
                    }
                }
                let next = events.peek().map_or(end, |Reverse((at, ..))| *at);
                let open = match &mut quota {
                    _ if flying == self.places => end,
                    Some(quota) => quota.opens_at(now, 0),
                    None => now + server.until_room(0),
                };
                if open < next {
                    now = open;
                    continue;
                }
                now = next;
                let Some(Reverse((_, number, event))) = events.pop() else { continue };
                let (sent, hints) = words[number as usize - 1];
                match event {
                    Event::Arrives => {
                        server.advance(now);
                        let back = now + span(self.rtt / 2.0);
                        let refusal = server.refusal(0);
                        if refusal.is_some() {
                            refused += 1;
                            events.push(Reverse((back, number, Event::Refused)));
                        } else {
                            server.spend(0);
                            let_in += 1;
                            let took = self.longest * (0.1 + 0.9 * rng.f64());
                            events.push(Reverse((back + span(took.min(0.5)), number, Event::LetIn)));
                            events.push(Reverse((back + span(took), number, Event::Ends)));
                        }
                        let (limit, left) = server.left(REQUESTS).unwrap();
                        let reset = Some(server.until_whole(REQUESTS));
                        words[number as usize - 1].1.requests =
                            QuotaHint { limit: Some(limit), remaining: Some(left), reset };
                    }
                    Event::LetIn => quota.as_mut().unwrap().on_accepted(sent, number),
                    Event::Ends => {
                        flying -= 1;
                        if let Some(quota) = &mut quota {
                            quota.on_hints(now, sent, number, &hints);
                        }
                    }
                    Event::Refused => {
                        flying -= 1;
                        quota.as_mut().unwrap().on_rejected(now, sent, number, None, &hints, &mut rng);
                    }
                }
            }
            (let_in, refused)
        }
    }

    #[cfg(feature = "sim")]
    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever the kind of the limit, what is stated is used and hardly ever exceeded.
        #[test]
        fn a_stated_limit_is_used_whole_and_not_exceeded(
            rpm in 10u32..2000,
            refill in prop::sample::select(vec![Refill::Rolling, Refill::Fixed, Refill::Bucket]),
            (from, places, rtt, longest) in (0.0..60.0, 0.1..1.0, 0.005..0.3, 0.2..20.0),
        ) {
            let places = ((f64::from(rpm) * places) as u32).max(2);
            let alone = Alone { rate: Rate { rpm: Some(rpm), refill, ..Rate::default() }, from, places, rtt, longest };
            let (let_in, refused) = alone.play(Some(Quota::new(&QuotaSpec::default())));
            let (most, _) = alone.play(None);
            prop_assert!(refused <= 3, "{} refused of {}", refused, let_in);
            // Of the last window it may have had only the beginning.
            prop_assert!(let_in * 10 >= most * 8, "{} of {}", let_in, most);
        }
    }

    fn any_number() -> impl Strategy<Value = Option<u64>> {
        prop::option::of(prop_oneof![Just(0), 1u64..200, Just(u64::MAX)])
    }
}
