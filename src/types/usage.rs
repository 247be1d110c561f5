//! What an answer used.

use super::object::{JsonObject, lossless};
use crate::core::tokens::TokenCount;

/// `usage` of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
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

lossless!(Usage {
    prompt_tokens: parsed,
    completion_tokens: parsed,
    total_tokens: parsed,
    prompt_cache_hit_tokens: parsed,
    prompt_cache_miss_tokens: parsed,
    prompt_tokens_details: object,
    completion_tokens_details: object,
});

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

/// What the prompt tokens were.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptTokensDetails {
    /// Those that came from the provider's cache.
    pub cached_tokens: Option<u64>,
    /// Everything else.
    pub extra: JsonObject,
}

lossless!(PromptTokensDetails { cached_tokens: parsed });

/// What the completion tokens were.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CompletionTokensDetails {
    /// Those of the reasoning; DeepSeek sends it only when the model was thinking.
    pub reasoning_tokens: Option<u64>,
    /// Everything else.
    pub extra: JsonObject,
}

lossless!(CompletionTokensDetails { reasoning_tokens: parsed });
