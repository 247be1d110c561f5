//! Fill-in-the-middle calls.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use super::chat::choices;
use super::error::Error;
use super::exchange::{Answer, CallOptions, Prepared, Subject, ask};
use super::gate::Gate;
use super::options::call_options;
use super::reply::Reply;
use super::stream::FimStream;
use crate::core::facts::Facts;
use crate::transport::Wire;
use crate::types::{FimCompletion, FimRequest, StreamOptions};

/// A fill-in-the-middle call in the making, from [`Client::fim`](super::Client::fim). [`send`](Self::send) or
/// [`stream`](Self::stream) makes the call.
#[must_use = "a call does nothing until `send` or `stream`"]
pub struct FimCall {
    gate: Arc<Gate>,
    request: FimRequest,
    options: CallOptions,
}

impl FimCall {
    pub(super) fn new(gate: Arc<Gate>, request: FimRequest) -> Self {
        Self { gate, request, options: CallOptions::default() }
    }

    /// Sets what stands before.
    pub fn prompt(mut self, prompt: impl Into<String>) -> Self {
        self.request.prompt = prompt.into();
        self
    }

    /// Sets what stands after.
    pub fn suffix(mut self, suffix: impl Into<String>) -> Self {
        self.request.suffix = Some(suffix.into());
        self
    }

    /// Sets the most tokens to generate; DeepSeek takes at most 4,096.
    pub fn max_tokens(mut self, tokens: u64) -> Self {
        self.request.max_tokens = Some(tokens);
        self
    }

    /// Sets the randomness.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.request.temperature = Some(temperature);
        self
    }

    /// Adds texts at which to stop.
    pub fn stop(mut self, stop: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.request.stop.extend(stop.into_iter().map(Into::into));
        self
    }

    call_options!();

    /// The request as it stands.
    pub fn request(&self) -> &FimRequest {
        &self.request
    }

    /// Makes the call and waits for the whole answer.
    ///
    /// # Errors
    /// As [`ChatCall::send`](super::ChatCall::send).
    pub fn send(mut self) -> impl Future<Output = Result<Reply<FimCompletion>, Error>> {
        self.request.stream = None;
        self.request.stream_options = None;
        ask(self.prepare(false))
    }

    /// Makes the call and returns its stream as soon as the first text has come.
    ///
    /// # Errors
    /// As [`ChatCall::send`](super::ChatCall::send).
    pub fn stream(mut self) -> impl Future<Output = Result<FimStream, Error>> {
        self.request.stream = Some(true);
        self.request
            .stream_options
            .get_or_insert_with(|| StreamOptions { include_usage: Some(true), ..StreamOptions::default() });
        let choices = choices(&self.request.extra);
        FimStream::start(self.prepare(true), choices, None)
    }

    /// Serialises the request, so that the call is small while it is under way.
    fn prepare(self, stream: bool) -> Result<Box<Prepared>, Error> {
        let Self { gate, request, options } = self;
        match gate.endpoints.iter().all(|endpoint| endpoint.deepseek) {
            true => request.validate_deepseek()?,
            false => request.validate()?,
        }
        let body =
            serde_json::to_vec(&request).map_err(|error| Error::invalid(format!("no JSON can be made: {error}")))?;
        let mut wire = Wire::json("/completions", body, stream);
        wire.beta = true;
        let tokens = gate.settings.expected_tokens(|| request.estimate_prompt_tokens() as u64, request.max_tokens);
        let subject = Subject { operation: "text_completion", model: request.model, user_id: None, tokens };
        Ok(Box::new(Prepared { gate, options, subject, wire }))
    }
}

impl Answer for FimCompletion {
    fn facts(&self) -> Facts {
        FimCompletion::facts(self)
    }

    fn is_answer(&self) -> bool {
        !self.choices.is_empty()
    }

    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }
}

impl fmt::Debug for FimCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FimCall")
            .field("request", &self.request)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
