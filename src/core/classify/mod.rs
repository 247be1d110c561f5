//! From what came back to an [`Outcome`]: statuses, error bodies, errors inside a 200, finish reasons, broken transport.
//!
//! Providers contradict themselves, so the order of belief is fixed. The HTTP status speaks first; then the body's own
//! type and the words of its message; DeepSeek's `code` never, for it says `invalid_request_error` even on 401, 402 and
//! 429. Content types are not looked at: DeepSeek sends its JSON errors as `application/octet-stream`. And two things
//! overrule the status: an account without money is that under any status, and a 429 is about requests in flight unless
//! it says that it is about their rate.
//!
//! Keys that a server echoes are struck out of every text that leaves this module; see [`redact`].

mod quote;
mod words;

use alloc::borrow::Cow;
use alloc::boxed::Box;
use core::time::Duration;

use super::headers::{self, Headers};
use super::json::Json;
use super::outcome::{Outcome, OutcomeKind, QuotaHints};
use super::text::cut;

pub use self::quote::redact;
use self::quote::{clean, joined, plain_text};
use self::words::{Words, is_in};

/// How much of an error body's text is read, in bytes: the words that matter come early, and bodies can be pages.
const TEXT_LIMIT: usize = 4 * Outcome::MESSAGE_LIMIT;

/// The head of a response.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: &'a dyn Headers,
}

/// A whole body, as its host's JSON parser found it.
#[derive(Clone, Debug)]
pub struct Body<'a> {
    /// The document, if it is one.
    pub json: Option<Json<'a>>,
    /// Its text, of which the first kilobytes are enough. Needed if it is an error, or no JSON.
    pub text: &'a str,
    /// Why it is no JSON, in the parser's words.
    pub why: &'a str,
}

/// Classifies a whole response that is not a stream: an error, or a 2xx body that may turn out to be one.
///
/// `unix_now`, in seconds, stands in where a date in a header has no `Date` beside it. An error body may be handed in
/// cut to its first kilobytes; what is no JSON then is read as text.
#[cfg(feature = "std")]
pub fn classify(head: &Head<'_>, body: &[u8], unix_now: Option<u64>) -> Outcome {
    use crate::core::body::{self, Inspection};

    let content = body::content_of(body);
    let error = if (200..300).contains(&head.status) {
        match body::inspect(body) {
            Inspection::Answer { finish_reason } => return finished(head, finish_reason.as_deref(), unix_now),
            Inspection::Error(value) => Ok(value),
            Inspection::Blank => Err(Box::default()),
            Inspection::NotJson(why) => Err(why),
        }
    } else {
        serde_json::from_slice::<serde_json::Value>(content).map_err(|_| Box::default())
    };
    let lines = error.as_ref().map(super::json::lines).unwrap_or_default();
    let mut text = String::from_utf8_lossy(&content[..content.len().min(4 * TEXT_LIMIT)]);
    if error.is_err()
        && !text.is_empty()
        && let Some(encoding) = head.headers.get("content-encoding")
    {
        text = format!("it is encoded ({encoding}), which was not asked for").into();
    }
    let why = error.as_ref().err().map_or("", |why| why);
    classify_body(head, &Body { json: Json::read(&lines), text: &text, why }, unix_now)
}

/// Classifies a whole response whose body the host has parsed; see [`classify`].
pub fn classify_body(head: &Head<'_>, body: &Body<'_>, unix_now: Option<u64>) -> Outcome {
    let Body { json, text, why } = body;
    let ok = (200..300).contains(&head.status);
    match json {
        Some(json) if ok && has_error(json) => in_band(head, json, unix_now),
        Some(json) if ok => {
            let choices = json.get("choices").map(Json::list).unwrap_or_default();
            let reasons = choices.iter().map(|choice| choice.get("finish_reason").and_then(Json::text));
            finished(head, worst_reason(reasons), unix_now)
        }
        None if ok && text.trim_ascii().is_empty() => blank(head, unix_now),
        None if ok => {
            let text = joined(&["the body is not JSON (", why, "): ", &plain_text(text)]);
            bare(OutcomeKind::Malformed, head, unix_now).with_message(&clean(&text))
        }
        _ => {
            let facts = json.as_ref().and_then(Facts::of);
            let facts = facts.unwrap_or_else(|| Facts { message: plain_text(text).into(), ..Facts::default() });
            let outcome = facts.outcome(head, unix_now);
            // The key is for the host that was named, and what is sent must not depend on the answer.
            match head.headers.get("location").filter(|_| (300..400).contains(&head.status)) {
                Some(to) => outcome.with_message(&clean(&joined(&["it redirects to ", to, "; check the base URL"]))),
                None => outcome,
            }
        }
    }
}

/// The first finish reason that is a failure, or else the first.
pub(super) fn worst_reason<'a>(reasons: impl Iterator<Item = Option<&'a str>> + Clone) -> Option<&'a str> {
    let failed = |reason: &&str| finish_reason_kind(reason) != OutcomeKind::Success;
    reasons.clone().flatten().find(failed).or_else(|| reasons.clone().next().flatten())
}

/// Classifies the error in a body or a stream event that came with a 2xx status, by its code, its type and its words as
/// [`classify`] does by the status; `None` if `object` holds no error.
///
/// Known shapes: `{"error": …}` (OpenRouter's with a number as `code`), an `error` on the first choice, the Responses
/// API's `{"response": {"error": …}}`, and SiliconFlow's flat `{"code": 20012, "message": …, "data": null}`.
#[cfg(feature = "std")]
pub fn classify_error_object(head: &Head<'_>, object: &serde_json::Value, unix_now: Option<u64>) -> Option<Outcome> {
    classify_event(head, &Json::read(&super::json::lines(object))?, unix_now)
}

/// [`classify_error_object`] of what the host has parsed.
pub fn classify_event(head: &Head<'_>, object: &Json<'_>, unix_now: Option<u64>) -> Option<Outcome> {
    has_error(object).then(|| in_band(head, object, unix_now))
}

