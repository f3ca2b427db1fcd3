//! `platform:storage` for providers that were granted it: the host's storage, scoped to slot and namespace.
//!
//! Invariant: every commit of a call that is fenced is made behind its fence, and providers see nothing of fences.

use std::time::Duration;

use bytes::Bytes;
use platform_base::clock;
use platform_storage as host;

use crate::{
    bindings::platform::storage::{journal, table, types},
    fence::{self, Fence, is_reserved, reserved},
    guest::Guest,
};

use types::Error;

impl types::Host for Guest {}

impl From<host::Error> for Error {
    fn from(error: host::Error) -> Self {
        match error {
            host::Error::Conflict(host::Conflict { key, revision }) => {
                Self::Conflict(types::Conflict { key, revision })
            }
            host::Error::Compacted(oldest) => Self::Compacted(oldest),
            host::Error::TooLarge(what) => Self::TooLarge(what),
            host::Error::Full(what) => Self::Full(what),
            host::Error::Invalid(what) => Self::Invalid(what),
            host::Error::Unavailable(why) => Self::Unavailable(why),
            other => Self::Other(other.to_string()),
        }
    }
}

fn condition(condition: table::Condition) -> host::Condition {
    match condition {
        table::Condition::Always => host::Condition::Always,
        table::Condition::Absent => host::Condition::Absent,
        table::Condition::Present => host::Condition::Present,
        table::Condition::At(revision) => host::Condition::At(revision),
    }
}

fn write(write: table::Write) -> host::Write {
    match write {
        table::Write::Put(put) => host::Write::Put {
            key: put.key,
            value: put.value.into(),
            condition: condition(put.condition),
            ttl: put.ttl_ms.map(Duration::from_millis),
        },
        table::Write::Replace(replace) => host::Write::Replace {
            key: replace.key,
            value: replace.value.into(),
            condition: condition(replace.condition),
        },
        table::Write::Delete(delete) => host::Write::Delete { key: delete.key, condition: condition(delete.condition) },
        table::Write::Check(check) => host::Write::Check { key: check.key, condition: condition(check.condition) },
        table::Write::Touch(touch) => {
            host::Write::Touch { key: touch.key, ttl: touch.ttl_ms.map(Duration::from_millis) }
        }
    }
}

fn entry(entry: host::Entry) -> table::Entry {
    table::Entry { key: entry.key, value: entry.value.into(), revision: entry.revision, expires_ms: entry.expires_ms }
}

fn change(change: host::Change) -> table::Change {
    match change {
        host::Change::Put(put) => table::Change::Put(entry(put)),
        host::Change::Delete { key, revision } => table::Change::Delete((key, revision)),
    }
}

fn row(change: table::Change) -> host::Change {
    match change {
        table::Change::Put(table::Entry { key, value, revision, expires_ms }) => {
            host::Change::Put(host::Entry { key, value: value.into(), revision, expires_ms })
        }
        table::Change::Delete((key, revision)) => host::Change::Delete { key, revision },
    }
}

/// Makes a commit, behind the fence of its call if there is one.
async fn commit(
    storage: &dyn host::Storage, fence: Option<&Fence>, scope: &host::Scope, table: &str, writes: Vec<host::Write>,
    limit: host::Usage,
) -> Result<u64, Error> {
    if writes.iter().any(|write| is_reserved(write.condition().0)) {
        return Err(reserved());
    }
    match fence {
        Some(fence) => fence.commit(storage, scope, table, writes, limit).await,
        None => Ok(storage.commit_within(scope, table, writes, limit).await?),
    }
}

impl Guest {
    fn storage(&self) -> Result<&dyn host::Storage, Error> {
        let storage = self.parts.storage.as_deref();
        storage.ok_or_else(|| Error::Unavailable("the plugin has no `storage` grant".to_owned()))
    }

    /// The same for a write, which this call may not be allowed to make.
    fn writable(&self) -> Result<&dyn host::Storage, Error> {
        if self.call.reads_only {
            return Err(Error::Unavailable("this call only reads; nothing was written".to_owned()));
        }
        self.storage()
    }

    /// How long a wait may take: never past the call's deadline.
    pub(crate) fn wait(&self, wait_ms: u32) -> Duration {
        Duration::from_millis(u64::from(wait_ms)).min(self.remaining())
    }
}

impl table::Host for Guest {
    async fn get(&mut self, table: String, key: String) -> Result<Option<table::Entry>, Error> {
        if is_reserved(&key) {
            return Err(reserved());
        }
        Ok(self.storage()?.get(&self.scope(), &table, &key).await?.map(entry))
    }

