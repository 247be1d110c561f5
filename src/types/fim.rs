//! Fill-in-the-middle completions: `/completions`, with DeepSeek on its beta base URL.

use super::chat::StreamOptions;
use super::completion::{FinishReason, error_in, finish_of};
use super::object::{JsonObject, lossless};
use super::stream::{keep_first, keep_last, keep_last_name, keep_name, replace, unshadow};
use super::usage::Usage;
use crate::core::facts::Facts;
use crate::core::tokens::estimate;
use serde_json::Value;
use std::collections::BTreeMap;

/// A request of `/completions`: what stands between `prompt` and `suffix`? DeepSeek answers without thinking, and with
/// at most 4,096 tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FimRequest {
    /// The model to ask.
    pub model: String,
    /// What stands before.
    pub prompt: String,
    /// What stands after.
    pub suffix: Option<String>,
    /// The most tokens to generate.
    pub max_tokens: Option<u64>,
    /// Randomness, 0 to 2 with DeepSeek.
    pub temperature: Option<f64>,
    /// Nucleus sampling: the share of probability to choose from.
    pub top_p: Option<f64>,
    /// Texts at which to stop.
    pub stop: Vec<String>,
    /// Whether to repeat the prompt in the answer.
    pub echo: Option<bool>,
    /// How many of the likeliest tokens to send at each place.
    pub logprobs: Option<u32>,
    /// Against repetition; without effect with DeepSeek.
    pub frequency_penalty: Option<f64>,
    /// Against staying with one subject; without effect with DeepSeek.
    pub presence_penalty: Option<f64>,
    /// Whether to stream the answer.
    pub stream: Option<bool>,
    /// Of streaming.
    pub stream_options: Option<StreamOptions>,
    /// Everything else (see the [module](super) on `extra`).
    pub extra: JsonObject,
}

lossless!(FimRequest {
    model: required_string,
    prompt: required_string,
    suffix: string,
    max_tokens: parsed,
    temperature: parsed,
    top_p: parsed,
    stop: texts,
    echo: parsed,
    logprobs: parsed,
    frequency_penalty: parsed,
    presence_penalty: parsed,
    stream: parsed,
    stream_options: object,
});

impl FimRequest {
    /// A request to `model` for what follows `prompt`.
    pub fn new(model: impl Into<String>, prompt: impl Into<String>) -> Self {
        Self { model: model.into(), prompt: prompt.into(), ..Self::default() }
    }

    /// Sets what stands after.
    #[must_use]
    pub fn suffix(mut self, suffix: impl Into<String>) -> Self {
        self.suffix = Some(suffix.into());
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

    /// Adds texts at which to stop.
    #[must_use]
    pub fn stop<S: Into<String>>(mut self, stop: impl IntoIterator<Item = S>) -> Self {
        self.stop.extend(stop.into_iter().map(Into::into));
        self
    }

    /// Sets a field that has no typed one. A typed field of that name, if set, wins.
    #[must_use]
    pub fn extra(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extra.insert(field.into(), value.into());
        self
    }

    /// The prompt's tokens by DeepSeek's rule of thumb, for an [`Estimator`](crate::core::tokens::Estimator) to correct.
    pub fn estimate_prompt_tokens(&self) -> f64 {
        estimate(&self.prompt) + self.suffix.as_deref().map_or(0.0, estimate)
    }
}

/// A whole answer of `/completions`; an event of a streamed one has the same shape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FimCompletion {
    /// The provider's id of the answer.
    pub id: Option<String>,
    /// `text_completion`.
    pub object: Option<String>,
    /// When it was made, in Unix seconds.
    pub created: Option<u64>,
    /// The model that answered.
    pub model: Option<String>,
    /// The backend configuration behind the answer.
    pub system_fingerprint: Option<String>,
    /// The answers: one, unless the request asked for more.
    pub choices: Vec<FimChoice>,
    /// The tokens used.
    pub usage: Option<Usage>,
    /// Everything else (see the [module](super) on `extra`).
    pub extra: JsonObject,
}

lossless!(FimCompletion {
    id: string,
    object: string,
    created: parsed,
    model: string,
    system_fingerprint: string,
    choices: objects,
    usage: object,
});

impl FimCompletion {
    /// The first choice's text: what belongs in the middle, or in a stream a piece of it.
    pub fn text(&self) -> Option<&str> {
        self.choices.first()?.text.as_deref()
    }

