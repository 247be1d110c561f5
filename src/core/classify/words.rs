//! What the words of an error message mean.

use alloc::string::String;
use core::time::Duration;

use super::TEXT_LIMIT;
use crate::core::headers;
use crate::core::outcome::Told;
use crate::core::text::{Parts, cut, part, span};

/// A message in lower case, and what can be read from it.
pub(super) struct Words(String);

impl Words {
    pub(super) fn of(message: &str) -> Self {
        Self(cut(message, TEXT_LIMIT).to_ascii_lowercase())
    }

    /// Whether one of the phrases in a list, set off by bars, stands in it.
    pub(super) fn any(&self, phrases: &str) -> bool {
        Parts::of(phrases, b'|').any(|phrase| find(&self.0, phrase).is_some())
    }

    pub(super) fn concurrency(&self) -> bool {
        self.any("concurren|in-flight|in flight|parallel request|simultaneous|并发")
    }

    pub(super) fn overloaded(&self) -> bool {
        self.any("overloaded|too busy|insufficient_system_resource|over capacity")
    }

    pub(super) fn rate(&self) -> bool {
        const PHRASES: &str = "requests per|request per|tokens per|queries per|calls per|per minute|per second|per hour|\
             per day|per min|per-day|per-min|rate limiting|rate-limited|token rate limit|\
             call rate limit|too quickly|too fast|request rate|每分钟|每秒|每天";
        const UNITS: &str = "rpm rph rpd rps tpm tph tpd tps ipm ipd qps qpm";
        let mut rest = self.0.as_str();
        let mut unit = false;
        while !rest.is_empty() {
            let (token, behind) = span(rest, u8::is_ascii_alphanumeric);
            unit |= is_in(UNITS, token);
            (_, rest) = span(behind, |byte| !byte.is_ascii_alphanumeric());
        }
        unit || self.any(PHRASES)
    }

    /// Words for an account without money. A fault of the request quotes the request, so there they don't count behind
    /// a quotation mark.
    pub(super) fn billing(&self, status: u16) -> bool {
        const PHRASES: &str = "insufficient balance|insufficient_balance|insufficient account balance|\
             balance is insufficient|balance is not enough|balance not enough|not enough balance|\
             insufficient credit|insufficient fund|credit balance is too low|out of credits|\
             not enough credits|requires more credits|exceed your available credits|\
             exceeded your current quota|insufficient_quota|insufficient quota|billing hard limit|\
             check your billing|key limit exceeded|余额不足|欠费";
        let fault = matches!(status, 400 | 404 | 413 | 422);
        let quoted = |text: &str| text.bytes().any(|byte| matches!(byte, b'"' | b'\'' | b'`'));
        Parts::of(PHRASES, b'|').any(|phrase| {
            let at = find(&self.0, phrase);
            at.is_some_and(|at| !fault || !quoted(part(&self.0, 0, at)))
        })
    }

    /// DeepSeek's "Your current concurrency is 26, which exceeds your concurrency limit of 25 …". The two numbers can be
    /// equal; a limit of zero is no measurement.
    pub(super) fn told(&self) -> Option<Told> {
        let rest = behind(&self.0, "concurrency is ")?;
        let current = leading_number(rest)?;
        let limit = leading_number(behind(rest, "limit of ")?)?;
        (limit > 0).then_some(Told { current, limit })
    }

    /// Takes over delays that are longer: "Please try again in 7.66s", "retry after 48 seconds", "please retry in 48.2s".
    pub(super) fn delays(&self, longest: &mut Option<Duration>) {
        for marker in ["try again in ", "try again after ", "retry in ", "retry after "] {
            let seconds = behind(&self.0, marker).and_then(|rest| spoken_seconds(rest.trim_ascii_start()));
            headers::raise(longest, seconds.and_then(headers::delay));
        }
    }
}

/// The seconds of `7.66s …`, `6m0s …` or `48 seconds …`.
fn spoken_seconds(text: &str) -> Option<f64> {
    if let Some((seconds, rest)) = headers::go_duration_prefix(text)
        && !rest.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
    {
        return Some(seconds);
    }
    let (number, rest) = span(text, headers::is_of_number);
    let (unit, _) = span(rest.trim_ascii_start(), u8::is_ascii_alphabetic);
    const UNITS: [(&str, f64); 4] = [
        ("ms millisecond milliseconds", 1e-3),
        ("s sec secs second seconds", 1.0),
        ("m min mins minute minutes", 60.0),
        ("h hour hours", 3600.0),
    ];
    let (_, unit) = UNITS.iter().find(|(names, _)| is_in(names, unit))?;
    Some(headers::decimal(number)? * unit)
}

/// The number `text` begins with, its thousands perhaps set off by commas.
fn leading_number(text: &str) -> Option<u32> {
    let (mut number, mut bytes) = (None, text.bytes().peekable());
    while let Some(byte) = bytes.next() {
        match byte {
            b'0'..=b'9' => number = Some(number.unwrap_or(0u32).checked_mul(10)?.checked_add(u32::from(byte - b'0'))?),
            b',' if bytes.peek().is_some_and(u8::is_ascii_digit) => {}
            _ => break,
        }
    }
    number
}

/// Whether one of the names in a list, set off by spaces, is this one.
pub(super) fn is_in(names: &str, name: &str) -> bool {
    Parts::of(names, b' ').any(|other| other.eq_ignore_ascii_case(name))
}

/// Where `phrase`, in lower case, first stands in `text`, in any. The standard library's search is as large as all of this
/// file's decisions, and texts in here are short.
pub(super) fn find(text: &str, phrase: &str) -> Option<usize> {
    let first = phrase.bytes().next()?;
    let mut places = text.bytes().enumerate().filter(|(_, byte)| byte.to_ascii_lowercase() == first).map(|(at, _)| at);
    places.find(|&at| starts_with(part(text, at, text.len()), phrase))
}

/// Whether `text` begins with `phrase`, in whichever case.
pub(super) fn starts_with(text: &str, phrase: &str) -> bool {
    text.get(..phrase.len()).is_some_and(|start| start.eq_ignore_ascii_case(phrase))
}

/// What stands behind `phrase` in `text`.
pub(super) fn behind<'t>(text: &'t str, phrase: &str) -> Option<&'t str> {
    Some(part(text, find(text, phrase)? + phrase.len(), text.len()))
}
