//! Whole answers over real sockets: what is sent, what is retried, what an error says.
#![cfg(feature = "client")]

mod client_support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client_support::*;
use serde_json::json;
use tidegate::types::{ChatRequest, Message};
use tidegate::{Class, Client, Clocks, ErrorKind, Event, OutcomeKind, RetryPolicy, Route, Strategy, WorkloadSpec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn quick() -> RetryPolicy {
    RetryPolicy { base: Duration::from_millis(1), ..RetryPolicy::default() }
}

const SLOT: &str = "Too many requests. Your current concurrency is 3, which exceeds your concurrency limit of 2 based on \
                    your remaining balance. Please top up your balance to restore your concurrency.";

#[tokio::test]
async fn a_call_sends_the_request_and_returns_the_answer_with_its_story() {
    let stub = Stub::start(|_| with_headers(200, "x-ds-trace-id: abc\r\n", &completion("Hello"))).await;
    let client = stub.client();
    let call = client.chat("deepseek-flash").system("Be short.").user("Hi").max_tokens(9).extra("top_k", 3);
    let reply = soon(call.send()).await.unwrap();
    assert_eq!(reply.content(), Some("Hello"));
    assert_eq!(reply.usage.as_ref().and_then(|usage| usage.total_tokens), Some(12));
    assert!(reply.route().starts_with("127.0.0.1:"), "{}", reply.route());
    assert_eq!((reply.request_id(), reply.attempts().len()), (Some("abc"), 1));
    let seen = &stub.seen()[0];
    assert_eq!(seen.path, "/chat/completions");
    assert_eq!(seen.header("authorization"), Some("Bearer sk-test-0123456789"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.body["messages"][1], json!({"role": "user", "content": "Hi"}));
    assert_eq!((&seen.body["max_tokens"], &seen.body["top_k"]), (&json!(9), &json!(3)));
    let metrics = client.metrics();
    assert_eq!((metrics.total.counters.completed, metrics.total.counters.completion_tokens), (1, 7));
    assert_eq!(metrics.in_flight, 0);
    assert!(client.prometheus().contains("tidegate_"));
}

#[tokio::test]
async fn blank_lines_before_the_answer_are_keep_alives() {
    let stub = Stub::start(|_| {
        let mut steps = vec![head("application/json")];
        for _ in 0..5 {
            steps.extend([piece("\n"), Step::Wait(Duration::from_millis(5))]);
        }
        steps.extend([piece("\n         \n"), piece(&completion("late")), last()]);
        steps
    })
    .await;
    let reply = soon(stub.client().chat("m").user("x").send()).await.unwrap();
    assert_eq!(reply.content(), Some("late"));
}

#[tokio::test]
async fn slot_rejections_wait_for_a_slot_and_spend_no_attempt() {
    let stub = Stub::start(|request| match request.number {
        1..=3 => error(429, "rate_limit_error", SLOT),
        _ => json(200, &completion("in")),
    })
    .await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = events.clone();
    let client = stub.builder().on_event(move |event| heard.lock().unwrap().push(event.clone())).build().unwrap();
    let reply = soon(client.chat("m").user("x").max_attempts(1).send()).await.unwrap();
    assert_eq!(reply.report().attempts_made, 4);
    assert_eq!(reply.attempts()[0].outcome, OutcomeKind::Slot);
    let events = events.lock().unwrap();
    assert!(events.iter().any(|event| matches!(event, Event::LowBalance { limit: 2, .. })), "{events:?}");
    assert!(events.iter().any(|event| matches!(event, Event::Retry { cause: OutcomeKind::Slot, .. })));
}

#[tokio::test]
async fn a_key_in_a_header_of_ones_own_is_struck_out_as_well() {
    let stub = Stub::start(|request| {
        let key = request.header("api-key").unwrap_or_default();
        with_headers(401, &format!("x-echo: {key}\r\n"), &format!("bad {key}, v1 it is"))
    })
    .await;
    let route = Route::new("own").base_url(stub.url()).header("api-key", "0123456789abcdef").header("x-token", "v1");
    let client = Client::builder().route(route).build().unwrap();
    let error = soon(client.chat("m").user("x").send()).await.unwrap_err();
    let response = error.response().unwrap();
    let shown = format!("{error} {error:?} {:?} {}", response.headers, String::from_utf8_lossy(&response.body));
    assert!(shown.contains("bad [redacted], v1 it is") && !shown.contains("0123456789abcdef"), "{shown}");
}

#[tokio::test]
async fn what_is_secret_in_a_requests_own_headers_is_struck_out_as_well() {
    let cookie = "sid=fedcba9876543210; theme=dark";
    let stub = Stub::start(|request| {
        let said = ["x-access-token", "cookie", "x-trace"].map(|name| request.header(name).unwrap_or_default());
        let said = said.join(", ");
        with_headers(400, &format!("x-echo: {said}\r\n"), &json!({"error": {"message": said}}).to_string())
    })
    .await;
    let request = reqwest::Client::new()
        .post(format!("{}/chat/completions", stub.url()))
        .header("x-access-token", "0123456789abcdef")
        .header("cookie", cookie)
        .header("x-trace", "tracing it")
        .body("{\"model\":\"m\"}");
    let error = soon(stub.client().execute(request.build().unwrap())).await.unwrap_err();
    assert_eq!(stub.seen()[0].header("cookie"), Some(cookie), "it is sent");
    let told = "[redacted], sid=[redacted]; theme=dark, tracing it";
    assert_eq!((error.message(), error.attempts()[0].message.as_deref()), (Some(told), Some(told)));
    let response = error.response().unwrap();
    assert_eq!(response.body, json!({"error": {"message": told}}).to_string());
    assert_eq!(response.headers["x-echo"], told);
}

#[tokio::test]
async fn an_error_says_which_route_decided_and_whether_it_was_asked_last() {
    let busy = Stub::start(|_| with_headers(503, "retry-after: 100\r\n", "{}")).await;
    let slow = Stub::start(|_| vec![Step::Hold]).await;
    let client = Client::builder()
        .routes([Route::new("busy").base_url(busy.url()), Route::new("slow").base_url(slow.url())])
        .deadline(Duration::from_secs(120))
        .build()
        .unwrap();
    let call = client.chat("m").user("x").deadline(Duration::from_millis(300));
    let error = soon(call.send()).await.unwrap_err();
    assert_eq!((error.kind(), error.route(), error.status()), (ErrorKind::Deadline, Some("busy"), Some(503)));
    assert_eq!(error.attempts().last().map(|last| &*last.route), Some("slow"));
    assert!(error.to_string().contains("(route `busy`, after 2 attempts, status 503)"), "{error}");
    let call = client.chat("m").user("x").deadline(Duration::from_millis(300));
    let error = soon(call.send()).await.unwrap_err();
    assert_eq!((error.status(), error.route()), (None, Some("slow")), "the other one rests");
    assert!(error.to_string().contains("(route `slow`, attempt 1)"), "{error}");
}

#[tokio::test]
async fn an_error_beside_a_stopped_route_is_of_the_one_that_was_asked() {
    let poor = Stub::start(|_| error(402, "unknown_error", "Insufficient Balance")).await;
    let refusing = Stub::start(|_| error(403, "permission_error", "not for you")).await;
    let poor = || Route::new("poor").base_url(poor.url());
    let client =
        Client::builder().route(poor()).route(Route::new("refusing").base_url(refusing.url())).build().unwrap();
    let refused = soon(client.chat("m").user("x").send()).await.unwrap_err();
    assert_eq!((refused.kind(), refused.route()), (ErrorKind::Forbidden, Some("refusing")));
    let text = refused.to_string();
    assert!(text.contains("(route `refusing`, attempt 2, status 403): not for you"), "{text}");

    let client = Client::builder().route(poor()).build().unwrap();
    let first = soon(client.chat("m").user("x").send()).await.unwrap_err();
    assert!(first.to_string().contains("(route `poor`, attempt 1, status 402)"), "{first}");
    let next = soon(client.chat("m").user("x").send()).await.unwrap_err();
    assert_eq!((next.route(), next.attempts_made()), (Some("poor"), 0));
    assert!(next.to_string().contains("(route `poor`, nothing was sent, status 402)"), "{next}");
}

#[tokio::test]
async fn an_error_says_how_long_the_server_asks_to_wait() {
    let stub = Stub::start(|_| with_headers(429, "retry-after: 3600\r\n", "{}")).await;
    let error = soon(stub.client().chat("m").user("x").deadline(Duration::from_secs(5)).send()).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Deadline, Some(Duration::from_secs(3600))));
    assert!(error.to_string().contains("; the server asks to wait 3600 s; allow it more time"), "{error}");
}

