//! Answers as DeepSeek writes them: one JSON object, or a stream of chunks. Their fields, the first and the last delta
//! and the place of `usage` are those of 89 recorded streams and 127 recorded objects.

use std::fmt::Write as _;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde_json::json;

use super::answer;
use super::errors;
use super::provider::{End, Plan};
use super::request::Asked;
use super::scenario::BodyStyle;

/// Named in every answer.
const FINGERPRINT: &str = "fp_tidegate_sim";

/// What is written instead of an answer when it is to be unreadable.
pub(crate) const GARBAGE: &[u8] = b"<html><body><h1>502 Bad Gateway</h1></body></html>\n";

/// A body that says nothing.
pub(crate) const BLANK: &[u8] = b"\n\n\n\n";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Reasoning,
    Content,
    /// Fill in the middle.
    Text,
    Tool,
}

/// The answer to one request, cut into the pieces its plan asks for.
#[derive(Debug)]
pub(crate) struct Completion {
    id: String,
    created: u64,
    model: String,
    fim: bool,
    thinking: bool,
    tool: Option<String>,
    text: String,
    pieces: Vec<(Part, Range<usize>)>,
    usage: Usage,
    finish: &'static str,
    /// What opens every chunk of a stream, up to the delta.
    head: String,
}

#[derive(Clone, Debug, Serialize)]
struct Usage {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<CompletionDetails>,
    prompt_cache_hit_tokens: u32,
    prompt_cache_miss_tokens: u32,
}

#[derive(Clone, Debug, Serialize)]
struct PromptDetails {
    cached_tokens: u32,
}

#[derive(Clone, Debug, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u32,
}

impl Completion {
    /// The answer to `asked`, named `id`; `created` is in Unix seconds and `cache_hit` the share of the prompt that
    /// counts as cached.
    pub(crate) fn new(asked: &Asked, plan: &Plan, id: String, created: u64, cache_hit: f64) -> Self {
        let mut text = String::new();
        let mut parts = Vec::with_capacity(2);
        let mut push = |part, piece: &str| {
            let start = text.len();
            text.push_str(piece);
            parts.push((part, start..text.len()));
        };
        let answer_tokens = plan.output_tokens.saturating_sub(plan.reasoning_tokens);
        if asked.thinking {
            push(Part::Reasoning, &answer::compose(&asked.prompt, plan.reasoning_tokens));
        }
        if let Some(tool) = &asked.tool {
            let arguments = tool.arguments.as_str();
            let whole = if plan.length { answer::floor_char(arguments, arguments.len() / 2) } else { arguments.len() };
            push(Part::Tool, arguments.get(..whole).unwrap_or(arguments));
        } else {
            let part = if asked.fim { Part::Text } else { Part::Content };
            let answer = match &asked.begun {
                Some(begun) => answer::resume(&asked.prompt, begun, answer_tokens),
                None => answer::compose(&asked.prompt, answer_tokens),
            };
            // An answer cut at `max_tokens` lacks its closing mark, so that a client can tell.
            let whole = if plan.length { answer.rfind(" #").unwrap_or(answer.len()) } else { answer.len() };
            push(part, answer.get(..whole).unwrap_or(&answer));
        }
        let hit = ((f64::from(asked.prompt_tokens) * cache_hit) as u32 / 64 * 64).min(asked.prompt_tokens);
        let object = if asked.fim { "text_completion" } else { "chat.completion.chunk" };
        let model = serde_json::Value::from(asked.model.as_str());
        let head = format!(
            "data: {{\"id\":\"{id}\",\"object\":\"{object}\",\"created\":{created},\"model\":{model},\
             \"system_fingerprint\":\"{FINGERPRINT}\",\"choices\":[{{\"index\":0,"
        );
        Self {
            pieces: cut(&text, &parts, plan.chunks),
            id,
            created,
            model: asked.model.clone(),
            fim: asked.fim,
            thinking: asked.thinking,
            tool: asked.tool.as_ref().map(|tool| tool.name.clone()),
            text,
            usage: Usage {
                prompt_tokens: asked.prompt_tokens,
                completion_tokens: plan.output_tokens,
                total_tokens: u64::from(asked.prompt_tokens) + u64::from(plan.output_tokens),
                prompt_tokens_details: PromptDetails { cached_tokens: hit },
                completion_tokens_details: asked
                    .thinking
                    .then_some(CompletionDetails { reasoning_tokens: plan.reasoning_tokens }),
                prompt_cache_hit_tokens: hit,
                prompt_cache_miss_tokens: asked.prompt_tokens - hit,
            },
            finish: match plan.end {
                End::InsufficientResource => "insufficient_system_resource",
                _ if plan.length => "length",
                _ if asked.tool.is_some() => "tool_calls",
                _ => "stop",
            },
            head,
        }
    }

