//! What the answers measure: how long rejections and heads take, how long a request runs, how fast the cap moves, and
//! what the server says of it.

use serde::{Deserialize, Serialize};

#[cfg(not(feature = "std"))]
use num_traits::Float as _;

use crate::core::outcome::Told;
use crate::core::time::Timestamp;

/// A smoothed delay with its mean deviation, in seconds, by the gains of TCP's retransmission timer (RFC 6298).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Delay {
    /// Smoothed mean, in seconds.
    pub mean: f64,
    /// Smoothed mean deviation, in seconds.
    pub deviation: f64,
}

impl Delay {
    pub(super) fn observe(estimate: &mut Option<Self>, seconds: f64) {
        match estimate {
            None => *estimate = Some(Self { mean: seconds, deviation: seconds / 2.0 }),
            Some(delay) => {
                delay.deviation += ((seconds - delay.mean).abs() - delay.deviation) / 4.0;
                delay.mean += (seconds - delay.mean) / 8.0;
            }
        }
    }

    /// A time nearly every such answer stays under. However regular they are, a tenth of a second is kept free: at the
    /// very moment an answer is due, silence proves nothing.
    pub(super) fn bound(self) -> f64 {
        self.mean + (4.0 * self.deviation).max(0.1)
    }

    pub(super) fn is_valid(self) -> bool {
        (0.0..=3600.0).contains(&self.mean) && (0.0..=3600.0).contains(&self.deviation)
    }
}

/// The delays that decide how long silence must last before it means "let in".
///
/// Heads and rejections are measured apart: a gateway may send heads in 0.2 s and hold a 429 back for 2 s, and one
/// estimate for both makes the climb outrun its own rejections.
#[derive(Clone, Debug, Default)]
pub(super) struct Delays {
    pub(super) rejection: Option<Delay>,
    pub(super) headers: Option<Delay>,
    /// Share of completed requests whose head came well before their end.
    pub(super) early: f64,
    /// The fastest answer of any kind: the round trip is no longer.
    fastest: Option<f64>,
}

impl Delays {
    /// Longest time a silent request is held for undecided, in seconds.
    const PATIENCE: f64 = 30.0;

    /// Something of an answer came `seconds` after its request was sent.
    pub(super) fn answered(&mut self, seconds: f64) {
        self.fastest = Some(self.fastest.map_or(seconds, |best| best.min(seconds)));
    }

    /// A rejection came `seconds` after its request was sent.
    pub(super) fn rejected(&mut self, seconds: f64) {
        self.answered(seconds);
        Delay::observe(&mut self.rejection, seconds);
    }

    /// A request completed after `total` seconds, and its head came after `headers`.
    pub(super) fn completed(&mut self, headers: Option<f64>, total: f64) {
        // A server that answers head and body together tells nothing early, whatever the driver reports.
        let early = headers.filter(|&head| head < total / 2.0);
        if let Some(head) = early {
            Delay::observe(&mut self.headers, head);
        }
        self.early += ((if early.is_some() { 1.0 } else { 0.0 }) - self.early) / 16.0;
    }

    /// Seconds after which a rejection made at once is here.
    pub(super) fn prompt(&self) -> f64 {
        self.fastest.map_or(0.1, |fastest| fastest.min(0.1))
    }

    /// Whether anything says how far away the server is.
    pub(super) fn knows_the_way(&self) -> bool {
        self.fastest.is_some()
    }

    /// Seconds in which a rejection is expected: what a climb is paced by.
    pub(super) fn feedback(&self) -> f64 {
        self.rejection
            .map_or(0.1, |delay| (delay.mean + (2.0 * delay.deviation).max(delay.mean / 4.0)).clamp(0.02, 10.0))
    }

    /// Seconds of silence after which a request counts as let in (though not for sure).
    pub(super) fn silence(&self) -> f64 {
        let silence = self.rejection.map_or(0.3, |delay| delay.bound().clamp(0.4, 10.0));
        match self.headers {
            // Heads will tell: silence is only for those that never come.
            Some(delay) if self.early > 0.5 => silence.max(1.0).max(4.0 * delay.bound()).min(Self::PATIENCE),
            _ => silence,
        }
    }
}

/// A rate that old movement fades out of, with time constant `tau`.
#[derive(Clone, Copy, Debug)]
struct Drift {
    rate: f64,
    at: Timestamp,
    tau: f64,
}

impl Drift {
    fn rate(&self, now: Timestamp) -> f64 {
        self.rate * (-now.secs_since(self.at) / self.tau).exp()
    }

    fn moved(&mut self, now: Timestamp, by: f64) {
        self.rate = self.rate(now) + by / self.tau;
        self.at = now;
    }
}

