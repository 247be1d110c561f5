//! The Rust client compiled to wasm32, with the host's `fetch` and timers: in Node, and in a browser by
//! `WASM_BINDGEN_USE_BROWSER=1`. `tests/wasm/run` starts the servers and says where they are.
#![cfg(all(target_family = "wasm", target_os = "unknown"))]

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, join_all, select};
use gloo_timers::future::sleep;
use serde_json::{Value, json};
use tidegate::{Client, ClientBuilder, Clocks, Error, ErrorKind, RetryPolicy};
use wasm_bindgen_test::wasm_bindgen_test as test;

/// The process that has the servers; see `tests/js/harness/control.js`.
const CONTROL: Option<&str> = option_env!("TIDEGATE_TEST_CONTROL");

async fn tell(method: reqwest::Method, path: &str, body: Value) -> Value {
    let control = CONTROL.expect("TIDEGATE_TEST_CONTROL says where the servers are; run tests/wasm/run");
    let mut request = reqwest::Client::new().request(method, format!("{control}/{path}"));
    if !body.is_null() {
        request = request.body(body.to_string());
    }
    let text = request.send().await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_default()
}

struct Server {
    path: String,
    url: String,
}

impl Server {
    /// A server that gives one answer after the other, the last again and again.
    async fn scripted(answers: Value) -> Self {
        Self::start("servers", answers).await
    }

    /// A simulated provider that plays a scenario; its answers have a few tokens and come at once.
    async fn simulated(mut scenario: Value) -> Self {
        if scenario.get("service").is_none() {
            scenario["service"] = fast(json!(null));
        }
        Self::start("simulators", scenario).await
    }

    async fn start(kind: &str, body: Value) -> Self {
        let made = tell(reqwest::Method::POST, kind, body).await;
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        Self { path: format!("{kind}/{}", text("id")), url: text("url") }
    }

    async fn requests(&self) -> Vec<Value> {
        match tell(reqwest::Method::GET, &self.path, Value::Null).await {
            Value::Array(requests) => requests,
            other => panic!("expected requests, got {other}"),
        }
    }

    async fn has_seen(&self, requests: usize) {
        self.until(|seen| seen.len() >= requests, "requests").await;
    }

    async fn has_closed(&self, requests: usize) {
        let closed = |seen: &[Value]| seen.iter().filter(|request| request["closed"] == true).count();
        self.until(|seen| closed(seen) >= requests, "closed connections").await;
    }

    async fn until(&self, found: impl Fn(&[Value]) -> bool, what: &str) {
        for _ in 0..1000 {
            if found(&self.requests().await) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("there were never enough {what}");
    }

    async fn end(self) {
        tell(reqwest::Method::DELETE, &self.path, Value::Null).await;
    }

    fn builder(&self) -> ClientBuilder {
        Client::builder().api_key("sk-simulated-0123456789").base_url(&self.url)
    }

    fn client(&self) -> Client {
        self.builder().build().unwrap()
    }
}

fn fast(time: Value) -> Value {
    let mut service = json!({"first_token": 0.02, "tokens_per_second": 2000, "output_tokens": 40, "chunk_tokens": 4});
    if !time.is_null() {
        service["time"] = time;
    }
    service
}

fn answer(content: &str) -> Value {
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"});
    json!({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})
}

fn event(delta: Value, finish: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
    let chunk = json!({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]});
    format!("data: {chunk}\n\n")
}

fn says(content: &str) -> String {
    event(json!({"content": content}), None)
}

async fn text_of(stream: &mut tidegate::ChatStream) -> Result<String, Error> {
    let mut text = String::new();
    while let Some(chunk) = stream.next().await {
        text.push_str(chunk?.content().unwrap_or_default());
    }
    Ok(text)
}

/// Drives `future` until `enough`, and drops it; it must not be ready by then.
async fn give_up<T>(future: impl Future<Output = T>, enough: impl Future<Output = ()>) {
    if let Either::Left(_) = select(pin!(future), pin!(enough)).await {
        panic!("it was to be given up, and had ended");
    }
}

