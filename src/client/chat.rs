//! Chat calls.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::error::Error;
use super::exchange::{Answer, CallOptions, Prepared, Subject, ask};
use super::gate::Gate;
use super::options::call_options;
use super::reply::Reply;
use super::stream::{ChatStream, Continuation, Resume};
use crate::core::facts::Facts;
use crate::transport::Wire;
use crate::types::{
    ChatCompletion, ChatRequest, Content, JsonObject, Message, ReasoningEffort, ResponseFormat, StreamOptions, Tool,
    ToolChoice,
};

/// A chat call in the making, from [`Client::chat`](super::Client::chat). [`send`](Self::send) or
/// [`stream`](Self::stream) makes the call.
#[must_use = "a call does nothing until `send` or `stream`"]
pub struct ChatCall {
    gate: Arc<Gate>,
    request: ChatRequest,
    options: CallOptions,
    resume: bool,
}

/// The request's setters, as they are on [`ChatRequest`].
macro_rules! forward {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $kind:ty),*);)*) => {
        $($(#[$doc])*
        pub fn $name(mut self, $($argument: $kind),*) -> Self {
            self.request = self.request.$name($($argument),*);
            self
        })*
    };
}

impl ChatCall {
    pub(super) fn new(gate: Arc<Gate>, request: ChatRequest) -> Self {
        Self { gate, request, options: CallOptions::default(), resume: false }
    }

    forward! {
        /// Adds a system message.
        system(content: impl Into<Content>);
        /// Adds a user message.
        user(content: impl Into<Content>);
        /// Adds an assistant message.
        assistant(content: impl Into<Content>);
        /// Adds a message.
        message(message: Message);
        /// Adds messages.
        messages(messages: impl IntoIterator<Item = Message>);
        /// Switches reasoning on or off (DeepSeek).
        thinking(enabled: bool);
        /// Sets how much the model reasons.
        reasoning_effort(effort: ReasoningEffort);
        /// Sets the most tokens to generate.
        max_tokens(tokens: u64);
        /// Sets the randomness.
        temperature(temperature: f64);
        /// Sets the share of probability to choose from.
        top_p(top_p: f64);
        /// Adds texts at which to stop.
        stop(stop: impl IntoIterator<Item = impl Into<String>>);
        /// Asks for a JSON object. The prompt must ask for JSON too.
        json();
        /// Sets the form of the answer.
        response_format(format: ResponseFormat);
        /// Adds tools.
        tools(tools: impl IntoIterator<Item = Tool>);
        /// Sets whether tools may, must or must not be called.
        tool_choice(choice: ToolChoice);
        /// Asks for the tokens' probabilities, and for those of so many alternatives, 0 for none.
        logprobs(top: u32);
        /// Sets on whose behalf the call is made (DeepSeek).
        user_id(user_id: impl Into<String>);
        /// Sets a field that has no typed one.
        extra(field: impl Into<String>, value: impl Into<serde_json::Value>);
    }

    call_options!();

    /// Has the rest asked for when a [`stream`](Self::stream) breaks off after part of it was handed out: by chat prefix
    /// completion (<https://api-docs.deepseek.com/guides/chat_prefix_completion>), with what came as the beginning of the
    /// answer. The stream then goes on as if nothing had happened; its [`Report::resumed`](super::Report::resumed) says
    /// how often it did. Default: it ends with [`ErrorKind::Interrupted`](super::ErrorKind::Interrupted).
    ///
    /// It is for text alone: what breaks off before the text, in the reasoning or in tool calls, or has more than one
    /// choice, ends as without it. And every route must have prefix completion: DeepSeek's do, others if they were given a
    /// [`beta_url`](super::Route::beta_url). The rest is a call of its own: it waits for a permit, its prompt (with the text
    /// so far) is paid for, `max_tokens` counts anew, and `usage` is that of the last call. It is done at most as many
    /// times as the client's retry policy has attempts, and within the call's deadline.
    pub fn resume(mut self) -> Self {
        self.resume = true;
        self
    }

    /// The request as it stands.
    pub fn request(&self) -> &ChatRequest {
        &self.request
    }

