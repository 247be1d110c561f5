//! A server on a real socket that answers as a test scripts it, for what a well-behaved server never does.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate::{Client, ClientBuilder};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which one, from 1.
    pub number: usize,
    pub path: String,
    pub head: String,
    pub body: serde_json::Value,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// What the server does, one after the other.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Waits.
    Wait(Duration),
    /// Waits until a test says so.
    Until(Arc<AtomicBool>),
    /// Sends nothing more, and waits for the client to close.
    Hold,
    /// Closes the connection.
    Cut,
}

#[derive(Default)]
struct Shared {
    connections: AtomicUsize,
    requests: AtomicUsize,
    in_flight: AtomicUsize,
    peak: AtomicUsize,
    /// Requests whose connection the client closed before their answer was whole.
    abandoned: AtomicUsize,
    seen: Mutex<Vec<Request>>,
}

pub struct Stub {
    addr: SocketAddr,
    certificate: Option<Vec<u8>>,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl Stub {
    pub async fn start(script: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::serve(script, None).await
    }

    /// The same behind TLS, with a certificate of its own making for `localhost`.
    pub async fn start_tls(script: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::serve(script, Some(rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap())).await
    }

    async fn serve(
        script: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static,
        identity: Option<rcgen::CertifiedKey<rcgen::KeyPair>>,
    ) -> Self {
        let certificate = identity.as_ref().map(|identity| identity.cert.der().to_vec());
        let tls = identity.map(|identity| {
            use tokio_rustls::rustls::{ServerConfig, pki_types::PrivateKeyDer};
            let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap();
            let chain = vec![identity.cert.der().clone()];
            let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
            tokio_rustls::TlsAcceptor::from(Arc::new(config))
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (script, state) = (Arc::new(script), shared.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                state.connections.fetch_add(1, Ordering::SeqCst);
                let (script, state, tls) = (script.clone(), state.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(socket, script, state).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                serve(socket, script, state).await;
                            }
                        }
                    }
                });
            }
        });
        Self { addr, certificate, shared, task }
    }

    pub fn url(&self) -> String {
        match self.certificate {
            None => format!("http://{}", self.addr),
            Some(_) => format!("https://localhost:{}", self.addr.port()),
        }
    }

    /// What a client must trust to talk to it over TLS.
    pub fn certificate(&self) -> reqwest::Certificate {
        reqwest::Certificate::from_der(self.certificate.as_ref().unwrap()).unwrap()
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::SeqCst)
    }

    pub fn peak(&self) -> usize {
        self.shared.peak.load(Ordering::SeqCst)
    }

    pub fn abandoned(&self) -> usize {
        self.shared.abandoned.load(Ordering::SeqCst)
    }

    pub fn seen(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Stops listening and closes every connection, as a server that dies does.
    pub fn kill(&self) {
        self.task.abort();
    }

    pub fn builder(&self) -> ClientBuilder {
        Client::builder().base_url(self.url()).api_key("sk-test-0123456789")
    }

    pub fn client(&self) -> Client {
        self.builder().build().unwrap()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    script: Arc<impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static>,
    shared: Arc<Shared>,
) {
    let mut pending = Vec::new();
    while let Some(request) = read_request(&mut socket, &mut pending, &shared).await {
        let now = shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        shared.peak.fetch_max(now, Ordering::SeqCst);
        shared.seen.lock().unwrap().push(request.clone());
        let steps = script(&request);
        let ended = play(&mut socket, steps).await;
        shared.in_flight.fetch_sub(1, Ordering::SeqCst);
        match ended {
            Played::Whole => {}
            Played::Cut => return,
            Played::Abandoned => {
                shared.abandoned.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
    }
}

async fn read_request(
    socket: &mut (impl AsyncRead + Unpin),
    pending: &mut Vec<u8>,
    shared: &Shared,
) -> Option<Request> {
    let mut buffer = [0; 16 * 1024];
    loop {
        if let Some(end) = pending.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&pending[..end]).into_owned();
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok())
                .unwrap_or(0);
            if pending.len() >= end + 4 + length {
                let body = serde_json::from_slice(&pending[end + 4..end + 4 + length]).unwrap_or_default();
                pending.drain(..end + 4 + length);
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let number = shared.requests.fetch_add(1, Ordering::SeqCst) + 1;
                return Some(Request { number, path, head, body });
            }
        }
        match socket.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => pending.extend_from_slice(&buffer[..count]),
        }
    }
}