fn assert_idle(client: &Client) {
    let load = client.load();
    assert_eq!((load.in_flight, load.queued, load.backing_off), (0, 0, 0));
}

#[test]
async fn a_call_is_answered() {
    let sim = Server::simulated(json!({})).await;
    let client = sim.client();
    let reply = client.chat("deepseek-flash").user("Why do tides come twice a day?").send().await.unwrap();
    assert!(reply.content().is_some_and(|content| !content.is_empty()));
    assert!(reply.request_id().is_some());
    assert!(reply.elapsed() > Duration::ZERO, "the clock runs");
    assert!(client.models().await.unwrap().data.iter().any(|model| model.id.as_deref() == Some("deepseek-flash")));
    assert_eq!(client.balance().await.unwrap().is_available, Some(true));
    assert_idle(&client);
    sim.end().await;
}

#[test]
async fn a_stream_brings_reasoning_and_content_cut_within_characters() {
    let body = [
        event(json!({"role": "assistant", "content": ""}), None),
        event(json!({"reasoning_content": "hm 🌊"}), None),
        says("so 🌊"),
        event(json!({}), Some("stop")),
        "data: [DONE]\n\n".to_owned(),
    ];
    let server = Server::scripted(json!([{"body": body.concat(), "pieces": 7}])).await;
    let client = server.client();
    let mut stream = client.chat("m").user("x").stream().await.unwrap();
    assert_eq!(client.load().in_flight, 1);
    let (mut reasoning, mut content) = (String::new(), String::new());
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.unwrap();
        reasoning.push_str(chunk.reasoning().unwrap_or_default());
        content.push_str(chunk.content().unwrap_or_default());
    }
    assert_eq!((&*reasoning, &*content), ("hm 🌊", "so 🌊"));
    assert_idle(&client);
    server.end().await;
}

#[test]
async fn keep_alives_and_blank_lines_are_no_content() {
    let sim = Server::simulated(json!({"queue": {"wait": 0.3, "keep_alive": 0.05}})).await;
    let client = sim.client();
    assert!(client.chat("deepseek-flash").user("x").send().await.unwrap().content().is_some());
    let mut stream = client.chat("deepseek-flash").user("x").stream().await.unwrap();
    assert!(stream.keep_alives() >= 2);
    assert!(!text_of(&mut stream).await.unwrap().is_empty());
    sim.end().await;
}

#[test]
async fn many_calls_on_a_cap_that_moves_all_end_well() {
    let cap = json!({"steps": {"points": [[0, 4], [0.6, 1], [1.2, 3]], "repeat": 1.8}});
    let sim = Server::simulated(json!({"cap": cap, "service": fast(json!({"uniform": [0.05, 0.1]}))})).await;
    let client = sim.client();
    let calls = (0..60).map(|n| client.chat("deepseek-flash").user(format!("Number {n}.")).send());
    let failed = join_all(calls).await.into_iter().filter_map(Result::err).map(|error| error.to_string());
    assert_eq!(failed.collect::<Vec<_>>(), Vec::<String>::new());
    let counters = client.metrics().total.counters;
    assert_eq!((counters.completed, counters.failed), (60, 0));
    assert!(counters.slot_rejections > 0, "the cap was felt");
    assert_idle(&client);
    sim.end().await;
}

#[test]
async fn five_hundred_calls_at_once_are_answered() {
    let sim = Server::simulated(json!({"cap": 64, "service": fast(json!(0.03))})).await;
    let client = sim.client();
    let answers = join_all((0..500).map(|_| client.chat("deepseek-flash").user("x").send())).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(client.metrics().total.counters.completed, 500);
    assert_idle(&client);
    sim.end().await;
}

#[test]
async fn a_retry_after_is_waited_out() {
    let busy = json!({"status": 500, "headers": {"retry-after": "1"}, "body": "{}"});
    let server = Server::scripted(json!([busy, {"body": answer("yes").to_string()}])).await;
    let reply = server.client().chat("m").user("x").send().await.unwrap();
    assert_eq!(reply.content(), Some("yes"));
    let requests = server.requests().await;
    let at = |n: usize| requests[n]["at"].as_f64().unwrap();
    assert!(at(1) - at(0) >= 990.0, "asked again after {} ms", at(1) - at(0));
    server.end().await;
}

