//! What is asked about an account. It passes by the scheduler: providers limit generation, not this, and the balance is
//! asked for just when the account is stopped.

use std::future::poll_fn;
use std::time::Duration;

use bytes::BytesMut;
use serde::de::DeserializeOwned;

use super::error::Error;
use super::gate::Gate;
use crate::core::backoff::jittered_floor;
use crate::core::body::Inspector;
use crate::core::classify::{Phase, classify};
use crate::core::outcome::{Outcome, OutcomeKind};
use crate::core::route::RouteId;
use crate::core::scheduler::SubmitError;
use crate::runtime;
use crate::transport::{self, Opened, Wire};

/// Such a question is answered from a table; who takes longer will not answer, asked again or not.
const TIME: Duration = Duration::from_secs(30);

/// Asks route number `route`, again if that may help and there is time.
pub(super) async fn get<T: DeserializeOwned>(gate: &Gate, route: usize, path: &'static str) -> Result<T, Error> {
    let begun = gate.clock.now();
    let until = begun + gate.settings.deadline.map_or(TIME, |deadline| deadline.min(TIME));
    let wire = Wire::get(path);
    let policy = &gate.settings.retry;
    let mut sent = 0;
    loop {
        // The scheduler, which refuses other calls then, is not asked.
        if gate.is_closed() {
            return Err(SubmitError::Closed.into());
        }
        sent += 1;
        let mut time = runtime::Timer::default();
        time.set(&gate.clock, Some(until));
        let mut asking = std::pin::pin!(ask(gate, route, &wire));
        let asked = poll_fn(|cx| match asking.as_mut().poll(cx) {
            std::task::Poll::Pending => time.poll(&gate.clock, cx).map(|()| {
                Err(Box::new(Outcome::new(OutcomeKind::FirstContentTimeout).with_message("no answer came in time")))
            }),
            ready => ready,
        })
        .await;
        let outcome = match asked {
            Ok(answer) => return Ok(answer),
            Err(outcome) => outcome,
        };
        use OutcomeKind as K;
        let passing = !matches!(outcome.kind, K::Billing | K::Authentication | K::Forbidden | K::Refused);
        let wait = gate.with_rng(|rng| {
            let asked = outcome.retry_after.map_or(Duration::ZERO, |asked| jittered_floor(asked, rng));
            policy.delay(sent - 1, rng).max(asked)
        });
        let now = gate.clock.now();
        if sent >= policy.max_attempts || !outcome.should_retry.unwrap_or(passing) || now + wait >= until {
            return Err(Error::of_outcome(gate.scrub(*outcome), gate.endpoints[route].name.clone(), sent, now - begun));
        }
        runtime::sleep(&gate.clock, wait).await;
    }
}

async fn ask<T: DeserializeOwned>(gate: &Gate, route: usize, wire: &Wire) -> Result<T, Box<Outcome>> {
    let to = &gate.endpoints[route];
    let sent = transport::send(to, wire, None).await;
    let Opened { head, mut body, .. } = match transport::opened(RouteId(route as u16), sent) {
        Ok(opened) => opened,
        Err(unopened) => return Err(Box::new(transport::refusal(to, wire, *unopened, &gate.clock).await.outcome)),
    };
    let mut inspector = Inspector::with_max_content_bytes(gate.settings.max_body);
    let mut whole = BytesMut::new();
    while let Some(chunk) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
        let chunk = chunk.map_err(|error| {
            let failure = runtime::transport_failure(&error);
            Box::new(head.broken(failure, Phase::BeforeContent, Some(&transport::words(error))))
        })?;
        inspector.feed(&chunk).map_err(|error| Box::new(super::exchange::unreadable(&head, &error.to_string())))?;
        whole.extend_from_slice(&chunk);
    }
    let outcome = head.with(|head, now| classify(head, &whole, now));
    if outcome.kind != OutcomeKind::Success {
        return Err(Box::new(outcome));
    }
    transport::parse(&whole)
        .map_err(|error| Box::new(Outcome { kind: OutcomeKind::Malformed, ..outcome }.with_message(&error.to_string())))
}
