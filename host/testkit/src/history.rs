//! Is there an order of calls, each at one moment between its start and its end, that one after the other would have
//! answered the same? If so the history is linearizable.
//!
//! Must not know what is called: a [`Model`] says which steps are possible. The search is that of Wing and Gong with the
//! memory of Lowe: a set of calls that led to a state is followed once. Invariant: a history is called legal only with such
//! an order in hand.

use std::{collections::HashSet, fmt, hash::Hash};

use platform_base::clock::Instant;

/// What calls are checked against: something that takes them one after the other.
pub trait Model: Clone + Eq + Hash + Default {
    /// A call and what it answered.
    type Action: fmt::Debug;

    /// The state after the action, none when it could not have been answered so.
    fn step(&self, action: &Self::Action) -> Option<Self>;
}

/// One call of a history.
#[derive(Debug, Clone)]
pub struct Event<A> {
    /// What was called, and what it answered.
    pub action: A,
    /// When it began.
    pub begun: Instant,
    /// When its answer was there. None when nobody knows: it happened at any time since, or never.
    pub ended: Option<Instant>,
}

/// A history that no order explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Illegal {
    /// How many calls could be put in order at most.
    pub explained: usize,
    /// Those that could not follow, in words.
    pub stuck: Vec<String>,
}

/// Looks for an order of the calls.
///
/// # Errors
/// There is none.
pub fn check<M: Model>(events: &[Event<M::Action>]) -> Result<(), Illegal> {
    let mut search = Search::<M>::new(events);
    loop {
        let Some(bound) = search.bound() else { return Ok(()) };
        if !search.forward(bound) && !search.back() {
            return Err(search.best);
        }
    }
}

struct Search<'a, M: Model> {
    events: &'a [Event<M::Action>],
    done: Vec<bool>,
    state: M,
    /// The calls in order so far, each with the state before it.
    path: Vec<(usize, M)>,
    /// The first call to be tried next.
    next: usize,
    seen: HashSet<(Vec<bool>, M)>,
    best: Illegal,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(events: &'a [Event<M::Action>]) -> Self {
        Self {
            events,
            done: vec![false; events.len()],
            state: M::default(),
            path: Vec::new(),
            next: 0,
            seen: HashSet::new(),
            best: Illegal { explained: 0, stuck: Vec::new() },
        }
    }

    /// The earliest end of a call that is not in order yet: what began later can't be next. None when all are.
    fn bound(&self) -> Option<Instant> {
        let open = self.events.iter().zip(&self.done).filter(|(_, done)| !**done);
        open.filter_map(|(event, _)| event.ended).min()
    }

    /// Puts one more call in order; whether there is one.
    fn forward(&mut self, bound: Instant) -> bool {
        for (index, event) in self.events.iter().enumerate().skip(self.next) {
            if self.done.get(index) != Some(&false) || event.begun > bound {
                continue;
            }
            let Some(state) = self.state.step(&event.action) else { continue };
            self.mark(index, true);
            if self.seen.insert((self.done.clone(), state.clone())) {
                self.path.push((index, std::mem::replace(&mut self.state, state)));
                self.next = 0;
                return true;
            }
            self.mark(index, false);
        }
        if self.path.len() >= self.best.explained {
            let stuck = self.events.iter().zip(&self.done).filter(|(event, done)| !**done && event.begun <= bound);
            let stuck = stuck.map(|(event, _)| format!("{:?}", event.action)).collect();
            self.best = Illegal { explained: self.path.len(), stuck };
        }
        false
    }

    /// Takes the last call out again; whether there is one.
    fn back(&mut self) -> bool {
        let Some((index, state)) = self.path.pop() else { return false };
        self.mark(index, false);
        self.state = state;
        self.next = index + 1;
        true
    }

    fn mark(&mut self, index: usize, done: bool) {
        if let Some(place) = self.done.get_mut(index) {
            *place = done;
        }
    }
}

/// A value that is read and written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Register(Option<u64>);

/// What is done with a [`Register`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// It was read: this was there.
    Read(Option<u64>),
    /// It was written.
    Write(u64),
}

impl Model for Register {
    type Action = Access;

    fn step(&self, action: &Access) -> Option<Self> {
        match action {
            Access::Read(found) => (*found == self.0).then(|| self.clone()),
            Access::Write(value) => Some(Self(Some(*value))),
        }
    }
}

/// A lock that one may hold, whose tokens increase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Mutex {
    held: Option<u64>,
    last: u64,
}

/// What is done with a [`Mutex`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// It was granted with a token.
    Granted(u64),
    /// It was given up, or lost.
    Over(u64),
}

impl Model for Mutex {
    type Action = Turn;

