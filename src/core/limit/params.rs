//! How a limit starts and learns.

use core::time::Duration;

/// How a [`Ceiling`](super::Ceiling) starts and learns. The defaults are right for a provider about which nothing is
/// known.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// Hard ceiling: never more in flight, whatever the server would take. `None`: no ceiling; zero is read as 1.
    pub max: Option<u32>,
    /// A published cap, as a hint for the first climb only, which strides out until there.
    pub hint: Option<u32>,
    /// The window to start with, in requests. Default 4.
    pub initial: u32,
    /// How steep the first climb is: within the time a rejection takes it rises by the root of twice this many times the
    /// level. Default 3.
    pub first_gain: f64,
    /// The same for later climbs, which begin at the window with one slot in that time. Default 0.1.
    pub gain: f64,
    /// Above this value's square the steps of retreats grow with the window's root. Default 8.
    pub ascent: f64,
    /// How many requests may be unresolved at once whatever is proved. Default 4.
    pub burst: u32,
    /// The price of an unpunished rejection, in requests' worth of lost work: what probing is budgeted by. Default 4.
    pub price: f64,
    /// How long a movement of the cap makes the next one likelier. Default 120 s.
    pub memory: Duration,
    /// How long a cancelled request is still counted, for the server may count it too. Default 1 s.
    pub linger: Duration,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            max: None,
            hint: None,
            initial: 4,
            first_gain: 3.0,
            gain: 0.1,
            ascent: 8.0,
            burst: 4,
            price: 4.0,
            memory: Duration::from_secs(120),
            linger: Duration::from_secs(1),
        }
    }
}

impl Params {
    /// No window goes higher, whatever is asked for.
    const HIGHEST: u32 = 1 << 24;

    /// The hard ceiling as a number.
    pub(super) fn ceiling(&self) -> u32 {
        self.max.map_or(Self::HIGHEST, |max| max.clamp(1, Self::HIGHEST))
    }

    /// The same with every number in a range the arithmetic is made for: NaN becomes the default, the rest is clamped.
    pub(super) fn sane(mut self) -> Self {
        let default = Self::default();
        let within = |value: f64, default: f64| if value.is_nan() { default } else { value.clamp(0.01, 1000.0) };
        self.first_gain = within(self.first_gain, default.first_gain);
        self.gain = within(self.gain, default.gain);
        self.ascent = within(self.ascent, default.ascent);
        self.price = within(self.price, default.price);
        self.burst = self.burst.max(1);
        self.memory = self.memory.max(Duration::from_secs(1));
        self
    }
}
