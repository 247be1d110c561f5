//! What a client tells its listeners.

use std::time::Duration;

use crate::core::outcome::OutcomeKind;
use crate::core::route::LaneKey;
use crate::core::scheduler::{Notice, Scheduler};

/// Something worth knowing that happened in a client; see [`ClientBuilder::on_event`](super::ClientBuilder::on_event).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The learned limit of a lane changed.
    Limit {
        /// The account and model it holds for.
        lane: LaneKey,
        /// Requests in flight the provider is believed to admit.
        limit: u32,
    },
    /// The service said that it is overloaded; the lane pauses for a moment.
    Pressure {
        /// The account and model.
        lane: LaneKey,
    },
    /// The overload is over.
    Recovered {
        /// The account and model.
        lane: LaneKey,
    },
    /// The circuit breaker of a lane opened, or closed again.
    Breaker {
        /// The account and model.
        lane: LaneKey,
        /// Whether it is open.
        open: bool,
    },
    /// A call will be tried again.
    Retry {
        /// A number for the call, as long as it lasts.
        call: u64,
        /// How many attempts it has had.
        attempts: u32,
        /// What the last one came to.
        cause: OutcomeKind,
        /// How long it waits before it queues again.
        delay: Duration,
    },
    /// A call goes to another route than its last attempt did.
    Failover {
        /// A number for the call, as long as it lasts.
        call: u64,
        /// The route it tried.
        from: String,
        /// The route it tries now.
        to: String,
    },
    /// The provider scales the account's limit by its balance: soon it will be out of money.
    LowBalance {
        /// The account and model.
        lane: LaneKey,
        /// The limit the provider stated.
        limit: u32,
    },
    /// An account without money (402), or a route whose key was refused (401, or 403 three times in a row), is left alone
    /// until [`Client::resume`](super::Client::resume), or until a call that finds out succeeds: one is let through every
    /// [`stop_probe`](super::ClientBuilder::stop_probe).
    Stopped {
        /// The route whose answer stopped it.
        route: String,
        /// What that answer was.
        cause: OutcomeKind,
    },
}

impl Event {
    /// In the words of users. `None` if it is about a lane that is forgotten already.
    pub(super) fn of(notice: Notice, scheduler: &Scheduler) -> Option<Self> {
        let lane = |id| scheduler.lane(id).cloned();
        let route = |id| scheduler.route(id).name.clone();
        Some(match notice {
            Notice::Limit { lane: id, limit } => Self::Limit { lane: lane(id)?, limit },
            Notice::Pressure { lane: id } => Self::Pressure { lane: lane(id)? },
            Notice::Recovered { lane: id } => Self::Recovered { lane: lane(id)? },
            Notice::Breaker { lane: id, open } => Self::Breaker { lane: lane(id)?, open },
            Notice::Retry { ticket, attempts, kind, delay } => {
                Self::Retry { call: ticket.to_bits(), attempts, cause: kind, delay }
            }
            Notice::Failover { ticket, from, to } => {
                Self::Failover { call: ticket.to_bits(), from: route(from), to: route(to) }
            }
            Notice::LowBalance { lane: id, limit } => Self::LowBalance { lane: lane(id)?, limit },
            Notice::Stopped { route: id, kind } => Self::Stopped { route: route(id), cause: kind },
        })
    }
}
