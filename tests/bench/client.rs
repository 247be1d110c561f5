//! What the client costs on top of bare reqwest: 256 chat calls in flight against a server that answers at once.
//!
//! Both sides serialise the same request, have the same settings, and parse the same answer into the same types. They run
//! on one thread, the server on another, and what counts is the processor time of the clients' thread: on a machine with
//! few processors the wall clock mostly tells how the server shares them. They take turns, and each is first in every
//! other round, so that what slows the machine down for a while slows both. `cargo bench --bench client`
//!
//! In two ways: by as many workers as may be in flight, each making a call after the other; and with all calls handed over
//! at once, so that most of them wait, bare reqwest's for a semaphore with no more than a URL each, the client's in its
//! queue with their requests serialised. What it takes to fetch those from memory again is then part of what is measured,
//! and times tell of it, where counts of instructions do not.
//!
//! Where valgrind is installed, the instructions that the clients' thread spends on a call are counted, too: unlike
//! times, they come out nearly the same on a busy machine.
#![allow(missing_docs, reason = "a program")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate::types::{ChatCompletion, ChatRequest};
use tidegate::{Client, ModelSpec, Route};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const IN_FLIGHT: usize = 256;
/// How many make calls, and how many each makes one after the other.
type Way = (usize, usize);
const WORKERS: Way = (IN_FLIGHT, 32);
const AT_ONCE: Way = (8_192, 1);
const ROUNDS: usize = 16;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    match (args.next(), args.next().and_then(|calls| calls.parse().ok())) {
        // What is run under valgrind.
        (Some(side), Some(each)) => run(&side, (IN_FLIGHT, each)),
        _ => {
            compare();
            count();
        }
    }
}

