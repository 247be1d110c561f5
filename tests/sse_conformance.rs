//! The parser against cases gathered from the test suites of other event-stream parsers and from the web platform
//! tests. They are found by `TIDEGATE_TEST_DATA` and are not part of the repository.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value;
use tidegate::sse::{Item, Parser};

#[path = "reference/sse.rs"]
mod reference;

/// The folder of test data, or `None` with a loud word that nothing was tested.
fn test_data() -> Option<PathBuf> {
    match std::env::var_os("TIDEGATE_TEST_DATA") {
        Some(dir) if !dir.is_empty() => Some(dir.into()),
        _ => {
            eprintln!("NOT RUN: TIDEGATE_TEST_DATA does not name the folder of event-stream cases");
            None
        }
    }
}

fn load(dir: &std::path::Path, file: &str) -> Vec<Value> {
    let text = std::fs::read(dir.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes().take_while(|byte| *byte != b'=') {
        let digit = ALPHABET.iter().position(|a| *a == byte).expect("base64");
        bits = bits << 6 | u32::try_from(digit).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xFF) as u8);
        }
    }
    out
}

/// A case's chunks as `(bytes, times)`; all but the huge ones come once.
fn chunks(case: &Value) -> Vec<(Vec<u8>, usize)> {
    let chunk = |chunk: &Value| match chunk {
        Value::String(text) => (base64(text), 1),
        other => {
            let repeat = &other["repeat"];
            (base64(repeat["b64"].as_str().unwrap()), usize::try_from(repeat["count"].as_u64().unwrap()).unwrap())
        }
    };
    case["chunks"].as_array().unwrap().iter().map(chunk).collect()
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    events: Vec<(String, String, String)>,
    comments: Vec<String>,
    retry: Vec<u64>,
    last_event_id: String,
}

fn parse<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let mut parser = Parser::with_max_event_bytes(128 << 20);
    let mut seen = Seen::default();
    for chunk in chunks {
        let result = parser.feed(chunk, |item| match item {
            Item::Event { event, data, id } => seen.events.push((event.into(), data.into(), id.into())),
            Item::Comment(text) => seen.comments.push(text.into()),
            Item::Retry(time) => seen.retry.push(u64::try_from(time.as_millis()).unwrap()),
            other => panic!("an item of an unknown kind: {other:?}"),
        });
        result.expect("below the limit");
    }
    parser.finish();
    seen.last_event_id = parser.last_event_id().to_owned();
    seen
}

/// What of `case` the items contradict.
fn contradiction(case: &Value, seen: &Seen) -> Option<String> {
    let expected = case["events"].as_array().unwrap();
    let exact = case["exact_count"].as_bool().unwrap();
    if seen.events.len() < expected.len() || exact && seen.events.len() > expected.len() {
        return Some(format!("{} events for {}", seen.events.len(), expected.len()));
    }
    for (i, (event, (kind, data, id))) in expected.iter().zip(&seen.events).enumerate() {
        for (key, got) in [("event", kind), ("data", data), ("id", id)] {
            if event.get(key).is_some_and(|wanted| wanted != got.as_str()) {
                return Some(format!("event {i}: {key} {got:?} for {}", event[key]));
            }
        }
        let utf16 = || u64::try_from(data.encode_utf16().count()).unwrap();
        if event.get("data_len").is_some_and(|len| len.as_u64() != Some(data.len() as u64))
            || event.get("data_len_utf16").is_some_and(|len| len.as_u64() != Some(utf16()))
        {
            return Some(format!("event {i}: data of {} bytes", data.len()));
        }
    }
    let same = |key: &str, got: Value| case.get(key).is_none_or(|wanted| *wanted == got);
    (!same("comments", seen.comments.clone().into())
        || !same("retry", seen.retry.clone().into())
        || !same("lastEventId", seen.last_event_id.clone().into()))
    .then(|| format!("comments {:?}, retry {:?}, last id {:?}", seen.comments, seen.retry, seen.last_event_id))
}

