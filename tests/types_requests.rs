//! Requests: what is written, what is read back, what is refused before it is sent.

use serde_json::{Value, json};
use tidegate::types::{
    ChatRequest, ContentPart, FimRequest, Message, ReasoningEffort, ResponseFormat, Role, StreamOptions, Tool,
    ToolChoice,
};

fn chat() -> ChatRequest {
    ChatRequest::new("deepseek-flash").user("Hello")
}

fn written(request: &ChatRequest) -> String {
    serde_json::to_string(request).unwrap()
}

#[test]
fn a_request_is_written_with_what_was_set_and_nothing_else() {
    assert_eq!(
        written(&chat().system("Be brief.")),
        r#"{"model":"deepseek-flash","messages":[{"role":"user","content":"Hello"},{"role":"system","content":"Be brief."}]}"#
    );
}

#[test]
fn every_field_has_its_name_on_the_wire() {
    let schema =
        json!({"type": "object", "properties": {"reason": {}, "answer": {}}, "required": ["reason", "answer"]});
    let request = ChatRequest::new("deepseek-v4-pro")
        .system("You are a clerk.")
        .user(vec![
            ContentPart::text("What is this?"),
            ContentPart::image_url_with_detail("https://example.com/a.png", "low"),
            ContentPart::file_id("file-api-1"),
        ])
        .message(Message::new(Role::LatestReminder, "Today is Sunday."))
        .message(Message::tool("call-1", "42"))
        .message(Message::assistant_prefix("```json"))
        .thinking(true)
        .reasoning_effort(ReasoningEffort::Max)
        .max_tokens(500_000)
        .temperature(0.5)
        .top_p(0.95)
        .stop(["```", "END"])
        .json()
        .tools([Tool::function("look_up", "Looks up a word", schema).strict()])
        .tool_choice(ToolChoice::Auto)
        .logprobs(5)
        .user_id("user-7")
        .extra("seed", 7);
    let request = ChatRequest {
        stream: Some(true),
        stream_options: Some(StreamOptions { include_usage: Some(true), ..StreamOptions::default() }),
        frequency_penalty: Some(0.25),
        presence_penalty: Some(-0.5),
        ..request
    };
    let expected = concat!(
        r#"{"model":"deepseek-v4-pro","messages":[{"role":"system","content":"You are a clerk."},"#,
        r#"{"role":"user","content":[{"type":"text","text":"What is this?"},"#,
        r#"{"type":"image_url","image_url":{"url":"https://example.com/a.png","detail":"low"}},"#,
        r#"{"type":"file","file":{"file_id":"file-api-1"}}]},"#,
        r#"{"role":"latest_reminder","content":"Today is Sunday."},"#,
        r#"{"role":"tool","content":"42","tool_call_id":"call-1"},"#,
        r#"{"role":"assistant","content":"```json","prefix":true}],"#,
        r#""thinking":{"type":"enabled"},"reasoning_effort":"max","max_tokens":500000,"temperature":0.5,"top_p":0.95,"#,
        r#""stop":["```","END"],"response_format":{"type":"json_object"},"#,
        r#""tools":[{"type":"function","function":{"name":"look_up","description":"Looks up a word","#,
        r#""parameters":{"type":"object","properties":{"reason":{},"answer":{}},"required":["reason","answer"]},"#,
        r#""strict":true}}],"tool_choice":"auto","logprobs":true,"top_logprobs":5,"frequency_penalty":0.25,"#,
        r#""presence_penalty":-0.5,"stream":true,"stream_options":{"include_usage":true},"user_id":"user-7","seed":7}"#,
    );
    assert_eq!(written(&request), expected);
    assert_eq!(serde_json::from_str::<ChatRequest>(expected).unwrap(), request);
    assert_eq!(request.validate_deepseek(), Ok(()));
}

