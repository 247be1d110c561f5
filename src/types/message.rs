//! Messages, in requests and in answers alike: an answer's message can be put into the next request as it is.

use super::object::{JsonObject, lossless};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// Instructions.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// The result of a tool the model called.
    Tool,
    /// OpenAI's newer name of `system`; DeepSeek rejects it.
    Developer,
    /// DeepSeek: a reminder placed after the conversation; only the latest counts.
    LatestReminder,
    /// Any other.
    #[serde(untagged)]
    Other(String),
}

/// One message of a conversation.
///
/// An assistant message with tool calls must be sent back whole, `reasoning_content` included: DeepSeek refuses a
/// thinking model's tool-call turn without it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Option<Role>,
    /// What is said; none beside tool calls, as a rule.
    pub content: Option<Content>,
    /// DeepSeek: the model's reasoning before the answer. Other providers say `reasoning`: see [`Message::reasoning`].
    pub reasoning_content: Option<String>,
    /// Why the model declined, instead of content.
    pub refusal: Option<String>,
    /// The tools an assistant calls.
    pub tool_calls: Vec<ToolCall>,
    /// In a tool message: the call it answers.
    pub tool_call_id: Option<String>,
    /// A name that tells speakers of one role apart.
    pub name: Option<String>,
    /// DeepSeek, beta base URL: the model continues this last assistant message.
    pub prefix: Option<bool>,
    /// Everything else (see the [module](super) on `extra`).
    pub extra: JsonObject,
}

lossless!(Message {
    role: parsed,
    content: content,
    reasoning_content: string,
    refusal: string,
    tool_calls: objects,
    tool_call_id: string,
    name: string,
    prefix: parsed,
});

impl Message {
    /// A message of `role`.
    pub fn new(role: Role, content: impl Into<Content>) -> Self {
        Self { role: Some(role), content: Some(content.into()), ..Self::default() }
    }

    /// Instructions.
    pub fn system(content: impl Into<Content>) -> Self {
        Self::new(Role::System, content)
    }

    /// What the user says: text, or [parts](ContentPart) with images.
    pub fn user(content: impl Into<Content>) -> Self {
        Self::new(Role::User, content)
    }

    /// What the model said.
    pub fn assistant(content: impl Into<Content>) -> Self {
        Self::new(Role::Assistant, content)
    }

    /// The beginning of the model's answer, to be continued (DeepSeek, beta base URL; must be the last message).
    pub fn assistant_prefix(content: impl Into<Content>) -> Self {
        Self { prefix: Some(true), ..Self::assistant(content) }
    }

    /// The result of the tool call `tool_call_id`.
    pub fn tool(tool_call_id: impl Into<String>, content: impl Into<Content>) -> Self {
        Self { tool_call_id: Some(tool_call_id.into()), ..Self::new(Role::Tool, content) }
    }

    /// The text, if the content is plain text.
    pub fn content(&self) -> Option<&str> {
        self.content.as_ref().and_then(Content::as_str)
    }

    /// All text, also that of content in parts; empty if there is none.
    pub fn text(&self) -> Cow<'_, str> {
        self.content.as_ref().map(Content::text).unwrap_or_default()
    }

    /// The reasoning: `reasoning_content` (DeepSeek) or `reasoning` (OpenRouter, Groq and others).
    pub fn reasoning(&self) -> Option<&str> {
        self.reasoning_content.as_deref().or_else(|| self.extra.get("reasoning")?.as_str())
    }

    /// Whether anything is said at all.
    pub(crate) fn has_content(&self) -> bool {
        says_something(
            self.content.as_ref(),
            [&self.reasoning_content, &self.refusal],
            !self.tool_calls.is_empty(),
            &self.extra,
        )
    }
}

/// What a message or a delta must hold to count as content.
pub(super) fn says_something(
    content: Option<&Content>,
    texts: [&Option<String>; 2],
    calls_tools: bool,
    extra: &JsonObject,
) -> bool {
    // Other providers' names for content, and `content` itself where it is of an unknown shape.
    const OTHER: [&str; 5] = ["content", "reasoning", "reasoning_details", "audio", "function_call"];
    let is_filled = |value: &Value| match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    };
    calls_tools
        || content.is_some_and(|content| !content.is_empty())
        || texts.into_iter().flatten().any(|text| !text.is_empty())
        || OTHER.iter().any(|key| extra.get(*key).is_some_and(is_filled))
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Text, images and files in a row.
    Parts(Vec<ContentPart>),
}

