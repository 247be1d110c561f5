//! Refusals that have nothing to do with how many requests are in flight.

use super::flights::{Flights, Seq};

/// Tells refusals at random from those of a cap.
///
/// A gateway before many servers, or one that sheds a share of everybody's load, refuses a few of a hundred requests
/// whatever is in flight. Were each taken for a measurement, the window would shrink to nothing: every refusal takes a
/// slot or more, and a climb gets no further than to the next one.
///
/// Where the cap is one of several clients, each climb of theirs shrinks the window as well; but then a climb of ours soon
/// meets the cap, while chance refuses no more above the window than inside.
///
/// What tells them apart for sure is the next request, sent at once into the same place: chance refuses it no oftener than
/// any, a full account does. So after some falls that are over at once, the next refusals are answered that way, until their
/// outcomes decide (a sequential test after Wald). If they speak for chance, only so many refusals in a row count from
/// then on as chance hardly explains. If they don't, the next suspicion takes eight times as many falls.
#[derive(Debug, Default)]
pub(super) struct Noise {
    belief: Belief,
    /// The share of the last requests inside the window that were refused, and of how many.
    share: f64,
    seen: u32,
    /// The same when the suspicion was confirmed.
    expected: f64,
    /// The share of the last requests beyond the window that were refused, since the cap was last found.
    above: f64,
    /// Requests inside the window that were let in since one was refused.
    quiet: u32,
    /// The highest window since the cap was last found, and the falls since.
    peak: u32,
    falls: u32,
    /// How often the suspicion was wrong.
    refuted: u32,
    run: Option<Run>,
    /// How many times likelier the outcomes of trying again at once are on a full account than by chance.
    doubt: f64,
    /// As low as it gets.
    least_doubt: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Belief {
    /// Every refusal counts.
    #[default]
    None,
    /// Places are tried again.
    Suspected,
    Held,
}

/// Refusals with none let in between that was sent as high.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: Seq,
    rank: u32,
    /// The first was sent beyond the window, where a cap is to be met.
    beyond: bool,
    length: u32,
}

impl Noise {
    /// Half as many falls as the window has slots raise the first suspicion, where so large a share is refused …
    const MANY: f64 = 0.03;
    /// … and has shrunk the window to this share.
    const SHRUNK: f64 = 0.5;
    /// Where the share refused of about the last so many beyond the window …
    const ABOVE: f64 = 16.0;
    /// … is so much larger than that inside, it is a cap that is met: what the window lost, other clients have taken.
    const CAPPED: f64 = 0.1;
    /// A streak of so many refusals is no chance.
    const STREAK: u32 = 4;
    /// The share is that of about so many requests.
    const MEMORY: u32 = 100;
    /// On a full account, a place tried again refuses so much oftener than by chance.
    const EXCESS: f64 = 0.25;
    /// Doubt below which the suspicion is confirmed, and above which it is refuted: one in seven and one in ten are wrong.
    const CONFIRMED: f64 = 1.0 / 7.0;
    const REFUTED: f64 = 10.0;
    /// So sure of it at most, for chance may end; surer where refusals come fast, of which some run to anything.
    const LEAST_DOUBT: f64 = 1.0 / 55.0;
    /// So long, in seconds, it may take on average until chance looks like a fall of the cap …
    const SELDOM: f64 = 100.0;
    /// … and until it looks like a full account.
    const LONG: f64 = 300.0;
    /// And so many refusals in a row are no chance at any rate.
    const LONGEST: u32 = 12;
    /// So many let in, and as many as are in flight, without a refusal between them: it is over.
    const QUIET: u32 = 400;

    /// A request was let in for the first time; it had been sent as the `rank`-th in flight, inside the window or
    /// `beyond` it. True if refusals at random are believed in from now on.
    pub(super) fn admitted(&mut self, seq: Seq, rank: u32, beyond: bool) -> bool {
        self.count(0.0, beyond);
        if let Some(run) = self.run.take_if(|run| seq > run.first && rank >= run.rank) {
            self.tried_again(run, false);
        }
        match self.belief {
            Belief::Suspected if self.doubt < Self::CONFIRMED => {
                (self.belief, self.expected, self.doubt) = (Belief::Held, self.share, self.least_doubt);
                return true;
            }
            // Refusals are heard of sooner than what was let in before them.
            Belief::Held if self.quiet > Self::QUIET + 2 * self.peak => {
                *self = Self { refuted: self.refuted, ..Self::default() };
            }
            _ => {}
        }
        false
    }

