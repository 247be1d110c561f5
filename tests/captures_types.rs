//! Recorded answers of many providers, through the typed answers and back.
//!
//! The recordings are not part of the repository: `TIDEGATE_TEST_DATA` names the folder that holds `captures/`.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use tidegate::core::tokens::Estimator;
use tidegate::types::{ChatAssembler, ChatChunk, ChatCompletion, ChatRequest, Message, ModelList};

/// What a recording is, and whether the typed answers are meant for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    ChatCompletion,
    ChatStream,
    ModelList,
    /// Skipped: OpenAI's Responses API, whole or streamed.
    Responses,
    /// Skipped: an error body, which is classified and not typed.
    Error,
    /// Skipped: neither chat nor models (an image).
    OtherApi,
}

struct Capture {
    name: String,
    kind: Kind,
    /// The body, or a stream's events.
    values: Vec<Value>,
    /// The request's body and the answer's status, where they were recorded.
    request: Option<Value>,
    status: Option<u64>,
}

fn captures() -> Option<Vec<Capture>> {
    let Some(root) = std::env::var_os("TIDEGATE_TEST_DATA") else {
        // Past the test harness, which swallows the output of tests that pass.
        let _ = writeln!(std::io::stderr(), "NOT RUN: TIDEGATE_TEST_DATA is not set, so no recorded answer was read");
        return None;
    };
    let folder = PathBuf::from(root).join("captures");
    let mut captures = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_stream = name.ends_with(".sse");
        if name.ends_with(".meta.json") || !(is_stream || name.ends_with(".json")) {
            continue;
        }
        let body = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        let values: Vec<Value> = if is_stream { events(&name, &body) } else { vec![parse(&name, &body)] };
        let kind = kind(is_stream, &values);
        let meta = std::fs::read_to_string(format!("{}.meta.json", path.display())).ok();
        let meta = meta.map(|meta| parse(&name, &meta)).unwrap_or_default();
        // A request was recorded as JSON or as text, which can be a note that it was left out.
        let request = match meta.get("request") {
            Some(Value::String(text)) => serde_json::from_str(text).ok(),
            request => request.cloned(),
        };
        let request = request.filter(Value::is_object);
        captures.push(Capture { name, kind, values, request, status: meta["status"].as_u64() });
    }
    Some(captures)
}

/// The JSON of a stream's `data:` lines; every recorded event is one line.
fn events(name: &str, body: &str) -> Vec<Value> {
    let lines = body.split(['\r', '\n']).filter_map(|line| line.strip_prefix("data:"));
    lines.map(str::trim).filter(|data| *data != "[DONE]").map(|data| parse(name, data)).collect()
}

fn parse(name: &str, json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{name}: {error}: {json}"))
}

fn kind(is_stream: bool, values: &[Value]) -> Kind {
    let has = |key: &str| values.iter().any(|value| value.get(key).is_some());
    let object = values.first().and_then(|value| value["object"].as_str()).unwrap_or_default();
    let is_response_event = |value: &Value| value["type"].as_str().is_some_and(|name| name.starts_with("response."));
    if object == "response" || values.iter().any(is_response_event) {
        Kind::Responses
    } else if has("choices") {
        if is_stream { Kind::ChatStream } else { Kind::ChatCompletion }
    } else if has("error") || has("detail") || object == "error" || (has("code") && has("message")) {
        Kind::Error
    } else if values.iter().any(|value| value["data"].as_array().is_some_and(|data| data.iter().all(is_model))) {
        Kind::ModelList
    } else {
        Kind::OtherApi
    }
}

fn is_model(value: &Value) -> bool {
    value.get("id").is_some_and(Value::is_string)
}

/// `value` through `T` and back, by way of text as on the wire.
fn round_trip<T: DeserializeOwned + Serialize>(name: &str, value: &Value) -> T {
    let typed: T = serde_json::from_str(&value.to_string()).unwrap_or_else(|error| panic!("{name}: {error}: {value}"));
    let written = serde_json::to_string(&typed).unwrap();
    assert_eq!(&parse(name, &written), value, "{name}");
    typed
}