/// What the metrics say of the one lane there is.
fn lane(client: &Client) -> tidegate::core::metrics::LaneSnapshot {
    client.metrics().lanes.remove(0)
}

#[tokio::test]
async fn the_metrics_say_what_is_known_of_a_rate_limit_and_that_it_holds_the_lane() {
    let stub = Stub::start(|request| {
        // As Anthropic's are.
        let minute = |second: usize| format!("Mon, 24 Nov 2025 16:00:{second:02} GMT");
        let headers = format!(
            "date: {}\r\nanthropic-ratelimit-requests-limit: 2\r\nanthropic-ratelimit-requests-remaining: {}\r\n\
             anthropic-ratelimit-requests-reset: 2025-11-24T16:00:40Z\r\n",
            minute(request.number),
            2 - request.number
        );
        with_headers(200, &headers, &completion("in"))
    })
    .await;
    let client = stub.client();
    soon(client.chat("m").user("x").send()).await.unwrap();
    let first = lane(&client);
    assert_eq!((first.held_by, first.paused, first.requests_per_minute), (None, 0.0, Some(2.0)));
    assert_eq!((first.tokens_per_minute, first.release_lag), (None, 0.0));
    soon(client.chat("m").user("x").send()).await.unwrap();
    let second = lane(&client);
    assert_eq!(second.held_by, Some("rate"));
    assert!((30.0..=40.0).contains(&second.paused), "{} s", second.paused);
    let text = client.prometheus();
    assert!(text.contains("tidegate_requests_per_minute{") && text.contains(",by=\"rate\"} 1\n"), "{text}");
}

