//! What response headers say: how long to wait, what is left of a quota, whether to retry, and the request's id.
//!
//! Every form in the field is read: `Retry-After` as seconds, as fractions of them and as an HTTP date,
//! `retry-after-ms`, the `x-ratelimit-*` families of OpenAI (Go durations such as `6m0s`), Azure (whole seconds), OpenRouter
//! (a unix time in milliseconds) and Mistral (no reset), Anthropic's `anthropic-ratelimit-*` (RFC 3339 dates), and the IETF
//! drafts' `RateLimit` headers. What can't be read is as if it were absent: a wrong header never fails a request.

use alloc::vec::Vec;
use core::time::Duration;

use super::outcome::{QuotaHint, QuotaHints};
use super::text::{Parts, halves, part, span};

/// The longest delay that is believed: a day. A longer one is taken for a day.
pub const MAX_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Read access to a response's headers, so that no HTTP library enters the core.
///
/// It is implemented for arrays, vectors and slices of `(name, value)` pairs, whose names are compared without regard to
/// case; [`NONE`] is a response without headers.
pub trait Headers {
    /// The first value of the header `name`, which is given in lower case; `None` if there is none, or if it isn't text.
    fn get(&self, name: &str) -> Option<&str>;

    /// Whether any header may be about rate quotas (has `ratelimit` in its name). Most answers have none, and `false`
    /// saves a dozen look-ups. Default: true.
    fn may_have_quota(&self) -> bool {
        true
    }
}

/// A response without headers.
pub const NONE: &dyn Headers = &[("", ""); 0];

fn find<'h>(pairs: &'h [(impl AsRef<str>, impl AsRef<str>)], name: &str) -> Option<&'h str> {
    pairs.iter().find(|(n, _)| n.as_ref().eq_ignore_ascii_case(name)).map(|(_, value)| value.as_ref())
}

impl<N: AsRef<str>, V: AsRef<str>> Headers for &[(N, V)] {
    fn get(&self, name: &str) -> Option<&str> {
        find(self, name)
    }
}

impl<N: AsRef<str>, V: AsRef<str>, const COUNT: usize> Headers for [(N, V); COUNT] {
    fn get(&self, name: &str) -> Option<&str> {
        find(self, name)
    }
}

impl<N: AsRef<str>, V: AsRef<str>> Headers for Vec<(N, V)> {
    fn get(&self, name: &str) -> Option<&str> {
        find(self, name)
    }
}

/// The headers that may carry the server's id of a request, the most telling first: DeepSeek's (it sends only the
/// first: all 63 recorded responses with whole headers have it), OpenAI's and most others', DeepSeek's own client's
/// guess, Anthropic's, OpenRouter's, SiliconFlow's, Mistral's, Azure's, and Cloudflare's as the last resort.
const REQUEST_IDS: [&str; 9] = [
    "x-ds-trace-id",
    "x-request-id",
    "x-deepseek-request-id",
    "request-id",
    "x-generation-id",
    "x-siliconcloud-trace-id",
    "mistral-correlation-id",
    "apim-request-id",
    "cf-ray",
];

/// The server's id of the request, for its support and for logs.
pub fn request_id(headers: &dyn Headers) -> Option<&str> {
    let sane = |id: &&str| !id.is_empty() && id.len() <= 256 && id.bytes().all(|byte| byte.is_ascii_graphic());
    REQUEST_IDS.iter().find_map(|name| headers.get(name).map(str::trim_ascii).filter(sane))
}

