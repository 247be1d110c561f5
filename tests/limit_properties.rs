//! Whatever happens, in whatever order: the adaptive limit counts right, stays in bounds and never gets stuck.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tidegate::core::limit::{Admission, Ceiling, Evidence, Learned, Params, Seq};
use tidegate::core::outcome::Told;
use tidegate::core::time::Timestamp;

#[derive(Clone, Debug)]
enum Step {
    /// Ask, and send if allowed, up to so many times.
    Send(u8),
    /// Send without asking.
    Force,
    Admit(usize, Evidence),
    Reject(usize, Option<(u32, u32)>, Option<u64>),
    Unavailable(usize, Option<u64>),
    Done(usize),
    Fail(usize),
    Cancel(usize),
    /// Say something of a number that has ended, or that another limit gave out.
    Stray(usize, u8),
    Wait(u64),
    /// The clock runs backwards for one call.
    Back(u64),
    Max(Option<u32>),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<usize>;
    prop_oneof![
        8 => (1..20u8).prop_map(Step::Send),
        1 => Just(Step::Force),
        4 => (index(), prop_oneof![Just(Evidence::Headers), Just(Evidence::Content)])
            .prop_map(|(i, evidence)| Step::Admit(i, evidence)),
        5 => (index(), proptest::option::weighted(0.3, told()), proptest::option::weighted(0.1, seconds()))
            .prop_map(|(i, told, wait)| Step::Reject(i, told, wait)),
        2 => (index(), proptest::option::weighted(0.2, seconds())).prop_map(|(i, wait)| Step::Unavailable(i, wait)),
        6 => index().prop_map(Step::Done),
        2 => index().prop_map(Step::Fail),
        2 => index().prop_map(Step::Cancel),
        2 => (index(), any::<u8>()).prop_map(|(i, what)| Step::Stray(i, what)),
        6 => prop_oneof![4 => 0..2_000_000u64, 1 => 0..600_000_000u64, 1 => Just(1u64 << 50)].prop_map(Step::Wait),
        1 => seconds().prop_map(Step::Back),
        1 => proptest::option::of(0..50u32).prop_map(Step::Max),
    ]
}

fn told() -> impl Strategy<Value = (u32, u32)> {
    prop_oneof![3 => (0..60u32, 0..60u32), 1 => (any::<u32>(), any::<u32>())]
}

fn seconds() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 0..10u64, 1 => 0..1_000_000u64, 1 => any::<u64>()]
}

fn params() -> impl Strategy<Value = Params> {
    let plain = (proptest::option::of(0..80u32), proptest::option::of(any::<u32>()), 0..40u32, 0..4u64).prop_map(
        |(max, hint, initial, linger)| Params {
            max,
            hint,
            initial,
            linger: Duration::from_secs(linger),
            ..Params::default()
        },
    );
    let odd = (any::<[f64; 4]>(), any::<u32>(), any::<u64>()).prop_map(|(numbers, burst, memory)| Params {
        first_gain: numbers[0],
        gain: numbers[1],
        ascent: numbers[2],
        price: numbers[3],
        burst,
        memory: Duration::from_micros(memory),
        ..Params::default()
    });
    prop_oneof![4 => plain, 1 => odd]
}

struct World {
    limit: Ceiling,
    rng: fastrand::Rng,
    now: u64,
    max: Option<u32>,
    /// Numbers in flight: `Some` is when a cancelled one stops lingering.
    flights: BTreeMap<Seq, Option<u64>>,
    ended: Vec<Seq>,
    /// When the latest ones completed: for a moment the server may count them.
    completed: Vec<u64>,
    strange: Seq,
    linger: u64,
    /// A request was sent without asking, or the ceiling was lowered, so there may be more in flight than it allows.
    overfull: bool,
}

