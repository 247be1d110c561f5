//! Tokens: what an answer used, and what a request will use before anybody counted.

#[cfg(not(feature = "std"))]
use num_traits::Float as _;

/// The tokens of one answer, for accounting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TokenCount {
    /// All of the prompt, cached or not.
    pub prompt: u64,
    /// The part of the prompt that came from the provider's cache; 0 when the provider does not say.
    pub cached: u64,
    /// All that was generated, reasoning included.
    pub completion: u64,
    /// The part of the completion that was reasoning; 0 when the provider does not say.
    pub reasoning: u64,
}

impl TokenCount {
    /// Prompt and completion together.
    pub fn total(self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    /// The part of the prompt that was not in the cache.
    pub fn uncached(self) -> u64 {
        self.prompt.saturating_sub(self.cached)
    }
}

impl core::ops::AddAssign for TokenCount {
    fn add_assign(&mut self, other: Self) {
        self.prompt = self.prompt.saturating_add(other.prompt);
        self.cached = self.cached.saturating_add(other.cached);
        self.completion = self.completion.saturating_add(other.completion);
        self.reasoning = self.reasoning.saturating_add(other.reasoning);
    }
}

/// Tokens of an ASCII character, by DeepSeek's rule of thumb
/// (<https://api-docs.deepseek.com/quick_start/token_usage>).
const ASCII: f64 = 0.3;
/// Tokens of a Chinese character by the same rule. Other scripts outside ASCII are counted the same: rather too many
/// than too few.
const WIDE: f64 = 0.6;

/// The tokens of `text` by DeepSeek's rule of thumb: 0.3 an ASCII character, 0.6 any other.
/// An [`Estimator`] corrects it by what the provider counted.
pub fn estimate(text: &str) -> f64 {
    estimate_bytes(text.as_bytes())
}

/// [`estimate`] over UTF-8 that may be cut anywhere.
pub(crate) fn estimate_bytes(utf8: &[u8]) -> f64 {
    let ascii = utf8.iter().filter(|byte| byte.is_ascii()).count();
    let starts = utf8.iter().filter(|byte| **byte >= 0xC0).count();
    ascii as f64 * ASCII + starts as f64 * WIDE
}

/// Corrects [`estimate`] by what the provider really counted.
///
/// It keeps a moving average of actual tokens over estimated ones, in which long prompts count more than short ones:
/// what a chat template adds to a short prompt says nothing of text. The average shows another language, code, and
/// another provider's tokenizer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimator {
    ratio: f64,
    weight: f64,
}

impl Estimator {
    /// A prompt of as many estimated tokens, or more, is one whole sample; a shorter one is a part of one.
    const SAMPLE: f64 = 1024.0;
    /// What the rule of thumb weighs at first, in samples.
    const PRIOR: f64 = 0.25;
    /// The average's memory, in samples.
    const MEMORY: f64 = 20.0;
    /// One sample counts as at most this far off, either way: a prompt of images, or a nonsense count, must not
    /// spoil the average.
    const MAX_RATIO: f64 = 4.0;

    /// An estimator that trusts the rule of thumb until it learns better.
    pub fn new() -> Self {
        Self { ratio: 1.0, weight: Self::PRIOR }
    }

    /// Learned actual tokens per estimated token, between 0.25 and 4; 1 at first.
    pub fn ratio(&self) -> f64 {
        self.ratio
    }

    /// `estimated` tokens (from [`estimate`]) corrected by what was learned, rounded up. NaN and negatives give 0.
    pub fn correct(&self, estimated: f64) -> u64 {
        // A float-to-integer cast saturates, and takes NaN to 0.
        (estimated * self.ratio).ceil() as u64
    }

    /// Learns that a text estimated (by [`estimate`], uncorrected) at `estimated` tokens was counted as `actual` by the
    /// provider. Samples that are zero, negative or not finite are ignored.
    pub fn learn(&mut self, estimated: f64, actual: u64) {
        if !estimated.is_finite() || estimated <= 0.0 || actual == 0 {
            return;
        }
        let sample = (actual as f64 / estimated).clamp(1.0 / Self::MAX_RATIO, Self::MAX_RATIO);
        let weight = (estimated / Self::SAMPLE).min(1.0);
        self.weight = (self.weight + weight).min(Self::MEMORY);
        self.ratio += weight / self.weight * (sample - self.ratio);
    }
}

impl Default for Estimator {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn english_costs_three_tenths_a_character_and_chinese_six() {
        assert!(near(estimate("hello world"), 3.3));
        assert!(near(estimate("深度求索"), 2.4));
        assert!(near(estimate("a深"), 0.9));
        assert!(near(estimate(""), 0.0));
    }

    #[test]
    fn a_part_of_a_token_counts_as_one() {
        assert_eq!(Estimator::new().correct(0.3), 1);
    }

    #[test]
    fn long_prompts_teach_at_once_and_later_ones_move_it_slowly() {
        let mut estimator = Estimator::new();
        assert_eq!(estimator.correct(100.0), 100);
        estimator.learn(10_000.0, 15_000);
        assert!(near(estimator.ratio(), 1.4), "{estimator:?}");
        for _ in 0..1000 {
            estimator.learn(10_000.0, 8_000);
        }
        assert!((estimator.ratio() - 0.8).abs() < 1e-3, "{estimator:?}");
        let before = estimator.ratio();
        estimator.learn(10_000.0, u64::MAX);
        assert!(estimator.ratio() - before < 0.2, "one absurd count moved the ratio to {}", estimator.ratio());
    }

    #[test]
    fn the_chat_template_of_short_prompts_does_not_spoil_the_estimate_of_long_ones() {
        let mut estimator = Estimator::new();
        (0..10).for_each(|_| estimator.learn(5.0, 11));
        assert!(estimator.ratio() < 1.25, "{estimator:?}");
        (0..5).for_each(|_| estimator.learn(50_000.0, 50_000));
        (0..10).for_each(|_| estimator.learn(5.0, 11));
        assert!(estimator.ratio() < 1.05, "{estimator:?}");
    }

    #[test]
    fn what_cannot_teach_is_ignored() {
        let mut estimator = Estimator::new();
        for (estimated, actual) in [(0.0, 5), (f64::NAN, 5), (f64::INFINITY, 5), (-9.0, 5), (100.0, 0), (f64::MAX, 0)] {
            estimator.learn(estimated, actual);
        }
        assert_eq!(estimator, Estimator::new());
        assert_eq!(estimator.correct(f64::NAN), 0);
        assert_eq!(estimator.correct(-1.0), 0);
    }

    #[test]
    fn a_count_that_claims_more_cached_than_prompt_does_not_underflow() {
        let count = TokenCount { prompt: 3, cached: 9, completion: u64::MAX, reasoning: 0 };
        assert_eq!((count.uncached(), count.total()), (0, u64::MAX));
    }

    proptest! {
        #[test]
        fn the_estimate_is_that_of_its_characters(text in "\\PC*") {
            let expected: f64 = text.chars().map(|c| if c.is_ascii() { ASCII } else { WIDE }).sum();
            prop_assert!((estimate(&text) - expected).abs() < 1e-6);
        }

        #[test]
        fn the_ratio_stays_within_its_bounds(samples in proptest::collection::vec((any::<f64>(), any::<u64>()), 0..200)) {
            let mut estimator = Estimator::new();
            for (estimated, actual) in samples {
                estimator.learn(estimated, actual);
                prop_assert!((0.25..=4.0).contains(&estimator.ratio()));
            }
        }
    }
}
