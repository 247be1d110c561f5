//! Streamed answers over real sockets: what is handed out, what is retried, and how broken streams are told.
#![cfg(feature = "client")]

mod client_support;

use std::time::Duration;

use client_support::*;
use futures::StreamExt;
use serde_json::json;
use tidegate::types::{FimRequest, FinishReason};
use tidegate::{ChatStream, Clocks, Error, ErrorKind, OutcomeKind, RetryPolicy};

fn quick() -> RetryPolicy {
    RetryPolicy { base: Duration::from_millis(1), ..RetryPolicy::default() }
}

/// The texts of a stream, and how it ended.
async fn read(mut stream: ChatStream) -> (String, Option<Error>) {
    let mut text = String::new();
    while let Some(chunk) = soon(stream.next()).await {
        match chunk {
            Ok(chunk) => text.push_str(chunk.content().unwrap_or_default()),
            Err(error) => {
                assert!(soon(stream.next()).await.is_none(), "nothing follows an error");
                return (text, Some(error));
            }
        }
    }
    (text, None)
}

#[tokio::test]
async fn a_stream_hands_out_every_chunk_and_ends() {
    let stub = Stub::start(|_| stream(&["Hel", "lo"])).await;
    let client = stub.client();
    let mut stream = soon(client.chat("m").user("x").stream()).await.unwrap();
    assert_eq!(client.load().in_flight, 1);
    assert_eq!(stream.request_id().as_deref(), Some("trace-1"));
    let mut chunks = Vec::new();
    // As a `Stream`, too.
    while let Some(chunk) = soon(StreamExt::next(&mut stream)).await {
        chunks.push(chunk.unwrap());
    }
    assert_eq!(chunks.len(), 4);
    assert_eq!(stream.report().map(|report| report.attempts_made), Some(1));
    assert_eq!(client.load().in_flight, 0);
    let sent = &stub.seen()[0].body;
    assert_eq!((&sent["stream"], &sent["stream_options"]), (&json!(true), &json!({"include_usage": true})));
}

#[tokio::test]
async fn reasoning_tools_and_usage_are_put_together() {
    let stub = Stub::start(|_| {
        let call = |function: serde_json::Value, more: serde_json::Value| {
            let mut call = json!({"index": 0, "function": function});
            call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            event(json!({"tool_calls": [call]}), None)
        };
        vec![
            head("text/event-stream"),
            event(json!({"role": "assistant", "content": null, "reasoning_content": ""}), None),
            piece(": keep-alive\n\n"),
            event(json!({"reasoning_content": "Let me "}), None),
            event(json!({"reasoning_content": "see."}), None),
            text("I look."),
            call(json!({"name": "look", "arguments": ""}), json!({"id": "call_1", "type": "function"})),
            call(json!({"arguments": "{\"at\":"}), json!({})),
            call(json!({"arguments": "1}"}), json!({})),
            event(json!({"content": ""}), Some("tool_calls")),
            // Others than DeepSeek send the usage in a chunk of its own.
            piece(
                "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}\n\n",
            ),
            done(),
            last(),
        ]
    })
    .await;
    let client = stub.client();
    let stream = soon(client.chat("m").user("x").stream()).await.unwrap();
    assert_eq!(stream.keep_alives(), 1);
    let reply = soon(stream.into_completion()).await.unwrap();
    assert_eq!((reply.reasoning(), reply.content()), (Some("Let me see."), Some("I look.")));
    let call = &reply.tool_calls()[0];
    assert_eq!((call.name(), call.arguments()), ("look", "{\"at\":1}"));
    assert_eq!(reply.usage.as_ref().and_then(|usage| usage.completion_tokens), Some(4));
    assert!(reply.route().starts_with("127.0.0.1:"), "{}", reply.route());
    assert_eq!(client.metrics().total.counters.completion_tokens, 4);
}