/// The server's explicit word on retrying: `x-should-retry: true` or `false`, as OpenAI's clients obey it.
pub fn should_retry(headers: &dyn Headers) -> Option<bool> {
    let value = headers.get("x-should-retry")?.trim_ascii();
    if value.eq_ignore_ascii_case("true") {
        Some(true)
    } else if value.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// The unix time in seconds that the response's own `Date` gives, else `unix_now`.
///
/// A server's dates are read by its own clock, for ours may be wrong.
pub fn unix_time(headers: &dyn Headers, unix_now: Option<u64>) -> Option<u64> {
    headers.get("date").and_then(unix_date).or(unix_now)
}

/// How long the server asks to wait before the next try: the longest of `Retry-After` and `retry-after-ms`, at most
/// [`MAX_DELAY`]. Azure was recorded with the two contradicting each other (`1` and `0`), so the longer is the safe one.
///
/// `unix_now` is the time in seconds, if known; it stands in where a date has no `Date` beside it. A date that has
/// passed asks for no wait; negative, infinite and unreadable values ask for nothing.
pub fn retry_after(headers: &dyn Headers, unix_now: Option<u64>) -> Option<Duration> {
    let ms = headers.get("retry-after-ms").and_then(|value| delay(decimal(value.trim_ascii())? / 1e3));
    let plain = headers.get("retry-after").and_then(|value| {
        let value = value.trim_ascii();
        match decimal(value) {
            Some(seconds) => delay(seconds),
            None => match unix_date(value) {
                Some(at) => {
                    let now = unix_time(headers, unix_now)?;
                    Some(Duration::from_secs(at.saturating_sub(now)).min(MAX_DELAY))
                }
                None => go_duration(value),
            },
        }
    });
    ms.max(plain)
}

/// What the headers say of rate quotas. Families without a suffix (`x-ratelimit-remaining`, `ratelimit-remaining`,
/// `RateLimit`) are about requests. A limit of zero or less means "not measured" (Azure sends `-1` and `0`), and then
/// nothing else of that dimension is believed.
pub fn quota_hints(headers: &dyn Headers, unix_now: Option<u64>) -> QuotaHints {
    if !headers.may_have_quota() {
        return QuotaHints::default();
    }
    let now = unix_time(headers, unix_now);
    let family = |limit: &str, remaining: &str, reset: &str| {
        let stated_limit = headers.get(limit).and_then(count);
        if stated_limit.is_some_and(|limit| limit <= 0.0) {
            return QuotaHint::default();
        }
        // `as` saturates, and the values are finite.
        let whole = |value: f64| (value >= 0.0).then_some(value as u64);
        QuotaHint {
            limit: stated_limit.and_then(whole),
            remaining: headers.get(remaining).and_then(count).and_then(whole),
            reset: headers.get(reset).and_then(|value| reset_in(value, now)),
        }
    };
    let requests = [
        ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
        ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
        ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"),
        // Mistral says nothing of a reset.
        ("x-ratelimit-limit-req-minute", "x-ratelimit-remaining-req-minute", "ratelimit-reset"),
        (
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ),
    ];
    let requests = requests.iter().map(|(limit, remaining, reset)| family(limit, remaining, reset));
    let requests = requests.fold(combined_ratelimit(headers), |found, other| prefer(other, found));
    let tokens = [
        ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
        ("x-ratelimit-limit-tokens-minute", "x-ratelimit-remaining-tokens-minute", "ratelimit-reset"),
        // Of its limits on input, output and both, these name the one that is nearest
        // (<https://platform.claude.com/docs/en/api/rate-limits>).
        (
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ),
    ];
    let tokens = tokens.iter().map(|(limit, remaining, reset)| family(limit, remaining, reset));
    let tokens = tokens.fold(QuotaHint::default(), prefer);
    QuotaHints { requests, tokens }
}

/// Whether the headers call a quota used up.
pub(crate) fn exhausted(quota: &QuotaHints) -> bool {
    quota.requests.remaining == Some(0) || quota.tokens.remaining == Some(0)
}

/// Makes of a delay the longer of it and another.
#[cfg_attr(target_family = "wasm", inline(never))]
pub(crate) fn raise(longest: &mut Option<Duration>, other: Option<Duration>) {
    *longest = (*longest).max(other);
}

/// Of two families of headers about the same dimension, field by field the first that speaks. The one with more to
/// say goes first, lest halves of different windows are put together.
fn prefer(a: QuotaHint, b: QuotaHint) -> QuotaHint {
    let fields = |hint: &QuotaHint| {
        u8::from(hint.limit.is_some()) + u8::from(hint.remaining.is_some()) + u8::from(hint.reset.is_some())
    };
    if fields(&a) >= fields(&b) { a } else { b }
}

/// The IETF drafts' one-header forms: `RateLimit: "default";r=50;t=30` with `RateLimit-Policy: "default";q=100;w=60`,
/// and the older `RateLimit: limit=100, remaining=50, reset=5`
/// (<https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/>).
fn combined_ratelimit(headers: &dyn Headers) -> QuotaHint {
    let parameter = |header: &str, names: &[&str]| {
        let mut parts = Parts::of_either(headers.get(header)?, *b";,").filter_map(|part| halves(part, *b"=="));
        let (_, value) =
            parts.find(|(name, _)| names.iter().any(|wanted| name.trim_ascii().eq_ignore_ascii_case(wanted)))?;
        whole(value.trim_ascii())
    };
    QuotaHint {
        limit: parameter("ratelimit", &["limit"]).or_else(|| parameter("ratelimit-policy", &["q"])),
        remaining: parameter("ratelimit", &["r", "remaining"]),
        reset: parameter("ratelimit", &["t", "reset"]).map(|secs| Duration::from_secs(secs).min(MAX_DELAY)),
    }
}

/// The first number of a header such as `100` or `100, 100;w=60`.
fn count(value: &str) -> Option<f64> {
    let number = decimal(Parts::of_either(value, *b",;").next()?.trim_ascii())?;
    number.is_finite().then_some(number)
}

/// When a quota is whole again: a Go duration (OpenAI, Groq), seconds (Azure, IETF), a unix time in seconds or in
/// milliseconds (OpenRouter), which needs the time, or a date (Anthropic), which needs it too.
fn reset_in(value: &str, unix_now: Option<u64>) -> Option<Duration> {
    let value = value.trim_ascii();
    let until = |at: f64| {
        let now = unix_now?;
        // A moment gone by is no wait.
        delay((at - now as f64).max(0.0))
    };
    match decimal(value) {
        // Nothing resets in 30 years: what is larger is a moment, not a span.
        Some(number) if number >= 1e12 => until(number / 1e3),
        Some(number) if number >= 1e9 => until(number),
        Some(number) => delay(number),
        None => go_duration(value).or_else(|| unix_date(value).and_then(|at| until(at as f64))),
    }
}

/// `seconds` as a believable delay: not negative, not NaN, not infinite, at most [`MAX_DELAY`].
pub(crate) fn delay(seconds: f64) -> Option<Duration> {
    // To the microsecond. The cast saturates.
    (seconds.is_finite() && seconds >= 0.0).then(|| Duration::from_micros((seconds * 1e6 + 0.5) as u64).min(MAX_DELAY))
}

/// A duration as Go prints it (`1h2m3.5s`, `6m0s`, `120ms`; days are taken too), which Google's `48s` is as well.
pub(crate) fn go_duration(text: &str) -> Option<Duration> {
    let (seconds, rest) = go_duration_prefix(text.trim_ascii())?;
    if rest.is_empty() { delay(seconds) } else { None }
}

/// The seconds of the Go duration that `text` begins with, and what follows it.
pub(crate) fn go_duration_prefix(text: &str) -> Option<(f64, &str)> {
    // Longer names first: `ms` is not `m`.
    const UNITS: [(&str, f64); 8] = [
        ("ms", 1e-3),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ns", 1e-9),
        ("d", 86_400.0),
        ("h", 3_600.0),
        ("m", 60.0),
        ("s", 1.0),
    ];
    let mut seconds = 0.0;
    let mut rest = text;
    while rest.bytes().next().is_some_and(|byte| byte.is_ascii_digit()) {
        let (number, tail) = span(rest, is_of_number);
        let number = decimal(number)?;
        let (after, unit) = UNITS.iter().find_map(|(name, unit)| Some((tail.strip_prefix(name)?, unit)))?;
        seconds += number * unit;
        rest = after;
    }
    (rest.len() < text.len()).then_some((seconds, rest))
}

/// A number as headers write it (`7`, `-1`, `7.66`, `1e3`). Exact up to fifteen digits, and then near enough; infinite if
/// it is beyond all numbers. The standard library's tables for the last bit would be a tenth of the npm package.
pub(crate) fn decimal(text: &str) -> Option<f64> {
    let (negative, unsigned) = sign(text);
    let (digits, exponent) = halves(unsigned, *b"eE").unwrap_or((unsigned, "0"));
    let (mut value, mut scale, mut any, mut point) = (0.0, 0i32, false, false);
    for byte in digits.bytes() {
        if byte == b'.' && !point {
            point = true;
        } else {
            value = value * 10.0 + f64::from(digit(byte)?);
            scale -= i32::from(point);
            any = true;
        }
    }
    if !any {
        return None;
    }
    let (shrinks, power) = sign(exponent);
    let power = whole(power)?.min(999) as i32;
    scale += if shrinks { -power } else { power };
    // One step for what is usual, so that it is exact.
    let tens = |power: i32| (0..power).fold(1.0, |tens, _| tens * 10.0);
    value = if scale < 0 { value / tens(-scale) } else { value * tens(scale) };
    Some(if negative { -value } else { value })
}

/// Whether a minus is before a number, and the number without its sign.
fn sign(text: &str) -> (bool, &str) {
    let signed = matches!(text.bytes().next(), Some(b'-' | b'+'));
    (text.starts_with("-"), part(text, usize::from(signed), text.len()))
}

/// Whether it can stand in a number without sign or exponent.
pub(crate) fn is_of_number(byte: &u8) -> bool {
    byte.is_ascii_digit() || *byte == b'.'
}

/// A number of nothing but digits.
pub(crate) fn whole(text: &str) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.bytes().try_fold(0u64, |number, byte| {
        // By comparing, for a check within the multiplication takes 128 bits.
        let tens = (number <= u64::MAX / 10).then(|| number * 10)?;
        tens.checked_add(u64::from(digit(byte)?))
    })
}

