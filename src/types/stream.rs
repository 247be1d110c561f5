//! Streamed answers of `/chat/completions`: the chunks, and how they become a whole answer again.

use super::completion::{ChatCompletion, Choice, FinishReason, Logprobs, error_in, finish_of};
use super::message::{Content, FunctionCall, Message, Role, ToolCall, says_something};
use super::object::{JsonObject, lossless};
use super::usage::Usage;
use crate::core::facts::Facts;
use serde_json::Value;
use std::collections::BTreeMap;

/// One event of a streamed answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatChunk {
    /// The provider's id of the answer, the same in every chunk.
    pub id: Option<String>,
    /// `chat.completion.chunk`.
    pub object: Option<String>,
    /// When the answer was begun, in Unix seconds.
    pub created: Option<u64>,
    /// The model that answers.
    pub model: Option<String>,
    /// The backend configuration behind the answer.
    pub system_fingerprint: Option<String>,
    /// What is new; none in a chunk that only brings the usage.
    pub choices: Vec<ChunkChoice>,
    /// The tokens used: DeepSeek sends it with the finish reason, others in a last chunk without choices.
    pub usage: Option<Usage>,
    /// Everything else (see the [module](super) on `extra`).
    pub extra: JsonObject,
}

lossless!(ChatChunk {
    id: string,
    object: string,
    created: parsed,
    model: string,
    system_fingerprint: string,
    choices: objects,
    usage: object,
});

impl ChatChunk {
    /// The first choice's delta.
    pub fn delta(&self) -> Option<&Delta> {
        self.choices.first()?.delta.as_ref()
    }

    /// The text the first choice adds.
    pub fn content(&self) -> Option<&str> {
        self.delta()?.content()
    }

    /// The reasoning the first choice adds.
    pub fn reasoning(&self) -> Option<&str> {
        self.delta()?.reasoning()
    }

    /// Why the first choice ended, if it did.
    pub fn finish_reason(&self) -> Option<&FinishReason> {
        self.choices.first()?.finish_reason.as_ref()
    }

    /// An error in the middle of the stream.
    pub fn error(&self) -> Option<&Value> {
        error_in(&self.extra, self.choices.iter().map(|choice| &choice.extra))
    }

    /// What the scheduler needs to know of it.
    pub fn facts(&self) -> Facts {
        Facts {
            has_content: self.choices.iter().filter_map(|choice| choice.delta.as_ref()).any(Delta::has_content),
            finish: finish_of(self.choices.iter().map(|choice| &choice.finish_reason)),
            usage: self.usage.as_ref().map(Usage::count),
            error: self.error().cloned(),
        }
    }
}

/// What a chunk adds to one choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChunkChoice {
    /// Which choice.
    pub index: Option<u64>,
    /// What is added to its message.
    pub delta: Option<Delta>,
    /// The probabilities of the tokens added.
    pub logprobs: Option<Logprobs>,
    /// Why it ended, if it did. Some servers send an empty reason until then, which is none and stays in `extra`.
    pub finish_reason: Option<FinishReason>,
    /// Everything else.
    pub extra: JsonObject,
}

lossless!(ChunkChoice { index: parsed, delta: object, logprobs: object, finish_reason: word });

/// What a chunk adds to a message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// Who speaks; as a rule only in the first.
    pub role: Option<Role>,
    /// More content.
    pub content: Option<Content>,
    /// DeepSeek: more reasoning.
    pub reasoning_content: Option<String>,
    /// More of a refusal.
    pub refusal: Option<String>,
    /// Pieces of tool calls.
    pub tool_calls: Vec<ToolCall>,
    /// Everything else.
    pub extra: JsonObject,
}

lossless!(Delta { role: word, content: content, reasoning_content: string, refusal: string, tool_calls: objects });

impl Delta {
    /// The text added.
    pub fn content(&self) -> Option<&str> {
        self.content.as_ref().and_then(Content::as_str)
    }

    /// The reasoning added: `reasoning_content` (DeepSeek) or `reasoning` (OpenRouter, Groq and others).
    pub fn reasoning(&self) -> Option<&str> {
        self.reasoning_content.as_deref().or_else(|| self.extra.get("reasoning")?.as_str())
    }

    fn has_content(&self) -> bool {
        says_something(
            self.content.as_ref(),
            [&self.reasoning_content, &self.refusal],
            !self.tool_calls.is_empty(),
            &self.extra,
        )
    }
}

/// Puts a streamed answer together.
///
/// Choices and tool calls are told apart by their `index`, in whatever order and however large: a large index costs no
/// more than a small one, and all that is kept is what was received. [`finish`](Self::finish) can be called at any
/// time: of a stream that broke it gives the answer so far.
#[derive(Clone, Debug, Default)]
pub struct ChatAssembler {
    whole: ChatCompletion,
    choices: BTreeMap<u64, Assembly>,
}

