//! Requests to routes and their answers' heads, over reqwest: what is sent where, and what its failing means.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use url::Url;

use crate::core::body::content_of;
use crate::core::classify::{Head, Phase, TransportFailure, classify, classify_transport};
use crate::core::headers::Headers;
use crate::core::outcome::Outcome;
use crate::core::route::RouteId;
use crate::runtime::{self, BodyStream, Clock};

/// How much of an error's body is read and kept.
const ERROR_BODY: usize = 64 * 1024;
/// How long the rest of an error's body is waited for.
const ERROR_BODY_TIME: Duration = Duration::from_secs(10);

/// What a route needs to be reached.
pub(crate) struct Endpoint {
    pub(crate) name: Arc<str>,
    pub(crate) base: Url,
    /// Where the beta features are.
    pub(crate) beta: Url,
    /// The key, and what looks like one among the headers: to be struck out of what a server says.
    secrets: Vec<Box<str>>,
    /// What every request carries: the key, and whatever the user wants sent.
    headers: HeaderMap,
    /// The same with what a request of JSON for JSON carries besides, and one for a stream of events.
    json: [HeaderMap; 2],
    /// The path asked for first, below the base and below the beta base, with its URL: nearly all requests go to one.
    usual: [OnceLock<(Box<str>, Url)>; 2],
    http: reqwest::Client,
    /// Whether it is DeepSeek itself.
    pub(crate) deepseek: bool,
    /// Whether it goes on with an answer that was begun (chat prefix completion).
    pub(crate) continues: bool,
}

impl Endpoint {
    /// `headers` has the key's. They win over what requests bring.
    pub(crate) fn new(
        name: Arc<str>,
        [base, beta]: [Url; 2],
        key: Option<Box<str>>,
        headers: HeaderMap,
        http: reqwest::Client,
        deepseek: bool,
    ) -> Self {
        let json = ["application/json", "text/event-stream"].map(|accept| {
            // With room for what the HTTP client adds: the user agent, the host and the body's length.
            let mut all = HeaderMap::with_capacity(headers.len() + 2 + 3);
            all.insert(ACCEPT, HeaderValue::from_static(accept));
            all.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            all.extend(headers.clone());
            all
        });
        let mut secrets = Vec::from_iter(key);
        secrets.extend(secrets_in(&headers).into_iter().map(Into::into));
        Self {
            name,
            base,
            beta,
            secrets,
            headers,
            json,
            usual: Default::default(),
            http,
            deepseek,
            continues: deepseek,
        }
    }

    /// Strikes the route's keys out of what a server or the transport said.
    pub(crate) fn scrub(&self, outcome: Outcome) -> Outcome {
        struck(outcome, self.secrets.iter().map(|secret| &**secret))
    }

    /// An answer to `wire` that is an error, fit to be shown: without the keys, for it too ends in logs and error files, and
    /// of its body the start.
    pub(crate) fn error_response(&self, wire: &Wire, head: Received, mut body: Bytes) -> Box<ErrorResponse> {
        let own = wire.secrets();
        let scrub = |mut bytes: Bytes| {
            for secret in self.secrets.iter().map(|secret| &**secret).chain(own.iter().copied()) {
                if let Some(struck) = without(&bytes, secret) {
                    bytes = struck.freeze();
                }
            }
            bytes
        };
        let Received { status, mut headers } = head;
        for value in headers.values_mut() {
            let scrubbed = scrub(Bytes::copy_from_slice(value.as_bytes()));
            if scrubbed != value.as_bytes()
                && let Ok(scrubbed) = HeaderValue::from_maybe_shared(scrubbed)
            {
                *value = scrubbed;
            }
        }
        // Before it is cut, so that no part of a key is left at its end.
        body = scrub(body);
        body.truncate(ERROR_BODY);
        Box::new(ErrorResponse { status, headers, body })
    }

    fn url(&self, path: &str, query: Option<&str>, beta: bool) -> Url {
        let (base, usual) = if beta { (&self.beta, &self.usual[1]) } else { (&self.base, &self.usual[0]) };
        let make = || {
            let mut url = base.clone();
            url.set_path(&[base.path().trim_end_matches('/'), path].concat());
            url
        };
        let (known, url) = usual.get_or_init(|| (path.into(), make()));
        let mut url = if **known == *path { url.clone() } else { make() };
        if query.is_some() {
            url.set_query(query);
        }
        url
    }

    fn headers(&self, wire: &WireHeaders) -> HeaderMap {
        let mut headers = match wire {
            WireHeaders::Json { stream } => return self.json[usize::from(*stream)].clone(),
            WireHeaders::Own(headers) => HeaderMap::clone(headers),
        };
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        headers
    }
}