impl World {
    fn new(params: Params, seed: u64) -> Self {
        let mut other = Ceiling::new(Timestamp::ZERO, Params::default());
        let strange = (0..10_000).map(|_| other.on_send(Timestamp::ZERO)).last().unwrap();
        let (max, linger) = (params.max, params.linger.as_micros() as u64);
        Self {
            limit: Ceiling::new(Timestamp::ZERO, params),
            rng: fastrand::Rng::with_seed(seed),
            now: 0,
            max,
            flights: BTreeMap::new(),
            ended: vec![strange],
            completed: Vec::new(),
            strange,
            linger,
            overfull: false,
        }
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_micros(self.now)
    }

    fn pick(&self, i: usize) -> Option<Seq> {
        let live: Vec<Seq> = self.flights.iter().filter(|flight| flight.1.is_none()).map(|flight| *flight.0).collect();
        live.get(i.checked_rem(live.len())?).copied()
    }

    fn sent(&mut self) {
        let seq = self.limit.on_send(self.time());
        assert!(self.flights.insert(seq, None).is_none(), "a number was given out twice");
    }

    fn end(&mut self, i: usize, tell: impl FnOnce(&mut Ceiling, Timestamp, Seq, &mut fastrand::Rng)) {
        let Some(seq) = self.pick(i) else { return };
        self.flights.remove(&seq);
        self.ended.push(seq);
        let now = self.time();
        tell(&mut self.limit, now, seq, &mut self.rng);
    }

    fn take(&mut self, step: Step) {
        let now = self.time();
        match step {
            Step::Send(times) => {
                for _ in 0..times {
                    self.release();
                    if self.limit.admission(now, &mut self.rng) == Admission::No {
                        break;
                    }
                    self.sent();
                }
            }
            Step::Force => {
                self.sent();
                self.overfull = true;
            }
            Step::Admit(i, evidence) => {
                if let Some(seq) = self.pick(i) {
                    self.limit.on_admitted(now, seq, evidence);
                }
            }
            Step::Reject(i, told, wait) => self.end(i, |limit, now, seq, rng| {
                let told = told.map(|(current, limit)| Told { current, limit });
                limit.on_slot_rejected(now, seq, told, wait.map(Duration::from_secs), rng);
            }),
            Step::Unavailable(i, wait) => self.end(i, |limit, now, seq, rng| {
                limit.on_unavailable(now, seq, wait.map(Duration::from_secs), rng);
            }),
            Step::Done(i) => {
                self.completed.push(self.now);
                self.end(i, |limit, now, seq, _| limit.on_done(now, seq));
            }
            Step::Fail(i) => self.end(i, |limit, now, seq, _| limit.on_failed(now, seq)),
            Step::Cancel(i) => {
                if let Some(seq) = self.pick(i) {
                    self.limit.on_cancelled(now, seq);
                    self.flights.insert(seq, Some(self.now + self.linger));
                }
            }
            Step::Stray(i, what) => {
                let lingering = self.flights.iter().find(|flight| flight.1.is_some()).map(|flight| *flight.0);
                let seq = match what % 3 {
                    0 => self.strange,
                    1 => lingering.unwrap_or(self.strange),
                    _ => self.ended[i % self.ended.len()],
                };
                let before = self.limit.view();
                match what / 3 % 6 {
                    0 => self.limit.on_admitted(now, seq, Evidence::Headers),
                    1 => {
                        let told = Some(Told { current: 9, limit: 8 });
                        self.limit.on_slot_rejected(now, seq, told, Some(Duration::from_secs(9)), &mut self.rng);
                    }
                    2 => self.limit.on_unavailable(now, seq, Some(Duration::from_secs(9)), &mut self.rng),
                    3 => self.limit.on_done(now, seq),
                    4 => self.limit.on_failed(now, seq),
                    _ => self.limit.on_cancelled(now, seq),
                }
                let mut after = self.limit.view();
                // Time passes all the same, and with it a pause.
                after.state = before.state;
                assert_eq!(before, after, "an unknown number was listened to");
            }
            Step::Wait(micros) => self.now = self.now.saturating_add(micros).min(1 << 62),
            Step::Back(seconds) => {
                let earlier = Timestamp::from_micros(self.now.saturating_sub(seconds.saturating_mul(1_000_000)));
                self.limit.advance(earlier);
            }
            Step::Max(max) => {
                self.limit.set_max(max);
                self.max = max;
                self.overfull = true;
            }
        }
        self.limit.advance(self.time());
        self.release();
    }

