//! Where the places went that a provider offered and nobody took.
//!
//! At every moment the unused places of a lane are its cap less the requests it has admitted that have not ended. Each
//! is charged to one [`Cause`]: first to the requests and answers under way, for a client counts them as in flight; then,
//! up to the number of calls that wait, to whatever keeps the client from sending; and what is left lacks a call.

use std::ops::{Index, IndexMut};
use std::time::Duration;

use crate::core::time::Timestamp;

use super::provider::{Provider, Room};

/// Why a place was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A request for it, or the answer that left it, is under way.
    Network,
    /// The client still counts a request that was refused, for it has not heard of it.
    Refused,
    /// The client still counts a request that was answered, as the server may.
    Lag,
    /// The client waits for an overload to end, or tries one request at a time.
    Outage,
    /// Refusals asked for a wait, or made the client pause.
    Told,
    /// The client keeps to a limit on pace, learned or told.
    Pace,
    /// The provider has cut the cap for an excess.
    Cut,
    /// The cut is over, and the client waits for it to end.
    Served,
    /// Refusals in a row: the client looks for how far the cap fell.
    Fall,
    /// The window is not full: what is to be sent next must wait until what was sent last is known to be let in.
    Filling,
    /// Some of the window is kept for people.
    Kept,
    /// The window is full and below the cap, on the first climb of all.
    Cold,
    /// The same, on a later one.
    Climb,
    /// The same, and the client does not look further: it has not noticed that the cap is higher.
    Unnoticed,
    /// Calls wait, but all of them back off.
    BackingOff,
    /// No call is waiting.
    Idle,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Network,
        Self::Refused,
        Self::Lag,
        Self::Outage,
        Self::Told,
        Self::Pace,
        Self::Cut,
        Self::Served,
        Self::Fall,
        Self::Filling,
        Self::Kept,
        Self::Cold,
        Self::Climb,
        Self::Unnoticed,
        Self::BackingOff,
        Self::Idle,
    ];
}

/// What a client says of the places it leaves unused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Held {
    /// Calls that could be sent at once.
    pub waiting: u64,
    /// Calls that wait for their next attempt.
    pub backing_off: u64,
    /// Requests that are answered, and which it still counts.
    pub leaving: u32,
    /// What keeps it from sending.
    pub why: Cause,
}

/// The slot-seconds of a run, from its start to its end. What was offered is what was used and what was not, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Losses {
    /// What admitted requests took.
    pub used: f64,
    unused: [f64; Cause::ALL.len()],
}

impl Losses {
    /// Used and unused together.
    pub fn offered(&self) -> f64 {
        self.used + self.unused.iter().sum::<f64>()
    }

    /// Charges the places of `room` for `seconds`, with so many requests and answers under way.
    fn charge(&mut self, room: Room, seconds: f64, wire: &Wire, held: &Held) {
        // Of what was cut, those still have their places who had them before.
        let used = room.taken.min(room.uncut);
        self.used += seconds * f64::from(used);
        self.unused[Cause::Cut as usize] += seconds * f64::from(room.uncut - room.cap.max(used));
        let mut free = u64::from(room.cap.saturating_sub(used));
        let calls = held.waiting + held.backing_off;
        let mut take = |cause, most: u64| {
            let places = free.min(most);
            free -= places;
            self.unused[cause as usize] += seconds * places as f64;
        };
        take(Cause::Network, wire.out + wire.back);
        take(Cause::Refused, wire.refused.min(calls));
        take(Cause::Lag, u64::from(held.leaving).min(calls));
        take(held.why, held.waiting);
        take(Cause::BackingOff, held.backing_off);
        take(Cause::Idle, u64::MAX);
    }

    /// What was counted as used for `span` was only a request or its answer under way.
    pub(super) fn was_network(&mut self, span: Duration) {
        self.used -= span.as_secs_f64();
        self[Cause::Network] += span.as_secs_f64();
    }
}

impl Index<Cause> for Losses {
    type Output = f64;

    fn index(&self, cause: Cause) -> &f64 {
        &self.unused[cause as usize]
    }
}

impl IndexMut<Cause> for Losses {
    fn index_mut(&mut self, cause: Cause) -> &mut f64 {
        &mut self.unused[cause as usize]
    }
}

/// What is under way between a client and the provider.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wire {
    /// Requests that have not arrived.
    pub(super) out: u64,
    /// Answers that have ended and have not arrived.
    pub(super) back: u64,
    /// Refusals that have not arrived.
    pub(super) refused: u64,
}

/// The books of a run with one client and one lane.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    at: Timestamp,
    pub(super) wire: Wire,
    pub(super) losses: Losses,
}

impl Ledger {
    /// Charges the time up to `to`, in which nothing happens but that the cap may move.
    pub(super) fn charge_until(&mut self, to: Timestamp, provider: &mut Provider, held: &Held) {
        while self.at < to {
            let Some((room, until)) = provider.room(self.at) else {
                self.at = to;
                return;
            };
            let next = until.map_or(to, |until| until.min(to));
            self.losses.charge(room, next.secs_since(self.at), &self.wire, held);
            self.at = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(waiting: u64, backing_off: u64, leaving: u32) -> Held {
        Held { waiting, backing_off, leaving, why: Cause::Climb }
    }

    #[test]
    fn each_place_is_charged_once_and_the_nearest_cause_comes_first() {
        let room = Room { uncut: 24, cap: 20, taken: 4 };
        let wire = Wire { out: 2, back: 1, refused: 3 };
        let mut losses = Losses::default();
        losses.charge(room, 2.0, &wire, &held(4, 2, 1));
        let of = |cause| losses[cause];
        assert_eq!((losses.used, losses.offered()), (8.0, 48.0));
        assert_eq!([Cause::Network, Cause::Refused, Cause::Lag].map(of), [6.0, 6.0, 2.0]);
        assert_eq!([Cause::Climb, Cause::BackingOff, Cause::Idle, Cause::Cut].map(of), [8.0, 4.0, 6.0, 8.0]);
    }

    #[test]
    fn nothing_is_lost_of_a_full_cap_nor_to_what_no_call_waits_for() {
        let wire = Wire { out: 5, back: 0, refused: 5 };
        let mut losses = Losses::default();
        losses.charge(Room { uncut: 8, cap: 8, taken: 11 }, 1.0, &wire, &held(50, 0, 3));
        assert_eq!((losses.used, losses.offered()), (8.0, 8.0));
        losses.charge(Room { uncut: 8, cap: 8, taken: 2 }, 1.0, &Wire::default(), &held(0, 0, 3));
        assert_eq!((losses[Cause::Idle], losses.offered()), (6.0, 16.0));
    }
}
