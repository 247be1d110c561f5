//! Whatever JSON an answer is made of, it comes through the types unchanged.

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tidegate::core::facts::Finish;
use tidegate::core::tokens::TokenCount;
use tidegate::types::{
    Balance, ChatAssembler, ChatChunk, ChatCompletion, FimAssembler, FimCompletion, FinishReason, Message, ModelList,
    Usage,
};

/// Names the types know, so that each meets every kind of value.
const KEYS: &[&str] = &[
    "id",
    "object",
    "created",
    "model",
    "system_fingerprint",
    "choices",
    "usage",
    "error",
    "index",
    "message",
    "delta",
    "logprobs",
    "finish_reason",
    "role",
    "content",
    "reasoning_content",
    "reasoning",
    "refusal",
    "tool_calls",
    "name",
    "prefix",
    "type",
    "text",
    "image_url",
    "file",
    "function",
    "arguments",
    "token",
    "logprob",
    "bytes",
    "top_logprobs",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_tokens_details",
    "cached_tokens",
    "data",
    "owned_by",
    "completion_tokens_details",
    "reasoning_tokens",
    "balance_infos",
    "is_available",
    "total_balance",
    "tool_call_id",
    "x_unknown",
];

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop_oneof![Just(0), Just(255), Just(256), Just(u64::MAX), any::<u64>()].prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop_oneof![Just(0.0), Just(1.0), Just(-9999.0), Just(1e300), any::<f64>()].prop_map(Value::from),
        prop_oneof![Just("stop"), Just("user"), Just("assistant"), Just("text"), Just(""), Just("naïve 深")]
            .prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(5, 48, 4, |inner| {
        prop_oneof![proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from), object(inner)]
    })
}

fn object(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let field = (proptest::sample::select(KEYS).prop_map(str::to_owned), inner);
    proptest::collection::vec(field, 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>()))
}

fn assert_survives<T: DeserializeOwned + Serialize>(json: &Value) -> Result<(), TestCaseError> {
    let typed: T = serde_json::from_str(&json.to_string()).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let written: Value = serde_json::from_str(&serde_json::to_string(&typed).unwrap()).unwrap();
    prop_assert_eq!(&written, json, "as {}", std::any::type_name::<T>());
    Ok(())
}

/// Deep in a plausible answer, so that the inner types are reached too.
fn answer(choice: Value, usage: Value) -> Value {
    json!({"id": "x", "choices": [choice, {"index": 1}], "usage": usage, "data": [usage]})
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_object_survives_as_any_answer(json in object(value())) {
        assert_survives::<ChatCompletion>(&json)?;
        assert_survives::<ChatChunk>(&json)?;
        assert_survives::<FimCompletion>(&json)?;
        assert_survives::<ModelList>(&json)?;
        assert_survives::<Balance>(&json)?;
        assert_survives::<Message>(&json)?;
    }

    #[test]
    fn any_choice_message_and_usage_survive(
        message in object(value()), part in object(value()), logprob in object(value()), usage in object(value()),
    ) {
        let logprobs = json!({"content": [logprob, {"top_logprobs": [logprob]}], "refusal": [logprob]});
        let message_of_parts = json!({"role": "assistant", "content": [part], "tool_calls": [{"function": part}]});
        for message in [message, message_of_parts] {
            let choice = json!({"message": message, "delta": message, "logprobs": logprobs, "text": "x"});
            assert_survives::<ChatCompletion>(&answer(choice.clone(), usage.clone()))?;
            assert_survives::<ChatChunk>(&answer(choice.clone(), usage.clone()))?;
            assert_survives::<FimCompletion>(&answer(choice, usage.clone()))?;
        }
        let balance = json!({"balance_infos": [usage]});
        assert_survives::<Balance>(&balance)?;
    }

    #[test]
    fn any_chunks_can_be_assembled_and_the_whole_survives(
        deltas in proptest::collection::vec((object(value()), object(value()), any::<u64>()), 0..8),
    ) {
        let (mut chat, mut fim) = (ChatAssembler::new(), FimAssembler::new());
        for (delta, choice, index) in deltas {
            let typed = json!({"index": index, "delta": delta, "text": "x", "logprobs": delta});
            let json = json!({"choices": [typed, choice], "usage": delta});
            chat.push(&serde_json::from_value::<ChatChunk>(json.clone()).unwrap());
            fim.push(&serde_json::from_value::<FimCompletion>(json).unwrap());
        }
        assert_survives::<ChatCompletion>(&serde_json::to_value(chat.finish()).unwrap())?;
        assert_survives::<FimCompletion>(&serde_json::to_value(fim.finish()).unwrap())?;
    }
}

