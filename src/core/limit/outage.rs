//! 503 and its kin: the service is busy for everybody, which says nothing of our share.

use super::flights::Seq;
use super::measurement::Delay;
use crate::core::time::Timestamp;

/// A series of 503s: pauses, then one trial request at a time until one is let in. The window is kept.
#[derive(Debug, Default)]
pub(super) struct Outage {
    series: Option<Series>,
    /// How long a 503 takes to arrive.
    delay: Option<Delay>,
}

#[derive(Clone, Copy, Debug)]
struct Series {
    since: Timestamp,
    /// Only a request sent after the last 503 ends the series.
    after: Seq,
}

impl Outage {
    /// One trial at a time.
    pub(super) fn is_half_open(&self) -> bool {
        self.series.is_some()
    }

    /// Seconds of silence after which a trial counts as let in: it must outlast a 503, which need not come as fast as
    /// a 429.
    pub(super) fn silence(&self, usual: f64) -> f64 {
        match self.delay {
            Some(delay) if self.is_half_open() => usual.max(delay.bound().min(10.0)),
            _ => usual,
        }
    }

    /// Times a 503, of a new series or not.
    pub(super) fn observe(&mut self, seconds: f64) {
        Delay::observe(&mut self.delay, seconds);
    }

    /// Notes a 503 whose successors begin at `after`; returns the pause in seconds: an eighth of the time the outage
    /// has lasted, from 0.25 to 1 s.
    pub(super) fn struck(&mut self, now: Timestamp, after: Seq) -> f64 {
        let since = self.series.map_or(now, |series| series.since);
        self.series = Some(Series { since, after });
        (now.secs_since(since) / 8.0).clamp(0.25, 1.0)
    }

    /// A request was let in.
    pub(super) fn admitted(&mut self, seq: Seq) {
        self.series = self.series.filter(|series| seq < series.after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::limit::flights::Flights;

    #[test]
    fn only_a_request_sent_after_the_last_503_ends_the_series() {
        let mut flights = Flights::new();
        let old = flights.push(Timestamp::ZERO, false);
        let mut outage = Outage::default();
        assert_eq!(outage.struck(Timestamp::ZERO, flights.next_seq()), 0.25);
        assert_eq!(outage.struck(Timestamp::from_secs_f64(4.0), flights.next_seq()), 0.5);
        assert_eq!(outage.struck(Timestamp::from_secs_f64(60.0), flights.next_seq()), 1.0);
        outage.admitted(old);
        assert!(outage.is_half_open());
        let trial = flights.push(Timestamp::ZERO, false);
        outage.admitted(trial);
        assert!(!outage.is_half_open());
    }
}
