//! The state that the log adds up to, as far as this process has read it.
//!
//! Owns the maps and the place in the log; must not know how entries come here. Invariant: every process that has read up
//! to the same entry holds the same state, and nobody sees a batch in part.

use std::{mem, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::RwLock;
use platform_base::clock;
use tokio::sync::watch;

use super::entry::{self, Entry, Id};
use crate::{
    Error, Result,
    backend::{Op, View, Visit},
    codec::{self, Journal, Kind, Space, Stored, Table},
    memory::{self, Map},
    registry::Registry,
};

/// What an entry takes in the log beside its bytes, roughly.
const ENTRY_BYTES: u64 = 128;
/// A claim this old is no longer respected: who made it has gone.
const CLAIM: Duration = Duration::from_secs(120);

/// A place in the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The last entry of any kind.
    pub(super) seen: u64,
    /// The last entry that a write depends on: all but the marks of readers.
    pub(super) log: u64,
}

/// What became of an entry that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applied {
    /// It is part of the state, or was before.
    Done,
    /// An entry before it is missing.
    Gap,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Replica {
    state: RwLock<State>,
    position: watch::Sender<Position>,
    pub(super) registry: Arc<Registry>,
    /// Who this process is among those who write.
    writer: u64,
}

#[derive(Debug, Default)]
struct State {
    /// None once closed.
    map: Option<Map>,
    position: Position,
    /// Why nothing more can be read.
    broken: Option<Error>,
    /// The batch whose pieces are coming in.
    coming: Option<Coming>,
    /// The batch that this process is writing, and whether it is in the log.
    awaited: Option<(Id, bool)>,
    expiry: Option<u64>,
    /// The writer that others give way to, and since when.
    turn: Option<(u64, clock::Instant)>,
    snapshots: Snapshots,
}

#[derive(Debug)]
struct Coming {
    id: Id,
    pieces: Vec<Bytes>,
    since: clock::Instant,
}

/// What the log says about snapshots.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Snapshots {
    /// Place of the newest one.
    pub(super) newest: u64,
    /// Place of the one before it, up to which the log is no longer needed.
    pub(super) before: u64,
    /// Bytes of the log behind the newest.
    pub(super) behind: u64,
    claim: Option<clock::Instant>,
}

impl Snapshots {
    /// Whether somebody is writing one.
    pub(super) fn claimed(&self) -> bool {
        self.claim.is_some_and(|since| since.elapsed() < CLAIM)
    }
}

impl Replica {
    /// Nothing read yet.
    pub(super) fn new(writer: u64) -> Self {
        let state = State { map: Some(Map::new()), ..State::default() };
        Self { state: RwLock::new(state), position: watch::Sender::default(), registry: Arc::default(), writer }
    }

    /// How far this process has read.
    pub(super) fn position(&self) -> Position {
        *self.position.borrow()
    }

    /// Resolves once `reached` holds of the place.
    pub(super) async fn reaches(&self, reached: impl Fn(Position) -> bool) {
        let mut position = self.position.subscribe();
        // The sender lives as long as this does.
        let _alive = position.wait_for(|position| reached(*position)).await;
    }

    /// Calls `reader` with all that was read.
    pub(super) fn read<R>(&self, reader: impl FnOnce(&dyn View) -> Result<R>) -> Result<R> {
        let state = self.state.read();
        let map = state.map.as_ref().ok_or_else(closed)?;
        reader(&Shown { map, log: state.position.log })
    }

    /// Reads the entry at `sequence`; `log` is whether writes depend on it.
    pub(super) fn apply(&self, sequence: u64, log: bool, bytes: &Bytes) -> Result<Applied> {
        let mut guard = self.state.write();
        let state = &mut *guard;
        if let Some(broken) = &state.broken {
            return Err(broken.clone());
        }
        if sequence <= state.position.seen {
            return Ok(Applied::Done);
        }
        if sequence != state.position.seen + 1 {
            return Ok(Applied::Gap);
        }
        if log {
            let entered = Entry::decode(sequence, bytes.clone()).and_then(|entry| state.enter(sequence, entry));
            let shown = entered.and_then(|ops| self.show(state, ops));
            if let Err(error) = shown {
                state.broken = Some(error.clone());
                return Err(error);
            }
            state.position.log = sequence;
        } else if let Some(writer) = entry::asks_for_turn(bytes) {
            state.turn = Some((writer, clock::now()));
        }
        state.position.seen = sequence;
        state.snapshots.behind += bytes.len() as u64 + ENTRY_BYTES;
        // Told under the lock, so that places are told in order.
        self.position.send_replace(state.position);
        Ok(Applied::Done)
    }

