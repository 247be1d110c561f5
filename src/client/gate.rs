//! The driver of the scheduler: it owns the state all calls share, carries actions to the calls they are for, and sees
//! to it that somebody looks when the scheduler's next wake comes.
//!
//! Whoever comes by pumps: it polls the scheduler, drops each action into the mailbox of its call and wakes that call.
//! When the next wake comes and nobody comes by, a *watch* looks: a task that holds the one timer of all calls that wait
//! in a runtime. There is one in every such runtime, so no call hangs on another's future, which may be held without
//! being polled (in a `select!` loop, say), or on another's runtime, which may stand still.
//!
//! Where tasks can't wait for others' sake (see [`runtime::Home`]) each waiter has a timer: one of them, the *keeper*,
//! for the next wake exactly, the others to look by themselves every second or two. It is woken when that comes to be
//! earlier. When the keeper ends, or is dropped, it wakes another to take its place, and whoever finds it late takes over.
//!
//! The lock is held for microseconds, never across an await, and never while a user's code runs.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::client::event::Event;
use crate::core::call::{Attempt, Failure, Ticket};
use crate::core::outcome::Outcome;
use crate::core::queue::WorkloadId;
use crate::core::route::RouteId;
use crate::core::scheduler::{self, Action, Done, JobSpec, Load, Scheduler, SubmitError};
use crate::core::time::Timestamp;
use crate::core::tokens::TokenCount;
use crate::runtime::{self, Clock, Home, Listener, Timer};
use crate::transport::Endpoint;

/// How often a waiter looks by itself at least, whoever else should have: between this and twice this.
const LOOK: Duration = Duration::from_secs(1);
/// Each waiter makes every other's look rarer by this, so that all together look at most 10,000 times a second.
const LOOK_PER_WAITER: Duration = Duration::from_micros(100);

pub(crate) struct Gate {
    state: Mutex<State>,
    pub(crate) clock: Clock,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) settings: Settings,
    listeners: Vec<Box<Listener>>,
}

/// What calls need to know besides what the scheduler does.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The largest body of an answer that is read whole, in bytes.
    pub(crate) max_body: usize,
    /// The largest event of a stream, in bytes.
    pub(crate) max_event: usize,
    /// Whether some route counts tokens, so that estimating them is worth it.
    pub(crate) counts_tokens: bool,
    pub(crate) retry: crate::core::backoff::RetryPolicy,
    /// The total time of calls that bring no deadline of their own.
    pub(crate) deadline: Option<Duration>,
}

impl Settings {
    /// About how many tokens a request will take, if that is of interest; the answer's usage corrects it.
    pub(crate) fn expected_tokens(&self, prompt: impl FnOnce() -> u64, max_completion: Option<u64>) -> u32 {
        /// What a request is taken to generate at most.
        const USUAL_COMPLETION: u64 = 1024;
        if !self.counts_tokens {
            return 0;
        }
        let completion = max_completion.unwrap_or(USUAL_COMPLETION).min(USUAL_COMPLETION);
        u32::try_from(prompt().saturating_add(completion)).unwrap_or(u32::MAX)
    }
}

struct State {
    scheduler: Scheduler,
    mailboxes: Mailboxes,
    watches: Vec<Watch>,
    /// Where there is no watch: who looks when the next wake comes, and when it will look.
    keeper: Option<(Ticket, Timestamp)>,
    rng: fastrand::Rng,
    /// Who waits for everything in flight to end.
    draining: Vec<Waker>,
}

/// The task that looks out for a runtime's calls.
struct Watch {
    home: Home,
    /// When it will look.
    at: Timestamp,
    waker: Option<Waker>,
}

/// What waits for each call, in the places that the scheduler has given them.
#[derive(Default)]
struct Mailboxes {
    places: Vec<Option<Mailbox>>,
    /// Those of calls that are over and have not looked since, whose places are other calls' by now.
    displaced: HashMap<Ticket, Mailbox>,
    count: u32,
}

struct Mailbox {
    serial: u32,
    /// Nearly always there is one order at a time.
    order: Option<Order>,
    later: VecDeque<Order>,
    waker: Option<Waker>,
}

