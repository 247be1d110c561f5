//! Limits that nobody configured: what a server says of them, how it gives back what was spent, and what was sent since.

use alloc::vec::Vec;

/// The longest that a limit is believed to last: a day, in seconds.
const LONGEST: f64 = 86_400.0;

/// How a server gives back what was spent, as far as its words have told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// All at once, when the window ends. Also what holds until it is known better: the least that any server does.
    Fixed,
    /// Each unit a window after it was spent.
    Rolling,
    /// Evenly, as a token bucket does.
    Refill,
}

/// What the server said with the answer to one request: how things stood when it took that request in. Here and below
/// times are in seconds, and all numbers are floats, which is the smaller code.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    /// When the request was sent. The headers may come minutes later, with the end of its answer.
    pub(super) sent: f64,
    /// The request's number on its lane, in the order of sending.
    pub(super) number: f64,
    pub(super) used: f64,
    /// How long until all of it is back.
    pub(super) reset: f64,
}

/// Requests sent, by time.
#[derive(Debug, Default)]
pub(super) struct Sendings {
    /// The number of the last one.
    pub(super) count: f64,
    /// When it was sent.
    last: f64,
    /// The number of the last one that the server has let in.
    pub(super) admitted: f64,
    /// (when, the number of the last one sent then), oldest first; those before the oldest are long gone. Kept from the
    /// first sign of a limit on.
    pub(super) log: Vec<(f64, f64)>,
    /// What is sent within this time is one entry.
    grain: f64,
}

impl Sendings {
    const MOST: usize = 4096;

    pub(super) fn note(&mut self, now: f64, number: f64) {
        self.count = number;
        self.last = now;
        match self.log.last_mut() {
            None => {}
            Some((at, last)) if now < *at + self.grain => *last = number,
            Some(_) => {
                if self.log.len() == Self::MOST {
                    self.log.drain(..Self::MOST / 4);
                }
                self.log.push((now, number));
            }
        }
    }

    /// Keeps the log from now on, if it is not kept yet; all that is known is when request `number` was sent.
    pub(super) fn keep(&mut self, now: f64, sent: f64, number: f64, window: f64) {
        let grain = window / 1024.0;
        if self.log.is_empty() {
            self.log.extend_from_slice(&[(0.0, number - 1.0), (sent, number), (now, self.count)]);
            self.grain = grain;
        }
        self.grain = self.grain.min(grain);
    }

    /// When more may follow the request `number` after which it is not known whether the server takes any: one goes ahead,
    /// and each that is let in draws two more. Where nothing is heard, another goes after a second.
    pub(super) fn trial_at(&self, number: f64) -> f64 {
        let let_in = (self.admitted - number).max(0.0);
        if self.count - number <= 2.0 * let_in { 0.0 } else { self.last + 1.0 }
    }

    /// The number of the last request sent by then, to the grain.
    #[cfg_attr(target_family = "wasm", inline(never))]
    pub(super) fn by(&self, then: f64) -> f64 {
        let at = self.log.partition_point(|&(sent, _)| sent <= then);
        self.log.get(at.saturating_sub(1)).map_or(0.0, |&(_, number)| number)
    }

    /// When request `number` was sent, to the grain.
    #[cfg_attr(target_family = "wasm", inline(never))]
    fn time_of(&self, number: f64) -> f64 {
        // What tokens come to in requests is not exact, and a hair more would be another request.
        let at = self.log.partition_point(|&(_, last)| last < number - 1e-6);
        self.log.get(at).map_or(self.last, |&(sent, _)| sent)
    }
}

