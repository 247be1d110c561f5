//! What a limit shows of itself, and what it saves.

use serde::{Deserialize, Serialize};

use super::climb::{Climb, Mode};
use super::flights::Flights;
use super::measurement::{Motion, Stated};
use super::{Ceiling, Delay, Punishment};
use crate::core::time::Timestamp;

/// What the limit is doing, for metrics and events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Looking for the cap above the window.
    Climbing,
    /// The window is believed; a probe goes beyond it now and then.
    Holding,
    /// The cap fell below the window: one request at a time until one is let in.
    Retreating,
    /// The provider cut the cap after an excess: waiting for it to come back.
    Penalised,
    /// After a 503: one trial request at a time.
    HalfOpen,
    /// Nothing is sent until [`Ceiling::pause_until`](super::Ceiling::pause_until).
    Paused,
}

impl State {
    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Climbing => "climbing",
            Self::Holding => "holding",
            Self::Retreating => "retreating",
            Self::Penalised => "penalised",
            Self::HalfOpen => "half-open",
            Self::Paused => "paused",
        }
    }
}

/// A picture of the limit.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct View {
    /// Requests that may be in flight outside planned learning.
    pub window: u32,
    /// Requests in flight, not counting lingering ones.
    pub in_flight: u32,
    /// Requests that are over and still counted, for the server may count them.
    pub lingering: u32,
    /// The cap, or our share of it, as last measured by a rejection.
    pub measured: Option<u32>,
    /// The account's limit as a body last stated it.
    pub told_limit: Option<u32>,
    /// What the limit is doing.
    pub state: State,
    /// Slot rejections so far.
    pub rejections: u64,
    /// 503s and their kin so far.
    pub outages: u64,
    /// Smoothed time a request runs, in seconds; `None` before the first completed.
    pub service: Option<f64>,
    /// What one more rejection is thought to cost, in requests.
    pub price: f64,
    /// How long the server counts a request after its answer, in seconds.
    pub release_lag: f64,
}

/// What a [`Ceiling`](super::Ceiling) learned, to be saved and given to
/// [`Ceiling::restore`](super::Ceiling::restore) after a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Learned {
    /// The window, in requests.
    pub window: u32,
    /// It was measured, not just not yet exceeded.
    pub measured: bool,
    /// Smoothed time a request runs, in seconds.
    pub service: Option<f64>,
    /// How long a rejection takes to arrive.
    pub rejection: Option<Delay>,
    /// How long an early head takes to arrive.
    pub headers: Option<Delay>,
    /// Share of requests whose head came early.
    pub early: f64,
    /// How fast the cap moved, in slots a second.
    pub drift: f64,
    /// Whether and how the provider punishes an excess.
    pub punishment: Option<Punishment>,
    /// The account's limit as a body last stated it.
    pub told_limit: Option<u32>,
}

impl Learned {
    /// As numbers, for hosts to which a number is nothing and a structure much. NaN stands for what is not known.
    pub fn numbers(&self) -> [f64; 15] {
        let Self { window, measured, service, rejection, headers, early, drift, punishment, told_limit } = self;
        let known = |value: Option<f64>| value.unwrap_or(f64::NAN);
        let delay = |delay: &Option<Delay>| delay.map_or([f64::NAN; 2], |delay| [delay.mean, delay.deviation]);
        let ([rejection, rejection_dev], [headers, headers_dev]) = (delay(rejection), delay(headers));
        let [belief, unpunished, lost, kept, wait] = punishment.map_or([f64::NAN; 5], |punishment| {
            let Punishment { belief, unpunished, lost, kept, wait } = punishment;
            [belief, f64::from(unpunished), lost, known(kept), wait]
        });
        [
            f64::from(*window),
            f64::from(u8::from(*measured)),
            known(*service),
            rejection,
            rejection_dev,
            headers,
            headers_dev,
            *early,
            *drift,
            belief,
            unpunished,
            lost,
            kept,
            wait,
            known(told_limit.map(f64::from)),
        ]
    }

