//! What the standard library does with floating-point numbers, where there is none.
//!
//! libm's functions are right to the last bit, and for that a kilobyte of the npm package. These are right to eleven digits:
//! what they are asked for are estimates.

/// The methods of `f64` that are the standard library's, for numbers as the core has them.
pub(crate) trait Float {
    /// Of what is not negative, where it becomes an integer next.
    fn ceil(self) -> f64;
    /// Of what is not negative, where it becomes an integer next.
    fn round(self) -> f64;
    /// `power` is not negative, and small.
    fn powi(self, power: i32) -> f64;
    /// Of what is not negative.
    fn sqrt(self) -> f64;
    fn exp(self) -> f64;
}

impl Float for f64 {
    fn ceil(self) -> f64 {
        let whole = self as u64 as f64;
        if whole < self { whole + 1.0 } else { whole }
    }

    fn round(self) -> f64 {
        (self + 0.5) as u64 as f64
    }

    fn powi(self, power: i32) -> f64 {
        (0..power).fold(1.0, |product, _| product * self)
    }

    fn sqrt(self) -> f64 {
        if self == 0.0 || self == f64::INFINITY {
            return self;
        }
        // Half the exponent is right to a few per cent, and each step of Newton's doubles the digits that are.
        let guess = f64::from_bits((self.to_bits() + 1f64.to_bits()) / 2);
        (0..5).fold(guess, |root, _| (root + self / root) / 2.0)
    }

    fn exp(self) -> f64 {
        const HALVINGS: i32 = 10;
        // Below that there is next to nothing. For what is this small the series is short, and then squared as often.
        let small = self.max(-700.0) / f64::from(1 << HALVINGS);
        let series = (1..=16).rev().fold(1.0, |sum, n| 1.0 + sum * small / f64::from(n));
        (0..HALVINGS).fold(series, |power, _| power * power)
    }
}

#[cfg(test)]
mod tests {
    use super::Float;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_are_as_the_standard_librarys(
            x in prop_oneof![Just(0.0), Just(f64::INFINITY), 0.0..1e6f64, 0.0..1e18f64, (0u32..1000).prop_map(f64::from)], n in 0..30, y in -800.0..20.0f64,
        ) {
            let near = |ours: f64, theirs: f64| ours == theirs || (ours - theirs).abs() <= 1e-11 * theirs + 1e-300;
            prop_assert!(near(Float::sqrt(x), f64::sqrt(x)), "the root of {x}");
            prop_assert!(near(Float::exp(y), f64::exp(y)), "e to the power of {y}");
            prop_assert!(near(Float::powi(x, n), f64::powi(x, n)), "{x} to the power of {n}");
            prop_assert_eq!(Float::ceil(x) as u64, f64::ceil(x) as u64);
            // Where numbers are so large that there are no halves, one half more may be one more.
            prop_assert!((4e15..1e16).contains(&x) || Float::round(x) as u64 == f64::round(x) as u64, "{x} rounded");
        }
    }
}
