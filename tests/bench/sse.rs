//! Throughput of the event-stream parser beside eventsource-stream and sseer, at three chunk sizes.
//!
//! `cargo bench --bench sse`: MB/s of each (best of several rounds, in turn), and ours over the best of the others.
//! The peers are streams over streams of `Bytes`, so theirs includes the polling that their design needs, while ours
//! is driven the way the client drives it. Every parser's events are counted and their data's bytes summed, so that
//! none can skip work.

use std::hint::black_box;
use std::time::Instant;

use eventsource_stream::Eventsource as _;
use futures::{StreamExt as _, stream};
use tidegate::sse::{Item, Parser};

type Chunk = bytes::Bytes;

/// How many bytes each round parses.
const ROUND: usize = 8 << 20;
const ROUNDS: usize = 9;

/// One event as DeepSeek streams them, 272 bytes with its blank line; `text` fills the delta.
fn event(text: &str) -> Vec<u8> {
    let head = r#"data: {"id":"930c60df-bf64-41c9-a88e-3ec75f81e00e","object":"chat.completion.chunk","created":1764000000,"model":"deepseek-flash","system_fingerprint":"fp_ffc7281d48_prod0820","choices":[{"index":0,"delta":{"content":""#;
    let tail = r#""},"logprobs":null,"finish_reason":null}]}"#;
    let mut event = format!("{head}{text}{tail}").into_bytes();
    while event.len() < 270 {
        event.push(b' ');
    }
    event.extend_from_slice(b"\n\n");
    event
}

fn ours(chunks: &[Chunk]) -> (usize, usize) {
    let mut parser = Parser::new();
    let mut tally = (0, 0);
    for chunk in chunks {
        let on = |item: Item<'_>| {
            if let Item::Event { data, .. } = item {
                tally = (tally.0 + 1, tally.1 + black_box(data).len());
            }
        };
        parser.feed(chunk, on).expect("no event is near the limit");
    }
    tally
}

fn source(chunks: &[Chunk]) -> impl futures::Stream<Item = Result<Chunk, std::io::Error>> + Unpin + '_ {
    stream::iter(chunks.iter().cloned().map(Ok))
}

fn eventsource_stream(chunks: &[Chunk]) -> (usize, usize) {
    let mut events = source(chunks).eventsource();
    let mut tally = (0, 0);
    futures::executor::block_on(async {
        while let Some(event) = events.next().await {
            tally = (tally.0 + 1, tally.1 + black_box(event.expect("valid").data).len());
        }
    });
    tally
}

fn sseer(chunks: &[Chunk]) -> (usize, usize) {
    let mut events = sseer::EventStream::new(source(chunks));
    let mut tally = (0, 0);
    futures::executor::block_on(async {
        while let Some(event) = events.next().await {
            tally = (tally.0 + 1, tally.1 + black_box(event.expect("valid").data).len());
        }
    });
    tally
}

fn main() {
    type Run = fn(&[Chunk]) -> (usize, usize);
    let parsers: [(&str, Run); 3] = [("tidegate", ours), ("eventsource-stream", eventsource_stream), ("sseer", sseer)];
    println!(
        "{:<8} {:<10} {:>10} {:>20} {:>10} {:>8}",
        "text", "chunk", "tidegate", "eventsource-stream", "sseer", "ratio"
    );
    for (language, text) in [("ascii", " the"), ("cjk", "限流")] {
        let event = event(text);
        let input = event.repeat(ROUND / event.len());
        for (name, size) in [("16 B", 16), ("one event", event.len()), ("1,460 B", 1460)] {
            // Each chunk its own allocation, as a socket read is.
            let chunks: Vec<Chunk> = input.chunks(size).map(Chunk::copy_from_slice).collect();
            let expected = ours(&chunks);
            assert_eq!(expected.0, input.len() / event.len());
            let mut best = [f64::INFINITY; 3];
            for _ in 0..ROUNDS {
                for (best, (name, run)) in best.iter_mut().zip(parsers) {
                    let start = Instant::now();
                    let tally = run(black_box(&chunks));
                    *best = best.min(start.elapsed().as_secs_f64());
                    assert_eq!(tally, expected, "{name}");
                }
            }
            let [a, b, c] = best.map(|secs| input.len() as f64 / 1e6 / secs);
            println!("{language:<8} {name:<10} {a:>10.0} {b:>20.0} {c:>10.0} {:>8.2}", a / b.max(c));
        }
    }
}