impl Mailboxes {
    fn open(&mut self, ticket: Ticket) {
        let place = ticket.index as usize;
        if place >= self.places.len() {
            self.places.resize_with(place + 1, || None);
        }
        let new = Mailbox { serial: ticket.serial, order: None, later: VecDeque::new(), waker: None };
        if let Some(old) = self.places[place].replace(new) {
            self.displaced.insert(Ticket { serial: old.serial, ..ticket }, old);
        }
        self.count += 1;
    }

    fn get(&mut self, ticket: Ticket) -> Option<&mut Mailbox> {
        match self.places.get_mut(ticket.index as usize)? {
            Some(mailbox) if mailbox.serial == ticket.serial => Some(mailbox),
            _ => self.displaced.get_mut(&ticket),
        }
    }

    /// Sees to it that a call is woken when there is something for it. What it replaces is to be dropped without the lock.
    fn wait(&mut self, ticket: Ticket, cx: &Context<'_>) -> Option<Waker> {
        let mailbox = self.get(ticket)?;
        let waits = mailbox.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if waits { None } else { mailbox.waker.replace(cx.waker().clone()) }
    }

    /// Closes a mailbox. What it held for a waker is to be dropped without the lock.
    fn close(&mut self, ticket: Ticket) -> Option<Waker> {
        let place = self.places.get_mut(ticket.index as usize)?;
        let mailbox = match place {
            Some(mailbox) if mailbox.serial == ticket.serial => place.take(),
            _ => self.displaced.remove(&ticket),
        }?;
        self.count -= 1;
        mailbox.waker
    }

    /// Everybody who waits. Who was displaced does not: there is an order for it.
    fn wakers(&mut self) -> impl Iterator<Item = Waker> {
        self.places.iter_mut().flatten().filter_map(|mailbox| mailbox.waker.take())
    }
}

impl Mailbox {
    fn put(&mut self, order: Order) {
        match self.order {
            None => self.order = Some(order),
            Some(_) => self.later.push_back(order),
        }
    }

    fn take(&mut self) -> Option<Order> {
        std::mem::replace(&mut self.order, self.later.pop_front())
    }
}

/// What a call is told to do.
#[derive(Debug)]
pub(crate) enum Order {
    Send(Sending),
    Abort,
    End(Result<Done, Box<Failure>>),
}

/// An attempt to be made.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) attempt: Attempt,
    pub(crate) route: RouteId,
    pub(crate) rename: Option<Box<str>>,
}

/// What is to be done once the lock is released.
#[derive(Default)]
struct Effects {
    wake: Wakers,
    events: Vec<Event>,
    /// A waker that is needed no more: the last one of a task may drop that task, and the calls in it.
    dropped: Option<Waker>,
    /// A runtime in which a watch is to be set up.
    unwatched: Option<Home>,
}

/// Nearly always there is one at most.
#[derive(Default)]
struct Wakers {
    first: Option<Waker>,
    others: Vec<Waker>,
}

impl Wakers {
    fn add(&mut self, waker: Option<Waker>) {
        match self.first {
            None => self.first = waker,
            Some(_) => self.others.extend(waker),
        }
    }

    fn wake(self) {
        if let Some(first) = self.first {
            first.wake();
        }
        if !self.others.is_empty() {
            self.others.into_iter().for_each(Waker::wake);
        }
    }
}

impl State {
    /// Carries out what the scheduler wants done.
    fn pump(&mut self, now: Timestamp, effects: &mut Effects) {
        while let Some(action) = self.scheduler.poll(now) {
            match action {
                Action::Send { attempt, route, rename } => {
                    self.deliver(now, attempt.ticket, Order::Send(Sending { attempt, route, rename }), effects)
                }
                Action::Abort { attempt } => self.deliver(now, attempt.ticket, Order::Abort, effects),
                Action::End { ticket, result } => self.deliver(now, ticket, Order::End(result), effects),
                Action::Notify(notice) => effects.events.extend(Event::of(notice, &self.scheduler)),
            }
        }
        if !self.draining.is_empty() && self.scheduler.load().in_flight == 0 {
            effects.wake.others.append(&mut self.draining);
        }
        let next = self.next_wake();
        for watch in &mut self.watches {
            if next < watch.at {
                effects.wake.add(watch.waker.take());
            }
        }
        if let Some((keeper, at)) = self.keeper
            && next < at
            && let Some(mailbox) = self.mailboxes.get(keeper)
        {
            effects.wake.add(mailbox.waker.take());
        }
    }

