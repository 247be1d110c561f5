//! Streams that break off and are gone on with.
#![cfg(feature = "client")]

mod client_support;

use std::time::Duration;

use client_support::*;
use serde_json::json;
use tidegate::types::{Message, Tool};
use tidegate::{Client, ErrorKind, Route};

/// A client whose provider has prefix completion, at `/beta`.
fn client(stub: &Stub) -> Client {
    let route = Route::new("r").base_url(format!("{}/v1", stub.url())).beta_url(format!("{}/beta", stub.url()));
    Client::builder().route(route).build().unwrap()
}

/// The start of a stream that is cut.
fn cut(pieces: impl IntoIterator<Item = serde_json::Value>) -> Vec<Step> {
    let events = pieces.into_iter().map(|delta| event(delta, None));
    [head("text/event-stream")]
        .into_iter()
        .chain(events)
        .chain([Step::Wait(Duration::from_millis(20)), Step::Cut])
        .collect()
}

fn content(text: &str) -> serde_json::Value {
    json!({"content": text})
}

#[tokio::test]
async fn a_cut_stream_goes_on_where_it_broke_off_and_says_so() {
    let stub = Stub::start(|request| match request.number {
        1 => cut([json!({"reasoning_content": "tides"}), content("High water "), content("is at")]),
        2 => cut([content(" ten "), content("past")]),
        _ => stream(&[" six", "."]),
    })
    .await;
    let call = client(&stub).chat("m").system("Be brief.").user("When?").max_tokens(99).resume();
    let mut answer = soon(call.stream()).await.unwrap();
    let mut text = String::new();
    while let Some(chunk) = soon(answer.next()).await {
        text.push_str(chunk.unwrap().content().unwrap_or_default());
    }
    assert_eq!(text, "High water is at ten past six.");
    let report = answer.report().unwrap();
    assert_eq!((report.resumed, report.attempts_made, report.attempts.len()), (2, 3, 3));
    let whole = soon(answer.into_completion()).await.unwrap();
    assert_eq!((whole.content(), whole.reasoning()), (Some(&*text), Some("tides")));

    let seen = stub.seen();
    assert_eq!(
        seen.iter().map(|request| &*request.path).collect::<Vec<_>>(),
        ["/v1/chat/completions", "/beta/chat/completions", "/beta/chat/completions"]
    );
    let asked = &seen[2].body;
    assert_eq!(asked["messages"].as_array().unwrap().len(), 3);
    let prefix = json!({
        "role": "assistant", "content": "High water is at ten past", "reasoning_content": "tides", "prefix": true
    });
    assert_eq!(asked["messages"][2], prefix);
    assert_eq!((&asked["max_tokens"], &asked["stream"]), (&json!(99), &json!(true)));
}

#[tokio::test]
async fn into_completion_gives_the_whole_and_a_prefix_of_the_callers_is_kept() {
    let stub = Stub::start(|request| match request.number {
        1 => cut([content(" two")]),
        _ => stream(&[" three"]),
    })
    .await;
    let begun = Message::assistant_prefix("one");
    let call = client(&stub).chat("m").user("Count.").message(begun).resume();
    let reply = soon(soon(call.stream()).await.unwrap().into_completion()).await.unwrap();
    assert_eq!((reply.content(), reply.report().resumed), (Some(" two three"), 1));
    let messages = stub.seen()[1].body["messages"].clone();
    assert_eq!(messages.as_array().unwrap().len(), 2);
    assert_eq!(messages[1]["content"], "one two");
}

/// Reads to the error, which must carry the text `partial`, after `requests` requests.
#[tokio::test]
async fn the_time_of_a_call_that_is_resumed_begins_when_it_is_made() {
    let stub = Stub::start(|request| if request.number == 1 { cut([content("a")]) } else { stream(&["b"]) }).await;
    let call = client(&stub).chat("m").user("x").deadline(Duration::from_secs(120)).resume().stream();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3600)).await;
    tokio::time::resume();
    let reply = soon(soon(call).await.unwrap().into_completion()).await.unwrap();
    assert_eq!((reply.content(), reply.report().resumed), (Some("ab"), 1));
    assert!(reply.elapsed() < Duration::from_secs(3600), "{:?}", reply.elapsed());
}

async fn breaks_off(call: tidegate::client::ChatCall, partial: &str, stub: &Stub, requests: usize) {
    let mut answer = soon(call.stream()).await.unwrap();
    let error = loop {
        match soon(answer.next()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("a broken stream ended as if it were whole"),
        }
    };
    assert_eq!((error.kind(), &*error.partial().unwrap().text), (ErrorKind::Interrupted, partial));
    assert_eq!(error.attempts_made() as usize, requests);
    assert!(soon(answer.next()).await.is_none());
    assert_eq!(stub.requests(), requests);
}

#[tokio::test]
async fn reasoning_and_tool_calls_that_are_cut_cannot_be_resumed() {
    let stub = Stub::start(|_| cut([json!({"reasoning_content": "hm"})])).await;
    breaks_off(client(&stub).chat("m").user("x").resume(), "", &stub, 1).await;

    let call = json!({"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}});
    let stub = Stub::start(move |_| cut([content("Let me see."), json!({"tool_calls": [call]})])).await;
    let tools = [Tool::function("f", "Does it.", json!({"type": "object"}))];
    breaks_off(client(&stub).chat("m").user("x").tools(tools).resume(), "Let me see.", &stub, 1).await;
}

#[tokio::test]
async fn nothing_is_resumed_unasked_nor_where_a_route_may_not_have_it() {
    let stub = Stub::start(|_| cut([content("a")])).await;
    breaks_off(client(&stub).chat("m").user("x"), "a", &stub, 1).await;
    let stub = Stub::start(|_| cut([content("a")])).await;
    breaks_off(stub.client().chat("m").user("x").resume(), "a", &stub, 1).await;
    // The second choice had not begun.
    let stub = Stub::start(|_| cut([content("a")])).await;
    breaks_off(client(&stub).chat("m").user("x").extra("n", 2).resume(), "a", &stub, 1).await;
}

#[tokio::test]
async fn when_the_rest_is_refused_the_error_is_that_of_the_broken_stream() {
    let stub = Stub::start(|request| match request.number {
        1 => cut([content("a")]),
        _ => error(400, "invalid_request_error", "no prefix here"),
    })
    .await;
    let mut answer = soon(client(&stub).chat("m").user("x").resume().stream()).await.unwrap();
    soon(answer.next()).await.unwrap().unwrap();
    let error = soon(answer.next()).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), &*error.partial().unwrap().text), (ErrorKind::Interrupted, "a"));
    assert_eq!(stub.requests(), 2);
}

#[tokio::test]
async fn a_stream_that_breaks_again_and_again_is_given_up_with_all_that_came() {
    let stub = Stub::start(|_| cut([content("a")])).await;
    breaks_off(client(&stub).chat("m").user("x").resume(), "aaaaaa", &stub, 6).await;
}

#[tokio::test]
async fn dropping_a_stream_that_is_being_resumed_gives_everything_back() {
    let stub = Stub::start(|request| match request.number {
        1 => cut([content("a")]),
        _ => vec![Step::Hold],
    })
    .await;
    let client = client(&stub);
    let mut answer = soon(client.chat("m").user("x").resume().stream()).await.unwrap();
    soon(answer.next()).await.unwrap().unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), answer.next()).await.is_err());
    assert_eq!((stub.requests(), client.load().in_flight), (2, 1));
    drop(answer);
    assert_eq!(client.load().in_flight, 0);
    until("the connection is closed", || stub.abandoned() == 1).await;
}
