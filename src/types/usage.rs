//! What an answer used.

use super::object::{JsonObject, Reader, Writer};
use crate::core::tokens::TokenCount;
use serde::{Deserialize, Serialize, Serializer};

/// `usage` of an answer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "JsonObject")]
pub struct Usage {
    /// Tokens of the prompt, cached or not.
    pub prompt_tokens: Option<u64>,
    /// Tokens generated, reasoning included.
    pub completion_tokens: Option<u64>,
    /// Both together.
    pub total_tokens: Option<u64>,
    /// DeepSeek: prompt tokens that were in its context cache.
    pub prompt_cache_hit_tokens: Option<u64>,
    /// DeepSeek: prompt tokens that were not.
    pub prompt_cache_miss_tokens: Option<u64>,
    /// OpenAI's way to tell the same, and more.
    pub prompt_tokens_details: Option<PromptTokensDetails>,
    /// What the completion tokens were.
    pub completion_tokens_details: Option<CompletionTokensDetails>,
    /// Everything else (see the [module](super) on `extra`).
    pub extra: JsonObject,
}

impl Usage {
    /// The same for accounting. What the provider did not tell is 0, but for `prompt` and `completion`, which are
    /// derived from the other counts where possible.
    pub fn count(&self) -> TokenCount {
        let details = self.prompt_tokens_details.as_ref();
        let hit = self.prompt_cache_hit_tokens.or(details.and_then(|details| details.cached_tokens));
        let rest = |part: Option<u64>| Some(self.total_tokens?.saturating_sub(part?));
        let parts = || Some(self.prompt_cache_hit_tokens?.saturating_add(self.prompt_cache_miss_tokens?));
        TokenCount {
            prompt: self.prompt_tokens.or_else(parts).or_else(|| rest(self.completion_tokens)).unwrap_or(0),
            cached: hit.unwrap_or(0),
            completion: self.completion_tokens.or_else(|| rest(self.prompt_tokens)).unwrap_or(0),
            reasoning: self.completion_tokens_details.as_ref().and_then(|d| d.reasoning_tokens).unwrap_or(0),
        }
    }
}

impl From<JsonObject> for Usage {
    fn from(object: JsonObject) -> Self {
        let mut fields = Reader::new(object);
        Self {
            prompt_tokens: fields.parsed("prompt_tokens"),
            completion_tokens: fields.parsed("completion_tokens"),
            total_tokens: fields.parsed("total_tokens"),
            prompt_cache_hit_tokens: fields.parsed("prompt_cache_hit_tokens"),
            prompt_cache_miss_tokens: fields.parsed("prompt_cache_miss_tokens"),
            prompt_tokens_details: fields.object("prompt_tokens_details"),
            completion_tokens_details: fields.object("completion_tokens_details"),
            extra: fields.rest(),
        }
    }
}

impl Serialize for Usage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = Writer::new(serializer, &self.extra)?;
        fields.some("prompt_tokens", &self.prompt_tokens)?;
        fields.some("completion_tokens", &self.completion_tokens)?;
        fields.some("total_tokens", &self.total_tokens)?;
        fields.some("prompt_cache_hit_tokens", &self.prompt_cache_hit_tokens)?;
        fields.some("prompt_cache_miss_tokens", &self.prompt_cache_miss_tokens)?;
        fields.some("prompt_tokens_details", &self.prompt_tokens_details)?;
        fields.some("completion_tokens_details", &self.completion_tokens_details)?;
        fields.end()
    }
}

/// What the prompt tokens were.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "JsonObject")]
pub struct PromptTokensDetails {
    /// Those that came from the provider's cache.
    pub cached_tokens: Option<u64>,
    /// Everything else.
    pub extra: JsonObject,
}

impl From<JsonObject> for PromptTokensDetails {
    fn from(object: JsonObject) -> Self {
        let mut fields = Reader::new(object);
        Self { cached_tokens: fields.parsed("cached_tokens"), extra: fields.rest() }
    }
}

impl Serialize for PromptTokensDetails {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = Writer::new(serializer, &self.extra)?;
        fields.some("cached_tokens", &self.cached_tokens)?;
        fields.end()
    }
}

/// What the completion tokens were.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "JsonObject")]
pub struct CompletionTokensDetails {
    /// Those of the reasoning; DeepSeek sends it only when the model was thinking.
    pub reasoning_tokens: Option<u64>,
    /// Everything else.
    pub extra: JsonObject,
}

impl From<JsonObject> for CompletionTokensDetails {
    fn from(object: JsonObject) -> Self {
        let mut fields = Reader::new(object);
        Self { reasoning_tokens: fields.parsed("reasoning_tokens"), extra: fields.rest() }
    }
}

impl Serialize for CompletionTokensDetails {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = Writer::new(serializer, &self.extra)?;
        fields.some("reasoning_tokens", &self.reasoning_tokens)?;
        fields.end()
    }
}
