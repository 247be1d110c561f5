//! Against a real engine: llama.cpp's own server, whose address is in `TIDEGATE_LLAMA_URL`. It has its own habits: the
//! usage comes in a chunk without choices, error codes are numbers, and it queues instead of rejecting.
#![cfg(feature = "client")]

use std::time::Duration;

use tidegate::{Client, ErrorKind};

fn client() -> Option<Client> {
    match std::env::var("TIDEGATE_LLAMA_URL") {
        Ok(url) if !url.is_empty() => Some(Client::builder().base_url(url).build().unwrap()),
        _ => {
            eprintln!("SKIPPED: no llama.cpp server, for TIDEGATE_LLAMA_URL is not set");
            None
        }
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), future).await.expect("it hangs")
}

#[tokio::test]
async fn a_whole_answer() {
    let Some(client) = client() else { return };
    let reply = soon(client.chat("tiny").user("Hello").max_tokens(16).send()).await.unwrap();
    assert!(reply.usage.as_ref().is_some_and(|usage| usage.completion_tokens > Some(0)));
    assert!(reply.finish_reason().is_some());
}

#[tokio::test]
async fn a_stream_whose_usage_comes_in_a_chunk_without_choices() {
    let Some(client) = client() else { return };
    let mut stream = soon(client.chat("tiny").user("Hello").max_tokens(24).stream()).await.unwrap();
    let (mut chunks, mut bare) = (0, 0);
    while let Some(chunk) = soon(stream.next()).await {
        let chunk = chunk.unwrap();
        chunks += 1;
        bare += u32::from(chunk.choices.is_empty() && chunk.usage.is_some());
    }
    assert!(chunks > 2, "{chunks} chunks");
    assert_eq!(bare, 1, "the usage came by itself");
    let reply = soon(stream.into_completion()).await.unwrap();
    assert!(reply.usage.as_ref().is_some_and(|usage| usage.completion_tokens > Some(0)));
    assert!(client.metrics().total.counters.completion_tokens > 0);
}

#[tokio::test]
async fn an_error_is_told_in_its_own_words() {
    let Some(client) = client() else { return };
    let wrong = client.chat("tiny").user("x").extra("grammar", "this is no grammar ::= (");
    let error = soon(wrong.send()).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Refused, Some(400)), "{error}");
    assert!(error.message().is_some_and(|message| !message.is_empty()));
    assert_eq!(error.attempts_made(), 1);
    // The same before a stream.
    let error = soon(client.chat("tiny").user("x").extra("grammar", "::= (").stream()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
}

#[tokio::test]
async fn a_stream_that_is_dropped_frees_the_engine() {
    let Some(client) = client() else { return };
    // The engine has two slots and lets the rest wait: each stream begins only once one before it has let go of its slot.
    for _ in 0..8 {
        let call = client.chat("tiny").user("Tell me everything.").max_tokens(900).extra("ignore_eos", true);
        let mut stream = soon(call.stream()).await.unwrap();
        soon(stream.next()).await.unwrap().unwrap();
    }
    assert_eq!(client.load(), Default::default());
    assert_eq!(client.metrics().total.counters.cancelled, 8);
}
