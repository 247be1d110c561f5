//! Every recorded error, and every recorded answer, through the classification. The recordings are found by
//! `TIDEGATE_TEST_DATA` and are not part of the repository.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tidegate::core::body::{Arrival, Inspector};
use tidegate::core::classify::{Head, classify, classify_error_object, finish_reason_kind};
use tidegate::core::outcome::{Outcome, OutcomeKind};
use tidegate::sse::{Item, Parser};

/// The folder of recordings, or `None` with a loud word that nothing was tested.
fn captures() -> Option<PathBuf> {
    match std::env::var_os("TIDEGATE_TEST_DATA") {
        Some(dir) if !dir.is_empty() => Some(Path::new(&dir).join("captures")),
        _ => {
            eprintln!("NOT RUN: TIDEGATE_TEST_DATA does not name the folder of recorded responses");
            None
        }
    }
}

struct Capture {
    name: String,
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Capture {
    fn head(&self) -> Head<'_> {
        Head { status: self.status, headers: &self.headers }
    }

    fn outcome(&self) -> Outcome {
        classify(&self.head(), &self.body, None)
    }
}

/// The recordings that the index lists; those converted from fixtures have no headers.
fn load(dir: &Path) -> Vec<Capture> {
    let index = std::fs::read_to_string(dir.join("INDEX.tsv")).unwrap();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let load = |line: &str| {
        let mut columns = line.split('\t');
        let name = columns.next().unwrap().to_owned();
        let status = columns.nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{line}"));
        let meta = std::fs::read(dir.join(format!("{name}.meta.json"))).ok();
        let meta: Value = meta.map_or(Value::Null, |meta| serde_json::from_slice(&meta).unwrap());
        let headers = meta["headers"].as_object().into_iter().flatten();
        let headers = headers.map(|(name, value)| (name.clone(), text(value))).collect();
        Capture { status, headers, body: std::fs::read(dir.join(&name)).unwrap(), name }
    };
    index.lines().skip(1).map(load).collect()
}

/// What each status of a recorded error comes to. The one recorded 429 is about a rate: "temporarily rate-limited
/// upstream".
fn expected(status: u16) -> OutcomeKind {
    match status {
        400 | 404 => OutcomeKind::Refused,
        401 => OutcomeKind::Authentication,
        429 => OutcomeKind::Rate,
        500 => OutcomeKind::Server,
        other => panic!("no expectation for a recorded {other}"),
    }
}

#[test]
fn every_recorded_error_classifies_by_its_status_and_keeps_the_servers_words() {
    let Some(dir) = captures() else { return };
    let mut counts = BTreeMap::new();
    for capture in load(&dir).iter().filter(|capture| capture.status >= 300) {
        let outcome = capture.outcome();
        let name = &capture.name;
        assert_eq!(outcome.kind, expected(capture.status), "{name}: {outcome:?}");
        assert_eq!(outcome.status, Some(capture.status), "{name}");
        assert_eq!((outcome.told, outcome.low_balance, outcome.retry_after), (None, false, None), "{name}");

        let body: Value = serde_json::from_slice(&capture.body).unwrap();
        let error = if body["error"].is_object() { &body["error"] } else { &body };
        let words = error["message"].as_str().or(error["detail"].as_str()).unwrap_or_else(|| panic!("{name}: {body}"));
        let message = outcome.message.unwrap_or_else(|| panic!("{name}: no message"));
        // Up to where a key may have been struck out, line breaks aside.
        let words: Vec<&str> = words.split_whitespace().take_while(|word| !word.contains(['*', '`'])).take(4).collect();
        assert!(message.starts_with(&words.join(" ")), "{name}: {message}");
        assert_eq!(outcome.error_type.as_deref(), error["type"].as_str(), "{name}");
        let code = error["code"].as_str().map_or_else(|| error["code"].to_string(), str::to_owned);
        assert_eq!(outcome.code.as_deref().unwrap_or("null"), code, "{name}");
        *counts.entry(capture.status).or_insert(0) += 1;
    }
    println!("recorded errors by status: {counts:?}");
    assert!(counts.values().sum::<i32>() >= 30, "{counts:?}");
}

