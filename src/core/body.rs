//! Bodies that are not streams: telling keep-alives from content while they arrive, and what came when they are whole.
//!
//! While a request waits, DeepSeek sends blank lines before the JSON, and OpenRouter pads its bodies with lines of
//! spaces (67 of the recorded responses). They prove that the connection lives, and are no progress. A body of nothing
//! else, with status 200, is how DeepSeek's overload has looked from outside.

/// What a chunk of a body brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival<'a> {
    /// White space before any content, or nothing: the connection lives.
    Alive,
    /// Content: the chunk without the white space that came before the first of it.
    Content(&'a [u8]),
}

/// The content of a body outgrew its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is larger than {limit} bytes")]
pub struct TooLarge {
    /// The limit, in bytes.
    pub limit: usize,
}

/// Watches a body arrive: tells padding from content and bounds the content. It keeps no byte itself.
#[derive(Clone, Debug)]
pub struct Inspector {
    content: usize,
    max_content_bytes: usize,
}

impl Default for Inspector {
    fn default() -> Self {
        Self::new()
    }
}

impl Inspector {
    /// The default for the largest content: 64 MiB.
    pub const DEFAULT_MAX_CONTENT_BYTES: usize = 64 << 20;

    /// For a body that has yet to arrive, with the default limit.
    pub fn new() -> Self {
        Self::with_max_content_bytes(Self::DEFAULT_MAX_CONTENT_BYTES)
    }

    /// The same with a limit of its own, in bytes. Padding before the content does not count: ten minutes of blank lines
    /// are no larger than none.
    pub fn with_max_content_bytes(max_content_bytes: usize) -> Self {
        Self { content: 0, max_content_bytes }
    }

    /// Looks at the next chunk.
    ///
    /// # Errors
    /// [`TooLarge`] if the content, with this chunk, is beyond the limit.
    pub fn feed<'a>(&mut self, chunk: &'a [u8]) -> Result<Arrival<'a>, TooLarge> {
        let content = if self.content == 0 { chunk.trim_ascii_start() } else { chunk };
        if content.is_empty() {
            return Ok(Arrival::Alive);
        }
        self.content = self.content.saturating_add(content.len());
        if self.content > self.max_content_bytes {
            return Err(TooLarge { limit: self.max_content_bytes });
        }
        Ok(Arrival::Content(content))
    }

    /// Whether nothing but white space has come. At the end of the body it means that the answer is missing.
    pub fn is_blank(&self) -> bool {
        self.content == 0
    }

    /// How many bytes of content have come.
    pub fn content_bytes(&self) -> usize {
        self.content
    }
}

/// What a whole body of a 2xx response is.
#[cfg(feature = "std")]
#[derive(Clone, Debug, PartialEq)]
pub enum Inspection {
    /// Empty, or white space only.
    Blank,
    /// Not JSON, and why.
    NotJson(Box<str>),
    /// JSON that says the request failed, whatever the status was: what
    /// [`classify_error_object`](super::classify::classify_error_object) takes.
    Error(serde_json::Value),
    /// Any other JSON.
    Answer {
        /// The finish reason of its first choice, or that of the first that failed; an empty one is none.
        finish_reason: Option<Box<str>>,
    },
}

/// Says what the whole body of a 2xx response is, without building a tree of it where there is nothing wrong.
#[cfg(feature = "std")]
pub fn inspect(body: &[u8]) -> Inspection {
    use serde::Deserialize;
    use serde::de::IgnoredAny;
    use serde_json::Value;

    use super::classify::{has_error, worst_reason};
    use super::json::{Json, lines};

    #[derive(Deserialize)]
    struct Envelope<'a> {
        error: Option<IgnoredAny>,
        message: Option<IgnoredAny>,
        response: Option<IgnoredAny>,
        #[serde(borrow, default)]
        choices: Vec<Choice<'a>>,
    }
    #[derive(Deserialize)]
    struct Choice<'a> {
        error: Option<IgnoredAny>,
        #[serde(borrow)]
        finish_reason: Option<alloc::borrow::Cow<'a, str>>,
    }

    // Some servers send an empty reason where there is none.
    let is_said = |reason: &&str| !reason.is_empty();
    let content = content_of(body);
    if content.is_empty() {
        return Inspection::Blank;
    }
    // None of the places where an error can stand is filled: nothing else of the body matters here.
    if let Ok(Envelope { error: None, message: None, response: None, choices }) = serde_json::from_slice(content)
        && choices.iter().all(|choice| choice.error.is_none())
    {
        let reasons = choices.iter().map(|choice| choice.finish_reason.as_deref().filter(is_said));
        return Inspection::Answer { finish_reason: worst_reason(reasons).map(Into::into) };
    }
    match serde_json::from_slice::<Value>(content) {
        Err(error) => Inspection::NotJson(error.to_string().into()),
        Ok(value) if Json::read(&lines(&value)).is_some_and(|json| has_error(&json)) => Inspection::Error(value),
        Ok(value) => {
            let choices = value.get("choices").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let reasons = choices.iter().map(|choice| choice.get("finish_reason")?.as_str().filter(is_said));
            Inspection::Answer { finish_reason: worst_reason(reasons).map(Into::into) }
        }
    }
}

