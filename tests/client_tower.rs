//! The gate as a tower layer around somebody's own service.
#![cfg(feature = "client")]

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use tidegate::client::tower::GateLayer;
use tidegate::{Client, Clocks};
use tower::{Service, ServiceBuilder, ServiceExt};

fn client() -> Client {
    Client::builder().base_url("http://127.0.0.1:9").max_concurrency(2).build().unwrap()
}

async fn read<B>(mut body: B) -> Result<Vec<u8>, B::Error>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut whole = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole)
}

/// Answers with these statuses, one after the other, then with 200.
fn service(
    statuses: &'static [u16],
) -> impl Service<Request<String>, Response = Response<http_body_util::Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    let count = Arc::new(AtomicUsize::new(0));
    tower::service_fn(move |request: Request<String>| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut response = Response::new(http_body_util::Full::new(Bytes::from(request.into_body())));
            *response.status_mut() = statuses.get(number).copied().unwrap_or(200).try_into().unwrap();
            Ok(response)
        }
    })
}

#[tokio::test]
async fn a_service_behind_the_gate_is_retried_and_its_body_holds_the_permit() {
    let client = client();
    let mut gated = ServiceBuilder::new().layer(GateLayer::new(&client, "m")).service(service(&[429, 503]));
    let response = gated.ready().await.unwrap().call(Request::new("hello".into())).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(client.load().in_flight, 1);
    assert_eq!(read(response.into_body()).await.unwrap(), b"hello");
    assert_eq!(client.load().in_flight, 0);
    let counters = client.metrics().total.counters;
    assert_eq!((counters.completed, counters.attempts, counters.slot_rejections, counters.pressure), (1, 3, 1, 1));
}

#[tokio::test]
async fn what_is_not_retried_comes_as_it_is() {
    let client = client();
    let gated = ServiceBuilder::new().layer(GateLayer::new(&client, "m")).service(service(&[404]));
    let response = gated.oneshot(Request::new("no".into())).await.unwrap();
    assert_eq!(response.status(), 404);
    assert_eq!(client.load().in_flight, 0);
    assert_eq!(read(response.into_body()).await.unwrap(), b"no");
}

#[tokio::test]
async fn a_body_that_is_dropped_gives_its_permit_back_and_a_deadline_ends_the_wait_for_one() {
    let client = client();
    let layer = GateLayer::new(&client, "m").deadline(Duration::from_millis(200));
    let gated = ServiceBuilder::new().layer(layer).service(service(&[]));
    let patient = ServiceBuilder::new().layer(GateLayer::new(&client, "m")).service(service(&[]));
    let one = patient.clone().oneshot(Request::new("1".into())).await.unwrap();
    let two = patient.clone().oneshot(Request::new("2".into())).await.unwrap();
    let error = gated.oneshot(Request::new("3".into())).await.unwrap_err();
    assert_eq!(error.kind(), tidegate::ErrorKind::Deadline);
    drop(one);
    assert_eq!(client.load().in_flight, 1);
    let four = tokio::time::timeout(Duration::from_secs(60), patient.oneshot(Request::new("4".into())));
    assert!(four.await.expect("it hangs").is_ok());
    drop(two);
}

/// A body whose frames come when the test says so.
struct Slow(tokio::sync::mpsc::UnboundedReceiver<Bytes>);

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|data| data.map(|data| Ok(http_body::Frame::data(data))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_ends_after_the_gate_has_given_it_up_is_not_taken_for_whole() {
    for waits in [Duration::from_secs(5), Duration::from_secs(50)] {
        let client = client();
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let receiver = Arc::new(Mutex::new(Some(receiver)));
        let service = tower::service_fn(move |_: Request<String>| {
            let body = Slow(receiver.lock().unwrap().take().expect("it is sent once"));
            async move { Ok::<_, Infallible>(Response::new(body)) }
        });
        let clocks = Clocks { idle: Some(Duration::from_secs(10)), ..Clocks::default() };
        let layer = GateLayer::new(&client, "m").clocks(clocks);
        let response = ServiceBuilder::new().layer(layer).service(service).oneshot(Request::new("hello".into()));
        let mut body = response.await.unwrap().into_body();
        sender.send(Bytes::from_static(b"a")).unwrap();
        let first = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "a");
        // It is asked for more, and then nobody looks for a while.
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await.is_pending());
        tokio::time::sleep(waits).await;
        sender.send(Bytes::from_static(b"b")).unwrap();
        drop(sender);
        let read = read(body).await;
        let counters = client.metrics().total.counters;
        if waits < Duration::from_secs(10) {
            assert_eq!((read.unwrap(), counters.completed, counters.failed), (b"b".to_vec(), 1, 0));
        } else {
            let error = read.unwrap_err();
            let error = error.downcast_ref::<tidegate::Error>().expect("the gate's own");
            assert_eq!((error.kind(), counters.completed, counters.failed), (tidegate::ErrorKind::Interrupted, 0, 1));
        }
        assert_eq!(client.load().in_flight, 0);
    }
}
