//! Calls whose JSON is the caller's own: a batch's lines, a proxy's bodies, endpoints without types here.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize as _;

use super::error::Error;
use super::exchange::{Answer, CallOptions, Prepared, Subject, ask};
use super::gate::Gate;
use super::options::call_options;
use super::reply::Reply;
use crate::core::facts::Facts;
use crate::transport::Wire;
use crate::types::{JsonObject, Usage};

/// A JSON call in the making, from [`Client::json`](super::Client::json). [`send`](Self::send) makes the call.
#[must_use = "a call does nothing until `send`"]
pub struct JsonCall {
    gate: Arc<Gate>,
    path: String,
    body: Vec<u8>,
    options: CallOptions,
}

impl JsonCall {
    pub(super) fn new(gate: Arc<Gate>, path: String, body: Vec<u8>) -> Self {
        Self { gate, path, body, options: CallOptions::default() }
    }

    call_options!();

    /// Makes the call and waits for the whole answer. The body goes out as it is, but for the model's name on a route
    /// that knows it by another. What DeepSeek has at its beta base only (fill-in-the-middle, a message with `prefix`, strict
    /// tools) goes there. A blank 200 is retried as overload, and an error object inside a 200 is an error, as for
    /// typed calls.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`](super::ErrorKind::InvalidRequest) if the body is no JSON object with a string
    /// `model`, or asks for a stream; else as [`ChatCall::send`](super::ChatCall::send).
    pub async fn send(self) -> Result<Reply<JsonObject>, Error> {
        if self.path.ends_with("/completions") {
            let Reply { answer: Completion(answer), report } = ask(self.prepare()).await?;
            return Ok(Reply::new(answer, report));
        }
        ask(self.prepare()).await
    }

    fn prepare(self) -> Result<Box<Prepared>, Error> {
        let Self { gate, path, body, options } = self;
        let Asked { model, user_id } = Asked::of(&body)?;
        if !path.starts_with('/') {
            return Err(Error::invalid(format!("Expected `path` to begin with a slash, got {path:?}")));
        }
        let operation = if path.ends_with("/chat/completions") { "chat" } else { "text_completion" };
        // Four bytes of JSON to a token is near enough for a first estimate; the answer's usage corrects it.
        let tokens = gate.settings.expected_tokens(|| body.len() as u64 / 4, Some(0));
        let beta = match &*path {
            "/completions" => true,
            "/chat/completions" => is_beta(&body),
            _ => false,
        };
        let mut wire = Wire::json(path, body, false);
        wire.beta = beta;
        let subject = Subject { operation, model, user_id, tokens };
        Ok(Box::new(Prepared { gate, options, subject, wire }))
    }
}

impl fmt::Debug for JsonCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonCall").field("path", &self.path).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// Whether a chat goes on with an answer that is begun, or has strict tools: DeepSeek has both at its beta base only, and
/// elsewhere a prefix is answered as if it were a message like any other.
fn is_beta(body: &[u8]) -> bool {
    let has = |name: &str| memchr::memmem::find(body, name.as_bytes()).is_some();
    if !has("\"prefix\"") && !has("\"strict\"") {
        return false;
    }
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else { return false };
    let is_strict = |tool: &serde_json::Value| tool["function"]["strict"] == true;
    body["messages"].as_array().and_then(|messages| messages.last()).is_some_and(|last| last["prefix"] == true)
        || body["tools"].as_array().is_some_and(|tools| tools.iter().any(is_strict))
}

/// What the gate must know of a body.
struct Asked {
    model: String,
    user_id: Option<String>,
}

impl Asked {
    fn of(body: &[u8]) -> Result<Self, Error> {
        #[derive(serde::Deserialize)]
        struct Fields {
            model: String,
            #[serde(default)]
            user_id: Option<String>,
            #[serde(default)]
            stream: Option<bool>,
        }
        let asked: Fields = serde_json::from_slice(body)
            .map_err(|error| Error::invalid(format!("Expected `body` to be a JSON object with a `model`: {error}")))?;
        if asked.model.is_empty() {
            return Err(Error::invalid("Expected `model` to be a non-empty string, got \"\""));
        }
        if asked.stream == Some(true) {
            return Err(Error::invalid(
                "Expected `stream` to be absent or false: this call waits for the whole answer",
            ));
        }
        Ok(Self { model: asked.model, user_id: asked.user_id })
    }
}

/// An answer of an endpoint whose answers have choices.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Completion(JsonObject);

impl Answer for Completion {
    fn facts(&self) -> Facts {
        self.0.facts()
    }

    fn is_answer(&self) -> bool {
        self.0.get("choices").and_then(|choices| choices.as_array()).is_some_and(|choices| !choices.is_empty())
    }

    fn model(&self) -> Option<&str> {
        self.0.model()
    }
}

impl Answer for JsonObject {
    fn facts(&self) -> Facts {
        let usage = self.get("usage").and_then(|usage| Usage::deserialize(usage).ok());
        Facts { usage: usage.map(|usage| usage.count()), ..Facts::default() }
    }

    fn is_answer(&self) -> bool {
        true
    }

    fn model(&self) -> Option<&str> {
        self.get("model")?.as_str()
    }
}
