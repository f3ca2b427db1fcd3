//! [`Engine`]: reads what commands need, runs them on a draft and writes what follows from them.
//!
//! Owns the one way in which commands reach the store; must not know the wire or connections. Invariant: commands that
//! are run together are one read of one moment and one commit, whose conditions hold for everything that decided what is
//! written; a commit whose outcome is not known is never made again.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use platform_base::clock;
use platform_capability::{Call, kv::Error};
use platform_dataplane::{CallError, Plane};
use tokio::sync::{Mutex, MutexGuard};

use super::{
    data::{Access, Data, KEYS_MAX},
    draft::Draft,
    refusal::Refusal,
    reply::Reply,
};

/// How often commands are run again because someone else wrote what they had read.
const TRIES: u32 = 64;
/// Locks among which keys are spread.
const TURNS: usize = 256;
/// Commands that decide on more keys than this take no turns.
const TURN_KEYS_MAX: usize = 64;

/// Revisions of watched keys, 0 for those that were absent.
pub(super) type Watched = BTreeMap<String, u64>;

/// See the module.
#[derive(Debug)]
pub(super) struct Engine {
    plane: Arc<Plane>,
    /// Commands that decide on the same key take turns: else many callers that count with one key would keep each other
    /// from writing it.
    turns: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl Engine {
    pub(super) fn new(plane: Arc<Plane>) -> Self {
        let turns = std::iter::repeat_with(Mutex::default).take(TURNS).collect();
        Self { plane, turns, hasher: RandomState::new() }
    }

    /// The store.
    pub(super) fn kv(&self) -> &platform_dataplane::Kv {
        self.plane.kv()
    }

    /// Runs commands in their order, together where that is possible, else one by one; an answer for each.
    pub(super) async fn batch(&self, call: &Call, commands: &[Data]) -> Vec<Reply> {
        match self.run(call, commands, None).await {
            Ok(Some(replies)) => return replies,
            Err(refusal) if commands.len() == 1 || !refusal.is_untouched() => {
                return commands.iter().map(|_| refusal.clone().into()).collect();
            }
            Ok(None) | Err(_) => {}
        }
        let mut replies = Vec::with_capacity(commands.len());
        for command in commands {
            replies.push(match self.run(call, std::slice::from_ref(command), None).await {
                Ok(Some(mut replies)) if !replies.is_empty() => replies.swap_remove(0),
                Ok(_) => Refusal::Contended.into(),
                Err(refusal) => refusal.into(),
            });
        }
        replies
    }

    /// Runs commands as one transaction; none when a watched key has changed.
    pub(super) async fn transaction(
        &self, call: &Call, commands: &[Data], watched: &Watched,
    ) -> Result<Option<Vec<Reply>>, Refusal> {
        self.run(call, commands, Some(watched)).await
    }

    async fn run(
        &self, call: &Call, commands: &[Data], watched: Option<&Watched>,
    ) -> Result<Option<Vec<Reply>>, Refusal> {
        let of = |wanted: fn(Access) -> bool| {
            commands.iter().filter(move |command| wanted(command.access())).flat_map(Data::keys)
        };
        let mut keys: BTreeSet<&str> = of(|access| access != Access::Blind).collect();
        keys.extend(watched.into_iter().flat_map(BTreeMap::keys).map(String::as_str));
        let all = of(|_| true).chain(keys.iter().copied()).collect::<BTreeSet<&str>>().len();
        if all > KEYS_MAX {
            return Err(Refusal::Keys(all, KEYS_MAX));
        }
        let _turns = self.take_turns(call, of(|access| access == Access::Decide).collect()).await?;
        let asked: Vec<&str> = keys.iter().copied().collect();
        for _ in 0..TRIES {
            let found = if asked.is_empty() { Vec::new() } else { self.kv().get_many(call, &asked).await? };
            let mut draft = Draft::new(clock::unix_ms(), watched.is_some(), &keys, found);
            for (key, revision) in watched.into_iter().flatten() {
                draft.decide(key);
                if draft.revision(key) != Some(*revision) {
                    return Ok(None);
                }
            }
            let replies = commands.iter().map(|command| command.run(&mut draft).unwrap_or_else(Reply::from)).collect();
            let writes = draft.writes();
            if writes.is_empty() {
                return Ok(Some(replies));
            }
            match self.kv().commit(call, &writes).await {
                Ok(_) => return Ok(Some(replies)),
                Err(CallError::Capability(Error::Conflict(met))) => {
                    if watched.is_some_and(|watched| watched.contains_key(&met.key)) {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::Contended)
    }

    /// Waits for the turn of every key. Locks are taken in one order, so that nobody waits in a circle.
    async fn take_turns(&self, call: &Call, keys: BTreeSet<&str>) -> Result<Vec<MutexGuard<'_, ()>>, Refusal> {
        if keys.len() > TURN_KEYS_MAX {
            return Ok(Vec::new());
        }
        let place = |key: &str| self.hasher.hash_one((&*call.namespace, key)) % TURNS as u64;
        let places: BTreeSet<u64> = keys.into_iter().map(place).collect();
        let locks = places.into_iter().filter_map(|place| self.turns.get(usize::try_from(place).ok()?));
        let mut turns = Vec::new();
        for lock in locks {
            let turn = tokio::time::timeout_at(call.deadline.into(), lock.lock()).await;
            turns.push(turn.map_err(|_elapsed| Refusal::Contended)?);
        }
        Ok(turns)
    }
}

impl Refusal {
    /// Whether it says that nothing was written, so that the commands can be run in another way.
    fn is_untouched(&self) -> bool {
        matches!(self, Self::Contended | Self::Keys(..) | Self::Fault("ERR" | "OOM", _))
    }
}
