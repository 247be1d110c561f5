//! What the scheduler needs to know of an answer, whatever its shape on the wire.

use super::tokens::TokenCount;
use serde_json::Value;

/// What one answer, or one chunk of a streamed answer, says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The model has said something: text, reasoning, a refusal or a tool call. An empty first delta, which only names
    /// the role, is not content.
    pub has_content: bool,
    /// Why generation ended, if it did.
    pub finish: Option<Finish>,
    /// The tokens used, if told.
    pub usage: Option<TokenCount>,
    /// An `error` inside an answer whose status was 200, as it was sent.
    pub error: Option<Value>,
}

/// Why generation ended: `finish_reason` without the text of unknown ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Finish {
    /// A natural end or a stop sequence.
    Stop,
    /// The token limit was reached.
    Length,
    /// The model calls tools (`tool_calls`, or the older `function_call`).
    ToolCalls,
    /// The provider's filter cut the answer.
    ContentFilter,
    /// DeepSeek ran out of resources in the middle: treat as an overloaded service.
    InsufficientSystemResource,
    /// The provider gave up.
    Aborted,
    /// OpenRouter's mark of an error after generation began; the answer's `error` says which.
    Error,
    /// A reason this version does not know.
    Other,
}

impl Finish {
    /// Whether the answer before it is whole as far as the model is concerned; unknown reasons count as whole.
    pub fn is_complete(self) -> bool {
        !matches!(self, Self::InsufficientSystemResource | Self::Aborted | Self::Error)
    }
}