    /// Why the first choice ended, if it did.
    pub fn finish_reason(&self) -> Option<&FinishReason> {
        self.choices.first()?.finish_reason.as_ref()
    }

    /// An error inside an answer whose status was 200.
    pub fn error(&self) -> Option<&Value> {
        error_in(&self.extra, self.choices.iter().map(|choice| &choice.extra))
    }

    /// What the scheduler needs to know of it.
    pub fn facts(&self) -> Facts {
        Facts {
            has_content: self.choices.iter().filter_map(|choice| choice.text.as_ref()).any(|text| !text.is_empty()),
            finish: finish_of(self.choices.iter().map(|choice| &choice.finish_reason)),
            usage: self.usage.as_ref().map(Usage::count),
            error: self.error().cloned(),
        }
    }
}

/// One of the answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FimChoice {
    /// Its place among the choices.
    pub index: Option<u64>,
    /// What belongs in the middle.
    pub text: Option<String>,
    /// The tokens' probabilities, if asked for: `tokens`, `token_logprobs`, `top_logprobs` and `text_offset`, lists in
    /// parallel.
    pub logprobs: Option<JsonObject>,
    /// Why it ended. An empty reason is none, and stays in `extra`.
    pub finish_reason: Option<FinishReason>,
    /// Everything else.
    pub extra: JsonObject,
}

lossless!(FimChoice { index: parsed, text: string, logprobs: object, finish_reason: word });

/// Puts a streamed fill-in-the-middle answer together; see [`ChatAssembler`](super::ChatAssembler).
#[derive(Clone, Debug, Default)]
pub struct FimAssembler {
    whole: FimCompletion,
    choices: BTreeMap<u64, FimChoice>,
}

impl FimAssembler {
    /// An assembler that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a chunk.
    pub fn push(&mut self, chunk: &FimCompletion) {
        let whole = &mut self.whole;
        keep_name(&mut whole.id, &chunk.id);
        keep_name(&mut whole.object, &chunk.object);
        keep_first(&mut whole.created, &chunk.created);
        keep_name(&mut whole.model, &chunk.model);
        keep_last_name(&mut whole.system_fingerprint, &chunk.system_fingerprint);
        keep_last(&mut whole.usage, &chunk.usage);
        chunk.extra.iter().for_each(|(key, value)| replace(&mut whole.extra, key, value));
        for part in &chunk.choices {
            let choice = self.choices.entry(part.index.unwrap_or(0)).or_default();
            if let Some(text) = &part.text {
                choice.text.get_or_insert_default().push_str(text);
            }
            keep_last(&mut choice.finish_reason, &part.finish_reason);
            for (key, more) in part.logprobs.iter().flatten() {
                match (choice.logprobs.get_or_insert_default().get_mut(key), more) {
                    (Some(Value::Array(items)), Value::Array(more)) => items.extend_from_slice(more),
                    _ => replace(choice.logprobs.get_or_insert_default(), key, more),
                }
            }
            part.extra.iter().for_each(|(key, value)| replace(&mut choice.extra, key, value));
        }
    }

    /// How many choices have begun.
    pub fn choices(&self) -> usize {
        self.choices.len()
    }

    /// Whether every choice that began has ended with a finish reason. `false` before the first choice.
    pub fn is_finished(&self) -> bool {
        !self.choices.is_empty() && self.choices.values().all(|choice| choice.finish_reason.is_some())
    }

    /// The answer: whole if [`is_finished`](Self::is_finished), else as far as it came.
    pub fn finish(self) -> FimCompletion {
        let mut whole = self.whole;
        unshadow(&mut whole.extra, "usage", whole.usage.is_some());
        unshadow(&mut whole.extra, "system_fingerprint", whole.system_fingerprint.is_some());
        unshadow(&mut whole.extra, "choices", !self.choices.is_empty());
        let choices = self.choices.into_iter().map(|(index, mut choice)| {
            choice.extra.shift_remove("index");
            unshadow(&mut choice.extra, "text", choice.text.is_some());
            unshadow(&mut choice.extra, "finish_reason", choice.finish_reason.is_some());
            unshadow(&mut choice.extra, "logprobs", choice.logprobs.is_some());
            FimChoice { index: Some(index), ..choice }
        });
        whole.choices = choices.collect();
        whole
    }
}