#[test]
fn every_recorded_answer_survives_the_typed_answers_unchanged() {
    let Some(captures) = captures() else { return };
    let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut chunks = 0;
    for Capture { name, kind, values, .. } in &captures {
        *counts.entry(*kind).or_default() += 1;
        for value in values {
            match kind {
                Kind::ChatCompletion => {
                    let answer: ChatCompletion = round_trip(name, value);
                    let facts = answer.facts();
                    assert!(!answer.choices.is_empty(), "{name}");
                    // Snowflake sends it empty, which is none.
                    let is_said = value["choices"][0]["finish_reason"] != "";
                    assert_eq!(facts.finish.is_some(), is_said, "{name}: the finish reason in {value}");
                    assert_eq!(facts.usage.is_some(), value["usage"].is_object(), "{name}");
                    assert_eq!(answer.content(), value["choices"][0]["message"]["content"].as_str(), "{name}");
                }
                Kind::ChatStream => {
                    let chunk: ChatChunk = round_trip(name, value);
                    assert_eq!(chunk.error(), value.get("error"), "{name}");
                    chunks += 1;
                }
                Kind::ModelList => {
                    let list: ModelList = round_trip(name, value);
                    assert!(list.data.iter().all(|model| model.id.is_some()), "{name}");
                }
                // Not meant for a chat answer, but any object must come through as one, with its error at hand.
                Kind::Error | Kind::Responses | Kind::OtherApi => {
                    let answer: ChatCompletion = round_trip(name, value);
                    assert_eq!(answer.error(), value.get("error").filter(|error| !error.is_null()), "{name}");
                    assert!(!answer.facts().has_content, "{name}");
                }
            }
        }
    }
    let _ = writeln!(std::io::stderr(), "recordings by kind: {counts:?}; {chunks} chunks");
    for (kind, at_least) in [(Kind::ChatCompletion, 240), (Kind::ChatStream, 136), (Kind::ModelList, 2)] {
        let count = counts.get(&kind).copied().unwrap_or(0);
        assert!(count >= at_least, "only {count} of {at_least} recordings were read as {kind:?}");
    }
    assert!(chunks >= 5890, "only {chunks} chunks");
}

/// The first string of the named fields in `object`, and nothing for `null`.
fn text<'a>(object: &'a Value, fields: &[&str]) -> &'a str {
    fields.iter().find_map(|field| object[*field].as_str()).unwrap_or_default()
}

#[test]
fn an_assembled_stream_says_what_its_chunks_say_in_a_row() {
    let Some(captures) = captures() else { return };
    let mut assembled = 0;
    for Capture { name, kind, values, .. } in captures {
        if kind != Kind::ChatStream {
            continue;
        }
        let mut assembler = ChatAssembler::new();
        let mut content = String::new();
        let mut reasoning = String::new();
        let mut arguments: BTreeMap<u64, String> = BTreeMap::new();
        let (mut finish, mut usage, mut has_content) = (None, None, false);
        for value in &values {
            let chunk: ChatChunk = serde_json::from_value(value.clone()).unwrap();
            has_content |= chunk.facts().has_content;
            assembler.push(&chunk);
            let choice = &value["choices"][0];
            content.push_str(text(&choice["delta"], &["content"]));
            reasoning.push_str(text(&choice["delta"], &["reasoning_content", "reasoning"]));
            for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
                let index = call["index"].as_u64().unwrap_or(0);
                arguments.entry(index).or_default().push_str(text(&call["function"], &["arguments"]));
            }
            finish = choice.get("finish_reason").filter(|reason| !reason.is_null()).or(finish);
            usage = value.get("usage").filter(|usage| !usage.is_null()).or(usage);
        }
        let is_finished = assembler.is_finished();
        let whole = assembler.finish();
        let json = serde_json::to_value(&whole).unwrap();
        assert_eq!(round_trip::<ChatCompletion>(&name, &json), whole, "{name}");
        assert_eq!(json["object"], "chat.completion");
        assert_eq!(whole.message().map(Message::text).unwrap_or_default(), content, "{name}");
        assert_eq!(whole.reasoning().unwrap_or_default(), reasoning, "{name}");
        let calls: Vec<&str> = whole.tool_calls().iter().map(|call| call.arguments()).collect();
        assert_eq!(calls, arguments.into_values().collect::<Vec<_>>(), "{name}");
        assert!(whole.tool_calls().iter().all(|call| !call.name().is_empty() && call.id.is_some()), "{name}");
        assert_eq!(is_finished, finish.is_some(), "{name}");
        assert_eq!(json["choices"][0].get("finish_reason").filter(|reason| !reason.is_null()), finish, "{name}");
        assert_eq!(json.get("usage").filter(|usage| !usage.is_null()), usage, "{name}");
        assert_eq!(whole.facts().has_content, has_content, "{name}");
        if name.starts_with("deepseek") {
            assert!(is_finished && whole.usage.is_some() && has_content, "{name}");
        }
        assembled += 1;
    }
    let _ = writeln!(std::io::stderr(), "{assembled} streams assembled");
    assert!(assembled >= 136, "only {assembled} streams were assembled");
}