fn completion(json: Value) -> ChatCompletion {
    serde_json::from_value(json).unwrap()
}

fn chunk(json: Value) -> ChatChunk {
    serde_json::from_value(json).unwrap()
}

#[test]
fn what_is_no_object_is_no_answer() {
    for json in ["", "[]", "null", "\"Authentication Fails (governor)\"", "<html>", "{"] {
        assert!(serde_json::from_str::<ChatCompletion>(json).is_err(), "{json}");
    }
}

#[test]
fn unknown_finish_reasons_keep_their_text() {
    let answer = completion(json!({"choices": [{"message": {}, "finish_reason": "eos_token"}]}));
    assert_eq!(answer.finish_reason(), Some(&FinishReason::Other("eos_token".into())));
    assert_eq!(answer.facts().finish, Some(Finish::Other));
}

#[test]
fn an_empty_finish_reason_is_none_and_stays_as_it_came() {
    let empty = json!({"choices": [{"index": 0, "delta": {"content": "a"}, "text": "a", "finish_reason": ""}]});
    assert_survives::<ChatCompletion>(&empty).unwrap();
    assert_survives::<ChatChunk>(&empty).unwrap();
    assert_survives::<FimCompletion>(&empty).unwrap();
    let (whole, part) = (completion(empty.clone()), chunk(empty.clone()));
    let fim: FimCompletion = serde_json::from_value(empty).unwrap();
    assert_eq!([whole.finish_reason(), part.finish_reason(), fim.finish_reason()], [None; 3]);
    assert_eq!([whole.facts().finish, part.facts().finish, fim.facts().finish], [None; 3]);

    let (mut chat_answer, mut fim_answer) = (ChatAssembler::new(), FimAssembler::new());
    for (reason, is_finished) in [("", false), ("length", true), ("", true)] {
        let json = json!({"choices": [{"delta": {"content": "a"}, "text": "a", "finish_reason": reason}]});
        chat_answer.push(&chunk(json.clone()));
        fim_answer.push(&serde_json::from_value(json).unwrap());
        assert_eq!([chat_answer.is_finished(), fim_answer.is_finished()], [is_finished; 2], "{reason:?}");
    }
    for whole in [json!(chat_answer.finish()), json!(fim_answer.finish())] {
        assert_eq!(whole["choices"][0]["finish_reason"], "length");
    }
}

#[test]
fn facts_tell_content_from_its_absence() {
    let has_content = |delta: Value| chunk(json!({"choices": [{"index": 0, "delta": delta}]})).facts().has_content;
    for empty in [
        json!({"role": "assistant", "content": ""}),
        json!({"role": "assistant", "content": null, "reasoning_content": ""}),
        json!({"content": [], "tool_calls": [], "reasoning": "", "reasoning_details": []}),
        json!({"channel": "analysis"}),
        json!({}),
    ] {
        assert!(!has_content(empty.clone()), "{empty}");
    }
    for filled in [
        json!({"content": "a"}),
        json!({"content": " "}),
        json!({"reasoning_content": "a"}),
        json!({"reasoning": "a"}),
        json!({"reasoning_details": [{"type": "reasoning.encrypted"}]}),
        json!({"tool_calls": [{"index": 0}]}),
        json!({"refusal": "No."}),
        json!({"content": [{"type": "thinking", "thinking": []}]}),
        json!({"content": {"title": "x"}}),
    ] {
        assert!(has_content(filled.clone()), "{filled}");
        let answer = completion(json!({"choices": [{"message": filled}]}));
        assert!(answer.facts().has_content, "{filled}");
    }
}