    fn next_wake(&self) -> Timestamp {
        self.scheduler.next_wake().unwrap_or(Timestamp::MAX)
    }

    /// Sees to it that a task of the runtime `home` looks out.
    fn see_watched(&mut self, home: Home, effects: &mut Effects) {
        if !self.watches.iter().any(|watch| watch.home == home) {
            self.watches.push(Watch { home, at: Timestamp::MAX, waker: None });
            effects.unwatched = Some(home);
        }
    }

    fn deliver(&mut self, now: Timestamp, ticket: Ticket, order: Order, effects: &mut Effects) {
        match self.mailboxes.get(ticket) {
            Some(mailbox) => {
                mailbox.put(order);
                effects.wake.add(mailbox.waker.take());
            }
            // Nobody is there to use the permit.
            None => {
                self.scheduler.cancel(now, ticket);
            }
        }
    }

    /// A call's next order. After the last one the call is forgotten.
    fn take_order(&mut self, ticket: Ticket, effects: &mut Effects) -> Option<Order> {
        let order = self.mailboxes.get(ticket)?.take();
        if matches!(order, Some(Order::End(_))) {
            self.forget(ticket, effects);
        }
        order
    }

    /// Forgets a call that is over; if it was the keeper, another waiter is woken to take its place.
    fn forget(&mut self, ticket: Ticket, effects: &mut Effects) {
        effects.dropped = self.mailboxes.close(ticket);
        if self.keeper.is_some_and(|(keeper, _)| keeper == ticket) {
            self.keeper = None;
            effects.wake.add(self.mailboxes.wakers().next());
        }
    }

    /// When `ticket` must look again: exactly at the next wake if it is the keeper, or becomes it.
    fn look_at(&mut self, now: Timestamp, ticket: Ticket) -> Timestamp {
        let next = self.next_wake();
        match self.keeper {
            Some((keeper, at)) if keeper != ticket && at <= next && at > now => Timestamp::MAX,
            _ => {
                self.keeper = Some((ticket, next));
                next
            }
        }
    }
}

impl Gate {
    pub(crate) fn new(
        mut scheduler: Scheduler,
        endpoints: Vec<Endpoint>,
        settings: Settings,
        listeners: Vec<Box<Listener>>,
        seed: u64,
    ) -> Self {
        scheduler.set_notices(!listeners.is_empty());
        let state = State {
            scheduler,
            mailboxes: Mailboxes::default(),
            watches: Vec::new(),
            keeper: None,
            rng: fastrand::Rng::with_seed(seed),
            draining: Vec::new(),
        };
        Self { state: Mutex::new(state), clock: Clock::start(), endpoints, settings, listeners }
    }