    /// Makes a batch and shows what it changes.
    fn show(&self, state: &mut State, ops: Vec<Op>) -> Result<()> {
        let map = state.map.as_mut().ok_or_else(closed)?;
        let mut tips = Vec::new();
        for op in &ops {
            match (op.space, &op.value) {
                (Space::Names, Some(sealed)) => tips.extend(tip(&op.key, sealed)?.map(|tip| (op.key.clone(), tip))),
                (Space::Expiries, Some(_)) => {
                    let expires_ms = codec::expiry_parts(&op.key).map(|(expires_ms, ..)| expires_ms);
                    state.expiry = state.expiry.into_iter().chain(expires_ms).min();
                }
                _ => {}
            }
        }
        memory::apply(map, ops);
        for (name, (id, tip)) in tips {
            self.registry.publish(&name, id, tip);
        }
        Ok(())
    }

    /// Takes a whole state in place of what was read.
    pub(super) fn replace(&self, map: Map, position: Position) -> Result<()> {
        let mut state = self.state.write();
        if state.map.is_none() {
            return Err(closed());
        }
        if position.seen <= state.position.seen {
            return Ok(());
        }
        self.registry.add(&Shown { map: &map, log: position.log })?;
        state.map = Some(map);
        state.position = position;
        state.coming = None;
        state.expiry = Some(0);
        state.snapshots = Snapshots { newest: position.seen, ..Snapshots::default() };
        self.position.send_replace(position);
        Ok(())
    }

    /// All that was read, between batches; none while pieces of one are coming in.
    pub(super) fn copy(&self) -> Result<Option<(Map, Position)>> {
        let state = self.state.read();
        let map = state.map.as_ref().ok_or_else(closed)?;
        Ok(state.coming.is_none().then(|| (map.clone(), state.position)))
    }

    /// From now on tells whether the batch `id` is in the log.
    pub(super) fn await_landing(&self, id: Id) {
        self.state.write().awaited = Some((id, false));
    }

    /// Whether the batch that is awaited is in the log, whole.
    pub(super) fn has_landed(&self) -> bool {
        self.state.read().awaited.is_some_and(|(_, landed)| landed)
    }

    /// Whether somebody else's batch is coming in and was begun less than `patience` ago.
    pub(super) fn is_amid(&self, patience: Duration) -> bool {
        self.state.read().coming.as_ref().is_some_and(|coming| coming.since.elapsed() < patience)
    }

    /// Whether another process asked for its turn less than `patience` ago and has not had it yet.
    pub(super) fn owes_turn(&self, patience: Duration) -> bool {
        let turn = self.state.read().turn;
        turn.is_some_and(|(writer, since)| writer != self.writer && since.elapsed() < patience)
    }

    /// Earliest expiry that was read since this was asked last.
    pub(super) fn take_expiry(&self) -> u64 {
        if self.state.read().expiry.is_none() {
            return u64::MAX;
        }
        mem::take(&mut self.state.write().expiry).unwrap_or(u64::MAX)
    }

    /// What the log says about snapshots.
    pub(super) fn snapshots(&self) -> Snapshots {
        self.state.read().snapshots
    }

    /// Bytes of all keys and values.
    pub(super) fn bytes(&self) -> u64 {
        let state = self.state.read();
        let map = state.map.iter().flatten();
        map.map(|((_, key), value)| (key.len() + value.len()) as u64).sum()
    }

    /// Why nothing more can be read, none when it can.
    pub(super) fn broken(&self) -> Option<Error> {
        self.state.read().broken.clone()
    }

