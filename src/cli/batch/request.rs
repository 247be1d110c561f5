//! A line of the input as a request.
//!
//! Two forms, which may be mixed in one file:
//!
//! - OpenAI's batch form (<https://platform.openai.com/docs/guides/batch>):
//!   `{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {…}}`. The body is sent byte for byte
//!   as it stands; only a missing `model` is filled in.
//! - the short form: `{"id": "1", "prompt": "…"}`, with `system` if wanted, or `messages` instead of `prompt`. Every
//!   other field (`model`, `max_tokens`, `thinking`, …) goes into the body as it stands.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::caller::{Call, Endpoint};

/// A request with the name its answer goes by.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    pub(super) id: String,
    pub(super) call: Call,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum LineError {
    #[error("the line is {bytes} bytes long, over the limit of {limit} (see --max-line-bytes)")]
    TooLong { bytes: u64, limit: u64 },
    #[error("not a JSON object: {0}")]
    NotJson(String),
    #[error("no `custom_id` or `id`: a text that isn't empty, or a number")]
    MissingId,
    #[error("the id {0:?} has been used by an earlier line")]
    DuplicateId(String),
    #[error("unsupported url {0:?}: expected one of {known}", known = known_endpoints())]
    UnsupportedUrl(String),
    #[error("unsupported method {0}: expected \"POST\"")]
    UnsupportedMethod(String),
    #[error("no `body`: expected an object with the request's parameters")]
    MissingBody,
    #[error("expected exactly one of `prompt` and `messages`; `system` goes with `prompt` alone")]
    PromptOrMessages,
    #[error("`{0}` has to be a text")]
    NotText(&'static str),
    #[error("no `model`, and none given with --model")]
    MissingModel,
    #[error("`stream` is not possible in a batch")]
    Stream,
}

impl LineError {
    /// The word for programs.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "line_too_long",
            Self::NotJson(_) => "invalid_json",
            Self::MissingId => "missing_id",
            Self::DuplicateId(_) => "duplicate_id",
            Self::UnsupportedUrl(_) => "unsupported_url",
            Self::UnsupportedMethod(_) => "unsupported_method",
            Self::MissingBody => "missing_body",
            Self::PromptOrMessages => "missing_prompt",
            Self::NotText(_) => "invalid_type",
            Self::MissingModel => "missing_model",
            Self::Stream => "stream_unsupported",
        }
    }
}

fn known_endpoints() -> String {
    Endpoint::ALL.map(|endpoint| format!("/v1{}", endpoint.path())).join(", ")
}

/// Whole URLs are refused: a line must not choose the host that gets the key. `/v1` and `/beta` in front are accepted,
/// but it is the client that knows whether a request needs either.
fn endpoint(url: &str) -> Option<Endpoint> {
    let path = url.strip_prefix("/v1").or_else(|| url.strip_prefix("/beta")).unwrap_or(url);
    Endpoint::ALL.into_iter().find(|known| known.path() == path)
}

type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Reads a line; `model` is for lines that name none. On failure the line's id comes along if it has one.
pub(super) fn parse(line: &[u8], model: Option<&str>) -> Result<Request, (Option<String>, LineError)> {
    let mut fields: Fields<'_> = serde_json::from_slice(line).map_err(|error| (None, not_json(line, &error)))?;
    // A table that was made into lines has every column in each.
    fields.retain(|name, raw| !(matches!(name.as_str(), "custom_id" | "method" | "messages") && raw.get() == "null"));
    let batch = fields.contains_key("custom_id");
    let id = id(&fields, if batch { "custom_id" } else { "id" }).ok_or((None, LineError::MissingId))?;
    let call = if batch { batch_call(&fields, model) } else { short_call(fields, model) };
    match call {
        Ok(call) => Ok(Request { id, call }),
        Err(error) => Err((Some(id), error)),
    }
}

fn id(fields: &Fields<'_>, key: &str) -> Option<String> {
    let raw = fields.get(key)?.get();
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok().filter(|text: &String| !text.is_empty()),
        // As it is written: 1e3 and 1000 are two ids.
        b'-' | b'0'..=b'9' => Some(raw.to_owned()),
        _ => None,
    }
}

/// A field that has to be a text if it is there; `null` counts as absent.
fn text(fields: &Fields<'_>, key: &'static str) -> Result<Option<String>, LineError> {
    match fields.get(key) {
        None => Ok(None),
        Some(raw) => serde_json::from_str(raw.get()).map_err(|_| LineError::NotText(key)),
    }
}

/// What a line is that isn't JSON. It is one line of its own to the parser, whatever its number in the file.
fn not_json(line: &[u8], error: &serde_json::Error) -> LineError {
    LineError::NotJson(match line {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            "the file is UTF-16, as some editors and PowerShell write it; save it as UTF-8".to_owned()
        }
        [0x1f, 0x8b, ..] => "the file is compressed by gzip".to_owned(),
        _ => beginning(&error.to_string().replace(" at line 1 column ", " at column ")),
    })
}

