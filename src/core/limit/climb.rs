//! How the window is exceeded on purpose: a paced climb, or one probe at a time.

use crate::core::time::Timestamp;

#[cfg(not(feature = "std"))]
use num_traits::Float as _;

/// What the limit does once the window is full.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mode {
    /// Stays, and now and then sends one probe beyond the window.
    Hold,
    /// Sends beyond the window, evenly spaced.
    Climb(Climb),
}

impl Mode {
    pub(super) fn climb(self) -> Option<Climb> {
        match self {
            Self::Climb(climb) => Some(climb),
            Self::Hold => None,
        }
    }
}

/// A paced climb: a level rises evenly above the window, so far within the time a rejection takes to arrive. That many
/// are too many when the cap is met, however long silence has to last before it means "let in".
#[derive(Clone, Copy, Debug)]
pub(super) struct Climb {
    gain: f64,
    /// Up to here the cap is expected to go.
    pub(super) expected: u32,
    /// It follows a cap that has been rising, at no more than so many slots a second.
    trend: Option<f64>,
    /// The window it began at: the rejection that ends it doesn't throw the window below.
    pub(super) from: u32,
    /// As many may be in flight; what ends is replaced at once.
    pub(super) level: u32,
    /// When it may be passed by one.
    pub(super) next: Timestamp,
}

impl Climb {
    /// Steps that were not taken in time may be made up for, those of this share of the feedback time: timers are
    /// coarse.
    const SLACK: f64 = 0.25;
    /// The stride is no more than this share of the level (and one) …
    const STEEPEST: f64 = 0.4;
    /// … and no less than this share of what was gained, per unit of the gain.
    const SHALLOWEST: f64 = 1.0 / 30.0;
    /// So much faster it rises where the cap is expected to be higher.
    const BOLDNESS: f64 = 3.0;

    pub(super) fn starting_at(now: Timestamp, from: u32, level: u32, gain: f64) -> Self {
        Self { gain, expected: 0, trend: None, from, level, next: now }
    }

    /// The same with bold strides up to `expected`, and careful ones from there.
    pub(super) fn expecting(self, expected: u32) -> Self {
        Self { expected, ..self }
    }

    /// Goes on as a cap has been rising, by `trend` slots a second.
    pub(super) fn following(now: Timestamp, window: u32, trend: f64) -> Self {
        Self {
            gain: 0.0,
            expected: 0,
            trend: Some(trend),
            from: window,
            level: window,
            next: now.plus_secs(1.0 / trend),
        }
    }

    pub(super) fn follows(&self) -> bool {
        self.trend.is_some()
    }

    /// How far it rises within a feedback time: by one at first, growing with the root of what has been gained since.
    fn stride(&self) -> f64 {
        let (base, boldness) =
            if self.level < self.expected { (self.from, Self::BOLDNESS) } else { (self.from.max(self.expected), 1.0) };
        // So a window grows with the square of the time, and the overshoot with the root of the window. Thousands of slots
        // would take too long that way, and of a handful the root is most.
        let gained = self.gain * f64::from(self.level.saturating_sub(base));
        let most = 1.0 + Self::STEEPEST * f64::from(self.level);
        boldness * (1.0 + 2.0 * gained).sqrt().max(gained * Self::SHALLOWEST).min(most)
    }

    /// As many are in flight now, where a rejection takes `feedback` seconds.
    pub(super) fn reached(&mut self, now: Timestamp, in_flight: u32, feedback: f64) {
        if in_flight > self.level {
            self.level = in_flight;
            let gap = self.trend.map_or(feedback / self.stride(), |trend| 1.0 / trend);
            let late = now.secs_since(self.next).min(Self::SLACK * (feedback - gap).max(0.0));
            self.next = now.plus_secs((gap - late).max(0.0));
        }
    }
}

/// How far a climb may go as long as no rejection has shown how late they come: some way blindly, beyond that not too far
/// ahead of what is known to have been let in, or has been out there for long.
#[derive(Debug)]
pub(super) struct Outlook {
    /// When the window was last noted, and what it was then and every half second before.
    noted: (Timestamp, [u32; 5]),
}

impl Outlook {
    /// A climb goes up to here on silence alone …
    const BLIND: u32 = 300;
    /// … and from there to so many times the window it had [`Self::LATE`] seconds ago: a rejection that is so late is
    /// believed in no more.
    const AHEAD: u32 = 5;
    const LATE: f64 = 2.0;

    pub(super) fn starting_at(now: Timestamp) -> Self {
        Self { noted: (now, [0; 5]) }
    }

    /// The window is `window` now.
    pub(super) fn observe(&mut self, now: Timestamp, window: u32) {
        if now.secs_since(self.noted.0) >= Self::LATE / 4.0 {
            let [first, second, third, fourth, _] = self.noted.1;
            self.noted = (now, [window, first, second, third, fourth]);
        }
    }

    /// How far it reaches, where `answered` are known to have been let in; not so far if nothing has shown yet how far
    /// away the server is.
    pub(super) fn reaches(&self, answered: u32, knows_the_way: bool) -> u32 {
        let blind = if knows_the_way { Self::BLIND } else { Self::BLIND / 4 };
        (2 * answered).max(Self::AHEAD * self.noted.1[4]).max(blind)
    }
}

/// How far to step back from `measured` after the `streak`-th rejection in a row below the window.
///
/// The first says where the cap was when it fell; if the next is rejected as well the cap is somewhere below, and the
/// steps treble (from the root of the level, never past a quarter of it), so that a deep fall is found in a handful of
/// requests and a shallow one not overshot.
pub(super) fn retreat(streak: u32, measured: u32, ascent: f64) -> u32 {
    if streak < 2 {
        return 0;
    }
    let level = f64::from(measured);
    let gallop = 3f64.powi(streak.saturating_sub(2).min(30) as i32) * (level.sqrt() / ascent).max(1.0);
    gallop.min((level / 4.0).max(1.0)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retreats_treble_but_never_pass_a_quarter_of_the_level() {
        let steps: Vec<u32> = (0..8).map(|streak| retreat(streak, 64, 8.0)).collect();
        assert_eq!(steps, [0, 0, 1, 3, 9, 16, 16, 16]);
        assert_eq!(retreat(u32::MAX, u32::MAX, 8.0), u32::MAX / 4);
        assert_eq!(retreat(5, 0, 8.0), 1);
    }
}
