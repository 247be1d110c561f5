//! Requests of `/chat/completions`.

use super::message::{Content, Message};
use super::object::{JsonObject, lossless};
use crate::core::tokens::{estimate, estimate_bytes};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io;

/// A request of `/chat/completions`.
///
/// ```
/// use tidegate::types::ChatRequest;
///
/// let request = ChatRequest::new("deepseek-flash")
///     .system("Answer in one sentence.")
///     .user("Why do tides come twice a day?")
///     .thinking(false)
///     .max_tokens(200);
/// request.validate()?;
/// # Ok::<(), tidegate::types::InvalidRequest>(())
/// ```
///
/// What is left `None` or empty is not sent, and the provider's default holds. A request that is read from JSON keeps
/// its unknown fields in `extra`; numbers and a lone `stop` may change their notation (`1` and `1.0`), not their meaning.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatRequest {
    /// The model to ask.
    pub model: String,
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// DeepSeek: whether the model reasons before it answers; it does by default.
    pub thinking: Option<Thinking>,
    /// How much the model reasons.
    pub reasoning_effort: Option<ReasoningEffort>,
    /// The most tokens to generate, reasoning included.
    pub max_tokens: Option<u64>,
    /// Randomness: 0 to 2 and 1 by default with DeepSeek, where it has no effect while thinking.
    pub temperature: Option<f64>,
    /// Nucleus sampling: the share of probability to choose from.
    pub top_p: Option<f64>,
    /// Texts at which to stop.
    pub stop: Vec<String>,
    /// The form of the answer.
    pub response_format: Option<ResponseFormat>,
    /// The tools the model may call.
    pub tools: Vec<Tool>,
    /// Whether it may, must or must not call them.
    pub tool_choice: Option<ToolChoice>,
    /// Whether to send the probability of each token.
    pub logprobs: Option<bool>,
    /// How many of the likeliest tokens to send at each place; needs `logprobs`.
    pub top_logprobs: Option<u32>,
    /// Against repetition; without effect with DeepSeek.
    pub frequency_penalty: Option<f64>,
    /// Against staying with one subject; without effect with DeepSeek.
    pub presence_penalty: Option<f64>,
    /// Whether to stream the answer.
    pub stream: Option<bool>,
    /// Of streaming.
    pub stream_options: Option<StreamOptions>,
    /// DeepSeek: on whose behalf the call is made; separates caches, and limits where an account has raised ones.
    pub user_id: Option<String>,
    /// Everything else (see the [module](super) on `extra`).
    pub extra: JsonObject,
}

lossless!(ChatRequest {
    model: required_string,
    messages: required_objects,
    thinking: parsed,
    reasoning_effort: parsed,
    max_tokens: parsed,
    temperature: parsed,
    top_p: parsed,
    stop: texts,
    response_format: parsed,
    tools: objects,
    tool_choice: parsed,
    logprobs: parsed,
    top_logprobs: parsed,
    frequency_penalty: parsed,
    presence_penalty: parsed,
    stream: parsed,
    stream_options: object,
    user_id: string,
});

impl ChatRequest {
    /// A request to `model` without messages yet.
    pub fn new(model: impl Into<String>) -> Self {
        Self { model: model.into(), ..Self::default() }
    }

    /// Adds a message.
    #[must_use]
    pub fn message(mut self, message: Message) -> Self {
        self.messages.push(message);
        self
    }

    /// Adds messages.
    #[must_use]
    pub fn messages(mut self, messages: impl IntoIterator<Item = Message>) -> Self {
        self.messages.extend(messages);
        self
    }

    /// Adds a system message.
    #[must_use]
    pub fn system(self, content: impl Into<Content>) -> Self {
        self.message(Message::system(content))
    }

    /// Adds a user message.
    #[must_use]
    pub fn user(self, content: impl Into<Content>) -> Self {
        self.message(Message::user(content))
    }

    /// Adds an assistant message.
    #[must_use]
    pub fn assistant(self, content: impl Into<Content>) -> Self {
        self.message(Message::assistant(content))
    }

    /// Switches reasoning on or off (DeepSeek).
    #[must_use]
    pub fn thinking(mut self, enabled: bool) -> Self {
        self.thinking = Some(if enabled { Thinking::enabled() } else { Thinking::disabled() });
        self
    }

    /// Sets how much the model reasons.
    #[must_use]
    pub fn reasoning_effort(mut self, effort: ReasoningEffort) -> Self {
        self.reasoning_effort = Some(effort);
        self
    }