impl Content {
    /// The text, if it is plain text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Parts(_) => None,
        }
    }

    /// The text of all text parts in a row.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Parts(parts) => Cow::Owned(parts.iter().filter_map(|part| part.text.as_deref()).collect()),
        }
    }

    /// Whether it is empty text or no parts.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Parts(parts) => parts.is_empty(),
        }
    }

    /// Adds what a stream's next delta says.
    pub(super) fn append(&mut self, more: &Self) {
        match (&mut *self, more) {
            (Self::Text(text), Self::Text(more)) => text.push_str(more),
            (_, more) if more.is_empty() => {}
            (Self::Parts(parts), Self::Text(more)) => match parts.last_mut() {
                Some(ContentPart { text: Some(text), .. }) => text.push_str(more),
                _ => parts.push(ContentPart::text(more.clone())),
            },
            (Self::Parts(parts), Self::Parts(more)) => parts.extend_from_slice(more),
            (Self::Text(text), Self::Parts(more)) => {
                let text = std::mem::take(text);
                let before = (!text.is_empty()).then(|| ContentPart::text(text));
                *self = Self::Parts(before.into_iter().chain(more.iter().cloned()).collect());
            }
        }
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<ContentPart>> for Content {
    fn from(parts: Vec<ContentPart>) -> Self {
        Self::Parts(parts)
    }
}

/// A part of a message: text, an image, a file, or what another provider has besides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContentPart {
    /// `type`: which of the fields counts, by name.
    pub kind: Option<String>,
    /// Of a `text` part.
    pub text: Option<String>,
    /// Of an `image_url` part: `url`, and `detail` (`low`, `high`, `original` or `auto`).
    pub image_url: Option<JsonObject>,
    /// Of a `file` part: `file_id`, or `file_data` and `filename`.
    pub file: Option<JsonObject>,
    /// Everything else.
    pub extra: JsonObject,
}

lossless!(ContentPart { kind as "type": string, text: string, image_url: object, file: object });

impl ContentPart {
    /// A piece of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { kind: Some("text".into()), text: Some(text.into()), ..Self::default() }
    }

    /// An image by its URL, or as a `data:` URL.
    pub fn image_url(url: impl Into<String>) -> Self {
        Self { kind: Some("image_url".into()), image_url: Some(object([("url", url.into())])), ..Self::default() }
    }

    /// The same with `detail`: `low`, `high`, `original` or `auto`.
    pub fn image_url_with_detail(url: impl Into<String>, detail: impl Into<String>) -> Self {
        let image_url = object([("url", url.into()), ("detail", detail.into())]);
        Self { kind: Some("image_url".into()), image_url: Some(image_url), ..Self::default() }
    }

    /// A file uploaded before.
    pub fn file_id(id: impl Into<String>) -> Self {
        Self { kind: Some("file".into()), file: Some(object([("file_id", id.into())])), ..Self::default() }
    }

    /// A file sent along, as a `data:` URL.
    pub fn file_data(filename: impl Into<String>, data: impl Into<String>) -> Self {
        let file = object([("file_data", data.into()), ("filename", filename.into())]);
        Self { kind: Some("file".into()), file: Some(file), ..Self::default() }
    }
}

fn object<const N: usize>(fields: [(&str, String); N]) -> JsonObject {
    fields.into_iter().map(|(key, value)| (key.to_owned(), Value::String(value))).collect()
}

/// A call of a tool, or in a stream a piece of one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolCall {
    /// In a stream: which of the parallel calls this is a piece of.
    pub index: Option<u64>,
    /// What the tool's answer refers to.
    pub id: Option<String>,
    /// `type`: `function`, as a rule.
    pub kind: Option<String>,
    /// The function and its arguments.
    pub function: Option<FunctionCall>,
    /// Everything else.
    pub extra: JsonObject,
}

lossless!(ToolCall { index: parsed, id: string, kind as "type": string, function: object });

impl ToolCall {
    /// The function's name; empty if there is none.
    pub fn name(&self) -> &str {
        self.function.as_ref().and_then(|function| function.name.as_deref()).unwrap_or_default()
    }

    /// The arguments, as the model wrote them; empty if there are none. They can be no valid JSON, and are cut off when
    /// the answer's finish reason is `length`.
    pub fn arguments(&self) -> &str {
        self.function.as_ref().and_then(|function| function.arguments.as_deref()).unwrap_or_default()
    }

    /// The arguments, parsed.
    ///
    /// # Errors
    /// They are not JSON, or not of this type.
    pub fn parse_arguments<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.arguments())
    }
}

/// The function a tool call names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FunctionCall {
    /// Its name.
    pub name: Option<String>,
    /// Its arguments: JSON as text, or in a stream a piece of it.
    pub arguments: Option<String>,
    /// Everything else.
    pub extra: JsonObject,
}

lossless!(FunctionCall { name: string, arguments: string });