/// A limit on requests or on tokens that the server states: its newest word, brought up to date by what was sent since.
/// Or one that it does not state but was found out.
#[derive(Debug)]
pub(super) struct Stated {
    counts_tokens: bool,
    limit: f64,
    kind: Kind,
    /// The longest reset seen, rounded up to what windows usually are.
    pub(super) window: f64,
    word: Word,
    /// An older word; how the reset moved since tells the kind.
    reference: Word,
    /// What a request takes: 1, or tokens on average.
    each: f64,
    /// How many requests that is the average of.
    sample: f64,
    /// Seconds in which a token bucket gives one unit back.
    unit: f64,
    /// When all is back that was used by the newest word; in a token bucket also what was used since.
    whole_at: f64,
    /// What was left and yet too little, if the newest word is a rejection.
    lacked: f64,
    /// For a limit that was found out: the limit (of a rolling window) or the unit (of a bucket) as measured, and how many
    /// requests were sent since.
    pub(super) guess: Option<(f64, f64)>,
}

impl Stated {
    pub(super) fn new(counts_tokens: bool, limit: f64, word: Word) -> Self {
        // Others may have used more of it than the requests that are known of.
        let tokens = (word.used / word.number.max(1.0)).min(limit / 16.0).max(1.0);
        Self {
            counts_tokens,
            limit,
            kind: Kind::Fixed,
            window: 0.0,
            word,
            reference: word,
            each: if counts_tokens { tokens } else { 1.0 },
            sample: 0.0,
            unit: 0.0,
            whole_at: 0.0,
            lacked: 0.0,
            guess: None,
        }
    }

    /// A limit that nothing states: in `window` seconds the server took in `took`, the last of it by `sent`. It gave
    /// nothing back for long then (`slow`), or evenly.
    pub(super) fn guessed(sent: f64, window: f64, took: f64, slow: bool) -> Self {
        let unit = window / took;
        let word = Word { sent, number: 0.0, used: 0.0, reset: 0.0 };
        let (kind, limit, measured) = if slow { (Kind::Rolling, took, took) } else { (Kind::Refill, 2.0, unit) };
        Self { kind, unit, window, guess: Some((measured, 0.0)), ..Self::new(false, limit, word) }
    }

    /// Takes the server's word, unless a newer one is known.
    pub(super) fn hear(&mut self, now: f64, sendings: &Sendings, limit: f64, word: Word, admitted: bool) {
        const USUAL: [f64; 4] = [1.0, 10.0, 60.0, 3600.0];
        let before = self.word;
        if word.number < before.number {
            return;
        }
        // It may be another limit that is told of now, with another window.
        if limit != self.limit {
            self.limit = limit;
            self.window = 0.0;
        }
        let window = USUAL.into_iter().find(|&usual| word.reset <= usual);
        self.window = self.window.max(window.unwrap_or(LONGEST));
        // A rejected request took nothing.
        if self.counts_tokens && admitted {
            let between = word.number - before.number;
            let (mut requests, mut took) = (between, word.used - before.used);
            match self.kind {
                Kind::Fixed => {}
                Kind::Rolling => {
                    requests -= sendings.by(word.sent - self.window) - sendings.by(before.sent - self.window);
                }
                Kind::Refill => took += ((word.sent - before.sent) / self.unit).min(before.used),
            }
            // Where more came back than was taken, nothing can be told.
            if requests > 0.5 * between && took > requests {
                self.each += (took / requests - self.each) * requests / (requests + self.sample);
                self.sample = (self.sample + requests).min(16.0);
            }
        }
        self.tell_kind(word);
        self.word = word;
        let left = self.limit - word.used;
        self.lacked = if !admitted && self.counts_tokens && left < 8.0 * self.each { left } else { 0.0 };
        // A hair later: times are rounded.
        self.whole_at = word.sent + word.reset + self.window / 1024.0;
        if word.used > 0.0 && word.reset > 0.0 {
            self.unit = word.reset / word.used;
        }
        self.spend(now, (sendings.count - word.number).max(0.0));
    }