#[tokio::test]
async fn the_metrics_say_what_else_holds_a_lane() {
    let busy = Stub::start(|_| vec![head("application/json"), Step::Wait(Duration::from_secs(60)), last()]).await;
    let client = busy.builder().max_concurrency(1).build().unwrap();
    let call = tokio::spawn(client.chat("m").user("x").send().into_future());
    until("it is sent", || client.metrics().in_flight == 1).await;
    assert_eq!((lane(&client).held_by, lane(&client).paused), (Some("limit"), 0.0));
    call.abort();

    let failing = Stub::start(|_| with_headers(503, "retry-after: 30\r\n", "{}")).await;
    let client = failing.client();
    let call = tokio::spawn(client.chat("m").user("x").send().into_future());
    until("it is held", || client.metrics().lanes.first().is_some_and(|lane| lane.paused > 20.0)).await;
    assert_eq!(lane(&client).held_by, Some("pause"));
    call.abort();
}

#[tokio::test]
async fn nothing_is_lost_while_the_cap_moves() {
    let in_flight = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let stub = Stub::start(move |request| {
        use std::sync::atomic::Ordering::SeqCst;
        let cap = if request.number % 400 < 200 { 16 } else { 4 };
        if in_flight.fetch_update(SeqCst, SeqCst, |now| (now < cap).then_some(now + 1)).is_err() {
            return error(429, "rate_limit_error", "Too many requests. You have exceeded your concurrency limit.");
        }
        // The slot is free again when the answer has been written.
        let in_flight = in_flight.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            in_flight.fetch_sub(1, SeqCst);
        });
        let mut steps = vec![Step::Wait(Duration::from_millis(21))];
        steps.extend(json(200, &completion("ok")));
        steps
    })
    .await;
    let client = stub.client();
    let calls: Vec<_> = (0..300)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.chat("m").user("x").send().await })
        })
        .collect();
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
    let metrics = client.metrics();
    assert_eq!(metrics.total.counters.completed, 300);
    assert_eq!((metrics.queued, metrics.in_flight), (0, 0));
}

