//! [`Warm`]: what one worker keeps for the next call.
//!
//! Invariant: no more are kept than were needed at once, but for a while.

/// Instances that one worker keeps; what is over is dropped.
const KEPT_MAX: usize = 64;
/// Calls after which those that none of them needed are dropped: a burst leaves nothing behind.
const CALLS: u32 = 1024;

/// What is kept warm. The one that served last serves next, so those that are not needed stay at the bottom.
#[derive(Debug)]
pub(super) struct Warm<I> {
    instances: Vec<I>,
    /// Fewest that were left when one was taken, over the last `calls`.
    spare: usize,
    calls: u32,
}

impl<I> Default for Warm<I> {
    fn default() -> Self {
        Self { instances: Vec::new(), spare: 0, calls: 0 }
    }
}

impl<I> Warm<I> {
    /// The one that served last.
    pub(super) fn take(&mut self) -> Option<I> {
        let instance = self.instances.pop();
        self.spare = self.spare.min(self.instances.len());
        instance
    }

    /// Keeps one, and gives those that are not needed any more.
    pub(super) fn put(&mut self, instance: I) -> Vec<I> {
        if self.instances.len() >= KEPT_MAX {
            return vec![instance];
        }
        self.instances.push(instance);
        self.calls += 1;
        if self.calls < CALLS {
            return Vec::new();
        }
        let spare = self.instances.drain(..self.spare).collect();
        (self.calls, self.spare) = (0, self.instances.len());
        spare
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many at once, so often, and makes what is missing; how many were dropped.
    fn serve(warm: &mut Warm<u32>, at_once: u32, times: u32) -> usize {
        let mut dropped = 0;
        for _ in 0..times {
            let taken: Vec<u32> = (0..at_once).map(|number| warm.take().unwrap_or(number)).collect();
            dropped += taken.into_iter().map(|instance| warm.put(instance).len()).sum::<usize>();
        }
        dropped
    }

    #[test]
    fn what_a_burst_needed_goes_and_what_is_needed_stays() {
        let mut warm = Warm::default();
        assert_eq!(serve(&mut warm, 20, 1), 0);
        assert_eq!(warm.instances.len(), 20);
        assert_eq!(serve(&mut warm, 3, 2 * CALLS), 17);
        assert_eq!(warm.instances.len(), 3);
        assert_eq!(serve(&mut warm, 3, 2 * CALLS), 0, "none is dropped that is needed again");
    }

    #[test]
    fn no_more_are_kept_than_fit() {
        let mut warm = Warm::default();
        assert_eq!(serve(&mut warm, 100, 1), 100 - KEPT_MAX);
        assert_eq!(warm.instances.len(), KEPT_MAX);
    }
}