#[test]
fn every_case_but_the_divergent_passes_at_its_own_chunks_and_cut_at_every_byte() {
    let Some(dir) = test_data() else { return };
    let divergent = load(&dir, "sse-cases-divergent.json");
    let divergent: HashSet<&str> = divergent.iter().filter_map(|case| case["name"].as_str()).collect();
    let cases = load(&dir, "sse-cases-open.json");
    assert!(cases.len() > 100, "only {} cases", cases.len());

    let mut failures = Vec::new();
    let mut parses = 0;
    for case in cases.iter().filter(|case| !divergent.contains(case["name"].as_str().unwrap())) {
        let name = case["name"].as_str().unwrap();
        let chunks = chunks(case);
        let given = parse(chunks.iter().flat_map(|(bytes, times)| std::iter::repeat_n(&bytes[..], *times)));
        parses += 1;
        if let Some(why) = contradiction(case, &given) {
            failures.push(format!("{name}: {why}"));
            continue;
        }
        let whole: Vec<u8> = chunks.iter().flat_map(|(bytes, times)| bytes.repeat(*times)).collect();
        let mut again = |how: String, seen: Seen| {
            parses += 1;
            if seen != given {
                failures.push(format!("{name}, {how}: other items than at its own chunks"));
            }
        };
        again("in one chunk".into(), parse([&whole[..]]));
        if whole.len() <= 100_000 {
            again("bytewise".into(), parse(whole.chunks(1)));
            let step = if whole.len() <= 5_000 { 1 } else { 97 };
            for at in (1..whole.len()).step_by(step) {
                let (a, b) = whole.split_at(at);
                again(format!("cut at {at}"), parse([a, b]));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {parses} parses:\n{}", failures.len(), failures.join("\n"));
    println!("{} cases passed in {parses} parses", cases.len());
}

/// Streams out of the pieces that matter to the grammar, and bytes that are none.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&[u8]; 21] = [
        b"data",
        b"data: ",
        b":",
        b": ",
        b" ",
        b"\n",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"event:",
        b"id",
        b"id: ",
        b"retry: ",
        b"42",
        b"\0",
        b"\xEF\xBB\xBF",
        b"\xEF",
        b"\xF0\x9F\x8C\x8A",
        b"\xF0\x9F",
        b"data: {\"x\":1}\n\n",
    ];
    let piece = prop_oneof![
        4 => prop::sample::select(&PIECES[..]).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_in_any_chunks_give_what_a_plain_reading_of_the_standard_gives(stream in streams(), size in 1usize..40) {
        let mut items = Vec::new();
        let mut parser = Parser::new();
        for chunk in stream.chunks(size) {
            let on = |item: Item<'_>| items.push(match item {
                Item::Event { event, data, id } => reference::Item::Event(event.into(), data.into(), id.into()),
                Item::Comment(text) => reference::Item::Comment(text.into()),
                Item::Retry(time) => reference::Item::Retry(u64::try_from(time.as_millis()).unwrap()),
                other => panic!("an item of an unknown kind: {other:?}"),
            });
            parser.feed(chunk, on).unwrap();
        }
        prop_assert_eq!(items, reference::parse(&stream));
    }
}

#[test]
fn an_event_of_64_mib_comes_through_byte_for_byte() {
    let chunk = vec![b'x'; 1 << 16];
    let mut parser = Parser::with_max_event_bytes(65 << 20);
    let mut lengths = Vec::new();
    let mut feed = |bytes: &[u8]| {
        let on = |item: Item<'_>| match item {
            Item::Event { data, .. } => lengths.push((data.len(), data.bytes().all(|byte| byte == b'x'))),
            other => panic!("{other:?}"),
        };
        parser.feed(bytes, on).unwrap();
    };
    feed(b"data: ");
    (0..1024).for_each(|_| feed(&chunk));
    feed(b"\n\n");
    assert_eq!(lengths, [(64 << 20, true)]);
}

#[test]
fn large_events_fed_bytewise_need_no_more_than_linear_work() {
    // Anything that looked at the pending event again at each byte would not come to an end here.
    let one_line = format!("data: {}\n\n", "x".repeat(1 << 20));
    assert_eq!(parse(one_line.as_bytes().chunks(1)).events[0].1.len(), 1 << 20);
    let many_lines = "data: y\n".repeat(1 << 17) + "\n";
    assert_eq!(parse(many_lines.as_bytes().chunks(1)).events[0].1.len(), (1 << 18) - 1);
}

#[test]
fn every_recorded_stream_parses_alike_at_any_chunk_size() {
    let Some(dir) = test_data() else { return };
    let mut streams = 0;
    let mut kinds: HashMap<String, usize> = HashMap::new();
    for entry in std::fs::read_dir(dir.join("captures")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ext| ext != "sse") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let whole = parse([&bytes[..]]);
        assert!(!whole.events.is_empty(), "{}: no event", path.display());
        for size in [1, 7, 16, 1460] {
            assert_eq!(parse(bytes.chunks(size)), whole, "{} in chunks of {size}", path.display());
        }
        for (event, data, _) in &whole.events {
            *kinds.entry(event.clone()).or_default() += 1;
            let json = data == "[DONE]" || serde_json::from_str::<Value>(data).is_ok();
            assert!(json, "{}: neither JSON nor [DONE]: {data:?}", path.display());
        }
        streams += 1;
    }
    assert!(streams > 100, "only {streams} recorded streams");
    println!("{streams} recorded streams, event types {kinds:?}");
}