#[tokio::test]
async fn overload_server_errors_and_blank_bodies_are_retried() {
    let stub = Stub::start(|request| match request.number {
        1 => error(503, "service_unavailable_error", "Service is too busy."),
        2 => json(500, "oops"),
        3 => json(200, "\n\n\n"),
        4 => vec![Step::Cut],
        5 => json(200, &completion("x").replace("\"stop\"", "\"insufficient_system_resource\"")),
        6 => json(200, r#"{"error":{"code":502,"message":"upstream died"}}"#),
        7 => json(200, "{\"choices\": [{\"mess"),
        _ => json(200, &completion("at last")),
    })
    .await;
    let client = stub.builder().retry(quick()).max_attempts(20).build().unwrap();
    let reply = soon(client.chat("m").user("x").send()).await.unwrap();
    assert_eq!(reply.content(), Some("at last"));
    let kinds: Vec<_> = reply.attempts().iter().map(|attempt| attempt.outcome).collect();
    use OutcomeKind as K;
    assert_eq!(
        kinds,
        [K::Pressure, K::Server, K::Pressure, K::Transport, K::Pressure, K::Pressure, K::Malformed, K::Success]
    );
}

#[tokio::test]
async fn a_whole_answer_with_an_empty_finish_reason_is_one_without() {
    let stub = Stub::start(|_| json(200, &completion("hi").replace("\"stop\"", "\"\""))).await;
    let reply = soon(stub.client().chat("m").user("x").send()).await.unwrap();
    assert_eq!((reply.content(), reply.finish_reason(), stub.requests()), (Some("hi"), None, 1));
    assert_eq!(serde_json::to_value(&*reply).unwrap()["choices"][0]["finish_reason"], "", "as it came");
}

#[tokio::test]
async fn what_the_request_is_at_fault_for_ends_at_once_with_the_servers_words() {
    let stub = Stub::start(|_| error(400, "invalid_request_error", "This model's maximum context length is 10.")).await;
    let error = soon(stub.client().chat("m").user("x").send()).await.unwrap_err();
    assert_eq!(stub.requests(), 1);
    assert_eq!((error.kind(), error.status()), (ErrorKind::Refused, Some(400)));
    assert_eq!(error.code(), Some("invalid_request_error"));
    assert_eq!(error.attempts().len(), 1);
    assert!(!error.is_retryable());
    let text = error.to_string();
    assert!(text.contains("maximum context length is 10") && text.contains("route `127.0.0.1:"), "{text}");
    let response = error.response().unwrap();
    assert!(std::str::from_utf8(&response.body).unwrap().contains("maximum context length"));
}

#[tokio::test]
async fn a_wrong_key_stops_the_route_and_resume_reopens_it() {
    let stub = Stub::start(|request| match request.number {
        1 => error(401, "authentication_error", "Authentication Fails, Your api key: sk-test-0123456789 is invalid"),
        _ => json(200, &completion("ok")),
    })
    .await;
    let client = stub.client();
    let error = soon(client.chat("m").user("x").send()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert!(!format!("{error} {error:?}").contains("0123456789"), "{error:?}");
    let error = soon(client.chat("m").user("x").send()).await.unwrap_err();
    assert_eq!((error.kind(), stub.requests()), (ErrorKind::Authentication, 1), "nothing more is sent");
    client.resume();
    assert!(soon(client.chat("m").user("x").send()).await.is_ok());
}

#[tokio::test]
async fn an_account_without_money_fails_over_or_fails() {
    let poor = Stub::start(|_| error(402, "unknown_error", "Insufficient Balance")).await;
    let rich = Stub::start(|_| json(200, &completion("paid"))).await;
    let error = soon(poor.client().chat("m").user("x").send()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InsufficientBalance);
    let client =
        poor.builder().route(Route::new("rich").base_url(rich.url()).model_as("m", "vendor/m")).build().unwrap();
    let reply = soon(client.chat("m").user("x").temperature(0.5).send()).await.unwrap();
    assert_eq!((reply.route(), reply.content()), ("rich", Some("paid")));
    let seen = &rich.seen()[0];
    assert_eq!(seen.body["model"], "vendor/m", "the fallback's name for the model");
    assert_eq!(seen.header("authorization"), None, "no key of one route reaches another");
    // The first route is left alone from now on.
    soon(client.chat("m").user("x").send()).await.unwrap();
    assert_eq!(poor.requests(), 2);
}

#[tokio::test]
async fn retry_after_is_obeyed_and_one_beyond_the_deadline_fails_at_once() {
    let stub = Stub::start(|request| match request.number {
        1 => with_headers(500, "retry-after: 0.3\r\n", "{}"),
        2 => json(200, &completion("ok")),
        _ => with_headers(500, "retry-after: 3600\r\n", "{}"),
    })
    .await;
    let client = stub.builder().retry(quick()).build().unwrap();
    let reply = soon(client.chat("m").user("x").send()).await.unwrap();
    assert!(reply.elapsed() >= Duration::from_millis(300), "{:?}", reply.elapsed());
    let error = soon(client.chat("m").user("x").deadline(Duration::from_secs(600)).send()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
}

#[tokio::test]
async fn a_deadline_ends_a_call_wherever_it_is() {
    let stub = Stub::start(|_| vec![Step::Hold]).await;
    let client = stub.builder().max_concurrency(1).build().unwrap();
    let short = Duration::from_millis(200);
    let (one, two) = tokio::join!(
        client.chat("m").user("x").deadline(short).send(),
        client.chat("m").user("x").deadline(short).send()
    );
    assert_eq!(one.unwrap_err().kind(), ErrorKind::Deadline);
    assert_eq!(two.unwrap_err().kind(), ErrorKind::Deadline);
    assert_eq!(stub.requests(), 1, "the second was still queued");
    until("the connection is closed", || stub.abandoned() == 1).await;
    assert_eq!(client.load().in_flight, 0);
}

#[tokio::test]
async fn clocks_end_an_attempt_that_brings_nothing_and_it_is_retried() {
    let stub = Stub::start(|request| match request.number {
        1 => vec![Step::Hold],
        // Keep-alives prove the connection lives; they are no progress.
        2 => {
            let mut steps = vec![head("application/json")];
            steps.extend((0..1000).flat_map(|_| [piece("\n"), Step::Wait(Duration::from_millis(10))]));
            steps
        }
        3 => vec![head("application/json"), piece("{\"choices\""), Step::Hold],
        _ => json(200, &completion("ok")),
    })
    .await;
    let clock = Some(Duration::from_millis(150));
    let clocks = Clocks { headers: clock, first_content: clock, idle: clock };
    let client = stub.builder().retry(quick()).clocks(clocks).build().unwrap();
    let reply = soon(client.chat("m").user("x").send()).await.unwrap();
    let kinds: Vec<_> = reply.attempts().iter().map(|attempt| attempt.outcome).collect();
    use OutcomeKind as K;
    assert_eq!(kinds, [K::FirstContentTimeout, K::FirstContentTimeout, K::Interrupted, K::Success]);
    until("every given-up connection is closed", || stub.abandoned() == 3).await;
}

#[tokio::test]
async fn a_dead_server_is_a_connection_error_with_every_attempt() {
    let stub = Stub::start(|_| vec![Step::Hold]).await;
    let client = stub.builder().retry(quick()).build().unwrap();
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.chat("m").user("x").send().await }
    });
    until("the request is in flight", || stub.in_flight() == 1).await;
    stub.kill();
    let error = soon(call).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    assert_eq!(error.attempts_made(), 5);
    assert!(error.is_retryable());
}

#[tokio::test]
async fn an_answer_larger_than_allowed_is_refused_once() {
    let stub = Stub::start(|_| json(200, &completion(&"x".repeat(10_000)))).await;
    let client = stub.builder().max_body_bytes(5_000).build().unwrap();
    let error = soon(client.chat("m").user("x").send()).await.unwrap_err();
    assert_eq!((error.kind(), stub.requests()), (ErrorKind::Malformed, 1));
    assert!(error.to_string().contains("larger than 5000 bytes"), "{error}");
}

