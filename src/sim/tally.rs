//! What a simulated provider saw: exact counts, per client, lane and request tag.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::provider::End;

/// Why an arrival was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RejectReason {
    /// Too many requests in flight on the account and model.
    Slot,
    /// Too many requests in flight for the `user_id`.
    UserSlot,
    /// Too many requests a minute.
    Rpm,
    /// Too many tokens a minute.
    Tpm,
    /// A window of 503 (or another 5xx but 500).
    Overloaded,
    /// A window of 500.
    ServerError,
    /// No balance: a window of 402, or money spent.
    Balance,
    /// No key or a wrong one.
    Authentication,
    /// A model that is not on offer, or a request the server could not read.
    BadRequest,
    /// A window of another 4xx.
    Refused,
    /// The connection was reset before an answer.
    Reset,
}

impl RejectReason {
    /// Whether the client had too much in flight (a measurement of the cap).
    pub fn is_slot(self) -> bool {
        matches!(self, Self::Slot | Self::UserSlot)
    }
}

/// Counts of one client, named by its `x-client` header or, without one, by the end of its key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClientTally {
    /// Arrivals.
    pub requests: u64,
    /// Of these admitted.
    pub admitted: u64,
    /// Admitted requests whose answer was sent whole.
    pub completed: u64,
    /// Admitted requests whose client went away first.
    pub disconnected: u64,
    /// Refusals by reason.
    pub rejected: BTreeMap<RejectReason, u64>,
}

/// One lane: an account's requests to one model, from its first arrival on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LaneTally {
    /// The account's name.
    pub account: String,
    /// The model.
    pub model: String,
    /// The cap in force now.
    pub cap: u32,
    /// Requests counted as in flight now (those of clients that have gone included, while they linger).
    pub in_flight: u32,
    /// The most that ever were.
    pub peak_in_flight: u32,
    /// Seconds of the first arrival and of the last moment the integrals below cover: now if anything is in flight,
    /// else the last end of a request.
    pub from: f64,
    /// See `from`.
    pub to: f64,
    /// The integral of the cap from `from` to `to`, in slot-seconds.
    pub offered: f64,
    /// The integral of what was in flight, as far as it was within the cap.
    pub used: f64,
    /// Cap and requests in flight, sampled once a second, or more rarely so that there are at most
    /// [`LaneTally::MAX_SAMPLES`].
    pub timeline: Vec<Sample>,
}

impl LaneTally {
    /// The most samples a timeline has.
    pub const MAX_SAMPLES: usize = 2048;

    /// Used over offered, 0 to 1; `None` before anything was offered.
    pub fn utilisation(&self) -> Option<f64> {
        (self.offered > 0.0).then(|| self.used / self.offered)
    }
}

/// A lane at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the provider started.
    pub at: f64,
    /// The cap.
    pub cap: u32,
    /// Requests in flight.
    pub in_flight: u32,
    /// Slot rejections of this lane so far.
    pub rejected: u64,
}

/// What the provider saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Seconds since the provider started.
    pub now: f64,
    /// Arrivals.
    pub requests: u64,
    /// Of these admitted.
    pub admitted: u64,
    /// Admitted requests whose answer was sent whole.
    pub completed: u64,
    /// Admitted requests whose client went away first.
    pub disconnected: u64,
    /// Admitted requests that ended in a fault the scenario asked for.
    pub faulted: BTreeMap<End, u64>,
    /// Refusals by reason.
    pub rejected: BTreeMap<RejectReason, u64>,
    /// In flight now, over all lanes, those still answered only.
    pub in_flight: u64,
    /// Counts by client.
    pub clients: BTreeMap<String, ClientTally>,
    /// Counts by account and model.
    pub lanes: Vec<LaneTally>,
    /// How many different request tags were completed.
    pub distinct_completed: u64,
    /// Tags completed more than once, and how often.
    pub duplicates: BTreeMap<String, u32>,
}

impl Tally {
    /// All refusals.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Refusals because too much was in flight.
    pub fn slot_rejections(&self) -> u64 {
        self.rejected.iter().filter(|(reason, _)| reason.is_slot()).map(|(_, n)| n).sum()
    }

    /// Used over offered slot-seconds of all lanes together, 0 to 1; `None` before anything was offered.
    pub fn utilisation(&self) -> Option<f64> {
        let offered: f64 = self.lanes.iter().map(|lane| lane.offered).sum();
        let used: f64 = self.lanes.iter().map(|lane| lane.used).sum();
        (offered > 0.0).then(|| used / offered)
    }
}