#[test]
fn no_recorded_key_survives_in_a_message() {
    let Some(dir) = captures() else { return };
    let mut echoed = 0;
    for capture in load(&dir).iter().filter(|capture| capture.status == 401) {
        let outcome = format!("{:?}", capture.outcome());
        if String::from_utf8_lossy(&capture.body).contains("API key provided: ") {
            assert!(outcome.contains("API key provided: [redacted]."), "{outcome}");
            echoed += 1;
        }
        assert!(!outcome.contains("sk-"), "{outcome}");
    }
    assert!(echoed >= 3, "only {echoed} recorded echoes of a key");
}

#[test]
fn every_recorded_deepseek_response_with_whole_headers_gives_its_trace_id() {
    let Some(dir) = captures() else { return };
    let mut found = 0;
    for capture in load(&dir) {
        if let Some((_, id)) = capture.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-ds-trace-id")) {
            assert_eq!(capture.outcome().request_id.as_deref(), Some(id.as_str()), "{}", capture.name);
            found += 1;
        }
    }
    assert!(found > 20, "only {found} trace ids");
}

#[test]
fn every_recorded_answer_is_a_success_and_its_padding_is_no_content() {
    let Some(dir) = captures() else { return };
    let (mut answers, mut padded) = (0, 0);
    for capture in load(&dir).iter().filter(|capture| capture.status == 200 && capture.name.ends_with(".json")) {
        let outcome = capture.outcome();
        assert_eq!(outcome.kind, OutcomeKind::Success, "{}: {outcome:?}", capture.name);
        answers += 1;

        let mut inspector = Inspector::new();
        let mut content = Vec::new();
        for chunk in capture.body.chunks(3) {
            match inspector.feed(chunk).unwrap() {
                Arrival::Alive => assert!(content.is_empty() && chunk.iter().all(u8::is_ascii_whitespace)),
                Arrival::Content(part) => content.extend_from_slice(part),
            }
        }
        assert!(matches!(content.first(), Some(b'{' | b'[')), "{}", capture.name);
        padded += usize::from(content.len() < capture.body.len());
    }
    println!("{answers} recorded answers, {padded} of them padded");
    assert!(answers > 100 && padded > 10, "{answers} answers, {padded} padded");
}

#[test]
fn recorded_streams_hold_the_errors_that_are_known_and_no_others() {
    let Some(dir) = captures() else { return };
    let mut errors = Vec::new();
    for capture in load(&dir).iter().filter(|capture| capture.name.ends_with(".sse")) {
        let mut parser = Parser::new();
        let on = |item: Item<'_>| {
            let Item::Event { data, .. } = item else { return };
            let Ok(event) = serde_json::from_str::<Value>(data) else { return };
            if let Some(outcome) = classify_error_object(&capture.head(), &event, None) {
                errors.push((capture.name.clone(), outcome.kind, outcome.message.unwrap_or_default()));
            }
            let reason = event.pointer("/choices/0/finish_reason").and_then(Value::as_str);
            assert_eq!(finish_reason_kind(reason.unwrap_or("stop")), OutcomeKind::Success, "{}", capture.name);
        };
        parser.feed(&capture.body, on).unwrap();
    }
    println!("{errors:#?}");
    // Groq ends a stream with the fault of a model that did not call the tool it had to.
    let groq = errors.iter().find(|(name, ..)| name.contains("groq") && name.contains("tool-use-failed"));
    let (_, kind, message) = groq.expect("the error in Groq's stream");
    assert_eq!((*kind, &**message), (OutcomeKind::Refused, "Tool choice is required, but model did not call a tool"));
    assert!(errors.iter().all(|(_, kind, _)| *kind == OutcomeKind::Refused), "{errors:#?}");
}