    /// Sets the most tokens to generate.
    #[must_use]
    pub fn max_tokens(mut self, tokens: u64) -> Self {
        self.max_tokens = Some(tokens);
        self
    }

    /// Sets the randomness.
    #[must_use]
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = Some(temperature);
        self
    }

    /// Sets the share of probability to choose from.
    #[must_use]
    pub fn top_p(mut self, top_p: f64) -> Self {
        self.top_p = Some(top_p);
        self
    }

    /// Adds texts at which to stop.
    #[must_use]
    pub fn stop<S: Into<String>>(mut self, stop: impl IntoIterator<Item = S>) -> Self {
        self.stop.extend(stop.into_iter().map(Into::into));
        self
    }

    /// Asks for a JSON object. With DeepSeek the prompt must ask for JSON too, or the model may emit blanks up to its
    /// token limit.
    #[must_use]
    pub fn json(self) -> Self {
        self.response_format(ResponseFormat::json_object())
    }

    /// Sets the form of the answer.
    #[must_use]
    pub fn response_format(mut self, format: ResponseFormat) -> Self {
        self.response_format = Some(format);
        self
    }

    /// Adds tools.
    #[must_use]
    pub fn tools(mut self, tools: impl IntoIterator<Item = Tool>) -> Self {
        self.tools.extend(tools);
        self
    }

    /// Sets whether tools may, must or must not be called.
    #[must_use]
    pub fn tool_choice(mut self, choice: ToolChoice) -> Self {
        self.tool_choice = Some(choice);
        self
    }

    /// Asks for the probability of each token, and of the `top` likeliest at each place (0 for none).
    #[must_use]
    pub fn logprobs(mut self, top: u32) -> Self {
        self.logprobs = Some(true);
        self.top_logprobs = (top > 0).then_some(top);
        self
    }

    /// Sets on whose behalf the call is made (DeepSeek).
    #[must_use]
    pub fn user_id(mut self, user_id: impl Into<String>) -> Self {
        self.user_id = Some(user_id.into());
        self
    }

    /// Sets a field that has no typed one. A typed field of that name, if set, wins.
    #[must_use]
    pub fn extra(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extra.insert(field.into(), value.into());
        self
    }

    /// The prompt's tokens by DeepSeek's rule of thumb, for an [`Estimator`](crate::core::tokens::Estimator) to correct:
    /// the text of all messages and the definitions of the tools. Images and files are not counted.
    pub fn estimate_prompt_tokens(&self) -> f64 {
        let messages: f64 = self.messages.iter().map(estimate_message).sum();
        messages + if self.tool_choice == Some(ToolChoice::None) { 0.0 } else { estimate_tools(&self.tools) }
    }
}

fn estimate_tools(tools: &[Tool]) -> f64 {
    // The instructions on how to call tools that go before the definitions: 150 to 260 tokens in 69 recorded requests
    // to DeepSeek. With `tool_choice: none` neither was counted.
    const INSTRUCTIONS: f64 = 200.0;
    let mut tally = Tally(if tools.is_empty() { 0.0 } else { INSTRUCTIONS });
    // A tally takes all that is written, and a tool holds nothing that has no JSON.
    let _ = tools.iter().try_for_each(|tool| serde_json::to_writer(&mut tally, tool));
    tally.0
}

fn estimate_message(message: &Message) -> f64 {
    let content = match &message.content {
        Some(Content::Text(text)) => estimate(text),
        Some(Content::Parts(parts)) => parts.iter().filter_map(|part| part.text.as_deref()).map(estimate).sum(),
        None => 0.0,
    };
    let calls: f64 = message.tool_calls.iter().map(|call| estimate(call.name()) + estimate(call.arguments())).sum();
    content + calls + message.reasoning().map_or(0.0, estimate)
}

/// Counts the tokens of what is written to it.
struct Tally(f64);

impl io::Write for Tally {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += estimate_bytes(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// DeepSeek's switch of reasoning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thinking {
    /// `type`: on or off.
    #[serde(rename = "type")]
    pub kind: ThinkingKind,
    /// Everything else.
    #[serde(flatten)]
    pub extra: JsonObject,
}

impl Thinking {
    /// The model reasons first.
    pub fn enabled() -> Self {
        Self { kind: ThinkingKind::Enabled, extra: JsonObject::new() }
    }

