//! What a failure is to its caller: one list of kinds, and one set of words, for every language.

use super::call::FailureKind;
use super::outcome::OutcomeKind;

/// What went wrong, in the words in which a program decides what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The client's configuration makes no sense. Nothing was sent.
    Config,
    /// The request makes no sense. Nothing was sent.
    InvalidRequest,
    /// As many calls wait as may. Nothing was sent.
    QueueFull,
    /// No route serves the model. Nothing was sent.
    NoRoute,
    /// The client was closed.
    Closed,
    /// The provider refuses this request (400, 404, 413, 422 …) and would do so again.
    Refused,
    /// The key is wrong (401).
    Authentication,
    /// The key may not do this (403).
    Forbidden,
    /// The account is out of money (402).
    InsufficientBalance,
    /// The deadline passed.
    Deadline,
    /// Rejected for too many requests (429) for as long as retrying is allowed.
    RateLimited,
    /// The service stayed overloaded (503, blank answers) for as long as retrying is allowed.
    Overloaded,
    /// The server failed (500), again and again.
    Server,
    /// The connection failed, again and again.
    Connection,
    /// No content came in time, again and again.
    FirstContentTimeout,
    /// The answer broke off after part of it had been delivered. The error's `partial` has that part, unless the answer was
    /// handed out as a raw body.
    Interrupted,
    /// What came is not what the protocol says.
    Malformed,
}

impl ErrorKind {
    /// All of them; each stands at the place that is its number.
    pub const ALL: [Self; 17] = [
        Self::Config,
        Self::InvalidRequest,
        Self::QueueFull,
        Self::NoRoute,
        Self::Closed,
        Self::Refused,
        Self::Authentication,
        Self::Forbidden,
        Self::InsufficientBalance,
        Self::Deadline,
        Self::RateLimited,
        Self::Overloaded,
        Self::Server,
        Self::Connection,
        Self::FirstContentTimeout,
        Self::Interrupted,
        Self::Malformed,
    ];

    /// Its name in logs and metrics, after OpenTelemetry's `error.type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::InvalidRequest => "invalid_request",
            Self::QueueFull => "queue_full",
            Self::NoRoute => "no_route",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::Authentication => "authentication",
            Self::Forbidden => "forbidden",
            Self::InsufficientBalance => "insufficient_balance",
            Self::Deadline => "deadline",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Server => "server",
            Self::Connection => "connection",
            Self::FirstContentTimeout => "first_content_timeout",
            Self::Interrupted => "interrupted",
            Self::Malformed => "malformed",
        }
    }

    /// What a call's failure is to its caller; `outcome` is what decided it.
    pub fn of(failure: FailureKind, outcome: Option<OutcomeKind>) -> Self {
        match failure {
            FailureKind::Refused => Self::Refused,
            FailureKind::Authentication => Self::Authentication,
            FailureKind::Forbidden => Self::Forbidden,
            FailureKind::InsufficientBalance => Self::InsufficientBalance,
            FailureKind::Deadline => Self::Deadline,
            FailureKind::Interrupted => Self::Interrupted,
            FailureKind::Closed => Self::Closed,
            // Nothing had been delivered, so nothing was interrupted as far as the caller is concerned.
            FailureKind::Exhausted if outcome == Some(OutcomeKind::Interrupted) => Self::Connection,
            FailureKind::Exhausted => outcome.map_or(Self::Server, Self::of_outcome),
        }
    }

    /// What a single attempt's end is to its caller.
    pub fn of_outcome(outcome: OutcomeKind) -> Self {
        match outcome {
            OutcomeKind::Slot | OutcomeKind::Rate => Self::RateLimited,
            OutcomeKind::Pressure => Self::Overloaded,
            OutcomeKind::Success | OutcomeKind::Server => Self::Server,
            OutcomeKind::Transport => Self::Connection,
            OutcomeKind::FirstContentTimeout => Self::FirstContentTimeout,
            OutcomeKind::Interrupted => Self::Interrupted,
            OutcomeKind::Billing => Self::InsufficientBalance,
            OutcomeKind::Authentication => Self::Authentication,
            OutcomeKind::Forbidden => Self::Forbidden,
            OutcomeKind::Refused => Self::Refused,
            OutcomeKind::Malformed => Self::Malformed,
            OutcomeKind::Cancelled => Self::Closed,
        }
    }

    /// What happened, as the beginning of a sentence.
    pub const fn what_happened(self) -> &'static str {
        match self {
            Self::Config => "the configuration makes no sense",
            Self::InvalidRequest => "the request makes no sense",
            Self::QueueFull => "the queue is full",
            Self::NoRoute => "no route serves the model",
            Self::Closed => "the client was closed",
            Self::Refused => "the provider refused the request",
            Self::Authentication => "the provider refused the key",
            Self::Forbidden => "the key may not do this",
            Self::InsufficientBalance => "the account is out of money",
            Self::Deadline => "the deadline passed",
            Self::RateLimited => "the provider kept rejecting for too many requests",
            Self::Overloaded => "the service stayed overloaded",
            Self::Server => "the server failed",
            Self::Connection => "the connection failed",
            Self::FirstContentTimeout => "no content came",
            Self::Interrupted => "the answer broke off",
            Self::Malformed => "the answer could not be understood",
        }
    }

    /// What to do about it; empty where the message itself says so.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Config | Self::NoRoute | Self::InvalidRequest | Self::QueueFull => "",
            Self::Closed => "make a new client",
            Self::Refused => "mend the request, it would be refused again",
            Self::Authentication => "check the route's API key, then call resume()",
            Self::Forbidden => "check what the route's API key may do, then call resume()",
            Self::InsufficientBalance => "top up the account, then call resume()",
            Self::Deadline => "allow it more time, or send fewer calls at once",
            Self::RateLimited | Self::Overloaded => "try again later, or add a fallback route",
            Self::Server | Self::Connection | Self::FirstContentTimeout | Self::Malformed => "try again later",
            Self::Interrupted => "ask again if you need the whole",
        }
    }

    /// Whether the same call might succeed later.
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::QueueFull
                | Self::Deadline
                | Self::RateLimited
                | Self::Overloaded
                | Self::Server
                | Self::Connection
                | Self::FirstContentTimeout
                | Self::Interrupted
                | Self::Malformed
        )
    }
}