    /// Makes the call and waits for the whole answer.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](super::ErrorKind::InvalidRequest), `QueueFull`, `NoRoute` or `Closed` before anything
    /// is sent; the other [kinds](super::ErrorKind) once retrying and failing over have come to nothing.
    pub fn send(mut self) -> impl Future<Output = Result<Reply<ChatCompletion>, Error>> {
        self.request.stream = None;
        self.request.stream_options = None;
        ask(self.prepare(false))
    }

    /// Makes the call and returns its stream as soon as the first content has come, so that everything that goes wrong
    /// before is retried, and what can't be is an error here. The usage is asked for (`stream_options.include_usage`),
    /// unless the request says otherwise.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn stream(mut self) -> impl Future<Output = Result<ChatStream, Error>> {
        self.request.stream = Some(true);
        self.request
            .stream_options
            .get_or_insert_with(|| StreamOptions { include_usage: Some(true), ..StreamOptions::default() });
        let (gate, choices) = (&self.gate, choices(&self.request.extra));
        let continuation = (self.resume && choices == 1 && gate.endpoints.iter().all(|endpoint| endpoint.continues))
            .then(|| {
                let rest = Rest { gate: gate.clone(), request: self.request.clone(), options: self.options.clone() };
                Continuation::new(Box::new(rest))
            });
        ChatStream::start(self.prepare(true), choices, continuation)
    }

    /// Serialises the request, so that the call is small while it is under way.
    fn prepare(self, stream: bool) -> Result<Box<Prepared>, Error> {
        // Moved out only in part, at the end: a request is large.
        let Self { gate, request, .. } = &self;
        match gate.endpoints.iter().all(|endpoint| endpoint.deepseek) {
            true => request.validate_deepseek()?,
            false => request.validate()?,
        }
        let body =
            serde_json::to_vec(request).map_err(|error| Error::invalid(format!("no JSON can be made: {error}")))?;
        let mut wire = Wire::json("/chat/completions", body, stream);
        let continues = request.messages.last().is_some_and(|last| last.prefix == Some(true));
        let is_strict = |tool: &Tool| tool.function.as_ref().is_some_and(|function| function.strict == Some(true));
        wire.beta = continues || request.tools.iter().any(is_strict);
        let tokens = gate.settings.expected_tokens(|| request.estimate_prompt_tokens() as u64, request.max_tokens);
        let Self { gate, options, request: ChatRequest { model, user_id, .. }, .. } = self;
        let subject = Subject { operation: "chat", model, user_id, tokens };
        Ok(Box::new(Prepared { gate, options, subject, wire }))
    }
}

/// How many choices a request asks for. DeepSeek gives one, so it is in no typed field.
pub(super) fn choices(extra: &JsonObject) -> u64 {
    extra.get("n").and_then(serde_json::Value::as_u64).unwrap_or(1)
}

/// What it takes to ask for the rest of an answer.
struct Rest {
    gate: Arc<Gate>,
    request: ChatRequest,
    options: CallOptions,
}

impl Resume<ChatCompletion> for Rest {
    fn prepare(&self, so_far: &ChatCompletion, elapsed: Duration) -> Option<Box<Prepared>> {
        let [choice] = &*so_far.choices else { return None };
        let message = choice.message.as_ref()?;
        let text = message.content().filter(|text| !text.is_empty())?;
        if choice.finish_reason.is_some() || !message.tool_calls.is_empty() || message.refusal.is_some() {
            return None;
        }
        let mut request = self.request.clone();
        // The caller may have begun the answer, too.
        let begun = match request.messages.last() {
            Some(last) if last.prefix == Some(true) => request.messages.pop(),
            _ => None,
        };
        let begun = begun.as_ref().and_then(Message::content).unwrap_or_default();
        let mut prefix = Message::assistant_prefix([begun, text].concat());
        prefix.reasoning_content.clone_from(&message.reasoning_content);
        request.messages.push(prefix);
        let mut options = self.options.clone();
        if let Some(deadline) = options.deadline.or(self.gate.settings.deadline) {
            options.deadline = Some(deadline.checked_sub(elapsed).filter(|left| !left.is_zero())?);
        }
        ChatCall { gate: self.gate.clone(), request, options, resume: false }.prepare(true).ok()
    }
}

impl Answer for ChatCompletion {
    fn facts(&self) -> Facts {
        ChatCompletion::facts(self)
    }

    fn is_answer(&self) -> bool {
        !self.choices.is_empty()
    }

    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }
}

impl fmt::Debug for ChatCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatCall")
            .field("request", &self.request)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
