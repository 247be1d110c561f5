//! Any response is classified, within bounds, and without handing on a key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use tidegate::core::classify::{Head, classify, redact};
use tidegate::core::headers::MAX_DELAY;
use tidegate::core::outcome::{Outcome, OutcomeKind};

/// A body as it came, or texts in the places where the classification looks for words.
fn body(shape: u8, raw: Vec<u8>, message: &str, name: &str, code: i64) -> Vec<u8> {
    let error =
        json!({"message": message, "type": name, "code": code, "metadata": {"raw": name, "error_type": message}});
    match shape % 5 {
        0 => json!({"error": error}).to_string().into_bytes(),
        1 => json!({"choices": [{"finish_reason": name, "error": error}]}).to_string().into_bytes(),
        2 => json!({"code": code, "message": message, "data": null}).to_string().into_bytes(),
        3 => json!([{"error": {"message": message, "status": name, "details": [{"retryDelay": name}]}}])
            .to_string()
            .into_bytes(),
        _ => raw,
    }
}

fuzz_target!(|input: (u16, Vec<(String, String)>, u8, &str, &str, i64, Vec<u8>)| {
    let (status, headers, shape, message, name, code, raw) = input;
    let body = body(shape, raw, message, name, code);
    // Statuses that mean something more often than chance has them.
    let status = [status % 600, 200, 400, 401, 402, 403, 429, 500, 503][usize::from(status) % 9];
    let outcome = classify(&Head { status, headers: &headers }, &body, Some(1_764_000_000));
    assert_eq!(outcome.status, Some(status));
    assert!(outcome.kind != OutcomeKind::Success || (200..300).contains(&status));
    assert!(outcome.retry_after.is_none_or(|delay| delay <= MAX_DELAY));
    assert!(outcome.told.is_none_or(|told| told.limit > 0));
    for text in [&outcome.message, &outcome.code, &outcome.error_type].into_iter().flatten() {
        assert!(text.len() <= Outcome::MESSAGE_LIMIT);
    }
    let text = String::from_utf8_lossy(&body);
    let once = redact(&text);
    assert!(once.len() <= 3 * text.len());
});
