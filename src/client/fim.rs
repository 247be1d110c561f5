//! Fill-in-the-middle calls.

use std::fmt;
use std::sync::Arc;

use super::chat::USUAL_COMPLETION;
use super::error::Error;
use super::exchange::{Answer, CallOptions, Exchange, Subject, ask};
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
    pub async fn send(self) -> Result<Reply<FimCompletion>, Error> {
        let Self { gate, mut request, options } = self;
        request.stream = None;
        request.stream_options = None;
        let wire = wire(&gate, &request, false)?;
        ask(&gate, &options, &subject(&gate, &request), wire).await
    }

    /// Makes the call and returns its stream as soon as the first text has come.
    ///
    /// # Errors
    /// As [`ChatCall::send`](super::ChatCall::send).
    pub async fn stream(self) -> Result<FimStream, Error> {
        let Self { gate, mut request, options } = self;
        request.stream = Some(true);
        request
            .stream_options
            .get_or_insert_with(|| StreamOptions { include_usage: Some(true), ..StreamOptions::default() });
        let wire = wire(&gate, &request, true)?;
        let exchange = Exchange::submit(&gate, &options, &subject(&gate, &request), wire)?;
        FimStream::start(exchange).await
    }
}

fn subject<'a>(gate: &Gate, request: &'a FimRequest) -> Subject<'a> {
    let tokens = match gate.settings.counts_tokens {
        true => (request.estimate_prompt_tokens() as u64)
            .saturating_add(request.max_tokens.unwrap_or(USUAL_COMPLETION).min(USUAL_COMPLETION)),
        false => 0,
    };
    let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
    Subject { operation: "text_completion", model: &request.model, user_id: None, tokens }
}

fn wire(gate: &Gate, request: &FimRequest, stream: bool) -> Result<Wire, Error> {
    match gate.endpoints.iter().all(|endpoint| endpoint.deepseek) {
        true => request.validate_deepseek()?,
        false => request.validate()?,
    }
    let body = serde_json::to_vec(request).map_err(|error| Error::invalid(format!("no JSON can be made: {error}")))?;
    let mut wire = Wire::json("/completions", body, stream);
    wire.beta = true;
    Ok(wire)
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
