//! Thousands of calls from several runtimes at once, to servers that do everything that servers do wrong, given up,
//! held, resumed and closed at random: every call that is awaited ends, and nothing is left behind.
//!
//! What is drawn is the same each run; in which order threads come to it is not. So nothing is said of how a call ends,
//! but that it does, that what it brings is its own, and that the books balance.
#![cfg(feature = "client")]

mod client_support;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use client_support::*;
use fastrand::Rng;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};
use http_body_util::BodyExt;
use serde_json::json;
use tidegate::client::tower::GateLayer;
use tidegate::{BreakerPolicy, Client, ClientBuilder, Clocks, Error, ErrorKind, RetryPolicy, Route};
use tokio::runtime::{Builder, Runtime};
use tower::{Service, ServiceBuilder};

/// So long nothing at all may come to its end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Each has a limit and a line of its own.
const MODELS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Up to `most` milliseconds.
fn some(rng: &mut Rng, most: u64) -> Duration {
    Duration::from_micros(rng.u64(0..=most * 1000))
}

/// What the servers do with a request.
fn answer(rng: &mut Rng, request: &Request) -> Vec<Step> {
    let said = request.body["messages"][0]["content"].as_str().unwrap_or_default();
    let streams = request.body["stream"].as_bool().unwrap_or_default();
    let mut steps = vec![];
    if rng.u8(0..4) > 0 {
        steps.push(Step::Wait(some(rng, 8)));
    }
    let start = |said: &str| {
        if streams {
            [head("text/event-stream"), text(&said[..said.len() / 2])]
        } else {
            [head("application/json"), piece("{\"id\":")]
        }
    };
    match rng.u8(0..100) {
        0..50 if streams => {
            let (one, two) = said.split_at(said.len() / 2);
            for step in stream(&[one, two]) {
                steps.push(step);
                if rng.u8(0..4) == 0 {
                    steps.push(Step::Wait(some(rng, 4)));
                }
            }
        }
        0..50 => steps.extend(json(200, &completion(said))),
        // Breaks off, or stalls, with or without content.
        50..54 => {
            steps.extend(start(said));
            steps.push(if rng.bool() { Step::Cut } else { Step::Hold });
        }
        54..57 if streams => {
            steps.extend([head("text/event-stream"), piece(": keep-alive\n\n"), Step::Wait(some(rng, 60))]);
            steps.extend(start(said).into_iter().skip(1));
            steps.push(Step::Cut);
        }
        54..60 => steps.push(Step::Hold),
        60..65 => steps.push(Step::Cut),
        65..72 => steps.extend(error(429, "rate_limit_error", "Too many concurrent requests.")),
        72..75 => steps.extend(error(429, "rate_limit_error", "You have reached your concurrency limit of 6.")),
        75..78 => steps.extend(with_headers(429, "retry-after-ms: 7\r\n", "{\"error\":{\"message\":\"too fast\"}}")),
        78 => steps.extend(with_headers(429, "retry-after: 1\r\n", "{\"error\":{\"message\":\"too fast\"}}")),
        79 => steps.extend(error(503, "service_unavailable_error", "busy")),
        80..90 => steps.extend(error(500, "server_error", "no")),
        90..93 => steps.extend(error(400, "invalid_request_error", "no such thing")),
        93..95 => steps.extend(error(401, "authentication_error", "no such key")),
        95..97 => steps.extend(error(402, "unknown_error", "Insufficient Balance")),
        _ => steps.extend(error(403, "permission_error", "not you")),
    }
    steps
}

/// All there is, for calls to be told of.
struct World {
    clients: Vec<Client>,
    /// Where requests of one's own to each client go.
    urls: Vec<String>,
    /// Calls that are out, by number, with what they are doing.
    out: Mutex<BTreeMap<u64, &'static str>>,
    /// How many have ended, or were given up.
    ended: AtomicU64,
    /// How many said that they were answered.
    answered: AtomicU64,
    numbers: AtomicU64,
}

