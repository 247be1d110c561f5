//! The one error type of the client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::core::call::{AttemptRecord, Failure, History};
pub use crate::core::error::ErrorKind;
use crate::core::outcome::{Outcome, OutcomeKind};
use crate::core::scheduler::{ConfigError, SubmitError};
use crate::transport::{Endpoint, ErrorResponse};
use crate::types::{InvalidRequest, Usage};

/// One attempt of a call.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AttemptReport {
    /// The route it was sent by.
    pub route: Arc<str>,
    /// When it was sent, since the client was made.
    pub sent: Duration,
    /// How long it took to end.
    pub took: Duration,
    /// What it came to.
    pub outcome: OutcomeKind,
    /// The HTTP status, if an answer's head came.
    pub status: Option<u16>,
    /// The server's or the transport's words.
    pub message: Option<String>,
    /// The server's id of the request.
    pub request_id: Option<String>,
}

/// What had come of an answer that broke off.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Partial {
    /// The text so far.
    pub text: String,
    /// The reasoning so far.
    pub reasoning: String,
    /// The tokens used, if that was told already.
    pub usage: Option<Usage>,
}

/// Why a call failed.
///
/// It is one pointer wide, and holds no key: keys that a server echoes are struck out.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    message: Option<Box<str>>,
    outcome: Option<Outcome>,
    route: Option<Arc<str>>,
    /// The last attempt is what decided.
    is_last: bool,
    attempts: Vec<AttemptReport>,
    sent: u32,
    elapsed: Duration,
    partial: Option<Partial>,
    response: Option<Box<ErrorResponse>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Box<str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: Some(message.into()),
            outcome: None,
            route: None,
            is_last: false,
            attempts: Vec::new(),
            sent: 0,
            elapsed: Duration::ZERO,
            partial: None,
            response: None,
        }))
    }

    pub(crate) fn config(message: impl Into<Box<str>>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    pub(crate) fn invalid(message: impl Into<Box<str>>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message)
    }

    pub(crate) fn of_failure(failure: Failure, endpoints: &[Endpoint], response: Option<Box<ErrorResponse>>) -> Self {
        let Failure { kind, outcome, route, history, elapsed } = failure;
        let sent = history.sent();
        let is_last = match (&outcome, history.records().last()) {
            (Some(outcome), Some(last)) => {
                Some(last.route) == route && last.kind == outcome.kind && last.request_id == outcome.request_id
            }
            // It was given up before anything came of it.
            (outcome, _) => outcome.is_none(),
        };
        let attempts = reports(history, endpoints);
        let route = route.map(|route| endpoints[route.index()].name.clone());
        Self(Box::new(Inner {
            kind: ErrorKind::of(kind, outcome.as_ref().map(|outcome| outcome.kind)),
            message: None,
            route: route.or_else(|| attempts.last().map(|last| last.route.clone())),
            is_last,
            sent,
            attempts,
            elapsed,
            partial: None,
            // The response belongs to the last attempt; a failure for another reason must not show it as its cause.
            response: response.filter(|response| {
                outcome.as_ref().is_some_and(|outcome| outcome.status == Some(response.status.as_u16()))
            }),
            outcome,
        }))
    }

    /// Of a request that went past the scheduler.
    pub(crate) fn of_outcome(outcome: Outcome, route: Arc<str>, sent: u32, elapsed: Duration) -> Self {
        Self(Box::new(Inner {
            kind: ErrorKind::of_outcome(outcome.kind),
            message: None,
            route: Some(route),
            is_last: true,
            attempts: Vec::new(),
            sent,
            elapsed,
            partial: None,
            response: None,
            outcome: Some(outcome),
        }))
    }

    #[must_use]
    pub(crate) fn with_partial(mut self, partial: Partial) -> Self {
        self.0.partial = Some(partial);
        self
    }

    /// With the attempts of calls that this one went on from.
    #[must_use]
    pub(crate) fn with_earlier(mut self, attempts: &[AttemptReport], sent: u32) -> Self {
        self.0.attempts.splice(0..0, attempts.iter().cloned());
        self.0.sent += sent;
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The HTTP status of the decisive answer. An error inside an answer whose status was 200 has 200.
    pub fn status(&self) -> Option<u16> {
        self.0.outcome.as_ref()?.status
    }

    /// The server's own words, the transport's, or what is wrong with the request.
    pub fn message(&self) -> Option<&str> {
        self.0.message.as_deref().or_else(|| self.0.outcome.as_ref()?.message.as_deref())
    }

    /// The `code` of the server's error. DeepSeek says `invalid_request_error` whatever it was.
    pub fn code(&self) -> Option<&str> {
        self.0.outcome.as_ref()?.code.as_deref()
    }

    /// The `type` of the server's error.
    pub fn error_type(&self) -> Option<&str> {
        self.0.outcome.as_ref()?.error_type.as_deref()
    }

    /// The route whose answer decided, which need not be the last attempt's: where every route is stopped, it is the one
    /// whose stop ended the call. Where nothing came of any attempt, the last attempt's.
    pub fn route(&self) -> Option<&str> {
        self.0.route.as_deref()
    }

    /// The attempts, oldest first. Of very many only the first few and the last are kept;
    /// [`attempts_made`](Self::attempts_made) counts them all.
    pub fn attempts(&self) -> &[AttemptReport] {
        &self.0.attempts
    }

    /// How many attempts were sent.
    pub fn attempts_made(&self) -> u32 {
        self.0.sent
    }

    /// How long the call took, waiting included.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed
    }

    /// How long the server asked to wait before the next try.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.outcome.as_ref()?.retry_after
    }

    /// The server's id of the request, for its support.
    pub fn request_id(&self) -> Option<&str> {
        self.0.outcome.as_ref()?.request_id.as_deref()
    }

    /// What had come of an answer that broke off.
    pub fn partial(&self) -> Option<&Partial> {
        self.0.partial.as_ref()
    }

    /// The answer that was an error, as it came; only keys are struck out.
    pub fn response(&self) -> Option<&ErrorResponse> {
        self.0.response.as_deref()
    }

    /// Whether the same call might succeed later. The client has retried already: this is for who can wait longer.
    pub fn is_retryable(&self) -> bool {
        self.0.kind.is_retryable()
    }
}

