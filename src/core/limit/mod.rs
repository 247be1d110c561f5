//! The adaptive concurrency limit: how many requests may be in flight when nobody says what the cap is, and it moves.
//!
//! Latency says nothing of a hard cap: a request takes 1–20 s whether ten or a thousand run beside it, and one too
//! many is refused at once with a 429. So this limit is not driven by latency, and neither does it halve on every
//! rejection. **A rejection is a measurement**: at that instant, those of our requests that were sent earlier and are
//! still admitted equal the cap, or our share of it. The window is set to that. Below the window growth is clocked by
//! admissions; above it, learning is planned and budgeted.
//!
//! What is decided, by what happens:
//!
//! * `admission`: whether one more may be sent;
//! * `confirmation`: one was let in;
//! * `rejection`: one was refused.
//!
//! What is known, and by what:
//!
//! * `flights`: the requests in flight, with order statistics;
//! * `measurement`: how long silence must last to mean "let in", how fast the cap moves, what bodies say;
//! * `climb`: beyond the window at an even pace, so fast that few are under way in the time a rejection takes; or as fast
//!   as the cap has been rising; and the galloping retreat when the cap fell;
//! * `probe`: one request beyond a held window, now and then;
//! * `penalty`: what a rejection costs beyond itself, for some providers cut the cap after an excess;
//! * `noise`: refusals at random, which measure nothing;
//! * `lag`: a server that gives places back late refuses what is sent into them at once;
//! * `outage`: 503s, which pause and half-open without touching the window.

mod admission;
mod climb;
mod confirmation;
mod flights;
mod lag;
mod measurement;
mod noise;
mod outage;
mod params;
mod penalty;
mod probe;
mod rejection;
mod view;

use core::time::Duration;

use self::climb::{Climb, Mode, Outlook};
use self::flights::{Flight, Flights};
use self::lag::Lag;
use self::measurement::{Delays, Motion, Proved, Rise, Stated};
use self::noise::Noise;
use self::outage::Outage;
use self::penalty::Penalties;
use self::probe::{Probe, jitter};
use crate::core::time::Timestamp;

pub use self::admission::Admission;
pub use self::flights::Seq;
pub use self::measurement::Delay;
pub use self::params::Params;
pub use self::penalty::Punishment;
pub use self::view::{Learned, State, View};

/// How the server showed that it let a request in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The head of a successful answer.
    Headers,
    /// A byte of its body: content, a comment or a blank line.
    Content,
}

/// The adaptive concurrency limit of one lane.
///
/// The contract: ask [`admission`](Self::admission); after a yes, send and say so with [`on_send`](Self::on_send);
/// report what is seen of the request; end each number exactly once, by [`on_done`](Self::on_done),
/// [`on_failed`](Self::on_failed), [`on_cancelled`](Self::on_cancelled),
/// [`on_slot_rejected`](Self::on_slot_rejected) or [`on_unavailable`](Self::on_unavailable). Whatever is said of a
/// number that was never given out or has ended is ignored. Time that runs backwards counts as standing still. Every
/// operation costs O(log n) in the requests in flight. The window is always within 1 and [`Params::max`].
#[derive(Debug)]
pub struct Ceiling {
    params: Params,
    max: u32,
    clock: Timestamp,
    window: u32,
    mode: Mode,
    /// The cap as last measured.
    measured: Option<u32>,
    /// The highest level this climb has reached for sure, and by which request.
    proved: (u32, Option<Seq>),
    outlook: Outlook,
    flights: Flights,
    /// Requests sent before this one belong to an episode already judged.
    epoch: Seq,
    /// Rejections in a row below the window.
    streak: u32,
    /// While `streak > 0`: the one request out to see if the retreat is deep enough.
    canary: Option<Seq>,
    probe: Probe,
    /// The request whose rejection measured the last burst: the rest of the burst corrects it.
    burst_at: Option<(Seq, Timestamp)>,
    /// The climb stops here.
    bound: Option<u32>,
    stated: Stated,
    delays: Delays,
    motion: Motion,
    rise: Rise,
    lately: Proved,
    lag: Lag,
    noise: Noise,
    service: Option<f64>,
    penalties: Penalties,
    outage: Outage,
    pause: Timestamp,
    rejections: u64,
    outages: u64,
}

