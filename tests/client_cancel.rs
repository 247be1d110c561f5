//! Giving up at every stage, futures that are held and not polled, and very many calls at once.
#![cfg(feature = "client")]

mod client_support;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use client_support::*;
use serde_json::json;
use tidegate::{Client, Clocks, Event, RetryPolicy};

/// Polls once, as a `select!` that another branch won does.
fn poll_once<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn hold() -> Vec<Step> {
    vec![Step::Hold]
}

async fn idle(client: &Client) {
    let load = client.load();
    assert_eq!((load.in_flight, load.queued, load.backing_off), (0, 0, 0));
}

#[tokio::test]
async fn nothing_happens_before_the_first_poll() {
    let stub = Stub::start(|_| hold()).await;
    let client = stub.client();
    let call = client.chat("m").user("x").send();
    assert_eq!(client.metrics().total.counters.submitted, 0);
    drop(call);
}

#[tokio::test]
async fn a_call_dropped_while_queued_leaves_at_once() {
    let stub = Stub::start(|_| hold()).await;
    let client = stub.builder().max_concurrency(1).build().unwrap();
    let first = tokio::spawn(client.chat("m").user("x").send());
    until("the first is in flight", || stub.in_flight() == 1).await;
    {
        let mut second = pin!(client.chat("m").user("x").send());
        assert!(poll_once(second.as_mut()).is_pending());
        assert_eq!(client.load().queued, 1);
    }
    assert_eq!(client.load().queued, 0);
    first.abort();
    until("the first is gone", || stub.abandoned() == 1 && client.load().in_flight == 0).await;
    assert_eq!(stub.requests(), 1);
    assert_eq!(client.metrics().total.counters.cancelled, 2);
}

#[tokio::test]
async fn a_call_dropped_in_flight_gives_its_permit_back_and_closes_its_connection() {
    let stub = Stub::start(|request| if request.number == 1 { hold() } else { json(200, &completion("ok")) }).await;
    let client = stub.builder().max_concurrency(1).build().unwrap();
    let first = tokio::spawn(client.chat("m").user("x").send());
    until("the first is in flight", || stub.in_flight() == 1).await;
    first.abort();
    until("its connection is closed", || stub.abandoned() == 1).await;
    idle(&client).await;
    soon(client.chat("m").user("x").send()).await.unwrap();
}

#[tokio::test]
async fn a_call_dropped_while_it_waits_to_be_tried_again_is_gone() {
    let stub = Stub::start(|_| error(500, "server_error", "no")).await;
    let retry =
        RetryPolicy { base: Duration::from_secs(3000), cap: Duration::from_secs(3000), ..RetryPolicy::default() };
    let client = stub.builder().retry(retry).build().unwrap();
    let call = tokio::spawn(client.chat("m").user("x").send());
    until("it waits", || client.load().backing_off == 1).await;
    call.abort();
    until("it is gone", || client.load().backing_off == 0).await;
    idle(&client).await;
    assert_eq!(stub.requests(), 1);
}