/// A call's attempts with the names of their routes.
pub(super) fn reports(history: History, endpoints: &[Endpoint]) -> Vec<AttemptReport> {
    let report = |record: AttemptRecord| AttemptReport {
        route: endpoints[record.route.index()].name.clone(),
        sent: Duration::from_micros(record.sent.as_micros()),
        took: record.took,
        outcome: record.kind,
        status: record.status,
        message: record.message.map(Into::into),
        request_id: record.request_id.map(Into::into),
    };
    history.into_records().into_iter().map(report).collect()
}

impl fmt::Display for Error {
    /// One sentence: what happened, where, the server's words, and what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, route, is_last, sent, .. } = &*self.0;
        if self.0.outcome.is_none()
            && let Some(message) = &self.0.message
        {
            return f.write_str(message);
        }
        f.write_str(kind.what_happened())?;
        match (route, sent) {
            (Some(route), 0) => write!(f, " (route `{route}`, nothing was sent")?,
            (Some(route), _) if *is_last => write!(f, " (route `{route}`, attempt {sent}")?,
            (Some(route), 1) => write!(f, " (route `{route}`, after 1 attempt")?,
            (Some(route), _) => write!(f, " (route `{route}`, after {sent} attempts")?,
            (None, _) => f.write_str(" (nothing was sent")?,
        }
        if let Some(status) = self.status() {
            write!(f, ", status {status}")?;
        }
        if let Some(id) = self.request_id() {
            write!(f, ", request id {id}")?;
        }
        f.write_str(")")?;
        if let Some(message) = self.message() {
            write!(f, ": {}", message.trim_end_matches('.'))?;
        }
        if let Some(wait) = self.retry_after().filter(|wait| !wait.is_zero()) {
            write!(f, "; the server asks to wait {} s", wait.as_secs_f64().ceil())?;
        }
        match kind.advice() {
            "" => Ok(()),
            advice => write!(f, "; {advice}"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("route", &self.0.route)
            .field("status", &self.status())
            .field("message", &self.message())
            .field("code", &self.code())
            .field("request_id", &self.request_id())
            .field("retry_after", &self.retry_after())
            .field("attempts", &self.0.attempts)
            .field("elapsed", &self.0.elapsed)
            .field("partial", &self.0.partial)
            .finish()
    }
}

impl std::error::Error for Error {}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::config(error.to_string())
    }
}

impl From<InvalidRequest> for Error {
    fn from(error: InvalidRequest) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<SubmitError> for Error {
    fn from(error: SubmitError) -> Self {
        let kind = match &error {
            SubmitError::QueueFull { .. } => ErrorKind::QueueFull,
            SubmitError::NoRoute { .. } => ErrorKind::NoRoute,
            SubmitError::Closed => ErrorKind::Closed,
        };
        Self::new(kind, error.to_string())
    }
}