/// A call that is out.
struct Out<'a> {
    world: &'a World,
    number: u64,
}

impl Out<'_> {
    fn does(&self, what: &'static str) {
        self.world.out.lock().unwrap().insert(self.number, what);
    }
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        self.world.out.lock().unwrap().remove(&self.number);
        self.world.ended.fetch_add(1, SeqCst);
    }
}

impl World {
    /// Makes a call in one of many ways, and does with it one of the things that are done with calls.
    async fn call(self: Arc<Self>, mut rng: Rng) {
        let number = self.numbers.fetch_add(1, SeqCst);
        let out = Out { world: &self, number };
        let which = rng.usize(0..self.clients.len());
        let client = &self.clients[which];
        let said = format!("call number {number}");
        let mut made = self.make(client, &self.urls[which], said, &mut rng);
        match rng.u8(0..10) {
            // Given up at some moment.
            0 | 1 => {
                out.does("to be given up");
                let over = std::pin::pin!(tokio::time::sleep(some(&mut rng, 30)));
                if let Either::Left((ended, _)) = select(made, over).await {
                    self.check(ended);
                }
            }
            // Looked at once, then held.
            2 | 3 => {
                if let Poll::Ready(ended) = made.poll_unpin(&mut Context::from_waker(Waker::noop())) {
                    return self.check(ended);
                }
                out.does("held");
                tokio::time::sleep(some(&mut rng, 40)).await;
                if rng.bool() {
                    out.does("awaited after it was held");
                    self.check(made.await);
                }
            }
            _ => {
                out.does("awaited");
                self.check(made.await);
            }
        }
    }

    fn make(
        self: &Arc<Self>,
        client: &Client,
        url: &str,
        said: String,
        rng: &mut Rng,
    ) -> BoxFuture<'static, Result<(), Error>> {
        let model = MODELS[rng.usize(0..MODELS.len())];
        let deadline = (rng.u8(0..4) == 0).then(|| some(rng, 60).max(ms(1)));
        let (waits, rng) = (rng.bool(), rng.fork());
        macro_rules! told {
            ($call:expr) => {{
                let call = $call.deadline(deadline.unwrap_or(Duration::from_secs(3600)));
                if waits { call.wait_for_room() } else { call }
            }};
        }
        let kind = rng.clone().u8(0..10);
        match kind {
            0..4 => {
                let call = told!(client.chat(model).user(said.clone())).send();
                let world = self.clone();
                async move {
                    let reply = call.await?;
                    world.answered.fetch_add(1, SeqCst);
                    assert_eq!(reply.content().unwrap(), said, "another call's answer");
                    Ok(())
                }
                .boxed()
            }
            4..8 => {
                let call = told!(client.chat(model).user(said.clone()));
                let call = if kind == 7 { call.resume() } else { call };
                read_stream(self.clone(), call.stream(), said, rng).boxed()
            }
            8 => {
                let body = json!({"model": model, "messages": [{"role": "user", "content": said}]}).to_string();
                let request = reqwest::Client::new().post(format!("{url}/x")).body(body).build().unwrap();
                read_raw(self.clone(), told!(client.request(request)).send(), rng).boxed()
            }
            _ => {
                let layer = told!(GateLayer::new(client, model));
                through_tower(layer, rng).boxed()
            }
        }
    }

    fn check(&self, ended: Result<(), Error>) {
        use ErrorKind as K;
        let Err(error) = ended else { return };
        assert!(!error.to_string().contains("was lost"), "{error:?}");
        assert!(!matches!(error.kind(), K::Config | K::NoRoute | K::InvalidRequest), "{error:?}");
        assert!(
            error.attempts().iter().all(|one| one.outcome != tidegate::OutcomeKind::Cancelled || one.message.is_some()),
            "an attempt was given up, and nobody says why: {error:?}"
        );
    }
}