/// A bare client as a careful user sets it up, and Tidegate's, for the same server.
fn clients(url: &str) -> (reqwest::Client, Client) {
    let bare = reqwest::Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        // Without one a lost connection is waited for without end; everybody needs it.
        .timeout(Duration::from_secs(660))
        .build()
        .expect("a client");
    let model = ModelSpec { name: "m".into(), hint: Some(IN_FLIGHT as u32), ..ModelSpec::default() };
    let route = Route::new("local").base_url(url).models([model]).max_concurrency(IN_FLIGHT as u32);
    (bare, Client::builder().route(route).build().expect("a client"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Makes calls by one of the clients.
fn run(side: &str, way: Way) {
    let url = format!("http://{}", serve());
    runtime().block_on(async {
        let (bare, client) = clients(&url);
        match side {
            "reqwest" => through_reqwest(&bare, &url, way).await,
            _ => through_client(&client, way).await,
        }
    });
}

/// Counts the instructions of a worker's call by what twice as many calls take more.
fn count() {
    // As many as it takes until the connections are made and the limit is learned.
    const EACH: u64 = 16;
    let instructions = |side: &str, each: u64| {
        let program = std::env::current_exe().ok()?;
        let out = std::env::temp_dir().join(format!("tidegate-bench-{}", std::process::id()));
        let valgrind = std::process::Command::new("valgrind")
            .args(["-q", "--tool=callgrind", "--separate-threads=yes"])
            .arg(format!("--callgrind-out-file={}", out.display()))
            .arg(program)
            .args([side, &each.to_string()])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status();
        // A file for each thread; the clients' is the first.
        let of = |thread: &str| format!("{}{thread}", out.display());
        let text = std::fs::read_to_string(of("-01")).ok();
        for thread in ["", "-01", "-02"] {
            let _ = std::fs::remove_file(of(thread));
        }
        let totals = text?.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<u64>().ok());
        totals.filter(|_| valgrind.is_ok_and(|status| status.success()))
    };
    // How many connections are opened, and how often timers run out, depends on what else the machine does.
    let least = |side: &str, each| (0..2).map(|_| instructions(side, each)).min().flatten();
    let more = EACH * IN_FLIGHT as u64;
    let per_call = |side| Some((least(side, 2 * EACH)?.saturating_sub(least(side, EACH)?)) / more);
    match (per_call("reqwest"), per_call("tidegate")) {
        (Some(bare), Some(gated)) => println!(
            "instructions a call, outside the kernel: reqwest {bare}, tidegate {gated}, ratio {:.3}",
            gated as f64 / bare as f64
        ),
        _ => println!("instructions were not counted: that needs valgrind"),
    }
}

fn compare() {
    let url = format!("http://{}", serve());
    runtime().block_on(async {
        let (bare, client) = clients(&url);
        // Connections are made, and the limit is learned.
        for way in [WORKERS, AT_ONCE] {
            through_reqwest(&bare, &url, way).await;
            through_client(&client, way).await;
        }
        println!("{IN_FLIGHT} in flight; µs of processor time (wall time) a call");
        for (name, way) in [("a call after the other", WORKERS), ("all calls at once", AT_ONCE)] {
            let (mut ratios, mut walls) = (Vec::new(), Vec::new());
            for round in 1..=ROUNDS {
                let (plain, gated);
                if round % 2 == 0 {
                    plain = measure(through_reqwest(&bare, &url, way)).await;
                    gated = measure(through_client(&client, way)).await;
                } else {
                    gated = measure(through_client(&client, way)).await;
                    plain = measure(through_reqwest(&bare, &url, way)).await;
                }
                let per_call = |span: Duration| span.as_secs_f64() * 1e6 / (way.0 * way.1) as f64;
                println!(
                    "{name}, round {round}: reqwest {:.1} ({:.1}), tidegate {:.1} ({:.1})",
                    per_call(plain.busy),
                    per_call(plain.wall),
                    per_call(gated.busy),
                    per_call(gated.wall)
                );
                ratios.push(gated.busy.as_secs_f64() / plain.busy.as_secs_f64());
                walls.push(gated.wall.as_secs_f64() / plain.wall.as_secs_f64());
            }
            let [low, middle, high] = quartiles(ratios);
            println!(
                "{name}, processor time: median ratio {middle:.3} (half of the rounds between {low:.3} and {high:.3})"
            );
            let [low, middle, high] = quartiles(walls);
            println!("{name}, wall time: median ratio {middle:.3} (half between {low:.3} and {high:.3})");
        }
        println!("goal: at most 1.10");
        let peak = client.metrics().lanes.iter().map(|lane| lane.limit).max();
        println!("limit of the client at the end: {peak:?}");
    });
}

struct Spent {
    busy: Duration,
    wall: Duration,
}

async fn measure(work: impl Future<Output = ()>) -> Spent {
    let (busy, wall) = (busy(), Instant::now());
    work.await;
    let wall = wall.elapsed();
    Spent { busy: self::busy().checked_sub(busy).filter(|busy| !busy.is_zero()).unwrap_or(wall), wall }
}

/// The processor time of this thread, where the system tells (Linux).
fn busy() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// The lower quartile, the median and the upper quartile.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[values.len() * quarter / 4])
}

fn request() -> ChatRequest {
    ChatRequest::new("m").system("You are a tide table.").user("When is high water at Dover tomorrow?").max_tokens(64)
}

async fn through_reqwest(client: &reqwest::Client, url: &str, (workers, each): Way) {
    let url = reqwest::Url::parse(&format!("{url}/chat/completions")).expect("a URL");
    let slots = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut working = JoinSet::new();
    for _ in 0..workers {
        let (client, url, slots) = (client.clone(), url.clone(), slots.clone());
        working.spawn(async move {
            for _ in 0..each {
                let _slot = slots.acquire().await.expect("open");
                let body = serde_json::to_vec(&request()).expect("JSON");
                let request = client.post(url.clone()).header("content-type", "application/json").body(body);
                let answer = request.send().await.expect("an answer").bytes().await.expect("a body");
                let answer: ChatCompletion = serde_json::from_slice(&answer).expect("JSON");
                assert!(answer.content().is_some());
            }
        });
    }
    working.join_all().await;
}

async fn through_client(client: &Client, (workers, each): Way) {
    let mut working = JoinSet::new();
    for _ in 0..workers {
        let client = client.clone();
        working.spawn(async move {
            for _ in 0..each {
                let answer = client.chat_request(request()).send().await.expect("an answer");
                assert!(answer.content().is_some());
            }
        });
    }
    working.join_all().await;
}

/// A server on a thread of its own that answers every request at once with the same bytes.
fn serve() -> SocketAddr {
    let body = serde_json::json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "At ten past six."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 6, "total_tokens": 26}
    })
    .to_string();
    let answer: Arc<[u8]> = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-ds-trace-id: 0123456789abcdef\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
    .into();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("non-blocking");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((mut socket, _)) = listener.accept().await {
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    // Each request is small and comes in one piece, as nothing is sent before the last is answered.
                    while let Ok(1..) = socket.read(&mut buffer).await {
                        if socket.write_all(&answer).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
    });
    addr
}
