//! Who goes next: three priority classes, and in each class workloads that share by weight.
//!
//! Between classes the order is strict, softened by ageing: a class whose head has waited longer than its patience gets
//! the next permit, so background is slow but never dead. Within a class workloads take turns by stride scheduling
//! (Waldspurger and Weihl, MIT/LCS/TM-528, 1995): each dispatch moves a workload on by the inverse of its weight, and the
//! one least far goes next. A workload that was idle starts level with the others: idling saves up no credit.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use super::time::Timestamp;

/// A priority class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// A person is waiting.
    Interactive,
    /// The default.
    #[default]
    Normal,
    /// Batches, evaluations, indexing: whenever there is room.
    Background,
}

impl Class {
    /// Highest priority first.
    pub const ALL: [Self; 3] = [Self::Interactive, Self::Normal, Self::Background];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Normal => "normal",
            Self::Background => "background",
        }
    }
}

/// A workload, by the order in which it became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadId(pub(crate) u32);

impl WorkloadId {
    /// The workload of calls that name none: the one every gate knows first.
    #[cfg(feature = "client")]
    pub(crate) const NORMAL: Self = Self(0);

    /// Its place in the order in which workloads became known.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Whom the next permit may go to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Select {
    /// The permit is for learning (a probe): the lowest class present carries it, so interactive work never pays.
    pub(crate) lowest_first: bool,
    /// Classes that may be served at all.
    pub(crate) allowed: [bool; 3],
}

#[derive(Debug)]
struct Entry<T> {
    item: T,
    since: Timestamp,
}

#[derive(Debug)]
struct Flow<T> {
    workload: WorkloadId,
    stride: u64,
    pass: u64,
    jobs: VecDeque<Entry<T>>,
}

#[derive(Debug)]
struct ClassQueue<T> {
    /// Only flows with jobs in them: an idle workload costs nothing.
    flows: Vec<Flow<T>>,
    /// The pass of the last flow served: where newcomers start.
    virtual_time: u64,
}

impl<T> ClassQueue<T> {
    #[cfg_attr(target_family = "wasm", inline(never))]
    fn drop_empty(&mut self) {
        self.flows.retain(|flow| !flow.jobs.is_empty());
    }
}

/// The jobs waiting for one set of lanes. `T` is a cheap handle; a handle whose call has ended meanwhile is skipped by
/// the caller's `alive` when its turn comes, which makes cancelling O(1).
#[derive(Debug)]
pub(crate) struct Queue<T> {
    classes: [ClassQueue<T>; 3],
    live: usize,
    dead: usize,
    patience: [Duration; 3],
}

/// Stride of weight 1; weights are at least 1/1,000.
const STRIDE_ONE: u64 = 1 << 20;

impl<T: Copy> Queue<T> {
    /// How long the head of a class may wait while higher ones are served: interactive never yields, normal 10 s,
    /// background 30 s.
    const PATIENCE: [Duration; 3] = [Duration::MAX, Duration::from_secs(10), Duration::from_secs(30)];

    pub(crate) fn new() -> Self {
        let class = || ClassQueue { flows: Vec::new(), virtual_time: 0 };
        Self { classes: [class(), class(), class()], live: 0, dead: 0, patience: Self::PATIENCE }
    }

    /// Jobs waiting, cancelled ones not counted.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// How urgent its most urgent job is, 0 the most: a class that has waited beyond its patience, or else by class.
    /// Cancelled calls may make it seem more urgent than it is.
    pub(crate) fn rank(&self, now: Timestamp, served: [Timestamp; 3]) -> usize {
        let any = |_: WorkloadId| true;
        if Class::ALL.into_iter().any(|class| self.is_aged(now, class, served, any)) {
            return 0;
        }
        let present = |class: &Class| !self.classes[*class as usize].flows.is_empty();
        1 + Class::ALL.into_iter().find(present).unwrap_or(Class::Background) as usize
    }

    /// Whether a class has waited beyond its patience; `served` says when each was last served.
    fn is_aged(&self, now: Timestamp, class: Class, served: [Timestamp; 3], may: impl Fn(WorkloadId) -> bool) -> bool {
        let mut since = Timestamp::MAX;
        for flow in &self.classes[class as usize].flows {
            if let Some(head) = flow.jobs.front()
                && may(flow.workload)
            {
                since = since.min(head.since);
            }
        }
        now - since.max(served[class as usize]) > self.patience[class as usize]
    }

    /// Puts a newcomer at the end of its workload's line.
    pub(crate) fn push_back(&mut self, now: Timestamp, class: Class, workload: WorkloadId, weight: f64, item: T) {
        self.flow(class, workload, weight).jobs.push_back(Entry { item, since: now });
        self.live += 1;
    }