    /// From [`Learned::numbers`]; `None` from anything of another length.
    pub fn from_numbers(numbers: &[f64]) -> Option<Self> {
        let numbers: [f64; 15] = numbers.try_into().ok()?;
        let [window, measured, service, rejection, rejection_dev, headers, headers_dev, early, drift, ..] = numbers;
        let [.., belief, unpunished, lost, kept, wait, told_limit] = numbers;
        let known = |value: f64| (!value.is_nan()).then_some(value);
        let delay = |mean, deviation| known(mean).map(|mean| Delay { mean, deviation });
        // The casts saturate, and take NaN to 0.
        Some(Self {
            window: window as u32,
            measured: measured == 1.0,
            service: known(service),
            rejection: delay(rejection, rejection_dev),
            headers: delay(headers, headers_dev),
            early,
            drift,
            punishment: known(belief).map(|belief| Punishment {
                belief,
                unpunished: unpunished as u8,
                lost,
                kept: known(kept),
                wait,
            }),
            told_limit: known(told_limit).map(|limit| limit as u32),
        })
    }
}

impl Ceiling {
    /// What is worth saving for the next start.
    pub fn learned(&self, now: Timestamp) -> Learned {
        Learned {
            // Under a penalty the level before it is what is known of the cap.
            window: match (self.penalties.serving, self.mode) {
                (Some(penalty), _) => penalty.level.clamp(1, self.max),
                // What an earlier run knew and this one has not come to yet.
                (None, Mode::Climb(climb)) if self.rejections == 0 => self.window.max(climb.expected),
                _ => self.window,
            },
            measured: self.measured.is_some(),
            service: self.service,
            rejection: self.delays.rejection,
            headers: self.delays.headers,
            early: self.delays.early,
            drift: self.motion.rate(now.max(self.clock)),
            punishment: Some(self.penalties.learned),
            told_limit: self.stated.limit(),
        }
    }

    /// Starts from what an earlier [`learned`](Self::learned) saved; whatever of it is out of range is left out.
    ///
    /// The first climb strides out to the saved window, as to a hint, for the cap may have moved since; what is learned of
    /// delays and punishment is simply believed. For a fresh limit: nothing changes once a request was sent.
    pub fn restore(&mut self, now: Timestamp, learned: Learned) {
        let now = self.tick(now);
        if self.flights.next_seq() != Flights::new().next_seq() {
            return;
        }
        self.service = learned.service.filter(|service| (0.0..=86_400.0).contains(service));
        self.delays.rejection = learned.rejection.filter(|delay| delay.is_valid());
        self.delays.headers = learned.headers.filter(|delay| delay.is_valid());
        if (0.0..=1.0).contains(&learned.early) {
            self.delays.early = learned.early;
        }
        if (0.0..=1e6).contains(&learned.drift) {
            self.motion = Motion::starting_at(now, self.params.memory.as_secs_f64(), learned.drift);
        }
        if let Some(punishment) = learned.punishment.filter(|punishment| punishment.is_valid()) {
            self.penalties.learned = punishment;
        }
        self.stated = Stated::of(learned.told_limit);
        if learned.window >= 1 {
            if learned.measured && self.penalties.is_likely() {
                self.believe(learned.window);
                self.mode = Mode::Hold;
            } else {
                let gain = self.params.first_gain;
                self.mode = Mode::Climb(Climb::starting_at(now, 0, self.window, gain).expecting(learned.window));
            }
        }
    }

    /// A picture of the limit for metrics and events.
    pub fn view(&self) -> View {
        let lingering = self.flights.lingering();
        View {
            window: self.window,
            in_flight: self.flights.len().saturating_sub(lingering),
            lingering,
            measured: self.measured,
            told_limit: self.stated.limit(),
            state: self.state(),
            rejections: self.rejections,
            outages: self.outages,
            service: self.service,
            price: self.penalties.price(self.params.price),
            release_lag: self.lag.hold(),
        }
    }

    fn state(&self) -> State {
        if self.pause > self.clock {
            State::Paused
        } else if self.outage.is_half_open() {
            State::HalfOpen
        } else if self.penalties.serving.is_some() {
            State::Penalised
        } else if self.streak > 0 {
            State::Retreating
        } else if let Mode::Climb(_) = self.mode {
            State::Climbing
        } else {
            State::Holding
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learned_survives_as_numbers() {
        let delay = |mean| Some(Delay { mean, deviation: 0.25 });
        let punishment = Punishment { belief: 0.75, unpunished: 2, lost: 30.0, kept: Some(0.25), wait: 20.0 };
        let learned = Learned {
            window: 64,
            measured: true,
            service: Some(1.5),
            rejection: delay(0.5),
            headers: delay(2.0),
            early: 0.125,
            drift: 0.01,
            punishment: Some(punishment),
            told_limit: Some(80),
        };
        for learned in [learned, Learned::default()] {
            assert_eq!(Learned::from_numbers(&learned.numbers()), Some(learned));
        }
        assert_eq!(Learned::from_numbers(&[1.0; 14]), None);
    }
}