fn digit(byte: u8) -> Option<u8> {
    byte.is_ascii_digit().then(|| byte - b'0')
}

/// The unix time of an HTTP date (RFC 9110, its obsolete forms too) or of one of RFC 3339.
#[cfg(feature = "std")]
fn unix_date(value: &str) -> Option<u64> {
    let value = value.trim_ascii();
    let Ok(at) = httpdate::parse_http_date(value) else { return internet_date(value) };
    at.duration_since(std::time::SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// The unix time of a date such as `2026-03-01T12:00:00Z` (RFC 3339), without the fraction of its second.
#[cfg(feature = "std")]
fn internet_date(value: &str) -> Option<u64> {
    let alike = |(byte, like): (u8, &u8)| if *like == b'0' { byte.is_ascii_digit() } else { byte == *like };
    let has_form = |text: &str, form: &[u8]| text.len() == form.len() && text.bytes().zip(form).all(alike);
    let number = |from, to| whole(part(value, from, to)).map(|number| number as i64);
    if !has_form(part(value, 0, 19), b"0000-00-00T00:00:00") {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = part(value, 19, value.len());
    let zone = rest.strip_prefix('.').map_or(rest, |fraction| span(fraction, u8::is_ascii_digit).1);
    let ahead = if zone == "Z" {
        0
    } else if has_form(zone, b"+00:00") || has_form(zone, b"-00:00") {
        let minutes = 60 * whole(part(zone, 1, 3))? as i64 + whole(part(zone, 4, 6))? as i64;
        if zone.starts_with('-') { -minutes } else { minutes }
    } else {
        return None;
    };
    // Years that begin in March have their leap day at the end, and their months' lengths repeat each five.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = 365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468;
    u64::try_from(((days * 24 + hour) * 60 + minute - ahead) * 60 + second).ok()
}

/// The unix time of a date that the host has read: `@` and the seconds. JavaScript can read dates by itself.
#[cfg(not(feature = "std"))]
fn unix_date(value: &str) -> Option<u64> {
    whole(value.trim_ascii().strip_prefix("@")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Option<u64> = Some(1_764_000_000); // Mon, 24 Nov 2025 16:00:00 GMT

    fn secs(secs: f64) -> Option<Duration> {
        Some(Duration::from_secs_f64(secs))
    }

    #[test]
    fn a_number_is_read_as_it_is_written() {
        for text in ["0", "7", "-1", "7.66", ".5", "5.", "1e3", "1.5e-3", "+2", "123456789012345", "0.000001", "-0.25"]
        {
            assert_eq!(decimal(text), Some(text.parse().unwrap()), "{text}");
        }
        assert_eq!(decimal("1e999"), Some(f64::INFINITY));
        for text in ["", ".", "-", "e3", "1e", "1.2.3", "1x", "NaN", "inf", "--1", "1e1.5", "1 "] {
            assert_eq!(decimal(text), None, "{text:?}");
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_whole_and_fractional() {
        for (value, expected) in [("20", 20.0), (" 1.5 ", 1.5), ("0", 0.0), ("2s", 2.0), ("1m30s", 90.0)] {
            assert_eq!(retry_after(&[("Retry-After", value)], None), secs(expected), "{value:?}");
        }
        assert_eq!(retry_after(&[("retry-after-ms", "1250.5")], None), secs(1.2505));
    }

    #[test]
    fn values_that_make_no_sense_are_ignored_and_absurd_ones_are_a_day() {
        for value in ["-1", "NaN", "inf", "-inf", "", "soon", "1e999", "1x", "Mon, 99 Foo 2025 00:00:00 GMT"] {
            assert_eq!(retry_after(&[("retry-after", value)], NOW), None, "{value:?}");
            assert_eq!(retry_after(&[("retry-after-ms", value)], NOW), None, "{value:?}");
        }
        for value in ["86401", "1e300", "99999999999999999999"] {
            assert_eq!(retry_after(&[("retry-after", value)], None), Some(MAX_DELAY), "{value:?}");
        }
    }

    #[test]
    fn the_longest_of_contradicting_delays_wins() {
        // Recorded from Azure.
        assert_eq!(retry_after(&[("Retry-After", "1"), ("Retry-After-Ms", "0")], None), secs(1.0));
        assert_eq!(retry_after(&[("retry-after", "1"), ("retry-after-ms", "2500")], None), secs(2.5));
    }

    #[test]
    fn an_http_date_is_relative_to_the_responses_own_date() {
        let at = ("retry-after", "Mon, 24 Nov 2025 16:01:30 GMT");
        assert_eq!(retry_after(&[at, ("date", "Mon, 24 Nov 2025 16:01:00 GMT")], NOW), secs(30.0));
        assert_eq!(retry_after(&[at], NOW), secs(90.0));
        assert_eq!(retry_after(&[at], None), None);
        assert_eq!(retry_after(&[at, ("date", "Mon, 24 Nov 2025 17:00:00 GMT")], None), secs(0.0));
        assert_eq!(retry_after(&[("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")], NOW), Some(MAX_DELAY));
    }

    #[test]
    fn openai_quota_headers_are_go_durations() {
        let headers = [
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "59"),
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-limit-tokens", "150000"),
            ("x-ratelimit-remaining-tokens", "149984"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ];
        let hints = quota_hints(&headers, None);
        assert_eq!(hints.requests, QuotaHint { limit: Some(60), remaining: Some(59), reset: secs(1.0) });
        assert_eq!(hints.tokens, QuotaHint { limit: Some(150_000), remaining: Some(149_984), reset: secs(360.0) });
    }

    #[test]
    fn go_durations_of_every_unit_are_read() {
        let cases = [
            ("120ms", 0.12),
            ("1h2m3.5s", 3723.5),
            ("7.66s", 7.66),
            ("2m59.56s", 179.56),
            ("1d1h", 90_000.0),
            ("500us", 0.0005),
            ("500µs", 0.0005),
            ("1000000ns", 0.001),
            ("0s", 0.0),
        ];
        for (text, expected) in cases {
            assert_eq!(go_duration(text), delay(expected), "{text:?}");
        }
        for text in ["", "s", "5", "5x", "-1s", "1s ago", "1.2.3s", ".", "1s2", "µs", "1µ", "9.s.s"] {
            assert_eq!(go_duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn azure_resets_are_whole_seconds_and_its_minus_one_means_nothing() {
        let reset = |value| quota_hints(&[("x-ratelimit-reset-tokens", value)], NOW).tokens.reset;
        assert_eq!(reset("37"), secs(37.0));
        assert_eq!(reset("0"), secs(0.0));
        assert_eq!(reset("-1"), None);
        let hints = quota_hints(
            &[
                ("x-ratelimit-limit-tokens", "-1"),
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-reset-tokens", "0"),
                ("x-ratelimit-limit-requests", "10"),
                ("x-ratelimit-remaining-requests", "-1"),
            ],
            None,
        );
        assert_eq!(hints.tokens, QuotaHint::default());
        assert_eq!(hints.requests, QuotaHint { limit: Some(10), remaining: None, reset: None });
    }

    #[test]
    fn mistrals_headers_name_a_minute_and_no_reset() {
        let headers = [
            ("x-ratelimit-limit-tokens-minute", "5000000"),
            ("x-ratelimit-remaining-tokens-minute", "4999911"),
            ("x-ratelimit-tokens-query-cost", "52"),
            ("x-ratelimit-limit-req-minute", "720"),
            ("x-ratelimit-remaining-req-minute", "717"),
        ];
        let hints = quota_hints(&headers, None);
        assert_eq!(hints.requests, QuotaHint { limit: Some(720), remaining: Some(717), reset: None });
        assert_eq!(hints.tokens, QuotaHint { limit: Some(5_000_000), remaining: Some(4_999_911), reset: None });
    }

    #[test]
    fn openrouter_resets_are_unix_times_and_need_a_clock() {
        let headers =
            |reset| [("X-RateLimit-Limit", "20"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", reset)];
        for reset in ["1764000042000", "1764000042"] {
            let hint = quota_hints(&headers(reset), NOW).requests;
            assert_eq!(hint, QuotaHint { limit: Some(20), remaining: Some(0), reset: secs(42.0) }, "{reset}");
            assert_eq!(quota_hints(&headers(reset), None).requests.reset, None);
        }
        assert_eq!(quota_hints(&headers("1763999000000"), NOW).requests.reset, secs(0.0));
    }

    #[test]
    fn anthropics_resets_are_dates_by_the_servers_clock() {
        let headers = [
            ("date", "Mon, 24 Nov 2025 16:00:00 GMT"),
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "2025-11-24T16:00:01Z"),
            ("anthropic-ratelimit-tokens-limit", "40000"),
            ("anthropic-ratelimit-tokens-remaining", "30000"),
            ("anthropic-ratelimit-tokens-reset", "2025-11-24T17:00:15.5+01:00"),
        ];
        for now in [None, Some(12)] {
            let hints = quota_hints(&headers, now);
            assert_eq!(hints.requests, QuotaHint { limit: Some(50), remaining: Some(49), reset: secs(1.0) });
            assert_eq!(hints.tokens, QuotaHint { limit: Some(40_000), remaining: Some(30_000), reset: secs(15.0) });
        }
        // A browser shows no `Date` of another origin: then our own clock has to do, if there is one.
        assert_eq!(quota_hints(&&headers[1..], NOW).requests.reset, secs(1.0));
        assert_eq!(quota_hints(&&headers[1..], None).requests.reset, None);
    }

    #[test]
    fn only_what_is_a_date_is_read_as_one() {
        let reset = |value| quota_hints(&[("x-ratelimit-reset", value)], NOW).requests.reset;
        assert_eq!(reset("2025-11-24T14:30:30-01:30"), secs(30.0));
        assert_eq!(reset("2025-11-24T15:59:59Z"), secs(0.0));
        assert_eq!(reset("9999-12-31T23:59:60Z"), Some(MAX_DELAY));
        for value in [
            "2025-11-24",
            "2025-11-24T16:00:30",
            "2025-13-24T16:00:30Z",
            "2025-00-24T16:00:30Z",
            "2025-11-32T16:00:30Z",
            "2025-11-24T24:00:30Z",
            "2025-11-24T16:60:30Z",
            "2025-11-24T16:00:61Z",
            "2025-11-24T16:00:30+1:00",
            "2025-11-24T16:00:30+01:0é",
            "2025-11-24 16:00:30Z",
            "2025-11-24T16:00:30ZZ",
            "1969-12-31T23:59:59Z",
            "0000-01-01T00:00:00Z",
            "２025-11-24T16:00:30Z",
        ] {
            assert_eq!(reset(value), None, "{value:?}");
        }
    }

    #[test]
    fn the_ietf_drafts_are_read_in_their_three_forms() {
        let split = [("ratelimit-limit", "100, 100;w=60"), ("ratelimit-remaining", "7"), ("ratelimit-reset", "12")];
        let whole = QuotaHint { limit: Some(100), remaining: Some(7), reset: secs(12.0) };
        assert_eq!(quota_hints(&split, None).requests, whole);
        assert_eq!(quota_hints(&[("ratelimit", "limit=100, remaining=7, reset=12")], None).requests, whole);
        let newest = [("ratelimit", "\"default\";r=7;t=12"), ("ratelimit-policy", "\"default\";q=100;w=60")];
        assert_eq!(quota_hints(&newest, None).requests, whole);
    }

    #[test]
    fn a_response_without_headers_says_nothing() {
        assert_eq!(quota_hints(NONE, NOW), QuotaHints::default());
        assert_eq!((retry_after(NONE, NOW), should_retry(NONE), request_id(NONE)), (None, None, None));
    }

    #[test]
    fn only_a_clear_yes_or_no_is_a_word_on_retrying() {
        for (value, expected) in [("true", Some(true)), (" False", Some(false)), ("1", None), ("", None)] {
            assert_eq!(should_retry(&[("x-should-retry", value)]), expected, "{value:?}");
        }
    }

    #[test]
    fn the_request_id_is_deepseeks_before_any_other() {
        let both = [("x-request-id", "req_1"), ("x-ds-trace-id", "20f7a0db")];
        assert_eq!(request_id(&both), Some("20f7a0db"));
        assert_eq!(request_id(&[("X-Generation-Id", "gen-1780944406-x")]), Some("gen-1780944406-x"));
        assert_eq!(request_id(&[("x-request-id", "two words"), ("cf-ray", "8f-FRA")]), Some("8f-FRA"));
    }

    proptest! {
        /// Each moment is written in both forms of dates, and read back from them.
        #[test]
        fn a_date_is_the_same_moment_in_either_form(unix in 0u64..253_402_300_800, ahead in -1439i64..1440) {
            let http = httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(unix));
            prop_assert_eq!(unix_date(&http), Some(unix));
            let [_, day, month, year, time, _] = http.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let month = 1 + "JanFebMarAprMayJunJulAugSepOctNovDec".find(month).unwrap() / 3;
            let internet = format!("{year}-{month:02}-{day}T{time}");
            prop_assert_eq!(unix_date(&format!("{internet}.25Z")), Some(unix));
            let (sign, minutes) = if ahead < 0 { ('-', -ahead) } else { ('+', ahead) };
            let elsewhere = format!("{internet}{sign}{:02}:{:02}", minutes / 60, minutes % 60);
            prop_assert_eq!(unix_date(&elsewhere), u64::try_from(unix as i64 - 60 * ahead).ok());
        }

        #[test]
        fn no_header_value_makes_a_delay_beyond_a_day(
            value in prop_oneof![
                any::<String>(),
                any::<f64>().prop_map(|x| x.to_string()),
                "[0-9.]{1,9}(h|m|s|ms|µs)",
                "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]*)?(Z|[+-][0-9]{2}:[0-9]{2})?",
            ],
            name in prop::sample::select(vec![
                "retry-after", "retry-after-ms", "date", "x-ratelimit-reset", "x-ratelimit-limit", "ratelimit",
                "x-ratelimit-reset-tokens", "ratelimit-policy", "ratelimit-reset", "anthropic-ratelimit-tokens-reset",
            ]),
        ) {
            let headers = [(name, value.as_str()), ("retry-after", "7")];
            prop_assert!(retry_after(&headers, NOW).is_none_or(|delay| delay <= MAX_DELAY));
            let hints = quota_hints(&headers, NOW);
            for hint in [hints.requests, hints.tokens] {
                prop_assert!(hint.reset.is_none_or(|reset| reset <= MAX_DELAY));
            }
        }
    }
}
