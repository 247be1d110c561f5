//! The simulated provider on real sockets, seen from a client.
#![cfg(all(feature = "sim", feature = "client"))]

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use serde_json::{Value, json};
use tidegate::sim::answer::{Verdict, verify};
use tidegate::sim::scenario::{Account, Balance, BodyStyle, Faults, Queue, Rate, RetryAfter, RetryAfterForm, Window};
use tidegate::sim::{End, RejectReason, Scenario, ServeEvent, ServeOptions, Server, StartError, Tally, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const KEY: &str = "sk-test-0123456789-wxyz";
/// Long enough for any machine; a test that comes here has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn local() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

async fn start(scenario: Scenario) -> Server {
    Server::start(scenario, 7, local()).await.unwrap()
}

/// A quick provider: answers of 24 tokens within 50 ms.
fn quick() -> Scenario {
    let mut scenario = Scenario::default().with_service_time(0.05);
    scenario.service.first_token = 0.01.into();
    scenario.service.output_tokens = 24.0.into();
    scenario
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn chat(prompt: &str, stream: bool) -> Value {
    json!({
        "model": "deepseek-flash", "stream": stream, "thinking": {"type": "disabled"},
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}],
    })
}

fn post(server: &Server, path: &str, body: &Value) -> reqwest::RequestBuilder {
    client()
        .post(format!("{}{path}", server.url()))
        .bearer_auth(KEY)
        .header("content-type", "application/json")
        .body(body.to_string())
}

async fn json_of(response: reqwest::Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

/// The data of each event of a stream; comments are left out.
fn events(body: &str) -> Vec<&str> {
    body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect()
}

/// What the deltas add up to under `field`.
fn joined(chunks: &[Value], field: &str) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"][field].as_str()).collect()
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what} did not come true");
}

async fn until_tally(server: &Server, what: &str, holds: impl Fn(&Tally) -> bool) {
    until(what, || std::future::ready(holds(&server.tally()))).await;
}

#[tokio::test]
async fn a_stream_has_the_recorded_shape_and_the_whole_answer() {
    let server = start(Scenario { cache_hit: 1.0, ..quick() }).await;
    let prompt = format!("为什么 the sky \"blue\"\n? 🌊 {}", "more ".repeat(60));
    for thinking in [false, true] {
        let mut body = chat(&prompt, true);
        if thinking {
            body["thinking"] = json!({"type": "enabled"});
        }
        let response = post(&server, "/chat/completions", &body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
        assert_eq!(response.headers()["x-ds-trace-id"].len(), 32);
        assert_eq!(response.headers()["access-control-allow-origin"], "*");
        let text = response.text().await.unwrap();
        let events = events(&text);
        assert_eq!(events.last(), Some(&"[DONE]"));
        let chunks: Vec<Value> =
            events[..events.len() - 1].iter().map(|data| serde_json::from_str(data).unwrap()).collect();
        for chunk in &chunks {
            assert_eq!(chunk["object"], "chat.completion.chunk");
            assert_eq!(chunk["id"], chunks[0]["id"]);
            assert_eq!(chunk["model"], "deepseek-flash");
            assert!(chunk["choices"][0]["logprobs"].is_null() && chunk["choices"][0]["index"] == 0);
        }
        let (last, others) = chunks.split_last().unwrap();
        assert!(others.iter().all(|chunk| chunk["usage"].is_null() && chunk["choices"][0]["finish_reason"].is_null()));
        assert_eq!(last["choices"][0]["finish_reason"], "stop");
        let usage = &last["usage"];
        let count = |field: &str| usage[field].as_u64().unwrap();
        assert_eq!(count("completion_tokens"), 24);
        assert_eq!(count("prompt_tokens"), count("prompt_cache_hit_tokens") + count("prompt_cache_miss_tokens"));
        assert_eq!(count("total_tokens"), count("prompt_tokens") + 24);
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_cache_hit_tokens"]);
        assert!(count("prompt_cache_hit_tokens") >= 64 && count("prompt_cache_hit_tokens") % 64 == 0);
        assert_eq!(verify(&prompt, &joined(&chunks, "content")), Verdict::Whole);
        if thinking {
            assert_eq!(
                chunks[0]["choices"][0]["delta"],
                json!({"role": "assistant", "content": null, "reasoning_content": ""})
            );
            assert_eq!(last["choices"][0]["delta"], json!({"content": "", "reasoning_content": null}));
            assert_eq!(verify(&prompt, &joined(&chunks, "reasoning_content")), Verdict::Whole);
            assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 8);
        } else {
            assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
            assert_eq!(last["choices"][0]["delta"], json!({"content": ""}));
            assert!(usage.get("completion_tokens_details").is_none());
        }
    }
}

