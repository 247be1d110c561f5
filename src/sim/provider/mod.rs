//! The simulated provider as a machine without I/O: time and arrivals in, decisions and plans out.
//!
//! The socket server and clients on a virtual clock drive the same machine. For one scenario, seed and sequence of calls
//! it decides the same each time; and since the n-th *admitted* request always draws the same plan, whatever was
//! refused before it, two clients compared on one seed are given the same work.
//!
//! ```
//! use tidegate::core::time::Timestamp;
//! use tidegate::sim::{Arrival, Decision, Provider, Scenario};
//!
//! let mut provider = Provider::new(Scenario::constant(1).with_service_time(2.0), 42)?;
//! let now = Timestamp::ZERO;
//! let Decision::Admit(first) = provider.arrive(now, &Arrival::default()) else { panic!("the slot is free") };
//! let Decision::Reject(second) = provider.arrive(now, &Arrival::default()) else { panic!("the slot is taken") };
//! assert_eq!(second.status, 429);
//!
//! let end = now + first.plan.ends_at().expect("this scenario has no stalls");
//! provider.finish(end, first.id);
//! assert!(matches!(provider.arrive(end, &Arrival::default()), Decision::Admit(_)));
//! # Ok::<(), tidegate::sim::ScenarioError>(())
//! ```

mod lane;
mod plan;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::core::time::Timestamp;
use bytes::Bytes;

use self::lane::Lane;
use self::plan::duration;
use super::cap::CapTrack;
use super::errors::{self, ErrorBody};
use super::pace;
use super::scenario::{Balance, Scenario, ScenarioError, Window};
use super::tally::{ClientTally, RejectReason, Sample, Tally};

pub use self::plan::{End, Plan};

/// The wall clock at the provider's start unless [`Provider::set_wall_clock`] says otherwise: 2026-01-01, so that
/// runs without sockets are the same each time.
const DEFAULT_WALL_CLOCK: Duration = Duration::from_secs(1_767_225_600);

/// A request as the provider sees it arrive.
#[derive(Clone, Debug)]
pub struct Arrival<'a> {
    /// The API key.
    pub key: Option<&'a str>,
    /// The client's name in the tally. Without one, the end of its key.
    pub client: Option<&'a str>,
    /// The model asked for.
    pub model: &'a str,
    /// DeepSeek's `user_id`; none is the empty id.
    pub user_id: Option<&'a str>,
    /// What names the request in the tally, so that one answered twice is noticed.
    pub tag: Option<&'a str>,
    /// Length of the prompt in tokens.
    pub prompt_tokens: u32,
    /// The longest answer allowed, in tokens.
    pub max_tokens: u32,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether the answer begins with reasoning.
    pub thinking: bool,
    /// How long inference takes for this request, instead of what the scenario draws.
    pub service: Option<Duration>,
}

impl Default for Arrival<'_> {
    /// A streamed request of 100 tokens to `deepseek-flash`, with a key and without anything else.
    fn default() -> Self {
        Self {
            key: Some("sk-simulated-key"),
            client: None,
            model: "deepseek-flash",
            user_id: None,
            tag: None,
            prompt_tokens: 100,
            max_tokens: 8192,
            stream: true,
            thinking: false,
            service: None,
        }
    }
}

/// What the provider does with an arrival.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It is refused; it takes no slot.
    Reject(Rejected),
    /// The connection is reset without an answer; it takes no slot.
    Reset,
    /// It takes a slot until [`Provider::finish`] or [`Provider::disconnect`].
    Admit(Admission),
}

/// A refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// Why, in the tally's words.
    pub reason: RejectReason,
    /// The HTTP status.
    pub status: u16,
    /// `content-type`, if it has one.
    pub content_type: Option<&'static str>,
    /// Other headers, names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
    /// How long after the arrival the client is told. The decision was made at the arrival.
    pub after: Duration,
}

/// Names an admitted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlightId(u64);

impl FlightId {
    /// The number: admissions count from 0.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// A request that was admitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    /// Its name, for [`Provider::finish`] and [`Provider::disconnect`].
    pub id: FlightId,
    /// What will happen to it.
    pub plan: Plan,
    /// Headers the answer carries, such as `x-ratelimit-*`; empty without rate limits.
    pub headers: Vec<(&'static str, String)>,
}

/// The places of a lane at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// As many as there would be if none had been cut for an excess.
    pub(super) uncut: u32,
    /// As many as there are.
    pub(super) cap: u32,
    /// Of these taken; more, where the cap fell.
    pub(super) taken: u32,
}

/// The provider. See the [module](self).
#[derive(Debug)]
pub struct Provider {
    scenario: Scenario,
    seed: u64,
    wall_clock: SystemTime,
    /// The latest time handed in; earlier ones are read as this.
    now: Timestamp,
    accounts: Vec<AccountState>,
    account_of_key: HashMap<String, usize>,
    lanes: Vec<Lane>,
    flights: HashMap<FlightId, Flight>,
    admissions: u64,
    completions: HashMap<Box<str>, u32>,
    /// Everything counted, but for the lanes and what is derived from the other fields.
    counts: Tally,
    clients: BTreeMap<Arc<str>, ClientTally>,
}

#[derive(Debug)]
struct AccountState {
    name: String,
    balance: Option<Balance>,
    lane_of_model: HashMap<String, usize>,
}

impl AccountState {
    fn cap(&self) -> u32 {
        self.balance.as_ref().and_then(|b| b.cap_at(b.amount)).unwrap_or(u32::MAX)
    }
}

/// An admitted request that has not ended.
#[derive(Debug)]
struct Flight {
    lane: usize,
    user: Option<Box<str>>,
    client: Arc<str>,
    tag: Option<Box<str>>,
    tokens: u64,
    end: End,
}

