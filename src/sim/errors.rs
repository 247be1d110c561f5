//! The bodies of refusals, in each dialect.
//!
//! DeepSeek's are those captured from the real service; its `code` is nearly always `invalid_request_error`, whatever
//! the status. OpenRouter's and SiliconFlow's follow their documentation
//! (<https://openrouter.ai/docs/api_reference/errors-and-debugging>, <https://docs.siliconflow.cn/en/faqs/error-code>).

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::json;

use super::scenario::{BodyStyle, RetryAfter, RetryAfterForm};

const JSON: &str = "application/json";

/// A refusal's type and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ErrorBody {
    pub(crate) content_type: Option<&'static str>,
    pub(crate) body: Bytes,
}

impl ErrorBody {
    pub(crate) fn json(value: &serde_json::Value) -> Self {
        Self { content_type: Some(JSON), body: value.to_string().into() }
    }

    fn text(body: &'static str) -> Self {
        Self { content_type: Some("text/plain"), body: Bytes::from_static(body.as_bytes()) }
    }
}

/// DeepSeek's error object.
pub(crate) fn deepseek(message: &str, kind: &str, code: &str) -> serde_json::Value {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

/// DeepSeek's 400: recorded with `application/octet-stream` in all ten captures.
pub(crate) fn bad_request(message: &str) -> ErrorBody {
    let body = deepseek(message, "invalid_request_error", "invalid_request_error");
    ErrorBody { content_type: Some("application/octet-stream"), body: body.to_string().into() }
}

/// 401 for a request without a key: 31 bytes of text and no content type.
pub(crate) fn no_key() -> ErrorBody {
    ErrorBody { content_type: None, body: Bytes::from_static(b"Authentication Fails (governor)") }
}

/// 401 for a key nobody has. Only its last four characters are quoted.
pub(crate) fn wrong_key(key: &str) -> ErrorBody {
    let message = format!("Authentication Fails, Your api key: {} is invalid", masked(key));
    ErrorBody::json(&deepseek(&message, "authentication_error", "invalid_request_error"))
}

/// A key as it may be shown: its last four characters, or none of a short one.
pub(crate) fn masked(key: &str) -> String {
    match key.char_indices().rev().nth(3) {
        Some((start, _)) if start >= 8 => format!("****{}", &key[start..]),
        _ => "****".to_owned(),
    }
}

/// 429 for too many requests in flight: `current` with this one, over `limit`.
pub(crate) fn too_many_at_once(style: BodyStyle, current: u32, limit: u32) -> ErrorBody {
    let kind = "rate_limit_error";
    match style {
        BodyStyle::DeepseekBalance => ErrorBody::json(&deepseek(
            &format!(
                "Too many requests. Your current concurrency is {current}, which exceeds your concurrency limit of \
                 {limit} based on your remaining balance. Please top up your balance to restore your concurrency."
            ),
            kind,
            "invalid_request_error",
        )),
        BodyStyle::Deepseek => ErrorBody::json(&deepseek(
            "Too many requests. Your current concurrency exceeds your concurrency limit.",
            kind,
            "invalid_request_error",
        )),
        _ => too_fast(style, "concurrent requests"),
    }
}

/// 429 for going too fast; `what` is the measure that ran out, such as `RPM`.
pub(crate) fn too_fast(style: BodyStyle, what: &str) -> ErrorBody {
    match style {
        BodyStyle::DeepseekBalance | BodyStyle::Deepseek => ErrorBody::json(&deepseek(
            &format!("Rate limit reached: {what} exceeded. Please pace your requests."),
            "rate_limit_error",
            "rate_limit_exceeded",
        )),
        BodyStyle::Plain => ErrorBody::text("Too Many Requests"),
        BodyStyle::Openrouter => ErrorBody::json(&json!({"error": {
            "code": 429,
            "message": format!("Rate limit exceeded: {what}"),
            "metadata": {"error_type": "rate_limit_exceeded"},
        }})),
        BodyStyle::Siliconflow => ErrorBody::json(&json!({
            "code": 50602,
            "message": format!("Request was rejected due to rate limiting. Details: {what} limit reached."),
            "data": null,
        })),
        BodyStyle::Empty => ErrorBody { content_type: None, body: Bytes::new() },
    }
}

/// The body of a refusal that has nothing to do with limits.
pub(crate) fn of_status(style: BodyStyle, status: u16) -> ErrorBody {
    let (message, kind, code) = match status {
        402 => ("Insufficient Balance", "unknown_error", "invalid_request_error"),
        503 => (
            "Service is too busy. We advise users to temporarily switch to alternative LLM API service providers.",
            "service_unavailable_error",
            "service_unavailable_error",
        ),
        429 => return too_fast(style, "requests"),
        500..=599 => ("Internal server error.", "server_error", "internal_error"),
        _ => ("The request was refused.", "invalid_request_error", "invalid_request_error"),
    };
    match style {
        BodyStyle::DeepseekBalance | BodyStyle::Deepseek => ErrorBody::json(&deepseek(message, kind, code)),
        BodyStyle::Openrouter => {
            let error_type = match status {
                402 => "payment_required",
                502 => "provider_unavailable",
                503 => "provider_overloaded",
                504 => "timeout",
                _ => "server",
            };
            ErrorBody::json(&json!({
                "error": {"code": status, "message": message, "metadata": {"error_type": error_type}},
            }))
        }
        BodyStyle::Siliconflow => {
            let code = if status == 503 { 50508 } else { 50505 };
            ErrorBody::json(&json!({
                "code": code, "message": "System is too busy now. Please try again later.", "data": null,
            }))
        }
        BodyStyle::Plain => ErrorBody::text("Service error"),
        BodyStyle::Empty => ErrorBody { content_type: None, body: Bytes::new() },
    }
}

/// The header that asks for a wait, if the form is one. `wall` is the time of day when the answer is sent.
pub(crate) fn retry_after(form: RetryAfterForm, wait: Duration, wall: SystemTime) -> Option<(&'static str, String)> {
    let secs = wait.as_secs_f64();
    match form {
        RetryAfterForm::None => None,
        RetryAfterForm::Seconds => Some(("retry-after", format!("{}", secs.ceil()))),
        RetryAfterForm::Float => Some(("retry-after", format!("{secs:.3}"))),
        RetryAfterForm::RetryAfterMs => Some(("retry-after-ms", format!("{}", wait.as_millis()))),
        RetryAfterForm::HttpDate => {
            // A date has whole seconds; rounding up keeps the wait from being shorter than meant.
            let mut at = wall.checked_add(wait)?;
            let fraction = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
            if fraction > 0 {
                at = at.checked_add(Duration::from_nanos(u64::from(1_000_000_000 - fraction)))?;
            }
            // `fmt_http_date` knows the years 1970 to 9999 only.
            let secs = at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
            (secs < 253_402_300_800).then(|| ("retry-after", httpdate::fmt_http_date(at)))
        }
    }
}

/// The wait a scenario's setting asks for.
pub(crate) fn configured_wait(setting: RetryAfter) -> Duration {
    Duration::try_from_secs_f64(setting.seconds).unwrap_or(Duration::MAX)
}

/// A duration as Go prints it, the form of OpenAI's `x-ratelimit-reset-*`: `120ms`, `1.5s`, `6m0s`.
pub(crate) fn go_duration(d: Duration) -> String {
    let ms = d.as_millis();
    let secs = (ms % 60_000) as f64 / 1000.0;
    match (ms / 3_600_000, ms / 60_000 % 60) {
        (0, 0) if ms < 1000 => format!("{ms}ms"),
        (0, 0) => format!("{secs}s"),
        (0, m) => format!("{m}m{secs}s"),
        (h, m) => format!("{h}h{m}m{secs}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balance_body_is_the_recorded_one() {
        let body = too_many_at_once(BodyStyle::DeepseekBalance, 26, 25);
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&body.body).unwrap(),
            json!({"error": {
                "message": "Too many requests. Your current concurrency is 26, which exceeds your concurrency limit \
                            of 25 based on your remaining balance. Please top up your balance to restore your \
                            concurrency.",
                "type": "rate_limit_error", "param": null, "code": "invalid_request_error",
            }})
        );
    }

    #[test]
    fn a_masked_key_shows_at_most_its_last_four_characters() {
        for (key, shown) in [
            ("sk-0123456789abcd", "****abcd"),
            ("sk-short", "****"),
            ("", "****"),
            ("ключ-довольно-длинный", "****нный"),
        ] {
            assert_eq!(masked(key), shown);
        }
    }

    #[test]
    fn waits_are_written_in_every_form_and_never_shorter() {
        use RetryAfterForm::*;
        let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_000_250);
        let wait = Duration::from_millis(2500);
        let write = |form| retry_after(form, wait, wall).map(|(name, value)| format!("{name}: {value}"));
        assert_eq!(write(None), Option::None);
        assert_eq!(write(Seconds).as_deref(), Some("retry-after: 3"));
        assert_eq!(write(Float).as_deref(), Some("retry-after: 2.500"));
        assert_eq!(write(RetryAfterMs).as_deref(), Some("retry-after-ms: 2500"));
        assert_eq!(write(HttpDate).as_deref(), Some("retry-after: Sun, 09 Sep 2001 01:46:43 GMT"));
        assert_eq!(retry_after(HttpDate, Duration::MAX, wall), Option::None);
    }

    #[test]
    fn durations_read_as_go_prints_them() {
        for (ms, text) in
            [(0, "0ms"), (120, "120ms"), (1000, "1s"), (1500, "1.5s"), (360_000, "6m0s"), (3_661_001, "1h1m1.001s")]
        {
            assert_eq!(go_duration(Duration::from_millis(ms)), text);
        }
    }
}
