//! The client against the simulated provider on real sockets: a moving cap, faults, thousands in flight, a restart.
#![cfg(all(feature = "client", feature = "sim"))]

use std::net::SocketAddr;
use std::time::Duration;

use tidegate::sim::answer::{Verdict, verify};
use tidegate::sim::scenario::{Faults, Queue, Window};
use tidegate::sim::{Scenario, Server};
use tidegate::types::ChatRequest;
use tidegate::{BreakerPolicy, Client, ErrorKind, ModelSpec, RetryPolicy, Route};
use tokio::task::JoinSet;

const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

fn client(url: String, hint: Option<u32>) -> Client {
    let model = ModelSpec { name: "deepseek-flash".into(), hint, ..ModelSpec::default() };
    let route = Route::new("sim").base_url(url).api_key("sk-test").models([model]);
    let retry = RetryPolicy { base: Duration::from_millis(20), budget_floor: 10_000, ..RetryPolicy::default() };
    Client::builder().route(route).retry(retry).max_attempts(20).build().unwrap()
}

fn request(number: usize) -> (String, ChatRequest) {
    let prompt = format!("Question {number}: which way does the tide run?");
    let tagged = ChatRequest::new("deepseek-flash")
        .user(prompt.as_str())
        .thinking(false)
        .extra("metadata", serde_json::json!({"request_tag": number.to_string()}));
    (prompt, tagged)
}

/// Asks `count` questions, every second one as a stream, and checks every answer. How many streams broke off.
async fn ask_all(client: &Client, count: usize) -> usize {
    let mut calls = JoinSet::new();
    for number in 0..count {
        let client = client.clone();
        calls.spawn(async move {
            let (prompt, request) = request(number);
            let reply = match number % 2 {
                0 => client.chat_request(request).send().await,
                _ => match client.chat_request(request).stream().await {
                    Ok(stream) => stream.into_completion().await,
                    Err(error) => Err(error),
                },
            };
            match reply {
                Ok(reply) => {
                    let text = reply.content().unwrap_or_default();
                    assert_eq!(verify(&prompt, text), Verdict::Whole, "{text}");
                    true
                }
                Err(error) if error.kind() == ErrorKind::Interrupted && number % 2 == 1 => {
                    let partial = error.partial().expect("what came");
                    assert_ne!(verify(&prompt, &partial.text), Verdict::Foreign, "{}", partial.text);
                    false
                }
                Err(error) => panic!("question {number} was lost: {error}"),
            }
        });
    }
    let all = tokio::time::timeout(Duration::from_secs(240), calls.join_all()).await.expect("it hangs");
    all.into_iter().filter(|whole| !whole).count()
}

#[tokio::test]
async fn every_answer_comes_whole_and_once_while_the_cap_moves() {
    let scenario = Scenario::steps(&[(0.0, 24), (1.0, 6), (2.5, 24)], Some(4.0)).with_service_time(0.1);
    let server = Server::start(scenario, 7, LOCAL.into()).await.unwrap();
    let client = client(server.url(), None);
    assert_eq!(ask_all(&client, 400).await, 0);
    let tally = server.tally();
    assert_eq!((tally.completed, tally.distinct_completed), (400, 400));
    assert!(tally.duplicates.is_empty(), "{:?}", tally.duplicates);
    assert_eq!(tally.in_flight, 0);
}

