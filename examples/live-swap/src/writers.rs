//! Clients that write key-value entries and know exactly what must be there afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};
use hyper::body::Bytes;
use platform_proto::kv::v1::put_request::Condition;
use platform_proto::kv::v1::{GetRequest, ListRequest, PutRequest};

use crate::daemon::Clients;

/// Keys that one writer writes over and over: enough to be spread, few enough that memory comes to rest.
const KEYS: u64 = 200;

/// Clients that fill the store.
const FILL_WRITERS: u64 = 64;

/// What a writer was told was written.
#[derive(Debug, Default)]
pub struct Written {
    /// Acknowledged writes.
    pub writes: u64,
    /// Key, and the number and revision of the last write to it.
    last: BTreeMap<String, (u64, u64)>,
}

/// Writes until `stop`. Each write demands the revision that the last one to the key was acknowledged with, so a write
/// that was lost in between, or made twice, is refused.
///
/// # Errors
/// With the first write or read that fails.
pub async fn overwrite(mut clients: Clients, writer: usize, stop: Arc<AtomicBool>) -> Result<Written> {
    let mut written = Written::default();
    while !stop.load(Ordering::Relaxed) {
        let number = written.writes;
        let key = format!("live-swap/{writer}/{:03}", number % KEYS);
        let condition =
            written.last.get(&key).map_or(Condition::IfAbsent(true), |(_, revision)| Condition::IfRevision(*revision));
        let request = PutRequest {
            key: key.clone(),
            value: value(&key, number),
            condition: Some(condition),
            ..Default::default()
        };
        let revision = match clients.kv.put(request).await {
            Ok(answer) => answer.into_inner().revision,
            Err(status) => bail!("write {number}, of `{key}`: {} {}", status.code(), status.message()),
        };
        if number % 10 == 0 {
            let entry = clients.kv.get(GetRequest { key: key.clone() }).await;
            let entry = entry
                .map_err(|status| anyhow::anyhow!("read of `{key}`: {} {}", status.code(), status.message()))?
                .into_inner();
            ensure!(
                entry.value == value(&key, number) && entry.revision == revision,
                "`{key}` does not hold what was just written"
            );
        }
        written.last.insert(key, (number, revision));
        written.writes += 1;
    }
    Ok(written)
}

/// Writes `writes` entries from many clients at once, so that the stores' tables in memory have been full once.
///
/// # Errors
/// With the first write that fails.
pub async fn fill(clients: &Clients, writes: u64) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..FILL_WRITERS {
        let mut kv = clients.kv.clone();
        tasks.spawn(async move {
            for number in 0..writes / FILL_WRITERS {
                let key = format!("live-swap/fill/{writer}/{}", number % 10);
                let value = value(&key, number);
                kv.put(PutRequest { key, value, ..Default::default() }).await?;
            }
            Ok::<_, tonic::Status>(())
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome?.context("filling the store")?;
    }
    Ok(())
}

impl Written {
    /// Checks that every key holds what was written to it last.
    ///
    /// # Errors
    /// With the first key that does not.
    pub async fn check(&self, clients: &mut Clients, writer: usize) -> Result<()> {
        let found = list(clients, &format!("live-swap/{writer}/")).await?;
        ensure!(found.len() == self.last.len(), "{} keys were written, {} are there", self.last.len(), found.len());
        for (key, (number, revision)) in &self.last {
            let (bytes, at) = found.get(key).with_context(|| format!("`{key}` is gone"))?;
            ensure!(*bytes == value(key, *number) && at == revision, "`{key}` does not hold its last write, {number}");
        }
        Ok(())
    }
}

/// Writes new keys until the daemon goes away; those that were acknowledged.
pub async fn until_killed(mut clients: Clients, prefix: String) -> Vec<String> {
    let mut acknowledged = Vec::new();
    loop {
        let key = format!("{prefix}{:06}", acknowledged.len());
        let request = PutRequest { value: value(&key, 0), key: key.clone(), ..Default::default() };
        if clients.kv.put(request).await.is_err() {
            return acknowledged;
        }
        acknowledged.push(key);
    }
}

/// Checks that keys written by [`until_killed`] are there.
///
/// # Errors
/// With the first that is not.
pub async fn check_keys(clients: &mut Clients, prefix: &str, keys: &[String]) -> Result<()> {
    let found = list(clients, prefix).await?;
    for key in keys {
        let (bytes, _) = found.get(key).with_context(|| format!("`{key}` was acknowledged and is gone"))?;
        ensure!(*bytes == value(key, 0), "`{key}` does not hold what was written");
    }
    // What was under way when the daemon was killed may be there or not; nothing else may.
    ensure!(found.len() <= keys.len() + 1, "{} keys were acknowledged, {} are there", keys.len(), found.len());
    Ok(())
}

async fn list(clients: &mut Clients, prefix: &str) -> Result<BTreeMap<String, (Bytes, u64)>> {
    let mut found = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = ListRequest { prefix: prefix.to_owned(), limit: 1000, page_token };
        let page = clients
            .kv
            .list(request)
            .await
            .map_err(|status| anyhow::anyhow!("list: {} {}", status.code(), status.message()))?
            .into_inner();
        found.extend(page.entries.into_iter().map(|entry| (entry.key, (entry.value, entry.revision))));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}

/// A value that belongs to this write and no other.
fn value(key: &str, number: u64) -> Bytes {
    format!("{key} {number} {}", "v".repeat(64)).into()
}
