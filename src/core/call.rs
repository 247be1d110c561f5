//! One call's life: *wait → send → headers → content → done*, or *try again*, *fail over*, *fail*.
//!
//! This module holds what a call is and the decision after a failed attempt; [`scheduler`](super::scheduler) moves it
//! along.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::backoff::{RetryPolicy, jittered_floor};
use super::limit::Seq;
use super::metrics::SeriesId;
use super::outcome::{Outcome, OutcomeKind};
use super::queue::{Class, WorkloadId};
use super::route::{LaneId, RouteId};
use super::time::Timestamp;

/// A submitted call. Copy it freely; one that has ended is recognised as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    pub(crate) index: u32,
    pub(crate) serial: u32,
}

impl Ticket {
    /// As one number, for drivers that keep it in a map or hand it across a language border.
    pub const fn to_bits(self) -> u64 {
        (self.serial as u64) << 32 | self.index as u64
    }

    /// From [`Ticket::to_bits`].
    pub const fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, serial: (bits >> 32) as u32 }
    }
}

/// One attempt of a call: what events are reported under. Events of an attempt that is over are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// The call.
    pub ticket: Ticket,
    /// Which of its attempts, from 1.
    pub number: u32,
}

/// The clocks of a call, each its own setting. `None` turns one off.
///
/// The other two clocks are elsewhere: the time to connect is the transport's setting (in a browser it is part of
/// `headers`), the total time is the call's deadline.
#[derive(Clone, Debug, PartialEq)]
pub struct Clocks {
    /// From sending to the answer's head. Default 11 min: providers that answer only when the text is complete send
    /// nothing before.
    pub headers: Option<Duration>,
    /// From sending to the first content; keep-alives prove the connection lives, they are not progress. Default 11 min:
    /// DeepSeek hangs up by itself after 10 (<https://api-docs.deepseek.com/quick_start/rate_limit>), and must be let.
    pub first_content: Option<Duration>,
    /// Between two pieces of content while the caller is reading; comments don't re-arm it. Default 120 s.
    pub idle: Option<Duration>,
}

impl Default for Clocks {
    fn default() -> Self {
        let start = Some(Duration::from_secs(660));
        Self { headers: start, first_content: start, idle: Some(Duration::from_secs(120)) }
    }
}

/// An attempt in a call's history.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptRecord {
    /// Where it was sent.
    pub route: RouteId,
    /// When.
    pub sent: Timestamp,
    /// How long it took to end.
    pub took: Duration,
    /// What it came to.
    pub kind: OutcomeKind,
    /// HTTP status, if an answer's head came.
    pub status: Option<u16>,
    /// The server's or the transport's words.
    pub message: Option<Box<str>>,
    /// The server's id of the request.
    pub request_id: Option<Box<str>>,
}

/// A call's attempts. Of very many only the first few and the last are kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    records: Vec<AttemptRecord>,
    dropped: u32,
}

impl History {
    const FIRST: usize = 4;
    const MOST: usize = 16;

    /// The attempts kept, oldest first.
    pub fn records(&self) -> &[AttemptRecord] {
        &self.records
    }

    /// How many were sent in all.
    pub fn sent(&self) -> u32 {
        self.records.len() as u32 + self.dropped
    }

    /// The attempts kept, oldest first.
    pub fn into_records(self) -> Vec<AttemptRecord> {
        self.records
    }

    pub(crate) fn push(&mut self, record: AttemptRecord) {
        if self.records.is_empty() {
            // Most calls have one.
            self.records = Vec::with_capacity(1);
        }
        if self.records.len() == Self::MOST {
            self.records.remove(Self::FIRST);
            self.dropped += 1;
        }
        self.records.push(record);
    }
}

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The request itself is at fault (400, 404, 413, 422 …): sent again it would fail again.
    Refused,
    /// Every route's key is wrong (401).
    Authentication,
    /// No route lets this key do this (403).
    Forbidden,
    /// Every route's account is out of money (402).
    InsufficientBalance,
    /// Attempts or time for trying again were used up; the last outcome says what stood in the way.
    Exhausted,
    /// The call's deadline passed.
    Deadline,
    /// The answer broke off after part of it had been delivered.
    Interrupted,
    /// The gate was closed.
    Closed,
}

/// A call's failure with all that is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Why.
    pub kind: FailureKind,
    /// The decisive outcome; none if nothing ever came of an attempt.
    pub outcome: Option<Outcome>,
    /// The route that `outcome` is of: of the attempt that came to it, or the stopped one where that is why the call failed.
    /// It need not be the last attempt's.
    pub route: Option<RouteId>,
    /// The attempts.
    pub history: History,
    /// From submission to now.
    pub elapsed: Duration,
}

/// How far an attempt has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Sent,
    Headers,
    Content,
}

/// An attempt under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub(crate) number: u32,
    pub(crate) route: RouteId,
    pub(crate) sent: Timestamp,
    pub(crate) lanes: [Option<LaneFlight>; 2],
    pub(crate) phase: Phase,
    /// When the clock of the present phase runs out.
    pub(crate) due: Timestamp,
    /// Whether this attempt finds out if a stopped account or route is open again.
    pub(crate) probes_stop: bool,
}