/// A request as it is sent to whichever route: everything but where and with which key.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) method: Method,
    /// Below the route's base, with a leading slash.
    pub(crate) path: Cow<'static, str>,
    pub(crate) query: Option<Box<str>>,
    /// Whether it needs the beta base.
    pub(crate) beta: bool,
    pub(crate) headers: WireHeaders,
    pub(crate) body: Bytes,
}

/// What a request carries besides its route's headers.
#[derive(Debug)]
pub(crate) enum WireHeaders {
    /// JSON goes out; JSON, or a stream of events, is to come back.
    Json { stream: bool },
    /// These.
    Own(Box<HeaderMap>),
}

impl Wire {
    /// A request of JSON for JSON, or for a stream of events.
    pub(crate) fn json(path: impl Into<Cow<'static, str>>, body: Vec<u8>, stream: bool) -> Self {
        let headers = WireHeaders::Json { stream };
        Self { method: Method::POST, path: path.into(), query: None, beta: false, headers, body: body.into() }
    }

    pub(crate) fn get(path: &'static str) -> Self {
        let mut headers = HeaderMap::with_capacity(1);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let headers = WireHeaders::Own(Box::new(headers));
        Self { method: Method::GET, path: path.into(), query: None, beta: false, headers, body: Bytes::new() }
    }

    /// What looks like keys among its own headers.
    fn secrets(&self) -> Vec<&str> {
        match &self.headers {
            WireHeaders::Json { .. } => Vec::new(),
            WireHeaders::Own(headers) => secrets_in(headers),
        }
    }

    /// Strikes them out of what a server or the transport said.
    pub(crate) fn scrub(&self, outcome: Outcome) -> Outcome {
        struck(outcome, self.secrets().into_iter())
    }

    fn request(&self, to: &Endpoint, rename: Option<&str>) -> reqwest::Request {
        let url = to.url(&self.path, self.query.as_deref(), self.beta);
        let mut request = reqwest::Request::new(self.method.clone(), url);
        *request.headers_mut() = to.headers(&self.headers);
        if !self.body.is_empty() {
            let body = rename.and_then(|model| renamed(&self.body, model)).unwrap_or_else(|| self.body.clone());
            *request.body_mut() = Some(body.into());
        }
        request
    }
}

/// A JSON body with another `model`; its other fields stay as they are and where they are.
fn renamed(body: &[u8], model: &str) -> Option<Bytes> {
    let mut fields: crate::types::JsonObject = serde_json::from_slice(body).ok()?;
    *fields.get_mut("model")? = model.into();
    serde_json::to_vec(&fields).ok().map(Bytes::from)
}

/// The head of an answer whose status was 2xx, and its body to come.
pub(crate) struct Opened {
    pub(crate) route: RouteId,
    pub(crate) head: Received,
    pub(crate) body: BodyStream,
}

/// What came instead of that.
pub(crate) enum Unopened {
    Answer(Received, BodyStream),
    Failed(reqwest::Error),
}

/// Status and headers of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
}

impl Received {
    /// Classifies by this head with `body`.
    pub(crate) fn with<T>(&self, classify: impl FnOnce(&Head<'_>, Option<u64>) -> T) -> T {
        let headers = HeaderView(&self.headers);
        classify(&Head { status: self.status.as_u16(), headers: &headers }, runtime::unix_now())
    }

    /// A transport's failure after this head.
    pub(crate) fn broken(&self, failure: TransportFailure, phase: Phase, words: Option<&str>) -> Outcome {
        let mut outcome = classify_transport(failure, phase, Some(self.status.as_u16()), words);
        let headers = HeaderView(&self.headers);
        outcome.request_id = crate::core::headers::request_id(&headers).map(Into::into);
        outcome
    }
}

struct HeaderView<'a>(&'a HeaderMap);

impl Headers for HeaderView<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str().ok()
    }

    fn may_have_quota(&self) -> bool {
        let word = b"ratelimit";
        self.0.keys().any(|name| {
            let name = name.as_str().as_bytes();
            // Headers have short names: a search that is made ready first takes longer.
            name.windows(word.len()).any(|part| part == word)
        })
    }
}

/// From this many bytes on a key is taken for one wherever it stands. A shorter one (`none`, `EMPTY`, `ollama`: servers of
/// one's own take any) may be a part of words that a server says, so it has to stand alone.
const TELLING: usize = 8;

/// `text` with `secret` struck out; `None` if it isn't in there.
fn without(text: &[u8], secret: &str) -> Option<BytesMut> {
    let in_word = |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(u8::is_ascii_alphanumeric);
    let mut struck = BytesMut::new();
    let mut copied = 0;
    for at in memchr::memmem::find_iter(text, secret.as_bytes()) {
        let end = at + secret.len();
        if secret.len() >= TELLING || !in_word(at.checked_sub(1)) && !in_word(Some(end)) {
            struck.extend_from_slice(&text[copied..at]);
            struck.extend_from_slice(b"[redacted]");
            copied = end;
        }
    }
    (copied > 0).then(|| {
        struck.extend_from_slice(&text[copied..]);
        struck
    })
}