#[test]
fn facts_show_an_error_inside_an_answer() {
    let error = json!({"code": 502, "message": "Upstream failed"});
    let whole = completion(json!({"error": error}));
    assert_eq!(whole.facts().error, Some(error.clone()));
    assert!(!whole.facts().has_content);
    let facts =
        chunk(json!({"error": error, "choices": [{"delta": {"content": ""}, "finish_reason": "error"}]})).facts();
    assert_eq!((facts.error, facts.finish), (Some(error.clone()), Some(Finish::Error)));
    let inner = completion(json!({"error": null, "choices": [{"message": {"content": "half"}, "error": error}]}));
    assert_eq!(inner.error(), Some(&error));
    assert_eq!(completion(json!({"error": null})).error(), None);
}

#[test]
fn one_failed_choice_fails_the_answer() {
    let choice = |reason: &str| json!({"message": {"content": "x"}, "finish_reason": reason});
    let answer =
        completion(json!({"choices": [choice("stop"), choice("insufficient_system_resource"), choice("length")]}));
    assert_eq!(answer.facts().finish, Some(Finish::InsufficientSystemResource));
    assert!(!Finish::InsufficientSystemResource.is_complete() && Finish::ContentFilter.is_complete());
}

#[test]
fn usage_is_counted_in_every_form() {
    let count = |json: Value| serde_json::from_value::<Usage>(json).unwrap().count();
    let expected = TokenCount { prompt: 10, cached: 6, completion: 5, reasoning: 2 };
    let thinking = json!({"reasoning_tokens": 2});
    for usage in [
        json!({"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 6, "completion_tokens_details": thinking}),
        json!({"prompt_tokens": 10, "total_tokens": 15, "prompt_tokens_details": {"cached_tokens": 6}, "completion_tokens_details": thinking}),
        json!({"total_tokens": 15, "completion_tokens": 5, "prompt_cache_hit_tokens": 6, "prompt_cache_miss_tokens": 4, "completion_tokens_details": thinking}),
    ] {
        assert_eq!(count(usage.clone()), expected, "{usage}");
    }
    assert_eq!(count(json!({})), TokenCount::default());
    assert_eq!(count(json!({"total_tokens": 3, "prompt_tokens": 9})).completion, 0);
    assert_eq!(count(json!({"prompt_tokens": -1, "completion_tokens": 1.5})), TokenCount::default());
}

#[test]
fn a_balance_keeps_its_amounts_as_text() {
    let json = json!({"is_available": true, "balance_infos": [
        {"currency": "CNY", "total_balance": "110.00", "granted_balance": "10.00", "topped_up_balance": "100.00"}]});
    let balance: Balance = serde_json::from_value(json.clone()).unwrap();
    let yuan = balance.in_currency("CNY").unwrap();
    assert_eq!((yuan.total(), yuan.granted_balance.as_deref()), (Some(110.0), Some("10.00")));
    assert!(balance.in_currency("USD").is_none());
    assert_eq!(serde_json::to_value(&balance).unwrap(), json);
    let odd: Balance = serde_json::from_value(json!({"balance_infos": [{"total_balance": "NaN"}]})).unwrap();
    assert_eq!(odd.balance_infos[0].total(), None);
}

fn assemble(chunks: impl IntoIterator<Item = Value>) -> Value {
    let mut assembler = ChatAssembler::new();
    chunks.into_iter().for_each(|json| assembler.push(&chunk(json)));
    serde_json::to_value(assembler.finish()).unwrap()
}

fn deltas(deltas: impl IntoIterator<Item = Value>) -> Value {
    let whole = assemble(deltas.into_iter().map(|delta| json!({"choices": [{"index": 0, "delta": delta}]})));
    whole["choices"][0]["message"].clone()
}

#[test]
fn a_deepseek_stream_becomes_the_answer_that_was_streamed() {
    let chunk = |delta: Value, finish: Value, usage: Value| {
        json!({"id": "i", "object": "chat.completion.chunk", "created": 1, "model": "deepseek-flash",
               "system_fingerprint": "fp", "usage": usage,
               "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]})
    };
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9, "prompt_cache_hit_tokens": 0});
    let whole = assemble([
        chunk(json!({"role": "assistant", "content": null, "reasoning_content": ""}), Value::Null, Value::Null),
        chunk(json!({"content": null, "reasoning_content": "Hm"}), Value::Null, Value::Null),
        chunk(json!({"content": null, "reasoning_content": "m."}), Value::Null, Value::Null),
        chunk(json!({"content": "海", "reasoning_content": null}), Value::Null, Value::Null),
        chunk(json!({"content": "!", "reasoning_content": null}), Value::Null, Value::Null),
        chunk(json!({"content": "", "reasoning_content": null}), json!("stop"), usage.clone()),
    ]);
    let message = json!({"role": "assistant", "content": "海!", "reasoning_content": "Hmm."});
    let expected = json!({"id": "i", "object": "chat.completion", "created": 1, "model": "deepseek-flash",
        "system_fingerprint": "fp", "usage": usage,
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"}]});
    assert_eq!(whole, expected);
}

#[test]
fn usage_in_a_last_chunk_without_choices_is_kept() {
    let whole = assemble([
        json!({"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}], "usage": null}),
        json!({"choices": [], "usage": {"prompt_tokens": 1}}),
    ]);
    assert_eq!(whole["usage"], json!({"prompt_tokens": 1}));
    assert_eq!(whole["choices"][0]["message"]["content"], "a");
}

#[test]
fn choices_are_told_apart_in_whatever_order_and_however_large_their_index() {
    let part = |index: u64, text: &str| json!({"choices": [{"index": index, "delta": {"content": text}}]});
    let whole = assemble([part(u64::MAX, "x"), part(1, "b"), part(0, "a"), part(1, "B"), part(u64::MAX, "X")]);
    let said: Vec<_> =
        whole["choices"].as_array().unwrap().iter().map(|c| (&c["index"], &c["message"]["content"])).collect();
    assert_eq!(said, [(&json!(0), &json!("a")), (&json!(1), &json!("bB")), (&json!(u64::MAX), &json!("xX"))]);
}

#[test]
fn a_stream_is_finished_when_every_choice_has_ended() {
    let mut assembler = ChatAssembler::new();
    assert!(!assembler.is_finished());
    let end = |index: u64, reason: Value| chunk(json!({"choices": [{"index": index, "finish_reason": reason}]}));
    assembler.push(&end(0, json!("stop")));
    assert!(assembler.is_finished());
    assembler.push(&end(1, Value::Null));
    assert!(!assembler.is_finished());
    assembler.push(&end(1, json!("length")));
    assert!(assembler.is_finished());
    assert_eq!(assembler.choices(), 2);
}

#[test]
fn a_choice_without_an_index_is_the_first() {
    for index in [json!(null), json!(0)] {
        let (mut chat, mut fim) = (ChatAssembler::new(), FimAssembler::new());
        let odd = json!({"choices": [{"index": index, "delta": {"content": "a"}, "text": "a"}]});
        let none = json!({"choices": [{"delta": {"content": "b"}, "text": "b", "finish_reason": "stop"}]});
        for json in [odd, none] {
            chat.push(&chunk(json.clone()));
            fim.push(&serde_json::from_value(json).unwrap());
        }
        assert!(chat.is_finished() && fim.is_finished());
        let (chat, fim) = (chat.finish(), fim.finish());
        assert_eq!((chat.choices.len(), chat.choices[0].index, chat.content()), (1, Some(0), Some("ab")));
        assert_eq!((fim.choices.len(), fim.choices[0].index, fim.text()), (1, Some(0), Some("ab")));
        assert_eq!([&chat.choices[0].extra, &fim.choices[0].extra].map(|extra| extra.get("index")), [None; 2]);
    }
}

/// Index, id, name and arguments of each call.
fn calls(pieces: impl IntoIterator<Item = Value>) -> Vec<(Value, Value, Value)> {
    let message = deltas(pieces.into_iter().map(|piece| json!({"tool_calls": [piece]})));
    let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
    calls
        .into_iter()
        .map(|c| (c["id"].clone(), c["function"]["name"].clone(), c["function"]["arguments"].clone()))
        .collect()
}

#[test]
fn parallel_tool_calls_are_put_together_by_index() {
    let begin = |index: u64, id: &str| json!({"index": index, "id": id, "type": "function", "function": {"name": "f", "arguments": ""}});
    let more = |index: u64, text: &str| json!({"index": index, "function": {"arguments": text}});
    let expected = vec![(json!("a"), json!("f"), json!("{\"x\":1}")), (json!("b"), json!("f"), json!("{}"))];
    assert_eq!(
        calls([begin(7, "b"), begin(0, "a"), more(0, "{\"x\""), more(7, "{"), more(0, ":1}"), more(7, "}")]),
        expected
    );
}

#[test]
fn tool_calls_without_an_index_or_with_one_for_all_are_told_apart_by_id() {
    let call = |id: &str| json!({"id": id, "function": {"name": id, "arguments": "{}"}});
    let same = |id: &str| json!({"index": 0, "id": id, "function": {"name": id, "arguments": "{}"}});
    let expected = vec![(json!("a"), json!("a"), json!("{}")), (json!("b"), json!("b"), json!("{}"))];
    assert_eq!(calls([call("a"), call("b")]), expected);
    assert_eq!(calls([same("a"), same("b")]), expected);
    // The id repeated in every piece, or empty after the first.
    let piece = |id: &str, text: &str| json!({"index": 0, "id": id, "function": {"arguments": text}});
    assert_eq!(calls([piece("a", "["), piece("a", "1"), piece("", "]")]), [(json!("a"), Value::Null, json!("[1]"))]);
    // Empty at first, real only later.
    assert_eq!(calls([piece("", "["), piece("a", "1"), piece("a", "]")]), [(json!("a"), Value::Null, json!("[1]"))]);
    // Sent empty with every piece.
    let begin = json!({"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}});
    let more = json!({"index": 0, "id": "", "type": "", "function": {"name": "", "arguments": "}"}});
    let message = deltas([json!({"tool_calls": [begin]}), json!({"tool_calls": [more]})]);
    let whole = json!({"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    assert_eq!(message["tool_calls"], json!([whole]));
    // No index and no id: goes on with the last one.
    let rest = json!({"function": {"arguments": " "}});
    assert_eq!(calls([call("a"), rest])[0].2, "{} ");
}

#[test]
fn unknown_text_grows_and_names_do_not_repeat() {
    let message = deltas([
        json!({"reasoning": "Let ", "channel": "analysis", "audio": {"id": "x", "transcript": "he"}, "flag": true}),
        json!({"reasoning": "me", "channel": "analysis", "audio": {"id": "x", "transcript": "y"}, "flag": false}),
        json!({"reasoning": null, "channel": "final", "audio": null}),
    ]);
    let expected =
        json!({"reasoning": "Let me", "channel": "final", "audio": {"id": "x", "transcript": "hey"}, "flag": false});
    assert_eq!(message, expected);
}

#[test]
fn names_that_are_sent_empty_or_with_every_delta_stay_what_they_are() {
    let message = deltas([
        json!({"role": "", "channel": "", "status": "on", "item_id": "i", "audio": {"format": "wav", "data": "a"}}),
        json!({"role": "assistant", "channel": "final", "status": "on", "item_id": "i", "audio": {"format": "wav", "data": "b"}}),
        json!({"role": "", "channel": "", "status": "", "item_id": "", "audio": {"format": "", "data": ""}}),
    ]);
    let audio = json!({"format": "wav", "data": "ab"});
    let expected = json!({"role": "assistant", "channel": "final", "status": "on", "item_id": "i", "audio": audio});
    assert_eq!(message, expected);

    let (mut chat, mut fim) = (ChatAssembler::new(), FimAssembler::new());
    // Azure's first chunk names nothing.
    for name in ["", "a", ""] {
        let json = json!({"id": name, "object": name, "model": name, "system_fingerprint": name, "provider": name,
                          "choices": [{"text": "x", "stop_reason": name, "delta": {}}]});
        chat.push(&chunk(json.clone()));
        fim.push(&serde_json::from_value(json).unwrap());
    }
    for whole in [json!(chat.finish()), json!(fim.finish())] {
        let names = ["id", "model", "system_fingerprint", "provider"].map(|key| &whole[key]);
        assert_eq!(names, [&json!("a"); 4]);
        assert_eq!(whole["choices"][0]["stop_reason"], "a");
    }
}

#[test]
fn reasoning_details_keep_their_format() {
    // As OpenRouter sends them.
    let detail = |text: &str, signature: Value| {
        json!({"reasoning_details": [{"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0,
                                      "text": text, "signature": signature}]})
    };
    let more = json!({"reasoning_details": [{"type": "", "format": "", "index": 0, "text": "."}]});
    let message = deltas([detail("a", Value::Null), detail("b", Value::Null), detail("", json!("s")), more]);
    let whole = detail("ab.", json!("s"));
    assert_eq!(message["reasoning_details"], whole["reasoning_details"]);
}

#[test]
fn reasoning_details_grow_by_index_and_type() {
    let detail = |kind: &str, text: &str| json!({"reasoning_details": [{"type": kind, "index": 0, "text": text}]});
    let message = deltas([detail("a", "x"), detail("a", "y"), detail("b", "z")]);
    let expected = json!([{"type": "a", "index": 0, "text": "xy"}, {"type": "b", "index": 0, "text": "z"}]);
    assert_eq!(message["reasoning_details"], expected);
}

#[test]
fn content_in_parts_and_in_text_is_put_in_a_row() {
    let thinking = json!({"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]});
    let message = deltas([
        json!({"content": ""}),
        json!({"content": [thinking]}),
        json!({"content": "It "}),
        json!({"content": "is."}),
        json!({"content": []}),
    ]);
    assert_eq!(message["content"], json!([thinking, {"type": "text", "text": "It is."}]));
    assert_eq!(serde_json::from_value::<Message>(message).unwrap().text(), "It is.");
}

#[test]
fn logprobs_of_all_chunks_are_put_in_a_row() {
    let part = |token: &str, logprob: Value| {
        let logprobs = json!({"content": [{"token": token, "logprob": logprob, "bytes": [228], "top_logprobs": []}], "refusal": null});
        json!({"choices": [{"index": 0, "delta": {"content": token}, "logprobs": logprobs}]})
    };
    let whole = assemble([part("a", json!(0)), part("b", json!(-0.5)), part("c", json!(-9999.0))]);
    let logprobs = &whole["choices"][0]["logprobs"];
    let numbers: Vec<_> = logprobs["content"].as_array().unwrap().iter().map(|token| &token["logprob"]).collect();
    assert_eq!(numbers, [&json!(0), &json!(-0.5), &json!(-9999.0)]);
    assert_eq!(logprobs["refusal"], Value::Null);
}

#[test]
fn a_fim_stream_becomes_the_text_between() {
    let piece = |text: &str, finish: Value| -> FimCompletion {
        let logprobs = json!({"tokens": [text], "token_logprobs": [-1]});
        serde_json::from_value(json!({"id": "i", "object": "text_completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish}]}))
        .unwrap()
    };
    let mut assembler = FimAssembler::new();
    assembler.push(&piece("a, ", Value::Null));
    assert!(piece("b", Value::Null).facts().has_content && !piece("", Value::Null).facts().has_content);
    assert!(!assembler.is_finished());
    assembler.push(&piece("b", json!("stop")));
    assert!(assembler.is_finished());
    let whole = assembler.finish();
    assert_eq!((whole.text(), whole.finish_reason()), (Some("a, b"), Some(&FinishReason::Stop)));
    let expected = json!({"tokens": ["a, ", "b"], "token_logprobs": [-1, -1]});
    assert_eq!(serde_json::to_value(&whole.choices[0].logprobs).unwrap(), expected);
}