enum Played {
    Whole,
    Cut,
    Abandoned,
}

async fn play(socket: &mut (impl AsyncRead + AsyncWrite + Unpin), steps: Vec<Step>) -> Played {
    for step in steps {
        let mut awaited = None;
        let wait = match step {
            Step::Send(bytes) => {
                if socket.write_all(&bytes).await.is_err() || socket.flush().await.is_err() {
                    return Played::Abandoned;
                }
                continue;
            }
            Step::Cut => return Played::Cut,
            Step::Wait(span) => span,
            Step::Until(said) => {
                awaited = Some(said);
                Duration::ZERO
            }
            Step::Hold => Duration::from_secs(3600),
        };
        let waited = async {
            tokio::time::sleep(wait).await;
            while awaited.as_ref().is_some_and(|said| !said.load(Ordering::SeqCst)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        // A client that sends nothing while it waits is there; one whose read ends has gone.
        let mut byte = [0];
        tokio::select! {
            () = waited => {}
            _ = socket.read(&mut byte) => return Played::Abandoned,
        }
    }
    Played::Whole
}

/// A whole answer.
pub fn json(status: u16, body: &str) -> Vec<Step> {
    with_headers(status, "content-type: application/json\r\n", body)
}

pub fn with_headers(status: u16, headers: &str, body: &str) -> Vec<Step> {
    let length = body.len();
    vec![Step::Send(format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes())]
}

/// The head of an answer that comes in pieces.
pub fn head(content_type: &str) -> Step {
    Step::Send(
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\nx-ds-trace-id: trace-1\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        .into_bytes(),
    )
}

/// A piece of it.
pub fn piece(text: &str) -> Step {
    Step::Send(format!("{:x}\r\n{text}\r\n", text.len()).into_bytes())
}

/// Its end.
pub fn last() -> Step {
    Step::Send(b"0\r\n\r\n".to_vec())
}

/// A chat answer.
pub fn completion(text: &str) -> String {
    serde_json::json!({
        "id": "chat-1", "object": "chat.completion", "created": 1, "model": "deepseek-flash",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    })
    .to_string()
}

/// An event of a streamed chat answer.
pub fn event(delta: serde_json::Value, finish: Option<&str>) -> Step {
    let chunk = serde_json::json!({
        "id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": "deepseek-flash",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": null
    });
    piece(&format!("data: {chunk}\n\n"))
}

pub fn text(text: &str) -> Step {
    event(serde_json::json!({"content": text}), None)
}

pub fn done() -> Step {
    piece("data: [DONE]\n\n")
}

/// A streamed chat answer of these pieces, whole.
pub fn stream(pieces: &[&str]) -> Vec<Step> {
    let mut steps =
        vec![head("text/event-stream"), event(serde_json::json!({"role": "assistant", "content": ""}), None)];
    steps.extend(pieces.iter().map(|piece| text(piece)));
    steps.extend([event(serde_json::json!({"content": ""}), Some("stop")), done(), last()]);
    steps
}

/// An error as DeepSeek words it.
pub fn error(status: u16, kind: &str, message: &str) -> Vec<Step> {
    let body = serde_json::json!({
        "error": {"message": message, "type": kind, "param": null, "code": "invalid_request_error"}
    });
    json(status, &body.to_string())
}

/// A bound on everything, so that a hang is a failure.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(60), future).await {
        Ok(value) => value,
        Err(_) => panic!("it hangs"),
    }
}

/// Waits until something is so.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came: {what}");
}