    fn step(&self, action: &Turn) -> Option<Self> {
        match *action {
            Turn::Granted(token) if self.held.is_none() && token > self.last => {
                Some(Self { held: Some(token), last: token })
            }
            Turn::Over(token) if self.held == Some(token) => Some(Self { held: None, ..self.clone() }),
            Turn::Granted(_) | Turn::Over(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use platform_base::clock;

    use super::*;

    /// A history of actions from one second to another, `None` for an end that nobody knows.
    fn history<A: Clone>(events: &[(A, u64, Option<u64>)]) -> Vec<Event<A>> {
        let zero = clock::now();
        let at = |second: u64| zero + Duration::from_secs(second);
        let event = |(action, begun, ended): &(A, u64, Option<u64>)| Event {
            action: action.clone(),
            begun: at(*begun),
            ended: ended.map(at),
        };
        events.iter().map(event).collect()
    }

    #[test]
    fn registers() {
        use Access::{Read, Write};
        let legal = |events: &[(Access, u64, Option<u64>)]| check::<Register>(&history(events)).is_ok();
        assert!(legal(&[]));
        assert!(legal(&[(Read(None), 0, Some(1)), (Write(1), 2, Some(3)), (Read(Some(1)), 4, Some(5))]));
        // Calls that overlap may take either order, but only one.
        assert!(legal(&[(Write(1), 0, Some(9)), (Read(None), 1, Some(2)), (Read(Some(1)), 3, Some(4))]));
        assert!(!legal(&[(Write(1), 0, Some(9)), (Read(Some(1)), 1, Some(2)), (Read(None), 3, Some(4))]));
        // A stale read, a lost write, a value from nowhere.
        assert!(!legal(&[(Write(1), 0, Some(1)), (Write(2), 2, Some(3)), (Read(Some(1)), 4, Some(5))]));
        assert!(!legal(&[(Write(1), 0, Some(1)), (Read(None), 2, Some(3))]));
        assert!(!legal(&[(Read(Some(7)), 0, Some(1))]));
        // What nobody knows the end of may have happened, late even, or not; but not twice.
        assert!(legal(&[(Write(1), 0, None), (Read(None), 1, Some(2)), (Read(Some(1)), 3, Some(4))]));
        assert!(legal(&[(Write(1), 0, None), (Read(None), 1, Some(2))]));
        assert!(!legal(&[
            (Write(1), 0, None),
            (Read(Some(1)), 1, Some(2)),
            (Write(2), 3, Some(4)),
            (Read(Some(1)), 5, Some(6)),
        ]));
        assert!(!legal(&[(Read(Some(1)), 0, Some(1)), (Write(1), 2, None)]), "not before it began");
    }

    #[test]
    fn locks() {
        use Turn::{Granted, Over};
        let legal = |events: &[(Turn, u64, Option<u64>)]| check::<Mutex>(&history(events)).is_ok();
        assert!(legal(&[(Granted(1), 0, Some(1)), (Over(1), 2, Some(3)), (Granted(2), 4, Some(5))]));
        assert!(legal(&[(Granted(2), 0, Some(9)), (Granted(1), 0, Some(9)), (Over(1), 1, Some(9))]));
        assert!(!legal(&[(Granted(1), 0, Some(1)), (Granted(2), 2, Some(3))]), "two hold");
        assert!(!legal(&[(Granted(1), 0, Some(1)), (Granted(2), 2, Some(3)), (Over(1), 4, Some(5))]), "two hold");
        assert!(
            !legal(&[(Granted(2), 0, Some(1)), (Over(2), 2, Some(3)), (Granted(1), 4, Some(5))]),
            "a token goes back"
        );
        assert!(
            !legal(&[(Granted(1), 0, Some(1)), (Over(1), 2, Some(3)), (Granted(1), 4, Some(5))]),
            "a token comes again"
        );
        assert!(!legal(&[(Over(1), 0, Some(1))]), "nobody held");
        assert!(legal(&[(Granted(1), 0, Some(1)), (Over(1), 2, None), (Granted(2), 3, Some(4))]), "a lease that ended");
    }

    #[test]
    fn what_is_illegal_is_told() {
        let events = history(&[(Access::Write(1), 0, Some(1)), (Access::Read(Some(2)), 2, Some(3))]);
        let told = check::<Register>(&events).unwrap_err();
        assert_eq!(told, Illegal { explained: 1, stuck: vec!["Read(Some(2))".to_owned()] });
    }

    #[test]
    fn long_histories_are_checked_in_no_time() {
        let mut events = Vec::new();
        for value in 0..2000 {
            events.push((Access::Write(value), value * 3, Some(value * 3 + 4)));
            events.push((Access::Read(Some(value)), value * 3 + 2, Some(value * 3 + 5)));
        }
        // The next write overlaps this read, which still has to come first.
        check::<Register>(&history(&events)).unwrap();
        events.push((Access::Read(Some(0)), 10_000, Some(10_001)));
        assert!(check::<Register>(&history(&events)).is_err());
    }
}