/// An attempt's place in one lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneFlight {
    pub(crate) lane: LaneId,
    pub(crate) seq: Seq,
    /// It is the trial of a half-open breaker.
    pub(crate) trial: bool,
    /// When the lane had served its class before it.
    pub(crate) served: Timestamp,
}

#[derive(Debug)]
pub(crate) enum State {
    /// Waiting for room in the queue.
    Outside,
    /// Waiting for a permit.
    Queued,
    /// Waiting until it may be queued again.
    Backoff { until: Timestamp },
    /// Under way.
    InFlight(Box<Flight>),
}

/// A call. Kept small: a queued one is this and a queue entry.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) serial: u32,
    pub(crate) pool: u32,
    pub(crate) model: u32,
    pub(crate) workload: WorkloadId,
    /// Where it is counted.
    pub(crate) series: SeriesId,
    pub(crate) class: Class,
    /// Something was handed to the caller: never replayed.
    pub(crate) delivered: bool,
    /// The caller's estimate of its tokens.
    pub(crate) estimated: u32,
    /// The estimate corrected by what was learned: what the quota reckons with.
    pub(crate) tokens: u32,
    /// Attempts whose failure counted.
    pub(crate) failures: u32,
    pub(crate) max_attempts: u32,
    pub(crate) state: State,
    pub(crate) submitted: Timestamp,
    pub(crate) deadline: Timestamp,
    pub(crate) first_sent: Option<Timestamp>,
    /// The earliest timer set for it.
    pub(crate) armed: Timestamp,
    pub(crate) last_route: Option<RouteId>,
    pub(crate) clocks: Option<Box<Clocks>>,
    pub(crate) history: Option<Box<History>>,
    /// What the last attempt that ended came to, and where.
    pub(crate) last_outcome: Option<Box<(RouteId, Outcome)>>,
}

impl Call {
    /// When something is due for it, whatever happens otherwise.
    pub(crate) fn due(&self) -> Timestamp {
        let phase = match &self.state {
            State::Outside | State::Queued => Timestamp::MAX,
            State::Backoff { until } => *until,
            State::InFlight(flight) => flight.due,
        };
        phase.min(self.deadline)
    }
}

/// What becomes of a call after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Next {
    /// Back to the front of its line, to wait for a slot (or for another route).
    Requeue,
    /// Tried again after this long.
    After { delay: Duration, budgeted: bool },
    /// Tried again on another route only.
    Elsewhere,
    /// Over.
    End(FailureKind),
}

/// The decision after a failed attempt. `call` already counts it if [`counts`] says so.
pub(crate) fn decide(
    call: &Call,
    outcome: &Outcome,
    policy: &RetryPolicy,
    now: Timestamp,
    rng: &mut fastrand::Rng,
) -> Next {
    use OutcomeKind as K;
    if call.delivered {
        return Next::End(FailureKind::Interrupted);
    }
    let again = match outcome.kind {
        K::Refused if outcome.should_retry == Some(true) => true,
        K::Refused => return Next::End(FailureKind::Refused),
        // The account or the route has been stopped: the queue finds another, or ends it with the stop's reason.
        K::Billing | K::Authentication => return Next::Requeue,
        K::Forbidden => return Next::Elsewhere,
        _ => outcome.should_retry != Some(false) || matches!(outcome.kind, K::Slot),
    };
    let tried_for = call.first_sent.map_or(Duration::ZERO, |sent| now - sent);
    if !again || call.failures >= call.max_attempts || tried_for >= policy.max_elapsed {
        return Next::End(FailureKind::Exhausted);
    }
    let backoff = if counts(outcome) { policy.delay(call.failures.saturating_sub(1), rng) } else { Duration::ZERO };
    let floor = outcome.retry_after.map_or(Duration::ZERO, |asked| jittered_floor(asked, rng));
    let delay = backoff.max(floor);
    if now + delay > call.deadline {
        // The server's wait is obeyed or the call ends; it is never tried early.
        return if floor >= backoff { Next::Elsewhere } else { Next::End(FailureKind::Deadline) };
    }
    match delay {
        Duration::ZERO => Next::Requeue,
        delay => Next::After { delay, budgeted: counts(outcome) },
    }
}