    /// Reads nothing more.
    pub(super) fn give_up(&self, error: Error) {
        self.state.write().broken.get_or_insert(error);
    }

    /// Lets go of everything.
    pub(super) fn close(&self) {
        self.state.write().map = None;
    }
}

impl State {
    /// What the entry makes, which is nothing until the last piece of a batch.
    fn enter(&mut self, sequence: u64, entry: Entry) -> Result<Vec<Op>> {
        let (id, index, count, body) = match entry {
            Entry::Piece { id, index, count, body } => (id, index, count, body),
            Entry::Claim(_) => {
                self.coming = None;
                self.snapshots.claim = Some(clock::now());
                return Ok(Vec::new());
            }
            Entry::Snapshot(_, at) => {
                self.coming = None;
                let Snapshots { newest, before, behind, .. } = self.snapshots;
                self.snapshots = if at > newest {
                    Snapshots { newest: at, before: newest, behind: 0, claim: None }
                } else {
                    Snapshots { newest, before, behind, claim: None }
                };
                return Ok(Vec::new());
            }
        };
        // Another writer's entry between the pieces means that who wrote them gave up or was outrun: they are void.
        let mut coming = match self.coming.take() {
            Some(coming) if coming.id == id && coming.pieces.len() == index as usize => coming,
            _ if index == 0 => Coming { id, pieces: Vec::new(), since: clock::now() },
            _ => return Ok(Vec::new()),
        };
        coming.pieces.push(body);
        if index + 1 < count {
            self.coming = Some(coming);
            return Ok(Vec::new());
        }
        self.turn = self.turn.filter(|(writer, _)| *writer != id.writer);
        if let Some((awaited, landed)) = &mut self.awaited {
            *landed |= *awaited == id;
        }
        entry::ops(sequence, &coming.pieces)
    }
}

/// Id and newest revision or sequence of the table or journal with this name.
fn tip(name: &[u8], sealed: &Bytes) -> Result<Option<(u32, u64)>> {
    let place = &"the log in NATS";
    Ok(match codec::kind(name) {
        Some(Kind::Table) => {
            let table = Table::open(place, name, sealed.clone())?;
            Some((table.id, table.revision))
        }
        Some(Kind::Journal) => {
            let journal = Journal::open(place, name, sealed.clone())?;
            Some((journal.id, journal.next.saturating_sub(1)))
        }
        None => None,
    })
}

/// A map and the place that it stands for.
struct Shown<'a> {
    map: &'a Map,
    log: u64,
}

impl View for Shown<'_> {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        View::get(self.map, space, key)
    }

    fn walk(&self, space: Space, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        View::walk(self.map, space, from, to, visit)
    }

    fn place(&self, space: Space) -> String {
        format!("the state in NATS, {}", space.name())
    }

    fn position(&self) -> u64 {
        self.log
    }
}

pub(super) fn closed() -> Error {
    Error::Unavailable("it is closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_a_turn_has_it_until_the_next_write() {
        let (own, other) = (Id { writer: 1, number: 0 }, Id { writer: 2, number: 0 });
        let replica = Replica::new(own.writer);
        let long = Duration::from_secs(60);
        let hear = |sequence, id| replica.apply(sequence, false, &entry::ask_for_turn(id)).unwrap();
        let write = |sequence, id| {
            let op = Op { space: Space::Names, key: b"key".to_vec(), value: None };
            for piece in entry::pieces(id, &[op], 1 << 10) {
                replica.apply(sequence, true, &piece).unwrap();
            }
        };
        replica.apply(1, false, &Bytes::new()).unwrap();
        assert!(!replica.owes_turn(long), "a reader asks for nothing");
        hear(2, own);
        assert!(!replica.owes_turn(long), "nobody gives way to himself");
        hear(3, other);
        assert!(replica.owes_turn(long) && !replica.owes_turn(Duration::ZERO), "but not for ever");
        write(4, own);
        assert!(replica.owes_turn(long));
        write(5, other);
        assert!(!replica.owes_turn(long));
    }
}
