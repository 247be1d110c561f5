//! A [`Cap`] followed through time, in whole microseconds so that every change has one exact moment.

use crate::core::time::Timestamp;

use super::scenario::{Cap, PUBLISHED_FLASH_CAP, PUBLISHED_PRO_CAP, standard_normal};

/// A walk is remembered step by step; after this many it stands still.
const MAX_WALK_STEPS: usize = 1 << 22;

/// Where a cap is at any moment, and when it next changes.
#[derive(Debug)]
pub(crate) enum CapTrack {
    Constant(u32),
    Steps { points: Vec<(u64, u32)>, repeat: Option<u64> },
    Sawtooth { low: u32, high: u32, period: u64, falling: bool },
    Walk { every: u64, low: f64, high: f64, spread: f64, rng: fastrand::Rng, levels: Vec<f64> },
}

fn micros(secs: f64) -> u64 {
    Timestamp::from_secs_f64(secs).as_micros()
}

impl CapTrack {
    /// The track of a cap that passed [`Scenario::check`](super::Scenario::check).
    pub(crate) fn new(cap: &Cap, seed: u64) -> Self {
        match cap {
            Cap::Constant(cap) => Self::Constant(*cap),
            Cap::Steps(s) => Self::Steps {
                points: s.points.iter().map(|&(at, cap)| (micros(at), cap)).collect(),
                repeat: s.repeat.map(|r| micros(r).max(1)),
            },
            Cap::Sawtooth(s) => {
                Self::Sawtooth { low: s.low, high: s.high, period: micros(s.period).max(1), falling: s.falling }
            }
            Cap::Walk(w) => {
                let (low, high) = (f64::from(w.low), f64::from(w.high));
                Self::Walk {
                    every: micros(w.every).max(1),
                    low,
                    high,
                    spread: w.spread,
                    rng: fastrand::Rng::with_seed(seed),
                    levels: vec![f64::from(w.start).max(low).min(high)],
                }
            }
        }
    }

    /// What DeepSeek publishes for a model of this name.
    pub(crate) fn published(model: &str) -> Self {
        Self::Constant(if model.contains("pro") { PUBLISHED_PRO_CAP } else { PUBLISHED_FLASH_CAP })
    }

    /// The cap at `now`.
    pub(crate) fn at(&mut self, now: Timestamp) -> u32 {
        let t = now.as_micros();
        match self {
            Self::Constant(cap) => *cap,
            Self::Steps { points, repeat } => {
                let phase = repeat.map_or(t, |r| t % r);
                let passed = points.partition_point(|&(at, _)| at <= phase);
                // Before the first point the first cap holds.
                points.get(passed.saturating_sub(1)).map_or(0, |&(_, cap)| cap)
            }
            Self::Sawtooth { low, high, period, falling } => {
                let levels = u64::from(*high - *low) + 1;
                let level = (u128::from(t % *period) * u128::from(levels) / u128::from(*period)) as u32;
                if *falling { *high - level } else { *low + level }
            }
            Self::Walk { every, low, high, spread, rng, levels } => {
                let step = usize::try_from(t / *every).map_or(MAX_WALK_STEPS, |s| s.min(MAX_WALK_STEPS));
                let mut level = levels.last().copied().unwrap_or(*low);
                while levels.len() <= step {
                    level = (level * (*spread * standard_normal(rng.f64(), rng.f64())).exp()).clamp(*low, *high);
                    levels.push(level);
                }
                levels.get(step).map_or(0, |level| level.round() as u32)
            }
        }
    }

    /// The first moment after `now` at which the cap may be another.
    pub(crate) fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let t = now.as_micros();
        let next = match self {
            Self::Constant(_) => return None,
            Self::Steps { points, repeat } => {
                let phase = repeat.map_or(t, |r| t % r);
                let passed = points.partition_point(|&(at, _)| at <= phase);
                match (points.get(passed), repeat) {
                    (Some(&(at, _)), _) => t.saturating_add(at - phase),
                    (None, Some(repeat)) => t.saturating_add(*repeat - phase),
                    (None, None) => return None,
                }
            }
            Self::Sawtooth { low, high, period, .. } => {
                let levels = u128::from(*high - *low) + 1;
                let (phase, period) = (u128::from(t % *period), u128::from(*period));
                let level = phase * levels / period;
                // The first phase whose level is the next one up; that of the last level's end is the period itself.
                let next = ((level + 1) * period).div_ceil(levels);
                t.saturating_add((next - phase) as u64)
            }
            Self::Walk { every, .. } => {
                let step = t / *every + 1;
                if step > MAX_WALK_STEPS as u64 {
                    return None;
                }
                step.saturating_mul(*every)
            }
        };
        Some(Timestamp::from_micros(next))
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{Sawtooth, Steps, Walk};
    use super::*;
    use proptest::prelude::*;