/// Whether an outcome spends one of the call's attempts. Rejections do not: they say nothing about this call. A fast
/// overload (503, 529) neither; a gateway's failure after it took the request in, a blank body or a generation cut short
/// for lack of resources may be this very request's doing, and do.
pub(crate) fn counts(outcome: &Outcome) -> bool {
    match outcome.kind {
        OutcomeKind::Slot | OutcomeKind::Rate | OutcomeKind::Billing | OutcomeKind::Authentication => false,
        OutcomeKind::Pressure => !matches!(outcome.status, Some(503 | 529)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::metrics::Metrics;

    fn call(failures: u32) -> Call {
        Call {
            serial: 0,
            pool: 0,
            model: 0,
            workload: WorkloadId(0),
            series: Metrics::default().series(0, 0),
            class: Class::Normal,
            delivered: false,
            estimated: 0,
            tokens: 0,
            failures,
            max_attempts: 5,
            state: State::Queued,
            submitted: Timestamp::ZERO,
            deadline: Timestamp::MAX,
            first_sent: Some(Timestamp::ZERO),
            armed: Timestamp::MAX,
            last_route: None,
            clocks: None,
            history: None,
            last_outcome: None,
        }
    }

    fn next(call: &Call, outcome: &Outcome, secs: f64) -> Next {
        let mut rng = fastrand::Rng::with_seed(1);
        decide(call, outcome, &RetryPolicy::default(), Timestamp::from_secs_f64(secs), &mut rng)
    }

    #[test]
    fn a_queued_call_is_small() {
        assert!(size_of::<Call>() <= 176, "{} bytes", size_of::<Call>());
    }

    #[test]
    fn a_slot_rejection_waits_for_a_slot_however_often_it_happens() {
        let slot = Outcome::new(OutcomeKind::Slot);
        assert!(!counts(&slot));
        assert_eq!(next(&call(4), &slot, 60.0), Next::Requeue);
        assert_eq!(next(&call(0), &slot, 1800.0), Next::End(FailureKind::Exhausted), "but not beyond max_elapsed");
    }

    #[test]
    fn failures_back_off_until_attempts_are_used_up() {
        for kind in [OutcomeKind::Server, OutcomeKind::Transport, OutcomeKind::FirstContentTimeout] {
            let outcome = Outcome::new(kind);
            assert!(counts(&outcome));
            assert!(matches!(next(&call(1), &outcome, 1.0), Next::After { budgeted: true, .. }));
            assert_eq!(next(&call(5), &outcome, 1.0), Next::End(FailureKind::Exhausted));
        }
    }

    #[test]
    fn what_was_delivered_is_never_replayed() {
        for kind in [OutcomeKind::Interrupted, OutcomeKind::Server, OutcomeKind::Slot, OutcomeKind::Pressure] {
            let delivered = Call { delivered: true, ..call(0) };
            assert_eq!(next(&delivered, &Outcome::new(kind), 1.0), Next::End(FailureKind::Interrupted));
        }
    }

    #[test]
    fn the_requests_own_fault_ends_it_at_once_unless_the_server_says_otherwise() {
        let mut outcome = Outcome::new(OutcomeKind::Refused);
        assert_eq!(next(&call(1), &outcome, 1.0), Next::End(FailureKind::Refused));
        outcome.should_retry = Some(true);
        assert!(matches!(next(&call(1), &outcome, 1.0), Next::After { .. }));
        let mut server = Outcome::new(OutcomeKind::Server);
        server.should_retry = Some(false);
        assert_eq!(next(&call(1), &server, 1.0), Next::End(FailureKind::Exhausted));
    }

    #[test]
    fn retry_after_is_a_floor_and_one_beyond_the_deadline_is_not_retried_early() {
        let mut outcome = Outcome::new(OutcomeKind::Server);
        outcome.retry_after = Some(Duration::from_secs(90));
        let Next::After { delay, .. } = next(&call(1), &outcome, 1.0) else { panic!("retried") };
        assert!(delay >= Duration::from_secs(90));
        let hurried = Call { deadline: Timestamp::from_secs_f64(60.0), ..call(1) };
        assert_eq!(next(&hurried, &outcome, 1.0), Next::Elsewhere);
    }

    #[test]
    fn a_fast_overload_spends_no_attempt_but_a_gateway_timeout_does() {
        let with = |status| Outcome { status, ..Outcome::new(OutcomeKind::Pressure) };
        assert!(!counts(&with(Some(503))));
        assert!(!counts(&with(Some(529))));
        assert!(counts(&with(Some(504))));
        assert!(counts(&with(Some(200))), "a blank body");
        assert_eq!(next(&call(4), &with(Some(503)), 1.0), Next::Requeue, "the lane pauses, not the call");
    }

    #[test]
    fn of_very_many_attempts_the_first_and_the_last_are_remembered() {
        let mut history = History::default();
        for number in 0..100u64 {
            history.push(AttemptRecord {
                route: RouteId(0),
                sent: Timestamp::from_micros(number),
                took: Duration::ZERO,
                kind: OutcomeKind::Slot,
                status: None,
                message: None,
                request_id: None,
            });
        }
        assert_eq!(history.sent(), 100);
        let kept: Vec<_> = history.records().iter().map(|record| record.sent.as_micros()).collect();
        assert_eq!(kept, [0, 1, 2, 3, 88, 89, 90, 91, 92, 93, 94, 95, 96, 97, 98, 99]);
    }

    #[test]
    fn tickets_survive_the_trip_through_a_number() {
        let ticket = Ticket { index: 7, serial: u32::MAX };
        assert_eq!(Ticket::from_bits(ticket.to_bits()), ticket);
    }
}
