//! [`Fits`]: what keeps this daemon from running components, by their digest.
//!
//! Neither a component nor what this daemon offers changes while it runs, so one look at the bytes is enough for all who look at a listing. Invariant: what
//! is kept is bounded; what is not kept is found anew.

use std::collections::HashMap;

use parking_lot::Mutex;
use platform_runtime::Digest;

/// Most components that are kept; when there are more it starts over.
const COMPONENTS_MAX: usize = 4096;
/// Longest text that is kept of one.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Fits(Mutex<HashMap<Digest, Vec<String>>>);

impl Fits {
    /// What was found of a component, nothing in it when it fits.
    pub(super) fn find(&self, component: Digest) -> Option<Vec<String>> {
        self.0.lock().get(&component).cloned()
    }

    /// Keeps what was found.
    pub(super) fn keep(&self, component: Digest, misfits: &[String]) {
        if misfits.iter().map(String::len).sum::<usize>() > TEXT_BYTES_MAX {
            return;
        }
        let mut known = self.0.lock();
        if known.len() >= COMPONENTS_MAX {
            known.clear();
        }
        known.insert(component, misfits.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded() {
        let fits = Fits::default();
        let of = |number: usize| Digest::of(&number.to_le_bytes());
        let misfit = vec!["it imports `x`".to_owned()];
        fits.keep(of(0), &misfit);
        fits.keep(of(1), &[]);
        fits.keep(of(2), &["a".repeat(TEXT_BYTES_MAX + 1)]);
        assert_eq!([fits.find(of(0)), fits.find(of(1)), fits.find(of(2))], [Some(misfit), Some(Vec::new()), None]);
        for number in 2..=COMPONENTS_MAX {
            fits.keep(of(number), &[]);
        }
        assert_eq!((fits.find(of(0)), fits.find(of(COMPONENTS_MAX))), (None, Some(Vec::new())));
    }
}