/// What a finish reason comes to. A cut at `length` and a `content_filter` are complete answers, and so are reasons
/// that nobody knows yet; `insufficient_system_resource` is DeepSeek's word for overload, `aborted` and `error`
/// (OpenRouter) are failures of the server.
pub fn finish_reason_kind(reason: &str) -> OutcomeKind {
    match reason {
        "insufficient_system_resource" => OutcomeKind::Pressure,
        "aborted" | "error" => OutcomeKind::Server,
        _ => OutcomeKind::Success,
    }
}

/// The outcome of an answer that came whole with this finish reason.
pub fn finished(head: &Head<'_>, finish_reason: Option<&str>, unix_now: Option<u64>) -> Outcome {
    let reason = finish_reason.unwrap_or_default();
    let kind = finish_reason_kind(reason);
    let outcome = bare(kind, head, unix_now);
    if kind == OutcomeKind::Success {
        outcome
    } else {
        outcome.with_message(&joined(&["the answer ended with finish_reason ", reason]))
    }
}

/// The outcome of a 2xx response whose body is empty or white space: an overloaded server's.
pub fn blank(head: &Head<'_>, unix_now: Option<u64>) -> Outcome {
    bare(OutcomeKind::Pressure, head, unix_now).with_message("the body is blank")
}

/// How far an attempt had come when its transport failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// No response head had come.
    BeforeHeaders,
    /// The head had come, and perhaps keep-alives, but no content.
    BeforeContent,
    /// Content had come.
    AfterContent,
}

/// How the transport of an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportFailure {
    /// The connection was refused, or the host is unreachable.
    Connect,
    /// The connection was not made in time.
    ConnectTimedOut,
    /// The host's name did not resolve.
    Dns,
    /// The TLS handshake failed.
    Tls,
    /// The connection was reset or broke.
    Reset,
    /// The headers, or the first content, did not come in time.
    TimedOut,
    /// The server hung up in an orderly way before inference had begun, as DeepSeek does after ten minutes.
    ClosedBeforeStart,
    /// A stream ended, orderly or not, without a finish reason or `[DONE]`.
    ClosedMidStream,
    /// Content stopped coming for longer than the idle limit.
    Stalled,
    /// What came was no HTTP, its encoding was broken, or it was larger than the limit.
    Protocol,
    /// Anything else.
    Other,
}

impl TransportFailure {
    fn words(self) -> &'static str {
        match self {
            Self::Connect => "the connection could not be made",
            Self::ConnectTimedOut => "the connection was not made in time",
            Self::Dns => "the host name did not resolve",
            Self::Tls => "the TLS handshake failed",
            Self::Reset => "the connection broke",
            Self::TimedOut => "no answer came in time",
            Self::ClosedBeforeStart => "the server closed the connection before the answer began",
            Self::ClosedMidStream => "the stream ended before the answer did",
            Self::Stalled => "the answer stopped coming",
            Self::Protocol => "what came could not be read",
            Self::Other => "the transport failed",
        }
    }
}

/// Classifies an attempt that ended without a whole response. `words` are the transport's own, if it has any.
///
/// Once content came, nothing may be silently asked for again, so that every failure is
/// [`Interrupted`](OutcomeKind::Interrupted); before it, a hang-up means that inference did not begin.
pub fn classify_transport(
    failure: TransportFailure,
    phase: Phase,
    status: Option<u16>,
    words: Option<&str>,
) -> Outcome {
    use TransportFailure as T;
    let kind = match (phase, failure) {
        (Phase::AfterContent, _) => OutcomeKind::Interrupted,
        (_, T::Protocol) => OutcomeKind::Malformed,
        (_, T::TimedOut | T::Stalled | T::ClosedBeforeStart) => OutcomeKind::FirstContentTimeout,
        (Phase::BeforeContent, T::Reset | T::ClosedMidStream) => OutcomeKind::FirstContentTimeout,
        _ => OutcomeKind::Transport,
    };
    let words = words.map(str::trim_ascii).filter(|words| !words.is_empty());
    let message = words.map_or(failure.words().into(), |words| joined(&[failure.words(), ": ", words]));
    Outcome { status, ..Outcome::new(kind).with_message(&clean(&message)) }
}

/// Whether a 2xx body or a stream event says that the request failed.
pub(crate) fn has_error(value: &Json<'_>) -> bool {
    if error_in(value).is_some() {
        return true;
    }
    let text = |field: &str| value.get(field).and_then(Json::text);
    let marked = |field: &str| text(field) == Some("error");
    let whole = |number: &str| number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let numbered = matches!(value.get("code"), Some(Json::Number(code)) if whole(code) && !is_in("0 200 20000", code));
    let payload = value.get("choices").is_some() || value.get("data").is_some_and(|data| !matches!(data, Json::Null));
    text("message").is_some() && !payload && (numbered || marked("object") || marked("type"))
}

/// The first error that is not empty, of all places in a body or a stream event where one can stand.
fn error_in<'v, 'a>(value: &'v Json<'a>) -> Option<&'v Json<'a>> {
    let filled = |error: &&Json<'_>| match error {
        Json::Object(fields) => !fields.is_empty(),
        other => other.text().is_some_and(|text| !text.is_empty()),
    };
    let places = [value.get("error"), value.at("response/error")];
    places.into_iter().flatten().find(filled).or_else(|| {
        let choices = value.get("choices").map(Json::list).unwrap_or_default();
        choices.iter().filter_map(|choice| choice.get("error")).find(filled)
    })
}

fn in_band(head: &Head<'_>, value: &Json<'_>, unix_now: Option<u64>) -> Outcome {
    let facts = Facts::of(value).or_else(|| Facts::of_error(error_in(value)?));
    facts.unwrap_or_default().outcome(head, unix_now)
}

/// An outcome with what the head says and nothing else.
fn bare(kind: OutcomeKind, head: &Head<'_>, unix_now: Option<u64>) -> Outcome {
    // What was answered is not asked again.
    let failed = kind != OutcomeKind::Success;
    Outcome {
        status: Some(head.status),
        retry_after: if failed { headers::retry_after(head.headers, unix_now) } else { None },
        request_id: headers::request_id(head.headers).map(Into::into),
        should_retry: if failed { headers::should_retry(head.headers) } else { None },
        quota: headers::quota_hints(head.headers, unix_now),
        ..Outcome::new(kind)
    }
}

