//! The line of a lock: who holds it and who waits, in the order of their tokens.
//!
//! Must not know storage or leases' ends. Invariant: a place is held only if its mode goes with that of every place before
//! it, and no place before it waits; so nobody is overtaken.

use platform_sdk::sync::{Error, Mode, Permits, Place, Result};

/// Places, in the order of their tokens.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Line {
    /// The greatest token that was ever given, of those that are known.
    pub(crate) last: u64,
    /// The places.
    pub(crate) places: Vec<Place>,
}

/// What the places so far leave to those that follow.
#[derive(Debug, Default)]
struct Taken {
    exclusive: bool,
    shared: bool,
    permits: u32,
}

impl Taken {
    /// Takes a place if it goes with those so far.
    fn take(&mut self, mode: Mode) -> bool {
        let nobody = !self.exclusive && !self.shared && self.permits == 0;
        match mode {
            Mode::Exclusive if nobody => self.exclusive = true,
            Mode::Shared if !self.exclusive && self.permits == 0 => self.shared = true,
            Mode::Permits(Permits { count, limit })
                if !self.exclusive && !self.shared && count <= limit.saturating_sub(self.permits) =>
            {
                self.permits += count;
            }
            Mode::Exclusive | Mode::Shared | Mode::Permits(_) => return false,
        }
        true
    }
}

impl Line {
    /// The place with a token.
    pub(crate) fn find(&self, token: u64) -> Option<&Place> {
        self.places.iter().find(|place| place.token == token)
    }

    /// The places that are held.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| place.held)
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> u32 {
        u32::try_from(self.places.iter().filter(|place| !place.held).count()).unwrap_or(u32::MAX)
    }

    /// Whether places of the lease are in the line.
    pub(crate) fn has(&self, lease: &str) -> bool {
        self.places.iter().any(|place| place.lease == lease)
    }

    /// Lets those hold who can, as far as `alive` knows them to be there; the first one that it does not know.
    pub(crate) fn advance(&mut self, alive: impl Fn(&str) -> bool) -> Option<String> {
        let mut taken = Taken::default();
        for place in &mut self.places {
            if !place.held && !alive(&place.lease) {
                return Some(place.lease.clone());
            }
            if !taken.take(place.mode) {
                // A place that is held is so for good, whatever stands before it.
                if !place.held {
                    return None;
                }
            }
            place.held = true;
        }
        None
    }

    /// Whether a place at the end of the line would be held at once.
    pub(crate) fn admits(&self, mode: Mode) -> bool {
        let mut taken = Taken::default();
        self.places.iter().all(|place| place.held && taken.take(place.mode)) && taken.take(mode)
    }

    /// Checks that a mode makes sense beside those of the others.
    pub(crate) fn check(&self, name: &str, mode: Mode) -> Result<()> {
        let Some(other) = self.places.first() else { return Ok(()) };
        match (other.mode, mode) {
            (Mode::Permits(ours), Mode::Permits(theirs)) if ours.limit != theirs.limit => Err(Error::Invalid(format!(
                "the semaphore `{}` has {} permits for those who use it now, not {}",
                name.escape_debug(),
                ours.limit,
                theirs.limit
            ))),
            (Mode::Permits(_), Mode::Exclusive | Mode::Shared) => {
                Err(Error::Invalid(format!("`{}` is in use as a semaphore", name.escape_debug())))
            }
            (Mode::Exclusive | Mode::Shared, Mode::Permits(_)) => {
                Err(Error::Invalid(format!("`{}` is in use as a lock", name.escape_debug())))
            }
            _ => Ok(()),
        }
    }