    /// A panic elsewhere while the lock was held has not made the state useless.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, effects: Effects) {
        effects.wake.wake();
        if !effects.events.is_empty() {
            for event in effects.events {
                self.listeners.iter().for_each(|listener| listener(&event));
            }
        }
    }

    /// Does something to the scheduler and carries out what follows.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Scheduler, Timestamp) -> T) -> T {
        let mut effects = Effects::default();
        let done = {
            let state = &mut *self.lock();
            let now = self.clock.now();
            let done = act(&mut state.scheduler, now);
            state.pump(now, &mut effects);
            done
        };
        self.apply(effects);
        done
    }

    pub(crate) fn load(&self) -> Load {
        self.lock().scheduler.load()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().scheduler.is_closed()
    }

    pub(crate) fn endpoint(&self, route: RouteId) -> &Endpoint {
        &self.endpoints[route.index()]
    }

    /// Strikes every route's keys out of what was said: a provider behind a provider may echo any of them.
    pub(crate) fn scrub(&self, outcome: Outcome) -> Outcome {
        self.endpoints.iter().fold(outcome, |outcome, endpoint| endpoint.scrub(outcome))
    }

    /// A random number between 0 and 1.
    pub(crate) fn with_rng<T>(&self, act: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        act(&mut self.lock().rng)
    }

    /// Takes a call in, of the workload `normal` if none is named. It is the caller's to drive, by polling its orders.
    pub(crate) fn submit<'a>(
        self: Arc<Self>,
        workload: Option<&str>,
        spec: impl FnOnce(WorkloadId) -> JobSpec<'a>,
    ) -> Result<Call, SubmitError> {
        let mut effects = Effects::default();
        let (ticket, held) = {
            let state = &mut *self.lock();
            let now = self.clock.now();
            let workload = workload.map_or(WorkloadId::NORMAL, |name| state.scheduler.workload(name));
            let ticket = state.scheduler.submit(now, spec(workload))?;
            state.mailboxes.open(ticket);
            // Where there is room it is sent at once.
            state.pump(now, &mut effects);
            (ticket, state.take_order(ticket, &mut effects))
        };
        let over = matches!(held, Some(Order::End(_)));
        // Made before a listener is told: if that panics, the call is given up like any that is dropped.
        let call = Call { gate: self, ticket, timer: Timer::default(), look: Timestamp::ZERO, held, over };
        call.gate.apply(effects);
        Ok(call)
    }

    /// Ready once nothing is in flight. For a gate that admits nothing any more.
    pub(crate) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = &mut *self.lock();
        if state.scheduler.load().in_flight == 0 {
            return Poll::Ready(());
        }
        if !state.draining.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.draining.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Nothing is left to look out for.
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.watches.iter_mut().filter_map(|watch| watch.waker.take()).for_each(Waker::wake);
    }
}

/// The task behind a [`Watch`]. It ends with the gate, or with its runtime: then whoever waits in another sets up a new
/// one there, if there is none.
struct Watchman {
    gate: Weak<Gate>,
    home: Home,
}

impl Watchman {
    async fn watch(self, mut timer: Timer) {
        poll_fn(|cx| {
            loop {
                let Some(gate) = self.gate.upgrade() else { return Poll::Ready(()) };
                let mut effects = Effects::default();
                let next = {
                    let state = &mut *gate.lock();
                    let now = gate.clock.now();
                    if state.next_wake() <= now {
                        state.pump(now, &mut effects);
                    }
                    let next = if state.mailboxes.count == 0 { Timestamp::MAX } else { state.next_wake() };
                    if let Some(watch) = state.watches.iter_mut().find(|watch| watch.home == self.home) {
                        watch.at = next;
                        effects.dropped = watch.waker.replace(cx.waker().clone());
                    }
                    next
                };
                gate.apply(effects);
                timer.set(&gate.clock, (next != Timestamp::MAX).then_some(next));
                std::task::ready!(timer.poll(&gate.clock, cx));
            }
        })
        .await;
    }
}

impl Drop for Watchman {
    fn drop(&mut self) {
        let Some(gate) = self.gate.upgrade() else { return };
        let mut effects = Effects::default();
        {
            let state = &mut *gate.lock();
            state.watches.retain(|watch| watch.home != self.home);
            effects.wake.others.extend(state.mailboxes.wakers());
        }
        gate.apply(effects);
    }
}

/// A call under way. Dropping it cancels it: its permit comes back at once. Whoever drops it drops its connection first.
pub(crate) struct Call {
    gate: Arc<Gate>,
    ticket: Ticket,
    timer: Timer,
    /// When to look by itself.
    look: Timestamp,
    /// An order that came while an attempt was under way and is still to be obeyed.
    held: Option<Order>,
    over: bool,
}

impl Call {
    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// What to do next.
    pub(crate) async fn order(&mut self) -> Order {
        poll_fn(|cx| self.poll_order(cx)).await
    }

    /// How the call ended, if it was answered: known as soon as the success of an attempt under way has been reported.
    pub(crate) fn answered(&mut self) -> Option<Done> {
        match self.held.take() {
            Some(Order::End(Ok(done))) => Some(done),
            other => {
                self.held = other;
                None
            }
        }
    }

