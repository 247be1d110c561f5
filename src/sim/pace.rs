//! Limits on pace, as a provider keeps them: what was spent, and when it comes back.

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::time::Timestamp;

use super::scenario::{Rate, Refill};
use super::tally::RejectReason;

/// The span of the limits.
const WINDOW: Duration = Duration::from_secs(60);

/// A dimension of a limit, by its place in [`Pace`]'s arrays.
pub(crate) const REQUESTS: usize = 0;
pub(crate) const TOKENS: usize = 1;

/// What one lane has spent of its limits on requests and on tokens.
#[derive(Debug)]
pub(crate) struct Pace {
    limits: [Option<f64>; 2],
    refill: Refill,
    used: [f64; 2],
    at: Timestamp,
    /// What comes back by itself, in the order of spending. Only a rolling window needs it.
    spent: VecDeque<(Timestamp, f64)>,
}

impl Pace {
    pub(crate) fn new(rate: &Rate) -> Self {
        Self {
            limits: [rate.rpm.map(f64::from), rate.tpm.map(|tpm| tpm as f64)],
            refill: rate.refill,
            used: [0.0; 2],
            at: Timestamp::ZERO,
            spent: VecDeque::new(),
        }
    }

    /// Whether anything is limited at all.
    pub(crate) fn is_limited(&self) -> bool {
        self.limits.iter().any(Option::is_some)
    }

    /// A limit and what is left of it, in whole units.
    pub(crate) fn left(&self, of: usize) -> Option<(u64, u64)> {
        // `as` truncates.
        self.limits[of].map(|limit| (limit as u64, (limit - self.used[of]).max(0.0) as u64))
    }

    /// The limit on requests as places, each of them taken for the length of the window; how many are taken, and when the
    /// next comes free. Only in a rolling window does a request take one place for as long as any other.
    pub(crate) fn places(&self) -> Option<(u32, u32, Option<Timestamp>)> {
        let limit = self.limits[REQUESTS].filter(|_| self.refill == Refill::Rolling)?;
        Some((limit as u32, self.used[REQUESTS] as u32, self.spent.front().map(|&(at, _)| at + WINDOW)))
    }

