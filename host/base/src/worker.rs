//! Numbers of threads, for what is kept apart per thread so that threads do not contend.
//!
//! Invariant: a thread's number never changes. Numbers of threads that have ended are not given out again, so whoever
//! uses one as an index takes it modulo the number of places.

use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering},
};

static WORKERS: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static WORKER: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Number of this thread among those that ever asked.
#[must_use]
#[inline]
pub fn worker() -> usize {
    WORKER.with(|number| {
        if number.get() == usize::MAX {
            number.set(WORKERS.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_have_numbers_of_their_own() {
        let here = worker();
        let there = std::thread::spawn(worker).join().unwrap();
        assert_ne!(here, there);
        assert_eq!(worker(), here);
    }
}
