//! What the program needs of a client: a narrow seam, so that the batch is tested without a network.

use std::future::Future;

use bytes::Bytes;

/// One request as a line of the input asks for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) endpoint: Endpoint,
    /// The request's JSON body.
    pub(crate) body: Bytes,
}

/// What a line may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Chat,
    Completions,
    Embeddings,
    Responses,
}

impl Endpoint {
    /// All there are.
    pub(crate) const ALL: [Self; 4] = [Self::Chat, Self::Completions, Self::Embeddings, Self::Responses];

    /// The path below the base URL.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
            Self::Responses => "/responses",
        }
    }
}

/// A complete answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reply {
    /// HTTP status, 2xx.
    pub(crate) status: u16,
    /// The server's id of the request.
    pub(crate) request_id: Option<String>,
    /// The answer's body as it came.
    pub(crate) body: Bytes,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CallError {
    /// The caller was closed before the call's fate was known: it waited, for its turn or between two attempts.
    Closed,
    /// It failed for good.
    Failed(Failure),
}

/// What a failure says about other calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This request, or bad luck: others may succeed.
    Request,
    /// This request as the provider sees it, which refused it for good or answered nonsense: if all are answered so in
    /// the same words, what they have in common is at fault.
    Refusal,
    /// The account or the key (no money, refused): every other call would fail as well.
    Account,
    /// The provider can't be reached: if that goes on, every other call will fail as well.
    Network,
}

/// How a call failed, after all the attempts it was worth.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    /// What is at fault.
    pub(crate) fault: Fault,
    /// A word for programs, such as `refused` or `deadline`.
    pub(crate) code: String,
    /// A sentence for people.
    pub(crate) message: String,
    /// The server's own words, without what is this request's alone.
    pub(crate) words: String,
    /// HTTP status of the last answer, if there was one.
    pub(crate) status: Option<u16>,
    /// The server's id of the last request.
    pub(crate) request_id: Option<String>,
    /// The last answer's body, if there was one.
    pub(crate) body: Option<Bytes>,
}

/// The state of the gate, and what has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Gauges {
    /// The learned concurrency limit, once there is one.
    pub(crate) limit: Option<u32>,
    /// Requests sent whose answer hasn't ended.
    pub(crate) in_flight: u32,
    /// Calls that wait for their turn.
    pub(crate) queued: u32,
    /// Why nothing is sent at the moment, if not for the limit; `None` too if some model is not held.
    #[serde(skip)]
    pub(crate) held: Option<Held>,
    /// The least limit on requests a minute that was learned.
    pub(crate) requests_per_minute: Option<f64>,
    /// The least limit on tokens a minute that was learned.
    pub(crate) tokens_per_minute: Option<f64>,
    /// Attempts made.
    pub(crate) attempts: u64,
    /// Attempts rejected with 429.
    pub(crate) rejected: u64,
    /// Attempts that ended without an answer because the connection failed.
    pub(crate) cut_off: u64,
    /// Attempts repeated for another reason than a 429.
    pub(crate) retries: u64,
    /// Tokens of the prompts, as the answers count them.
    pub(crate) prompt_tokens: u64,
    /// Tokens of the answers, as the answers count them.
    pub(crate) completion_tokens: u64,
    /// What the answers cost in US dollars, if the prices are known.
    pub(crate) cost_usd: Option<f64>,
}

/// Why nothing is sent for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Held {
    /// `breaker`, `pause` or `rate`; `network`, if the breaker is open for want of a connection.
    pub(crate) by: &'static str,
    /// For how many seconds more, at most.
    pub(crate) seconds: f64,
}

/// Something that sends calls when there is room for them.
pub(crate) trait Caller: Send + Sync + 'static {
    /// Sends `call` when its turn comes, with all the attempts it is worth. Dropping the future gives the call up.
    fn call(&self, call: Call) -> impl Future<Output = Result<Reply, CallError>> + Send;

    /// The state of the gate now.
    fn gauges(&self) -> Gauges;

    /// Sends nothing more: waiting calls end with [`CallError::Closed`], those in flight go on.
    fn close(&self);
}