/// How fast the cap is expected to move, by how it has moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Motion {
    /// Slots a second it has been found to move.
    seen: Drift,
    /// Shares of itself a second it may move unseen, as long as little is known of it.
    unsettled: Drift,
    /// How often in a row it was found where it had been.
    rests: u32,
}

impl Motion {
    /// A first measurement says where the cap is, not that it rests: it counts as a movement by this share of itself.
    const UNSETTLED: f64 = 0.5;
    /// Share of the window by which a cap at rest is assumed to drift, per second: 2 % a minute.
    const RESTLESSNESS: f64 = 0.02 / 60.0;

    /// Of a cap that has been moving by `rate` slots a second; `tau` in seconds.
    pub(super) fn starting_at(now: Timestamp, tau: f64, rate: f64) -> Self {
        let drift = |rate| Drift { rate, at: now, tau };
        Self { seen: drift(rate), unsettled: drift(0.0), rests: 0 }
    }

    /// Slots a second it has been found to move lately.
    pub(super) fn rate(&self, now: Timestamp) -> f64 {
        self.seen.rate(now)
    }

    /// Slots a second it may be moving away from us, where it is about `window`; `followed` if a climb goes along as it
    /// rises.
    pub(super) fn expected(&self, now: Timestamp, window: u32, followed: bool) -> f64 {
        let unseen = self.unsettled.rate(now) + Self::RESTLESSNESS / f64::from(self.rests.saturating_add(1));
        let seen = self.seen.rate(now) * if followed { Rise::UNFOLLOWED } else { 1.0 };
        seen + unseen * f64::from(window).max(4.0)
    }

    /// The cap was met for the first time.
    pub(super) fn first_met(&mut self, now: Timestamp) {
        self.unsettled.moved(now, Self::UNSETTLED);
    }

    /// A place was lost, and one only: another client climbed into it, as ours may have into others'. So much of what
    /// counts as movement was none.
    pub(super) fn lost_a_place(&mut self, now: Timestamp) {
        let rate = self.seen.rate(now) - 1.0 / self.seen.tau;
        (self.seen.rate, self.seen.at) = (rate.max(0.0), now);
    }

    /// The cap was found `slots` away from where it had been.
    pub(super) fn moved(&mut self, now: Timestamp, slots: f64) {
        self.seen.moved(now, slots);
        self.rests = 0;
    }

    /// The cap was found where it had been.
    pub(super) fn rested(&mut self) {
        self.unsettled.rate /= 2.0;
        self.rests = self.rests.saturating_add(1);
    }
}

/// How fast the cap rises from where it is met to where it is met next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rise {
    /// When and where it was met last; `None` after it fell.
    met: Option<(Timestamp, u32)>,
    /// Slots a second by which it had risen then.
    pace: f64,
}

impl Rise {
    /// A rising cap is followed at this share of its pace, so that following it is seldom rejected.
    const FOLLOWED: f64 = 0.85;
    /// So much of a cap's movement is left to be found then: what rises falls again, so half of it is rises.
    const UNFOLLOWED: f64 = 1.0 - Self::FOLLOWED / 2.0;

    /// A climb met the cap at `level`. Returns by how many slots a second to follow it, if it has risen twice running.
    pub(super) fn met(&mut self, now: Timestamp, level: u32) -> Option<f64> {
        let pace = match self.met.replace((now, level)) {
            Some((since, from)) if level > from && is_material(level, from) => {
                f64::from(level - from) / now.secs_since(since)
            }
            _ => 0.0,
        };
        let followed = pace.min(core::mem::replace(&mut self.pace, pace)) * Self::FOLLOWED;
        (followed > 0.0).then_some(followed)
    }

    /// The cap was met at `level`, where it had been.
    pub(super) fn stopped(&mut self, now: Timestamp, level: u32) {
        (self.met, self.pace) = (Some((now, level)), 0.0);
    }
}

/// The most requests lately seen to be let in together, with what had completed meanwhile: what may be sent again
/// without feeling the way. Kept for one to two spans of [`Proved::SPAN`]; after an idle time nothing is proved.
#[derive(Debug, Default)]
pub(super) struct Proved {
    since: Timestamp,
    current: u32,
    previous: u32,
}

impl Proved {
    /// Longer than a rejection takes, so that short requests, which end before they would be confirmed by silence, still
    /// prove something; short enough that the cap has hardly moved.
    const SPAN: f64 = 1.0;

    fn roll(&mut self, now: Timestamp) {
        let spans = now.secs_since(self.since) / Self::SPAN;
        if spans >= 1.0 {
            self.previous = if spans < 2.0 { self.current } else { 0 };
            self.current = 0;
            self.since = now;
        }
    }