    fn at(track: &mut CapTrack, secs: f64) -> u32 {
        track.at(Timestamp::from_secs_f64(secs))
    }

    #[test]
    fn steps_jump_at_their_points_and_start_over() {
        let cap = Cap::Steps(Steps { points: vec![(0.0, 64), (60.0, 16)], repeat: Some(120.0) });
        let mut track = CapTrack::new(&cap, 0);
        for (t, cap) in [(0.0, 64), (59.999_999, 64), (60.0, 16), (119.999_999, 16), (120.0, 64), (180.0, 16)] {
            assert_eq!(at(&mut track, t), cap, "at {t}");
        }
        assert_eq!(track.next_change(Timestamp::from_secs_f64(60.0)), Some(Timestamp::from_secs_f64(120.0)));
    }

    #[test]
    fn before_the_first_point_the_first_cap_holds() {
        let mut track = CapTrack::new(&Cap::Steps(Steps { points: vec![(5.0, 7), (9.0, 3)], repeat: None }), 0);
        assert_eq!([at(&mut track, 0.0), at(&mut track, 5.0), at(&mut track, 1e6)], [7, 7, 3]);
        assert_eq!(track.next_change(Timestamp::from_secs_f64(9.0)), None);
    }

    #[test]
    fn a_sawtooth_spends_the_same_time_on_each_level() {
        let cap = |falling| Cap::Sawtooth(Sawtooth { low: 1, high: 4, period: 4.0, falling });
        let mut rising = CapTrack::new(&cap(false), 0);
        let mut falling = CapTrack::new(&cap(true), 0);
        let times = [0.0, 1.0, 2.0, 3.0, 3.999, 4.0];
        assert_eq!(times.map(|t| at(&mut rising, t)), [1, 2, 3, 4, 4, 1]);
        assert_eq!(times.map(|t| at(&mut falling, t)), [4, 3, 2, 1, 1, 4]);
    }

    #[test]
    fn a_walk_is_the_same_for_the_same_seed_and_stays_in_bounds() {
        let cap = Cap::Walk(Walk { start: 32, low: 8, high: 64, every: 1.0, spread: 0.5 });
        let walk = |seed| {
            let mut track = CapTrack::new(&cap, seed);
            (0..200).map(|t| at(&mut track, f64::from(t))).collect::<Vec<_>>()
        };
        assert_eq!(walk(1), walk(1));
        assert_ne!(walk(1), walk(2));
        assert!(walk(1).iter().all(|cap| (8..=64).contains(cap)));
        assert!(walk(1).windows(2).any(|w| w[0] != w[1]));
    }

    fn any_cap() -> impl Strategy<Value = Cap> {
        prop_oneof![
            (proptest::collection::btree_map(0u32..500, 0u32..100, 1..6), proptest::option::of(501u32..2000)).prop_map(
                |(points, repeat)| Cap::Steps(Steps {
                    points: points.into_iter().map(|(at, cap)| (f64::from(at) / 7.0, cap)).collect(),
                    repeat: repeat.map(|r| f64::from(r) / 7.0),
                })
            ),
            (0u32..50, 0u32..50, 1u32..3000, any::<bool>()).prop_map(|(low, more, period, falling)| Cap::Sawtooth(
                Sawtooth { low, high: low + more, period: f64::from(period) / 77.0, falling }
            )),
        ]
    }

    proptest! {
        /// Between one announced change and the next the cap stands still, so integrals over it are exact.
        #[test]
        fn the_cap_moves_only_at_announced_moments(cap in any_cap(), start in 0u64..200_000_000) {
            let mut track = CapTrack::new(&cap, 3);
            let mut t = Timestamp::from_micros(start);
            for _ in 0..50 {
                let Some(next) = track.next_change(t) else { break };
                prop_assert!(next > t);
                let level = track.at(t);
                let last = Timestamp::from_micros(next.as_micros() - 1);
                let middle = Timestamp::from_micros(t.as_micros().midpoint(last.as_micros()));
                prop_assert_eq!(track.at(last), level);
                prop_assert_eq!(track.at(middle), level);
                t = next;
            }
        }
    }
}
