//! Is there an order of calls, each at one moment between its start and its end, that one after the other would have
//! answered the same? If so the history is linearizable.
//!
//! Must not know what is called: a [`Model`] says which steps are possible. The search is that of Wing and Gong with the
//! memory of Lowe: a set of calls that led to a state is followed once. Invariant: a history is called legal only with such
//! an order in hand.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    hash::Hash,
};

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
    /// Calls that were answered, in the order in which they began.
    known: Vec<&'a Event<M::Action>>,
    /// The earliest end of an answered call from each on.
    ends: Vec<Option<Instant>>,
    /// Calls that nobody knows the end of.
    unknown: Vec<&'a Event<M::Action>>,
    done: Done,
    state: M,
    /// The calls in order so far, each with the state before it.
    path: Vec<(Place, M)>,
    /// The first call to be tried next.
    next: Place,
    seen: HashSet<(Done, M)>,
    best: Illegal,
}

/// A call: an answered one, or an unknown one. Those come last, since most never happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Known(usize),
    Unknown(usize),
}

/// Which calls are in order. Only what is open between the first that is not and the last that is differs from one moment to
/// the next, so a long history takes no more room than a short one.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done {
    /// All answered calls before it are in order.
    first: usize,
    /// Whether those from there on are; none is behind the last.
    open: VecDeque<bool>,
    /// Unknown calls that are, in order of their places.
    unknown: Vec<usize>,
}

impl Done {
    fn has(&self, place: Place) -> bool {
        match place {
            Place::Unknown(index) => self.unknown.binary_search(&index).is_ok(),
            Place::Known(index) => match index.checked_sub(self.first) {
                None => true,
                Some(offset) => self.open.get(offset).copied().unwrap_or(false),
            },
        }
    }

    fn add(&mut self, place: Place) {
        let index = match place {
            Place::Known(index) => index,
            Place::Unknown(index) => {
                let place = self.unknown.partition_point(|taken| *taken < index);
                return self.unknown.insert(place, index);
            }
        };
        let offset = index - self.first;
        if self.open.len() <= offset {
            self.open.resize(offset + 1, false);
        }
        if let Some(open) = self.open.get_mut(offset) {
            *open = true;
        }
        while self.open.front() == Some(&true) {
            self.open.pop_front();
            self.first += 1;
        }
    }

    fn take(&mut self, place: Place) {
        let index = match place {
            Place::Known(index) => index,
            Place::Unknown(index) => return self.unknown.retain(|taken| *taken != index),
        };
        while self.first > index {
            self.first -= 1;
            self.open.push_front(true);
        }
        if let Some(open) = self.open.get_mut(index - self.first) {
            *open = false;
        }
        while self.open.back() == Some(&false) {
            self.open.pop_back();
        }
    }
}

impl<'a, M: Model> Search<'a, M> {
    fn new(events: &'a [Event<M::Action>]) -> Self {
        let (mut known, unknown): (Vec<_>, Vec<_>) = events.iter().partition(|event| event.ended.is_some());
        known.sort_by_key(|event| event.begun);
        let mut ends = vec![None];
        for event in known.iter().rev() {
            ends.push(ends.last().copied().flatten().into_iter().chain(event.ended).min());
        }
        ends.reverse();
        Self {
            known,
            ends,
            unknown,
            done: Done { first: 0, open: VecDeque::new(), unknown: Vec::new() },
            state: M::default(),
            path: Vec::new(),
            next: Place::Known(0),
            seen: HashSet::new(),
            best: Illegal { explained: 0, stuck: Vec::new() },
        }
    }

    /// The earliest end of a call that is not in order yet: what began later can't be next. None when all are.
    fn bound(&self) -> Option<Instant> {
        let first = self.done.first;
        let open = self.known.iter().skip(first).zip(&self.done.open).filter(|(_, done)| !**done);
        let behind = self.ends.get(first + self.done.open.len()).copied().flatten();
        open.filter_map(|(event, _)| event.ended).chain(behind).min()
    }

    /// Calls that may be next, from `next` on.
    fn candidates(&self, bound: Instant) -> Vec<(Place, &'a Event<M::Action>)> {
        let first = self.done.first;
        let (from, unknown) = match self.next {
            Place::Known(index) => (Some(index.max(first)), 0),
            Place::Unknown(index) => (None, index),
        };
        let answered = from.into_iter().flat_map(|from| self.known.iter().enumerate().skip(from));
        let answered = answered.take_while(|(_, event)| event.begun <= bound);
        let answered = answered.map(|(index, event)| (Place::Known(index), *event));
        let unknown = self.unknown.iter().enumerate().skip(unknown).filter(|(_, event)| event.begun <= bound);
        let unknown = unknown.map(|(index, event)| (Place::Unknown(index), *event));
        answered.chain(unknown).filter(|(place, _)| !self.done.has(*place)).collect()
    }

    /// Puts one more call in order; whether there is one.
    fn forward(&mut self, bound: Instant) -> bool {
        for (place, event) in self.candidates(bound) {
            let Some(state) = self.state.step(&event.action) else { continue };
            self.done.add(place);
            if self.seen.insert((self.done.clone(), state.clone())) {
                self.path.push((place, std::mem::replace(&mut self.state, state)));
                self.next = Place::Known(0);
                return true;
            }
            self.done.take(place);
        }
        if self.path.len() >= self.best.explained {
            self.next = Place::Known(0);
            let stuck = self.candidates(bound).iter().map(|(_, event)| format!("{:?}", event.action)).collect();
            self.best = Illegal { explained: self.path.len(), stuck };
        }
        false
    }