/// One choice on the way.
#[derive(Clone, Debug, Default)]
struct Assembly {
    choice: Choice,
    message: Message,
    /// The calls by index, and where one index was used for several calls by their order.
    calls: BTreeMap<(u64, usize), ToolCall>,
    /// The call of the last piece, which a piece without index continues.
    last_call: Option<(u64, usize)>,
}

impl ChatAssembler {
    /// An assembler that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a chunk.
    pub fn push(&mut self, chunk: &ChatChunk) {
        let whole = &mut self.whole;
        keep_name(&mut whole.id, &chunk.id);
        keep_first(&mut whole.created, &chunk.created);
        keep_name(&mut whole.model, &chunk.model);
        keep_last_name(&mut whole.system_fingerprint, &chunk.system_fingerprint);
        keep_last(&mut whole.usage, &chunk.usage);
        for (key, value) in &chunk.extra {
            // OpenAI's random padding against guessing a token by its length is not part of the answer.
            if key != "obfuscation" {
                replace(&mut whole.extra, key, value);
            }
        }
        for part in &chunk.choices {
            self.choices.entry(part.index.unwrap_or(0)).or_default().push(part);
        }
    }

    /// How many choices have begun. Of several that were asked for, one may begin when another has ended.
    pub fn choices(&self) -> usize {
        self.choices.len()
    }

    /// Whether every choice that began has ended with a finish reason. `false` before the first choice.
    pub fn is_finished(&self) -> bool {
        !self.choices.is_empty() && self.choices.values().all(|assembly| assembly.choice.finish_reason.is_some())
    }

    /// The answer: whole if [`is_finished`](Self::is_finished), else as far as it came.
    pub fn finish(self) -> ChatCompletion {
        let mut whole = self.whole;
        whole.object = Some("chat.completion".into());
        // A `null` of early chunks, or an empty list, that a later chunk filled.
        whole.extra.shift_remove("object");
        unshadow(&mut whole.extra, "usage", whole.usage.is_some());
        unshadow(&mut whole.extra, "system_fingerprint", whole.system_fingerprint.is_some());
        unshadow(&mut whole.extra, "choices", !self.choices.is_empty());
        whole.choices = self.choices.into_iter().map(|(index, assembly)| assembly.finish(index)).collect();
        whole
    }
}

impl Assembly {
    fn push(&mut self, part: &ChunkChoice) {
        keep_last(&mut self.choice.finish_reason, &part.finish_reason);
        if let Some(more) = &part.logprobs {
            let logprobs = self.choice.logprobs.get_or_insert_default();
            logprobs.content.extend_from_slice(&more.content);
            logprobs.reasoning_content.extend_from_slice(&more.reasoning_content);
            logprobs.refusal.extend_from_slice(&more.refusal);
            merge(&mut logprobs.extra, &more.extra);
        }
        for (key, value) in &part.extra {
            replace(&mut self.choice.extra, key, value);
        }
        if let Some(delta) = &part.delta {
            self.push_delta(delta);
        }
    }

    fn push_delta(&mut self, delta: &Delta) {
        let message = &mut self.message;
        keep_first(&mut message.role, &delta.role);
        match (&mut message.content, &delta.content) {
            (Some(content), Some(more)) => content.append(more),
            (content, more) => keep_first(content, more),
        }
        append(&mut message.reasoning_content, &delta.reasoning_content);
        append(&mut message.refusal, &delta.refusal);
        merge(&mut message.extra, &delta.extra);
        for piece in &delta.tool_calls {
            self.push_call(piece);
        }
    }

    fn push_call(&mut self, piece: &ToolCall) {
        let key = self.key_of(piece);
        self.last_call = Some(key);
        let call = self.calls.entry(key).or_default();
        keep_first(&mut call.index, &piece.index);
        keep_name(&mut call.id, &piece.id);
        keep_name(&mut call.kind, &piece.kind);
        if let Some(more) = &piece.function {
            let function = call.function.get_or_insert_with(FunctionCall::default);
            keep_name(&mut function.name, &more.name);
            append(&mut function.arguments, &more.arguments);
            merge(&mut function.extra, &more.extra);
        }
        merge(&mut call.extra, &piece.extra);
    }

    /// The call a piece belongs to. Some providers send no index, or the same for all parallel calls: an id that
    /// differs begins another call.
    fn key_of(&self, piece: &ToolCall) -> (u64, usize) {
        let current = match piece.index {
            Some(index) => self.calls.range((index, 0)..=(index, usize::MAX)).next_back(),
            None => self.last_call.and_then(|key| self.calls.get_key_value(&key)),
        };
        fn id_of(call: &ToolCall) -> Option<&str> {
            call.id.as_deref().filter(|id| !id.is_empty())
        }
        let id = id_of(piece);
        match current {
            Some((key, call)) if id.is_none() || id_of(call).is_none_or(|old| Some(old) == id) => *key,
            Some((&(index, nth), _)) => (index, nth.saturating_add(1)),
            None => (piece.index.unwrap_or(0), 0),
        }
    }

