//! Whole answers of `/chat/completions`.

use super::message::{Message, ToolCall};
use super::object::{JsonObject, lossless};
use super::usage::Usage;
use crate::core::facts::{Facts, Finish};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

/// A whole answer.
///
/// Any JSON object parses as one; [`ChatCompletion::error`] and an empty `choices` tell what is not an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatCompletion {
    /// The provider's id of the answer.
    pub id: Option<String>,
    /// `chat.completion`.
    pub object: Option<String>,
    /// When it was made, in Unix seconds.
    pub created: Option<u64>,
    /// The model that answered, which need not bear the name that was asked for.
    pub model: Option<String>,
    /// The backend configuration behind the answer.
    pub system_fingerprint: Option<String>,
    /// The answers: one, unless the request asked for more.
    pub choices: Vec<Choice>,
    /// The tokens used.
    pub usage: Option<Usage>,
    /// Everything else (see the [module](super) on `extra`).
    pub extra: JsonObject,
}

lossless!(ChatCompletion {
    id: string,
    object: string,
    created: parsed,
    model: string,
    system_fingerprint: string,
    choices: objects,
    usage: object,
});

impl ChatCompletion {
    /// The first choice's message.
    pub fn message(&self) -> Option<&Message> {
        self.choices.first()?.message.as_ref()
    }

    /// The first choice's text, if it is plain text; of content in parts, as Mistral's thinking models send it,
    /// [`Message::text`] gives the text.
    pub fn content(&self) -> Option<&str> {
        self.message()?.content()
    }

    /// The first choice's reasoning.
    pub fn reasoning(&self) -> Option<&str> {
        self.message()?.reasoning()
    }

    /// The first choice's tool calls.
    pub fn tool_calls(&self) -> &[ToolCall] {
        self.message().map_or(&[], |message| &message.tool_calls)
    }

    /// Why the first choice ended.
    pub fn finish_reason(&self) -> Option<&FinishReason> {
        self.choices.first()?.finish_reason.as_ref()
    }

    /// An error inside an answer whose status was 200, as providers behind OpenRouter send it.
    pub fn error(&self) -> Option<&Value> {
        error_in(&self.extra, self.choices.iter().map(|choice| &choice.extra))
    }

    /// What the scheduler needs to know of it.
    pub fn facts(&self) -> Facts {
        Facts {
            has_content: self.choices.iter().filter_map(|choice| choice.message.as_ref()).any(Message::has_content),
            finish: finish_of(self.choices.iter().map(|choice| &choice.finish_reason)),
            usage: self.usage.as_ref().map(Usage::count),
            error: self.error().cloned(),
        }
    }
}

/// The `error` of an answer, or of one of its choices.
pub(super) fn error_in<'a>(extra: &'a JsonObject, choices: impl Iterator<Item = &'a JsonObject>) -> Option<&'a Value> {
    std::iter::once(extra).chain(choices).filter_map(|extra| extra.get("error")).find(|error| !error.is_null())
}

/// How choices ended: a failure if one failed, else as the first that ended.
pub(super) fn finish_of<'a>(reasons: impl Iterator<Item = &'a Option<FinishReason>>) -> Option<Finish> {
    let kinds = reasons.flatten().map(FinishReason::kind);
    kinds.reduce(|first, next| if first.is_complete() && !next.is_complete() { next } else { first })
}

/// One of the answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// Its place among the choices.
    pub index: Option<u64>,
    /// What the model said.
    pub message: Option<Message>,
    /// The tokens' probabilities, if asked for.
    pub logprobs: Option<Logprobs>,
    /// Why it ended. An empty reason is none, and stays in `extra`.
    pub finish_reason: Option<FinishReason>,
    /// Everything else.
    pub extra: JsonObject,
}

lossless!(Choice { index: parsed, message: object, logprobs: object, finish_reason: word });

/// Why generation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FinishReason {
    /// A natural end or a stop sequence.
    Stop,
    /// The token limit was reached.
    Length,
    /// The model calls tools.
    ToolCalls,
    /// The same in the older form.
    FunctionCall,
    /// The provider's filter cut the answer.
    ContentFilter,
    /// DeepSeek ran out of resources in the middle.
    InsufficientSystemResource,
    /// The provider gave up.
    Aborted,
    /// OpenRouter: an error after generation began.
    Error,
    /// Any other.
    #[serde(untagged)]
    Other(String),
}

impl FinishReason {
    /// The same without the text of an unknown one.
    pub fn kind(&self) -> Finish {
        match self {
            Self::Stop => Finish::Stop,
            Self::Length => Finish::Length,
            Self::ToolCalls | Self::FunctionCall => Finish::ToolCalls,
            Self::ContentFilter => Finish::ContentFilter,
            Self::InsufficientSystemResource => Finish::InsufficientSystemResource,
            Self::Aborted => Finish::Aborted,
            Self::Error => Finish::Error,
            Self::Other(_) => Finish::Other,
        }
    }
}

/// The probabilities of what was said, a token each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logprobs {
    /// Of the content.
    pub content: Vec<TokenLogprob>,
    /// Of the reasoning (DeepSeek).
    pub reasoning_content: Vec<TokenLogprob>,
    /// Of the refusal.
    pub refusal: Vec<TokenLogprob>,
    /// Everything else.
    pub extra: JsonObject,
}

lossless!(Logprobs { content: objects, reasoning_content: objects, refusal: objects });

/// One token's probability.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: Option<String>,
    /// Its natural logarithm as it was sent (`0` and `0.0` stay apart); [`TokenLogprob::logprob`] gives the value.
    pub logprob: Option<Number>,
    /// Its UTF-8, for tokens that are not whole characters.
    pub bytes: Option<Vec<u8>>,
    /// The likeliest tokens at this place, if asked for.
    pub top_logprobs: Vec<TokenLogprob>,
    /// Everything else.
    pub extra: JsonObject,
}

lossless!(TokenLogprob { token: string, logprob: parsed, bytes: parsed, top_logprobs: objects });

impl TokenLogprob {
    /// The natural logarithm of the token's probability; DeepSeek sends -9999 for practically never.
    pub fn logprob(&self) -> Option<f64> {
        self.logprob.as_ref()?.as_f64()
    }
}