    fn release(&mut self) {
        let now = self.now;
        self.flights.retain(|_, until| until.is_none_or(|until| until > now));
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        let view = self.limit.view();
        let lingering = self.flights.values().filter(|until| until.is_some()).count();
        prop_assert_eq!(view.in_flight as usize, self.flights.len() - lingering);
        let now = self.now;
        self.completed.retain(|&at| at + 150_000 > now);
        let lagging = (view.lingering as usize).checked_sub(lingering);
        prop_assert!(lagging.is_some_and(|lagging| lagging <= self.completed.len()), "{}", view.lingering);
        prop_assert!(view.window >= 1);
        prop_assert!(view.price.is_finite() && view.price > 0.0);
        if let Some(max) = self.max {
            prop_assert!(view.window <= max.max(1));
            self.overfull &= self.flights.len() > max.max(1) as usize;
            prop_assert!(self.overfull || self.flights.len() <= max.max(1) as usize);
        }
        for demand in [false, true] {
            prop_assert!(self.limit.next_wake(self.time(), demand).is_none_or(|at| at > self.time()));
        }
        prop_assert!(self.limit.pause_until().is_none_or(|at| at > self.time()));

        let learned = self.limit.learned(self.time());
        let json = serde_json::to_string(&learned).unwrap();
        let read: Learned = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&read, &learned, "{}", json);
        Ok(())
    }

    /// With demand and nothing in flight, waiting as told leads to an admission, soon.
    fn ends_open(mut self) -> Result<(), TestCaseError> {
        while self.pick(0).is_some() {
            self.end(0, |limit, now, seq, _| limit.on_failed(now, seq));
        }
        for _ in 0..40 {
            let now = self.time();
            if self.limit.admission(now, &mut self.rng) != Admission::No {
                return Ok(());
            }
            let wake = self.limit.next_wake(now, true);
            prop_assert!(wake.is_some(), "refused, and nothing to wait for: {:?}", self.limit);
            self.now = wake.map_or(self.now, Timestamp::as_micros);
        }
        Err(TestCaseError::fail(format!("never opens: {:?}", self.limit)))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_order_of_events_keeps_the_count_the_bounds_and_the_way_open(
        params in params(),
        seed: u64,
        steps in proptest::collection::vec(step(), 0..300),
    ) {
        let mut world = World::new(params, seed);
        for step in steps {
            world.take(step);
            world.check()?;
        }
        world.ends_open()?;
    }

    #[test]
    fn restoring_anything_at_all_does_no_harm(
        window: u32,
        told_limit: Option<u32>,
        measured: bool,
        numbers in proptest::collection::vec(any::<f64>(), 9),
        unpunished: u8,
        params in params(),
    ) {
        use tidegate::core::limit::{Delay, Punishment};
        let mut world = World::new(params, 7);
        world.limit.restore(Timestamp::ZERO, Learned {
            window,
            measured,
            told_limit,
            service: Some(numbers[0]),
            rejection: Some(Delay { mean: numbers[1], deviation: numbers[2] }),
            headers: Some(Delay { mean: numbers[3], deviation: numbers[4] }),
            early: numbers[5],
            drift: numbers[6],
            punishment: Some(Punishment {
                belief: numbers[7],
                unpunished,
                lost: numbers[8],
                kept: Some(numbers[1]),
                wait: numbers[0],
            }),
        });
        world.check()?;
        for i in 0..50 {
            world.take(Step::Send(9));
            world.take(Step::Wait(300_000));
            world.take(if i % 7 == 6 { Step::Reject(i, None, None) } else { Step::Done(i) });
            world.check()?;
        }
        world.ends_open()?;
    }
}