    /// The kind shows in the reset: a bucket's is in proportion to what was used, a fixed window's runs down with the
    /// time, a rolling one's stays.
    fn tell_kind(&mut self, word: Word) {
        let from = self.reference;
        let apart = word.sent - from.sent;
        let off = |foretold: f64| (word.reset - foretold).abs();
        let refill = off(from.reset * word.used / from.used.max(1.0));
        let (fixed, rolling) = (off(from.reset - apart), off(from.reset));
        let clear = |best: f64, others: f64| others > (best + self.window / 32.0).max(4.0 * best);
        let kind = if clear(refill, fixed.min(rolling)) {
            Some(Kind::Refill)
        } else if clear(fixed, refill.min(rolling)) {
            Some(Kind::Fixed)
        } else if clear(rolling, refill.min(fixed)) {
            Some(Kind::Rolling)
        } else {
            None
        };
        self.kind = kind.unwrap_or(self.kind);
        if kind.is_some() || apart > self.window / 8.0 {
            self.reference = word;
        }
    }

    /// Only a bucket is kept level by hand; windows are reckoned from what was sent when.
    pub(super) fn spend(&mut self, now: f64, requests: f64) {
        if let Some((measured, since)) = &mut self.guess {
            *since += requests;
            // Slow at first: what is too much shows only when a window is full. Where little is sent, by the hour.
            let age = (now - self.word.sent) / 3600.0;
            let grown = (*since / (4.0 * self.limit).max(256.0)).max(age);
            let grown = 1.0 + grown * grown * grown / 8.0;
            match self.kind {
                Kind::Refill => self.unit = *measured / grown,
                _ => self.limit = *measured * grown,
            }
        }
        if self.kind == Kind::Refill {
            let spent = requests * self.each * self.unit;
            // It can't be emptier than empty.
            let most = (self.limit * self.unit).min(LONGEST);
            self.whole_at = (self.whole_at.max(now) + spent).min(now + most);
        }
    }

    /// Units a minute that can be kept up; `None` of a bucket that has always been full.
    pub(super) fn per_minute(&self) -> Option<f64> {
        let unit = if self.kind == Kind::Refill { self.unit } else { self.window / self.limit };
        (unit > 0.0).then_some(60.0 / unit)
    }

    pub(super) fn opens_at(&self, sendings: &Sendings, now: f64, tokens: f64) -> f64 {
        // Estimates are not exact, and a bucket filled not quite to the brim gives no less.
        let spare = if self.counts_tokens || self.kind == Kind::Refill { (self.limit / 64.0) as u32 } else { 0 };
        let asked = if self.counts_tokens && tokens > 1.0 { tokens } else { self.each };
        let room = (self.limit - f64::from(spare) - self.lacked - asked).max(0.0);
        if self.kind == Kind::Refill {
            return self.whole_at - room * self.unit;
        }
        // What the grain blurs counts as late, never as early.
        let span = self.window + sendings.grain;
        let left = sendings.by(now - span);
        let since = (sendings.count - left.max(self.word.number)) * self.each;
        let mut used = self.word.used + since;
        if self.kind == Kind::Rolling {
            let known = sendings.by(self.word.sent - self.window);
            let back = (left.min(self.word.number) - known).max(0.0) * self.each;
            used = (used - back).max((sendings.count - left) * self.each);
        }
        let over = used - room;
        if over <= 0.0 {
            return 0.0;
        }
        let leaves = |over: f64, left: f64| sendings.time_of(left + over / self.each) + span;
        let whole_at = if since > room {
            leaves(since - room, left.max(self.word.number))
        } else {
            sendings.trial_at(sendings.by(self.whole_at - 1e-6))
        };
        let whole_at = whole_at.max(self.whole_at);
        if self.kind == Kind::Rolling { whole_at.min(leaves(over, left)) } else { whole_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rounding_adds_to_a_number_is_not_another_request() {
        let mut sendings = Sendings::default();
        sendings.note(1.0, 1.0);
        sendings.keep(1.0, 1.0, 1.0, 60.0);
        sendings.note(5.0, 2.0);
        sendings.note(9.0, 3.0);
        assert_eq!([1.5, 2.0, 2.0 + 1e-12, 2.5].map(|number| sendings.time_of(number)), [5.0, 5.0, 5.0, 9.0]);
    }
}
