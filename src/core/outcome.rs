//! What an attempt came to, classified: the words in which the rest of the core decides.

use alloc::boxed::Box;
use core::time::Duration;

use super::text::cut;

/// The class of an attempt's end. Only [`Slot`](OutcomeKind::Slot) moves the concurrency limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutcomeKind {
    /// A complete answer.
    Success,
    /// 429 because too many requests were in flight at once: a measurement of the cap.
    Slot,
    /// 429 because requests or tokens came too fast (RPM, TPM, RPD, QPS): feeds the quota, never the cap.
    Rate,
    /// The service is overloaded (502, 503, 504, 529, a blank 200, `insufficient_system_resource`).
    Pressure,
    /// The server failed (500, 408, an unknown 5xx).
    Server,
    /// The connection failed before the first byte of an answer.
    Transport,
    /// Headers or the first content did not come in time, or the server hung up before inference began.
    FirstContentTimeout,
    /// Content had begun, then the connection broke, stalled, or ended without its terminal mark.
    Interrupted,
    /// 402, or billing words under another status: the account has no money left.
    Billing,
    /// 401: the key is wrong.
    Authentication,
    /// 403: the key may not do this.
    Forbidden,
    /// 400, 404, 413, 422 and every other 4xx: the request itself is at fault; never retried.
    Refused,
    /// An answer came whole but is not what the protocol says (not JSON, wrong shape).
    Malformed,
    /// The caller went away.
    Cancelled,
}

impl OutcomeKind {
    /// All of them; each stands at the place that is its number.
    pub const ALL: [Self; 14] = [
        Self::Success,
        Self::Slot,
        Self::Rate,
        Self::Pressure,
        Self::Server,
        Self::Transport,
        Self::FirstContentTimeout,
        Self::Interrupted,
        Self::Billing,
        Self::Authentication,
        Self::Forbidden,
        Self::Refused,
        Self::Malformed,
        Self::Cancelled,
    ];

    /// Its name in logs and histories.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Slot => "slot",
            Self::Rate => "rate",
            Self::Pressure => "pressure",
            Self::Server => "server",
            Self::Transport => "transport",
            Self::FirstContentTimeout => "first_content_timeout",
            Self::Interrupted => "interrupted",
            Self::Billing => "billing",
            Self::Authentication => "authentication",
            Self::Forbidden => "forbidden",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// An attempt's end with everything the decision needs, and what an error message should quote.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The class.
    pub kind: OutcomeKind,
    /// HTTP status, if an answer's head came. An error inside a 200 keeps the 200 here.
    pub status: Option<u16>,
    /// The server's own words (at most [`Outcome::MESSAGE_LIMIT`] bytes, cut at a character), or the transport's.
    pub message: Option<Box<str>>,
    /// The `code` of the error body as text (numbers are written out). DeepSeek's says nothing; see `error_type`.
    pub code: Option<Box<str>>,
    /// The `type` of the error body.
    pub error_type: Option<Box<str>>,
    /// The floor under the next try that the server asked for, longest of all the forms it used.
    pub retry_after: Option<Duration>,
    /// The server's id of the request (`x-ds-trace-id`, `x-request-id`, …).
    pub request_id: Option<Box<str>>,
    /// The account's concurrency as the body states it.
    pub told: Option<Told>,
    /// The body says the limit is scaled by the remaining balance: a precursor of 402.
    pub low_balance: bool,
    /// `x-should-retry`: the server's explicit word on retrying, if it gave one.
    pub should_retry: Option<bool>,
    /// What the headers say of rate quotas.
    pub quota: QuotaHints,
}

impl Outcome {
    /// How much of a server's message is kept, in bytes.
    pub const MESSAGE_LIMIT: usize = 1024;

    /// An outcome of `kind` about which nothing else is known.
    #[cfg_attr(target_family = "wasm", inline(never))]
    pub fn new(kind: OutcomeKind) -> Self {
        Self {
            kind,
            status: None,
            message: None,
            code: None,
            error_type: None,
            retry_after: None,
            request_id: None,
            told: None,
            low_balance: false,
            should_retry: None,
            quota: QuotaHints::default(),
        }
    }

    /// The same with `message`, cut to [`Outcome::MESSAGE_LIMIT`].
    #[must_use]
    pub fn with_message(mut self, message: &str) -> Self {
        self.message = Some(cut(message, Self::MESSAGE_LIMIT).into());
        self
    }
}

/// DeepSeek's 429 body: "Your current concurrency is N, which exceeds your concurrency limit of M …".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// N: the account's requests in flight, this one among them.
    pub current: u32,
    /// M: the account's effective cap at that instant.
    pub limit: u32,
}

/// One dimension of a rate quota as response headers state it (`x-ratelimit-{limit,remaining,reset}-…`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QuotaHint {
    /// The window's allowance.
    pub limit: Option<u64>,
    /// What is left of it.
    pub remaining: Option<u64>,
    /// How long until it is whole again.
    pub reset: Option<Duration>,
}

/// What an answer's headers say of rate quotas.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QuotaHints {
    /// Requests.
    pub requests: QuotaHint,
    /// Tokens.
    pub tokens: QuotaHint,
}