/// A body without the white space around it and without a byte order mark, which no JSON parser takes.
pub fn content_of(body: &[u8]) -> &[u8] {
    let body = body.trim_ascii();
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(reason: &str) -> Inspection {
        Inspection::Answer { finish_reason: Some(reason.into()) }
    }

    #[test]
    fn blank_lines_before_the_json_are_life_and_not_content() {
        let mut inspector = Inspector::new();
        for padding in [&b""[..], b"\n", b"\n         \n", b"\r\n\t"] {
            assert_eq!(inspector.feed(padding), Ok(Arrival::Alive));
        }
        assert!(inspector.is_blank());
        assert_eq!(inspector.feed(b"\n {\"a\":"), Ok(Arrival::Content(b"{\"a\":")));
        assert_eq!(inspector.feed(b" 1}\n"), Ok(Arrival::Content(b" 1}\n")));
        assert_eq!(inspector.feed(b"\n"), Ok(Arrival::Content(b"\n")));
        assert_eq!((inspector.is_blank(), inspector.content_bytes()), (false, 10));
    }

    #[test]
    fn the_limit_counts_content_and_never_padding() {
        let mut inspector = Inspector::with_max_content_bytes(4);
        for _ in 0..100 {
            assert_eq!(inspector.feed(b"\n         \n"), Ok(Arrival::Alive));
        }
        assert_eq!(inspector.feed(b"\nabcd"), Ok(Arrival::Content(b"abcd")));
        assert_eq!(inspector.feed(b"e"), Err(TooLarge { limit: 4 }));
        assert_eq!(inspector.feed(b"f"), Err(TooLarge { limit: 4 }));
    }

    #[test]
    fn a_body_of_white_space_is_blank() {
        for body in [&b""[..], b"\n", b"\n\n\n \t\r\n", b"\xEF\xBB\xBF"] {
            assert_eq!(inspect(body), Inspection::Blank);
        }
    }

    #[test]
    fn padding_and_a_byte_order_mark_do_not_hide_the_answer() {
        let json = br#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":null}"#;
        for padding in [&b""[..], b"\n         \n\n", b"\xEF\xBB\xBF"] {
            assert_eq!(inspect(&[padding, json, b"\n"].concat()), answer("stop"));
        }
    }

    #[test]
    fn the_finish_reason_is_the_first_or_the_first_that_failed() {
        let two = |a: &str, b: &str| {
            format!(r#"{{"error":null,"choices":[{{"finish_reason":"{a}"}},{{"finish_reason":"{b}"}}]}}"#)
        };
        assert_eq!(inspect(two("length", "stop").as_bytes()), answer("length"));
        let failed = two("stop", "insufficient_system_resource");
        assert_eq!(inspect(failed.as_bytes()), answer("insufficient_system_resource"));
        assert_eq!(inspect(br#"{"choices":[{"finish_reason":"error"}]}"#), answer("error"));
        for (reason, error) in [("null", "null"), ("\"\"", "null"), ("\"\"", "false")] {
            let body = format!(r#"{{"choices":[{{"finish_reason":{reason}}}],"error":{error}}}"#);
            assert_eq!(inspect(body.as_bytes()), Inspection::Answer { finish_reason: None }, "{body}");
        }
    }

    #[test]
    fn errors_in_a_200_are_seen_in_every_shape() {
        for body in [
            r#"{"error":{"code":502,"message":"Provider returned error"}}"#,
            r#"{"error":"out of memory"}"#,
            r#"{"id":"x","choices":[{"error":{"code":502,"message":"no"},"finish_reason":"error"}]}"#,
            r#"{"choices":[],"error":{"message":"late"}}"#,
            r#"{"code":20012,"message":"Model does not exist. Please check it carefully.","data":null}"#,
            r#"{"object":"error","message":"no such model","code":404}"#,
        ] {
            let value = serde_json::from_str(body).unwrap();
            assert_eq!(inspect(body.as_bytes()), Inspection::Error(value), "{body}");
        }
    }

    #[test]
    fn other_json_is_an_answer() {
        for body in [
            r#"{"object":"list","data":[]}"#,
            r#"{"is_available":true,"balance_infos":[]}"#,
            r#"{"code":20000,"message":"OK","status":true,"data":{"balance":"1"}}"#,
            r#"{"choices":{},"error":null}"#,
            r#"{"error":false,"message":"fine"}"#,
            "[]",
            "1",
        ] {
            assert_eq!(inspect(body.as_bytes()), Inspection::Answer { finish_reason: None }, "{body}");
        }
    }

    #[test]
    fn what_is_no_json_says_why() {
        for body in ["<html>", r#"{"choices":["#, "data: {}\n\n", "{}{}"] {
            assert!(matches!(inspect(body.as_bytes()), Inspection::NotJson(_)), "{body}");
        }
    }

    proptest! {
        #[test]
        fn chunks_joined_are_the_body_without_its_leading_white_space(
            body in "[ \n\ta{}]{0,40}", sizes in prop::collection::vec(1usize..7, 1..12),
        ) {
            let mut inspector = Inspector::new();
            let (mut rest, mut joined) = (body.as_bytes(), Vec::new());
            for size in sizes.iter().cycle().take(body.len()) {
                let (chunk, tail) = rest.split_at(rest.len().min(*size));
                rest = tail;
                if let Arrival::Content(content) = inspector.feed(chunk).unwrap() {
                    joined.extend_from_slice(content);
                }
            }
            prop_assert_eq!(&joined[..], body.as_bytes().trim_ascii_start());
            prop_assert_eq!(inspector.is_blank(), joined.is_empty());
        }
    }
}