/// What an error body says, in whichever shape.
#[derive(Default)]
struct Facts<'v> {
    message: Cow<'v, str>,
    /// The words of the provider behind the one we talk to.
    upstream: Option<Cow<'v, str>>,
    code: Option<&'v str>,
    error_type: Option<&'v str>,
    /// The object with everything the provider adds.
    object: Option<&'v Json<'v>>,
    /// The body is the error itself, as SiliconFlow's and Mistral's are.
    flat: bool,
}

/// What a type or a code in words amounts to.
#[derive(Clone, Copy, PartialEq)]
enum Meaning {
    TooMany,
    Kind(OutcomeKind),
}

impl<'v> Facts<'v> {
    /// Reads the error of a body; `None` if nothing in it looks like one.
    fn of(body: &'v Json<'v>) -> Option<Self> {
        // Google wraps its errors in an array.
        let body = if let Json::List(list) = body { list.first()? } else { body };
        let text = |field: &str| body.at(field).and_then(Json::text);
        let code = body.get("code").and_then(Json::scalar);
        let error = body.get("error").or_else(|| body.at("errors/0"));
        if let Some(facts) = error.and_then(Self::of_error) {
            let error_type = facts.error_type.or_else(|| text("error_type"));
            return Some(Self { error_type, code: facts.code.or(code), ..facts });
        }
        let fields = ["message", "msg", "error_message", "error_msg", "detail", "detail/message", "detail/0/msg"];
        let message = fields.into_iter().find_map(text)?;
        Some(Self {
            message: message.into(),
            code,
            error_type: text("type").filter(|kind| *kind != "error"),
            object: Some(body),
            flat: true,
            ..Self::default()
        })
    }

    /// Reads the value of an `error` field.
    fn of_error(error: &'v Json<'v>) -> Option<Self> {
        if let Some(message) = error.text() {
            return (!message.is_empty()).then(|| Self { message: message.into(), ..Self::default() });
        }
        let Json::Object(fields) = error else { return None };
        if fields.is_empty() {
            return None;
        }
        let text = |field: &str| error.get(field).and_then(Json::text);
        Some(Self {
            message: text("message").or_else(|| text("msg")).unwrap_or_default().into(),
            upstream: error.at("metadata/raw").and_then(upstream_words),
            code: error.get("code").and_then(Json::scalar),
            error_type: text("type"),
            object: Some(error),
            flat: false,
        })
    }

    fn at(&self, path: &str) -> Option<&'v Json<'v>> {
        self.object.and_then(|object| object.at(path))
    }

