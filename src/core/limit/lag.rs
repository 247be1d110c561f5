//! How late a server gives places back.

/// A server, or a gateway before it, may still count a request for some milliseconds after the last byte of its answer.
/// What is sent at once into the place that seems free is refused then, and looks like a fall of the cap. So answered
/// requests stay counted for the time learned here.
///
/// It is none until a refusal follows soon upon another, both inside the window and right after an answer. Then it is
/// the longest that is believed in, and admissions lower it by coarse shares until one is refused; from there it moves
/// slowly, so that one request in some hundreds is refused. If requests are refused although nothing was answered for
/// the longest time, it is no lag: others take the places, or the cap fell.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// Seconds an answered request is still counted.
    hold: f64,
    /// The same before the last refusal raised it on suspicion.
    before: Option<f64>,
    /// Shorter turned out to be too short.
    proved: bool,
    /// It was lowered since a request was last refused.
    lowered: bool,
    /// Requests let in at a full window since it was last lowered or one was refused.
    calm: u32,
    /// The last refusal came soon, and not for being lowered.
    doubted: bool,
    /// How often it was no lag: every time halves what is soon.
    acquitted: u32,
}

/// Why a refusal is blamed on the lag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// It may also be a fall of the cap.
    Suspected,
    /// The time has been found: it came of trying a shorter one for the first time.
    Found,
    /// It came of trying a shorter one again.
    Expected,
}

impl Lag {
    /// The longest time that is believed in, in seconds …
    const LONGEST: f64 = 0.15;
    /// … and in services.
    const SERVICES: f64 = 2.0;
    /// Anything shorter is as good as none, in seconds.
    const SHORTEST: f64 = 0.0005;
    /// Share by which it is moved once it is about right.
    const FINE: f64 = 1.0 / 16.0;
    /// The same where that is still to be found.
    const COARSE: f64 = 1.0 / 4.0;
    /// So many admissions times the window between two refusals are soon, from six to twelve of them. In a small window,
    /// few lag at a time and many are let in between.
    const SOON: u32 = 96;

    /// Seconds an answered request is still counted.
    pub(super) fn hold(&self) -> f64 {
        self.hold
    }

    /// Still to be found, and so long that a window of answered requests looks full: what is let in beyond it says little
    /// of the cap.
    pub(super) fn blurs(&self, service: f64) -> bool {
        !self.proved && self.hold > service / 16.0
    }

    /// A request was let in at a full window of `window`.
    pub(super) fn admitted(&mut self, window: u32) {
        self.calm = self.calm.saturating_add(1);
        let (patience, share) = match (self.proved, self.lowered) {
            (true, _) => (256, Self::FINE),
            (false, true) => ((2 * window).min(16), Self::COARSE),
            (false, false) => ((4 * window).min(64), Self::COARSE),
        };
        if self.hold == 0.0 || self.calm < patience {
            return;
        }
        (self.calm, self.lowered, self.doubted) = (0, true, false);
        self.hold *= 1.0 - share;
        if self.hold < Self::SHORTEST {
            *self = Self { acquitted: self.acquitted + u32::from(!self.proved), ..Self::default() };
        }
    }

    /// Nothing was let in since the cap was met: what had been before was no full window.
    pub(super) fn met_the_cap(&mut self) {
        self.calm = 0;
    }

    /// A request inside the window of `window` was refused, sent `vacated` seconds after the last one that left was no
    /// longer counted; `service` is the time a request runs. Returns whether to blame the lag.
    pub(super) fn refused(&mut self, vacated: Option<f64>, service: f64, window: u32) -> Option<Blame> {
        let soon = (Self::SOON / window.max(1)).clamp(6, 12) >> self.acquitted.min(4);
        let soon = core::mem::take(&mut self.calm) < soon;
        let lowered = core::mem::take(&mut self.lowered);
        let longest = (Self::SERVICES * service).min(Self::LONGEST);
        self.before = None;
        if vacated.is_none_or(|vacated| vacated + self.hold >= longest) {
            if self.hold >= longest {
                self.acquit();
            }
            return None;
        }
        if lowered {
            let proved = core::mem::replace(&mut self.proved, true);
            self.hold /= 1.0 - if proved { Self::FINE } else { Self::COARSE };
            return Some(if proved { Blame::Expected } else { Blame::Found });
        }
        let before = self.hold;
        let again = core::mem::replace(&mut self.doubted, soon);
        if soon && (again || before == 0.0) {
            (self.hold, self.proved, self.doubted) = (longest, false, false);
        } else {
            self.hold /= 1.0 - Self::FINE;
            // If it came soon, rather the window is a slot too large.
            if soon || before == 0.0 {
                return None;
            }
        }
        self.before = Some(before);
        Some(Blame::Suspected)
    }

    /// It was no lag.
    fn acquit(&mut self) {
        *self = Self { acquitted: self.acquitted + 1, ..Self::default() };
    }

    /// The next request was refused as well, after waiting out what was added.
    pub(super) fn refused_again(&mut self) {
        match self.before.take() {
            Some(before) if before > 0.0 => (self.hold, self.proved) = (before, true),
            Some(_) => self.acquit(),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full window of eight: an answer's place is taken after what `lag` says, and free after `free` seconds. Returns how
    /// many of `count` requests are refused.
    fn replace(lag: &mut Lag, free: f64, count: u32) -> u32 {
        let mut refused = 0;
        for _ in 0..count {
            if lag.hold() < free {
                lag.refused(Some(0.0), 1.0, 8);
                refused += 1;
            } else {
                lag.admitted(8);
            }
        }
        refused
    }

    #[test]
    fn the_time_is_found_in_a_few_refusals_and_followed() {
        let mut lag = Lag::default();
        assert!(replace(&mut lag, 0.02, 1000) <= 5);
        for free in [0.02, 0.03, 0.01] {
            let refused = replace(&mut lag, free, 8000);
            assert!((free..1.2 * free).contains(&lag.hold()), "{free}: {}", lag.hold());
            assert!(refused <= 40, "{free}: {refused}");
        }
    }

    #[test]
    fn without_a_lag_it_is_soon_none_again() {
        let mut lag = Lag::default();
        assert_eq!(lag.refused(Some(0.0), 1.0, 8), Some(Blame::Suspected));
        assert_eq!(lag.hold(), Lag::LONGEST);
        assert_eq!((replace(&mut lag, 0.0, 500), lag.hold()), (0, 0.0));
    }

    #[test]
    fn refusals_that_waiting_does_not_help_against_are_none_of_it() {
        let mut lag = Lag::default();
        assert_eq!(lag.refused(Some(0.0), 1.0, 8), Some(Blame::Suspected));
        assert_eq!((lag.refused(Some(0.0), 1.0, 8), lag.hold()), (None, 0.0));
        // And where nothing was answered lately, it is not even suspected.
        assert_eq!((lag.refused(Some(0.2), 1.0, 8), lag.refused(None, 1.0, 8)), (None, None));
        for _ in 0..40 {
            lag.refused(Some(0.0), 1.0, 8);
            replace(&mut lag, 0.0, 8);
        }
        assert_eq!((lag.refused(Some(0.0), 1.0, 8), lag.hold()), (None, 0.0), "a share of others is believed in");
    }
}