/// An outcome without these secrets.
fn struck<'s>(mut outcome: Outcome, secrets: impl Iterator<Item = &'s str>) -> Outcome {
    let Outcome { message, code, error_type, request_id, .. } = &mut outcome;
    let mut all_said = [message, code, error_type, request_id];
    for secret in secrets {
        for said in all_said.iter_mut().filter_map(|said| said.as_mut()) {
            if let Some(struck) = without(said.as_bytes(), secret) {
                *said = String::from_utf8_lossy(&struck).into();
            }
            // Words are cut to a length, and a key may be what was cut. A part as short as this may be a word.
            let ends = |part: &usize| secret.get(..*part).is_some_and(|part| said.ends_with(part));
            if let Some(part) = (TELLING..secret.len()).rev().find(ends) {
                *said = [&said[..said.len() - part], "[redacted]"].concat().into();
            }
        }
    }
    outcome
}

/// What headers hold that are secret by their names (`api-key`, `x-auth-token`, `cookie`): each word, but for short ones,
/// which may stand in any answer.
fn secrets_in(headers: &HeaderMap) -> Vec<&str> {
    const TELL: [&str; 7] = ["auth", "cookie", "credential", "key", "password", "secret", "token"];
    let mut secrets = Vec::new();
    for (name, value) in headers {
        if !TELL.iter().any(|word| name.as_str().contains(word)) {
            continue;
        }
        let words = value.to_str().unwrap_or_default().split([' ', ',', ';', '=']);
        secrets.extend(words.filter(|word| word.len() >= TELLING));
    }
    secrets
}

/// An answer that was an error, as it came but for the keys of the route and in the request's own headers, should the
/// server echo them: those are struck out.
#[derive(Clone, Debug)]
pub struct ErrorResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, at most the first 64 KiB.
    pub body: Bytes,
}

/// An attempt that came to nothing before a body could be read.
pub(crate) struct Refusal {
    pub(crate) outcome: Outcome,
    pub(crate) response: Option<Box<ErrorResponse>>,
}

/// Sends `wire` to a route.
pub(crate) fn send(
    to: &Endpoint,
    wire: &Wire,
    rename: Option<&str>,
) -> impl Future<Output = reqwest::Result<reqwest::Response>> + use<> {
    to.http.execute(wire.request(to, rename))
}

/// What came of that.
#[inline(never)]
pub(crate) fn opened(route: RouteId, sent: reqwest::Result<reqwest::Response>) -> Result<Opened, Box<Unopened>> {
    let mut response = sent.map_err(|error| Box::new(Unopened::Failed(error)))?;
    let head = Received { status: response.status(), headers: std::mem::take(response.headers_mut()) };
    let body: BodyStream = Box::pin(response.bytes_stream());
    match head.status.is_success() {
        true => Ok(Opened { route, head, body }),
        false => Err(Box::new(Unopened::Answer(head, body))),
    }
}

/// Reads an answer that is an error, and classifies what came of an attempt.
pub(crate) async fn refusal(to: &Endpoint, wire: &Wire, unopened: Unopened, clock: &Clock) -> Refusal {
    let (head, mut body) = match unopened {
        Unopened::Answer(head, body) => (head, body),
        Unopened::Failed(error) => {
            let failure = runtime::transport_failure(&error);
            let outcome = classify_transport(failure, Phase::BeforeHeaders, None, Some(&words(error)));
            return Refusal { outcome: to.scrub(outcome), response: None };
        }
    };
    let bytes = start_of(&mut body, clock).await;
    drop(body);
    let outcome = to.scrub(head.with(|head, now| classify(head, &bytes, now)));
    Refusal { outcome, response: Some(to.error_response(wire, head, bytes)) }
}

/// The start of an error's body, as much of it as comes.
async fn start_of(body: &mut BodyStream, clock: &Clock) -> Bytes {
    let mut timer = runtime::Timer::default();
    timer.set(clock, Some(clock.now() + ERROR_BODY_TIME));
    let mut bytes = BytesMut::new();
    poll_fn(|cx| {
        while bytes.len() < ERROR_BODY {
            if timer.poll(clock, cx).is_ready() {
                break;
            }
            match std::task::ready!(body.as_mut().poll_next(cx)) {
                Some(Ok(chunk)) => bytes.extend_from_slice(&chunk[..chunk.len().min(ERROR_BODY - bytes.len())]),
                Some(Err(_)) | None => break,
            }
        }
        std::task::Poll::Ready(())
    })
    .await;
    bytes.freeze()
}

/// What a transport says at the bottom, where the cause is; its wrappers only repeat that something failed. Without the
/// URL: a proxy's may hold a password.
pub(crate) fn words(error: reqwest::Error) -> String {
    use std::error::Error as _;
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    text
}

/// Reads the JSON of a whole body.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(content_of(body))
}