    /// `level` of ours were at the server together.
    pub(super) fn observe(&mut self, now: Timestamp, level: u32) {
        self.roll(now);
        self.current = self.current.max(level);
    }

    /// The cap turned out to be no more than `level`.
    pub(super) fn refuted(&mut self, level: u32) {
        self.current = self.current.min(level);
        self.previous = self.previous.min(level);
    }

    pub(super) fn level(&self, now: Timestamp) -> u32 {
        match now.secs_since(self.since) / Self::SPAN {
            spans if spans < 1.0 => self.current.max(self.previous),
            spans if spans < 2.0 => self.current,
            _ => 0,
        }
    }
}

/// Slots by which our count of the cap is off from `last` beyond what it wavers: beside other clients it is our share of
/// a cap that may rest, and comes and goes by a part of its root. The larger the part, the less clients disturb each other,
/// and the longer a share that is unfair stays so.
pub(super) fn beyond_wavering(count: u32, last: u32) -> f64 {
    (f64::from(count.abs_diff(last)) - 0.28 * f64::from(count).sqrt()).max(0.0)
}

/// True if two readings of the cap differ by more than noise: 3 % and one slot.
pub(super) fn is_material(reading: u32, previous: u32) -> bool {
    f64::from(reading.abs_diff(previous)) > tolerance(reading)
}

fn tolerance(slots: u32) -> f64 {
    0.03 * f64::from(slots) + 1.0
}

/// What bodies state of the account's limit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stated {
    limit: Option<u32>,
    peak: u32,
}

impl Stated {
    /// With the limit that was stated before a restart.
    pub(super) fn of(limit: Option<u32>) -> Self {
        Self { limit, peak: limit.unwrap_or(0) }
    }

    /// The limit as last stated.
    pub(super) fn limit(&self) -> Option<u32> {
        self.limit
    }

    /// The highest that was stated, or 0.
    pub(super) fn peak(&self) -> u32 {
        self.peak
    }