/// What is told of a text: a line may be all one text, of millions of characters.
pub(super) fn beginning(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn batch_call(fields: &Fields<'_>, model: Option<&str>) -> Result<Call, LineError> {
    if let Some(method) = fields.get("method") {
        let post = serde_json::from_str::<String>(method.get()).is_ok_and(|name| name.eq_ignore_ascii_case("POST"));
        if !post {
            return Err(LineError::UnsupportedMethod(beginning(method.get())));
        }
    }
    let endpoint = match text(fields, "url")? {
        None => Endpoint::Chat,
        Some(url) => endpoint(&url).ok_or_else(|| LineError::UnsupportedUrl(beginning(&url)))?,
    };
    let body = fields.get("body").ok_or(LineError::MissingBody)?.get();
    let inner: Fields<'_> = serde_json::from_str(body).map_err(|_| LineError::MissingBody)?;
    refuse_stream(&inner)?;
    if names_model(&inner) {
        return Ok(Call { endpoint, body: Bytes::copy_from_slice(body.as_bytes()) });
    }
    let mut inner = inner;
    let model = to_raw(&model.ok_or(LineError::MissingModel)?);
    inner.insert("model".to_owned(), &model);
    Ok(Call { endpoint, body: to_body(&inner) })
}

fn short_call(mut fields: Fields<'_>, model: Option<&str>) -> Result<Call, LineError> {
    refuse_stream(&fields)?;
    let system = text(&fields, "system")?;
    let prompt = text(&fields, "prompt")?;
    let messages = match (prompt, fields.remove("messages")) {
        (Some(prompt), None) => {
            let message = |role, content| serde_json::json!({ "role": role, "content": content });
            let system = system.map(|content| message("system", content));
            to_raw(&system.into_iter().chain([message("user", prompt)]).collect::<Vec<_>>())
        }
        (None, Some(messages)) if system.is_none() => messages.to_owned(),
        _ => return Err(LineError::PromptOrMessages),
    };
    let model = if names_model(&fields) { None } else { Some(to_raw(&model.ok_or(LineError::MissingModel)?)) };
    let mut fields = fields;
    fields.retain(|name, _| !matches!(name.as_str(), "id" | "prompt" | "system"));
    fields.insert("messages".to_owned(), &messages);
    if let Some(model) = &model {
        fields.insert("model".to_owned(), model);
    }
    Ok(Call { endpoint: Endpoint::Chat, body: to_body(&fields) })
}

fn refuse_stream(fields: &Fields<'_>) -> Result<(), LineError> {
    match fields.get("stream").map(|raw| raw.get()) {
        None | Some("false" | "null") => Ok(()),
        Some(_) => Err(LineError::Stream),
    }
}

fn names_model(fields: &Fields<'_>) -> bool {
    fields.get("model").is_some_and(|raw| raw.get() != "null")
}

/// Texts and lists of texts always become JSON: the empty fallback can't be reached, but needs no panic.
fn to_raw<T: serde::Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn to_body(fields: &Fields<'_>) -> Bytes {
    Bytes::from(serde_json::to_vec(fields).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn body(line: &str) -> Value {
        let request = parse(line.as_bytes(), Some("deepseek-flash")).unwrap();
        serde_json::from_slice(&request.call.body).unwrap()
    }

    fn error(line: &str) -> (Option<String>, LineError) {
        parse(line.as_bytes(), None).unwrap_err()
    }

    #[test]
    fn a_batch_body_is_sent_byte_for_byte() {
        let text = r#"{"z":1.00,"model":"m","seed":123456789012345678901234567890,"messages":[ ] }"#;
        let line = format!(r#"{{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{text}}}"#);
        let request = parse(line.as_bytes(), Some("other")).unwrap();
        assert_eq!(request.id, "a");
        assert_eq!(request.call, Call { endpoint: Endpoint::Chat, body: Bytes::from(text) });
    }

    #[test]
    fn a_batch_body_without_a_model_gets_the_default() {
        assert_eq!(body(r#"{"custom_id":"a","body":{"n":1}}"#), json!({"model": "deepseek-flash", "n": 1}));
        assert_eq!(body(r#"{"custom_id":"a","body":{"model":null}}"#), json!({"model": "deepseek-flash"}));
        assert_eq!(error(r#"{"custom_id":"a","body":{}}"#), (Some("a".into()), LineError::MissingModel));
    }

    #[test]
    fn the_short_form_becomes_a_chat_and_other_fields_pass_through() {
        let line = r#"{"id":7,"prompt":"限流?","system":"Be brief.","max_tokens":9,"thinking":{"type":"disabled"}}"#;
        let expected = json!({
            "model": "deepseek-flash", "max_tokens": 9, "thinking": {"type": "disabled"},
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "限流?"}],
        });
        assert_eq!(body(line), expected);
        assert_eq!(parse(line.as_bytes(), Some("m")).unwrap().id, "7");
        assert_eq!(body(r#"{"id":"a","messages":[1],"model":"m"}"#), json!({"messages": [1], "model": "m"}));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said_with_its_id() {
        let a = || Some("a".to_owned());
        assert_eq!(
            error("{\"id\":\"a\"").1.to_string(),
            "not a JSON object: EOF while parsing an object at column 9",
            "the line has a number of its own"
        );
        for (bytes, part) in
            [(&b"\xff\xfe{\0\"\0"[..], "UTF-16"), (&b"\x1f\x8b\x08\0"[..], "gzip"), (&b"[]"[..], "sequence")]
        {
            let (_, error) = parse(bytes, None).unwrap_err();
            assert!(matches!(&error, LineError::NotJson(why) if why.contains(part)), "{error}");
        }
        assert!(matches!(error("{\"id\":\"\\xff\"}").1, LineError::NotJson(_)));
        assert_eq!(error(r#"{"prompt":"x"}"#), (None, LineError::MissingId));
        assert_eq!(error(r#"{"id":"","prompt":"x"}"#), (None, LineError::MissingId));
        assert_eq!(error(r#"{"custom_id":["a"],"body":{}}"#), (None, LineError::MissingId));
        assert_eq!(error(r#"{"id":"a"}"#), (a(), LineError::PromptOrMessages));
        assert_eq!(error(r#"{"id":"a","prompt":"x","messages":[]}"#), (a(), LineError::PromptOrMessages));
        assert_eq!(error(r#"{"id":"a","prompt":5}"#), (a(), LineError::NotText("prompt")));
        assert_eq!(error(r#"{"id":"a","prompt":"x"}"#), (a(), LineError::MissingModel));
        assert_eq!(error(r#"{"id":"a","prompt":"x","stream":true}"#), (a(), LineError::Stream));
        assert_eq!(error(r#"{"custom_id":"a"}"#), (a(), LineError::MissingBody));
        assert_eq!(error(r#"{"custom_id":"a","body":"x"}"#), (a(), LineError::MissingBody));
        assert_eq!(error(r#"{"custom_id":"a","method":"GET","body":{}}"#).1.code(), "unsupported_method");
    }

    #[test]
    fn what_a_table_leaves_empty_is_not_there() {
        let line = r#"{"custom_id":null,"method":null,"id":"a","prompt":"x","messages":null,"model":"m"}"#;
        assert_eq!(body(line), json!({"model": "m", "messages": [{"role": "user", "content": "x"}]}));
        let line = r#"{"custom_id":"a","method":null,"url":null,"id":null,"body":{"model":"m"},"messages":null}"#;
        assert_eq!(body(line), json!({"model": "m"}));
    }

    #[test]
    fn a_number_is_an_id_however_large() {
        let digits = "9".repeat(400);
        for id in [digits.as_str(), "-1e999", "0"] {
            let line = format!(r#"{{"id":{id},"prompt":"x"}}"#);
            assert_eq!(parse(line.as_bytes(), Some("m")).unwrap().id, id);
        }
        for id in ["true", "null", "{}", "[1]"] {
            assert_eq!(error(&format!(r#"{{"id":{id},"prompt":"x"}}"#)), (None, LineError::MissingId));
        }
    }

    #[test]
    fn of_what_a_line_says_at_length_the_beginning_is_told() {
        let long = "é".repeat(1_000_000);
        for line in [
            format!(r#"{{"custom_id":"a","url":"{long}","body":{{}}}}"#),
            format!(r#"{{"custom_id":"a","method":"{long}","body":{{}}}}"#),
            format!("\"{long}\""),
        ] {
            let told = error(&line).1.to_string();
            assert!(told.contains("éé") && told.chars().count() < 400, "{} characters", told.chars().count());
        }
    }

    #[test]
    fn a_line_cannot_choose_the_host() {
        for url in ["https://evil.example/v1/chat/completions", "//evil.example/x", "/v1/../files", "/v1", ""] {
            let (_, error) = error(&format!(r#"{{"custom_id":"a","url":"{url}","body":{{"model":"m"}}}}"#));
            assert_eq!(error, LineError::UnsupportedUrl(url.to_owned()));
        }
        assert_eq!(endpoint("/beta/completions"), Some(Endpoint::Completions));
    }

    #[test]
    fn every_example_is_a_request_with_an_id_of_its_own() {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/prompts.jsonl"));
        let requests: Vec<Request> = text.lines().map(|line| parse(line.as_bytes(), Some("m")).unwrap()).collect();
        let ids: std::collections::HashSet<&str> = requests.iter().map(|request| request.id.as_str()).collect();
        assert_eq!((requests.len(), ids.len()), (300, 300));
        assert!(text.contains("{\"id\": ") && text.contains("{\"custom_id\": "), "both forms are shown");
    }

    proptest! {
        #[test]
        fn no_line_panics_and_every_text_survives(id in ".{1,20}", prompt in ".{0,40}", junk in ".{0,60}") {
            let _ = parse(junk.as_bytes(), Some("m"));
            let line = json!({"id": id, "prompt": prompt}).to_string();
            let request = parse(line.as_bytes(), Some("m")).unwrap();
            let body: Value = serde_json::from_slice(&request.call.body).unwrap();
            prop_assert_eq!(&request.id, &id);
            prop_assert_eq!(&body["messages"][0]["content"], &json!(prompt));
        }
    }
}