    /// The first chunk: a role and nothing said yet.
    pub(crate) fn write_start(&self, out: &mut BytesMut) {
        if self.fim {
            return;
        }
        let delta = if self.thinking {
            r#""delta":{"role":"assistant","content":null,"reasoning_content":""}"#
        } else {
            r#""delta":{"role":"assistant","content":""}"#
        };
        self.write_chunk(out, |out| out.put_slice(delta.as_bytes()));
    }

    /// Piece `index` of the content.
    pub(crate) fn write_piece(&self, out: &mut BytesMut, index: u32) {
        let index = index as usize;
        let Some((part, range)) = self.pieces.get(index).cloned() else { return };
        let piece = self.text.get(range).unwrap_or_default();
        self.write_chunk(out, |out| {
            let (before, after) = match part {
                Part::Text => ("\"text\":", ""),
                Part::Content if self.thinking => ("\"delta\":{\"reasoning_content\":null,\"content\":", "}"),
                Part::Content => ("\"delta\":{\"content\":", "}"),
                Part::Reasoning => ("\"delta\":{\"content\":null,\"reasoning_content\":", "}"),
                Part::Tool => {
                    out.put_slice(b"\"delta\":{\"tool_calls\":[{\"index\":0,");
                    // The first fragment names the call.
                    let first = index.checked_sub(1).and_then(|i| self.pieces.get(i)).is_none_or(|p| p.0 != Part::Tool);
                    if first {
                        let name = serde_json::Value::from(self.tool.as_deref().unwrap_or_default());
                        out.put_slice(format!("\"id\":\"call_{}\",\"type\":\"function\",", self.id).as_bytes());
                        out.put_slice(format!("\"function\":{{\"name\":{name},\"arguments\":").as_bytes());
                    } else {
                        out.put_slice(b"\"function\":{\"arguments\":");
                    }
                    ("", "}}]}")
                }
            };
            out.put_slice(before.as_bytes());
            put_json_string(out, piece);
            out.put_slice(after.as_bytes());
        });
    }

    /// The last chunk, with the reason and the usage, and the end mark.
    pub(crate) fn write_finish(&self, out: &mut BytesMut) {
        let delta = match (self.fim, self.thinking) {
            (true, _) => r#""text":"""#,
            (false, true) => r#""delta":{"content":"","reasoning_content":null}"#,
            (false, false) => r#""delta":{"content":""}"#,
        };
        let usage = serde_json::to_string(&self.usage).unwrap_or_default();
        out.put_slice(self.head.as_bytes());
        out.put_slice(delta.as_bytes());
        let tail = format!(",\"logprobs\":null,\"finish_reason\":\"{}\"}}],\"usage\":{usage}}}\n\n", self.finish);
        out.put_slice(tail.as_bytes());
        out.put_slice(b"data: [DONE]\n\n");
    }

    fn write_chunk(&self, out: &mut BytesMut, delta: impl FnOnce(&mut BytesMut)) {
        out.put_slice(self.head.as_bytes());
        delta(out);
        out.put_slice(b",\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n");
    }

    /// The answer as one object, with the first `delivered` pieces of its text.
    pub(crate) fn object(&self, delivered: u32) -> Bytes {
        let text_of = |wanted: Part| {
            let mut text = String::new();
            for (part, range) in self.pieces.iter().take(delivered as usize) {
                if *part == wanted {
                    text.push_str(self.text.get(range.clone()).unwrap_or_default());
                }
            }
            text
        };
        let choice = if self.fim {
            Choice::Text { index: 0, text: text_of(Part::Text), logprobs: (), finish_reason: self.finish }
        } else {
            Choice::Chat {
                index: 0,
                message: Message {
                    role: "assistant",
                    content: text_of(Part::Content),
                    reasoning_content: self.thinking.then(|| text_of(Part::Reasoning)),
                    tool_calls: self.tool.as_ref().map(|name| {
                        json!([{
                            "index": 0, "id": format!("call_{}", self.id), "type": "function",
                            "function": {"name": name, "arguments": text_of(Part::Tool)},
                        }])
                    }),
                },
                logprobs: (),
                finish_reason: self.finish,
            }
        };
        let object = Object {
            id: &self.id,
            object: if self.fim { "text_completion" } else { "chat.completion" },
            created: self.created,
            model: &self.model,
            choices: [choice],
            usage: &self.usage,
            system_fingerprint: FINGERPRINT,
        };
        serde_json::to_vec(&object).unwrap_or_default().into()
    }
}