    async fn get_many(&mut self, table: String, keys: Vec<String>) -> Result<Vec<Option<table::Entry>>, Error> {
        if keys.iter().any(|key| is_reserved(key)) {
            return Err(reserved());
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let found = self.storage()?.get_many(&self.scope(), &table, &keys).await?;
        Ok(found.into_iter().map(|found| found.map(entry)).collect())
    }

    async fn commit(&mut self, table: String, writes: Vec<table::Write>) -> Result<u64, Error> {
        let limit = host::Usage { keys: u64::MAX, bytes: u64::MAX };
        let writes = writes.into_iter().map(write).collect();
        commit(self.writable()?, self.call.fence.as_deref(), &self.scope(), &table, writes, limit).await
    }

    async fn commit_within(
        &mut self, table: String, writes: Vec<table::Write>, limit: table::Usage,
    ) -> Result<u64, Error> {
        let limit = host::Usage { keys: limit.keys, bytes: limit.bytes };
        let writes = writes.into_iter().map(write).collect();
        commit(self.writable()?, self.call.fence.as_deref(), &self.scope(), &table, writes, limit).await
    }

    async fn used(&mut self, table: String) -> Result<table::Usage, Error> {
        let host::Usage { keys, bytes } = self.storage()?.used(&self.scope(), &table).await?;
        Ok(table::Usage { keys, bytes })
    }

    async fn scan(
        &mut self, table: String, prefix: String, after: Option<String>, limit: u32,
    ) -> Result<Vec<table::Entry>, Error> {
        let entries = self.storage()?.scan(&self.scope(), &table, &prefix, after.as_deref(), limit as usize).await?;
        // Fences come after all other keys, so where they begin the table ends.
        Ok(entries.into_iter().map(entry).take_while(|entry| !is_reserved(&entry.key)).collect())
    }

    async fn changes(
        &mut self, table: String, prefix: String, after: u64, limit: u32, wait_ms: u32,
    ) -> Result<Vec<table::Change>, Error> {
        let until = clock::now() + self.wait(wait_ms);
        let mut after = after;
        loop {
            let wait = until.saturating_duration_since(clock::now());
            let changes = self.storage()?.changes(&self.scope(), &table, &prefix, after, limit as usize, wait).await?;
            let Some(last) = changes.last() else { return Ok(Vec::new()) };
            after = last.revision();
            let changes: Vec<_> = changes.into_iter().filter(|change| !is_reserved(change.key())).map(change).collect();
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }

    async fn revision(&mut self, table: String) -> Result<u64, Error> {
        Ok(self.storage()?.revision(&self.scope(), &table).await?)
    }

    async fn fences(&mut self, table: String, after: Option<String>, limit: u32) -> Result<Vec<table::Fence>, Error> {
        let found = fence::list(self.storage()?, &self.scope(), &table, after.as_deref(), limit as usize).await?;
        Ok(found
            .into_iter()
            .map(|fence| table::Fence { name: fence.name.as_ref().to_owned(), token: fence.token })
            .collect())
    }

    async fn restore(
        &mut self, table: String, changes: Vec<table::Change>, fences: Vec<table::Fence>, revision: u64,
    ) -> Result<(), Error> {
        if self.call.fence.is_some() {
            return Err(Error::Invalid("what another table holds is taken over behind no fence".to_owned()));
        }
        let (storage, scope) = (self.writable()?, self.scope());
        let fences = fences.into_iter().map(|fence| Fence { name: fence.name.into(), token: fence.token }).collect();
        let mut rows: Vec<host::Change> = changes.into_iter().map(row).collect();
        if rows.iter().any(|row| is_reserved(row.key())) {
            return Err(reserved());
        }
        rows.extend(fence::rows(storage, &scope, &table, fences).await?);
        Ok(storage.restore(&scope, &table, rows, revision).await?)
    }
}

impl journal::Host for Guest {
    async fn append(&mut self, journal: String, data: Vec<Vec<u8>>) -> Result<u64, Error> {
        let items = data.into_iter().map(Bytes::from).collect();
        Ok(self.writable()?.append(&self.scope(), &journal, items).await?)
    }

    async fn read(
        &mut self, journal: String, from: u64, limit: u32, wait_ms: u32,
    ) -> Result<Vec<journal::Item>, Error> {
        let wait = self.wait(wait_ms);
        let items = self.storage()?.read(&self.scope(), &journal, from, limit as usize, wait).await?;
        let item =
            |item: host::Item| journal::Item { sequence: item.sequence, time_ns: item.time_ns, data: item.data.into() };
        Ok(items.into_iter().map(item).collect())
    }

    async fn bounds(&mut self, journal: String) -> Result<(u64, u64), Error> {
        Ok(self.storage()?.bounds(&self.scope(), &journal).await?)
    }

    async fn trim(&mut self, journal: String, before: u64) -> Result<(), Error> {
        Ok(self.writable()?.trim(&self.scope(), &journal, before).await?)
    }
}
