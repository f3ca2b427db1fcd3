//! `MULTI`, `EXEC`, `DISCARD`, `WATCH`: commands that are made all or none.
//!
//! Owns what a transaction has queued and what it watches; must not know how it is made. Invariant: a transaction in which
//! a command was refused is not made at all.

use bytes::Bytes;

use super::{BATCH_BYTES, Session};
use crate::resp::{
    command::Session as Command,
    data::{Data, KEYS_MAX, key},
    refusal::Refusal,
    reply::Reply,
};

/// Most commands of a transaction.
const COMMANDS_MAX: usize = 1000;

/// What was queued since `MULTI`.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    commands: Vec<Data>,
    bytes: usize,
    aborted: bool,
}

impl Transaction {
    /// Takes one more command, for as long as one commit takes them all.
    pub(super) fn queue(&mut self, data: Data) -> Result<(), Refusal> {
        let bytes = self.bytes + data.bytes();
        if self.commands.len() >= COMMANDS_MAX || bytes > 2 * BATCH_BYTES {
            return Err(Refusal::Transaction("a transaction has at most 1000 commands and 16 MiB of values"));
        }
        self.bytes = bytes;
        self.commands.push(data);
        Ok(())
    }

    /// Gives it up; `EXEC` will say so.
    pub(super) fn abort(&mut self) {
        self.aborted = true;
        self.commands.clear();
    }
}

/// Whether a command is run within a transaction instead of being queued.
pub(super) fn is_allowed(command: Command) -> bool {
    matches!(
        command,
        Command::Multi | Command::Exec | Command::Discard | Command::Watch | Command::Quit | Command::Reset
    )
}

impl Session {
    /// `WATCH KEY...`.
    pub(super) async fn watch(&mut self, arguments: &[Bytes]) -> Result<Reply, Refusal> {
        if self.transaction.is_some() {
            return Err(Refusal::Transaction("WATCH inside MULTI is not allowed"));
        }
        let keys = arguments.iter().map(|argument| key(argument)).collect::<Result<Vec<_>, _>>()?;
        if self.watched.len() + keys.len() > KEYS_MAX {
            return Err(Refusal::Keys(self.watched.len() + keys.len(), KEYS_MAX));
        }
        let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
        let found = self.door.engine.kv().get_many(&self.call()?, &asked).await?;
        for (key, found) in keys.into_iter().zip(found) {
            // Watched twice, it is watched from the first time.
            self.watched.entry(key).or_insert(found.map_or(0, |found| found.revision));
        }
        Ok(Reply::OK)
    }

    /// `MULTI`.
    pub(super) fn multi(&mut self) -> Result<Reply, Refusal> {
        if self.transaction.is_some() {
            return Err(Refusal::Transaction("MULTI calls can not be nested"));
        }
        self.transaction = Some(Transaction::default());
        Ok(Reply::OK)
    }

    /// `DISCARD`.
    pub(super) fn discard(&mut self) -> Result<Reply, Refusal> {
        self.transaction.take().ok_or(Refusal::Transaction("DISCARD without MULTI"))?;
        self.watched.clear();
        Ok(Reply::OK)
    }

    /// `EXEC`.
    pub(super) async fn exec(&mut self) -> Result<Reply, Refusal> {
        let transaction = self.transaction.take().ok_or(Refusal::Transaction("EXEC without MULTI"))?;
        let watched = std::mem::take(&mut self.watched);
        if transaction.aborted {
            return Err(Refusal::Aborted);
        }
        let made = self.door.engine.transaction(&self.call()?, &transaction.commands, &watched).await?;
        Ok(made.map_or(Reply::NullArray, Reply::Array))
    }
}