    fn finish(self, index: u64) -> Choice {
        let Self { mut choice, mut message, calls, .. } = self;
        message.tool_calls = calls.into_values().collect();
        unshadow(&mut message.extra, "content", message.content.is_some());
        unshadow(&mut message.extra, "reasoning_content", message.reasoning_content.is_some());
        unshadow(&mut message.extra, "refusal", message.refusal.is_some());
        unshadow(&mut message.extra, "role", message.role.is_some());
        unshadow(&mut message.extra, "tool_calls", !message.tool_calls.is_empty());
        // Perplexity repeats the whole message beside each delta.
        choice.extra.shift_remove("message");
        choice.extra.shift_remove("index");
        unshadow(&mut choice.extra, "finish_reason", choice.finish_reason.is_some());
        unshadow(&mut choice.extra, "logprobs", choice.logprobs.is_some());
        if let Some(logprobs) = &mut choice.logprobs {
            unshadow(&mut logprobs.extra, "content", !logprobs.content.is_empty());
            unshadow(&mut logprobs.extra, "reasoning_content", !logprobs.reasoning_content.is_empty());
            unshadow(&mut logprobs.extra, "refusal", !logprobs.refusal.is_empty());
        }
        choice.index = Some(index);
        choice.message = Some(message);
        choice
    }
}

pub(super) fn keep_first<T: Clone>(kept: &mut Option<T>, new: &Option<T>) {
    if kept.is_none() {
        kept.clone_from(new);
    }
}

/// The first that is not empty: some providers send empty names before or after the real one.
pub(super) fn keep_name(kept: &mut Option<String>, new: &Option<String>) {
    if new.is_some() && kept.as_ref().is_none_or(String::is_empty) {
        kept.clone_from(new);
    }
}

/// The last that is not empty.
pub(super) fn keep_last_name(kept: &mut Option<String>, new: &Option<String>) {
    if kept.is_none() || new.as_ref().is_some_and(|new| !new.is_empty()) {
        keep_last(kept, new);
    }
}

pub(super) fn keep_last<T: Clone>(kept: &mut Option<T>, new: &Option<T>) {
    if new.is_some() {
        kept.clone_from(new);
    }
}

fn append(text: &mut Option<String>, more: &Option<String>) {
    if let Some(more) = more {
        text.get_or_insert_default().push_str(more);
    }
}

pub(super) fn unshadow(extra: &mut JsonObject, key: &str, is_typed: bool) {
    if is_typed {
        extra.shift_remove(key);
    }
}

/// The latest value counts, but for `null` and empty text, which never replace one.
pub(super) fn replace(object: &mut JsonObject, key: &str, value: &Value) {
    let says_nothing = value.is_null() || value == "";
    if !says_nothing || !object.contains_key(key) {
        object.insert(key.to_owned(), value.clone());
    }
}

/// Adds the unknown fields of a delta: text and lists grow, objects are merged, anything else is replaced. Elements of
/// lists that bear an `index` are told apart by it, as tool calls are.
fn merge(object: &mut JsonObject, delta: &JsonObject) {
    for (key, more) in delta {
        match (object.get_mut(key), more) {
            (Some(Value::String(text)), Value::String(more)) if !is_name(key) => text.push_str(more),
            (Some(Value::Object(fields)), Value::Object(more)) => merge(fields, more),
            (Some(Value::Array(items)), Value::Array(more)) => more.iter().for_each(|item| merge_item(items, item)),
            _ => replace(object, key, more),
        }
    }
}

/// Whether a field's text names something, and so comes whole even where it is repeated in every delta: `id`, and
/// `call_id` as well.
fn is_name(key: &str) -> bool {
    const NAMES: [&str; 9] = ["channel", "format", "id", "name", "object", "role", "signature", "status", "type"];
    key.rsplit('_').next().is_some_and(|word| NAMES.contains(&word))
}

fn merge_item(items: &mut Vec<Value>, item: &Value) {
    let index_of = |item: &Value| item.get("index").and_then(Value::as_u64);
    // Only the last element can grow: reasoning details of one index but another type begin a new one.
    let kind = item["type"].as_str().filter(|kind| !kind.is_empty());
    let grows = |last: &Value| {
        index_of(item).is_some() && index_of(last) == index_of(item) && kind.is_none_or(|kind| last["type"] == kind)
    };
    match (items.last_mut().filter(|last| grows(last)), item) {
        (Some(Value::Object(fields)), Value::Object(more)) => merge(fields, more),
        _ => items.push(item.clone()),
    }
}