    /// Puts a job whose attempt was rejected back to where it came from, the front; `since` is when it first began to
    /// wait. Its turn is given back: a rejection must not cost its workload a share.
    pub(crate) fn put_back(&mut self, since: Timestamp, class: Class, workload: WorkloadId, weight: f64, item: T) {
        let flow = self.flow(class, workload, weight);
        flow.pass = flow.pass.saturating_sub(flow.stride);
        // Lines stay sorted by age: rejections of one burst come back in any order.
        flow.jobs.push_front(Entry { item, since });
        let mut at = 0;
        while flow.jobs.get(at + 1).is_some_and(|next| next.since < since) {
            flow.jobs.swap(at, at + 1);
            at += 1;
        }
        self.live += 1;
    }

    fn flow(&mut self, class: Class, workload: WorkloadId, weight: f64) -> &mut Flow<T> {
        let queue = &mut self.classes[class as usize];
        let at = queue.flows.iter().position(|flow| flow.workload == workload).unwrap_or_else(|| {
            let stride = (STRIDE_ONE as f64 / weight.clamp(0.001, 1000.0)) as u64;
            let pass = queue.virtual_time + stride;
            queue.flows.push(Flow { workload, stride, pass, jobs: VecDeque::new() });
            queue.flows.len() - 1
        });
        &mut queue.flows[at]
    }

    /// Notes that one waiting job was cancelled; `alive` tells the living. Entries of the dead are swept once they
    /// outnumber the living.
    pub(crate) fn on_cancelled(&mut self, alive: impl Fn(T) -> bool) {
        self.live -= 1;
        self.dead += 1;
        if self.dead > self.live + 64 {
            for class in &mut self.classes {
                for flow in &mut class.flows {
                    // Into a new one: what is left may be little.
                    for entry in core::mem::take(&mut flow.jobs) {
                        if alive(entry.item) {
                            flow.jobs.push_back(entry);
                        }
                    }
                }
                class.drop_empty();
            }
            self.dead = 0;
        }
    }

    /// Whether a class has living jobs that `blocked` (a workload at its own cap) lets through. Dead entries at the
    /// fronts are dropped on the way.
    fn servable(&mut self, class: Class, blocked: &impl Fn(WorkloadId) -> bool, alive: &impl Fn(T) -> bool) -> bool {
        let queue = &mut self.classes[class as usize];
        if self.dead > 0 {
            for flow in &mut queue.flows {
                while flow.jobs.front().is_some_and(|entry| !alive(entry.item)) {
                    flow.jobs.pop_front();
                    self.dead = self.dead.saturating_sub(1);
                }
            }
            queue.drop_empty();
        }
        queue.flows.iter().any(|flow| !blocked(flow.workload))
    }

    /// The job to be served next, which is taken out, and since when it has been waiting. `served` says when each class
    /// was last served by any of the lines that share the permits; it is asked only if several have jobs.
    pub(crate) fn pop(
        &mut self,
        now: Timestamp,
        select: Select,
        served: impl Fn() -> [Timestamp; 3],
        blocked: impl Fn(WorkloadId) -> bool,
        alive: impl Fn(T) -> bool,
    ) -> Option<(T, Timestamp)> {
        if self.live == 0 {
            return None;
        }
        let servable = Class::ALL.map(|class| {
            let any = !self.classes[class as usize].flows.is_empty();
            any && select.allowed[class as usize] && self.servable(class, &blocked, &alive)
        });
        let mut present = Class::ALL.into_iter().filter(|&class| servable[class as usize]);
        let top = present.next()?;
        let aged = |class: &Class| self.is_aged(now, *class, served(), |workload| !blocked(workload));
        let class = present.rev().find(|class| select.lowest_first || aged(class)).unwrap_or(top);
        let queue = &mut self.classes[class as usize];
        let mut next: Option<(usize, &mut Flow<T>)> = None;
        for (at, flow) in queue.flows.iter_mut().enumerate() {
            let ahead = next.as_ref().is_none_or(|(_, next)| (flow.pass, flow.workload) < (next.pass, next.workload));
            if ahead && !blocked(flow.workload) {
                next = Some((at, flow));
            }
        }
        let (at, flow) = next?;
        let entry = flow.jobs.pop_front()?;
        queue.virtual_time = queue.virtual_time.max(flow.pass);
        flow.pass += flow.stride;
        if flow.jobs.is_empty() {
            queue.flows.swap_remove(at);
        }
        // Being held back by a cap of its own saves up no credit either.
        for flow in queue.flows.iter_mut().filter(|flow| blocked(flow.workload)) {
            flow.pass = flow.pass.max(queue.virtual_time);
        }
        self.live -= 1;
        Some((entry.item, entry.since))
    }