/// A well-mixed seed for the `index`-th draw of a kind (the finalizer of splitmix64,
/// <https://prng.di.unimi.it/splitmix64.c>).
fn mix(seed: u64, kind: u64, index: u64) -> u64 {
    let mut z = seed ^ kind.wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

const CAP_DRAW: u64 = 1;
const ARRIVAL_DRAW: u64 = 2;
const PLAN_DRAW: u64 = 3;
const LAG_DRAW: u64 = 4;

impl Provider {
    /// A provider that follows `scenario`; `seed` fixes everything random.
    ///
    /// # Errors
    /// A scenario that makes no sense, see [`Scenario::check`].
    pub fn new(scenario: Scenario, seed: u64) -> Result<Self, ScenarioError> {
        scenario.check()?;
        let mut account_of_key = HashMap::new();
        let mut accounts: Vec<_> = (scenario.accounts.iter().enumerate())
            .map(|(i, account)| {
                account_of_key.extend(account.keys.iter().map(|key| (key.clone(), i)));
                AccountState {
                    name: account.name.clone(),
                    balance: account.balance.clone().or_else(|| scenario.balance.clone()),
                    lane_of_model: HashMap::new(),
                }
            })
            .collect();
        if accounts.is_empty() {
            accounts.push(AccountState {
                name: "default".to_owned(),
                balance: scenario.balance.clone(),
                lane_of_model: HashMap::new(),
            });
        }
        Ok(Self {
            scenario,
            seed,
            wall_clock: SystemTime::UNIX_EPOCH + DEFAULT_WALL_CLOCK,
            now: Timestamp::ZERO,
            accounts,
            account_of_key,
            lanes: Vec::new(),
            flights: HashMap::new(),
            admissions: 0,
            completions: HashMap::new(),
            counts: Tally::default(),
            clients: BTreeMap::new(),
        })
    }

    /// Says what time of day it is at [`Timestamp::ZERO`], for HTTP dates. Default: 2026-01-01 00:00 UTC.
    pub fn set_wall_clock(&mut self, at_zero: SystemTime) {
        self.wall_clock = at_zero;
    }

    /// The scenario it follows.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The cap in force at `now` for `model` on the account of `key` (the default account without one): what a client
    /// would have to know. Zero for a key or model that does not exist.
    pub fn cap(&mut self, now: Timestamp, key: Option<&str>, model: &str) -> u32 {
        let now = self.observe(now);
        let Some(lane) = self.account(key).and_then(|account| self.lane(account, model)) else { return 0 };
        let account_cap = self.advance(lane, now);
        self.lanes.get_mut(lane).map_or(0, |lane| lane.cap(account_cap))
    }

    /// Requests the provider counts as in flight for `model` on the account of `key`, at `now`.
    pub fn in_flight(&mut self, now: Timestamp, key: Option<&str>, model: &str) -> u32 {
        let now = self.observe(now);
        let Some(lane) = self.account(key).and_then(|account| self.lane(account, model)) else { return 0 };
        self.advance(lane, now);
        self.lanes.get(lane).map_or(0, |lane| lane.in_flight)
    }

    /// A request arrives.
    pub fn arrive(&mut self, now: Timestamp, arrival: &Arrival<'_>) -> Decision {
        let now = self.observe(now);
        let client = self.count_arrival(arrival.client, arrival.key);
        match self.decide(now, arrival) {
            Ok(lane) => {
                let admission = self.admit(now, lane, arrival, client);
                Decision::Admit(admission)
            }
            Err(rejected) => {
                self.count_rejection(&client, rejected.reason);
                if rejected.reason == RejectReason::Reset { Decision::Reset } else { Decision::Reject(*rejected) }
            }
        }
    }

    /// Why an arrival would certainly be refused at `now`, or `None` if it would be admitted but for chance (a window
    /// or fault that strikes some). Counts nothing: it is what a client that knew everything would know.
    pub fn closed(&mut self, now: Timestamp, arrival: &Arrival<'_>) -> Option<RejectReason> {
        let now = self.observe(now);
        let lane = match self.lane_for(arrival) {
            Ok(lane) => lane,
            Err(rejected) => return Some(rejected.reason),
        };
        if let Some(window) = self.windows_at(now).find(|w| w.probability >= 1.0) {
            return Some(reason_of_status(window.status));
        }
        self.refusal_of_lane(now, lane, arrival).err().map(|rejected| rejected.reason)
    }

    /// The first moment after `now` at which what [`closed`](Self::closed) says of `arrival` may change by itself, that
    /// is without a request ending.
    pub fn next_change(&mut self, now: Timestamp, arrival: &Arrival<'_>) -> Option<Timestamp> {
        let now = self.observe(now);
        let lane = self.lane_for(arrival).ok()?;
        self.advance(lane, now);
        let tokens = self.tokens_of(arrival);
        let lane = self.lanes.get_mut(lane)?;
        lane.pace.advance(now);
        let edges =
            (self.scenario.windows.iter()).flat_map(|w| [Some(w.from), w.to]).flatten().map(Timestamp::from_secs_f64);
        [lane.track.next_change(now), Some(lane.punished_until), lane.next_linger_end()]
            .into_iter()
            .flatten()
            .chain(edges)
            .chain([now + lane.pace.until_room(tokens)])
            .filter(|&at| at > now)
            .min()
    }

    /// An admitted request has come to its planned end; its slot is free after the scenario's `release_lag`. Does
    /// nothing for a request that has already ended.
    pub fn finish(&mut self, now: Timestamp, id: FlightId) {
        let now = self.observe(now);
        let Some(flight) = self.flights.remove(&id) else { return };
        self.advance(flight.lane, now);
        let free = now + self.release_lag(id);
        let account = self.lanes.get_mut(flight.lane).map(|lane| {
            lane.release_at(free, now, flight.user);
            lane.account
        });
        if flight.end != End::Complete {
            *self.counts.faulted.entry(flight.end).or_default() += 1;
            return;
        }
        self.counts.completed += 1;
        if let Some(client) = self.clients.get_mut(&flight.client) {
            client.completed += 1;
        }
        if let Some(tag) = flight.tag {
            let times = self.completions.entry(tag.clone()).or_default();
            *times += 1;
            if *times > 1 {
                self.counts.duplicates.insert(tag.into(), *times);
            }
        }
        if let Some(account) = account {
            self.charge(now, account, flight.tokens);
        }
    }

    /// The client of an admitted request has gone. Its slot is free after the scenario's `linger`. Does nothing for a
    /// request that has already ended.
    pub fn disconnect(&mut self, now: Timestamp, id: FlightId) {
        let now = self.observe(now);
        let Some(flight) = self.flights.remove(&id) else { return };
        self.advance(flight.lane, now);
        self.counts.disconnected += 1;
        if let Some(client) = self.clients.get_mut(&flight.client) {
            client.disconnected += 1;
        }
        let free = now.plus_secs(self.scenario.linger);
        if let Some(lane) = self.lanes.get_mut(flight.lane) {
            lane.release_at(free, now, flight.user);
        }
    }

    /// How long the place of a request is still taken once its answer has ended.
    pub(super) fn release_lag(&self, id: FlightId) -> Duration {
        let mut rng = fastrand::Rng::with_seed(mix(self.seed, LAG_DRAW, id.0));
        duration(self.scenario.release_lag.draw(&mut rng))
    }

    /// What the provider saw up to `now`.
    pub fn tally(&mut self, now: Timestamp) -> Tally {
        let now = self.observe(now);
        let mut tally = self.counts.clone();
        tally.now = now.as_secs_f64();
        tally.in_flight = self.flights.len() as u64;
        tally.distinct_completed = self.completions.len() as u64;
        tally.clients = self.clients.iter().map(|(name, client)| (name.to_string(), client.clone())).collect();
        for i in 0..self.lanes.len() {
            let account_cap = self.advance(i, now);
            if let Some(lane) = self.lanes.get_mut(i) {
                let account = self.accounts.get(lane.account).map_or("", |account| account.name.as_str());
                tally.lanes.extend(lane.tally(account, account_cap));
            }
        }
        tally
    }

    /// All lanes together at `now`: caps, requests in flight and slot rejections added up. `None` before the first
    /// arrival.
    pub fn sample(&mut self, now: Timestamp) -> Option<Sample> {
        let now = self.observe(now);
        let mut total: Option<Sample> = None;
        for index in 0..self.lanes.len() {
            let account_cap = self.advance(index, now);
            let Some(lane) = self.lanes.get_mut(index).filter(|lane| lane.from.is_some()) else { continue };
            let cap = lane.cap(account_cap);
            let sum = total.get_or_insert(Sample { at: now.as_secs_f64(), cap: 0, in_flight: 0, rejected: 0 });
            sum.cap = sum.cap.saturating_add(cap);
            sum.in_flight = sum.in_flight.saturating_add(lane.in_flight);
            sum.rejected += lane.slot_rejections;
        }
        total
    }

    /// The places of the only lane at `now`, and until when they stay so by themselves. While every request is refused
    /// because of an outage, there are none but those taken; where there is a limit on requests in a rolling window, its
    /// places are meant. `None` before the first arrival, and where there are several lanes.
    pub(super) fn room(&mut self, now: Timestamp) -> Option<(Room, Option<Timestamp>)> {
        let now = self.observe(now);
        let account_cap = self.advance(0, now);
        let closed = self.windows_at(now).any(|window| window.probability >= 1.0);
        let edges =
            (self.scenario.windows.iter()).flat_map(|w| [Some(w.from), w.to]).flatten().map(Timestamp::from_secs_f64);
        let edge = edges.filter(|&at| at > now).min();
        let [lane] = &mut self.lanes[..] else { return None };
        lane.from?;
        lane.pace.advance(now);
        let mut room = Room { uncut: lane.uncut(account_cap), cap: lane.cap(account_cap), taken: lane.in_flight };
        let pace = lane.pace.places();
        if let Some((limit, taken, _)) = pace {
            room = Room { uncut: limit, cap: limit, taken };
        }
        if closed {
            room.cap = room.cap.min(room.taken);
            room.uncut = room.cap;
        }
        let changes = [lane.track.next_change(now), Some(lane.punished_until), lane.next_linger_end()];
        let until = changes.into_iter().chain([edge, pace.and_then(|(.., until)| until)]).flatten();
        Some((room, until.filter(|&at| at > now).min()))
    }

    /// How often a request with this tag was answered whole.
    pub fn completions_of(&self, tag: &str) -> u32 {
        self.completions.get(tag).copied().unwrap_or(0)
    }

    /// What is left of the balance of `key`'s account, and its currency; `None` for an account whose money never ends
    /// or a key nobody has.
    pub fn balance(&self, key: Option<&str>) -> Option<(f64, &str)> {
        let balance = self.accounts.get(self.account(key)?)?.balance.as_ref()?;
        Some((balance.amount, &balance.currency))
    }

    /// The refusal a key gets before anything else is looked at: none given, or one nobody has.
    pub(crate) fn authenticate(&self, key: Option<&str>) -> Result<(), Rejected> {
        match (key, self.account(key)) {
            (_, Some(_)) => Ok(()),
            (None, None) => Err(refused(RejectReason::Authentication, 401, errors::no_key())),
            (Some(key), None) => Err(refused(RejectReason::Authentication, 401, errors::wrong_key(key))),
        }
    }

    fn observe(&mut self, now: Timestamp) -> Timestamp {
        self.now = self.now.max(now);
        self.now
    }

    fn count_arrival(&mut self, client: Option<&str>, key: Option<&str>) -> Arc<str> {
        self.counts.requests += 1;
        let shown;
        let name = match (client, key) {
            (Some(client), _) => client,
            (None, Some(key)) => {
                shown = errors::masked(key);
                &shown
            }
            (None, None) => "no key",
        };
        let name = match self.clients.get_key_value(name) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::from(name),
        };
        self.clients.entry(Arc::clone(&name)).or_default().requests += 1;
        name
    }

    fn count_rejection(&mut self, client: &str, reason: RejectReason) {
        *self.counts.rejected.entry(reason).or_default() += 1;
        if let Some(client) = self.clients.get_mut(client) {
            *client.rejected.entry(reason).or_default() += 1;
        }
    }

    fn account(&self, key: Option<&str>) -> Option<usize> {
        match key {
            None => (!self.scenario.require_key).then_some(0),
            Some(_) if self.scenario.accounts.is_empty() => Some(0),
            Some(key) => self.account_of_key.get(key).copied(),
        }
    }

    fn lane(&mut self, account: usize, model: &str) -> Option<usize> {
        if let Some(&lane) = self.accounts.get(account)?.lane_of_model.get(model) {
            return Some(lane);
        }
        if !self.scenario.model_names().contains(model) {
            return None;
        }
        let own = self.scenario.accounts.get(account).and_then(|account| account.cap.as_ref());
        let index = self.lanes.len();
        let track = match own.or_else(|| self.scenario.models.get(model)).or(self.scenario.cap.as_ref()) {
            // One walk for all lanes would be one more thing to keep apart: each has its own.
            Some(cap) => CapTrack::new(cap, mix(self.seed, CAP_DRAW, index as u64)),
            None => CapTrack::published(model),
        };
        let punish_to = self.scenario.punish.as_ref().map_or(1.0, |punish| punish.to);
        self.lanes.push(Lane::new(account, model, track, punish_to, &self.scenario.rate));
        self.accounts.get_mut(account)?.lane_of_model.insert(model.to_owned(), index);
        Some(index)
    }

    /// Brings a lane up to `now`; the cap its account's balance allows.
    fn advance(&mut self, lane: usize, now: Timestamp) -> u32 {
        let Some(lane) = self.lanes.get_mut(lane) else { return 0 };
        let account_cap = self.accounts.get(lane.account).map_or(u32::MAX, AccountState::cap);
        lane.advance(now, account_cap);
        account_cap
    }

    fn windows_at(&self, now: Timestamp) -> impl Iterator<Item = &Window> {
        (self.scenario.windows.iter()).filter(move |w| {
            Timestamp::from_secs_f64(w.from) <= now && w.to.is_none_or(|to| now < Timestamp::from_secs_f64(to))
        })
    }

    /// The lane of an arrival whose key and model are good.
    fn lane_for(&mut self, arrival: &Arrival<'_>) -> Result<usize, Box<Rejected>> {
        self.authenticate(arrival.key)?;
        let lane = self.account(arrival.key).and_then(|account| self.lane(account, arrival.model));
        lane.ok_or_else(|| {
            let names: Vec<_> = self.scenario.model_names().into_iter().collect();
            let message =
                format!("The supported API model names are {}, but you passed {}.", names.join(" or "), arrival.model);
            Box::new(refused(RejectReason::BadRequest, 400, errors::bad_request(&message)))
        })
    }

    /// The lane that takes the arrival, or its refusal.
    fn decide(&mut self, now: Timestamp, arrival: &Arrival<'_>) -> Result<usize, Box<Rejected>> {
        let mut rng = fastrand::Rng::with_seed(mix(self.seed, ARRIVAL_DRAW, self.counts.requests));
        let lane = self.lane_for(arrival)?;
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.begin(now);
        }
        if rng.f64() < self.scenario.faults.reset {
            return Err(Box::new(refused(
                RejectReason::Reset,
                0,
                ErrorBody { content_type: None, body: Bytes::new() },
            )));
        }
        if let Some(window) = self.windows_at(now).find(|w| rng.f64() < w.probability) {
            let after = duration(window.latency);
            let body = errors::of_status(self.scenario.rejection.body, window.status);
            let mut rejected = refused(reason_of_status(window.status), window.status, body);
            let wait = errors::configured_wait(window.retry_after);
            let wall = self.wall_at(now + after);
            rejected.headers.extend(errors::retry_after(window.retry_after.form, wait, wall));
            rejected.after = after;
            return Err(Box::new(rejected));
        }
        let refusal = self.refusal_of_lane(now, lane, arrival);
        if let Err(rejected) = &refusal
            && rejected.reason.is_slot()
            && let Some(lane) = self.lanes.get_mut(lane)
        {
            lane.slot_rejections += 1;
            if let (RejectReason::Slot, Some(punish)) = (rejected.reason, &self.scenario.punish) {
                lane.punished_until = now.plus_secs(punish.seconds);
            }
        }
        refusal.map(|()| lane)
    }

    /// Balance, slots and pace.
    fn refusal_of_lane(&mut self, now: Timestamp, index: usize, arrival: &Arrival<'_>) -> Result<(), Box<Rejected>> {
        let account_cap = self.advance(index, now);
        let style = self.scenario.rejection.body;
        let Some(lane) = self.lanes.get_mut(index) else { return Ok(()) };
        let broke = (self.accounts.get(lane.account))
            .and_then(|account| account.balance.as_ref())
            .is_some_and(|balance| balance.amount <= 0.0);
        if broke {
            return Err(Box::new(refused(RejectReason::Balance, 402, errors::of_status(style, 402))));
        }
        let cap = lane.cap(account_cap);
        if lane.in_flight >= cap {
            let body = errors::too_many_at_once(style, lane.in_flight.saturating_add(1), cap);
            return Err(Box::new(self.too_many(now, RejectReason::Slot, body)));
        }
        if let Some(user_cap) = self.scenario.user_cap {
            let of_user = lane.by_user.get(arrival.user_id.unwrap_or("")).copied().unwrap_or(0);
            if of_user >= user_cap {
                let body = errors::too_many_at_once(style, of_user.saturating_add(1), user_cap);
                return Err(Box::new(self.too_many(now, RejectReason::UserSlot, body)));
            }
        }
        let tokens = self.tokens_of(arrival);
        let Some(lane) = self.lanes.get_mut(index) else { return Ok(()) };
        lane.pace.advance(now);
        let Some(reason) = lane.pace.refusal(tokens) else { return Ok(()) };
        let wait = lane.pace.until_room(tokens);
        let body = errors::too_fast(style, if reason == RejectReason::Rpm { "RPM" } else { "TPM" });
        let mut rejected = self.too_many(now, reason, body);
        let form = self.scenario.rejection.retry_after.form;
        rejected.headers.extend(self.rate_headers(index));
        rejected.headers.extend(errors::retry_after(form, wait, self.wall_at(now)));
        Err(Box::new(rejected))
    }

    /// The tokens the next request will take, prompt and answer; 0 where nothing asks for them.
    fn tokens_of(&self, arrival: &Arrival<'_>) -> u64 {
        match self.scenario.rate.tpm {
            None => 0,
            Some(_) => u64::from(arrival.prompt_tokens) + u64::from(self.plan(self.admissions, arrival).output_tokens),
        }
    }

    /// A 429 in the scenario's manner.
    fn too_many(&self, now: Timestamp, reason: RejectReason, body: ErrorBody) -> Rejected {
        let setting = self.scenario.rejection.retry_after;
        let mut rejected = refused(reason, 429, body);
        rejected.after = duration(self.scenario.rejection.latency);
        // A refusal for pace knows how long to wait.
        if reason.is_slot() {
            let wall = self.wall_at(now + rejected.after);
            rejected.headers.extend(errors::retry_after(setting.form, errors::configured_wait(setting), wall));
        }
        rejected
    }

    /// OpenAI's `x-ratelimit-*` headers, where the scenario limits the pace and does not hide it.
    fn rate_headers(&self, lane: usize) -> Vec<(&'static str, String)> {
        const NAMES: [[&str; 3]; 2] = [
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
            ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
        ];
        let mut headers = Vec::new();
        if self.scenario.rate.hidden {
            return headers;
        }
        let Some(lane) = self.lanes.get(lane) else { return headers };
        for of in [pace::REQUESTS, pace::TOKENS] {
            if let Some((limit, left)) = lane.pace.left(of) {
                let reset = errors::go_duration(lane.pace.until_whole(of));
                headers.extend(NAMES[of].into_iter().zip([limit.to_string(), left.to_string(), reset]));
            }
        }
        headers
    }

    fn wall_at(&self, now: Timestamp) -> SystemTime {
        self.wall_clock.checked_add(Duration::from_micros(now.as_micros())).unwrap_or(self.wall_clock)
    }

    fn admit(&mut self, now: Timestamp, index: usize, arrival: &Arrival<'_>, client: Arc<str>) -> Admission {
        let id = FlightId(self.admissions);
        let plan = self.plan(self.admissions, arrival);
        self.admissions += 1;
        self.counts.admitted += 1;
        if let Some(client) = self.clients.get_mut(&client) {
            client.admitted += 1;
        }
        let tokens = u64::from(arrival.prompt_tokens) + u64::from(plan.output_tokens);
        let limits_users = self.scenario.user_cap.is_some();
        let user: Option<Box<str>> = limits_users.then(|| Box::from(arrival.user_id.unwrap_or("")));
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.in_flight += 1;
            lane.peak = lane.peak.max(lane.in_flight);
            if let Some(user) = &user {
                *lane.by_user.entry(user.clone()).or_default() += 1;
            }
            if lane.pace.is_limited() {
                lane.pace.advance(now);
                lane.pace.spend(tokens);
            }
        }
        let tag = arrival.tag.map(Box::from);
        self.flights.insert(id, Flight { lane: index, user, client, tag, tokens, end: plan.end });
        Admission { id, plan, headers: self.rate_headers(index) }
    }

    /// What happens to the `admission`-th admitted request.
    fn plan(&self, admission: u64, arrival: &Arrival<'_>) -> Plan {
        let rng = fastrand::Rng::with_seed(mix(self.seed, PLAN_DRAW, admission));
        Plan::draw(&self.scenario, rng, arrival)
    }

    fn charge(&mut self, now: Timestamp, account: usize, tokens: u64) {
        if self.accounts.get(account).is_none_or(|account| account.balance.is_none()) {
            return;
        }
        // The cap of all its lanes is about to change: what was before counts with the old one.
        for lane in 0..self.lanes.len() {
            if self.lanes.get(lane).is_some_and(|lane| lane.account == account) {
                self.advance(lane, now);
            }
        }
        if let Some(balance) = self.accounts.get_mut(account).and_then(|account| account.balance.as_mut()) {
            balance.amount -= balance.cost_per_request + balance.cost_per_million_tokens * tokens as f64 / 1e6;
        }
    }
}