#[test]
async fn a_call_backs_off_and_is_tried_again() {
    let fault = json!({"status": 500, "body": "{}"});
    let server = Server::scripted(json!([fault, fault, fault, {"body": answer("at last").to_string()}])).await;
    let retry = RetryPolicy { base: Duration::from_millis(20), ..RetryPolicy::default() };
    let reply = server.builder().retry(retry).build().unwrap().chat("m").user("x").send().await.unwrap();
    assert_eq!((reply.content(), reply.attempts().len()), (Some("at last"), 4));
    server.end().await;
}

#[test]
async fn an_overload_and_an_empty_account_are_told_apart() {
    let windows = json!([{"status": 503, "to": 0.5, "latency": 0}]);
    let sim = Server::simulated(json!({"windows": windows})).await;
    assert!(sim.client().chat("deepseek-flash").user("x").send().await.is_ok());
    sim.end().await;
    let sim = Server::simulated(json!({"windows": [{"status": 402, "latency": 0}]})).await;
    let client = sim.client();
    let error = client.chat("deepseek-flash").user("x").send().await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::InsufficientBalance, Some(402)));
    sim.end().await;
}

#[test]
async fn a_connection_that_cannot_be_made_is_tried_again_and_then_an_error() {
    let server = Server::scripted(json!([{}])).await;
    let retry = RetryPolicy { base: Duration::from_millis(10), ..RetryPolicy::default() };
    let client = server.builder().retry(retry).max_attempts(2).build().unwrap();
    server.end().await;
    let error = client.chat("m").user("x").send().await.unwrap_err();
    assert_eq!((error.kind(), error.attempts_made()), (ErrorKind::Connection, 2));
}

#[test]
async fn a_call_dropped_in_flight_closes_its_connection() {
    for answer in [json!({"head": false, "end": "open"}), json!({"body": "{\"choices\":", "end": "open"})] {
        let server = Server::scripted(json!([answer])).await;
        let client = server.builder().max_concurrency(1).build().unwrap();
        let enough = async {
            server.has_seen(1).await;
            // For what comes of the answer.
            sleep(Duration::from_millis(100)).await;
        };
        give_up(client.chat("m").user("x").send(), enough).await;
        assert_idle(&client);
        server.has_closed(1).await;
        server.end().await;
    }
}

#[test]
async fn a_stream_dropped_unread_and_amid_its_chunks_closes_its_connection() {
    let server = Server::scripted(json!([{"body": [says("a"), says("b")], "end": "open"}])).await;
    let client = server.builder().max_concurrency(1).build().unwrap();
    drop(client.chat("m").user("x").stream().await.unwrap());
    assert_idle(&client);
    server.has_closed(1).await;
    let mut stream = client.chat("m").user("x").stream().await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().content(), Some("a"));
    assert_eq!(stream.next().await.unwrap().unwrap().content(), Some("b"));
    give_up(stream.next(), sleep(Duration::from_millis(50))).await;
    assert_eq!(client.load().in_flight, 1, "to give up waiting for a chunk ends nothing");
    drop(stream);
    assert_idle(&client);
    server.has_closed(2).await;
    server.end().await;
}