    fn text_at(&self, path: &str) -> Option<&'v str> {
        self.at(path).and_then(Json::text)
    }

    fn outcome(&self, head: &Head<'_>, unix_now: Option<u64>) -> Outcome {
        let mut outcome = bare(OutcomeKind::Server, head, unix_now);
        // OpenRouter repeats the headers of its limits in the body.
        if let Some(inner) = self.at("metadata/headers") {
            let (inner_quota, inner_delay) =
                (headers::quota_hints(&inner, unix_now), headers::retry_after(&inner, unix_now));
            if outcome.quota == QuotaHints::default() {
                outcome.quota = inner_quota;
            }
            headers::raise(&mut outcome.retry_after, inner_delay);
        }
        let whole = match &self.upstream {
            Some(upstream) if self.message.is_empty() => Cow::Borrowed(upstream.as_ref()),
            Some(upstream) => Cow::Owned(joined(&[&self.message, ": ", upstream])),
            None => Cow::Borrowed(self.message.as_ref()),
        };
        let words = Words::of(&whole);
        self.delays(&mut outcome.retry_after);
        outcome.kind = self.kind(head.status, &words, &outcome);
        if outcome.kind == OutcomeKind::Slot {
            outcome.told = words.told();
            outcome.low_balance = words.any("remaining balance");
        }
        // The words of other errors may quote the request.
        if matches!(outcome.kind, OutcomeKind::Slot | OutcomeKind::Rate | OutcomeKind::Pressure | OutcomeKind::Server) {
            words.delays(&mut outcome.retry_after);
        }
        let small = |text: &str| Box::<str>::from(cut(&clean(text), 128));
        outcome.code = self.code.map(small);
        outcome.error_type = self.text_at("metadata/error_type").or(self.error_type).map(small);
        let message = clean(&whole);
        if message.is_empty() { outcome } else { outcome.with_message(&message) }
    }

    fn kind(&self, http_status: u16, words: &Words, so_far: &Outcome) -> OutcomeKind {
        // SiliconFlow's numbers: https://docs.siliconflow.cn/en/faqs/error-code
        if self.flat {
            match self.code {
                Some("50505" | "50508") => return OutcomeKind::Pressure,
                Some("50602") => return OutcomeKind::Rate,
                Some("30001") => return OutcomeKind::Billing,
                _ => {}
            }
        }
        let meaning = self.meaning();
        let status = match http_status {
            200..300 => self.status(meaning),
            status => status,
        };
        if status == 429 {
            return self.too_many(meaning, words, so_far);
        }
        // Requests in flight whose cost is reserved: it passes as they end. Without a Retry-After it doesn't.
        if self.text_at("metadata/limit_source") == Some("openrouter_in_flight_budget") && so_far.retry_after.is_some()
        {
            return OutcomeKind::Slot;
        }
        if status == 402 || meaning == Some(Meaning::Kind(OutcomeKind::Billing)) || words.billing(status) {
            return OutcomeKind::Billing;
        }
        // OpenRouter says of some errors, whatever their status, that they will pass.
        if matches!(self.at("availability/retryable"), Some(Json::Bool(true))) && (400..500).contains(&status) {
            return OutcomeKind::Pressure;
        }
        let kind = match meaning {
            Some(Meaning::Kind(kind)) => Some(kind),
            _ => None,
        };
        match status {
            401 => OutcomeKind::Authentication,
            // A moderated prompt is the request's fault, not the key's.
            403 if kind == Some(OutcomeKind::Refused) || self.at("metadata/flagged_input").is_some() => {
                OutcomeKind::Refused
            }
            403 => OutcomeKind::Forbidden,
            408 | 425 => OutcomeKind::Server,
            // Google and xAI send 400 for a wrong key.
            400 if kind == Some(OutcomeKind::Authentication) => OutcomeKind::Authentication,
            400 if words.any("api key not valid|incorrect api key provided") => OutcomeKind::Authentication,
            502..=504 | 521..=524 | 529 => OutcomeKind::Pressure,
            500.. if kind == Some(OutcomeKind::Pressure) || words.overloaded() => OutcomeKind::Pressure,
            500.. => OutcomeKind::Server,
            _ => OutcomeKind::Refused,
        }
    }

    /// The HTTP status that an error inside a 2xx amounts to.
    fn status(&self, meaning: Option<Meaning>) -> u16 {
        let number = |value: &str| headers::whole(value).filter(|status| (400..600).contains(status));
        let fields = ["status_code", "raw_status_code", "status"];
        let stated = self.code.and_then(number);
        let stated = stated.or_else(|| fields.iter().find_map(|field| number(self.at(field)?.scalar()?)));
        let stated = stated.map(|status| status as u16);
        let meant = || match meaning? {
            Meaning::TooMany => Some(429),
            Meaning::Kind(kind) => Some(match kind {
                OutcomeKind::Billing => 402,
                OutcomeKind::Authentication => 401,
                OutcomeKind::Forbidden => 403,
                OutcomeKind::Refused => 400,
                OutcomeKind::Pressure => 503,
                _ => 500,
            }),
        };
        // SiliconFlow's 20xxx are faults of the request.
        let flat_code = || self.flat && self.code.is_some_and(|code| code.len() == 5 && code.starts_with("20"));
        stated.or_else(meant).unwrap_or_else(|| if flat_code() { 400 } else { 500 })
    }

    /// What a 429 is about. Without a word on it, it is about requests in flight: taking a limit on them for one on
    /// their rate would leave the number in flight as it is and every next request rejected, while the other mistake
    /// only sends fewer at once.
    fn too_many(&self, meaning: Option<Meaning>, words: &Words, so_far: &Outcome) -> OutcomeKind {
        if words.concurrency() {
            return OutcomeKind::Slot;
        }
        if meaning == Some(Meaning::Kind(OutcomeKind::Pressure)) || words.overloaded() {
            return OutcomeKind::Pressure;
        }
        // Google's words about a used-up minute are OpenAI's about unpaid bills ("exceeded your current quota").
        let google = self.text_at("status") == Some("RESOURCE_EXHAUSTED") || self.retry_info().is_some();
        if !google && (meaning == Some(Meaning::Kind(OutcomeKind::Billing)) || words.billing(429)) {
            return OutcomeKind::Billing;
        }
        let named = self.text_at("metadata/error_type").or(self.code) == Some("rate_limit_exceeded");
        if google || named || words.rate() || headers::exhausted(&so_far.quota) {
            return OutcomeKind::Rate;
        }
        OutcomeKind::Slot
    }

    /// What the first name that means something means, OpenRouter's canonical one before all others.
    fn meaning(&self) -> Option<Meaning> {
        let names = [
            self.text_at("metadata/error_type"),
            self.error_type,
            self.text_at("status"),
            // DeepSeek's code for everything.
            self.code.filter(|code| *code != "invalid_request_error"),
        ];
        // One table, for one provider's type is another's code. That a request is at fault is the vaguest of meanings
        // (OpenAI's type of a wrong key, with a telling code beside it), so any other name goes before it.
        const NAMES: [(&str, Meaning); 7] = [
            (
                "rate_limit_exceeded rate_limit_error rate_limit_reached_error rate_limited too_many_requests \
                 resource_exhausted",
                Meaning::TooMany,
            ),
            (
                "insufficient_quota insufficient_balance insufficient_credits insufficient_funds \
                 payment_required payment_required_error billing_error billing_not_active \
                 billing_hard_limit_reached exceeded_current_quota_error arrearage",
                Meaning::Kind(OutcomeKind::Billing),
            ),
            (
                "provider_overloaded provider_unavailable overloaded overloaded_error engine_overloaded_error \
                 service_unavailable service_unavailable_error unavailable unavailable_error \
                 insufficient_system_resource timeout timeout_error gateway_timeout deadline_exceeded",
                Meaning::Kind(OutcomeKind::Pressure),
            ),
            (
                "server server_error internal internal_error internal_server_error api_error unmapped",
                Meaning::Kind(OutcomeKind::Server),
            ),
            (
                "authentication authentication_error unauthenticated unauthorized invalid_api_key \
                 invalid_authentication_error",
                Meaning::Kind(OutcomeKind::Authentication),
            ),
            (
                "permission_denied permission_error permission_denied_error forbidden",
                Meaning::Kind(OutcomeKind::Forbidden),
            ),
            (
                "invalid_request_error invalid_request invalid_prompt invalid_argument context_length_exceeded \
                 max_tokens_exceeded token_limit_exceeded string_too_long not_found not_found_error \
                 model_not_found precondition_failed failed_precondition out_of_range payload_too_large \
                 request_too_large unprocessable content_policy_violation content_filter refusal invalid_image \
                 image_too_large image_too_small unsupported_image_format image_not_found image_download_failed \
                 tool_use_failed",
                Meaning::Kind(OutcomeKind::Refused),
            ),
        ];
        let meanings =
            names.into_iter().flatten().filter_map(|name| NAMES.iter().find(|(names, _)| is_in(names, name)));
        let mut vague = None;
        for &(_, meaning) in meanings {
            if meaning != Meaning::Kind(OutcomeKind::Refused) {
                return Some(meaning);
            }
            vague = Some(meaning);
        }
        vague
    }

    /// Takes over the delays in the body's fields that are longer.
    fn delays(&self, longest: &mut Option<Duration>) {
        for field in [
            "retry_after",
            "retry_after_seconds",
            "metadata/retry_after",
            "metadata/retry_after_seconds",
            "availability/retry_after",
        ] {
            headers::raise(longest, self.at(field).and_then(number).and_then(headers::delay));
        }
        headers::raise(longest, self.retry_info());
    }

    /// Google's `RetryInfo`: `"retryDelay": "48s"`, or `{"seconds": 48}`.
    fn retry_info(&self) -> Option<Duration> {
        let details = self.at("details")?.list();
        details.iter().find_map(|detail| {
            let delay = detail.get("retryDelay")?;
            match delay.text() {
                Some(text) => headers::go_duration(text),
                None => headers::delay(number(delay.get("seconds")?)?),
            }
        })
    }
}