#[tokio::test]
async fn a_call_dropped_while_its_answer_comes_closes_the_connection() {
    let stub = Stub::start(|_| vec![head("application/json"), piece("\n"), piece("{\"id\""), Step::Hold]).await;
    let client = stub.client();
    let call = tokio::spawn(client.chat("m").user("x").send());
    until("it is in flight", || stub.in_flight() == 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    call.abort();
    until("its connection is closed", || stub.abandoned() == 1).await;
    idle(&client).await;
}

#[tokio::test]
async fn a_stream_dropped_before_or_after_its_first_chunk_closes_the_connection() {
    let stub = Stub::start(|_| vec![head("text/event-stream"), text("a"), text("b"), Step::Hold]).await;
    let client = stub.client();
    let stream = soon(client.chat("m").user("x").stream()).await.unwrap();
    drop(stream);
    idle(&client).await;
    let mut stream = soon(client.chat("m").user("x").stream()).await.unwrap();
    soon(stream.next()).await.unwrap().unwrap();
    soon(stream.next()).await.unwrap().unwrap();
    // Dropping a `next` that waits loses nothing and ends nothing.
    assert!(tokio::time::timeout(Duration::from_millis(50), stream.next()).await.is_err());
    assert_eq!(client.load().in_flight, 1);
    drop(stream);
    idle(&client).await;
    until("both connections are closed", || stub.abandoned() == 2).await;
}

#[tokio::test]
async fn a_raw_body_dropped_midway_closes_the_connection() {
    let stub = Stub::start(|_| vec![head("application/json"), piece("{"), Step::Hold]).await;
    let client = stub.client();
    let request = reqwest::Client::new().post(format!("{}/x", stub.url())).body("{}").build().unwrap();
    let mut response = soon(client.execute(request)).await.unwrap();
    soon(response.body_mut().chunk()).await.unwrap().unwrap();
    assert_eq!(client.load().in_flight, 1);
    drop(response);
    idle(&client).await;
    until("its connection is closed", || stub.abandoned() == 1).await;
}

#[tokio::test]
async fn a_future_that_is_held_without_being_polled_blocks_nobody() {
    let stub = Stub::start(|request| match request.number {
        // The others' first tries fail, so that they depend on timers.
        2 | 3 => error(500, "server_error", "no"),
        _ => json(200, &completion("ok")),
    })
    .await;
    let client = stub.builder().build().unwrap();
    // The first to wait holds the timer; it is polled once, then held.
    let mut held = pin!(client.chat("m").user("held").send());
    assert!(poll_once(held.as_mut()).is_pending());
    let mut queued = pin!(client.chat("m").user("queued").send());
    assert!(poll_once(queued.as_mut()).is_pending());
    for _ in 0..5 {
        soon(client.chat("m").user("x").send()).await.unwrap();
    }
    // They are none the worse for it.
    soon(held).await.unwrap();
    soon(queued).await.unwrap();
}

#[tokio::test]
async fn a_held_future_with_the_only_permit_blocks_others_only_until_its_deadline() {
    let stub = Stub::start(|_| json(200, &completion("ok"))).await;
    let client = stub.builder().max_concurrency(1).build().unwrap();
    let mut held = pin!(client.chat("m").user("x").deadline(Duration::from_millis(300)).send());
    assert!(poll_once(held.as_mut()).is_pending());
    soon(client.chat("m").user("x").send()).await.unwrap();
    assert!(soon(held).await.is_err());
}

#[tokio::test]
async fn a_call_that_ended_while_nobody_looked_hears_of_it_however_many_came_after_it() {
    let stub = Stub::start(|_| hold()).await;
    let client = stub.builder().max_concurrency(1).build().unwrap();
    let first = tokio::spawn(client.chat("m").user("x").send());
    until("the first is in flight", || stub.in_flight() == 1).await;
    let call = || client.chat("m").user("x").deadline(Duration::from_millis(20)).send();
    let mut held = [Box::pin(call()), Box::pin(call())];
    for call in &mut held {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    until("their time is over", || client.metrics().total.counters.failed == 2).await;
    // These take the places that are free again.
    let mut later: Vec<_> = (0..4).map(|_| Box::pin(call())).collect();
    for call in &mut later {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    for call in held.into_iter().chain(later) {
        assert_eq!(soon(call).await.unwrap_err().kind(), tidegate::ErrorKind::Deadline);
    }
    first.abort();
    until("all is over", || client.load() == tidegate::core::scheduler::Load::default()).await;
}

#[tokio::test]
async fn what_comes_to_a_held_stream_after_its_clock_has_run_out_is_void_and_it_is_tried_again() {
    let said = Arc::new(AtomicBool::new(false));
    let late = said.clone();
    let stub = Stub::start(move |request| match request.number {
        1 => vec![head("text/event-stream"), Step::Until(late.clone()), text("late"), Step::Hold],
        _ => stream(&["in ", "time"]),
    })
    .await;
    let clocks = Clocks { first_content: Some(Duration::from_millis(300)), ..Clocks::default() };
    let retry = RetryPolicy { base: Duration::from_millis(1), ..RetryPolicy::default() };
    let client = stub.builder().clocks(clocks).retry(retry).max_attempts(1000).build().unwrap();
    let mut call = Box::pin(client.chat("m").user("x").stream());
    // It has read the head, and waits for content; on a slow machine it may have been tried again already.
    let made = match tokio::time::timeout(Duration::from_millis(150), call.as_mut()).await {
        Ok(made) => made,
        Err(_) => {
            until("its clock has run out", || client.metrics().total.counters.first_content_timeouts > 0).await;
            said.store(true, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
            soon(call).await
        }
    };
    let reply = soon(made.unwrap().into_completion()).await.unwrap();
    assert_eq!(reply.content(), Some("in time"));
    idle(&client).await;
}

#[tokio::test]
async fn a_listener_that_panics_costs_the_call_that_met_it_and_no_permit() {
    let stub = Stub::start(|_| hold()).await;
    let builder = stub.builder().on_event(|event| assert!(!matches!(event, Event::Retry { .. }), "a listener's fault"));
    let client = builder.build().unwrap();
    let clocks = Clocks { headers: Some(Duration::from_millis(1)), ..Clocks::default() };
    let mut first = Box::pin(client.chat("m").user("x").clocks(clocks).send());
    assert!(poll_once(first.as_mut()).is_pending());
    // Nobody else looks meanwhile, so that the next call finds that the first one's time is over.
    std::thread::sleep(Duration::from_millis(5));
    let mut second = Box::pin(client.chat("m").user("x").send());
    let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| poll_once(second.as_mut())));
    assert!(polled.is_err(), "the listener was not told");
    drop((first, second));
    idle(&client).await;
    assert_eq!(client.metrics().total.counters.cancelled, 2);
}

#[tokio::test]
async fn ten_thousand_queued_calls_dropped_at_once_leave_nothing_behind() {
    let stub = Stub::start(|_| hold()).await;
    let client = stub.builder().max_concurrency(2).max_queued(20_000).build().unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        calls.spawn(client.chat("m").user("x").send());
    }
    until("they wait", || client.load().queued == 9_998 && stub.in_flight() == 2).await;
    soon(calls.shutdown()).await;
    idle(&client).await;
    until("the two in flight are closed", || stub.abandoned() == 2).await;
    assert_eq!(stub.requests(), 2, "no permit was handed to a call about to go");
    assert_eq!(client.metrics().total.counters.cancelled, 10_000);
}

#[tokio::test]
async fn a_full_queue_refuses_or_lets_wait() {
    let stub = Stub::start(|_| {
        let mut steps = vec![Step::Wait(Duration::from_millis(20))];
        steps.extend(json(200, &completion("ok")));
        steps
    })
    .await;
    let client = stub.builder().max_concurrency(1).max_queued(2).build().unwrap();
    let calls: Vec<_> = (0..6).map(|_| tokio::spawn(client.chat("m").user("x").wait_for_room().send())).collect();
    until("they are all there", || client.metrics().total.counters.submitted == 6).await;
    let error = soon(client.chat("m").user("x").send()).await.unwrap_err();
    assert_eq!(error.kind(), tidegate::ErrorKind::QueueFull);
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_dropped_at_random_moments_on_many_threads_leak_nothing() {
    let stub = Stub::start(|request| match request.number % 5 {
        0 => error(429, "rate_limit_error", "Too many requests."),
        1 => error(503, "service_unavailable_error", "busy"),
        2 => vec![head("text/event-stream"), text("a"), Step::Wait(Duration::from_millis(30)), Step::Cut],
        _ => {
            let mut steps = vec![head("text/event-stream"), Step::Wait(Duration::from_millis(5)), text("a")];
            steps.extend([event(json!({}), Some("stop")), done(), last()]);
            steps
        }
    })
    .await;
    let client = stub.builder().build().unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..400u64 {
        let client = client.clone();
        calls.spawn(async move {
            let call = async {
                let mut stream = client.chat("m").user("x").stream().await?;
                while let Some(chunk) = stream.next().await {
                    chunk?;
                }
                Ok::<_, tidegate::Error>(())
            };
            let _ = tokio::time::timeout(Duration::from_millis(number * 7 % 200), call).await;
        });
    }
    soon(async { while calls.join_next().await.is_some() {} }).await;
    idle(&client).await;
    let counters = client.metrics().total.counters;
    assert_eq!(counters.submitted, counters.completed + counters.failed + counters.cancelled);
    until("the server is idle", || stub.in_flight() == 0).await;
}

#[test]
fn a_runtime_without_timers_is_told_so_and_leaves_the_client_useful_elsewhere() {
    let whole = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let stub = whole.block_on(Stub::start(|request| match request.body["messages"][0]["content"].as_str() {
        // An answer that were there at the first look would need no timer. It may be given up before it is sent.
        Some("hold") => hold(),
        _ => json(200, &completion("ok")),
    }));
    let client = stub.client();
    let ask = || soon(client.chat("m").user("x").send());
    whole.block_on(ask()).expect("an answer");
    let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let lame = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        lame.block_on(client.chat("m").user("hold").send())
    }));
    let panic = asked.expect_err("a panic");
    let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    assert!(words.is_some_and(|words| words.contains("timers are disabled")), "{words:?}");
    whole.block_on(ask()).expect("an answer once more");
}

#[test]
fn a_call_is_looked_after_when_the_runtime_of_others_stands_still_or_is_gone() {
    let elsewhere = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let failures = std::sync::atomic::AtomicUsize::new(0);
    let stub = elsewhere.block_on(Stub::start(move |request| {
        let prompt = request.body["messages"][0]["content"].as_str().unwrap();
        match prompt {
            "hold" => hold(),
            _ if failures.fetch_add(1, std::sync::atomic::Ordering::SeqCst).is_multiple_of(2) => {
                error(500, "server_error", "no")
            }
            _ => json(200, &completion("ok")),
        }
    }));
    let client = stub.client();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let mut held = Box::pin(client.chat("m").user("hold").send());
    first.block_on(async {
        assert!(poll_once(held.as_mut()).is_pending());
        // Whoever looks out for it has begun to.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    });
    // Each of these waits to be tried again, and only a timer wakes it.
    runtime()
        .block_on(soon(client.chat("m").user("x").send()))
        .expect("an answer while the first runtime stands still");
    drop(held);
    drop(first);
    runtime().block_on(soon(client.chat("m").user("x").send())).expect("an answer after the first runtime's end");
}