#[derive(Serialize)]
struct Object<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: [Choice; 1],
    usage: &'a Usage,
    system_fingerprint: &'static str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice {
    Chat { index: u32, message: Message, logprobs: (), finish_reason: &'static str },
    Text { index: u32, text: String, logprobs: (), finish_reason: &'static str },
}

#[derive(Serialize)]
struct Message {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<serde_json::Value>,
}

/// The body of an error that comes after a 200.
pub(crate) fn error_object(style: BodyStyle) -> Bytes {
    match style {
        BodyStyle::Openrouter => {
            let error = json!({"code": 502, "message": "Provider disconnected", "metadata": {"error_type": "provider_unavailable"}});
            let choice = json!({"index": 0, "delta": {"content": ""}, "finish_reason": "error"});
            json!({"error": error, "choices": [choice]}).to_string().into()
        }
        BodyStyle::Siliconflow => errors::of_status(style, 503).body,
        _ => errors::of_status(BodyStyle::Deepseek, 503).body,
    }
}

/// A random-looking UUID.
pub(crate) fn uuid(rng: &mut fastrand::Rng) -> String {
    let mut id = format!("{:032x}", rng.u128(..));
    for at in [20, 16, 12, 8] {
        id.insert(at, '-');
    }
    id
}

/// Cuts the parts of an answer into `chunks` pieces at character boundaries, each part getting its share by length, and
/// at least one.
fn cut(text: &str, parts: &[(Part, Range<usize>)], chunks: u32) -> Vec<(Part, Range<usize>)> {
    let chunks = (chunks.max(1) as usize).max(parts.len());
    let mut pieces = Vec::with_capacity(chunks);
    let mut left = chunks;
    for (i, (part, range)) in parts.iter().enumerate() {
        let parts_after = parts.len() - i - 1;
        let share = if parts_after == 0 { left } else { chunks * range.len() / text.len().max(1) };
        let share = share.clamp(1, left - parts_after);
        left -= share;
        let mut start = range.start;
        for n in 1..=share {
            let end = answer::floor_char(text, range.start + range.len() * n / share).max(start);
            pieces.push((*part, start..end));
            start = end;
        }
    }
    pieces
}

/// A JSON string, written without an intermediate one.
fn put_json_string(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    let mut plain = 0;
    for (i, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => {
                out.put_slice(&text.as_bytes()[plain..i]);
                plain = i + 1;
                let mut code = String::with_capacity(6);
                // Writing to a String cannot fail.
                let _ = write!(code, "\\u{byte:04x}");
                out.put_slice(code.as_bytes());
                continue;
            }
            _ => continue,
        };
        out.put_slice(&text.as_bytes()[plain..i]);
        plain = i + 1;
        out.put_slice(escape.as_bytes());
    }
    out.put_slice(&text.as_bytes()[plain..]);
    out.put_u8(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_string_is_written_as_json_reads_it(text in any::<String>()) {
            let mut out = BytesMut::new();
            put_json_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn pieces_make_up_the_text(text in "\\PC{0,60}", split in 0usize..60, chunks in 1u32..90) {
            let split = answer::floor_char(&text, split);
            let parts = [(Part::Reasoning, 0..split), (Part::Content, split..text.len())];
            let pieces = cut(&text, &parts, chunks);
            prop_assert_eq!(pieces.len(), (chunks as usize).max(2));
            let joined: String = pieces.iter().map(|(_, range)| &text[range.clone()]).collect();
            prop_assert_eq!(joined, &text[..]);
            let apart = pieces.iter().all(|(part, range)| match part {
                Part::Reasoning => range.end <= split,
                _ => range.start >= split,
            });
            prop_assert!(apart);
        }
    }
}
