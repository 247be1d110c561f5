//! What goes in and out of the scheduler: calls, events, actions.

use alloc::boxed::Box;
use alloc::string::String;
use core::time::Duration;

use crate::core::call::{Attempt, Clocks, Failure, History, Ticket};
use crate::core::limit::Learned;
use crate::core::outcome::{Outcome, OutcomeKind};
use crate::core::queue::WorkloadId;
use crate::core::route::{LaneId, LaneKey, RouteId};
use crate::core::tokens::TokenCount;

/// What to do with a call when the queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// Refuse it.
    #[default]
    Fail,
    /// Let it wait for room, in the order of arrival.
    Wait,
}

/// What the scheduler needs to know of a call; the request's body stays with the driver.
#[derive(Clone, Debug)]
pub struct JobSpec<'a> {
    /// The model, by the caller's name for it.
    pub model: &'a str,
    /// The workload it belongs to.
    pub workload: WorkloadId,
    /// The end user it is for, where accounts limit each.
    pub user_id: Option<&'a str>,
    /// About how many tokens it will take, prompt and completion together; matters only under a token quota. It is
    /// corrected by what answers of the model came to so far.
    pub tokens: u32,
    /// The total time it may take, queueing included. `None` takes the gate's.
    pub deadline: Option<Duration>,
    /// Its own clocks. `None` takes the gate's.
    pub clocks: Option<Clocks>,
    /// Its own number of attempts. `None` takes the gate's.
    pub max_attempts: Option<u32>,
    /// What to do when the queue is full.
    pub on_full: OnFull,
}

impl<'a> JobSpec<'a> {
    /// A call to `model` for `workload`, everything else by default.
    pub fn new(model: &'a str, workload: WorkloadId) -> Self {
        Self {
            model,
            workload,
            user_id: None,
            tokens: 0,
            deadline: None,
            clocks: None,
            max_attempts: None,
            on_full: OnFull::Fail,
        }
    }
}

/// Why a call was not taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// As many calls wait as may.
    #[error(
        "the queue is full: {limit} calls are waiting; send fewer at once, or with `wait_for_room()`, or raise `max_queued`"
    )]
    QueueFull {
        /// How many may wait.
        limit: usize,
    },
    /// No route serves the model.
    #[error("no route serves the model `{model}`: each takes only the models it names, and none names this one")]
    NoRoute {
        /// The model asked for.
        model: String,
    },
    /// The gate is closed.
    #[error("the client is closed")]
    Closed,
}

/// What happens to an attempt, as its driver reports it.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "events are passed on at once, never stored")]
pub enum Event {
    /// A 2xx head came: the provider let it in.
    Headers,
    /// A keep-alive came: blank line or comment. Proves the connection lives, and that the provider let it in.
    Alive,
    /// Content came.
    Content,
    /// The driver has nothing buffered and now waits for the server. Starts the idle clock; a caller that is slow to read
    /// must not look like a server that stalls.
    Reading,
    /// Something of the answer was handed to the caller: it is never replayed from now on.
    Delivered,
    /// It is over, its connection too.
    Ended {
        /// What it came to.
        outcome: Outcome,
        /// What the provider counted.
        tokens: Option<TokenCount>,
    },
}

/// What the driver must do.
#[derive(Debug)]
pub enum Action {
    /// Send the call's request.
    Send {
        /// Under which attempt to report what happens.
        attempt: Attempt,
        /// Where to.
        route: RouteId,
        /// What to call the model there, if not as the caller does.
        rename: Option<Box<str>>,
    },
    /// Close an attempt's connection: one of its clocks ran out, or the gate was closed. It needs no further report, and
    /// the call's next action follows.
    Abort {
        /// The attempt.
        attempt: Attempt,
    },
    /// The call is over: answered, or failed.
    End {
        /// The call.
        ticket: Ticket,
        /// How.
        result: Result<Done, Box<Failure>>,
    },
    /// Something worth telling happened. Only if [`Scheduler::set_notices`](super::Scheduler::set_notices) asked for it.
    Notify(Notice),
}

/// A call that was answered.
#[derive(Debug)]
pub struct Done {
    /// The route that answered.
    pub route: RouteId,
    /// Its attempts, the successful one last.
    pub history: History,
    /// From submission to now.
    pub elapsed: Duration,
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// A lane's learned limit changed.
    Limit {
        /// The lane.
        lane: LaneId,
        /// The limit now.
        limit: u32,
    },
    /// The service said it is overloaded; the lane pauses.
    Pressure {
        /// The lane.
        lane: LaneId,
    },
    /// Pressure is over.
    Recovered {
        /// The lane.
        lane: LaneId,
    },
    /// A lane's breaker opened, or closed again.
    Breaker {
        /// The lane.
        lane: LaneId,
        /// Whether it is open.
        open: bool,
    },
    /// A call will be tried again.
    Retry {
        /// The call.
        ticket: Ticket,
        /// How many attempts it has had.
        attempts: u32,
        /// What the last one came to.
        kind: OutcomeKind,
        /// How long it waits before it queues again.
        delay: Duration,
    },
    /// A call goes to another route than its last attempt.
    Failover {
        /// The call.
        ticket: Ticket,
        /// The route it tried.
        from: RouteId,
        /// The route it tries now.
        to: RouteId,
    },
    /// The provider scales the account's limit by its balance, to another one than it last said: it will soon be out of
    /// money.
    LowBalance {
        /// The lane whose 429 said so.
        lane: LaneId,
        /// The limit it stated.
        limit: u32,
    },
    /// An account or a route was stopped (402, 401, 403) until it is resumed or a probe succeeds.
    Stopped {
        /// The route whose answer stopped it.
        route: RouteId,
        /// What that answer was.
        kind: OutcomeKind,
    },
}

/// A lane, with what was learned of its limit on requests in flight: to be saved and given to
/// [`Scheduler::restore`](super::Scheduler::restore) after a restart.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LearnedLane {
    /// The lane.
    #[serde(flatten)]
    pub lane: LaneKey,
    /// What was learned.
    pub learned: Learned,
}

/// How much is going on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Calls waiting for a permit.
    pub queued: u64,
    /// Calls waiting to be tried again.
    pub backing_off: u64,
    /// Requests in flight.
    pub in_flight: u64,
}
