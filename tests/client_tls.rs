//! Calls over TLS, to a server whose certificate the client was told to trust.
#![cfg(feature = "client")]

mod client_support;

use std::time::Duration;

use client_support::*;
use tidegate::{Client, ErrorKind};

fn trusting(stub: &Stub) -> Client {
    let http = reqwest::Client::builder().http1_only().tls_certs_merge([stub.certificate()]).build().unwrap();
    stub.builder().http_client(http).build().unwrap()
}

#[tokio::test]
async fn calls_over_tls_are_answered_on_one_connection_kept_alive() {
    let stub = Stub::start_tls(|request| json(200, &completion(&format!("answer {}", request.number)))).await;
    let client = trusting(&stub);
    for number in 1..=5 {
        let reply = soon(client.chat("m").user("x").send()).await.unwrap();
        assert_eq!(reply.content(), Some(&*format!("answer {number}")));
    }
    assert_eq!((stub.requests(), stub.connections()), (5, 1));
}

#[tokio::test]
async fn streams_over_tls_come_in_pieces_and_leave_their_connection_to_the_next() {
    let stub = Stub::start_tls(|_| stream(&["high ", "water"])).await;
    let client = trusting(&stub);
    for _ in 0..3 {
        let mut stream = soon(client.chat("m").user("x").stream()).await.unwrap();
        let mut text = String::new();
        while let Some(chunk) = soon(stream.next()).await {
            text.push_str(chunk.unwrap().content().unwrap_or_default());
        }
        assert_eq!(text, "high water");
        // The end of the body may come a moment after the last event.
        until("the answer's end is sent", || stub.in_flight() == 0).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!((stub.requests(), stub.connections()), (3, 1));
}

#[tokio::test]
async fn a_stream_dropped_over_tls_closes_its_connection() {
    let stub = Stub::start_tls(|_| vec![head("text/event-stream"), text("a"), Step::Hold]).await;
    let client = trusting(&stub);
    drop(soon(client.chat("m").user("x").stream()).await.unwrap());
    until("the connection is closed", || stub.abandoned() == 1).await;
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_a_connection_error_and_no_request_is_sent() {
    let stub = Stub::start_tls(|_| json(200, &completion("never"))).await;
    let client = stub.builder().max_attempts(1).build().unwrap();
    let error = soon(client.chat("m").user("x").send()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    assert_eq!(stub.requests(), 0);
}