#[tokio::test]
async fn a_routes_proxy_is_spoken_to_in_its_own_way() {
    let stub = Stub::start(|_| json(200, &completion("by proxy"))).await;
    // A proxy for plain HTTP is asked for whole URLs.
    let route = Route::new("a").base_url("http://far.invalid/v1").proxy(stub.url());
    let client = Client::builder().route(route).build().unwrap();
    assert_eq!(soon(client.chat("m").user("x").send()).await.unwrap().content(), Some("by proxy"));
    assert_eq!(stub.seen()[0].path, "http://far.invalid/v1/chat/completions");

    let (socks, asked) = socks(stub.url().trim_start_matches("http://").parse().unwrap()).await;
    for scheme in ["socks5", "socks5h"] {
        let route = Route::new("a").base_url(stub.url()).proxy(format!("{scheme}://{socks}"));
        let client = Client::builder().route(route).build().unwrap();
        assert_eq!(soon(client.chat("m").user("x").send()).await.unwrap().content(), Some("by proxy"));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

/// A SOCKS5 proxy (RFC 1928) that leads everyone to `to`, and how many it led there.
async fn socks(to: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            // "Version 5, one way to log in: none"; "connect to this IPv4 address and port".
            let mut hello = [0; 3];
            client.read_exact(&mut hello).await.unwrap();
            assert_eq!(hello, [5, 1, 0]);
            client.write_all(&[5, 0]).await.unwrap();
            let mut connect = [0; 10];
            client.read_exact(&mut connect).await.unwrap();
            assert_eq!(connect[..4], [5, 1, 0, 1]);
            client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let mut server = TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    (addr, asked)
}

#[tokio::test]
async fn routes_take_turns_by_weight() {
    let heavy = Stub::start(|_| json(200, &completion("heavy"))).await;
    let light = Stub::start(|_| json(200, &completion("light"))).await;
    let client = Client::builder()
        .routes([Route::new("heavy").base_url(heavy.url()).weight(3.0), Route::new("light").base_url(light.url())])
        .strategy(Strategy::Weighted)
        .build()
        .unwrap();
    for _ in 0..20 {
        soon(client.chat("m").user("x").send()).await.unwrap();
    }
    assert_eq!((heavy.requests(), light.requests()), (15, 5));
}

#[tokio::test]
async fn fim_goes_to_the_beta_base_and_models_and_balance_pass_by_the_queue() {
    let stub = Stub::start(|request| match request.path.as_str() {
        "/beta/completions" => json(200, r#"{"choices":[{"index":0,"text":" + b","finish_reason":"stop"}]}"#),
        "/models" if request.number < 3 => json(500, "{}"),
        "/models" => json(200, r#"{"object":"list","data":[{"id":"deepseek-flash","object":"model"}]}"#),
        "/user/balance" => {
            json(200, r#"{"is_available":true,"balance_infos":[{"currency":"USD","total_balance":"1.50"}]}"#)
        }
        _ => error(404, "not_found", "no"),
    })
    .await;
    let route = Route::new("ds").base_url(stub.url()).beta_url(format!("{}/beta", stub.url())).api_key("sk-1");
    let client = Client::builder().route(route).retry(quick()).build().unwrap();
    assert_eq!(soon(client.models()).await.unwrap().data.len(), 1);
    let balance = soon(client.balance_of("ds")).await.unwrap();
    assert_eq!(balance.in_currency("USD").and_then(|info| info.total()), Some(1.5));
    assert_eq!(soon(client.balance_of("other")).await.unwrap_err().kind(), ErrorKind::NoRoute);
    let reply = soon(client.fim("deepseek-flash").prompt("a").suffix(";").send()).await.unwrap();
    assert_eq!(reply.text(), Some(" + b"));
    let prefix = ChatRequest::new("m").user("x").message(Message::assistant_prefix("{"));
    soon(client.chat_request(prefix).send()).await.unwrap_err();
    let paths: Vec<_> = stub.seen().into_iter().map(|request| request.path).collect();
    assert_eq!(paths[paths.len() - 1], "/beta/chat/completions", "chat prefix completion is a beta feature");
    assert_eq!(client.metrics().total.counters.submitted, 2, "fim and chat only");
}

#[tokio::test]
async fn close_lets_requests_in_flight_end_and_refuses_the_rest() {
    let stub = Stub::start(|_| {
        let mut steps = vec![Step::Wait(Duration::from_millis(300))];
        steps.extend(json(200, &completion("ok")));
        steps
    })
    .await;
    let client = stub.builder().max_concurrency(1).build().unwrap();
    let call = |client: &Client| tokio::spawn(client.chat("m").user("x").send());
    let (first, second) = (call(&client), call(&client));
    until("the first is in flight and the second waits", || stub.in_flight() == 1 && client.load().queued == 1).await;
    soon(client.close(Duration::from_secs(30))).await;
    let results = [soon(first).await.unwrap(), soon(second).await.unwrap()];
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.iter().any(|result| result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Closed)));
    assert_eq!(client.chat("m").user("x").send().await.unwrap_err().kind(), ErrorKind::Closed);
    let asked = [
        soon(client.models()).await.err(),
        soon(client.balance()).await.err(),
        soon(client.balance_of(stub.url().trim_start_matches("http://"))).await.err(),
    ];
    assert_eq!(asked.map(|error| error.map(|error| error.kind())), [Some(ErrorKind::Closed); 3]);
    assert_eq!(stub.requests(), 1, "nor is anything asked about the account");
}

#[tokio::test]
async fn close_aborts_what_outlasts_its_grace() {
    let stub = Stub::start(|_| vec![Step::Hold]).await;
    let client = stub.client();
    let call = tokio::spawn(client.chat("m").user("x").send());
    until("it is in flight", || stub.in_flight() == 1).await;
    soon(client.close(Duration::from_millis(50))).await;
    assert_eq!(soon(call).await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    until("its connection is closed", || stub.abandoned() == 1).await;
}

#[tokio::test]
async fn what_was_learned_can_be_taken_over() {
    let stub = Stub::start(|_| json(200, &completion("ok"))).await;
    let client = stub.client();
    soon(client.chat("m").user("x").send()).await.unwrap();
    let learned = client.learned();
    let saved = serde_json::to_string(&learned).unwrap();
    let next = stub.client();
    next.restore(serde_json::from_str(&saved).unwrap());
    soon(next.chat("m").user("x").send()).await.unwrap();
    assert_eq!(next.learned()[0].lane, learned[0].lane);
}

#[tokio::test]
async fn any_request_goes_through_the_gate_with_the_routes_key() {
    let stub = Stub::start(|request| match request.number {
        1 => error(503, "service_unavailable_error", "busy"),
        2 => json(200, &completion("raw")),
        _ => error(400, "invalid_request_error", "no"),
    })
    .await;
    let client = Client::builder()
        .route(Route::new("r").base_url(format!("{}/v1", stub.url())).api_key("sk-route-key").model_as("m", "up/m"))
        .retry(quick())
        .build()
        .unwrap();
    let http = reqwest::Client::new();
    let request = |url: String| {
        let body = r#"{"messages":[],"model":"m"}"#;
        http.post(url).header("authorization", "Bearer sk-other").header("x-extra", "1").body(body).build().unwrap()
    };
    let url = format!("{}/v1/chat/completions?a=b", stub.url());
    let response = soon(client.execute(request(url.clone()))).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(client.load().in_flight, 1, "the body holds the permit");
    let value: serde_json::Value = soon(response.into_body().json()).await.unwrap();
    assert_eq!(value["choices"][0]["message"]["content"], "raw");
    assert_eq!(client.load().in_flight, 0);
    let seen = &stub.seen()[1];
    assert_eq!((seen.path.as_str(), seen.header("x-extra")), ("/v1/chat/completions?a=b", Some("1")));
    assert_eq!((seen.header("authorization"), &seen.body["model"]), (Some("Bearer sk-route-key"), &json!("up/m")));
    let error = soon(client.execute(request(url))).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.response().map(|response| response.status.as_u16())),
        (ErrorKind::Refused, Some(400))
    );
    let elsewhere = soon(client.execute(request("http://example.invalid/v1/x".into()))).await.unwrap_err();
    assert_eq!(elsewhere.kind(), ErrorKind::InvalidRequest);
    for path in ["files/1", "files/2?x=y/z"] {
        let request = http.get(format!("{}/v1/{path}", stub.url())).build().unwrap();
        let _ = soon(client.execute(request)).await.unwrap_err();
    }
    let models: Vec<_> = client.metrics().models.into_iter().map(|model| model.name).collect();
    assert_eq!(models, ["m", "/files"], "one limit, whatever the ids");
}

#[tokio::test]
async fn bad_configurations_are_refused_with_the_field_and_without_the_secret() {
    let key = "sk-secret-1234567890";
    let base = || Client::builder().api_key(key);
    let cases: Vec<(tidegate::ClientBuilder, &str)> = vec![
        (Client::builder(), "api_key"),
        (Client::builder().api_key(""), "api_key"),
        (Client::builder().api_key(format!("{key}\n")), "line break"),
        (Client::builder().api_key(format!("{key} x")), "visible ASCII"),
        (Client::builder().api_key("schlüssel"), "visible ASCII"),
        (base().base_url("api.deepseek.com"), "base_url"),
        (base().base_url("ftp://api.deepseek.com"), "http"),
        (base().base_url("https://"), "base_url"),
        (base().base_url("https://user:sk-secret-1234567890@host"), "user name"),
        (base().base_url("https://host/?key=sk-secret-1234567890"), "query"),
        (base().base_url("https://host/v1/chat/completions/"), "without /chat/completions"),
        (base().base_url("https://host/beta/completions"), "without /completions"),
        (base().max_concurrency(0), "max_concurrency"),
        (base().max_concurrency(u32::MAX), "max_concurrency"),
        (base().max_queued(0), "max_queued"),
        (base().max_attempts(0), "max_attempts"),
        (base().deadline(Duration::ZERO), "deadline"),
        (base().clocks(Clocks { idle: Some(Duration::ZERO), ..Clocks::default() }), "idle"),
        (base().stop_probe(Duration::ZERO), "stop_probe"),
        (base().connect_timeout(Duration::ZERO), "connect_timeout"),
        (base().max_body_bytes(0), "max_body_bytes"),
        (base().retry(RetryPolicy { budget_ratio: f64::NAN, ..RetryPolicy::default() }), "budget_ratio"),
        (base().retry(RetryPolicy { budget_floor: 0, ..RetryPolicy::default() }), "budget_floor"),
        (base().route(Route::new("deepseek").api_key(key)), "deepseek"),
        (base().route(Route::new("")), "api_key"),
        (base().route(Route::new("").base_url("http://h")), "name"),
        (base().route(Route::new("a").base_url("http://h").weight(f64::NAN)), "weight"),
        (base().route(Route::new("a").base_url("http://h").weight(-1.0)), "weight"),
        (base().route(Route::new("a").base_url("http://h").header("x\ny", key)), "header"),
        (base().route(Route::new("a").base_url("http://h").header("x", "sk-secret-1234567890\n")), "header"),
        (base().route(Route::new("a").base_url("http://h").proxy("http://u:sk-secret-1234567890@[bad")), "proxy"),
        (base().route(Route::new("a").base_url("http://h").proxy("gopher://u:secret@h")), "begins with one of http://"),
        (base().route(Route::new("a").base_url("http://h").proxy("ftp://h")), "proxy"),
        (base().route(Route::new("a").base_url("http://h").account("")), "account"),
        (base().route(Route::new("a").base_url("http://h").model("")), "model"),
        (base().route(Route::new("a").base_url("http://h").model("m").model_as("m", "n")), "`m` twice"),
        (base().route(Route::new("a").base_url("http://h").only_named_models()), "models"),
        (base().workload(WorkloadSpec::new("", Class::Normal)), "name"),
        (base().workload(WorkloadSpec { weight: f64::NAN, ..WorkloadSpec::new("w", Class::Normal) }), "weight"),
    ];
    for (at, (builder, field)) in cases.into_iter().enumerate() {
        let shown = format!("{builder:?}");
        let error = builder.build().err().unwrap_or_else(|| panic!("case {at} ({field}) was accepted"));
        assert_eq!(error.kind(), ErrorKind::Config, "case {at}");
        let text = error.to_string();
        assert!(text.contains(field), "case {at}: {text}");
        assert!(!format!("{text} {error:?} {shown}").contains("secret"), "case {at}: {text} {shown}");
    }
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_before_anything_is_sent() {
    let stub = Stub::start(|_| json(200, &completion("x"))).await;
    let only = Route::new("only").base_url(stub.url()).model("known").only_named_models();
    let client = Client::builder().route(only).build().unwrap();
    let chat = |model: &str| client.chat(model).user("x");
    for (call, kind, field) in [
        (client.chat("known"), ErrorKind::InvalidRequest, "messages"),
        (chat(""), ErrorKind::InvalidRequest, "model"),
        (chat("known").temperature(f64::NAN), ErrorKind::InvalidRequest, "temperature"),
        (chat("known").deadline(Duration::ZERO), ErrorKind::InvalidRequest, "deadline"),
        (chat("known").max_attempts(0), ErrorKind::InvalidRequest, "max_attempts"),
        (chat("known").workload(""), ErrorKind::InvalidRequest, "workload"),
        (chat("unknown"), ErrorKind::NoRoute, "unknown"),
    ] {
        let error = soon(call.send()).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(field), "{error}");
    }
    assert_eq!(stub.requests(), 0);
}

#[tokio::test]
async fn no_key_is_shown_anywhere() {
    // In no form that gives it away as a key.
    let key = "very/secret/42";
    // A provider that echoes the key in an error, without any mark of one.
    let stub = Stub::start(|request| {
        let sent = request.header("authorization").unwrap_or_default().replace("Bearer ", "");
        let words = format!("cannot use {sent} here");
        match request.number {
            1 => {
                let body = json!({"error": {"message": words, "code": sent, "type": sent}}).to_string();
                with_headers(400, &format!("x-seen: Bearer {sent}\r\nx-request-id: {sent}\r\n"), &body)
            }
            2 => json(200, &words),
            3 => vec![head("text/event-stream"), text("a"), piece(&format!("data: {words}\n\n")), last()],
            5 => json(200, &json!({"error": {"message": words}}).to_string()),
            6 => json(200, &json!(words).to_string()),
            _ => vec![head("text/event-stream"), text("a"), piece(&format!("event: error\ndata: {words}\n\n")), last()],
        }
    })
    .await;
    let route = Route::new("other").base_url(stub.url()).api_key(key).header("x-api-key", key);
    let builder = Client::builder().base_url(stub.url()).api_key(key).route(route.clone()).max_attempts(1);
    let mut shown = format!("{route:?} {builder:?}");
    let client = builder.build().unwrap();
    let call = client.chat("m").user("x");
    shown += &format!("{client:?} {call:?} {:?}", client.metrics());
    let error = soon(call.send()).await.unwrap_err();
    shown += &format!("{error} {error:?} {:?} {}", error.attempts(), client.prometheus());
    let response = error.response().unwrap();
    shown += &format!("{response:?}");
    let told = json!({"error": {"message": "cannot use [redacted] here", "code": "[redacted]", "type": "[redacted]"}});
    assert_eq!(response.body, told.to_string());
    assert_eq!(response.headers["x-seen"], "Bearer [redacted]");
    let error = soon(client.chat("m").user("x").send()).await.unwrap_err();
    shown += &format!("{error} {error:?} {:?}", error.response());
    for _ in 0..2 {
        let stream = soon(client.chat("m").user("x").stream()).await.unwrap();
        let error = soon(stream.into_completion()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        shown += &format!("{error} {error:?}");
    }
    for _ in 0..2 {
        let error = soon(client.models()).await.unwrap_err();
        assert!(error.to_string().contains("cannot use [redacted] here"), "{error}");
        shown += &format!("{error} {error:?}");
    }
    assert_eq!(stub.requests(), 6);
    assert!(shown.contains("cannot use [redacted] here"), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn a_key_as_short_as_a_word_is_struck_out_where_it_stands_alone() {
    let words = "the key k is wrong; models are deepseek-flash and k-means";
    let stub = Stub::start(|_| error(400, "invalid_request_error", words)).await;
    let client = stub.builder().api_key("k").build().unwrap();
    let error = soon(client.chat("m").user("x").send()).await.unwrap_err();
    let told = "the key [redacted] is wrong; models are deepseek-flash and [redacted]-means";
    assert_eq!(error.message(), Some(told));
    let body: serde_json::Value = serde_json::from_slice(&error.response().unwrap().body).unwrap();
    assert_eq!(body["error"]["message"], told);
}

#[tokio::test]
async fn no_part_of_a_key_is_shown_where_words_are_cut() {
    let key = "0123456789abcdef";
    let stub = Stub::start(move |request| {
        let words = format!("{}{key}", "x ".repeat(if request.number == 1 { 508 } else { 95 }));
        match request.number {
            1 => error(400, "invalid_request_error", &words),
            2 => json(400, &format!("<p>{words}")),
            _ => vec![head("text/event-stream"), piece(&format!("data: {words}\n\n")), last()],
        }
    })
    .await;
    let client = stub.builder().api_key(key).max_attempts(1).build().unwrap();
    let mut errors = Vec::new();
    for _ in 0..2 {
        errors.push(soon(client.chat("m").user("x").send()).await.unwrap_err());
    }
    errors.push(soon(client.chat("m").user("x").stream()).await.unwrap_err());
    for error in errors {
        let message = error.message().unwrap_or_default();
        assert!(message.ends_with("x [redacted]"), "{message}");
    }
}

#[tokio::test]
async fn what_is_asked_about_an_account_keeps_to_the_clients_deadline() {
    let stub = Stub::start(|request| match request.path.as_str() {
        "/models" => vec![Step::Hold],
        _ => with_headers(503, "retry-after: 3600\r\n", "{}"),
    })
    .await;
    let client = stub.builder().deadline(Duration::from_millis(500)).build().unwrap();
    let error = soon(client.balance()).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts_made()), (ErrorKind::Overloaded, 1));
    assert_eq!(soon(client.models()).await.unwrap_err().kind(), ErrorKind::FirstContentTimeout);
}

#[test]
fn futures_and_errors_can_be_sent_between_threads() {
    fn check<T: Send>(_: &T) {}
    fn all<T: Send + Sync + 'static>() {}
    all::<Client>();
    all::<tidegate::Error>();
    fn moved<T: Send + 'static>() {}
    moved::<tidegate::ChatStream>();
    moved::<tidegate::client::Body>();
    let client = Client::builder().base_url("http://127.0.0.1:9").build().unwrap();
    check(&client.chat("m").send());
    check(&client.chat("m").stream());
    check(&client.fim("m").send());
    check(&client.models());
    let closer = client.clone();
    check(&closer.close(Duration::ZERO));
}

#[tokio::test]
async fn json_of_ones_own_goes_out_as_it_is_and_comes_back_as_it_came() {
    let stub = Stub::start(|request| match request.number {
        1 => json(200, r#"{"ok":true}"#),
        2 => json(200, "\n\n  "),
        _ => json(
            200,
            r#"{"choices":[{"index":0,"message":{"content":"hi","mood":1.0},"finish_reason":"stop"}],"z":null,"a":1}"#,
        ),
    })
    .await;
    let client = Client::builder().route(Route::new("one").base_url(stub.url())).build().unwrap();
    let body = r#"{"model":"m","messages":[],"temperature":1,"stop":"x","custom":{"b":1,"a":2}}"#;
    let reply = soon(client.json("/chat/completions", body).send()).await.unwrap();
    let answer = serde_json::to_string(&*reply).unwrap();
    assert_eq!(
        answer,
        r#"{"choices":[{"index":0,"message":{"content":"hi","mood":1.0},"finish_reason":"stop"}],"z":null,"a":1}"#
    );
    assert_eq!(reply.attempts().len(), 3, "an answer without choices and a blank one were asked for again");
    for (path, body, words) in [
        ("/chat/completions", "[]", "JSON object"),
        ("/chat/completions", r#"{"model":""}"#, "`model`"),
        ("/chat/completions", r#"{"model":"m","stream":true}"#, "`stream`"),
        ("chat/completions", r#"{"model":"m"}"#, "slash"),
    ] {
        let error = soon(client.json(path, body).send()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn json_of_ones_own_that_needs_the_beta_base_goes_there() {
    let stub = Stub::start(|_| json(200, &completion("hi"))).await;
    let route = Route::new("ds").base_url(stub.url()).beta_url(format!("{}/beta", stub.url()));
    let client = Client::builder().route(route).build().unwrap();
    let tool = |strict: bool| json!([{"type": "function", "function": {"name": "f", "strict": strict}}]);
    let begun =
        |prefix: bool| json!([{"role": "user", "content": "\"prefix\""}, {"role": "assistant", "prefix": prefix}]);
    for (path, body, expected) in [
        ("/chat/completions", json!({"model": "m", "messages": begun(true)}), "/beta/chat/completions"),
        ("/chat/completions", json!({"model": "m", "tools": tool(true)}), "/beta/chat/completions"),
        (
            "/chat/completions",
            json!({"model": "m", "messages": begun(false), "tools": tool(false)}),
            "/chat/completions",
        ),
        ("/chat/completions", json!({"model": "m", "messages": {"prefix": 1}, "tools": "strict"}), "/chat/completions"),
        ("/completions", json!({"model": "m", "prompt": "x"}), "/beta/completions"),
        ("/embeddings", json!({"model": "m", "messages": begun(true)}), "/embeddings"),
    ] {
        soon(client.json(path, body.to_string()).send()).await.unwrap();
        assert_eq!(stub.seen().last().unwrap().path, expected, "{body}");
    }
}