    /// It answers at once.
    pub fn disabled() -> Self {
        Self { kind: ThinkingKind::Disabled, extra: JsonObject::new() }
    }
}

/// Whether the model reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ThinkingKind {
    /// It does.
    Enabled,
    /// It does not.
    Disabled,
    /// Any other.
    #[serde(untagged)]
    Other(String),
}

/// How much the model reasons. DeepSeek knows `low`, `high` (its default) and `max`, and takes `minimal` for `low`,
/// `medium` and `xhigh` for `high`, `ultra` for `max`; `none` switches reasoning off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum ReasoningEffort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Ultra,
    Max,
    /// Any other.
    #[serde(untagged)]
    Other(String),
}

/// Of streaming.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamOptions {
    /// Whether to send the usage in the end. DeepSeek does so unasked; OpenAI and others only if asked.
    pub include_usage: Option<bool>,
    /// Everything else.
    pub extra: JsonObject,
}

lossless!(StreamOptions { include_usage: parsed });

/// The form of an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResponseFormat {
    /// `type`: `text`, `json_object`, or elsewhere `json_schema`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Everything else, such as `json_schema`.
    #[serde(flatten)]
    pub extra: JsonObject,
}

impl ResponseFormat {
    /// Any text: the default.
    pub fn text() -> Self {
        Self { kind: "text".into(), extra: JsonObject::new() }
    }

    /// A JSON object.
    pub fn json_object() -> Self {
        Self { kind: "json_object".into(), extra: JsonObject::new() }
    }

    /// JSON by a schema; OpenAI and others have it, DeepSeek does not.
    pub fn json_schema(name: impl Into<String>, schema: Value) -> Self {
        let json_schema = json!({"name": name.into(), "schema": schema, "strict": true});
        Self { kind: "json_schema".into(), extra: [("json_schema".to_owned(), json_schema)].into_iter().collect() }
    }
}

/// A tool the model may call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tool {
    /// `type`: `function`, as a rule.
    pub kind: Option<String>,
    /// The function.
    pub function: Option<Function>,
    /// Everything else.
    pub extra: JsonObject,
}

lossless!(Tool { kind as "type": string, function: object });

impl Tool {
    /// A function with the JSON schema of its arguments. The schema's keys are sent in the order they have here, which
    /// is the order in which models tend to write the arguments.
    pub fn function(name: impl Into<String>, description: impl Into<String>, parameters: Value) -> Self {
        let function = Function {
            name: Some(name.into()),
            description: Some(description.into()),
            parameters: Some(parameters),
            ..Function::default()
        };
        Self { kind: Some("function".into()), function: Some(function), extra: JsonObject::new() }
    }

    /// Holds the model to the schema. With DeepSeek that needs the beta base URL, and a schema that requires every
    /// property and allows no others.
    #[must_use]
    pub fn strict(mut self) -> Self {
        if let Some(function) = &mut self.function {
            function.strict = Some(true);
        }
        self
    }
}

/// A function the model may call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Function {
    /// Its name; DeepSeek: at most 128 of letters, digits, `_` and `-`.
    pub name: Option<String>,
    /// What it does, for the model to know when to call it.
    pub description: Option<String>,
    /// The JSON schema of its arguments.
    pub parameters: Option<Value>,
    /// Whether the model is held to the schema.
    pub strict: Option<bool>,
    /// Everything else.
    pub extra: JsonObject,
}

lossless!(Function { name: string, description: string, parameters: value, strict: parsed });

/// Whether the model may, must or must not call tools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ToolChoice {
    /// It must not.
    None,
    /// It may.
    Auto,
    /// It must call one or more. DeepSeek refuses this while thinking.
    Required,
    /// What else there is: an object, or an unknown word. [`ToolChoice::function`] makes the usual one.
    #[serde(untagged)]
    Other(Value),
}

impl ToolChoice {
    /// The model must call the function `name`. DeepSeek refuses this while thinking.
    pub fn function(name: impl Into<String>) -> Self {
        Self::Other(json!({"type": "function", "function": {"name": name.into()}}))
    }
}

impl ChatRequest {
    /// Whether reasoning was expressly asked for.
    pub(super) fn is_thinking(&self) -> bool {
        self.thinking.as_ref().is_some_and(|thinking| thinking.kind == ThinkingKind::Enabled)
            && self.reasoning_effort != Some(ReasoningEffort::None)
    }
}