    /// A request inside the window, or `beyond` it, was refused.
    pub(super) fn refused(&mut self, beyond: bool) {
        self.count(1.0, beyond);
    }

    /// Whether it says nothing of the cap that `seq`, sent as the `rank`-th in flight, was refused, where about `rate`
    /// requests are sent a second.
    pub(super) fn ignores(&mut self, seq: Seq, rank: u32, beyond: bool, rate: f64, flights: &Flights) -> bool {
        if self.belief == Belief::None || (self.belief == Belief::Suspected && beyond) {
            return false;
        }
        self.least_doubt = (Self::REFUTED / (self.chance() * rate * Self::LONG)).min(Self::LEAST_DOUBT);
        let run = match self.run {
            // Far below it, it is no trial of the same place.
            Some(run) if rank < run.rank - run.rank / 8 => Run { first: seq, rank, beyond, length: 1 },
            Some(run) if !flights.holds_between(run.first, seq, run.rank) => {
                self.tried_again(run, true);
                Run { rank: run.rank.min(rank), length: run.length + 1, ..run }
            }
            over => {
                if let Some(run) = over {
                    self.tried_again(run, false);
                }
                Run { first: seq, rank, beyond, length: 1 }
            }
        };
        if self.doubt > Self::REFUTED {
            let refuted = (self.refuted + 3).min(8);
            *self = Self { share: self.share, seen: self.seen, above: self.above, refuted, ..Self::default() };
            return false;
        }
        let random = run.length < self.longest_by_chance(rate);
        self.run = Some(run).filter(|_| random);
        random
    }

    /// The window fell to `window`, with the `streak`-th refusal in a row.
    pub(super) fn fell(&mut self, window: u32, streak: u32) {
        if streak >= Self::STREAK {
            self.found(window);
        } else if streak == 1 && self.belief == Belief::None {
            self.falls += 1;
            if self.falls >> self.refuted >= (window / 2).max(1)
                && self.share > Self::MANY
                && self.above < self.chance() + Self::CAPPED
                && f64::from(window) <= (Self::SHRUNK * f64::from(self.peak)).max(1.0)
            {
                // The deeper it sank by single falls, the likelier.
                let sunk = f64::from(window) / (Self::SHRUNK * f64::from(self.peak.max(2)));
                (self.belief, self.doubt, self.run) = (Belief::Suspected, sunk, None);
            }
        }
    }

    /// The cap was found at `window`: by a probe, or by refusals in a row.
    pub(super) fn found(&mut self, window: u32) {
        (self.peak, self.falls, self.above) = (window, 0, 0.0);
    }

    /// The window rose to `window`.
    pub(super) fn rose(&mut self, window: u32) {
        self.peak = self.peak.max(window);
    }

    /// Whether refusals at random are believed in.
    pub(super) fn is_believed(&self) -> bool {
        self.belief == Belief::Held
    }

    /// The share of requests that chance is thought to refuse.
    fn chance(&self) -> f64 {
        self.share.max(self.expected).clamp(0.01, 0.5)
    }

    fn count(&mut self, refused: f64, beyond: bool) {
        if beyond {
            self.above += (refused - self.above) / Self::ABOVE;
            return;
        }
        self.quiet = if refused > 0.0 { 0 } else { self.quiet.saturating_add(1) };
        self.seen = (self.seen + 1).min(Self::MEMORY);
        self.share += (refused - self.share) / f64::from(self.seen);
    }

    /// The next request sent as high after a refusal was refused as well, or let in.
    fn tried_again(&mut self, run: Run, refused: bool) {
        // Beyond the window a cap is to be met, which says nothing of those inside.
        if run.beyond {
            return;
        }
        let chance = self.chance();
        let ratio =
            if refused { (chance + Self::EXCESS) / chance } else { (1.0 - chance - Self::EXCESS) / (1.0 - chance) };
        self.doubt = (self.doubt * ratio).max(self.least_doubt);
    }