async fn read_stream(
    world: Arc<World>,
    call: impl Future<Output = Result<tidegate::ChatStream, Error>>,
    said: String,
    mut rng: Rng,
) -> Result<(), Error> {
    let mut stream = call.await?;
    let mut read = String::new();
    loop {
        match rng.u8(0..12) {
            0 => return Ok(()),
            1 | 2 => tokio::time::sleep(some(&mut rng, 40)).await,
            _ => {}
        }
        match stream.next().await {
            Some(Ok(chunk)) => read.push_str(chunk.content().unwrap_or_default()),
            Some(Err(error)) => {
                assert_eq!(error.partial().map(|partial| &*partial.text), Some(&*read), "{error:?}");
                assert!(stream.next().await.is_none(), "something followed the error");
                return Err(error);
            }
            None => break,
        }
    }
    world.answered.fetch_add(1, SeqCst);
    // Where the rest was asked for, the server began anew.
    if stream.report().is_none_or(|report| report.resumed == 0) {
        assert_eq!(read, said, "another call's answer");
    }
    Ok(())
}

async fn read_raw(
    world: Arc<World>,
    call: impl Future<Output = Result<http::Response<tidegate::client::Body>, Error>>,
    mut rng: Rng,
) -> Result<(), Error> {
    let mut response = call.await?;
    loop {
        match rng.u8(0..8) {
            0 => return Ok(()),
            1 => tokio::time::sleep(some(&mut rng, 40)).await,
            _ => {}
        }
        match response.body_mut().chunk().await {
            Some(chunk) => drop(chunk?),
            None => break,
        }
    }
    world.answered.fetch_add(1, SeqCst);
    Ok(())
}

type Pieces = Pin<Box<dyn futures::Stream<Item = std::io::Result<http_body::Frame<Bytes>>> + Send>>;

/// A service without sockets that does what it likes, too.
async fn serve(mut rng: Rng) -> std::io::Result<http::Response<http_body_util::StreamBody<Pieces>>> {
    tokio::time::sleep(some(&mut rng, 10)).await;
    let status = [200, 200, 200, 429, 503, 500, 404, 401][rng.usize(0..8)];
    if rng.u8(0..10) == 0 {
        return Err(std::io::Error::other("no connection"));
    }
    let pieces: Pieces = Box::pin(futures::stream::unfold((rng, 3), |(mut rng, left)| async move {
        tokio::time::sleep(some(&mut rng, 5)).await;
        let piece = match rng.u8(0..20) {
            _ if left == 0 => return None,
            0 => Err(std::io::Error::other("broken")),
            1 => std::future::pending().await,
            _ => Ok(http_body::Frame::data(Bytes::from_static(b"x"))),
        };
        Some((piece, (rng, left - 1)))
    }));
    Ok(http::Response::builder().status(status).body(http_body_util::StreamBody::new(pieces)).unwrap())
}

async fn through_tower(layer: GateLayer, mut rng: Rng) -> Result<(), Error> {
    let seeds = Arc::new(Mutex::new(rng.fork()));
    let service = tower::service_fn(move |_: http::Request<()>| {
        let rng = seeds.lock().unwrap().fork();
        serve(rng).boxed()
    });
    let response = ServiceBuilder::new().layer(layer).service(service).call(http::Request::new(())).await?;
    let is_success = response.status().is_success();
    let mut body = response.into_body();
    loop {
        match rng.u8(0..10) {
            0 => return Ok(()),
            1 => tokio::time::sleep(some(&mut rng, 40)).await,
            _ => {}
        }
        // A refusal's body holds no permit, and so has no clock.
        let frame = if is_success {
            body.frame().await
        } else {
            tokio::time::timeout(ms(20), body.frame()).await.unwrap_or_default()
        };
        match frame {
            Some(Ok(_)) => {}
            Some(Err(_)) => return Ok(()),
            None => break,
        }
    }
    // It is whole even if it was looked at too late, so that the books say otherwise: it is not counted.
    Ok(())
}