#[tokio::test]
async fn nothing_is_lost_to_faults_outages_and_keep_alives() {
    let faults = Faults {
        cut: 0.05,
        clean_end: 0.05,
        empty_body: 0.05,
        blank_body: 0.05,
        garbage: 0.02,
        error_object: 0.03,
        insufficient_resource: 0.03,
        reset: 0.05,
        ..Faults::default()
    };
    let scenario = Scenario {
        faults,
        windows: vec![Window::new(503, 0.5, 1.0), Window::new(500, 1.5, 1.7)],
        queue: Queue { wait: 0.05.into(), keep_alive: 0.01, ..Queue::default() },
        ..Scenario::constant(32).with_service_time(0.05)
    };
    let server = Server::start(scenario, 11, LOCAL.into()).await.unwrap();
    let model = ModelSpec { name: "deepseek-flash".into(), ..ModelSpec::default() };
    let retry = RetryPolicy { base: Duration::from_millis(20), budget_floor: 10_000, ..RetryPolicy::default() };
    let client = Client::builder()
        .route(Route::new("sim").base_url(server.url()).api_key("sk-test").models([model]))
        .retry(retry)
        .max_attempts(30)
        .breaker(BreakerPolicy { failures: 0, ..BreakerPolicy::default() })
        .build()
        .unwrap();
    let broken = ask_all(&client, 300).await;
    assert!(broken > 0, "the scenario breaks streams; it did not");
    let counters = client.metrics().total.counters;
    assert_eq!((counters.completed + counters.failed, counters.failed), (300, broken as u64));
    assert_eq!(client.load(), Default::default());
}

#[tokio::test]
async fn a_server_that_dies_midway_and_comes_back_costs_no_call() {
    let scenario = Scenario::constant(16).with_service_time(0.1);
    let server = Server::start(scenario.clone(), 3, LOCAL.into()).await.unwrap();
    let addr: SocketAddr = server.addr();
    let client = client(server.url(), None);
    let mut calls = JoinSet::new();
    for number in 0..150 {
        let client = client.clone();
        calls.spawn(async move {
            let (prompt, request) = request(number);
            let reply = client.chat_request(request).send().await.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(verify(&prompt, reply.content().unwrap_or_default()), Verdict::Whole);
        });
    }
    while server.tally().completed < 30 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.kill().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let server = Server::start(scenario, 4, addr).await.unwrap();
    tokio::time::timeout(Duration::from_secs(240), calls.join_all()).await.expect("it hangs");
    assert!(server.tally().completed > 0);
    let counters = client.metrics().total.counters;
    assert_eq!((counters.completed, counters.failed), (150, 0));
    assert!(counters.transport_errors + counters.interrupted > 0, "the death was felt: {counters:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_five_hundred_requests_are_in_flight_at_once() {
    const COUNT: usize = 2_500;
    // Both ends of every connection are in this process.
    let needed = 2 * COUNT + 200;
    let allowed = open_files();
    if allowed.is_some_and(|allowed| allowed < needed) {
        eprintln!("SKIPPED: {needed} open files are needed, {allowed:?} are allowed; run `ulimit -n {needed}` first");
        return;
    }
    let scenario = Scenario::constant(COUNT as u32).with_service_time(300.0);
    let server = Server::start(scenario, 5, LOCAL.into()).await.unwrap();
    let client = client(server.url(), Some(COUNT as u32));
    let mut calls = JoinSet::new();
    for number in 0..COUNT {
        let client = client.clone();
        calls.spawn(async move {
            let ended = match client.chat_request(request(number).1).stream().await {
                Ok(stream) => stream.into_completion().await.map(drop),
                Err(error) => Err(error),
            };
            panic!("a call ended before all were in flight: {ended:?}");
        });
    }
    let began = std::time::Instant::now();
    while server.tally().in_flight < COUNT as u64 {
        assert!(began.elapsed() < Duration::from_secs(200), "only {} came", server.tally().in_flight);
        assert!(calls.try_join_next().is_none(), "a call ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(client.load().in_flight, COUNT as u64);
    assert_eq!(server.tally().rejected_total(), 0);
    // And they are given up all at once.
    calls.shutdown().await;
    assert_eq!(client.load(), Default::default());
    while server.tally().in_flight > 0 {
        assert!(began.elapsed() < Duration::from_secs(240), "{} connections stay", server.tally().in_flight);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How many files this process may have open, where the system tells.
fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    limits.lines().find(|line| line.starts_with("Max open files"))?.split_whitespace().nth(3)?.parse().ok()
}