/// What only the server needs.
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
impl Provider {
    /// Counts an arrival that was refused before it came to [`arrive`](Self::arrive).
    pub(crate) fn count_refused(
        &mut self,
        now: Timestamp,
        client: Option<&str>,
        key: Option<&str>,
        reason: RejectReason,
    ) {
        self.observe(now);
        let client = self.count_arrival(client, key);
        self.count_rejection(&client, reason);
    }

    /// How often each tag was completed.
    pub(crate) fn completions(&self) -> BTreeMap<&str, u32> {
        self.completions.iter().map(|(tag, times)| (&**tag, *times)).collect()
    }
}

fn refused(reason: RejectReason, status: u16, body: ErrorBody) -> Rejected {
    let ErrorBody { content_type, body } = body;
    Rejected { reason, status, content_type, headers: Vec::new(), body, after: Duration::ZERO }
}

fn reason_of_status(status: u16) -> RejectReason {
    match status {
        402 => RejectReason::Balance,
        429 => RejectReason::Rpm,
        500 => RejectReason::ServerError,
        501..=599 => RejectReason::Overloaded,
        _ => RejectReason::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{Account, BodyStyle, Cap, Dist, Faults, Punish, Queue, Rate, RetryAfter};
    use super::super::tally::LaneTally;
    use super::*;
    use proptest::prelude::*;

    fn at(secs: f64) -> Timestamp {
        Timestamp::from_secs_f64(secs)
    }

    fn provider(scenario: Scenario) -> Provider {
        Provider::new(scenario, 11).unwrap()
    }

    fn admitted(decision: Decision) -> Admission {
        match decision {
            Decision::Admit(admission) => admission,
            other => panic!("not admitted: {other:?}"),
        }
    }

    fn rejected(decision: Decision) -> Rejected {
        match decision {
            Decision::Reject(rejected) => rejected,
            other => panic!("not rejected: {other:?}"),
        }
    }

    fn message(rejected: &Rejected) -> String {
        let body: serde_json::Value = serde_json::from_slice(&rejected.body).unwrap();
        body["error"]["message"].as_str().unwrap().to_owned()
    }

    #[test]
    fn the_cap_is_per_account_and_model() {
        let account = |name: &str, keys: &[&str], cap| Account {
            name: name.to_owned(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            cap: Some(Cap::Constant(cap)),
            balance: None,
        };
        let mut p = provider(Scenario {
            accounts: vec![account("one", &["key-a", "key-b"], 2), account("two", &["key-c"], 1)],
            ..Scenario::default()
        });
        let mut arrive = |key, model| {
            matches!(p.arrive(at(1.0), &Arrival { key: Some(key), model, ..Arrival::default() }), Decision::Admit(_))
        };
        assert!(arrive("key-a", "deepseek-flash"));
        assert!(arrive("key-b", "deepseek-flash"));
        assert!(!arrive("key-a", "deepseek-flash"), "another key of one account raises nothing");
        assert!(!arrive("key-b", "deepseek-flash"));
        assert!(arrive("key-a", "deepseek-v4-pro"), "another model has its own limit");
        assert!(arrive("key-c", "deepseek-flash"));
        assert!(!arrive("key-c", "deepseek-flash"));
    }

    #[test]
    fn without_a_scenario_cap_the_published_ones_hold() {
        let mut p = provider(Scenario::default());
        assert_eq!(p.cap(at(0.0), Some("k"), "deepseek-flash"), 2500);
        assert_eq!(p.cap(at(0.0), Some("k"), "deepseek-v4-pro"), 500);
        assert_eq!(p.cap(at(0.0), Some("k"), "gpt-2"), 0);
    }

    #[test]
    fn a_rejection_states_the_concurrency_and_the_limit() {
        let mut p = provider(Scenario::constant(25));
        for _ in 0..25 {
            admitted(p.arrive(at(0.0), &Arrival::default()));
        }
        let r = rejected(p.arrive(at(0.0), &Arrival::default()));
        assert_eq!((r.status, r.reason, r.content_type), (429, RejectReason::Slot, Some("application/json")));
        assert!(message(&r).contains("Your current concurrency is 26, which exceeds your concurrency limit of 25 "));
        assert!(r.headers.is_empty(), "no recorded 429 of DeepSeek has a Retry-After");
    }

    #[test]
    fn keys_and_models_that_do_not_exist_are_refused_in_the_recorded_words() {
        let mut p = provider(Scenario::default());
        let r = rejected(p.arrive(at(0.0), &Arrival { key: None, ..Arrival::default() }));
        assert_eq!((r.status, r.content_type, &r.body[..]), (401, None, &b"Authentication Fails (governor)"[..]));
        let r = rejected(p.arrive(at(0.0), &Arrival { model: "deepseek-v9-nonexistent", ..Arrival::default() }));
        assert_eq!((r.status, r.content_type), (400, Some("application/octet-stream")));
        assert_eq!(
            message(&r),
            "The supported API model names are deepseek-flash or deepseek-v4-pro, but you passed \
             deepseek-v9-nonexistent."
        );
        let mut p = provider(Scenario {
            accounts: vec![Account { name: "a".into(), keys: vec!["sk-good-key-1".into()], cap: None, balance: None }],
            ..Scenario::default()
        });
        let r = rejected(p.arrive(at(0.0), &Arrival { key: Some("sk-bad-key-9876"), ..Arrival::default() }));
        assert_eq!(message(&r), "Authentication Fails, Your api key: ****9876 is invalid");
        assert!(!format!("{:?}", p.tally(at(0.0))).contains("bad-key"));
    }

    #[test]
    fn a_slot_is_free_when_the_answer_ends_and_after_the_linger_when_the_client_goes() {
        let mut p = provider(Scenario { linger: 1.5, ..Scenario::constant(1).with_service_time(2.0) });
        let first = admitted(p.arrive(at(0.0), &Arrival::default()));
        assert_eq!(first.plan.ends_at(), Some(Duration::from_secs(2)));
        p.finish(at(2.0), first.id);
        let second = admitted(p.arrive(at(2.0), &Arrival::default()));
        p.disconnect(at(3.0), second.id);
        p.finish(at(3.5), second.id);
        assert_eq!(p.in_flight(at(4.4), Some("k"), "deepseek-flash"), 1, "still counted");
        rejected(p.arrive(at(4.4), &Arrival::default()));
        admitted(p.arrive(at(4.5), &Arrival::default()));
        let tally = p.tally(at(5.0));
        assert_eq!((tally.admitted, tally.completed, tally.disconnected, tally.in_flight), (3, 1, 1, 1));
        assert_eq!((tally.lanes[0].offered, tally.lanes[0].used), (5.0, 5.0));
    }

    #[test]
    fn a_place_is_given_back_after_the_release_lag() {
        let mut p = provider(Scenario { release_lag: 0.25.into(), ..Scenario::constant(1).with_service_time(2.0) });
        let first = admitted(p.arrive(at(0.0), &Arrival::default()));
        p.finish(at(2.0), first.id);
        assert_eq!(p.tally(at(2.1)).completed, 1, "the answer is whole at once");
        rejected(p.arrive(at(2.249), &Arrival::default()));
        admitted(p.arrive(at(2.25), &Arrival::default()));
    }

    #[test]
    fn an_excess_cuts_the_cap_and_further_excess_makes_it_last() {
        let mut p = provider(Scenario {
            punish: Some(Punish { to: 0.25, seconds: 8.0 }),
            ..Scenario::constant(8).with_service_time(1.0)
        });
        let flights: Vec<_> = (0..8).map(|_| admitted(p.arrive(at(0.0), &Arrival::default())).id).collect();
        assert_eq!(p.cap(at(0.0), Some("k"), "deepseek-flash"), 8);
        rejected(p.arrive(at(0.0), &Arrival::default()));
        assert_eq!(p.cap(at(0.0), Some("k"), "deepseek-flash"), 2);
        flights.into_iter().for_each(|id| p.finish(at(1.0), id));
        admitted(p.arrive(at(5.0), &Arrival::default()));
        admitted(p.arrive(at(5.0), &Arrival::default()));
        rejected(p.arrive(at(5.0), &Arrival::default()));
        assert_eq!(p.cap(at(12.999_999), Some("k"), "deepseek-flash"), 2);
        assert_eq!(p.cap(at(13.0), Some("k"), "deepseek-flash"), 8);
        // 8 for no time, 2 until 13 s, 8 again.
        assert_eq!(p.tally(at(14.0)).lanes[0].offered, 2.0 * 13.0 + 8.0);
    }

    #[test]
    fn windows_strike_in_their_time_with_the_wait_they_ask_for() {
        let mut window = Window::new(503, 2.0, 4.0);
        window.retry_after = RetryAfter { form: super::super::scenario::RetryAfterForm::Float, seconds: 1.5 };
        let mut p = provider(Scenario { windows: vec![window], ..Scenario::default() });
        admitted(p.arrive(at(1.9), &Arrival::default()));
        let r = rejected(p.arrive(at(2.0), &Arrival::default()));
        assert_eq!((r.status, r.reason, r.after), (503, RejectReason::Overloaded, Duration::from_millis(200)));
        assert_eq!(r.headers, [("retry-after", "1.500".to_owned())]);
        assert!(message(&r).starts_with("Service is too busy."));
        admitted(p.arrive(at(4.0), &Arrival::default()));
    }

    #[test]
    fn a_rate_limit_refuses_the_pace_and_says_when_there_is_room() {
        let mut p = provider(Scenario {
            rate: Rate { rpm: Some(3), ..Rate::default() },
            rejection: super::super::scenario::Rejection {
                retry_after: RetryAfter { form: super::super::scenario::RetryAfterForm::Seconds, seconds: 0.0 },
                ..Default::default()
            },
            ..Scenario::default()
        });
        let first = admitted(p.arrive(at(0.0), &Arrival::default()));
        assert!(first.headers.contains(&("x-ratelimit-remaining-requests", "2".to_owned())));
        admitted(p.arrive(at(10.0), &Arrival::default()));
        let last = admitted(p.arrive(at(10.0), &Arrival::default()));
        assert!(!last.headers.iter().any(|(name, _)| *name == "retry-after"));
        let r = rejected(p.arrive(at(20.5), &Arrival::default()));
        assert_eq!((r.status, r.reason), (429, RejectReason::Rpm));
        assert_eq!(message(&r), "Rate limit reached: RPM exceeded. Please pace your requests.");
        for header in [
            ("x-ratelimit-limit-requests", "3"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "49.5s"),
            ("retry-after", "40"),
        ] {
            assert!(r.headers.contains(&(header.0, header.1.to_owned())), "{header:?} not in {:?}", r.headers);
        }
        admitted(p.arrive(at(60.0), &Arrival::default()));
        rejected(p.arrive(at(60.0), &Arrival::default()));
    }

    #[test]
    fn a_hidden_rate_limit_is_told_by_nothing_but_refusals() {
        let rate = Rate { rpm: Some(1), tpm: Some(100_000), hidden: true, ..Rate::default() };
        let mut p = provider(Scenario { rate, ..Scenario::default() });
        assert!(admitted(p.arrive(at(0.0), &Arrival::default())).headers.is_empty());
        let r = rejected(p.arrive(at(1.0), &Arrival::default()));
        assert_eq!((r.reason, r.headers.len()), (RejectReason::Rpm, 0));
    }

    #[test]
    fn a_token_limit_counts_prompt_and_answer() {
        let mut scenario = Scenario { rate: Rate { tpm: Some(1000), ..Rate::default() }, ..Scenario::default() };
        scenario.service.output_tokens = 300.0.into();
        let mut p = provider(scenario);
        let arrival = Arrival { prompt_tokens: 200, ..Arrival::default() };
        admitted(p.arrive(at(0.0), &arrival));
        admitted(p.arrive(at(0.0), &arrival));
        assert_eq!(rejected(p.arrive(at(1.0), &arrival)).reason, RejectReason::Tpm);
        admitted(p.arrive(at(60.0), &arrival));
    }

    #[test]
    fn the_balance_falls_and_takes_the_cap_with_it() {
        let mut p = provider(Scenario {
            balance: Some(Balance {
                amount: 2.0,
                cost_per_request: 0.6,
                cost_per_million_tokens: 0.0,
                ..Balance::default()
            }),
            ..Scenario::default().with_service_time(1.0)
        });
        let mut caps = Vec::new();
        for i in 0..4 {
            let now = at(f64::from(i) * 2.0);
            caps.push(p.cap(now, Some("k"), "deepseek-flash"));
            let id = admitted(p.arrive(now, &Arrival::default())).id;
            p.finish(now + Duration::from_secs(1), id);
        }
        assert_eq!(caps, [2500, 25, 17, 5]);
        let r = rejected(p.arrive(at(9.0), &Arrival::default()));
        assert_eq!((r.status, message(&r).as_str()), (402, "Insufficient Balance"));
        assert!(p.balance(Some("k")).unwrap().0 < 0.0);
    }

    #[test]
    fn each_user_id_has_its_own_limit_and_the_empty_one_too() {
        let mut p = provider(Scenario { user_cap: Some(1), ..Scenario::constant(3) });
        let by = |user_id| Arrival { user_id, ..Arrival::default() };
        let first = admitted(p.arrive(at(0.0), &by(Some("ada")))).id;
        assert_eq!(rejected(p.arrive(at(0.0), &by(Some("ada")))).reason, RejectReason::UserSlot);
        admitted(p.arrive(at(0.0), &by(None)));
        assert_eq!(rejected(p.arrive(at(0.0), &by(Some("")))).reason, RejectReason::UserSlot);
        admitted(p.arrive(at(0.0), &by(Some("bob"))));
        assert_eq!(rejected(p.arrive(at(0.0), &by(Some("eve")))).reason, RejectReason::Slot);
        p.finish(at(1.0), first);
        admitted(p.arrive(at(1.0), &by(Some("ada"))));
    }

    #[test]
    fn a_request_answered_twice_shows_in_the_tally() {
        let mut p = provider(Scenario::default());
        for tag in ["a", "b", "a"] {
            let id = admitted(p.arrive(at(0.0), &Arrival { tag: Some(tag), ..Arrival::default() })).id;
            p.finish(at(1.0), id);
        }
        let tally = p.tally(at(1.0));
        assert_eq!((tally.distinct_completed, tally.duplicates), (2, BTreeMap::from([("a".to_owned(), 2)])));
        assert_eq!(p.completions_of("b"), 1);
    }

    #[test]
    fn a_wait_longer_than_the_provider_allows_ends_in_a_hang_up() {
        let mut p = provider(Scenario {
            queue: Queue { wait: 700.0.into(), keep_alive: 15.0, ..Queue::default() },
            ..Scenario::default()
        });
        let plan = admitted(p.arrive(at(0.0), &Arrival::default())).plan;
        assert_eq!((plan.end, plan.ends_at(), plan.delivered), (End::HangUp, Some(Duration::from_secs(600)), 0));
        assert_eq!(plan.headers, Duration::from_secs(15));
    }

    #[test]
    fn pieces_are_spread_from_the_first_token_to_the_last() {
        let mut scenario = Scenario::default();
        scenario.service.output_tokens = 50.0.into();
        scenario.service.tokens_per_second = 10.0;
        let mut p = provider(scenario);
        let plan = admitted(p.arrive(at(0.0), &Arrival { max_tokens: 40, ..Arrival::default() })).plan;
        assert!(plan.length);
        assert_eq!((plan.output_tokens, plan.chunks), (40, 5));
        let at = (0..5).map(|i| plan.chunk_at(i).as_millis()).collect::<Vec<_>>();
        assert_eq!(at, [400, 1400, 2400, 3400, 4400]);
    }

    #[test]
    fn bodies_come_in_every_dialect() {
        for (style, part) in [
            (BodyStyle::DeepseekBalance, "concurrency is 1, which exceeds your concurrency limit of 0"),
            (BodyStyle::Deepseek, "exceeds your concurrency limit."),
            (BodyStyle::Plain, "Too Many Requests"),
            (BodyStyle::Openrouter, "\"code\":429"),
            (BodyStyle::Siliconflow, "Request was rejected due to rate limiting."),
            (BodyStyle::Empty, ""),
        ] {
            let mut scenario = Scenario::constant(0);
            scenario.rejection.body = style;
            let r = rejected(provider(scenario).arrive(at(0.0), &Arrival::default()));
            assert!(std::str::from_utf8(&r.body).unwrap().contains(part), "{style:?}: {:?}", r.body);
        }
    }

    #[test]
    fn a_lane_counts_from_its_first_arrival_to_its_last_end() {
        let mut p = provider(Scenario::constant(4));
        assert_eq!(p.cap(at(1.0), Some("k"), "deepseek-flash"), 4);
        assert_eq!((p.tally(at(2.0)).lanes.len(), p.tally(at(2.0)).utilisation()), (0, None));
        let id = admitted(p.arrive(at(10.0), &Arrival::default())).id;
        p.finish(at(15.0), id);
        let tally = p.tally(at(100.0));
        let lane = &tally.lanes[0];
        assert_eq!((lane.from, lane.to, lane.offered, lane.used), (10.0, 15.0, 20.0, 5.0));
        assert_eq!(tally.utilisation(), Some(0.25));
        assert_eq!(lane.timeline[0], Sample { at: 10.0, cap: 4, in_flight: 1, rejected: 0 });
    }

    #[test]
    fn a_timeline_stays_bounded() {
        let mut p = provider(Scenario::constant(1));
        admitted(p.arrive(at(0.0), &Arrival::default()));
        let tally = p.tally(at(1e6));
        let timeline = &tally.lanes[0].timeline;
        assert!(timeline.len() < LaneTally::MAX_SAMPLES && timeline.len() > LaneTally::MAX_SAMPLES / 4);
        assert!(timeline.windows(2).all(|pair| pair[0].at < pair[1].at));
        assert!(tally.lanes[0].offered > 999_999.0);
    }

    /// Nothing, something, or far too much.
    fn any_amount() -> impl Strategy<Value = f64> {
        prop_oneof![Just(0.0), Just(1e-300), 0.0..100.0, 0.0..1e9, Just(1e19), Just(f64::MAX)]
    }

    proptest! {
        #[test]
        fn absurd_scenarios_are_refused_or_followed_without_a_panic(
            [wait, keep_alive, hang_up, first, tokens, speed, linger, release_lag, latency, asked, spent] in
                proptest::array::uniform11(any_amount()),
            (max_tokens, thinking, stream, stall) in (any::<u32>(), any::<bool>(), any::<bool>(), 0.0..1.0),
        ) {
            let mut scenario = Scenario {
                queue: Queue { wait: wait.into(), probability: 1.0, keep_alive, hang_up_after: hang_up },
                linger,
                release_lag: release_lag.into(),
                faults: Faults { stall, ..Faults::default() },
                rate: Rate { rpm: Some(2), tpm: Some(u64::MAX), ..Rate::default() },
                balance: Some(Balance { cost_per_request: spent, ..Balance::default() }),
                ..Scenario::default()
            };
            scenario.service.first_token = first.into();
            scenario.service.output_tokens = tokens.into();
            scenario.service.tokens_per_second = speed;
            scenario.rejection.latency = latency;
            scenario.rejection.retry_after =
                RetryAfter { form: super::super::scenario::RetryAfterForm::HttpDate, seconds: asked };
            if let Ok(mut p) = Provider::new(scenario, 1) {
                let arrival = Arrival { max_tokens, thinking, stream, ..Arrival::default() };
                for _ in 0..2 {
                    let admission = admitted(p.arrive(at(1.0), &arrival));
                    let plan = admission.plan;
                    prop_assert!(plan.delivered <= plan.chunks && plan.first_token <= plan.last_token);
                    prop_assert!(plan.chunk_at(plan.chunks) == plan.last_token);
                    prop_assert!(plan.ends_at().is_none_or(|end| plan.headers <= end));
                    prop_assert!(plan.output_tokens <= max_tokens.max(1));
                    match plan.ends_at() {
                        Some(_) => p.finish(at(1.5), admission.id),
                        None => p.disconnect(at(1.5), admission.id),
                    }
                    if p.balance(Some("k")).unwrap().0 <= 0.0 {
                        return Ok(());
                    }
                }
                prop_assert_eq!(rejected(p.arrive(at(2.0), &arrival)).reason, RejectReason::Rpm);
            }
        }
    }

    /// What a client may do, in any order.
    #[derive(Clone, Debug)]
    enum Step {
        Arrive { user: u8, tag: u8 },
        Finish(usize),
        Disconnect(usize),
        Wait(u32),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..3, any::<u8>()).prop_map(|(user, tag)| Step::Arrive { user, tag }),
            2 => any::<usize>().prop_map(Step::Finish),
            1 => any::<usize>().prop_map(Step::Disconnect),
            2 => (0u32..3_000_000).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Whatever clients do, an admission never exceeds the cap, every request is counted once, no slot leaks, and
        /// the decisions are the same each time.
        #[test]
        fn nothing_is_admitted_above_the_cap_and_nothing_is_lost_from_the_tally(
            steps in proptest::collection::vec(any_step(), 1..200),
            seed in any::<u64>(),
        ) {
            let scenario = Scenario {
                user_cap: Some(3),
                linger: 0.4,
                release_lag: Dist::Uniform(0.0, 0.3),
                punish: Some(Punish { to: 0.5, seconds: 2.0 }),
                ..Scenario::steps(&[(0.0, 6), (3.0, 2), (7.0, 9)], Some(10.0))
            };
            let run = || {
                let mut p = Provider::new(scenario.clone(), seed).unwrap();
                let mut now = Timestamp::ZERO;
                let mut open = Vec::new();
                let mut log = Vec::new();
                for step in &steps {
                    match *step {
                        Step::Arrive { user, tag } => {
                            let (user, tag) = (user.to_string(), tag.to_string());
                            let arrival =
                                Arrival { user_id: Some(&user), tag: Some(&tag), ..Arrival::default() };
                            let cap = p.cap(now, arrival.key, arrival.model);
                            let before = p.in_flight(now, arrival.key, arrival.model);
                            let closed = p.closed(now, &arrival);
                            let decision = p.arrive(now, &arrival);
                            match &decision {
                                Decision::Admit(admission) => {
                                    assert!(before < cap && closed.is_none());
                                    open.push(admission.id);
                                }
                                Decision::Reject(r) => assert_eq!(closed, Some(r.reason)),
                                Decision::Reset => panic!("no resets here"),
                            }
                            log.push(decision);
                        }
                        Step::Finish(i) if !open.is_empty() => p.finish(now, open.remove(i % open.len())),
                        Step::Disconnect(i) if !open.is_empty() => p.disconnect(now, open.remove(i % open.len())),
                        Step::Wait(micros) => now += Duration::from_micros(u64::from(micros)),
                        _ => {}
                    }
                }
                let still = open.len() as u64;
                let tally = p.tally(now);
                assert_eq!(tally.requests, tally.admitted + tally.rejected_total());
                assert_eq!(tally.admitted, tally.completed + tally.disconnected + still);
                assert_eq!(tally.in_flight, still);
                assert!(tally.utilisation().unwrap_or(0.0) <= 1.0);
                for id in open {
                    p.disconnect(now, id);
                }
                let later = now + Duration::from_secs(1);
                assert_eq!(p.in_flight(later, Some("k"), "deepseek-flash"), 0);
                (log, tally)
            };
            prop_assert_eq!(run(), run());
        }
    }
}