    /// Takes the last call out again; whether there is one.
    fn back(&mut self) -> bool {
        let Some((place, state)) = self.path.pop() else { return false };
        self.done.take(place);
        self.state = state;
        self.next = match place {
            Place::Known(index) => Place::Known(index + 1),
            Place::Unknown(index) => Place::Unknown(index + 1),
        };
        true
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

/// A value that is read and written, and that counts its writes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Versioned {
    value: Option<u64>,
    /// The revision of the value, or of the last one before it whose revision is known.
    revision: u64,
    /// Whether the value has a later revision, which nobody was told.
    later: bool,
}

/// What is done with a [`Versioned`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It was read: this value was there, with this revision; none and 0 when nothing was.
    Read(Option<u64>, u64),
    /// It was written; with this revision, when that is known.
    Write(u64, Option<u64>),
}

impl Versioned {
    /// The same history without writes that nobody knows the end of and whose value nobody read: each may as well have
    /// never happened, and each would make the search longer. Every write has to be of another value.
    #[must_use]
    pub fn without_unread(events: Vec<Event<Step>>) -> Vec<Event<Step>> {
        let read: HashSet<u64> = events
            .iter()
            .filter_map(|event| match event.action {
                Step::Read(value, _) => value,
                Step::Write(..) => None,
            })
            .collect();
        let counts = |event: &Event<Step>| match event.action {
            Step::Write(value, None) => read.contains(&value),
            Step::Write(..) | Step::Read(..) => true,
        };
        events.into_iter().filter(counts).collect()
    }
}

impl Model for Versioned {
    type Action = Step;

    fn step(&self, action: &Step) -> Option<Self> {
        match *action {
            Step::Read(value, revision) if value == self.value => {
                let fits = if self.later { revision > self.revision } else { revision == self.revision };
                fits.then_some(Self { value, revision, later: false })
            }
            Step::Read(..) => None,
            Step::Write(value, Some(revision)) => {
                (revision > self.revision).then_some(Self { value: Some(value), revision, later: false })
            }
            Step::Write(value, None) => Some(Self { value: Some(value), revision: self.revision, later: true }),
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
    fn revisions() {
        use Step::{Read, Write};
        let legal = |events: &[(Step, u64, Option<u64>)]| check::<Versioned>(&history(events)).is_ok();
        assert!(legal(&[(Read(None, 0), 0, Some(1)), (Write(1, Some(4)), 2, Some(3)), (Read(Some(1), 4), 4, Some(5))]));
        // Which of two writes at the same time was first is what their revisions say.
        let both = [(Write(1, Some(2)), 0, Some(9)), (Write(2, Some(1)), 0, Some(9))];
        assert!(legal(&[both[0].clone(), both[1].clone(), (Read(Some(1), 2), 10, Some(11))]));
        assert!(!legal(&[both[0].clone(), both[1].clone(), (Read(Some(2), 1), 10, Some(11))]));
        assert!(!legal(&[(Write(1, Some(2)), 0, Some(1)), (Write(2, Some(1)), 2, Some(3))]), "revisions go back");
        assert!(!legal(&[(Write(1, Some(1)), 0, Some(1)), (Write(2, Some(1)), 2, Some(3))]), "a revision comes again");
        assert!(!legal(&[(Write(1, Some(1)), 0, Some(1)), (Read(Some(1), 2), 2, Some(3))]), "it was not read there");
        // A write that nobody was told of has some revision between its neighbours, and keeps it.
        let lost = [(Write(1, Some(1)), 0, Some(1)), (Write(2, None), 2, None), (Read(Some(2), 3), 3, Some(4))];
        assert!(legal(&lost));
        assert!(legal(&[&lost[..], &[(Read(Some(2), 3), 5, Some(6))]].concat()));
        assert!(!legal(&[&lost[..], &[(Read(Some(2), 4), 5, Some(6))]].concat()));
        assert!(!legal(&[&lost[..], &[(Write(3, Some(2)), 5, Some(6))]].concat()));
        assert!(!legal(&[&lost[..2], &[(Read(Some(2), 1), 3, Some(4))]].concat()));
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

    #[test]
    fn many_calls_without_an_end_are_checked_too() {
        let mut events = Vec::new();
        for value in 0..3000 {
            events.push((Step::Write(value, Some(value + 1)), value * 3, Some(value * 3 + 2)));
            events.push((Step::Read(Some(value), value + 1), value * 3 + 1, Some(value * 3 + 3)));
            if value % 100 == 0 {
                events.push((Step::Write(10_000 + value, None), value * 3, None));
            }
        }
        check::<Versioned>(&history(&events)).unwrap();
        events.push((Step::Read(Some(0), 1), 10_000, Some(10_001)));
        let rest = Versioned::without_unread(history(&events));
        assert_eq!(rest.len(), events.len() - 30);
        assert!(check::<Versioned>(&rest).is_err());
    }
}