    /// Drives `future`, which belongs to the attempt under way. `None`: the attempt is over, whatever `future` would
    /// have said; drop what belongs to it.
    pub(crate) async fn race<F: Future>(&mut self, future: Pin<&mut F>) -> Option<F::Output> {
        let output = self.drive(future).await?;
        (!self.is_over()).then_some(output)
    }

    /// The same for whoever asks later whether the attempt is over: what `future` says counts for nothing if it is.
    pub(crate) async fn drive<F: Future>(&mut self, mut future: Pin<&mut F>) -> Option<F::Output> {
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Pending => self.poll_over(cx).map(|()| None),
            ready => ready.map(Some),
        })
        .await
    }

    /// Whether the attempt under way is over, for whoever does not wait to hear of it.
    pub(crate) fn is_over(&mut self) -> bool {
        self.is_over_or(|_, _, _| {})
    }

    /// Reports that an answer is about to be handed out before it has ended, after which nothing is sent again. `false`:
    /// its attempt is over, perhaps only since a moment ago, and the answer is void.
    pub(crate) fn hand_out(&mut self, attempt: Attempt) -> bool {
        !self.is_over_or(|state, now, effects| {
            state.scheduler.on(now, attempt, scheduler::Event::Delivered);
            state.pump(now, effects);
        })
    }

    /// Does something if the attempt under way is not over, which nobody else can end meanwhile.
    fn is_over_or(&mut self, act: impl FnOnce(&mut State, Timestamp, &mut Effects)) -> bool {
        if self.held.is_none() && !self.over {
            let mut effects = Effects::default();
            let order = {
                let state = &mut *self.gate.lock();
                let order = state.take_order(self.ticket, &mut effects);
                if order.is_none() {
                    act(state, self.gate.clock.now(), &mut effects);
                }
                order
            };
            self.hold(order);
            self.gate.apply(effects);
        }
        match self.held {
            Some(Order::Abort) => {
                self.held = None;
                true
            }
            Some(_) => true,
            None => false,
        }
    }

    /// Keeps an order until it is asked for.
    fn hold(&mut self, order: Option<Order>) {
        self.over |= matches!(order, Some(Order::End(_)));
        self.held = order;
    }

    /// Ready if the attempt under way is over.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match std::task::ready!(self.poll_order(cx)) {
            Order::Abort => {}
            order => self.held = Some(order),
        }
        Poll::Ready(())
    }

    pub(crate) fn poll_order(&mut self, cx: &mut Context<'_>) -> Poll<Order> {
        if let Some(order) = self.held.take() {
            return Poll::Ready(order);
        }
        if self.over {
            return Poll::Pending;
        }
        loop {
            let mut effects = Effects::default();
            let found = self.look(cx, &mut effects);
            if let Some(home) = effects.unwatched.take() {
                let watchman = Watchman { gate: Arc::downgrade(&self.gate), home };
                // Made here, for a runtime without timers panics: in a task of its own nobody would hear of it.
                let timer = Timer::off();
                // Without the lock: a runtime that is shutting down drops it at once.
                runtime::spawn(home, watchman.watch(timer));
            }
            self.gate.apply(effects);
            match found {
                Ok(order) => {
                    self.over |= matches!(order, Order::End(_));
                    return Poll::Ready(order);
                }
                Err(None) => return Poll::Pending,
                Err(Some(at)) => {
                    self.timer.set(&self.gate.clock, Some(at));
                    if self.timer.poll(&self.gate.clock, cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// An order, or when to look again; `None` if others see to that.
    fn look(&mut self, cx: &Context<'_>, effects: &mut Effects) -> Result<Order, Option<Timestamp>> {
        let state = &mut *self.gate.lock();
        if let Some(order) = state.take_order(self.ticket, effects) {
            return Ok(order);
        }
        if let Some(home) = runtime::home() {
            // Its watch looks out.
            effects.dropped = state.mailboxes.wait(self.ticket, cx);
            state.see_watched(home, effects);
            return Err(None);
        }
        let now = self.gate.clock.now();
        if state.next_wake() <= now {
            state.pump(now, effects);
            if let Some(order) = state.take_order(self.ticket, effects) {
                return Ok(order);
            }
        }
        effects.dropped = state.mailboxes.wait(self.ticket, cx);
        if self.look <= now {
            let span = LOOK + LOOK_PER_WAITER * state.mailboxes.count;
            self.look = now + span.mul_f64(1.0 + state.rng.f64());
        }
        Err(Some(state.look_at(now, self.ticket).min(self.look)))
    }

    /// Reports what happened to an attempt.
    pub(crate) fn report(&self, attempt: Attempt, event: scheduler::Event) {
        self.gate.with(|scheduler, now| scheduler.on(now, attempt, event));
    }

    /// Reports how an attempt ended. What follows from it for this call is kept until it is asked for.
    pub(crate) fn ended(&mut self, attempt: Attempt, outcome: Outcome, tokens: Option<TokenCount>) {
        let mut effects = Effects::default();
        // Whoever reports needs no waking to hear what follows. Dropped without the lock, like every waker.
        let mut own_waker = None;
        let order = {
            let state = &mut *self.gate.lock();
            let now = self.gate.clock.now();
            if self.held.is_none() {
                own_waker = state.mailboxes.get(self.ticket).and_then(|mailbox| mailbox.waker.take());
            }
            state.scheduler.on(now, attempt, scheduler::Event::Ended { outcome, tokens });
            state.pump(now, &mut effects);
            if self.held.is_none() { state.take_order(self.ticket, &mut effects) } else { None }
        };
        drop(own_waker);
        if order.is_some() {
            self.hold(order);
        }
        self.gate.apply(effects);
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("ticket", &self.ticket).field("over", &self.over).finish_non_exhaustive()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut effects = Effects::default();
        {
            let state = &mut *self.gate.lock();
            let now = self.gate.clock.now();
            state.scheduler.cancel(now, self.ticket);
            state.forget(self.ticket, &mut effects);
            state.pump(now, &mut effects);
        }
        self.gate.apply(effects);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::core::backoff::RetryPolicy;
    use crate::core::call::Clocks;
    use crate::core::route::RouteSpec;
    use crate::core::scheduler::Config;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn gate() -> Arc<Gate> {
        let scheduler = Scheduler::new(Config::new(vec![RouteSpec::new("one", "account")]), 1).unwrap();
        let retry = RetryPolicy::default();
        let settings = Settings { max_body: 1 << 20, max_event: 1 << 20, counts_tokens: false, retry, deadline: None };
        Arc::new(Gate::new(scheduler, Vec::new(), settings, Vec::new(), 1))
    }

    /// Sends a call whose first content may take so many seconds.
    fn send(gate: &Arc<Gate>, seconds: u64) -> Call {
        let clocks = Clocks { first_content: Some(Duration::from_secs(seconds)), ..Clocks::default() };
        let call =
            gate.clone().submit(None, |workload| JobSpec { clocks: Some(clocks), ..JobSpec::new("m", workload) });
        let call = call.unwrap();
        assert!(matches!(call.held, Some(Order::Send(_))));
        call
    }

    #[test]
    fn the_keeper_is_woken_when_the_next_wake_comes_to_be_earlier() {
        let gate = gate();
        let [first, second] = [(); 2].map(|()| send(&gate, 500));
        let (keeps, waits) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        {
            let state = &mut *gate.lock();
            let now = gate.clock.now();
            for (call, woken) in [(&first, &keeps), (&second, &waits)] {
                state.mailboxes.wait(call.ticket, &Context::from_waker(&Waker::from(woken.clone())));
            }
            let next = state.next_wake();
            assert_eq!([&first, &second].map(|call| state.look_at(now, call.ticket)), [next, Timestamp::MAX]);
        }
        let count = || [&keeps, &waits].map(|woken| woken.0.load(Ordering::SeqCst));
        let _later = send(&gate, 600);
        assert_eq!(count(), [0, 0]);
        // Nobody polls these.
        let _earlier = [400, 300].map(|seconds| send(&gate, seconds));
        assert_eq!(count(), [1, 0]);
        let state = &mut *gate.lock();
        let next = state.next_wake();
        assert_eq!(state.look_at(gate.clock.now(), first.ticket), next, "and looks at it");
    }
}
