//! Lines of the output and of the error file, in the form of OpenAI's batch output
//! (<https://platform.openai.com/docs/api-reference/batch/request-output>).

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ids::IdHash;
use crate::caller::{Failure, Reply};

/// How each of our lines begins, and so how a torn one must.
pub(super) const PREFIX: &str = r#"{"id":"batch_req_"#;

#[derive(Serialize)]
struct Record<'a> {
    id: Option<String>,
    custom_id: Option<&'a str>,
    response: Option<Response<'a>>,
    error: Option<Error<'a>>,
}

#[derive(Serialize)]
struct Response<'a> {
    status_code: u16,
    request_id: Option<&'a str>,
    body: Box<RawValue>,
}

#[derive(Serialize)]
struct Error<'a> {
    code: &'a str,
    message: &'a str,
    /// Where in the input the request stands.
    line: u64,
}

/// The line of an answered request, with its end of line.
pub(super) fn answer(id: &str, reply: &Reply) -> Vec<u8> {
    let response =
        Response { status_code: reply.status, request_id: reply.request_id.as_deref(), body: one_line(&reply.body) };
    to_line(&Record { id: Some(request_name(id)), custom_id: Some(id), response: Some(response), error: None })
}

/// The line of a request that failed.
pub(super) fn failure(id: &str, line: u64, failure: &Failure) -> Vec<u8> {
    let response = failure.status.map(|status_code| Response {
        status_code,
        request_id: failure.request_id.as_deref(),
        body: failure.body.as_ref().map_or_else(|| RawValue::NULL.to_owned(), |body| one_line(body)),
    });
    let error = Error { code: &failure.code, message: &failure.message, line };
    to_line(&Record { id: Some(request_name(id)), custom_id: Some(id), response, error: Some(error) })
}

/// The line of an input line that isn't a request; `id` if that much could be read.
pub(super) fn bad_line(id: Option<&str>, line: u64, code: &str, message: &str) -> Vec<u8> {
    let error = Some(Error { code, message, line });
    to_line(&Record { id: id.map(request_name), custom_id: id, response: None, error })
}

/// The id under which the line of an output file is answered; `None` if it isn't such a line.
pub(super) fn answered_id(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answered<'a> {
        custom_id: String,
        #[serde(borrow)]
        response: &'a RawValue,
    }
    let answered: Answered<'_> = serde_json::from_slice(line).ok()?;
    answered.response.get().starts_with('{').then_some(answered.custom_id)
}

/// Whether a line is one of an error file, as far as its start tells.
pub(super) fn is_error_line(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct ErrorLine<'a> {
        #[serde(rename = "custom_id")]
        _custom_id: Option<String>,
        #[serde(borrow)]
        error: &'a RawValue,
    }
    serde_json::from_slice::<ErrorLine<'_>>(line).is_ok_and(|line| line.error.get().starts_with('{'))
}

/// The same for the same id, so that two runs of one input agree.
fn request_name(id: &str) -> String {
    format!("batch_req_{}", IdHash::of(id))
}

/// A body as one line. JSON stays as the server wrote it, whatever the numbers and the order of fields: a line break
/// can only stand between its tokens, as inside a text it has to be escaped. What isn't JSON becomes a text.
fn one_line(body: &[u8]) -> Box<RawValue> {
    let text = String::from_utf8_lossy(body);
    let flat = text.trim().replace(['\n', '\r'], "");
    RawValue::from_string(flat)
        .or_else(|_| serde_json::value::to_raw_value(&text))
        .unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn to_line(record: &Record<'_>) -> Vec<u8> {
    let mut line = serde_json::to_vec(record).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Fault;
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn reply(body: &str) -> Reply {
        Reply { status: 200, request_id: Some("r-1".into()), body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    #[test]
    fn an_answer_has_the_batch_output_form_and_keeps_the_body_as_the_server_wrote_it() {
        let line = answer("käse", &reply("\n\n  {\"b\":1.50,\r\n\"a\":[ 12345678901234567890123 ]}\n"));
        let text = std::str::from_utf8(&line).unwrap();
        assert!(text.starts_with(PREFIX) && text.ends_with("}\n") && text.matches('\n').count() == 1);
        assert!(text.contains(r#""body":{"b":1.50,"a":[ 12345678901234567890123 ]}},"error":null}"#), "{text}");
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(value["custom_id"], "käse");
        assert_eq!(value["response"]["status_code"], 200);
        assert_eq!(value["response"]["request_id"], "r-1");
        assert_eq!(answered_id(&line).as_deref(), Some("käse"));
    }

    #[test]
    fn a_body_that_is_not_json_becomes_a_text() {
        let value: Value = serde_json::from_slice(&answer("a", &reply("two\nlines"))).unwrap();
        assert_eq!(value["response"]["body"], "two\nlines");
    }

    #[test]
    fn a_failure_keeps_the_servers_words_and_is_not_an_answer() {
        let refused = Failure {
            fault: Fault::Refusal,
            code: "refused".into(),
            message: "unknown model".into(),
            words: "unknown model".into(),
            status: Some(400),
            request_id: None,
            body: Some(Bytes::from_static(b"{\"error\":{}}")),
        };
        let line = failure("a", 3, &refused);
        let value: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["error"], json!({"code": "refused", "message": "unknown model", "line": 3}));
        assert_eq!(value["response"], json!({"status_code": 400, "request_id": null, "body": {"error": {}}}));
        assert!(is_error_line(&line));

        let bad = bad_line(None, 9, "invalid_json", "not JSON");
        assert_eq!(answered_id(&bad), None);
        assert!(is_error_line(&bad));
        assert!(!is_error_line(&answer("a", &reply("{}"))));
    }

    #[test]
    fn lines_of_an_input_file_are_not_answers() {
        assert_eq!(answered_id(br#"{"custom_id":"a","method":"POST","body":{}}"#), None);
        assert_eq!(answered_id(br#"{"id":"a","prompt":"x"}"#), None);
        assert_eq!(answered_id(br#"{"custom_id":"a","response":null,"error":{}}"#), None);
    }

    proptest! {
        #[test]
        fn any_body_makes_exactly_one_line(id in ".{0,20}", body in proptest::collection::vec(any::<u8>(), 0..80)) {
            let line = answer(&id, &Reply { status: 200, request_id: None, body: Bytes::from(body) });
            prop_assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
            prop_assert_eq!(answered_id(&line), Some(id));
        }
    }
}
