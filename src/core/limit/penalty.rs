//! What a rejection costs beyond itself: some providers cut an account's cap after an excess.

use serde::{Deserialize, Serialize};

use crate::core::time::Timestamp;

/// The belief in punishment that outlives a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Punishment {
    /// How surely an excess is punished here, 0 to 1.
    pub belief: f64,
    /// Trespasses in a row that went unpunished (at most 3).
    pub unpunished: u8,
    /// What the last penalty cost, in requests.
    pub lost: f64,
    /// What share of its level the last penalty left, if there was one.
    #[serde(default)]
    pub kept: Option<f64>,
    /// How long the next penalty is waited out before the first try to come back, in seconds.
    pub wait: f64,
}

impl Punishment {
    /// The first guess of a penalty's length, in seconds; doubled at most [`Self::DOUBLINGS`] times.
    pub(super) const WAIT: f64 = 10.0;
    const DOUBLINGS: f64 = 8.0;

    /// Notes whether an excess of ours was punished. A first answer settles the belief; later ones move it, and an
    /// unpunished one halves it: a price that faded slowly would suppress the very probes that refute it.
    fn trespassed(&mut self, punished: bool) {
        if punished {
            self.belief += (1.0 - self.belief) / f64::from(self.unpunished + 1);
            self.unpunished = 0;
        } else {
            self.unpunished = (self.unpunished + 1).min(3);
            self.belief /= 2.0;
        }
    }

    pub(super) fn is_valid(self) -> bool {
        (0.0..=1.0).contains(&self.belief)
            && self.unpunished <= 3
            && (0.0..=1e9).contains(&self.lost)
            && self.kept.is_none_or(|kept| (0.0..=1.0).contains(&kept))
            && (Self::WAIT..=Self::WAIT * Self::DOUBLINGS).contains(&self.wait)
    }
}

/// A penalty being served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Penalty {
    /// The window before the trespass: the cap is expected back there.
    pub(super) level: u32,
    /// The lowest level met.
    low: u32,
    since: Timestamp,
    pub(super) until: Timestamp,
    /// Tries to come back that failed.
    tries: u32,
}

/// What becomes of a rejection during a penalty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Still punished: wait it out anew.
    Serving,
    /// It was over, and our try to come back was a new trespass, at a cap that had fallen meanwhile.
    Renewed,
    /// Too many tries failed: it was no penalty, the cap really fell.
    Refuted,
}

/// Suspects, believes in and serves penalties.
#[derive(Debug)]
pub(super) struct Penalties {
    pub(super) learned: Punishment,
    /// The window at our last trespass, while nothing has been let in since.
    suspect: Option<u32>,
    pub(super) serving: Option<Penalty>,
}

impl Penalties {
    /// A fall below this share of the level, right after a trespass, is suspected to be a punishment.
    const DEPTH: f64 = 0.6;
    /// The same for where the retreat ended: it says more than a rejection on the way.
    const SETTLED_DEPTH: f64 = 0.65;
    /// So many slots must be missing: among a handful, one or two come and go.
    const LEAST_CUT: u32 = 4;
    /// Belief from which a suspected punishment is taken for one.
    const TRUST: f64 = 0.6;

    pub(super) fn new() -> Self {
        let learned = Punishment { belief: 0.0, unpunished: 0, lost: 0.0, kept: None, wait: Punishment::WAIT };
        Self { learned, suspect: None, serving: None }
    }

    /// The price of a rejection, in requests, where an unpunished one costs `base`.
    pub(super) fn price(&self, base: f64) -> f64 {
        base + self.learned.belief * self.learned.lost
    }

    /// Punishment is more likely than not.
    pub(super) fn is_likely(&self) -> bool {
        self.learned.belief > 0.5
    }

    pub(super) fn suspect(&self) -> Option<u32> {
        self.suspect
    }

    /// We went too far at `level`; what follows at once may be the punishment.
    pub(super) fn suspect_at(&mut self, level: u32) {
        self.suspect = Some(level.max(1));
    }

    /// The level of the suspected trespass was measured anew.
    pub(super) fn correct_suspect(&mut self, correct: impl FnOnce(u32) -> u32) {
        self.suspect = self.suspect.map(|level| correct(level).max(1));
    }

    /// A request sent after the trespass was let in, at `level`: no punishment came of it, unless the retreat had to go
    /// deep until then (it goes in leaps, so that no rejection need have measured the depth).
    pub(super) fn admitted(&mut self, now: Timestamp, level: u32) {
        if self.serving.is_none() {
            self.judge_below(Self::SETTLED_DEPTH, now, level);
        }
        if self.suspect.take().is_some() && self.serving.is_none() {
            self.learned.trespassed(false);
        }
    }

    /// Outside a penalty, a rejection measured `m`: begins one if it came right after a trespass, deep below its
    /// level, and is believed. The first coincidence of a fall with a probe is not, once probes have gone unpunished.
    pub(super) fn judge(&mut self, now: Timestamp, measured: u32) {
        self.judge_below(Self::DEPTH, now, measured);
    }

    fn judge_below(&mut self, depth: f64, now: Timestamp, measured: u32) {
        let Some(level) = self.suspect else { return };
        if f64::from(measured) > depth * f64::from(level) || level.saturating_sub(measured) < Self::LEAST_CUT {
            return;
        }
        self.learned.trespassed(true);
        if self.learned.belief >= Self::TRUST {
            let until = now.plus_secs(self.learned.wait);
            self.serving = Some(Penalty { level, low: measured, since: now, until, tries: 0 });
        } else {
            self.suspect = None;
        }
    }