#[tokio::test]
async fn what_fails_before_content_is_retried_unseen() {
    let role = || event(json!({"role": "assistant", "content": ""}), None);
    let stub = Stub::start(move |request| match request.number {
        1 => error(503, "service_unavailable_error", "busy"),
        // Nothing at all.
        2 => vec![head("text/event-stream"), last()],
        // The ten-minute rule: keep-alives, then the end.
        3 => vec![head("text/event-stream"), piece(": keep-alive\n\n"), piece(": keep-alive\n\n"), last()],
        4 => vec![head("text/event-stream"), role(), last()],
        5 => vec![head("text/event-stream"), event(json!({"content": ""}), Some("")), Step::Cut],
        6 => vec![
            head("text/event-stream"),
            role(),
            event(json!({}), Some("insufficient_system_resource")),
            done(),
            last(),
        ],
        7 => vec![head("text/event-stream"), piece("data: {\"error\":{\"code\":502,\"message\":\"no\"}}\n\n"), last()],
        8 => vec![head("text/event-stream"), piece("event: error\ndata: it broke\n\n"), last()],
        9 => json(200, r#"{"error":{"message":"down","code":503}}"#),
        10 => vec![head("text/event-stream"), done(), last()],
        _ => stream(&["ok"]),
    })
    .await;
    let breaker = tidegate::BreakerPolicy { failures: 0, ..Default::default() };
    let client = stub.builder().retry(quick()).breaker(breaker).max_attempts(30).build().unwrap();
    let stream = soon(client.chat("m").user("x").stream()).await.unwrap();
    let reply = soon(stream.into_completion()).await.unwrap();
    assert_eq!(reply.content(), Some("ok"));
    let kinds: Vec<_> = reply.attempts().iter().map(|attempt| attempt.outcome).collect();
    use OutcomeKind as K;
    assert_eq!(
        kinds,
        [
            K::Pressure,
            K::Pressure,
            K::FirstContentTimeout,
            K::FirstContentTimeout,
            K::FirstContentTimeout,
            K::Pressure,
            K::Pressure,
            K::Server,
            K::Pressure,
            K::Pressure,
            K::Success
        ]
    );
}

#[tokio::test]
async fn a_stream_that_breaks_after_content_is_interrupted_with_what_came() {
    let broken: [(&str, Vec<Step>); 7] = [
        ("a clean end without a finish reason", vec![last()]),
        // As sglang and ollama send it with every chunk.
        ("a clean end with an empty finish reason", vec![event(json!({"content": ""}), Some("")), last()]),
        ("a cut after an empty finish reason", vec![event(json!({"content": ""}), Some("")), Step::Cut]),
        ("a cut", vec![Step::Cut]),
        (
            "an error event",
            vec![piece("event: error\ndata: {\"error\":{\"message\":\"engine died\",\"code\":500}}\n\n"), last()],
        ),
        ("a chunk that is no JSON", vec![piece("data: {\"choi\n\n"), Step::Hold]),
        ("out of resources", vec![event(json!({}), Some("insufficient_system_resource")), done(), last()]),
    ];
    for (what, end) in broken {
        let stub = Stub::start(move |_| {
            let mut steps = vec![
                head("text/event-stream"),
                event(json!({"reasoning_content": "Hm. "}), None),
                text("Half of "),
                text("it"),
            ];
            steps.extend(end.clone());
            steps
        })
        .await;
        let client = stub.client();
        let stream = soon(client.chat("m").user("x").stream()).await.unwrap();
        let (text, error) = read(stream).await;
        let error = error.unwrap_or_else(|| panic!("{what} ended as success"));
        assert_eq!((error.kind(), text.as_str()), (ErrorKind::Interrupted, "Half of it"), "{what}");
        assert!(error.to_string().ends_with("; ask again if you need the whole"), "{error}");
        let partial = error.partial().unwrap();
        assert_eq!((partial.text.as_str(), partial.reasoning.as_str()), ("Half of it", "Hm. "), "{what}");
        assert_eq!(stub.requests(), 1, "never replayed after {what}");
        assert_eq!(client.load().in_flight, 0, "{what}");
    }
}

#[tokio::test]
async fn a_stream_that_stalls_is_interrupted_and_comments_do_not_help_it() {
    let stub = Stub::start(|_| {
        let mut steps = vec![head("text/event-stream"), text("Half")];
        steps.extend((0..1000).flat_map(|_| [piece(": keep-alive\n\n"), Step::Wait(Duration::from_millis(10))]));
        steps
    })
    .await;
    let clocks = Clocks { idle: Some(Duration::from_millis(300)), ..Clocks::default() };
    let client = stub.builder().clocks(clocks).build().unwrap();
    let stream = soon(client.chat("m").user("x").stream()).await.unwrap();
    let (text, error) = read(stream).await;
    assert_eq!((text.as_str(), error.unwrap().kind()), ("Half", ErrorKind::Interrupted));
    until("the connection is closed", || stub.abandoned() == 1).await;
}

#[tokio::test]
async fn a_reader_that_is_slow_is_not_a_server_that_stalls() {
    let stub = Stub::start(|_| stream(&["a", "b", "c", "d"])).await;
    let clocks = Clocks { idle: Some(Duration::from_millis(200)), ..Clocks::default() };
    let client = stub.builder().clocks(clocks).build().unwrap();
    let mut stream = soon(client.chat("m").user("x").stream()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    // Another call makes somebody look at the clocks meanwhile.
    soon(client.chat("m").user("x").stream()).await.unwrap();
    let mut text = String::new();
    while let Some(chunk) = soon(stream.next()).await {
        text.push_str(chunk.unwrap().content().unwrap_or_default());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(text, "abcd");
}

#[tokio::test]
async fn a_connection_that_lingers_after_the_end_hangs_nobody() {
    let end = |finish: bool, is_done: bool| {
        move |_: &Request| {
            let mut steps = vec![head("text/event-stream"), text("all")];
            steps.extend(finish.then(|| event(json!({}), Some("stop"))));
            steps.extend(is_done.then(done));
            steps.push(Step::Hold);
            steps
        }
    };
    for (finish, is_done) in [(true, true), (false, true), (true, false)] {
        let stub = Stub::start(end(finish, is_done)).await;
        let client = stub.client();
        let stream = soon(client.chat("m").user("x").stream()).await.unwrap();
        let (text, error) = read(stream).await;
        assert_eq!((text.as_str(), error.map(|error| error.to_string())), ("all", None));
        assert_eq!(client.load().in_flight, 0);
    }
}

#[tokio::test]
async fn an_empty_finish_reason_ends_nothing_and_a_real_one_after_it_counts() {
    let stub = Stub::start(|_| {
        let part = |text: &str, finish: &str| event(json!({"content": text}), Some(finish));
        // Longer than is waited for after the end.
        let pause = Step::Wait(Duration::from_millis(2500));
        let ended = [part("b", "length"), part("", ""), last()];
        [head("text/event-stream"), part("a", ""), pause].into_iter().chain(ended).collect()
    })
    .await;
    let stream = soon(stub.client().chat("m").user("x").stream()).await.unwrap();
    let reply = soon(stream.into_completion()).await.unwrap();
    assert_eq!((reply.content(), reply.finish_reason()), (Some("ab"), Some(&FinishReason::Length)));
}

/// A stream of two choices, the second of which begins long after the first has ended, and then `end`.
fn two_choices(end: Vec<Step>) -> Vec<Step> {
    let part = |index: u64, text: &str, finish: serde_json::Value| {
        let choice = json!({"index": index, "delta": {"content": text}, "text": text, "finish_reason": finish});
        piece(&format!("data: {}\n\n", json!({"choices": [choice]})))
    };
    let mut steps = vec![head("text/event-stream"), part(0, "a", json!(null)), part(0, "", json!("stop"))];
    steps.extend([Step::Wait(Duration::from_millis(2500)), part(1, "b", json!("stop"))]);
    steps.extend(end);
    steps
}

#[tokio::test]
async fn a_stream_of_several_choices_ends_when_as_many_as_were_asked_for_have_ended() {
    let stub = Stub::start(|_| two_choices(vec![Step::Hold])).await;
    let client = stub.client();
    let chat = async {
        let stream = soon(client.chat("m").user("x").extra("n", 2).stream()).await.unwrap();
        let whole = soon(stream.into_completion()).await.unwrap();
        whole.choices.iter().map(|choice| choice.message.as_ref().unwrap().text().into_owned()).collect::<Vec<_>>()
    };
    let fim = async {
        let request = FimRequest::new("m", "x").extra("n", 2);
        let stream = soon(client.fim_request(request).stream()).await.unwrap();
        let whole = soon(stream.into_completion()).await.unwrap();
        whole.choices.iter().map(|choice| choice.text.clone().unwrap()).collect::<Vec<_>>()
    };
    let (chat, fim) = tokio::join!(chat, fim);
    assert_eq!((chat, fim), (vec!["a".to_owned(), "b".to_owned()], vec!["a".to_owned(), "b".to_owned()]));
}

#[tokio::test]
async fn a_stream_that_breaks_before_all_choices_have_ended_is_interrupted() {
    for end in [last(), Step::Cut] {
        let stub = Stub::start(move |_| {
            let mut steps = two_choices(Vec::new());
            steps.truncate(3);
            steps.push(end.clone());
            steps
        })
        .await;
        let client = stub.client();
        let stream = soon(client.chat("m").user("x").extra("n", 2).stream()).await.unwrap();
        assert_eq!(read(stream).await.1.map(|error| error.kind()), Some(ErrorKind::Interrupted));
        let stream = soon(client.chat("m").user("x").stream()).await.unwrap();
        assert!(read(stream).await.1.is_none(), "it is all that was asked for");
    }
    // Whatever was asked for, the server says that this is all.
    let stub = Stub::start(|_| stream(&["a"])).await;
    let answer = soon(stub.client().chat("m").user("x").extra("n", 2).stream()).await.unwrap();
    assert!(read(answer).await.1.is_none());
}

#[tokio::test]
async fn done_without_a_blank_line_after_it_is_done() {
    let stub = Stub::start(|_| vec![head("text/event-stream"), text("all"), piece("data: [DONE]"), last()]).await;
    let stream = soon(stub.client().chat("m").user("x").stream()).await.unwrap();
    assert!(read(stream).await.1.is_none());
}

#[tokio::test]
async fn an_empty_answer_with_a_finish_reason_is_an_answer() {
    let stub = Stub::start(|_| {
        let role = event(json!({"role": "assistant", "content": ""}), None);
        vec![head("text/event-stream"), role, event(json!({}), Some("stop")), done(), last()]
    })
    .await;
    let client = stub.client();
    let stream = soon(client.chat("m").user("x").stream()).await.unwrap();
    assert_eq!(client.load().in_flight, 0, "it has ended already");
    let (text, error) = read(stream).await;
    assert_eq!((text.as_str(), error.is_none()), ("", true));
}

#[tokio::test]
async fn chunks_cut_anywhere_make_the_same_stream() {
    let stub = Stub::start(|_| {
        let mut body = String::new();
        for piece in ["für ", "alle ", "🌊"] {
            let chunk = json!({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": null}]});
            body.push_str(&format!("data: {chunk}\r\n\r\n"));
        }
        body.push_str(
            "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
        );
        let mut steps = vec![head("text/event-stream")];
        for byte in body.as_bytes() {
            let mut framed = b"1\r\n".to_vec();
            framed.extend([*byte, b'\r', b'\n']);
            steps.push(Step::Send(framed));
        }
        steps.push(last());
        steps
    })
    .await;
    let stream = soon(stub.client().chat("m").user("x").stream()).await.unwrap();
    assert_eq!(read(stream).await.0, "für alle 🌊");
}

#[tokio::test]
async fn errors_before_the_stream_are_errors_of_the_call() {
    let stub = Stub::start(|request| match request.number {
        1 => error(400, "invalid_request_error", "Model Not Exist"),
        _ => json(200, &completion("not a stream")),
    })
    .await;
    let client = stub.builder().retry(quick()).max_attempts(1).build().unwrap();
    let error = soon(client.chat("m").user("x").stream()).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Refused, Some("Model Not Exist")));
    let error = soon(client.chat("m").user("x").stream()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
}

#[tokio::test]
async fn an_event_larger_than_allowed_ends_the_stream() {
    let stub = Stub::start(|_| stream(&["small", &"x".repeat(50_000)])).await;
    let client = stub.builder().max_event_bytes(10_000).build().unwrap();
    let stream = soon(client.chat("m").user("x").stream()).await.unwrap();
    let (text, error) = read(stream).await;
    assert_eq!((text.as_str(), error.unwrap().kind()), ("small", ErrorKind::Interrupted));
}

#[tokio::test]
async fn fim_streams_too() {
    let stub = Stub::start(|_| {
        let chunk = |text: &str, finish: serde_json::Value| {
            piece(&format!("data: {}\n\n", json!({"choices": [{"index": 0, "text": text, "finish_reason": finish}]})))
        };
        vec![head("text/event-stream"), chunk("a", json!(null)), chunk("b", json!("stop")), done(), last()]
    })
    .await;
    let stream = soon(stub.client().fim("m").prompt("x").stream()).await.unwrap();
    assert_eq!(soon(stream.into_completion()).await.unwrap().text(), Some("ab"));
}

#[tokio::test]
async fn a_reader_that_stops_holds_the_server_back_and_nobody_else() {
    const PIECES: usize = 2_000;
    let stub = Stub::start(|request| match request.number {
        1 => {
            let piece = "x".repeat(20_000);
            let mut steps = vec![head("text/event-stream")];
            steps.extend((0..PIECES).map(|_| text(&piece)));
            steps.extend([event(json!({}), Some("stop")), done(), last()]);
            steps
        }
        _ => json(200, &completion("ok")),
    })
    .await;
    let client = stub.builder().max_concurrency(2).build().unwrap();
    let mut stream = soon(client.chat("m").user("x").stream()).await.unwrap();
    soon(stream.next()).await.unwrap().unwrap();
    for _ in 0..20 {
        soon(client.chat("m").user("x").send()).await.unwrap();
    }
    // 40 MB fit in no buffer on the way: the server is still at it.
    assert_eq!(stub.in_flight(), 1);
    assert_eq!(client.load().in_flight, 1);
    let mut length = 20_000;
    while let Some(chunk) = soon(stream.next()).await {
        length += chunk.unwrap().content().map_or(0, str::len);
    }
    assert_eq!(length, PIECES * 20_000);
}

#[tokio::test]
async fn a_body_that_ends_a_moment_after_done_leaves_its_connection_to_the_next() {
    let stub = Stub::start(|_| {
        let end = [done(), Step::Wait(Duration::from_millis(100)), last()];
        [head("text/event-stream"), text("a"), event(json!({}), Some("stop"))].into_iter().chain(end).collect()
    })
    .await;
    let client = stub.client();
    for _ in 0..4 {
        let reply = soon(soon(client.chat("m").user("x").stream()).await.unwrap().into_completion()).await.unwrap();
        assert_eq!((reply.content(), client.load().in_flight), (Some("a"), 0), "nobody waits for it");
        until("the body's end is sent", || stub.in_flight() == 0).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!((stub.connections(), stub.abandoned()), (1, 0));
}
