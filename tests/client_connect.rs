//! What the client tells the limit of how long its connections take to be made.
#![cfg(feature = "client")]

mod client_support;

use std::io::Write;
use std::sync::{Arc, Mutex};

use client_support::*;
use tidegate::{Client, Route};

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

/// The connect times told while `client` makes three calls one after the other, in microseconds.
async fn told(client: &Client) -> Vec<u64> {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    for _ in 0..3 {
        soon(client.chat("m").user("x").send()).await.unwrap();
    }
    drop(guard);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let mut times = Vec::new();
    for line in log.lines() {
        let Some((_, rest)) = line.split_once("tidegate.connect_us=") else { continue };
        times.push(rest.split_whitespace().next().unwrap().parse().unwrap());
    }
    times
}

async fn answering() -> Stub {
    Stub::start(|_| json(200, &completion("ok"))).await
}

#[tokio::test]
async fn the_first_connection_tells_its_time_once_and_later_ones_are_not_timed() {
    let stub = answering().await;
    let times = told(&stub.client()).await;
    // The second is kept for all that follows.
    assert_eq!((times.len(), stub.connections()), (1, 2), "{times:?}");
    assert!(times[0] > 0);
}

#[tokio::test]
async fn a_proxy_or_an_http_client_of_ones_own_tells_nothing_of_the_way_to_the_provider() {
    let stub = answering().await;
    let behind = Route::new("far").base_url("http://far.invalid").proxy(stub.url());
    let client = Client::builder().route(behind).build().unwrap();
    assert!(told(&client).await.is_empty());
    let own = stub.builder().http_client(reqwest::Client::new()).build().unwrap();
    assert!(told(&own).await.is_empty());
    assert_eq!(stub.requests(), 6);
}