    /// During a penalty, a rejection measured `m`; `planned` if it was our try to come back.
    pub(super) fn rejected(&mut self, now: Timestamp, measured: u32, planned: bool) -> Verdict {
        // Until a cap once came back, that it was punished is a guess.
        let patience = match self.learned.kept {
            Some(_) if self.is_likely() => 3,
            Some(_) => 1,
            None => 2,
        };
        let Some(penalty) = &mut self.serving else { return Verdict::Refuted };
        let renewed = planned && f64::from(measured) > Self::DEPTH * f64::from(penalty.level);
        if renewed {
            penalty.level = measured;
        } else if planned {
            penalty.tries += 1;
            self.learned.wait = (self.learned.wait * 2.0).min(Punishment::WAIT * Punishment::DOUBLINGS);
        }
        penalty.until = now.plus_secs(self.learned.wait);
        penalty.low = penalty.low.min(measured);
        if penalty.tries > patience {
            self.serving = None;
            self.learned.wait = Punishment::WAIT;
            self.learned.trespassed(false);
            if self.learned.kept.is_none() {
                self.learned.belief = 0.0;
            }
            return Verdict::Refuted;
        }
        if renewed { Verdict::Renewed } else { Verdict::Serving }
    }

    /// How far to go down after a rejection that measured `m`, where there may be punishment; `None`: no further than
    /// usual. Where an excess renews a penalty, feeling one's way down prolongs it with every step.
    pub(super) fn refuge(&self, measured: u32) -> Option<u32> {
        if let Some(penalty) = self.serving {
            let kept = self.learned.kept.map_or(f64::from(measured) / 2.0, |kept| kept * f64::from(penalty.level));
            return Some(kept as u32);
        }
        // Deep enough for the next answer to tell a penalty from a fall.
        self.suspect.filter(|_| self.is_likely()).map(|level| (Self::DEPTH * f64::from(level)) as u32)
    }

    /// How deep to go at once after the first trespass ever, to tell a penalty from a fall.
    pub(super) fn depth_to_tell(&self) -> Option<u32> {
        let first = self.learned.belief == 0.0 && self.learned.unpunished == 0;
        self.suspect.filter(|_| first).map(|level| (Self::DEPTH * f64::from(level)) as u32)
    }

    /// The window was found at `low` while serving.
    pub(super) fn lowered(&mut self, low: u32) {
        if let Some(penalty) = &mut self.serving {
            penalty.low = low;
        }
    }

    /// The cap is back at the penalty's level: what it cost is the price of the next. Returns the level.
    pub(super) fn served(&mut self, now: Timestamp, service: f64) -> Option<u32> {
        let penalty = self.serving.take()?;
        let slots = f64::from(penalty.level.saturating_sub(penalty.low));
        self.learned.kept = Some((f64::from(penalty.low) / f64::from(penalty.level.max(1))).min(1.0));
        self.learned.lost = (slots * now.secs_since(penalty.since) / service.max(1e-3)).min(1e9);
        Some(penalty.level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: f64) -> Timestamp {
        Timestamp::from_secs_f64(secs)
    }

    #[test]
    fn the_first_punishment_ever_is_believed_at_once() {
        let mut penalties = Penalties::new();
        penalties.suspect_at(64);
        penalties.judge(at(1.0), 16);
        assert_eq!(penalties.serving.map(|p| (p.level, p.until)), Some((64, at(11.0))));
    }

    #[test]
    fn after_unpunished_trespasses_one_coincidence_is_not_believed_but_two_running_are() {
        let mut penalties = Penalties::new();
        for _ in 0..3 {
            penalties.suspect_at(64);
            penalties.admitted(at(0.5), 64);
        }
        penalties.suspect_at(64);
        penalties.judge(at(1.0), 16);
        assert!(penalties.serving.is_none() && penalties.suspect().is_none());
        penalties.suspect_at(64);
        penalties.judge(at(2.0), 16);
        assert!(penalties.serving.is_some());
    }

    #[test]
    fn the_price_of_a_rejection_is_what_a_penalty_cost_and_halves_when_unpunished() {
        let mut penalties = Penalties::new();
        penalties.suspect_at(64);
        penalties.judge(at(0.0), 16);
        assert_eq!(penalties.served(at(20.0), 10.0), Some(64));
        assert!((penalties.price(4.0) - (4.0 + 96.0)).abs() < 1e-9);
        penalties.suspect_at(64);
        penalties.admitted(at(0.5), 64);
        assert!((penalties.price(4.0) - (4.0 + 48.0)).abs() < 1e-9);
    }

    #[test]
    fn a_try_that_gets_near_the_level_is_a_new_trespass_at_a_lower_cap() {
        let mut penalties = Penalties::new();
        penalties.suspect_at(64);
        penalties.judge(at(0.0), 16);
        assert_eq!(penalties.rejected(at(10.0), 60, true), Verdict::Renewed);
        assert_eq!(penalties.serving.map(|p| (p.level, p.until)), Some((60, at(20.0))));
        assert_eq!(penalties.served(at(24.0), 10.0), Some(60));
        assert_eq!(penalties.learned.kept, Some(16.0 / 60.0));
    }

    #[test]
    fn a_penalty_that_never_ends_is_a_fall() {
        let mut penalties = Penalties::new();
        penalties.suspect_at(64);
        penalties.judge(at(0.0), 16);
        let mut now = 0.0;
        let mut tries = 0;
        loop {
            now = penalties.serving.map_or(now, |p| p.until.as_secs_f64());
            tries += 1;
            if penalties.rejected(at(now), 16, true) == Verdict::Refuted {
                break;
            }
        }
        assert_eq!((tries, penalties.learned.belief), (3, 0.0));
        assert!(penalties.serving.is_none());
        assert_eq!(penalties.learned.wait, Punishment::WAIT);
    }
}
