//! What of floating-point arithmetic the standard library has and `core` has not, in as little code as will do: the exact
//! way takes tables and 128-bit arithmetic, which the npm package would have to bring along.

/// As the methods of `f64` in the standard library, which go before these where it is there.
pub(crate) trait Float {
    /// The square root, to the last bit or two; NaN of a negative number, and rough below 1e-300.
    fn sqrt(self) -> Self;
    /// The smallest whole number that is not less; of what fits 64 bits.
    fn ceil(self) -> Self;
    /// The nearest whole number, halves away from zero; of what fits 64 bits.
    fn round(self) -> Self;
    /// A whole power.
    fn powi(self, power: i32) -> Self;
    /// The exponential, to about twelve digits.
    fn exp(self) -> Self;
}

impl Float for f64 {
    fn sqrt(self) -> Self {
        if !(0.0..Self::INFINITY).contains(&self) || self == 0.0 {
            return if self < 0.0 { Self::NAN } else { self };
        }
        // Half the exponent is near the root, to a few percent; each step doubles the digits.
        let mut root = Self::from_bits((self.to_bits() >> 1) + 0x1FF7_A3BE_A91D_9B1B);
        for _ in 0..4 {
            root = 0.5 * (root + self / root);
        }
        root
    }

    fn ceil(self) -> Self {
        let whole = self as i64 as Self;
        if whole < self { whole + 1.0 } else { whole }
    }

    fn round(self) -> Self {
        (self + Self::copysign(0.5, self)) as i64 as Self
    }

    fn powi(self, power: i32) -> Self {
        let product = (0..power.unsigned_abs()).fold(1.0, |product, _| product * self);
        if power < 0 { 1.0 / product } else { product }
    }

    fn exp(self) -> Self {
        // By squaring that of a 1024th, whose series ends after a few terms. What lies beyond is nothing, or beyond all.
        let small = self.clamp(-746.0, 710.0) / 1024.0;
        let mut value = (1..16).rev().fold(1.0, |sum, n| 1.0 + small * sum / Self::from(n));
        for _ in 0..10 {
            value *= value;
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::Float;
    use proptest::prelude::*;

    fn close(found: f64, expected: f64, digits: i32) -> Result<(), TestCaseError> {
        let near = (found - expected).abs() <= expected.abs() * 10f64.powi(-digits);
        prop_assert!(near || found == expected, "{found} for {expected}");
        Ok(())
    }

    proptest! {
        #[test]
        fn it_is_what_the_standard_library_has(
            x in prop_oneof![-1e3f64..1e3, -1e15f64..1e15, 0f64..1e-9, Just(0f64), Just(2f64), Just(1e9f64)],
            power in -40i32..40,
        ) {
            close(<f64 as Float>::sqrt(x.abs()), x.abs().sqrt(), 15)?;
            close(<f64 as Float>::powi(x, power), x.powi(power), 13)?;
            prop_assert_eq!(<f64 as Float>::ceil(x), x.ceil());
            prop_assert_eq!(<f64 as Float>::round(x), x.round());
        }

        #[test]
        fn an_exponential_has_twelve_digits(x in prop_oneof![-700f64..700.0, -1f64..1.0]) {
            close(<f64 as Float>::exp(x), x.exp(), 12)?;
        }
    }

    #[test]
    fn what_is_beyond_numbers_stays_there() {
        assert!(<f64 as Float>::sqrt(-1.0).is_nan() && <f64 as Float>::sqrt(f64::NAN).is_nan());
        assert_eq!((<f64 as Float>::sqrt(f64::INFINITY), <f64 as Float>::sqrt(0.0)), (f64::INFINITY, 0.0));
        assert_eq!(
            (<f64 as Float>::exp(f64::NEG_INFINITY), <f64 as Float>::exp(-1e9), <f64 as Float>::exp(1e9)),
            (0.0, 0.0, f64::INFINITY)
        );
    }
}