impl Ceiling {
    /// Assumed time a request runs until one completed, in seconds.
    const SERVICE: f64 = 10.0;
    /// A Retry-After of a single rejection pauses everything for no longer than this, in seconds.
    const LONGEST_PAUSE: f64 = 60.0;
    /// Rejections that take longer than this, in seconds, make climbs stride out.
    const SHORT_FEEDBACK: f64 = 0.1;

    /// A limit that knows nothing but `params`.
    pub fn new(now: Timestamp, params: Params) -> Self {
        let params = params.sane();
        let max = params.ceiling();
        let flights = Flights::new();
        let window = params.initial.clamp(1, max);
        let climb = Climb::starting_at(now, 0, window, params.first_gain).expecting(params.hint.unwrap_or(0));
        Self {
            max,
            clock: now,
            window,
            mode: Mode::Climb(climb),
            measured: None,
            proved: (0, None),
            outlook: Outlook::starting_at(now),
            epoch: flights.next_seq(),
            flights,
            streak: 0,
            canary: None,
            probe: Probe::starting_at(now),
            burst_at: None,
            bound: None,
            stated: Stated::default(),
            delays: Delays::default(),
            motion: Motion::starting_at(now, params.memory.as_secs_f64(), 0.0),
            rise: Rise::default(),
            lately: Proved::default(),
            lag: Lag::default(),
            noise: Noise::default(),
            service: None,
            penalties: Penalties::new(),
            outage: Outage::default(),
            pause: now,
            rejections: 0,
            outages: 0,
            params,
        }
    }

    /// A request was sent; returns its number.
    pub fn on_send(&mut self, now: Timestamp) -> Seq {
        let now = self.tick(now);
        let beyond = self.flights.len() >= self.window;
        let seq = self.flights.push(now, beyond);
        if self.streak > 0 {
            self.canary.get_or_insert(seq);
        } else if beyond {
            match &mut self.mode {
                Mode::Climb(climb) => {
                    climb.reached(now, self.flights.len(), self.delays.feedback());
                }
                Mode::Hold => {
                    self.probe.sent(now, seq);
                }
            }
        }
        seq
    }

    /// The server let `seq` in. May be said more than once.
    pub fn on_admitted(&mut self, now: Timestamp, seq: Seq, evidence: Evidence) {
        let now = self.tick(now);
        self.flights.heard(seq, (evidence == Evidence::Headers).then_some(now));
        self.confirm(seq, true);
    }

    /// `seq` ended with a 503 or its kin: the service is busy for everybody. Pauses and half-opens; the window stays.
    /// A `retry_after` lengthens the pause, to at most a minute.
    pub fn on_unavailable(&mut self, now: Timestamp, seq: Seq, retry_after: Option<Duration>, rng: &mut fastrand::Rng) {
        let now = self.tick(now);
        let Some(flight) = self.take(seq) else { return };
        self.outages += 1;
        self.outage.observe(now.secs_since(flight.sent));
        if let Some(wait) = retry_after {
            self.pause_for(now, wait.as_secs_f64().min(Self::LONGEST_PAUSE));
        }
        if seq < self.epoch {
            return;
        }
        self.epoch = self.flights.next_seq();
        self.lately = Proved::default();
        let pause = self.outage.struck(now, self.epoch);
        self.pause_for(now, pause * jitter(rng));
    }

    /// `seq` completed.
    pub fn on_done(&mut self, now: Timestamp, seq: Seq) {
        let now = self.tick(now);
        self.confirm(seq, true);
        let Some(flight) = self.flights.complete(now, seq) else { return };
        self.settle_roles(seq);
        let total = now.secs_since(flight.sent);
        let service = self.service.get_or_insert(total);
        *service += 0.05 * (total - *service);
        self.delays.completed(flight.headers.map(|at| at.secs_since(flight.sent)), total);
    }

