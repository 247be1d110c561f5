//! What a server would certainly refuse, found before anything is sent.

use super::chat::{ChatRequest, Tool, ToolChoice};
use super::fim::FimRequest;
use super::message::Role;
use std::fmt::Display;

/// A request that would certainly be refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Expected `{field}` to be {expected}, got {got}")]
pub struct InvalidRequest {
    /// The field at fault, such as `messages[2].role`.
    pub field: String,
    /// What it may be.
    pub expected: &'static str,
    /// What it is.
    pub got: String,
}

/// An error unless `ok`.
fn expect(ok: bool, field: impl Into<String>, expected: &'static str, got: impl Display) -> Result<(), InvalidRequest> {
    if ok { Ok(()) } else { Err(InvalidRequest { field: field.into(), expected, got: got.to_string() }) }
}

fn expect_finite(field: &str, number: Option<f64>) -> Result<(), InvalidRequest> {
    number.map_or(Ok(()), |number| expect(number.is_finite(), field, "a finite number", number))
}

/// Empty or missing text.
fn expect_text(field: &str, text: &str) -> Result<(), InvalidRequest> {
    expect(!text.trim().is_empty(), field, "a name", format_args!("{text:?}"))
}

/// The sampling parameters that both kinds of request have.
struct Sampling<'a> {
    max_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    stop: &'a [String],
}

impl Sampling<'_> {
    fn validate(&self) -> Result<(), InvalidRequest> {
        expect_finite("temperature", self.temperature)?;
        expect_finite("top_p", self.top_p)?;
        expect_finite("frequency_penalty", self.frequency_penalty)?;
        expect_finite("presence_penalty", self.presence_penalty)
    }

    fn validate_deepseek(&self) -> Result<(), InvalidRequest> {
        if let Some(number) = self.temperature {
            expect((0.0..=2.0).contains(&number), "temperature", "between 0 and 2", number)?;
        }
        if let Some(number) = self.top_p {
            expect((0.0..=1.0).contains(&number), "top_p", "between 0 and 1", number)?;
        }
        expect(self.max_tokens != Some(0), "max_tokens", "at least 1", 0)?;
        expect(self.stop.len() <= 16, "stop", "at most 16 texts", self.stop.len())
    }
}

impl ChatRequest {
    fn sampling(&self) -> Sampling<'_> {
        Sampling {
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            stop: &self.stop,
        }
    }

    /// Finds what every provider would refuse: no model, no messages, a message without role, numbers that JSON does
    /// not have. The limits of one provider are not checked here, for another may accept more; see
    /// [`validate_deepseek`](Self::validate_deepseek).
    ///
    /// # Errors
    /// The first such field.
    pub fn validate(&self) -> Result<(), InvalidRequest> {
        expect_text("model", &self.model)?;
        expect(!self.messages.is_empty(), "messages", "at least one message", "none")?;
        if let Some(at) = self.messages.iter().position(|message| message.role.is_none()) {
            expect(false, format!("messages[{at}].role"), "set", "none")?;
        }
        self.sampling().validate()
    }

    /// [`validate`](Self::validate), and what DeepSeek's API refuses besides: numbers out of range, more than 16 stop
    /// texts or 128 tools, tool names it does not allow, `top_logprobs` without `logprobs`, `stream_options` without
    /// `stream`, a `user_id` over 512 bytes, the role `developer`, a tool message without `tool_call_id`, a `prefix`
    /// before the last message, forced tool calls while expressly thinking. The most tokens a model can generate
    /// changes with its version and is left to the server.
    ///
    /// # Errors
    /// The first such field.
    pub fn validate_deepseek(&self) -> Result<(), InvalidRequest> {
        self.validate()?;
        self.sampling().validate_deepseek()?;
        for (at, message) in self.messages.iter().enumerate() {
            let refuse = |name: &str, expected, got| expect(false, format!("messages[{at}].{name}"), expected, got);
            if message.role == Some(Role::Developer) {
                refuse("role", "`system` with DeepSeek", "`developer`")?;
            }
            if message.role == Some(Role::Tool) && message.tool_call_id.is_none() {
                refuse("tool_call_id", "the id of the call it answers", "none")?;
            }
            if message.prefix == Some(true) && at + 1 < self.messages.len() {
                refuse("prefix", "set on the last message only", "true")?;
            }
        }
        expect(self.tools.len() <= 128, "tools", "at most 128 tools", self.tools.len())?;
        for (at, tool) in self.tools.iter().enumerate() {
            validate_tool(at, tool)?;
        }
        let forces = match &self.tool_choice {
            Some(ToolChoice::Required) => true,
            Some(ToolChoice::Other(choice)) => choice.is_object(),
            _ => false,
        };
        expect(!(forces && self.is_thinking()), "tool_choice", "`none` or `auto` while thinking", "a forced call")?;
        if let Some(top) = self.top_logprobs {
            expect(top <= 20, "top_logprobs", "at most 20", top)?;
            let got = if self.logprobs.is_some() { "false" } else { "none" };
            expect(self.logprobs == Some(true), "logprobs", "true where `top_logprobs` is set", got)?;
        }
        let without_stream = self.stream_options.is_some() && self.stream != Some(true);
        expect(!without_stream, "stream_options", "set only where `stream` is true", "it without")?;
        let user_id = self.user_id.as_deref().map_or(0, str::len);
        expect(user_id <= 512, "user_id", "at most 512 bytes", user_id)
    }
}

fn validate_tool(at: usize, tool: &Tool) -> Result<(), InvalidRequest> {
    // A tool of another type than function is not ours to judge.
    let Some(function) = &tool.function else { return Ok(()) };
    let name = function.name.as_deref().unwrap_or_default();
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let ok = (1..=128).contains(&name.len()) && name.bytes().all(is_allowed);
    let start: String = name.chars().take(140).collect();
    let expected = "1 to 128 of letters, digits, `_` and `-`";
    expect(ok, format!("tools[{at}].function.name"), expected, format_args!("{start:?}"))
}

impl FimRequest {
    fn sampling(&self) -> Sampling<'_> {
        Sampling {
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            stop: &self.stop,
        }
    }

    /// Finds what every provider would refuse: no model, numbers that JSON does not have.
    ///
    /// # Errors
    /// The first such field.
    pub fn validate(&self) -> Result<(), InvalidRequest> {
        expect_text("model", &self.model)?;
        self.sampling().validate()
    }

    /// [`validate`](Self::validate), and what DeepSeek's API refuses besides: numbers out of range, more than 16 stop
    /// texts, `logprobs` over 20, `stream_options` without `stream`.
    ///
    /// # Errors
    /// The first such field.
    pub fn validate_deepseek(&self) -> Result<(), InvalidRequest> {
        self.validate()?;
        self.sampling().validate_deepseek()?;
        if let Some(logprobs) = self.logprobs {
            expect(logprobs <= 20, "logprobs", "at most 20", logprobs)?;
        }
        let without_stream = self.stream_options.is_some() && self.stream != Some(true);
        expect(!without_stream, "stream_options", "set only where `stream` is true", "it without")
    }
}
