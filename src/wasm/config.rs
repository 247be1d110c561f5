//! A client's configuration from numbers and words. The driver has checked types and ranges by then, in the words its
//! users know.

use crate::core::call::Clocks;
use crate::core::queue::Class;
use crate::core::quota::QuotaSpec;
use crate::core::route::{ModelSpec, RouteSpec, Strategy};
use crate::core::scheduler::{Config, WorkloadSpec};
use crate::core::text::Parts;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// What is still to be read. A number that is missing is 0, a word that is missing is empty; either stands for what was
/// not said.
struct Reader<'a> {
    numbers: core::slice::Iter<'a, f64>,
    words: Parts<'a>,
}

/// Reads a configuration; `js/src/options.ts` writes it.
pub(super) fn read(numbers: &[f64], words: &str) -> Config {
    let mut reader = Reader { numbers: numbers.iter(), words: Parts::of(words, 0) };
    let mut config = Config::new(Vec::new());
    config.strategy = match reader.number() as u32 {
        1 => Strategy::Weighted,
        2 => Strategy::RoundRobin,
        _ => Strategy::Ordered,
    };
    if let Some(most) = reader.count() {
        config.max_queued = most as usize;
    }
    config.deadline = super::span(reader.number());
    if let Some(attempts) = reader.count() {
        config.retry.max_attempts = attempts;
    }
    let clocks = [reader.number(), reader.number(), reader.number()];
    set_clocks(&mut config.clocks, clocks);
    let (routes, workloads) = (reader.number() as u32, reader.number() as u32);
    for _ in 0..routes {
        config.routes.push(reader.route());
    }
    for _ in 0..workloads {
        config.workloads.push(reader.workload());
    }
    config
}

/// Sets the clocks for the head, the first content and silence to so many milliseconds; 0 leaves one as it is, infinity
/// turns it off.
pub(super) fn set_clocks(clocks: &mut Clocks, millis: [f64; 3]) {
    let [headers, first_content, idle] = millis;
    set_clock(&mut clocks.headers, headers);
    set_clock(&mut clocks.first_content, first_content);
    set_clock(&mut clocks.idle, idle);
}

#[inline(never)]
fn set_clock(clock: &mut Option<Duration>, millis: f64) {
    if millis != 0.0 {
        *clock = super::span(millis);
    }
}

impl Reader<'_> {
    #[inline(never)]
    fn number(&mut self) -> f64 {
        self.numbers.next().copied().unwrap_or_default()
    }

    /// The cast saturates.
    #[inline(never)]
    fn whole(&mut self) -> Option<u64> {
        Some(self.number() as u64).filter(|number| *number > 0)
    }

    #[inline(never)]
    fn count(&mut self) -> Option<u32> {
        Some(self.number() as u32).filter(|number| *number > 0)
    }

    #[inline(never)]
    fn word(&mut self) -> String {
        self.words.next().unwrap_or_default().into()
    }

    fn maybe_word(&mut self) -> Option<String> {
        Some(self.word()).filter(|word| !word.is_empty())
    }

    fn route(&mut self) -> RouteSpec {
        let (name, account) = (self.word(), self.word());
        let mut route = RouteSpec::new(name, account);
        route.weight = self.number();
        route.any_model = self.number() != 0.0;
        route.per_user = self.number() != 0.0;
        route.max_concurrency = self.count();
        route.quota = QuotaSpec {
            requests_per_minute: self.whole(),
            tokens_per_minute: self.whole(),
            requests_per_day: self.whole(),
        };
        let (deepseek, models) = (self.number() != 0.0, self.number() as u32);
        for _ in 0..models {
            route.models.push(self.model());
        }
        if deepseek && models == 0 { route.with_deepseek_models() } else { route }
    }

    fn model(&mut self) -> ModelSpec {
        ModelSpec { name: self.word(), upstream: self.maybe_word(), lane: self.maybe_word(), hint: self.count() }
    }

    fn workload(&mut self) -> WorkloadSpec {
        let class = match self.number() as u32 {
            1 => Class::Interactive,
            2 => Class::Background,
            _ => Class::Normal,
        };
        let mut workload = WorkloadSpec::new(self.word(), class);
        workload.weight = self.number();
        workload.max_concurrency = self.count();
        workload
    }
}