    /// Takes every job out, highest class first, dead ones included.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        self.live = 0;
        self.dead = 0;
        let mut all = Vec::new();
        for class in &mut self.classes {
            for flow in core::mem::take(&mut class.flows) {
                for entry in flow.jobs {
                    all.push(entry.item);
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const ANY: Select = Select { lowest_first: false, allowed: [true; 3] };

    fn never() -> [Timestamp; 3] {
        [Timestamp::ZERO; 3]
    }

    fn secs(secs: f64) -> Timestamp {
        Timestamp::from_secs_f64(secs)
    }

    fn pop(queue: &mut Queue<u32>, now: f64, select: Select) -> Option<u32> {
        queue.pop(secs(now), select, never, |_| false, |_| true).map(|(item, _)| item)
    }

    #[test]
    fn calls_that_come_back_in_any_order_stand_by_age() {
        let mut queue = Queue::new();
        for (since, item) in [(3.0, 3), (1.0, 1), (2.0, 2)] {
            queue.put_back(secs(since), Class::Normal, WorkloadId(0), 1.0, item);
        }
        assert_eq!([(); 3].map(|()| pop(&mut queue, 9.0, ANY)), [Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn no_weight_is_so_large_that_others_starve() {
        let mut queue = Queue::new();
        for item in 0..1100 {
            queue.push_back(secs(0.0), Class::Normal, WorkloadId(0), 1e12, item);
        }
        queue.push_back(secs(0.0), Class::Normal, WorkloadId(1), 1.0, 5000);
        let last = (0..).find(|_| pop(&mut queue, 1.0, ANY) == Some(5000)).unwrap();
        assert!(last < 1100, "{last}");
    }

    #[test]
    fn classes_are_served_in_order_and_learning_is_carried_by_the_lowest() {
        let mut queue = Queue::new();
        let w = WorkloadId(0);
        queue.push_back(secs(0.0), Class::Background, w, 1.0, 1);
        queue.push_back(secs(0.1), Class::Normal, w, 1.0, 2);
        queue.push_back(secs(0.2), Class::Interactive, w, 1.0, 3);
        queue.push_back(secs(0.3), Class::Background, w, 1.0, 4);
        assert_eq!(pop(&mut queue, 1.0, Select { lowest_first: true, ..ANY }), Some(1));
        assert_eq!(pop(&mut queue, 1.0, ANY), Some(3));
        assert_eq!(pop(&mut queue, 1.0, Select { allowed: [true, false, false], ..ANY }), None);
        assert_eq!(pop(&mut queue, 1.0, ANY), Some(2));
        assert_eq!(pop(&mut queue, 1.0, ANY), Some(4));
        assert_eq!(pop(&mut queue, 1.0, ANY), None);
    }

    #[test]
    fn a_rejection_costs_its_workload_no_turn() {
        let mut queue = Queue::new();
        for item in 0..4 {
            queue.push_back(secs(0.0), Class::Normal, WorkloadId(item % 2), 1.0, item);
        }
        for _ in 0..10 {
            assert_eq!(pop(&mut queue, 1.0, ANY), Some(0));
            queue.put_back(secs(0.0), Class::Normal, WorkloadId(0), 1.0, 0);
        }
        assert_eq!([0, 1, 2, 3].map(|_| pop(&mut queue, 1.0, ANY)), [Some(0), Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn background_ages_so_it_is_slow_but_never_dead() {
        let mut queue = Queue::new();
        for item in 0..3 {
            queue.push_back(secs(0.0), Class::Background, WorkloadId(1), 1.0, 1000 + item);
        }
        let mut served = Vec::new();
        for second in 0..100 {
            queue.push_back(secs(f64::from(second)), Class::Interactive, WorkloadId(0), 1.0, second);
            queue.push_back(secs(f64::from(second)), Class::Interactive, WorkloadId(0), 1.0, second);
            let last = served.last().map_or(Timestamp::ZERO, |&second: &u32| secs(f64::from(second)));
            let (item, _) = queue.pop(secs(f64::from(second)), ANY, || [last; 3], |_| false, |_| true).unwrap();
            if item >= 1000 {
                served.push(second);
            }
        }
        assert_eq!(served, [31, 62, 93], "one every thirty seconds under a flood");
    }

    #[test]
    fn weights_share_a_class_and_idling_saves_up_no_credit() {
        let mut queue = Queue::new();
        let mut served = HashMap::new();
        for item in 0..4000 {
            queue.push_back(secs(0.0), Class::Normal, WorkloadId(0), 1.0, item);
        }
        for _ in 0..1000 {
            pop(&mut queue, 0.0, ANY).unwrap();
        }
        for item in 4000..8000 {
            queue.push_back(secs(0.0), Class::Normal, WorkloadId(1), 3.0, item);
        }
        for _ in 0..4000 {
            *served.entry(pop(&mut queue, 0.0, ANY).unwrap() >= 4000).or_insert(0) += 1;
        }
        assert!((995..=1005).contains(&served[&false]), "{served:?}");
    }

    #[test]
    fn a_rejected_job_returns_to_the_front_and_costs_its_workload_no_turn() {
        let mut queue = Queue::new();
        for item in 0..10 {
            queue.push_back(secs(f64::from(item)), Class::Normal, WorkloadId(item % 2), 1.0, item);
        }
        let (first, since) = queue.pop(secs(20.0), ANY, never, |_| false, |_| true).unwrap();
        let (second, since_second) = queue.pop(secs(20.0), ANY, never, |_| false, |_| true).unwrap();
        queue.put_back(since, Class::Normal, WorkloadId(first % 2), 1.0, first);
        queue.put_back(since_second, Class::Normal, WorkloadId(second % 2), 1.0, second);
        let order: Vec<_> = std::iter::from_fn(|| pop(&mut queue, 21.0, ANY)).collect();
        assert_eq!(order, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn a_workload_at_its_own_cap_is_passed_over() {
        let mut queue = Queue::new();
        queue.push_back(secs(0.0), Class::Normal, WorkloadId(0), 1.0, 1);
        queue.push_back(secs(0.0), Class::Normal, WorkloadId(1), 1.0, 2);
        let full = |workload| workload == WorkloadId(0);
        assert_eq!(queue.pop(secs(0.0), ANY, never, full, |_| true).unwrap().0, 2);
        assert!(queue.pop(secs(0.0), ANY, never, full, |_| true).is_none());
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn being_held_back_by_a_cap_saves_up_no_credit() {
        let mut queue = Queue::new();
        for item in 0..300 {
            queue.push_back(secs(0.0), Class::Normal, WorkloadId(item % 2), 1.0, item);
        }
        let capped = |workload| workload == WorkloadId(0);
        for _ in 0..100 {
            queue.pop(secs(0.0), ANY, never, capped, |_| true).unwrap();
        }
        let next: Vec<_> = (0..20).map(|_| pop(&mut queue, 0.0, ANY).unwrap() % 2).collect();
        assert!((9..=11).contains(&next.iter().sum::<u32>()), "{next:?}");
    }

    proptest! {
        /// Every job comes out exactly once, unless it was cancelled, and each workload's jobs in their order; entries of
        /// cancelled jobs are swept.
        #[test]
        fn every_job_comes_out_exactly_once_in_its_workloads_order(
            steps in prop::collection::vec((0u8..4, 0u8..3, 0u32..4), 1..400),
        ) {
            let mut queue: Queue<usize> = Queue::new();
            let mut state: Vec<(Class, u32, bool)> = Vec::new();
            let mut waiting: Vec<usize> = Vec::new();
            let mut last: HashMap<(Class, u32), usize> = HashMap::new();
            for (step, (what, class, workload)) in steps.into_iter().enumerate() {
                let now = Timestamp::from_micros(step as u64);
                match what {
                    0 | 1 => {
                        let class = Class::ALL[class as usize];
                        let item = state.len();
                        queue.push_back(now, class, WorkloadId(workload), 1.0 + f64::from(workload), item);
                        state.push((class, workload, true));
                        waiting.push(item);
                    }
                    2 if !waiting.is_empty() => {
                        let item = waiting.swap_remove(workload as usize % waiting.len());
                        state[item].2 = false;
                        queue.on_cancelled(|item| state[item].2);
                    }
                    _ => {
                        let popped = queue.pop(now, ANY, never, |_| false, |item: usize| state[item].2);
                        prop_assert_eq!(popped.is_some(), !waiting.is_empty());
                        if let Some((item, _)) = popped {
                            let at = waiting.iter().position(|&other| other == item);
                            prop_assert!(at.is_some(), "served twice or after it was cancelled");
                            waiting.swap_remove(at.unwrap());
                            state[item].2 = false;
                            let (class, workload, _) = state[item];
                            if let Some(earlier) = last.insert((class, workload), item) {
                                prop_assert!(earlier < item, "overtaken in its own line");
                            }
                        }
                    }
                }
                prop_assert_eq!(queue.len(), waiting.len());
                prop_assert!(queue.dead <= queue.live + 65);
            }
        }
    }
}