    /// `seq` failed in a way that says nothing of the cap: a transport error, a 500, another 4xx.
    pub fn on_failed(&mut self, now: Timestamp, seq: Seq) {
        self.tick(now);
        self.take(seq);
    }

    /// `seq` was given up here. It stays counted for [`Params::linger`].
    pub fn on_cancelled(&mut self, now: Timestamp, seq: Seq) {
        let now = self.tick(now);
        if self.flights.linger(seq, now + self.params.linger) {
            self.settle_roles(seq);
        }
    }

    /// Lets time pass: silence becomes admission, lingering ends. [`admission`](Self::admission) does it too.
    pub fn advance(&mut self, now: Timestamp) {
        self.settle_timers(now);
    }

    /// Until when nothing at all is sent, if later than the last event.
    pub fn pause_until(&self) -> Option<Timestamp> {
        (self.pause > self.clock).then_some(self.pause)
    }

    /// Changes the hard ceiling (see [`Params::max`]). Requests already in flight above a lowered one are left alone;
    /// a window that a raised one had held down climbs.
    pub fn set_max(&mut self, max: Option<u32>) {
        self.params.max = max;
        let before = core::mem::replace(&mut self.max, self.params.ceiling());
        self.set_window(self.window);
        if self.max > before && self.window == before && self.penalties.serving.is_none() {
            self.climb_from_here(self.usual_gain());
        }
    }

    /// Requests that may be in flight outside planned learning.
    pub fn window(&self) -> u32 {
        self.window
    }

    /// Requests in flight, lingering ones among them.
    pub fn in_flight(&self) -> u32 {
        self.flights.len()
    }

    /// Whether `seq`, still in flight, was sent beyond the window of then: on purpose, to learn.
    pub fn is_beyond(&self, seq: Seq) -> bool {
        self.flights.get(seq).is_some_and(|flight| flight.beyond)
    }

    /// Whether a full window would now be used to learn: it is climbing, or a probe is due.
    pub fn is_learning(&self, now: Timestamp) -> bool {
        matches!(self.mode, Mode::Climb(_)) || self.learning_due(now).is_some_and(|due| due <= now)
    }

    fn tick(&mut self, now: Timestamp) -> Timestamp {
        self.clock = self.clock.max(now);
        self.clock
    }

    /// The cap was found where it had been.
    fn rested(&mut self) {
        self.motion.rested();
        self.noise.found(self.window);
    }

    fn climb_from_here(&mut self, gain: f64) {
        self.proved = (0, None);
        self.mode = Mode::Climb(Climb::starting_at(self.clock, self.window, self.window, gain));
    }

    /// A climb's gain: as long as no rejection was ever met, it is still the first.
    fn usual_gain(&self) -> f64 {
        // The longer a rejection takes, the longer every step: then longer strides are worth their overshoot.
        let gain = self.params.gain * (self.delays.feedback() / Self::SHORT_FEEDBACK).max(1.0);
        if self.rejections > 0 { gain.min(self.params.first_gain) } else { self.params.first_gain }
    }

    /// Takes `seq` out of the flights and out of its role.
    fn take(&mut self, seq: Seq) -> Option<Flight> {
        let flight = self.flights.remove(seq)?;
        self.settle_roles(seq);
        Some(flight)
    }

    fn settle_roles(&mut self, seq: Seq) {
        self.probe.settle(seq);
        self.canary = self.canary.filter(|&canary| canary != seq);
    }

    fn believe(&mut self, level: u32) {
        self.measured = Some(level.max(1));
        self.set_window(level);
    }

    fn set_window(&mut self, window: u32) {
        self.window = window.clamp(1, self.max);
        self.noise.rose(self.window);
    }

    fn pause_for(&mut self, now: Timestamp, seconds: f64) {
        self.pause = self.pause.max(now.plus_secs(seconds));
    }
}