#[test]
async fn a_call_dropped_while_it_waits_or_backs_off_is_gone() {
    let server = Server::scripted(json!([{"status": 500, "headers": {"retry-after": "60"}, "body": "{}"}])).await;
    let client = server.client();
    let backs_off = async {
        while client.load().backing_off == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    give_up(client.chat("m").user("x").send(), backs_off).await;
    assert_idle(&client);
    assert_eq!(server.requests().await.len(), 1);
    server.end().await;

    let server = Server::scripted(json!([{"head": false, "end": "open"}])).await;
    let client = server.builder().max_concurrency(1).build().unwrap();
    {
        let mut first = pin!(client.chat("m").user("x").send());
        let _ = select(first.as_mut(), pin!(server.has_seen(1))).await;
        give_up(client.chat("m").user("x").send(), sleep(Duration::from_millis(50))).await;
        assert_eq!((client.load().in_flight, client.load().queued), (1, 0));
    }
    assert_idle(&client);
    server.has_closed(1).await;
    assert_eq!(server.requests().await.len(), 1, "the one that waited was never sent");
    server.end().await;
}

#[test]
async fn a_permit_that_comes_free_goes_to_who_waits() {
    let sim = Server::simulated(json!({"cap": 1, "service": fast(json!(0.02))})).await;
    let client = sim.builder().max_concurrency(1).build().unwrap();
    let streams = (0..20).map(async |_| text_of(&mut client.chat("deepseek-flash").user("x").stream().await?).await);
    assert!(join_all(streams).await.iter().all(|text| text.as_ref().is_ok_and(|text| !text.is_empty())));
    assert_eq!(client.metrics().total.counters.slot_rejections, 0);
    sim.end().await;
}

#[test]
async fn the_clocks_end_what_takes_too_long() {
    let silent = Server::scripted(json!([{"head": false, "end": "open"}])).await;
    let client = silent.client();
    let error = client.chat("m").user("x").deadline(Duration::from_secs(2)).send().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    silent.has_closed(1).await;
    silent.end().await;

    let stalling = Server::scripted(json!([{"body": says("a"), "end": "open"}])).await;
    let clocks = Clocks { idle: Some(Duration::from_millis(500)), ..Clocks::default() };
    let mut stream = stalling.client().chat("m").user("x").clocks(clocks).stream().await.unwrap();
    let error = text_of(&mut stream).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(error.partial().map(|partial| &*partial.text), Some("a"));
    stalling.has_closed(1).await;
    stalling.end().await;
}

#[test]
async fn a_stream_that_is_cut_is_an_error_with_what_came() {
    for fault in ["cut", "clean_end"] {
        let mut service = fast(Value::Null);
        service["output_tokens"] = 200.into();
        let sim = Server::simulated(json!({"faults": {fault: 1}, "service": service})).await;
        let client = sim.client();
        let mut stream = client.chat("deepseek-flash").user("x").stream().await.unwrap();
        let error = text_of(&mut stream).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        assert!(error.partial().is_some_and(|partial| !partial.text.is_empty() || !partial.reasoning.is_empty()));
        assert_idle(&client);
        sim.end().await;
    }
}

#[test]
async fn any_request_goes_through_the_gate() {
    let server = Server::scripted(json!([{"body": ["echo ", {"echo": "body"}]}])).await;
    let client = server.client();
    let mut request =
        reqwest::Request::new(reqwest::Method::POST, format!("{}/things?x=1", server.url).parse().unwrap());
    *request.body_mut() = Some(r#"{"model":"m"}"#.into());
    let response = client.execute(request).await.unwrap();
    assert_eq!(client.load().in_flight, 1);
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) =
        std::future::poll_fn(|cx| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), cx)).await
    {
        bytes.extend_from_slice(&frame.unwrap().into_data().unwrap_or_default());
    }
    assert_eq!(bytes, br#"echo {"model":"m"}"#);
    assert_idle(&client);
    assert_eq!(server.requests().await[0]["url"], "/things?x=1");
    server.end().await;
}

#[test]
async fn a_closed_client_rejects_who_waits_and_lets_who_is_in_flight_end() {
    let sim = Server::simulated(json!({"service": fast(json!(0.2))})).await;
    let client = sim.builder().max_concurrency(1).build().unwrap();
    let closing = async {
        sleep(Duration::from_millis(50)).await;
        client.close(Duration::from_secs(10)).await;
    };
    let calls = [0, 1].map(|_| client.chat("deepseek-flash").user("x").send());
    let (answers, ()) = futures::join!(join_all(calls), closing);
    assert!(answers[0].is_ok());
    assert_eq!(answers[1].as_ref().map_err(Error::kind).err(), Some(ErrorKind::Closed));
    sim.end().await;
}
