//! Plays cases on all cores.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What `play` makes of each of them, in their order.
pub(crate) fn map<T: Sync, R: Send + Sync>(cases: &[T], play: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let played: Vec<OnceLock<R>> = cases.iter().map(|_| OnceLock::new()).collect();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(cases.len());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Relaxed);
                    let (Some(case), Some(place)) = (cases.get(at), played.get(at)) else { break };
                    place.get_or_init(|| play(case));
                }
            });
        }
    });
    played.into_iter().map(|place| place.into_inner().expect("every case was played")).collect()
}
