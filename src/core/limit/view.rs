//! What a limit shows of itself, and what it saves.

use serde::{Deserialize, Serialize};

use super::{Delay, Punishment};

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
    /// Cancelled requests still counted, for the server may count them.
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
