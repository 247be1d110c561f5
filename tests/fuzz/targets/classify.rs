//! Any response is classified, within bounds, and without handing on a key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::core::classify::{Head, classify, redact};
use tidegate::core::headers::MAX_DELAY;
use tidegate::core::outcome::{Outcome, OutcomeKind};

fuzz_target!(|input: (u16, Vec<(String, String)>, Vec<u8>)| {
    let (status, headers, body) = input;
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