/// Many callers, each of which makes one call after the other, and now and then a crowd of them at once.
async fn callers(world: Arc<World>, callers: usize, calls: usize, mut rng: Rng) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let (world, mut rng) = (world.clone(), rng.fork());
        tasks.spawn(async move {
            let mut crowd = tokio::task::JoinSet::new();
            for _ in 0..calls {
                if rng.u8(0..12) == 0 {
                    (0..30).for_each(|_| drop(crowd.spawn(world.clone().call(rng.fork()))));
                }
                world.clone().call(rng.fork()).await;
            }
            while let Some(ended) = crowd.join_next().await {
                ended.unwrap();
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

fn on_thread(work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(work)
}

fn alone() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn threads(count: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(count).enable_all().build().unwrap()
}

/// Waits for all of them; if nothing ends any more, says what is still out.
fn join(what: &str, world: &World, threads: Vec<JoinHandle<()>>) {
    let mut last = (world.ended.load(SeqCst), Instant::now());
    let mut left = threads;
    while !left.is_empty() {
        std::thread::sleep(ms(5));
        let (over, others): (Vec<_>, _) = left.into_iter().partition(JoinHandle::is_finished);
        left = others;
        for thread in over {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        let ended = world.ended.load(SeqCst);
        if ended != last.0 {
            last = (ended, Instant::now());
        }
        if last.1.elapsed() > PATIENCE {
            let out = world.out.lock().unwrap();
            let loads: Vec<_> = world.clients.iter().map(Client::load).collect();
            panic!("{what}: after {ended} calls it hangs; {} are out: {out:?}; {loads:?}", out.len());
        }
    }
}

fn chaos(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let servers = threads(1);
    let mended = Arc::new(AtomicBool::new(false));
    let stub = |rng: &mut Rng| {
        let (seed, mended) = (rng.u64(..), mended.clone());
        servers.block_on(Stub::start(move |request| match mended.load(SeqCst) {
            true => json(200, &completion("well")),
            false => answer(&mut Rng::with_seed(seed ^ request.number as u64), request),
        }))
    };
    let stubs: Vec<Stub> = (0..3).map(|_| stub(&mut rng)).collect();
    let builder = |at: usize, rng: &mut Rng| -> ClientBuilder {
        let clocks = Clocks { headers: Some(ms(50)), first_content: Some(ms(60)), idle: Some(ms(40)) };
        let retry = RetryPolicy { base: ms(2), cap: ms(20), budget_floor: 1_000_000, ..RetryPolicy::default() };
        let breaker = BreakerPolicy { open: ms(5), open_max: ms(20), ..BreakerPolicy::default() };
        let builder = stubs[at].builder().retry(retry).clocks(clocks).breaker(breaker).stop_probe(ms(25));
        builder.max_concurrency(8).max_queued(10).seed(rng.u64(..)).on_event(|_| {})
    };
    let route = |name: &str, at: usize| Route::new(name).base_url(stubs[at].url());
    let world = Arc::new(World {
        clients: vec![
            // Whose one route's stop ends all that wait,
            builder(0, &mut rng).build().unwrap(),
            // one that fails over,
            builder(1, &mut rng).route(route("second", 2)).build().unwrap(),
            // to a route of the same account, and to one where nobody answers,
            builder(2, &mut rng)
                .route(route("second", 0).account("default"))
                .route(Route::new("nowhere").base_url("http://127.0.0.1:9"))
                .build()
                .unwrap(),
            // and one that is closed in the middle.
            builder(0, &mut rng).route(route("second", 1)).build().unwrap(),
        ],
        urls: vec![stubs[0].url(), stubs[1].url(), stubs[2].url(), stubs[0].url()],
        out: Mutex::default(),
        ended: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        numbers: AtomicU64::new(0),
    });

    let mut at_work = Vec::new();
    let (one, mut own) = (world.clone(), rng.fork());
    at_work.push(on_thread(move || threads(4).block_on(callers(one, 20, 10, own.fork()))));
    for _ in 0..3 {
        let (one, mut own) = (world.clone(), rng.fork());
        at_work.push(on_thread(move || {
            alone().block_on(async {
                let work = callers(one, 8, 10, own.fork());
                // The whole runtime stands still now and then.
                let still = async {
                    loop {
                        tokio::time::sleep(some(&mut own, 20)).await;
                        std::thread::sleep(some(&mut own, 4));
                    }
                };
                select(std::pin::pin!(work), std::pin::pin!(still)).await;
            });
        }));
    }
    // Runtimes that end with calls in them.
    let (one, mut own) = (world.clone(), rng.fork());
    at_work.push(on_thread(move || {
        for _ in 0..20 {
            let runtime = if own.bool() { alone() } else { threads(2) };
            for _ in 0..8 {
                drop(runtime.spawn(one.clone().call(own.fork())));
            }
            runtime.block_on(one.clone().call(own.fork()));
        }
    }));
    // Who mends what has stopped, and looks at the books meanwhile.
    let over = Arc::new(AtomicBool::new(false));
    let (one, mut own, stop) = (world.clone(), rng.fork(), over.clone());
    let janitor = on_thread(move || {
        while !stop.load(SeqCst) {
            std::thread::sleep(some(&mut own, 40));
            let client = &one.clients[own.usize(0..one.clients.len())];
            match own.u8(0..4) {
                0 => drop(client.metrics()),
                1 => client.restore(client.learned()),
                _ => client.resume(),
            }
        }
    });
    let (one, calls) = (world.clone(), rng.u64(300..600));
    at_work.push(on_thread(move || {
        while one.ended.load(SeqCst) < calls {
            std::thread::sleep(ms(1));
        }
        let client = &one.clients[3];
        alone().block_on(client.close(ms(10)));
        // Of those that were in flight none is, and there are no others.
        assert_eq!(client.load(), Default::default());
    }));
    join("chaos", &world, at_work);
    over.store(true, SeqCst);
    join("the janitor", &world, vec![janitor]);

    assert!(world.out.lock().unwrap().is_empty());
    let mut completed = 0;
    for (at, client) in world.clients.iter().enumerate() {
        let metrics = client.metrics();
        let counters = &metrics.total.counters;
        let ended = counters.completed + counters.failed + counters.cancelled;
        assert_eq!(counters.submitted, ended, "client {at}: {counters:?}");
        assert_eq!(client.load(), Default::default(), "client {at}");
        assert!(metrics.lanes.iter().all(|lane| lane.in_flight == 0), "client {at}: {:?}", metrics.lanes);
        completed += counters.completed;
    }
    assert!(world.answered.load(SeqCst) <= completed, "a call was answered that is in no book");

    // None of it has left anything behind that would hold a call up.
    mended.store(true, SeqCst);
    let at_work = (0..3).map(|at| {
        let one = world.clone();
        on_thread(move || {
            alone().block_on(async {
                one.clients[at].resume();
                let calls = (0..32).map(|number| {
                    let call = one.clients[at].chat(MODELS[number as usize % MODELS.len()]).user("x");
                    let call = call.clocks(Clocks::default()).max_attempts(100).wait_for_room().send();
                    let world = &one;
                    async move {
                        let _out = Out { world, number };
                        assert_eq!(call.await.expect("an answer").content().unwrap(), "well");
                    }
                });
                futures::future::join_all(calls).await;
            });
        })
    });
    join("after chaos", &world, at_work.collect());
    // A connection that was just closed is still to be noticed.
    servers.block_on(until("the servers are idle", || stubs.iter().all(|stub| stub.in_flight() == 0)));
}

// Two at once, so that the one waits while the other works.

#[test]
fn whatever_happens_every_call_that_is_awaited_ends_and_nothing_is_left_behind() {
    chaos(1);
}

#[test]
fn whatever_else_happens_every_call_that_is_awaited_ends_and_nothing_is_left_behind() {
    chaos(2);
}
