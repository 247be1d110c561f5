//! Which ids are done. Only a hash of each is kept, so a million cost some 50 MB however long they are.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::fmt;
use std::hash::{Hash, Hasher};

/// 128 bits of an id: among a million, two collide with a probability of 10⁻²⁷.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct IdHash([u64; 2]);

impl IdHash {
    pub(super) fn of(id: &str) -> Self {
        Self([0u8, 1].map(|half| {
            let mut hasher = DefaultHasher::new();
            (half, id).hash(&mut hasher);
            hasher.finish()
        }))
    }
}

impl fmt::Display for IdHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.0[0], self.0[1])
    }
}

/// What an id of the input comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is to be asked.
    New,
    /// An earlier run has its answer.
    Answered,
    /// An earlier line of the input has it.
    Duplicate,
}

/// The ids answered by earlier runs and those seen in the input.
#[derive(Default)]
pub(super) struct Ids(HashMap<IdHash, Seen>);

enum Seen {
    InOutput,
    InInput,
}

impl Ids {
    /// Remembers that the output holds `id`; `false` if that was known.
    pub(super) fn answered(&mut self, id: &str) -> bool {
        self.0.insert(IdHash::of(id), Seen::InOutput).is_none()
    }

    /// How many ids are known.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What to do with the next id of the input.
    pub(super) fn admit(&mut self, id: &str) -> Admission {
        match self.0.entry(IdHash::of(id)) {
            Entry::Vacant(entry) => {
                entry.insert(Seen::InInput);
                Admission::New
            }
            Entry::Occupied(mut entry) => match entry.insert(Seen::InInput) {
                Seen::InOutput => Admission::Answered,
                Seen::InInput => Admission::Duplicate,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answered_id_is_skipped_once_and_a_duplicate_after_that() {
        let mut ids = Ids::default();
        assert!(ids.answered("a"));
        assert!(!ids.answered("a"));
        assert_eq!(ids.admit("a"), Admission::Answered);
        assert_eq!(ids.admit("a"), Admission::Duplicate);
        assert_eq!(ids.admit("b"), Admission::New);
        assert_eq!(ids.admit("b"), Admission::Duplicate);
        assert_eq!(ids.len(), 2);
    }

    #[test]
    fn both_halves_of_a_hash_depend_on_the_id() {
        let (a, b) = (IdHash::of("a"), IdHash::of("b"));
        assert!(a.0[0] != b.0[0] && a.0[1] != b.0[1] && a.0[0] != a.0[1]);
        assert_eq!(a.to_string().len(), 32);
    }
}