#[tokio::test]
async fn a_single_object_has_the_recorded_shape_under_each_base() {
    let server = start(quick()).await;
    for path in ["/chat/completions", "/v1/chat/completions", "/beta/chat/completions"] {
        let mut body = chat("hello", false);
        body["thinking"] = json!({"type": "enabled"});
        let response = post(&server, path, &body).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/json");
        let object = json_of(response).await;
        assert_eq!(object["object"], "chat.completion");
        let message = &object["choices"][0]["message"];
        assert_eq!(message["role"], "assistant");
        assert_eq!(verify("hello", message["content"].as_str().unwrap()), Verdict::Whole);
        assert_eq!(verify("hello", message["reasoning_content"].as_str().unwrap()), Verdict::Whole);
        assert_eq!(object["choices"][0]["finish_reason"], "stop");
        assert_eq!(object["usage"]["completion_tokens_details"]["reasoning_tokens"], 8);
    }
}

#[tokio::test]
async fn max_tokens_cuts_the_answer_and_says_so() {
    let server = start(quick()).await;
    let mut body = chat("hello", false);
    body["max_tokens"] = json!(16);
    let object = json_of(post(&server, "/chat/completions", &body).send().await.unwrap()).await;
    assert_eq!(object["choices"][0]["finish_reason"], "length");
    assert_eq!(object["usage"]["completion_tokens"], 16);
    let begun = object["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert_eq!(verify("hello", &begun), Verdict::Broken);
    // Chat prefix completion gives the rest.
    let mut body = chat("hello", false);
    body["messages"].as_array_mut().unwrap().push(json!({"role": "assistant", "content": begun, "prefix": true}));
    let object = json_of(post(&server, "/beta/chat/completions", &body).send().await.unwrap()).await;
    let rest = object["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(verify("hello", &format!("{begun}{rest}")), Verdict::Whole);
}

#[tokio::test]
async fn fill_in_the_middle_answers_as_text_completion() {
    let server = start(quick()).await;
    let mut body = json!({"model": "deepseek-v4-pro", "prompt": "fn main() {", "suffix": "}", "max_tokens": 64});
    for path in ["/completions", "/beta/completions"] {
        let object = json_of(post(&server, path, &body).send().await.unwrap()).await;
        assert_eq!(object["object"], "text_completion");
        assert_eq!(verify("fn main() {", object["choices"][0]["text"].as_str().unwrap()), Verdict::Whole);
    }
    body["stream"] = json!(true);
    let text = post(&server, "/beta/completions", &body).send().await.unwrap().text().await.unwrap();
    let events = events(&text);
    assert_eq!(events.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> = events[..events.len() - 1].iter().map(|e| serde_json::from_str(e).unwrap()).collect();
    let whole: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(verify("fn main() {", &whole), Verdict::Whole);
    assert!(chunks.iter().all(|chunk| chunk["object"] == "text_completion"));
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn tools_are_called_when_the_request_asks() {
    let server = start(quick()).await;
    let mut body = chat("What is the weather in Kraków?", true);
    body["tools"] = json!([{"type": "function", "function": {"name": "get_weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city", "days"],
    }}}]);
    body["tool_choice"] = json!({"type": "function", "function": {"name": "get_weather"}});
    let arguments = json!({"city": "What is the weather in Kraków?", "days": 1});
    let text = post(&server, "/chat/completions", &body).send().await.unwrap().text().await.unwrap();
    let events = events(&text);
    let chunks: Vec<Value> = events[..events.len() - 1].iter().map(|e| serde_json::from_str(e).unwrap()).collect();
    let calls: Vec<&Value> =
        chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]["tool_calls"][0]).filter(|c| c.is_object()).collect();
    assert!(calls[0]["id"].as_str().unwrap().starts_with("call_"));
    assert_eq!(calls[0]["function"]["name"], "get_weather");
    assert!(calls.len() > 1 && calls[1..].iter().all(|call| call.get("id").is_none() && call["index"] == 0));
    let written: String = calls.iter().filter_map(|call| call["function"]["arguments"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), arguments);
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");

    body["stream"] = json!(false);
    let object = json_of(post(&server, "/chat/completions", &body).send().await.unwrap()).await;
    let call = &object["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(serde_json::from_str::<Value>(call["arguments"].as_str().unwrap()).unwrap(), arguments);
    assert_eq!(object["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn models_and_balance_are_listed() {
    let server = start(Scenario {
        models: BTreeMap::from([("own-model".to_owned(), 3.into())]),
        balance: Some(Balance { amount: 12.345, ..Balance::default() }),
        ..quick()
    })
    .await;
    let get = |path: &str| client().get(format!("{}{path}", server.url())).bearer_auth(KEY).send();
    let models = json_of(get("/models").await.unwrap()).await;
    assert_eq!(models["data"][0], json!({"id": "deepseek-flash", "object": "model", "owned_by": "deepseek"}));
    assert_eq!(models["data"].as_array().unwrap().len(), 3);
    assert_eq!(
        json_of(get("/user/balance").await.unwrap()).await,
        json!({"is_available": true, "balance_infos": [
            {"currency": "USD", "total_balance": "12.35", "granted_balance": "0.00", "topped_up_balance": "12.35"}]})
    );
}

#[tokio::test]
async fn refusals_have_the_recorded_bodies() {
    let account = Account { name: "only".to_owned(), keys: vec![KEY.to_owned()], cap: Some(0.into()), balance: None };
    let server = start(Scenario { accounts: vec![account], ..quick() }).await;
    let url = |path: &str| format!("{}{path}", server.url());
    let body = chat("hi", false).to_string();

    let response = client().post(url("/chat/completions")).body(body.clone()).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().get("content-type")), (401, None));
    assert_eq!(response.text().await.unwrap(), "Authentication Fails (governor)");

    let wrong = client().post(url("/chat/completions")).bearer_auth("sk-some-wrong-key").body(body);
    let response = wrong.send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(
        json_of(response).await,
        json!({"error": {"message": "Authentication Fails, Your api key: ****-key is invalid",
            "type": "authentication_error", "param": null, "code": "invalid_request_error"}})
    );

    let broken = client().post(url("/chat/completions")).bearer_auth(KEY).body("{\"model\": 1}").send().await.unwrap();
    assert_eq!(broken.status(), 400);
    assert_eq!(broken.headers()["content-type"], "application/octet-stream");
    let message = json_of(broken).await["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("Failed to deserialize the JSON body into the target type: model: "), "{message}");

    let response = post(&server, "/chat/completions", &chat("hi", true)).send().await.unwrap();
    assert_eq!(response.status(), 429);
    let message = json_of(response).await["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("Your current concurrency is 1, which exceeds your concurrency limit of 0 "), "{message}");

    assert_eq!(post(&server, "/responses", &json!({})).send().await.unwrap().status(), 404);
    assert_eq!(client().get(url("/chat/completions")).bearer_auth(KEY).send().await.unwrap().status(), 405);
    let tally = server.tally();
    assert_eq!(
        tally.rejected,
        BTreeMap::from([(RejectReason::Slot, 1), (RejectReason::Authentication, 2), (RejectReason::BadRequest, 1)])
    );
    assert!(!serde_json::to_string(&tally).unwrap().contains(KEY));
}

#[tokio::test]
async fn a_browser_may_call_it_from_any_origin() {
    let server = start(quick()).await;
    let response = client()
        .request(reqwest::Method::OPTIONS, format!("{}/v1/chat/completions", server.url()))
        .header("origin", "http://localhost:3000")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type,x-client")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 204);
    let headers = response.headers();
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert_eq!(headers["access-control-allow-headers"], "authorization,content-type,x-client");
    assert!(headers["access-control-allow-methods"].to_str().unwrap().contains("POST"));
}

#[tokio::test]
async fn the_cap_is_never_exceeded_and_the_tally_is_exact() {
    let server = start(Scenario { cap: Some(8.into()), ..quick() }).await;
    let (http, url) = (client(), format!("{}/chat/completions", server.url()));
    // Forty clients try for ten answers each, as fast as they can.
    let runs = (0..40).map(|n| {
        let (http, url) = (http.clone(), url.clone());
        async move {
            let (mut sent, mut refused) = (0u64, 0u64);
            for i in 0..10 {
                let (tag, prompt) = (format!("{n}-{i}"), format!("prompt {n} {i}"));
                loop {
                    sent += 1;
                    let request = http.post(&url).bearer_auth(KEY).header("x-request-tag", &tag);
                    let request = request.header("x-client", format!("client {}", n % 2));
                    let response = request.body(chat(&prompt, i % 2 == 0).to_string()).send().await.unwrap();
                    if response.status() == 429 {
                        refused += 1;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                    assert_eq!(response.status(), 200);
                    let text = response.text().await.unwrap();
                    assert!(i % 2 == 1 || text.ends_with("data: [DONE]\n\n"));
                    break;
                }
            }
            (sent, refused)
        }
    });
    let counts = join_all(runs).await;
    let (sent, refused) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    let tally = server.tally();
    assert_eq!((tally.requests, tally.admitted, tally.completed), (sent, 400, 400));
    assert_eq!((tally.slot_rejections(), tally.rejected_total()), (refused, refused));
    assert!(refused > 0);
    assert_eq!((tally.disconnected, tally.in_flight, tally.faulted.len()), (0, 0, 0));
    let lane = &tally.lanes[0];
    assert_eq!((lane.cap, lane.peak_in_flight, lane.in_flight), (8, 8, 0));
    assert_eq!((tally.distinct_completed, tally.duplicates.len()), (400, 0));
    assert_eq!(tally.clients.values().map(|client| client.completed).collect::<Vec<_>>(), [200, 200]);
    assert!(tally.utilisation().unwrap() <= 1.0);
    assert_eq!(server.completions_of("3-3"), 1);
}

#[tokio::test]
async fn while_a_request_waits_the_connection_is_kept_alive() {
    let server =
        start(Scenario { queue: Queue { wait: 0.35.into(), keep_alive: 0.1, ..Queue::default() }, ..quick() }).await;
    let text = post(&server, "/chat/completions", &chat("hi", true)).send().await.unwrap().text().await.unwrap();
    assert!(text.starts_with(&": keep-alive\n\n".repeat(3)), "{text}");
    assert_eq!(text.matches(": keep-alive").count(), 3);
    assert!(text.ends_with("data: [DONE]\n\n"));
    let text = post(&server, "/chat/completions", &chat("hi", false)).send().await.unwrap().text().await.unwrap();
    assert!(text.starts_with("\n\n\n{"), "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["object"], "chat.completion");
}

#[tokio::test]
async fn a_request_whose_inference_does_not_start_in_time_is_hung_up_on() {
    for keep_alive in [0.05, 10.0] {
        let queue = Queue { wait: 5.0.into(), keep_alive, hang_up_after: 0.2, ..Queue::default() };
        let server = start(Scenario { queue, ..quick() }).await;
        // With signs of life before, the head has come and the body breaks; without, there is no answer at all.
        match post(&server, "/chat/completions", &chat("hi", true)).send().await {
            Ok(response) => {
                assert!(keep_alive < 1.0);
                assert!(response.bytes().await.is_err());
            }
            Err(_) => assert!(keep_alive > 1.0),
        }
        until_tally(&server, "the slot is free", |t| t.in_flight == 0).await;
        assert_eq!(server.tally().faulted, BTreeMap::from([(End::HangUp, 1)]));
    }
}

/// A server whose every admitted request suffers one fault.
async fn faulty(faults: Faults) -> Server {
    let mut scenario = Scenario { faults, cap: Some(4.into()), ..quick() };
    scenario.service.output_tokens = 200.0.into();
    start(scenario).await
}

#[tokio::test]
async fn a_cut_connection_delivers_a_part_and_then_an_error() {
    let server = faulty(Faults { cut: 1.0, ..Faults::default() }).await;
    for stream in [true, false] {
        let response = post(&server, "/chat/completions", &chat("hi", stream)).send().await.unwrap();
        let mut body = response.bytes_stream();
        let mut received = Vec::new();
        let error = loop {
            match body.next().await {
                Some(Ok(bytes)) => received.extend_from_slice(&bytes),
                Some(Err(error)) => break Some(error),
                None => break None,
            }
        };
        assert!(error.is_some(), "the break is noticed");
        let text = String::from_utf8(received).unwrap();
        assert!(!text.is_empty() && !text.contains("[DONE]") && !text.contains("\"stop\""), "{text}");
        assert!(!stream || text.contains("“hi”"), "{text}");
    }
    assert_eq!(server.tally().faulted, BTreeMap::from([(End::Cut, 2)]));
}

#[tokio::test]
async fn a_stalled_answer_stays_open_and_holds_its_slot_until_the_client_goes() {
    let server = faulty(Faults { stall: 1.0, ..Faults::default() }).await;
    for stream in [true, false] {
        let response = post(&server, "/chat/completions", &chat("hi", stream)).send().await.unwrap();
        let mut body = response.bytes_stream();
        assert!(!body.next().await.unwrap().unwrap().is_empty());
        // All that will come has come well within this time; the connection is still open.
        let rest = async { while body.next().await.expect("not ended").is_ok() {} };
        assert!(tokio::time::timeout(Duration::from_millis(300), rest).await.is_err());
        assert_eq!(server.tally().in_flight, 1);
        drop(body);
        until_tally(&server, "the slot is free", |t| t.in_flight == 0 && t.lanes[0].in_flight == 0).await;
    }
    assert_eq!(server.tally().disconnected, 2);
}

#[tokio::test]
async fn other_faults_end_the_answer_in_their_own_way() {
    async fn text_of(faults: Faults, stream: bool, style: BodyStyle) -> String {
        let mut scenario = Scenario { faults, ..quick() };
        scenario.rejection.body = style;
        let server = start(scenario).await;
        let response = post(&server, "/chat/completions", &chat("hi", stream)).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.text().await.unwrap()
    }
    let none = Faults::default();
    for stream in [true, false] {
        let deepseek = BodyStyle::Deepseek;
        assert_eq!(text_of(Faults { empty_body: 1.0, ..none.clone() }, stream, deepseek).await, "");
        let blank = text_of(Faults { blank_body: 1.0, ..none.clone() }, stream, deepseek).await;
        assert!(!blank.is_empty() && blank.trim().is_empty());
        let garbage = text_of(Faults { garbage: 1.0, ..none.clone() }, stream, deepseek).await;
        assert!(garbage.starts_with("<html>"));
        let early = text_of(Faults { clean_end: 1.0, ..none.clone() }, stream, deepseek).await;
        assert!(!early.is_empty() && !early.contains("[DONE]") && !early.contains("\"stop\""), "{early}");
        let error = text_of(Faults { error_object: 1.0, ..none.clone() }, stream, deepseek).await;
        assert!(error.contains("\"error\":{") && error.contains("Service is too busy") && !error.contains("[DONE]"));
        let error = text_of(Faults { error_object: 1.0, ..none.clone() }, stream, BodyStyle::Openrouter).await;
        assert!(error.contains("\"code\":502") && error.contains("\"finish_reason\":\"error\""));
        let starved = text_of(Faults { insufficient_resource: 1.0, ..none.clone() }, stream, deepseek).await;
        assert!(starved.contains("\"finish_reason\":\"insufficient_system_resource\""), "{starved}");
        assert_eq!(starved.contains("[DONE]"), stream);
    }
}

#[tokio::test]
async fn a_reset_connection_gives_no_answer_and_takes_no_slot() {
    let server = faulty(Faults { reset: 1.0, ..Faults::default() }).await;
    let body = chat("hi", false).to_string();
    let mut socket = TcpStream::connect(server.addr()).await.unwrap();
    let head = format!(
        "POST /chat/completions HTTP/1.1\r\nhost: sim\r\nauthorization: Bearer {KEY}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let error = socket.read(&mut [0; 64]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let tally = server.tally();
    assert_eq!((tally.admitted, tally.rejected), (0, BTreeMap::from([(RejectReason::Reset, 1)])));
}

#[tokio::test]
async fn a_client_that_goes_frees_its_slot_before_and_after_the_head() {
    let mut scenario = Scenario { cap: Some(2.into()), ..Scenario::default() }.with_service_time(3600.0);
    scenario.service.first_token = 0.05.into();
    let server = start(scenario).await;
    // The stream's head comes with its first token; the object's only after an hour.
    let stream = post(&server, "/chat/completions", &chat("hi", true)).send().await.unwrap();
    let object = tokio::spawn(post(&server, "/chat/completions", &chat("hi", false)).send());
    until_tally(&server, "both are in flight", |t| t.in_flight == 2).await;
    assert_eq!(post(&server, "/chat/completions", &chat("hi", true)).send().await.unwrap().status(), 429);
    drop(stream);
    until_tally(&server, "the stream's slot is free", |t| t.lanes[0].in_flight == 1).await;
    object.abort();
    until_tally(&server, "the object's slot is free", |t| t.lanes[0].in_flight == 0).await;
    assert_eq!(server.tally().disconnected, 2);
    assert_eq!(post(&server, "/chat/completions", &chat("hi", true)).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_that_does_not_read_keeps_its_slot_and_hurts_no_one_else() {
    let mut scenario = Scenario { cap: Some(2.into()), ..quick() };
    // About 80 MB of chunks: more than the socket buffers hold.
    scenario.service.output_tokens = 300_000.0.into();
    scenario.service.chunk_tokens = 1;
    let server = start(scenario).await;
    let mut body = chat("hi", true);
    body["max_tokens"] = json!(300_000);
    let lazy = post(&server, "/chat/completions", &body).send().await.unwrap();
    body["max_tokens"] = json!(30);
    let other = post(&server, "/chat/completions", &body).send().await.unwrap().text().await.unwrap();
    assert!(other.ends_with("data: [DONE]\n\n"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.tally().in_flight, 1, "its answer was due long ago, but it has not taken it");
    drop(lazy);
    until_tally(&server, "the slot is free", |t| t.in_flight == 0).await;
}

#[tokio::test]
async fn a_rate_limit_speaks_of_the_rate_and_says_when_to_come_back() {
    let mut scenario = Scenario { rate: Rate { rpm: Some(3), ..Rate::default() }, ..quick() };
    scenario.rejection.retry_after = RetryAfter { form: RetryAfterForm::Seconds, seconds: 0.0 };
    let server = start(scenario).await;
    for left in ["2", "1", "0"] {
        let response = post(&server, "/chat/completions", &chat("hi", false)).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-ratelimit-remaining-requests"], left);
    }
    let response = post(&server, "/chat/completions", &chat("hi", false)).send().await.unwrap();
    assert_eq!(response.status(), 429);
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    assert!(json_of(response).await["error"]["message"].as_str().unwrap().starts_with("Rate limit reached: RPM"));
    assert_eq!(server.tally().rejected, BTreeMap::from([(RejectReason::Rpm, 1)]));
}

#[tokio::test]
async fn windows_answer_with_their_status_and_wait() {
    let mut window = Window::new(503, 0.0, 3600.0);
    window.retry_after = RetryAfter { form: RetryAfterForm::HttpDate, seconds: 90.0 };
    let server = start(Scenario { windows: vec![window], ..quick() }).await;
    let response = post(&server, "/chat/completions", &chat("hi", false)).send().await.unwrap();
    assert_eq!(response.status(), 503);
    let date = httpdate::parse_http_date(response.headers()["retry-after"].to_str().unwrap()).unwrap();
    let wait = date.duration_since(std::time::SystemTime::now()).unwrap();
    assert!(wait > Duration::from_secs(30) && wait <= Duration::from_secs(92), "{wait:?}");
    assert_eq!(json_of(response).await["error"]["type"], "service_unavailable_error");
}

#[tokio::test]
async fn a_server_that_dies_breaks_every_answer_and_can_be_started_again_on_its_port() {
    let mut scenario = Scenario::default().with_service_time(3600.0);
    scenario.service.first_token = 0.01.into();
    let server = start(scenario).await;
    let addr = server.addr();
    let streams = join_all((0..20).map(|_| post(&server, "/chat/completions", &chat("hi", true)).send())).await;
    let tally = server.kill().await;
    assert_eq!((tally.admitted, tally.disconnected, tally.in_flight), (20, 20, 0));
    for stream in streams {
        assert!(stream.unwrap().bytes().await.is_err(), "mid-answer");
    }
    assert!(TcpStream::connect(addr).await.is_err(), "nobody listens");
    let again = Server::start(quick(), 7, addr).await.unwrap();
    assert_eq!(post(&again, "/chat/completions", &chat("hi", true)).send().await.unwrap().status(), 200);
    assert!(matches!(Server::start(quick(), 7, addr).await, Err(StartError::Listen { .. })), "the port is taken");
}

#[tokio::test]
async fn a_server_that_stops_lets_answers_end() {
    let server = start(quick().with_service_time(0.3)).await;
    let response = post(&server, "/chat/completions", &chat("hi", true)).send().await.unwrap();
    let (tally, text) = tokio::join!(server.stop(PATIENCE), response.text());
    assert!(text.unwrap().ends_with("data: [DONE]\n\n"));
    assert_eq!((tally.completed, tally.disconnected), (1, 0));
}

#[tokio::test]
async fn it_can_be_steered_and_looked_into_over_http() {
    let server = start(Scenario { cap: Some(0.into()), ..quick() }).await;
    let control = |path: &str| format!("{}/__sim/{path}", server.url());
    let send = || post(&server, "/chat/completions", &chat("hi", false)).header("x-request-tag", "one").send();
    assert_eq!(send().await.unwrap().status(), 429);

    let bad = client().post(control("scenario")).body(r#"{"cap": "many"}"#).send().await.unwrap();
    assert_eq!(bad.status(), 400);
    let message = json_of(bad).await["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("line 1") && message.contains("`cap`"), "{message}");

    let scenario = r#"{"cap": 5, "service": {"time": 0.01}}"#;
    assert_eq!(client().post(control("scenario")).body(scenario).send().await.unwrap().status(), 204);
    let shown = json_of(client().get(control("scenario")).send().await.unwrap()).await;
    assert_eq!(shown["cap"], json!({"constant": 5}));
    for _ in 0..2 {
        assert_eq!(send().await.unwrap().status(), 200);
    }
    let tally: Tally =
        serde_json::from_value(json_of(client().get(control("tally")).send().await.unwrap()).await).unwrap();
    assert_eq!((tally.requests, tally.completed, tally.distinct_completed), (2, 2, 1));
    assert_eq!(tally.duplicates, BTreeMap::from([("one".to_owned(), 2)]));
    let completions = json_of(client().get(control("completions")).send().await.unwrap()).await;
    assert_eq!(completions, json!({"one": 2}));
    assert_eq!(client().post(control("reset")).send().await.unwrap().status(), 204);
    assert_eq!((server.tally().requests, server.cap(Some(KEY), "deepseek-flash")), (0, 5));
    let task = r#"{"jobs": 10, "round_trip": 0.01}"#;
    let oracle = json_of(client().post(control("oracle")).body(task).send().await.unwrap()).await;
    assert_eq!(oracle, json!({"completed": 10, "makespan": 0.04}), "two rounds of 10 ms and a round trip each");
    let task = r#"{"jobs": 1000000}"#;
    assert_eq!(client().post(control("oracle")).body(task).send().await.unwrap().status(), 400);
    assert_eq!(client().get(control("nothing")).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn an_answer_begun_before_a_reset_does_not_count_after_it() {
    let server = start(quick().with_service_time(0.2)).await;
    let response = post(&server, "/chat/completions", &chat("hi", true)).send().await.unwrap();
    server.reset();
    assert!(response.text().await.unwrap().ends_with("data: [DONE]\n\n"), "it goes on as planned");
    let tally = server.tally();
    assert_eq!((tally.requests, tally.completed, tally.in_flight), (0, 0, 0));
}

#[tokio::test]
async fn the_same_seed_decides_the_same() {
    let run = |seed| async move {
        let mut scenario = quick().with_service_time(0.01);
        scenario.faults = Faults { error_object: 0.3, empty_body: 0.2, ..Faults::default() };
        scenario.windows = vec![Window { probability: 0.3, latency: 0.0, ..Window::new(503, 0.0, 3600.0) }];
        let server = Server::start(scenario, seed, local()).await.unwrap();
        let mut seen = Vec::new();
        for i in 0..30 {
            let response = post(&server, "/chat/completions", &chat(&i.to_string(), false)).send().await.unwrap();
            let status = response.status().as_u16();
            let mut body = response.text().await.unwrap();
            if let Some((before, rest)) = body.split_once("\"created\":") {
                body = format!("{before}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()));
            }
            seen.push((status, body));
        }
        seen
    };
    let first = run(3).await;
    assert_eq!(first, run(3).await);
    assert_ne!(first, run(4).await);
    assert!(first.iter().any(|(status, _)| *status == 503) && first.iter().any(|(status, _)| *status == 200));
}

#[tokio::test]
async fn serve_tells_how_it_goes_until_it_is_told_to_stop() {
    let (urls, mut url) = tokio::sync::mpsc::unbounded_channel();
    let (done, stop) = tokio::sync::oneshot::channel::<()>();
    let mut reports = 0;
    let options =
        ServeOptions { scenario: quick(), report_every: Duration::from_millis(10), ..ServeOptions::default() };
    let serving = serve(
        options,
        |event| match event {
            ServeEvent::Listening(url) => urls.send(url.to_owned()).unwrap(),
            ServeEvent::Progress(_) => reports += 1,
            _ => {}
        },
        async { stop.await.unwrap() },
    );
    let calling = async {
        let url = url.recv().await.unwrap();
        let request = client().post(format!("{url}/v1/chat/completions")).bearer_auth(KEY);
        let text = request.body(chat("hi", false).to_string()).send().await.unwrap().text().await.unwrap();
        done.send(()).unwrap();
        text
    };
    let (tally, text) = tokio::join!(serving, calling);
    assert!(text.contains("chat.completion"));
    assert_eq!(tally.unwrap().completed, 1);
    assert!(reports > 0);
}

/// The soft limit on open files, where the system tells it.
fn open_files() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_thousand_streams_at_once_all_end_whole() {
    const STREAMS: usize = 3_000;
    if open_files().is_none_or(|limit| limit < 2 * STREAMS as u64 + 200) {
        eprintln!("NOT RUN: 3,000 streams need 6,200 open files (ulimit -n)");
        return;
    }
    let mut scenario = Scenario { cap: Some((STREAMS as u32).into()), ..Scenario::default() };
    // Nobody is done before everybody has come, or the peak would depend on the machine.
    scenario.service.time = Some(8.0.into());
    scenario.service.first_token = 4.0.into();
    scenario.service.output_tokens = 80.0.into();
    let server = start(scenario).await;
    let addr = server.addr();
    let streams = (0..STREAMS).map(|i| {
        tokio::spawn(async move {
            let mut socket = TcpStream::connect(addr).await.unwrap();
            let prompt = format!("stream {i}");
            let body = chat(&prompt, true).to_string();
            let request = format!(
                "POST /chat/completions HTTP/1.1\r\nhost: sim\r\nconnection: close\r\nauthorization: Bearer {KEY}\r\n\
                 x-request-tag: {i}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
            // Chunked encoding puts a line with the length before each frame and an empty one behind it.
            let chunks: Vec<Value> = (answer.lines().filter_map(|line| line.strip_prefix("data: {")))
                .map(|rest| serde_json::from_str(&format!("{{{rest}")).unwrap())
                .collect();
            assert_eq!(verify(&prompt, &joined(&chunks, "content")), Verdict::Whole);
            assert!(answer.contains("data: [DONE]"));
        })
    });
    for stream in join_all(streams).await {
        stream.unwrap();
    }
    let tally = server.tally();
    assert_eq!((tally.admitted, tally.completed, tally.distinct_completed), (3_000, 3_000, 3_000));
    assert_eq!((tally.rejected_total(), tally.disconnected), (0, 0));
    println!("peak in flight: {}", tally.lanes[0].peak_in_flight);
}