/// The same value in the notation of a typed request: numbers of sampling as floats, a lone `stop` as a list.
fn in_request_notation(mut request: Value) -> Value {
    for field in ["temperature", "top_p", "frequency_penalty", "presence_penalty"] {
        if let Some(number) = request[field].as_f64() {
            request[field] = Value::from(number);
        }
    }
    if request["stop"].is_string() {
        request["stop"] = Value::from(vec![request["stop"].clone()]);
    }
    request
}

#[test]
fn every_recorded_request_survives_the_typed_request_and_none_that_was_answered_is_refused() {
    let Some(captures) = captures() else { return };
    let (mut requests, mut answered, mut by_deepseek) = (0, 0, 0);
    for Capture { name, request, status, .. } in captures {
        let Some(json) = request.filter(|request| request.get("messages").is_some()) else { continue };
        let request: ChatRequest = serde_json::from_value(json.clone()).unwrap();
        let written = serde_json::to_string(&request).unwrap();
        assert_eq!(parse(&name, &written), in_request_notation(json), "{name}");
        requests += 1;
        if status == Some(200) {
            assert_eq!(request.validate(), Ok(()), "{name}");
            answered += 1;
            if name.starts_with("deepseek") {
                assert_eq!(request.validate_deepseek(), Ok(()), "{name}");
                by_deepseek += 1;
            }
        }
    }
    let _ = writeln!(std::io::stderr(), "{requests} requests, {answered} answered, {by_deepseek} of them by DeepSeek");
    assert!(requests >= 300 && by_deepseek >= 100, "only {requests} requests, {by_deepseek} answered by DeepSeek");
}

#[test]
fn the_token_estimate_is_near_what_deepseek_counted_and_stays_so_while_learning() {
    let Some(captures) = captures() else { return };
    let mut samples = Vec::new();
    for Capture { name, values, request, .. } in captures {
        let usage = values.iter().rev().find_map(|value| value["usage"]["prompt_tokens"].as_u64());
        let (Some(request), Some(counted), true) = (request, usage, name.starts_with("deepseek")) else { continue };
        let request: ChatRequest = serde_json::from_value(request).unwrap();
        let estimated = request.estimate_prompt_tokens();
        if estimated >= 32.0 {
            samples.push((estimated, counted));
        }
    }
    let mut estimator = Estimator::new();
    samples.iter().for_each(|(estimated, counted)| estimator.learn(*estimated, *counted));
    let median_error = |estimate: &dyn Fn(f64) -> f64| {
        let mut errors: Vec<f64> = samples.iter().map(|(e, n)| (estimate(*e) / *n as f64 - 1.0).abs()).collect();
        errors.sort_by(f64::total_cmp);
        errors[errors.len() / 2]
    };
    let (before, after) = (median_error(&|e| e), median_error(&|e| estimator.correct(e) as f64));
    let _ = writeln!(
        std::io::stderr(),
        "{} prompts: learned ratio {:.2}, median error {before:.2} before, {after:.2} after",
        samples.len(),
        estimator.ratio()
    );
    assert!(samples.len() >= 40, "only {} prompts", samples.len());
    assert!(before < 0.15 && after < 0.15, "median errors {before} and {after}");
}
