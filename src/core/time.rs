//! Time as the core sees it: handed in, monotonic, in microseconds.

use core::fmt;
use core::ops::{Add, AddAssign, Sub};
use core::time::Duration;

/// A moment, in microseconds since the gate was made.
///
/// The core never reads a clock: drivers hand a `Timestamp` to every call, and it must not run backwards (one that
/// does is read as "no time has passed"). 64 bits of microseconds last 584,000 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment the gate was made.
    pub const ZERO: Self = Self(0);
    /// Later than everything: "never".
    pub const MAX: Self = Self(u64::MAX);

    /// The moment `micros` microseconds after the gate was made.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The moment `secs` seconds after the gate was made; negative and NaN are zero.
    pub fn from_secs_f64(secs: f64) -> Self {
        // `as` saturates: NaN and negatives become 0, infinity becomes MAX.
        Self((secs * 1e6) as u64)
    }

    /// Microseconds since the gate was made.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Seconds since the gate was made.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// How long ago `earlier` was; zero if it is not in the past.
    #[cfg_attr(target_family = "wasm", inline(never))]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Microseconds since `earlier`; zero if it is not in the past.
    pub(crate) const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Seconds since `earlier`; zero if it is not in the past.
    #[cfg_attr(target_family = "wasm", inline(never))]
    pub fn secs_since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e6
    }

    /// `secs` seconds later (negative and NaN count as zero).
    #[cfg_attr(target_family = "wasm", inline(never))]
    pub fn plus_secs(self, secs: f64) -> Self {
        Self(self.0.saturating_add((secs * 1e6) as u64))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    /// Saturates at [`Timestamp::MAX`].
    #[cfg_attr(target_family = "wasm", inline(never))]
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(micros(by)))
    }
}

/// A duration in whole microseconds, at most as many as a [`Timestamp`] holds. Not by `as_micros`, whose 128 bits cost the
/// npm package dearly, and in one place.
#[cfg_attr(target_family = "wasm", inline(never))]
pub(crate) fn micros(span: Duration) -> u64 {
    const PER_SECOND: u64 = 1_000_000;
    if span.as_secs() >= u64::MAX / PER_SECOND {
        return u64::MAX;
    }
    span.as_secs() * PER_SECOND + u64::from(span.subsec_micros())
}

/// A part of a duration, or a multiple, to the microsecond.
#[cfg_attr(target_family = "wasm", inline(never))]
pub(crate) fn scaled(span: Duration, by: f64) -> Duration {
    // The cast saturates.
    Duration::from_micros((micros(span) as f64 * by) as u64)
}

impl AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, by: Duration) {
        *self = *self + by;
    }
}

impl Sub for Timestamp {
    type Output = Duration;
    /// The same as [`Timestamp::saturating_since`]: never negative.
    fn sub(self, earlier: Self) -> Duration {
        self.saturating_since(earlier)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t+{:.6}s", self.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let t = Timestamp::from_micros(5);
        assert_eq!(t - Timestamp::from_micros(9), Duration::ZERO);
        assert_eq!(t + Duration::MAX, Timestamp::MAX);
        assert_eq!(Timestamp::MAX.plus_secs(f64::INFINITY), Timestamp::MAX);
        assert_eq!(t.plus_secs(f64::NAN), t);
        assert_eq!(t.plus_secs(-1.0), t);
        assert_eq!(Timestamp::from_secs_f64(1.5).as_micros(), 1_500_000);
    }
}