    /// Who holds it, in words.
    pub(crate) fn describe(&self, name: &str) -> String {
        let name = name.escape_debug();
        match self.held().next() {
            Some(first) => {
                let (holder, token) = (&first.holder, first.token);
                let others = self.places.len() - 1;
                format!("`{name}` is held by `{holder}` with token {token}; {others} others hold it or wait")
            }
            None => format!("`{name}` is waited for by {} others", self.places.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use platform_sdk::sync::Permits;
    use proptest::prelude::*;

    use super::*;

    fn place(token: u64, mode: Mode) -> Place {
        let (lease, holder) = (token.to_string(), "svc".to_owned());
        Place { token, held: false, mode, lease, holder, value: None, since_ms: 0 }
    }

    fn line(modes: &[Mode]) -> Line {
        let mut line = Line::default();
        for mode in modes {
            line.last += 1;
            line.places.push(place(line.last, *mode));
        }
        line.advance(|_| true);
        line
    }

    fn held(line: &Line) -> Vec<u64> {
        line.held().map(|place| place.token).collect()
    }

    fn of(count: u32) -> Mode {
        Mode::Permits(Permits { count, limit: 3 })
    }

    #[test]
    fn modes_go_together_as_they_should() {
        use Mode::{Exclusive, Shared};
        for (modes, expected) in [
            (&[Exclusive, Exclusive, Shared][..], &[1][..]),
            (&[Shared, Shared, Exclusive, Shared], &[1, 2]),
            (&[of(1), of(1), of(1), of(1)], &[1, 2, 3]),
            (&[of(2), of(2), of(1)], &[1]),
            (&[of(3), of(1)], &[1]),
        ] {
            assert_eq!(held(&line(modes)), expected, "{modes:?}");
        }
    }

    #[test]
    fn readers_do_not_overtake_a_writer_who_waits() {
        use Mode::{Exclusive, Shared};
        let mut line = line(&[Shared, Exclusive, Shared, Shared]);
        assert!(!line.admits(Shared));
        line.places.remove(0);
        line.advance(|_| true);
        assert_eq!(held(&line), [2]);
        line.places.remove(0);
        line.advance(|_| true);
        assert_eq!(held(&line), [3, 4]);
        assert!(line.admits(Shared) && !line.admits(Exclusive));
    }

    #[test]
    fn nobody_is_let_in_who_may_be_gone() {
        let mut line = line(&[Mode::Exclusive, Mode::Exclusive]);
        line.places.remove(0);
        assert_eq!(line.advance(|lease| lease != "2").as_deref(), Some("2"));
        assert_eq!(held(&line), [0_u64; 0]);
    }

    #[test]
    fn kinds_do_not_mix() {
        let check = |line: &Line, mode| line.check("x", mode).is_ok();
        let (lock, semaphore) = (line(&[Mode::Shared]), line(&[of(1)]));
        assert!(check(&lock, Mode::Exclusive) && !check(&lock, of(1)));
        assert!(check(&semaphore, of(2)) && !check(&semaphore, Mode::Shared));
        assert!(!check(&semaphore, Mode::Permits(Permits { count: 1, limit: 4 })));
        assert!(check(&Line::default(), of(1)));
    }

    fn mode() -> impl Strategy<Value = Mode> {
        prop_oneof![Just(Mode::Exclusive), Just(Mode::Shared)]
    }

    proptest! {
        /// Whoever leaves, and in whatever order: holders go together, and whoever waits has a reason.
        #[test]
        fn a_line_is_always_fair(
            modes in prop_oneof![prop::collection::vec(mode(), 0..12), prop::collection::vec((1_u32..4).prop_map(of), 0..12)],
            leaving: Vec<prop::sample::Index>,
        ) {
            let mut line = line(&modes);
            for index in leaving {
                let mut taken = Taken::default();
                prop_assert!(line.held().all(|place| taken.take(place.mode)));
                let first = line.places.iter().position(|place| !place.held);
                prop_assert!(line.places[first.unwrap_or(line.places.len())..].iter().all(|place| !place.held));
                if let Some(first) = first {
                    prop_assert!(!taken.take(line.places[first].mode));
                }
                if line.places.is_empty() {
                    break;
                }
                line.places.remove(index.index(line.places.len()));
                line.advance(|_| true);
            }
        }
    }
}