/// Headers repeated in a body.
impl Headers for &Json<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let Json::Object(fields) = self else { return None };
        fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?.1.text()
    }
}

/// The words of the provider behind OpenRouter: text, or an error body as text or as JSON.
fn upstream_words<'v>(raw: &'v Json<'v>) -> Option<Cow<'v, str>> {
    let inner = |json: &'v Json<'v>| Facts::of(json).map(|facts| facts.message).filter(|words| !words.is_empty());
    match raw {
        Json::Text(text) => (!text.trim_ascii().is_empty()).then(|| (*text).into()),
        Json::Embedded(text, json) => Some(inner(json).unwrap_or((*text).into())),
        other => inner(other),
    }
}

/// A number, or a string that is one.
fn number(value: &Json<'_>) -> Option<f64> {
    headers::decimal(value.scalar()?.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::OutcomeKind::*;
    use super::*;
    use crate::core::outcome::Told;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const NOW: Option<u64> = Some(1_764_000_000);

    fn of(status: u16, headers: &[(&str, &str)], body: impl ToString) -> Outcome {
        classify(&Head { status, headers: &headers }, body.to_string().as_bytes(), NOW)
    }

    fn kind(status: u16, body: impl ToString) -> OutcomeKind {
        of(status, &[], body).kind
    }

    fn openai_shaped(message: &str, error_type: &str, code: Value) -> Value {
        json!({"error": {"message": message, "type": error_type, "param": null, "code": code}})
    }

    fn secs(secs: f64) -> Option<Duration> {
        Some(Duration::from_secs_f64(secs))
    }

    #[test]
    fn deepseeks_429_body_measures_the_cap_and_warns_of_the_balance() {
        let body = |current: &str, limit: &str| {
            let message = format!(
                "Too many requests. Your current concurrency is {current}, which exceeds your concurrency limit of {limit} \
                 based on your remaining balance. Please top up your balance to restore your concurrency."
            );
            openai_shaped(&message, "rate_limit_error", json!("invalid_request_error"))
        };
        let outcome = of(429, &[("x-ds-trace-id", "abc")], body("26", "25"));
        assert_eq!(outcome.kind, Slot);
        assert_eq!(outcome.told, Some(Told { current: 26, limit: 25 }));
        assert!(outcome.low_balance);
        assert_eq!(outcome.request_id.as_deref(), Some("abc"));
        assert_eq!(outcome.error_type.as_deref(), Some("rate_limit_error"));
        assert!(outcome.message.unwrap().starts_with("Too many requests. Your current"));

        assert_eq!(of(429, &[], body("7", "7")).told, Some(Told { current: 7, limit: 7 }));
        assert_eq!(of(429, &[], body("2,501", "2,500")).told, Some(Told { current: 2501, limit: 2500 }));
        for (current, limit) in [("many", "25"), ("26", "few"), ("99999999999", "1"), ("1", "0")] {
            let outcome = of(429, &[], body(current, limit));
            assert_eq!((outcome.kind, outcome.told), (Slot, None), "{current} {limit}");
        }
    }

    #[test]
    fn a_concurrency_limit_without_the_balance_is_no_warning() {
        let message = "Your current concurrency is 501, which exceeds your concurrency limit of 500.";
        let outcome = of(429, &[], openai_shaped(message, "rate_limit_error", Value::Null));
        assert_eq!((outcome.told, outcome.low_balance), (Some(Told { current: 501, limit: 500 }), false));
    }

    #[test]
    fn a_429_that_says_nothing_is_about_slots() {
        for body in
            ["", "Too Many Requests", "{}", "null", r#"{"error":{"message":"Rate limit reached"}}"#, "<html></html>"]
        {
            assert_eq!(kind(429, body), Slot, "{body:?}");
        }
    }

    #[test]
    fn words_for_concurrency_are_about_slots() {
        for message in [
            "Your account reached max request limit: max organization concurrency: 3, please try again after 1 seconds",
            "Max parallel request limit reached",
            "Number of concurrent connections has exceeded your rate limit",
            "您当前使用该API的并发数过高，请降低并发",
        ] {
            assert_eq!(kind(429, openai_shaped(message, "rate_limit_reached_error", Value::Null)), Slot, "{message}");
        }
    }

    #[test]
    fn words_for_a_rate_are_about_quota() {
        for message in [
            "Request was rejected due to rate limiting. Details: TPM limit reached.",
            "Rate limit reached for gpt-4o in organization org-x on requests per min (RPM): Limit 3, Used 3.",
            "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day",
            "Your account reached max request limit: max RPM: 3",
            "This request would exceed your organization's rate limit of 40,000 input tokens per minute",
            "Requests have exceeded token rate limit of your current OpenAI S0 pricing tier.",
            "QPS exceeded",
            "Rate limit reached for model `x` on requests per day (RPD): Limit 1000. Please try again in 1m26.4s. Need more \
             tokens? Upgrade at https://console.groq.com/settings/billing",
            "Request rate increased too quickly",
        ] {
            assert_eq!(kind(429, openai_shaped(message, "x", Value::Null)), Rate, "{message}");
        }
    }

    #[test]
    fn letters_within_a_word_are_no_unit_of_rate() {
        assert_eq!(kind(429, openai_shaped("too many requests at httpmsrv", "x", Value::Null)), Slot);
    }

    #[test]
    fn a_429_with_a_used_up_quota_is_about_rate_and_its_reset_is_no_wait() {
        let headers = [
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "12"),
            ("x-ratelimit-reset-requests", "50s"),
            ("x-ratelimit-limit-tokens", "6000"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "7.66s"),
            ("retry-after", "2"),
        ];
        let outcome = of(429, &headers, "");
        assert_eq!((outcome.kind, outcome.retry_after), (Rate, secs(2.0)));
        assert_eq!(outcome.quota.requests.remaining, Some(12));
        // With some left of each the headers blame no window.
        assert_eq!(of(429, &headers[..3], "").kind, Slot);
    }

    #[test]
    fn billing_words_are_billing_under_any_status() {
        let quota = openai_shaped(
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
            json!("insufficient_quota"),
        );
        let anthropic = json!({"type": "error", "error": {"type": "invalid_request_error",
            "message": "Your credit balance is too low to access the Anthropic API."}});
        let siliconflow =
            json!({"code": 30001, "message": "Sorry, your account balance is insufficient", "data": null});
        let deepseek = openai_shaped("Insufficient Balance", "unknown_error", json!("invalid_request_error"));
        let key = json!({"error": {"code": 403, "message": "Key limit exceeded (total limit)."}});
        for (status, body) in
            [(429, quota), (400, anthropic), (403, siliconflow), (402, deepseek.clone()), (500, deepseek), (403, key)]
        {
            assert_eq!(kind(status, &body), Billing, "{status} {body}");
        }
        assert_eq!(kind(402, ""), Billing);
    }

    #[test]
    fn billing_words_quoted_from_the_request_are_not_billing() {
        let message = "unknown variant `insufficient balance`, expected `text` at line 1 column 197";
        assert_eq!(kind(400, openai_shaped(message, "invalid_request_error", Value::Null)), Refused);
    }

    #[test]
    fn openrouters_in_flight_budget_passes_only_with_a_retry_after() {
        let body = json!({"error": {"code": 402, "message": "This request would exceed your available credits given your \
            current in-flight requests.", "metadata": {"limit_source": "openrouter_in_flight_budget"}}});
        let outcome = of(402, &[("retry-after", "20")], &body);
        assert_eq!((outcome.kind, outcome.retry_after), (Slot, secs(20.0)));
        assert_eq!(of(402, &[], &body).kind, Billing);
        let credits = json!({"error": {"code": 402, "metadata": {"limit_source": "openrouter_credits"}}});
        assert_eq!(of(402, &[("retry-after", "20")], credits).kind, Billing);
    }

    #[test]
    fn openrouters_canonical_error_types_decide_inside_a_200() {
        let cases = [
            ("rate_limit_exceeded", Rate),
            ("provider_overloaded", Pressure),
            ("provider_unavailable", Pressure),
            ("timeout", Pressure),
            ("server", Server),
            ("unmapped", Server),
            ("payment_required", Billing),
            ("authentication", Authentication),
            ("permission_denied", Forbidden),
            ("context_length_exceeded", Refused),
            ("content_policy_violation", Refused),
            ("never_heard_of", Server),
        ];
        for (name, expected) in cases {
            let error = json!({"message": "Provider returned error", "metadata": {"error_type": name}});
            let body = json!({"id": "gen-1", "choices": [{"finish_reason": "error"}], "error": error});
            let outcome = of(200, &[], &body);
            assert_eq!((outcome.kind, outcome.status), (expected, Some(200)), "{name}");
            assert_eq!(outcome.error_type.as_deref(), Some(name));
            let choice = json!({"choices": [{"finish_reason": "error", "error": error}]});
            assert_eq!(kind(200, choice), expected, "{name} on the choice");
        }
    }

    #[test]
    fn a_number_in_the_error_of_a_200_counts_as_its_status() {
        for (code, expected) in [
            (json!(429), Slot),
            (json!("503"), Pressure),
            (json!(502), Pressure),
            (json!(401), Authentication),
            (json!(400), Refused),
            (json!(500), Server),
            (json!(7), Server),
            (json!("server_error"), Server),
        ] {
            assert_eq!(kind(200, json!({"error": {"code": code, "message": "m"}})), expected, "{code}");
        }
    }

    #[test]
    fn openrouters_repeated_headers_and_upstream_words_are_read() {
        let body = json!({"error": {"code": 429, "message": "Rate limit exceeded", "metadata": {"headers": {
            "X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1764000042000"}}}});
        let outcome = of(429, &[], body);
        assert_eq!((outcome.kind, outcome.retry_after), (Rate, None));
        assert_eq!((outcome.quota.requests.limit, outcome.quota.requests.reset), (Some(20), secs(42.0)));

        let raw = json!({"error": {"message": "Model is overloaded"}}).to_string();
        let body = json!({"error": {"code": 500, "message": "Provider returned error", "metadata": {"raw": raw}}});
        let outcome = of(500, &[], body);
        assert_eq!(outcome.message.as_deref(), Some("Provider returned error: Model is overloaded"));
        assert_eq!(outcome.kind, Pressure);
    }

    #[test]
    fn an_outage_that_the_body_calls_retryable_is_pressure_whatever_its_status() {
        let body =
            json!({"error": {"code": 403, "message": "down", "availability": {"retryable": true, "retry_after": 3}}});
        let outcome = of(403, &[], body);
        assert_eq!((outcome.kind, outcome.retry_after), (Pressure, secs(3.0)));
    }

    #[test]
    fn siliconflows_flat_codes_decide() {
        let flat = |code: u32, message: &str| json!({"code": code, "message": message, "data": null});
        for (status, code, message, expected) in [
            (503, 50508, "System is too busy now. Please try again later.", Pressure),
            (503, 50505, "Model service overloaded. Please try again later.", Pressure),
            (429, 50602, "Request was rejected due to rate limiting. Details: TPM limit reached.", Rate),
            (400, 20012, "Model does not exist. Please check it carefully.", Refused),
            (200, 20012, "Model does not exist. Please check it carefully.", Refused),
            (200, 50505, "Model service overloaded. Please try again later.", Pressure),
        ] {
            let outcome = of(status, &[], flat(code, message));
            assert_eq!(outcome.kind, expected, "{status} {code}");
            assert_eq!(outcome.message.as_deref(), Some(message));
            assert_eq!(outcome.code.as_deref(), Some(code.to_string().as_str()));
        }
        let body =
            r#"{"message":"Request was rejected due to rate limiting. Details: TPM limit reached.","data":null}"#;
        assert_eq!(kind(429, body), Rate);
        assert_eq!(kind(401, "\"Invalid token\""), Authentication);
    }

    #[test]
    fn deepseeks_code_never_decides() {
        let body = |error_type: &str| openai_shaped("m", error_type, json!("invalid_request_error"));
        assert_eq!(kind(401, body("authentication_error")), Authentication);
        assert_eq!(kind(402, body("unknown_error")), Billing);
        assert_eq!(kind(500, body("server_error")), Server);
        assert_eq!(kind(200, body("service_unavailable_error")), Pressure);
        assert_eq!(kind(200, body("rate_limit_error")), Slot);
        assert_eq!(kind(200, body("unknown_error")), Server);
    }

    #[test]
    fn statuses_alone_decide_where_the_body_says_nothing() {
        for (status, expected) in [
            (301, Refused),
            (400, Refused),
            (401, Authentication),
            (402, Billing),
            (403, Forbidden),
            (404, Refused),
            (408, Server),
            (409, Refused),
            (413, Refused),
            (418, Refused),
            (422, Refused),
            (425, Server),
            (500, Server),
            (501, Server),
            (502, Pressure),
            (503, Pressure),
            (504, Pressure),
            (507, Server),
            (520, Server),
            (522, Pressure),
            (524, Pressure),
            (529, Pressure),
            (599, Server),
        ] {
            assert_eq!(kind(status, ""), expected, "{status}");
        }
    }

    #[test]
    fn a_redirect_says_where_to() {
        let location = [("location", "https://api.example.com/v1/chat/completions?key=sk-0123456789")];
        let outcome = of(301, &location, "<html><h1>Moved Permanently</h1></html>");
        assert_eq!(outcome.kind, Refused);
        let message = outcome.message.unwrap();
        assert_eq!(
            &*message,
            "it redirects to https://api.example.com/v1/chat/completions?key=[redacted]; check the base URL"
        );
        assert_eq!(of(302, &[], "Found").message.as_deref(), Some("Found"));
        assert_eq!(of(400, &location, "Bad").message.as_deref(), Some("Bad"), "it redirects nobody");
    }

    #[test]
    fn a_body_that_nobody_asked_to_be_compressed_is_not_quoted() {
        let gzip = [("content-encoding", "gzip")];
        let message = |status, body| of(status, &gzip, body).message;
        let message_200 = message(200, "\u{1f}\u{8}noise").unwrap();
        assert!(message_200.ends_with(": it is encoded (gzip), which was not asked for"), "{message_200}");
        assert_eq!(message(500, "noise").as_deref(), Some("it is encoded (gzip), which was not asked for"));
        assert_eq!(of(200, &gzip, "").kind, Pressure);
        assert_eq!(message(500, r#"{"error":{"message":"plain after all"}}"#).as_deref(), Some("plain after all"));
    }

    #[test]
    fn plain_text_is_the_message() {
        let outcome = of(401, &[], "Authentication Fails (governor)");
        assert_eq!(outcome.kind, Authentication);
        assert_eq!(outcome.message.as_deref(), Some("Authentication Fails (governor)"));
        assert_eq!(of(500, &[], "  \n").message, None);
        let outcome = of(422, &[], "Failed to deserialize the JSON body\ninto the target\ttype\u{1}");
        assert_eq!(outcome.message.as_deref(), Some("Failed to deserialize the JSON body into the target type"));
    }

    #[test]
    fn html_pages_are_told_by_their_title_or_their_text() {
        let message = |html: &str| of(502, &[("content-type", "text/html")], html).message.unwrap().into_string();
        let nginx = "<html>\r\n<head><title>502 Bad Gateway</title></head><body><center>nginx</center></body></html>";
        assert_eq!(message(nginx), "HTML error page: 502 Bad Gateway");
        let page =
            "<!DOCTYPE html><style>p{}</style><script>if (a<b) {}</script><p>Sorry,<br> try   later</p><!-- x -->";
        assert_eq!(message(page), "HTML error page: Sorry, try later");
        for empty in ["<html></html>", "<", "<title></title>", "<title", "<script>never closed"] {
            assert_eq!(message(empty), "HTML error page", "{empty}");
        }
    }

    #[test]
    fn the_other_known_shapes_of_error_bodies_are_read() {
        for (body, message) in [
            (json!({"detail": "Invalid API Key"}), "Invalid API Key"),
            (json!({"detail": [{"loc": ["body"], "msg": "field required"}]}), "field required"),
            (json!({"detail": {"message": "nested"}}), "nested"),
            (json!({"error": "model not found"}), "model not found"),
            (json!({"errors": [{"code": 7003, "message": "no route"}]}), "no route"),
            (json!([{"error": {"code": 400, "message": "in an array", "status": "INVALID_ARGUMENT"}}]), "in an array"),
            (json!({"object": "error", "message": "flat", "type": "BadRequest", "code": 400}), "flat"),
            (json!({"error": true, "message": "yes"}), "yes"),
        ] {
            assert_eq!(of(400, &[], &body).message.as_deref(), Some(message), "{body}");
        }
        let llama = json!({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}});
        let outcome = of(503, &[], llama);
        assert_eq!((outcome.kind, outcome.code.as_deref()), (Pressure, Some("503")));
    }

    #[test]
    fn googles_used_up_minute_is_a_rate_with_its_retry_delay() {
        let body = json!([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED",
            "message": "You exceeded your current quota, please check your plan and billing details. Please retry in 47.2s.",
            "details": [{"@type": "type.googleapis.com/google.rpc.QuotaFailure"},
                        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "48s"}]}}]);
        let outcome = of(429, &[], body);
        assert_eq!((outcome.kind, outcome.retry_after), (Rate, secs(48.0)));
        let key = json!({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "API key not valid. Please pass …"}});
        assert_eq!(kind(400, key), Authentication);
    }

    #[test]
    fn delays_in_words_are_obeyed_and_the_longest_wins() {
        for (words, expected) in [
            ("Please try again in 7.66s. Visit …", 7.66),
            ("Please try again in 6m0s.", 360.0),
            ("Please try again in 320ms.", 0.32),
            ("Please retry after 48 seconds.", 48.0),
            ("please try again after 1 seconds", 1.0),
            ("Retry in 5 minutes, or retry after 10 minutes", 600.0),
        ] {
            let body = json!({"error": {"message": words}});
            assert_eq!(of(429, &[], &body).retry_after, secs(expected), "{words}");
            assert_eq!(of(429, &[("retry-after", "5000")], &body).retry_after, secs(5000.0), "{words}");
            assert_eq!(of(400, &[], &body).retry_after, None, "{words}");
        }
        for words in
            ["try again in a while", "retry after ", "retry in 5", "try again in 5 moons", "retry after 1.2.3s"]
        {
            assert_eq!(of(429, &[], json!({"error": {"message": words}})).retry_after, None, "{words}");
        }
    }

    #[test]
    fn a_moderated_prompt_stops_no_route() {
        let body =
            json!({"error": {"code": 403, "message": "flagged", "metadata": {"flagged_input": "…", "reasons": ["x"]}}});
        assert_eq!(kind(403, body), Refused);
        assert_eq!(kind(403, json!({"error": {"message": "needs real-name verification"}})), Forbidden);
    }

    #[test]
    fn an_overloaded_engine_is_pressure_even_as_a_429_or_a_500() {
        let body = openai_shaped(
            "The engine is currently overloaded, please try again later",
            "engine_overloaded_error",
            Value::Null,
        );
        assert_eq!((kind(429, &body), kind(500, &body)), (Pressure, Pressure));
    }

    #[test]
    fn a_blank_200_is_pressure_and_one_that_is_no_json_malformed() {
        for body in ["", "\n\n\n", "\n         \n"] {
            assert_eq!(kind(200, body), Pressure, "{body:?}");
        }
        let outcome = of(200, &[("x-request-id", "r")], "<html><title>Log in</title></html>");
        assert_eq!((outcome.kind, outcome.request_id.as_deref()), (Malformed, Some("r")));
        assert!(outcome.message.unwrap().contains("HTML error page: Log in"));
    }

    #[test]
    fn finish_reasons_make_success_pressure_or_failure() {
        for (reason, expected) in [
            ("stop", Success),
            ("length", Success),
            ("tool_calls", Success),
            ("content_filter", Success),
            ("a_new_one", Success),
            ("insufficient_system_resource", Pressure),
            ("aborted", Server),
            ("error", Server),
        ] {
            let body = json!({"choices": [{"finish_reason": reason, "message": {"content": "x"}}]});
            assert_eq!(kind(200, body), expected, "{reason}");
        }
        assert_eq!(kind(200, json!({"object": "list", "data": []})), Success);
    }

    #[test]
    fn an_event_without_an_error_is_none() {
        let head = Head { status: 200, headers: headers::NONE };
        for event in [
            json!({"choices": [{"delta": {"content": "x"}, "finish_reason": null}], "error": null}),
            json!({"type": "response.created", "response": {"error": null}}),
            json!({"choices": [], "usage": {}}),
            json!("text"),
        ] {
            assert_eq!(classify_error_object(&head, &event, None), None, "{event}");
        }
        for (event, expected) in [
            (
                json!({"error": {"message": "x", "type": "invalid_request_error", "code": "tool_use_failed", "status_code": 400}}),
                Refused,
            ),
            (
                json!({"type": "response.failed", "response": {"error": {"code": "server_error", "message": "x"}}}),
                Server,
            ),
            (json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}), Pressure),
            (json!({"type": "error", "code": "server_error", "message": "x"}), Server),
        ] {
            assert_eq!(classify_error_object(&head, &event, None).unwrap().kind, expected, "{event}");
        }
    }

    #[test]
    fn the_transport_table_holds() {
        use Phase::*;
        use TransportFailure as T;
        for (failure, before_headers, before_content) in [
            (T::Connect, Transport, Transport),
            (T::ConnectTimedOut, Transport, Transport),
            (T::Dns, Transport, Transport),
            (T::Tls, Transport, Transport),
            (T::Reset, Transport, FirstContentTimeout),
            (T::TimedOut, FirstContentTimeout, FirstContentTimeout),
            (T::ClosedBeforeStart, FirstContentTimeout, FirstContentTimeout),
            (T::ClosedMidStream, Transport, FirstContentTimeout),
            (T::Stalled, FirstContentTimeout, FirstContentTimeout),
            (T::Protocol, Malformed, Malformed),
            (T::Other, Transport, Transport),
        ] {
            assert_eq!(classify_transport(failure, BeforeHeaders, None, None).kind, before_headers, "{failure:?}");
            assert_eq!(classify_transport(failure, BeforeContent, Some(200), None).kind, before_content, "{failure:?}");
            let late = classify_transport(failure, AfterContent, Some(200), Some(" os error 104 "));
            assert_eq!((late.kind, late.status), (Interrupted, Some(200)), "{failure:?}");
            assert!(late.message.unwrap().ends_with(": os error 104"));
        }
    }

    #[test]
    fn keys_that_the_server_echoes_are_in_no_outcome() {
        let body = openai_shaped("no key sk-0123456789abcdef", "sk-0123456789abcdef", json!("sk-0123456789abcdef"));
        assert!(!format!("{:?}", of(401, &[], &body)).contains("0123456789"));
        assert!(!format!("{:?}", of(401, &[], "plain sk-0123456789abcdef")).contains("0123456789"));
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let outcome = of(400, &[], json!({"error": {"message": "é".repeat(100_000)}}));
        assert_eq!(outcome.message.unwrap().len(), Outcome::MESSAGE_LIMIT);
        assert!(of(500, &[], "<p>".to_owned() + &"é".repeat(100_000)).message.unwrap().len() < 300);
    }

    proptest! {
        #[test]
        fn any_status_headers_and_body_are_classified_within_bounds(
            status in any::<u16>(),
            body in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                "(<[a-z!]{0,3}>|<title>|<script>|[a-zé ]){0,20}".prop_map(String::into_bytes),
                r#"\{"(error|message|detail|choices)":("[^"\\]{0,40}"|\{"(message|type|code)":"[a-z_é ]{0,20}"\}|\[\]|7)\}"#
                    .prop_map(String::into_bytes),
            ],
            retry_after in any::<String>(),
        ) {
            let headers = [("retry-after", retry_after)];
            let outcome = classify(&Head { status, headers: &headers }, &body, NOW);
            prop_assert_eq!(outcome.status, Some(status));
            prop_assert!(outcome.retry_after.is_none_or(|delay| delay <= headers::MAX_DELAY));
            prop_assert!(outcome.message.is_none_or(|message| message.len() <= Outcome::MESSAGE_LIMIT));
            prop_assert!(outcome.kind != Success || (200..300).contains(&status));
        }
    }
}