    /// Refusals in a row that chance explains no more, of `rate` requests a second.
    fn longest_by_chance(&self, rate: f64) -> u32 {
        let share = self.chance();
        let (mut length, mut each) = (2, share * share * rate * Self::SELDOM);
        while self.belief == Belief::Held && each > 1.0 && length < Self::LONGEST {
            length += 1;
            each *= share;
        }
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Timestamp;

    /// A full window of ten in which each request is answered before the next is sent, and refused where `refuse` says
    /// so, which is told whether it takes the place of one just refused. Returns the refusals that counted.
    fn play(noise: &mut Noise, count: u32, refuse: impl FnMut(bool) -> bool) -> u32 {
        play_at(noise, 10.0, count, refuse)
    }

    /// The same at `rate` requests a second.
    fn play_at(noise: &mut Noise, rate: f64, count: u32, mut refuse: impl FnMut(bool) -> bool) -> u32 {
        let mut flights = Flights::new();
        for _ in 0..9 {
            flights.push(Timestamp::ZERO, false);
        }
        let (mut counted, mut again) = (0, false);
        for _ in 0..count {
            let seq = flights.push(Timestamp::ZERO, false);
            flights.remove(seq);
            let refused = refuse(again);
            again = false;
            if !refused {
                noise.admitted(seq, 10, false);
                continue;
            }
            noise.refused(false);
            if noise.ignores(seq, 10, false, rate, &flights) {
                again = true;
            } else {
                counted += 1;
                noise.fell(1, 1);
            }
        }
        counted
    }

    fn shrunk() -> Noise {
        let mut noise = Noise::default();
        noise.rose(10);
        noise
    }

    #[test]
    fn refusals_by_chance_are_soon_ignored() {
        for (share, most) in [(0.05, 12), (0.1, 14), (0.3, 40)] {
            let mut rng = fastrand::Rng::with_seed(7);
            let mut noise = shrunk();
            let counted = play(&mut noise, 4000, |_| rng.f64() < share);
            assert!(noise.is_believed() && counted <= most, "{share}: {counted}");
            play(&mut noise, 1000, |_| false);
            assert!(!noise.is_believed(), "{share}: long over, and still believed in");
        }
    }

    #[test]
    fn however_fast_they_come_chance_stays_chance() {
        let lost = (0..50).filter(|&seed| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut noise = shrunk();
            play_at(&mut noise, 1000.0, 4000, |_| rng.f64() < 0.3);
            let refuted = noise.refuted;
            play_at(&mut noise, 1000.0, 60_000, |_| rng.f64() < 0.3);
            noise.refuted > refuted
        });
        assert!(lost.clone().count() <= 5, "in a minute each, {} of 50", lost.count());
    }

    #[test]
    fn a_full_account_is_no_chance() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut noise = shrunk();
        // A place is taken by others now and then; who tries it again at once mostly finds it so.
        let mut tried = 0;
        let counted = play(&mut noise, 4000, |again| {
            tried += u32::from(again);
            rng.f64() < if again { 0.7 } else { 0.05 }
        });
        assert!(!noise.is_believed() && tried < counted / 3, "{tried} tried again, {counted} counted");
    }

    #[test]
    fn where_climbs_meet_a_cap_others_have_the_rest_of_it() {
        let suspects = |met: u32| {
            let (mut noise, flights) = (shrunk(), Flights::new());
            for number in 0..32 {
                if number % 4 < met {
                    noise.refused(true);
                } else {
                    noise.admitted(flights.next_seq(), 11, true);
                }
            }
            let mut rng = fastrand::Rng::with_seed(7);
            play(&mut noise, 4000, |_| rng.f64() < 0.05);
            noise.belief != Belief::None
        };
        assert!(suspects(0) && !suspects(1));
    }

    #[test]
    fn a_fall_in_the_midst_of_chance_is_seen_at_once() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut noise = shrunk();
        play(&mut noise, 1000, |_| rng.f64() < 0.1);
        assert!(noise.is_believed() && play(&mut noise, 4, |_| true) >= 1);
    }

    #[test]
    fn a_window_that_has_hardly_shrunk_is_not_suspected() {
        let mut noise = shrunk();
        noise.rose(11);
        for _ in 0..100 {
            noise.fell(9, 1);
        }
        assert_eq!(noise.belief, Belief::None);
    }
}
