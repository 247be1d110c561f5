//! No header makes a delay that is not believable.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::core::headers::{MAX_DELAY, quota_hints, request_id, retry_after, should_retry};

fuzz_target!(|input: (Option<u64>, Vec<(u8, String)>)| {
    const NAMES: [&str; 21] = [
        "retry-after",
        "retry-after-ms",
        "date",
        "x-should-retry",
        "x-ds-trace-id",
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
        "x-ratelimit-reset-tokens",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "ratelimit",
        "ratelimit-policy",
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
        "anthropic-ratelimit-tokens-reset",
    ];
    let (now, values) = input;
    let headers: Vec<_> =
        values.into_iter().map(|(name, value)| (NAMES[usize::from(name) % NAMES.len()], value)).collect();
    assert!(retry_after(&headers, now).is_none_or(|delay| delay <= MAX_DELAY));
    let hints = quota_hints(&headers, now);
    for hint in [hints.requests, hints.tokens] {
        assert!(hint.reset.is_none_or(|reset| reset <= MAX_DELAY));
    }
    assert!(request_id(&headers).is_none_or(|id| !id.is_empty() && id.len() <= 256));
    let _ = should_retry(&headers);
});
