//! What goes to `tracing`: OpenTelemetry's names for generative AI, and no key.
#![cfg(feature = "client")]

mod client_support;

use std::io::Write;
use std::sync::{Arc, Mutex};

use client_support::*;
use tidegate::Client;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_call_is_a_span_with_its_usage_and_its_attempts_are_events() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .finish();
    let stub = Stub::start(|request| match request.number {
        1 => error(503, "service_unavailable_error", "Service is too busy."),
        3 => stream(&["a"]),
        4.. => error(400, "invalid_request_error", "key sk-plain-secret-9 is no good"),
        _ => json(200, &completion("ok")),
    })
    .await;
    let client = Client::builder().base_url(stub.url()).api_key("sk-plain-secret-9").build().unwrap();
    {
        // The runtime has one thread, so this is the subscriber of all that follows.
        let _guard = tracing::subscriber::set_default(subscriber);
        soon(client.chat("deepseek-flash").user("x").workload("eval").send()).await.unwrap();
        let stream = soon(client.chat("deepseek-flash").user("x").stream()).await.unwrap();
        soon(stream.into_completion()).await.unwrap();
        soon(client.chat("deepseek-flash").user("x").send()).await.unwrap_err();
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for expected in [
        "gen_ai.call",
        "gen_ai.operation.name=\"chat\"",
        "gen_ai.request.model=\"deepseek-flash\"",
        "gen_ai.response.model=\"deepseek-flash\"",
        "gen_ai.usage.input_tokens=5",
        "gen_ai.usage.output_tokens=7",
        "tidegate.workload=\"eval\"",
        "tidegate.attempts=2",
        "server.address=\"127.0.0.1\"",
        "http.response.status_code=503",
        "error.type=\"refused\"",
    ] {
        assert!(log.contains(expected), "{expected} is missing in\n{log}");
    }
    assert!(!log.contains("secret"), "{log}");
}