    /// Reads what a rejection's body states.
    ///
    /// `earlier` is our own occupancy as the rejected request met it; it is lowered if the server counts less. Returns our
    /// share of the cap if the body settles it better than our own count: alone on the account that is the limit itself;
    /// beside others it is only believed where it has just fallen, for a limit shared among several is what each one's
    /// own count measures better.
    pub(super) fn read(&mut self, told: Told, earlier: &mut u32) -> Option<u32> {
        let admitted = told.current.saturating_sub(1);
        let others = admitted.saturating_sub(*earlier);
        *earlier = (*earlier).min(admitted);
        let fell = self.limit.is_some_and(|last| told.limit < last);
        self.limit = Some(told.limit);
        self.peak = self.peak.max(told.limit);
        if f64::from(others) <= tolerance(told.limit) {
            Some(told.limit)
        } else if fell {
            Some(told.limit.saturating_sub(others).max(1))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_means_admission_after_three_tenths_of_a_second_until_rejections_are_timed() {
        let mut delays = Delays::default();
        assert_eq!(delays.silence(), 0.3);
        for _ in 0..50 {
            Delay::observe(&mut delays.rejection, 2.0);
        }
        assert!((2.0..2.5).contains(&delays.silence()), "{}", delays.silence());
    }

    #[test]
    fn heads_that_come_with_the_body_are_not_early() {
        let mut delays = Delays::default();
        for _ in 0..100 {
            delays.completed(Some(9.9), 10.0);
        }
        assert_eq!(delays.silence(), 0.3);
        for _ in 0..100 {
            delays.completed(Some(0.5), 10.0);
        }
        assert!(delays.silence() >= 2.0);
    }

    #[test]
    fn what_was_proved_is_remembered_for_a_while_and_no_longer() {
        let at = Timestamp::from_secs_f64;
        let mut proved = Proved::default();
        proved.observe(at(10.0), 40);
        proved.observe(at(10.5), 30);
        assert_eq!(proved.level(at(10.9)), 40);
        proved.observe(at(11.2), 5);
        assert_eq!(proved.level(at(11.3)), 40, "a span later still");
        proved.refuted(20);
        assert_eq!(proved.level(at(11.3)), 20);
        assert_eq!(proved.level(at(12.3)), 5);
        assert_eq!(proved.level(at(13.3)), 0, "idle");
    }

    #[test]
    fn motion_fades_with_its_time_constant() {
        let at = Timestamp::from_secs_f64;
        let mut motion = Motion::starting_at(at(0.0), 120.0, 0.0);
        motion.moved(at(0.0), 12.0);
        assert!((motion.rate(at(0.0)) - 0.1).abs() < 1e-9);
        assert!((motion.rate(at(120.0)) - 0.1 / std::f64::consts::E).abs() < 1e-9);
    }

    #[test]
    fn what_others_take_again_was_no_movement() {
        let at = Timestamp::from_secs_f64;
        let mut motion = Motion::starting_at(at(0.0), 120.0, 0.0);
        motion.moved(at(0.0), 3.0);
        motion.lost_a_place(at(0.0));
        assert!((motion.rate(at(0.0)) - 2.0 / 120.0).abs() < 1e-9);
        for _ in 0..5 {
            motion.lost_a_place(at(0.0));
        }
        assert_eq!(motion.rate(at(0.0)), 0.0, "and never less than none");
    }

    #[test]
    fn a_share_wavers_by_a_part_of_its_root() {
        assert_eq!([(25, 24), (25, 26), (25, 25)].map(|(count, last)| beyond_wavering(count, last)), [0.0; 3]);
        assert_eq!(
            [(100, 102), (100, 103), (100, 64)].map(|(count, last)| beyond_wavering(count, last) > 0.0),
            [false, true, true]
        );
        assert!((beyond_wavering(100, 64) - 33.2).abs() < 1e-9);
    }

    #[test]
    fn a_cap_that_is_found_where_it_was_is_expected_to_stay() {
        let at = Timestamp::from_secs_f64;
        let mut motion = Motion::starting_at(at(0.0), 120.0, 0.0);
        let unknown = motion.expected(at(0.0), 100, false);
        motion.first_met(at(0.0));
        let mut last = motion.expected(at(0.0), 100, false);
        assert!(last > 10.0 * unknown, "where it was met once, it may be anywhere soon");
        for _ in 0..5 {
            motion.rested();
            let now = motion.expected(at(0.0), 100, false);
            assert!(now < 0.7 * last, "{now} after {last}");
            last = now;
        }
        motion.moved(at(0.0), 12.0);
        assert!(motion.expected(at(0.0), 100, false) > last + 0.1);
    }

    #[test]
    fn of_a_cap_that_is_followed_as_it_rises_less_is_left_to_be_found() {
        let at = Timestamp::from_secs_f64;
        let mut motion = Motion::starting_at(at(0.0), 120.0, 0.0);
        let [followed, held] = [true, false].map(|followed| motion.expected(at(0.0), 100, followed));
        assert_eq!(followed, held, "as long as nothing was seen to move");
        motion.moved(at(0.0), 12.0);
        let [more, most] = [true, false].map(|followed| motion.expected(at(0.0), 100, followed));
        assert!((more - followed - 0.1 * 0.575).abs() < 1e-9 && (most - held - 0.1).abs() < 1e-9);
    }

    #[test]
    fn a_cap_is_followed_once_it_rose_twice_running() {
        let at = Timestamp::from_secs_f64;
        let mut rise = Rise::default();
        assert_eq!(rise.met(at(0.0), 20), None);
        assert_eq!(rise.met(at(10.0), 30), None, "once may be chance");
        assert_eq!(rise.met(at(20.0), 50), Some(0.85), "by the slower of both");
        assert_eq!(rise.met(at(30.0), 51), None, "not material");
        assert_eq!(rise.met(at(40.0), 70), None);
        rise.stopped(at(50.0), 70);
        assert_eq!((rise.met(at(60.0), 80), rise.met(at(70.0), 90)), (None, Some(0.85)));
        assert_eq!(rise.met(at(80.0), 40), None, "it fell");
    }

    #[test]
    fn a_body_settles_the_cap_alone_and_beside_others_only_where_it_fell() {
        let mut earlier = 25;
        assert_eq!(Stated::default().read(Told { current: 26, limit: 25 }, &mut earlier), Some(25));

        // 10 of ours among 50: the limit says nothing of our share …
        let (mut earlier, mut stated) = (10, Stated::of(Some(50)));
        assert_eq!(stated.read(Told { current: 51, limit: 50 }, &mut earlier), None);
        // … until it falls.
        assert_eq!(stated.read(Told { current: 51, limit: 45 }, &mut earlier), Some(5));
        assert_eq!((stated.limit(), stated.peak()), (Some(45), 50));

        // What was stated before a restart is where to climb back to.
        assert_eq!(Stated::of(Some(50)).peak(), 50);

        // The server counts less than we do: ours is corrected.
        let mut earlier = 30;
        assert_eq!(Stated::default().read(Told { current: 26, limit: 25 }, &mut earlier), Some(25));
        assert_eq!(earlier, 25);
    }

    #[test]
    fn absurd_bodies_do_no_harm() {
        for (current, limit) in [(0, 0), (u32::MAX, 0), (0, u32::MAX), (u32::MAX, u32::MAX), (1, 1)] {
            for mut earlier in [0, 1, u32::MAX] {
                let _ = Stated::of(Some(u32::MAX)).read(Told { current, limit }, &mut earlier);
            }
        }
    }
}
