//! An answer with how it came about.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::error::{AttemptReport, reports};
use super::gate::Gate;
use crate::core::scheduler::Done;

/// An answer, and how it came about. It dereferences to the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply<T> {
    pub(super) answer: T,
    pub(super) report: Report,
}

/// How an answer came about.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The route that answered.
    pub route: Arc<str>,
    /// Its attempts, the successful one last. Of very many only the first few and the last are kept.
    pub attempts: Vec<AttemptReport>,
    /// How many attempts were sent.
    pub attempts_made: u32,
    /// From submission to the end of the answer, waiting included.
    pub elapsed: Duration,
    /// How many times the stream broke off and was gone on with; see [`ChatCall::resume`](super::ChatCall::resume).
    pub resumed: u32,
}

impl Report {
    pub(super) fn of(done: Done, gate: &Gate) -> Self {
        Self {
            route: gate.endpoint(done.route).name.clone(),
            attempts_made: done.history.sent(),
            attempts: reports(done.history, &gate.endpoints),
            elapsed: done.elapsed,
            resumed: 0,
        }
    }

    /// The server's id of the request, for its support.
    pub fn request_id(&self) -> Option<&str> {
        self.attempts.last()?.request_id.as_deref()
    }
}

impl Default for Report {
    fn default() -> Self {
        Self { route: "".into(), attempts: Vec::new(), attempts_made: 0, elapsed: Duration::ZERO, resumed: 0 }
    }
}

impl<T> Reply<T> {
    pub(super) fn new(answer: T, report: Report) -> Self {
        Self { answer, report }
    }

    /// The answer alone.
    pub fn into_inner(self) -> T {
        self.answer
    }

    /// How it came about.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The route that answered.
    pub fn route(&self) -> &str {
        &self.report.route
    }

    /// The attempts, the successful one last.
    pub fn attempts(&self) -> &[AttemptReport] {
        &self.report.attempts
    }

    /// From submission to the end of the answer, waiting included.
    pub fn elapsed(&self) -> Duration {
        self.report.elapsed
    }

    /// The server's id of the request, for its support.
    pub fn request_id(&self) -> Option<&str> {
        self.report.request_id()
    }
}

impl<T> Deref for Reply<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.answer
    }
}