    /// Follows the limits up to `now`.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        match self.refill {
            Refill::Rolling => {
                while let Some(&(at, tokens)) = self.spent.front()
                    && at + WINDOW <= now
                {
                    self.spent.pop_front();
                    self.used[REQUESTS] -= 1.0;
                    self.used[TOKENS] -= tokens;
                }
            }
            Refill::Fixed if now >= self.ends() => self.used = [0.0; 2],
            Refill::Fixed => {}
            Refill::Bucket => {
                for (used, limit) in self.used.iter_mut().zip(self.limits) {
                    let back = limit.unwrap_or(0.0) * now.secs_since(self.at) / WINDOW.as_secs_f64();
                    *used = (*used - back).max(0.0);
                }
            }
        }
        self.at = now;
    }

    /// Why a request of `tokens` tokens is refused now, if it is.
    pub(crate) fn refusal(&self, tokens: u64) -> Option<RejectReason> {
        let [requests, by_tokens] = self.lacking(tokens).map(|lacking| lacking > 0.0);
        requests.then_some(RejectReason::Rpm).or(by_tokens.then_some(RejectReason::Tpm))
    }

    /// By how much each limit lacks room for one more request of `tokens` tokens.
    fn lacking(&self, tokens: u64) -> [f64; 2] {
        // A bucket fills in fractions; the last of a unit may be lost in the sum.
        let lacking = |of: usize, asked: f64| self.limits[of].map_or(0.0, |limit| self.used[of] + asked - limit - 1e-6);
        [lacking(REQUESTS, 1.0), lacking(TOKENS, tokens as f64)]
    }

    pub(crate) fn spend(&mut self, tokens: u64) {
        self.used[REQUESTS] += 1.0;
        self.used[TOKENS] += tokens as f64;
        if self.refill == Refill::Rolling {
            self.spent.push_back((self.at, tokens as f64));
        }
    }

    /// How long until more is left, for a request of `tokens` tokens that is refused now. Zero if it is not, or if
    /// nothing will come back.
    pub(crate) fn until_room(&self, tokens: u64) -> Duration {
        match self.refill {
            _ if self.refusal(tokens).is_none() => Duration::ZERO,
            Refill::Rolling => self.spent.front().map_or(Duration::ZERO, |&(at, _)| at + WINDOW - self.at),
            Refill::Fixed => self.ends() - self.at,
            Refill::Bucket => {
                let [requests, by_tokens] = [REQUESTS, TOKENS].map(|of| self.seconds(of, self.lacking(tokens)[of]));
                // To the next microsecond, that there be room then.
                Duration::try_from_secs_f64(requests.max(by_tokens)).unwrap_or(WINDOW) + Duration::from_micros(1)
            }
        }
    }

    /// How long until the whole limit is left again, if nothing more is spent.
    pub(crate) fn until_whole(&self, of: usize) -> Duration {
        match self.refill {
            _ if self.used[of] <= 0.0 => Duration::ZERO,
            Refill::Rolling => self.spent.back().map_or(Duration::ZERO, |&(at, _)| at + WINDOW - self.at),
            Refill::Fixed => self.ends() - self.at,
            Refill::Bucket => Duration::try_from_secs_f64(self.seconds(of, self.used[of])).unwrap_or(WINDOW),
        }
    }

    /// The seconds in which a bucket gains `units`.
    fn seconds(&self, of: usize, units: f64) -> f64 {
        self.limits[of].map_or(0.0, |limit| units.max(0.0) * WINDOW.as_secs_f64() / limit)
    }

    /// When the present fixed window ends: with the minute.
    fn ends(&self) -> Timestamp {
        let window = WINDOW.as_micros() as u64;
        Timestamp::from_micros((self.at.as_micros() / window + 1) * window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(refill: Refill) -> Pace {
        Pace::new(&Rate { rpm: Some(3), tpm: Some(1000), refill, ..Rate::default() })
    }

    /// Sends as fast as it is let until `end`; the seconds at which requests of 100 tokens were admitted.
    fn admitted(mut pace: Pace, from: f64, end: f64) -> Vec<f64> {
        let mut times = Vec::new();
        let mut now = Timestamp::from_secs_f64(from);
        while now < Timestamp::from_secs_f64(end) {
            pace.advance(now);
            if pace.refusal(100).is_none() {
                pace.spend(100);
                times.push(now.as_secs_f64().round());
            } else {
                now += pace.until_room(100);
            }
        }
        times
    }

    #[test]
    fn each_kind_gives_back_in_its_own_way() {
        assert_eq!(admitted(pace(Refill::Rolling), 50.0, 120.0), [50.0, 50.0, 50.0, 110.0, 110.0, 110.0]);
        assert_eq!(admitted(pace(Refill::Fixed), 50.0, 119.0), [50.0, 50.0, 50.0, 60.0, 60.0, 60.0]);
        assert_eq!(admitted(pace(Refill::Bucket), 50.0, 111.0), [50.0, 50.0, 50.0, 70.0, 90.0, 110.0]);
    }

    #[test]
    fn the_reset_says_when_all_is_back() {
        for (refill, requests, tokens) in
            [(Refill::Rolling, 60.0, 60.0), (Refill::Fixed, 45.0, 45.0), (Refill::Bucket, 20.0, 30.0)]
        {
            let mut pace = pace(refill);
            pace.advance(Timestamp::from_secs_f64(15.0));
            assert_eq!((pace.left(REQUESTS), pace.until_whole(REQUESTS)), (Some((3, 3)), Duration::ZERO));
            pace.spend(500);
            assert_eq!((pace.left(REQUESTS), pace.left(TOKENS)), (Some((3, 2)), Some((1000, 500))));
            let whole = [REQUESTS, TOKENS].map(|of| pace.until_whole(of).as_secs_f64());
            assert_eq!(whole, [requests, tokens], "{refill:?}");
        }
    }

    #[test]
    fn tokens_are_refused_when_they_do_not_fit() {
        for refill in [Refill::Rolling, Refill::Fixed, Refill::Bucket] {
            let mut pace = pace(refill);
            pace.spend(900);
            assert_eq!((pace.refusal(100), pace.refusal(101)), (None, Some(RejectReason::Tpm)), "{refill:?}");
            assert!(pace.until_room(400) > Duration::from_secs(17), "{refill:?}");
        }
    }
}
