//! Typed requests and answers of DeepSeek's API and of any API shaped like OpenAI's.
//!
//! Nothing is lost between JSON and these types. Every object has a field `extra` that keeps whatever its typed fields
//! cannot represent exactly, under its own name: unknown fields, `null`s, empty lists, empty finish reasons and values of
//! an unexpected type. So answers of providers that bend the protocol parse as well, and reading an answer and writing it
//! again gives JSON equal to the original but for the order of keys. (Integers beyond 64 bits become floats, as everywhere
//! in `serde_json`.) When an object is written, a typed field that is set wins over a field of that name in `extra`.
//!
//! Requests are written with their fields in one fixed order: a prefix of the conversation gives the same bytes each
//! time, which is what [DeepSeek's context cache](https://api-docs.deepseek.com/guides/kv_cache) rewards.

mod balance;
mod chat;
mod completion;
mod fim;
mod message;
mod models;
mod object;
mod stream;
mod usage;
mod validate;

pub use balance::{Balance, BalanceInfo};
pub use chat::{
    ChatRequest, Function, ReasoningEffort, ResponseFormat, StreamOptions, Thinking, ThinkingKind, Tool, ToolChoice,
};
pub use completion::{ChatCompletion, Choice, FinishReason, Logprobs, TokenLogprob};
pub use fim::{FimAssembler, FimChoice, FimCompletion, FimRequest};
pub use message::{Content, ContentPart, FunctionCall, Message, Role, ToolCall};
pub use models::{Model, ModelList};
pub use object::JsonObject;
pub use stream::{ChatAssembler, ChatChunk, ChunkChoice, Delta};
pub use usage::{CompletionTokensDetails, PromptTokensDetails, Usage};
pub use validate::InvalidRequest;