#[test]
fn a_longer_conversation_begins_with_the_bytes_of_the_shorter() {
    let short = written(&chat().extra("metadata", json!({"z": 1, "a": 2})));
    let long = written(&chat().assistant("Hi.").user("Go on.").extra("metadata", json!({"z": 1, "a": 2})));
    let prefix = short.split("}]").next().unwrap();
    assert!(long.starts_with(prefix), "{long} does not begin with {prefix}");
    assert!(long.contains(r#""metadata":{"z":1,"a":2}"#), "{long}");
}

#[test]
fn unknown_fields_words_and_odd_shapes_come_through_a_request() {
    for body in [
        json!({"model": "m", "messages": [{"role": "critic", "content": null, "weight": 1}], "reasoning_effort": "hyper"}),
        json!({"model": "m", "messages": [], "stop": [], "tools": [], "max_tokens": null, "temperature": "hot"}),
        json!({"model": null, "messages": "none", "tool_choice": {"type": "allowed_tools", "mode": "auto"}}),
        json!({"model": "m", "messages": [{"role": "user", "content": ["a", {"type": "text"}]}], "tool_choice": "any"}),
        json!({"model": "m", "messages": [{}], "thinking": {"type": "auto", "budget": 5}, "thinking_budget": 3}),
        json!({"model": "m", "messages": [{}], "tools": [{"type": "web_search", "max_uses": 3}, {"function": null}]}),
        json!({"model": "m", "messages": [{}], "response_format": {"type": "json_schema", "json_schema": {"b": 1, "a": 2}}}),
        json!({"model": "m", "messages": [{}], "max_completion_tokens": u64::MAX, "n": 2, "stream_options": {"x": null, "include_usage": null}}),
    ] {
        let request: ChatRequest = serde_json::from_value(body.clone()).unwrap();
        assert_eq!(serde_json::to_value(&request).unwrap(), body);
    }
    for body in [
        json!({"model": "m", "prompt": ["a", "b"], "suffix": null, "best_of": 2}),
        json!({"model": "m", "prompt": "def f(", "suffix": "):", "echo": false, "logprobs": 3, "stop": ["\n"]}),
    ] {
        let request: FimRequest = serde_json::from_value(body.clone()).unwrap();
        assert_eq!(serde_json::to_value(&request).unwrap(), body);
    }
}

#[test]
fn a_lone_stop_is_read_as_a_list_of_one() {
    let request: ChatRequest = serde_json::from_value(json!({"model": "m", "messages": [], "stop": "END"})).unwrap();
    assert_eq!(request.stop, ["END"]);
}

#[test]
fn a_typed_field_wins_over_an_extra_one_and_is_written_once() {
    let request = chat().extra("temperature", "hot").extra("top_k", 5).temperature(1.5);
    assert_eq!(
        written(&request),
        r#"{"model":"deepseek-flash","messages":[{"role":"user","content":"Hello"}],"temperature":1.5,"top_k":5}"#
    );
    let mut answered: Message = serde_json::from_value(json!({"role": "assistant", "content": null})).unwrap();
    answered.content = Some("Yes.".into());
    assert_eq!(serde_json::to_string(&answered).unwrap(), r#"{"role":"assistant","content":"Yes."}"#);
}

#[test]
fn a_tool_turn_can_be_replayed_as_it_came() {
    let message = json!({
        "role": "assistant", "content": null, "reasoning_content": "I need the weather.",
        "tool_calls": [{"index": 0, "id": "call-1", "type": "function",
                        "function": {"name": "weather", "arguments": "{\"city\":\"深圳\"}"}}],
    });
    let answer = json!({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]});
    let answer: tidegate::types::ChatCompletion = serde_json::from_value(answer).unwrap();
    let call = &answer.tool_calls()[0];
    assert_eq!(call.name(), "weather");
    assert_eq!(call.parse_arguments::<Value>().unwrap()["city"], "深圳");
    let request = chat().message(answer.message().unwrap().clone()).message(Message::tool("call-1", "28 °C"));
    assert_eq!(serde_json::to_value(&request.messages[1]).unwrap(), message);
}

/// The error's text for a request changed by `change`.
fn refused_by_deepseek(change: impl FnOnce(ChatRequest) -> ChatRequest) -> String {
    let request = change(chat());
    assert_eq!(request.validate(), Ok(()), "refused for every provider");
    request.validate_deepseek().unwrap_err().to_string()
}

#[test]
fn what_no_provider_takes_is_refused_in_one_sentence() {
    let refused = |request: ChatRequest| {
        let error = request.validate().unwrap_err();
        assert_eq!(request.validate_deepseek(), Err(error.clone()));
        error.to_string()
    };
    assert_eq!(refused(ChatRequest::new(" ").user("x")), r#"Expected `model` to be a name, got " ""#);
    assert_eq!(refused(ChatRequest::new("m")), "Expected `messages` to be at least one message, got none");
    assert_eq!(refused(chat().message(Message::default())), "Expected `messages[1].role` to be set, got none");
    assert_eq!(refused(chat().temperature(f64::NAN)), "Expected `temperature` to be a finite number, got NaN");
    assert_eq!(refused(chat().top_p(f64::INFINITY)), "Expected `top_p` to be a finite number, got inf");
    let error = FimRequest::new("", "x").validate().unwrap_err();
    assert_eq!((error.field.as_str(), error.expected, error.got.as_str()), ("model", "a name", "\"\""));
}

#[test]
fn deepseeks_own_limits_are_refused_only_for_deepseek() {
    assert_eq!(
        refused_by_deepseek(|request| request.temperature(3.5)),
        "Expected `temperature` to be between 0 and 2, got 3.5"
    );
    assert_eq!(refused_by_deepseek(|request| request.top_p(-0.1)), "Expected `top_p` to be between 0 and 1, got -0.1");
    assert_eq!(refused_by_deepseek(|request| request.max_tokens(0)), "Expected `max_tokens` to be at least 1, got 0");
    assert_eq!(
        refused_by_deepseek(|request| request.stop((0..17).map(|n| n.to_string()))),
        "Expected `stop` to be at most 16 texts, got 17"
    );
    let tool = |name: &str| Tool::function(name, "", json!({}));
    assert_eq!(
        refused_by_deepseek(|request| request.tools((0..129).map(|n| tool(&format!("tool-{n}"))))),
        "Expected `tools` to be at most 128 tools, got 129"
    );
    for bad in ["", "two words", "wörter", &"x".repeat(129)] {
        let error = refused_by_deepseek(|request| request.tools([tool("good_1"), tool(bad)]));
        let expected = "Expected `tools[1].function.name` to be 1 to 128 of letters, digits, `_` and `-`, got ";
        assert_eq!(error, format!("{expected}{bad:?}"));
    }
    assert_eq!(refused_by_deepseek(|request| request.logprobs(21)), "Expected `top_logprobs` to be at most 20, got 21");
    assert_eq!(
        refused_by_deepseek(|request| ChatRequest { logprobs: None, ..request.logprobs(2) }),
        "Expected `logprobs` to be true where `top_logprobs` is set, got none"
    );
    assert_eq!(
        refused_by_deepseek(|request| ChatRequest { stream_options: Some(StreamOptions::default()), ..request }),
        "Expected `stream_options` to be set only where `stream` is true, got it without"
    );
    assert_eq!(
        refused_by_deepseek(|request| request.user_id("é".repeat(257))),
        "Expected `user_id` to be at most 512 bytes, got 514"
    );
    assert_eq!(
        refused_by_deepseek(|request| request.message(Message::new(Role::Developer, "x"))),
        "Expected `messages[1].role` to be `system` with DeepSeek, got `developer`"
    );
    assert_eq!(
        refused_by_deepseek(|request| request.message(Message::new(Role::Tool, "x"))),
        "Expected `messages[1].tool_call_id` to be the id of the call it answers, got none"
    );
    assert_eq!(
        refused_by_deepseek(|request| request.message(Message::assistant_prefix("x")).user("y")),
        "Expected `messages[1].prefix` to be set on the last message only, got true"
    );
    for choice in [ToolChoice::Required, ToolChoice::function("f")] {
        let request = chat().tools([tool("f")]).tool_choice(choice);
        assert_eq!(request.validate_deepseek(), Ok(()), "not expressly thinking");
        assert_eq!(request.clone().thinking(false).validate_deepseek(), Ok(()));
        assert_eq!(
            refused_by_deepseek(|_| request.thinking(true)),
            "Expected `tool_choice` to be `none` or `auto` while thinking, got a forced call"
        );
    }
    let fim = FimRequest { logprobs: Some(21), ..FimRequest::new("deepseek-flash", "def f(") };
    assert_eq!(fim.validate(), Ok(()));
    assert_eq!(fim.validate_deepseek().unwrap_err().to_string(), "Expected `logprobs` to be at most 20, got 21");
}

#[test]
fn limits_themselves_are_within() {
    let tool = |n: usize| Tool::function(format!("{n:0>128}"), "", json!({}));
    let request = chat()
        .temperature(2.0)
        .top_p(1.0)
        .max_tokens(u64::MAX)
        .stop((0..16).map(|n| n.to_string()))
        .tools((0..128).map(tool))
        .logprobs(20)
        .user_id("x".repeat(512))
        .response_format(ResponseFormat::json_schema("answer", json!({})));
    assert_eq!(request.validate_deepseek(), Ok(()));
}

#[test]
fn the_prompt_is_estimated_from_all_its_text() {
    let near = |request: &ChatRequest, tokens: f64| (request.estimate_prompt_tokens() - tokens).abs() < 1e-9;
    assert!(near(&chat(), 1.5));
    assert!(near(&chat().system("深度"), 2.7));
    let parts = vec![ContentPart::text("1234567890"), ContentPart::image_url("data:image/png;base64,AAAA")];
    assert!(near(&ChatRequest::new("m").user(parts), 3.0));
    let tool = Tool::function("f", "", json!({}));
    let json = serde_json::to_string(&tool).unwrap();
    assert!(near(&chat().tools([tool.clone()]), 1.5 + 200.0 + 0.3 * json.len() as f64));
    assert!(near(&chat().tools([tool]).tool_choice(ToolChoice::None), 1.5));
    assert!((FimRequest::new("m", "12345").suffix("12345").estimate_prompt_tokens() - 3.0).abs() < 1e-9);
}
