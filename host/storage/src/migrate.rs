//! Migration: all that one storage holds, to another that holds nothing yet.
//!
//! Owns the order of steps, and the record of them in the target, by which a migration that broke off goes on. Must not know
//! what either storage is. Invariant: the source is only read; and the target holds nothing else, or it is refused.
//!
//! Both are to be opened with a clock that stands still, so that nothing ends while it is carried; the ends themselves are
//! carried, and keep.

use xxhash_rust::xxh3::Xxh3;

use crate::{Change, Condition, Entry, Error, MAX_LIMIT, Scope, Storage, Write};

/// Where the target keeps how far it is.
const OWNER: &str = "_migration";
const TABLE: &str = "progress";
const KEY: &str = "at";

/// What was carried so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Migrated {
    /// Tables and journals that are done with.
    pub names: usize,
    /// Tables and journals that there are.
    pub of: usize,
    /// Rows and items, since this migration began or went on.
    pub entries: u64,
    /// Whether it had been done before.
    pub before: bool,
}

/// Why a migration was not made, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MigrateError {
    /// Something else is there.
    #[error(
        "the target holds other data, such as `{0}`; name an empty one, or remove its streams if that data is not needed"
    )]
    NotEmpty(String),
    /// The source is not what it was.
    #[error(
        "the target holds a part of what the source held earlier, and the source has changed since; remove the streams of the \
         target and begin anew"
    )]
    Changed,
    /// The target does not hold what the source does.
    #[error(
        "`{name}` has {found} in the target and {expected} in the source; remove the streams of the target and begin anew"
    )]
    Different {
        /// The table or journal.
        name: String,
        /// What it has in the source.
        expected: String,
        /// What it has in the target.
        found: String,
    },
    /// The source can't be read.
    #[error("the source: {0}")]
    Source(Error),
    /// The target can't be written.
    #[error("the target: {0}; the same command goes on where it was")]
    Target(Error),
}

type Result<T, E = MigrateError> = std::result::Result<T, E>;

/// A table or a journal of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Table(Scope, String),
    Journal(Scope, String),
}

impl Name {
    fn shown(&self) -> String {
        let (Self::Table(scope, name) | Self::Journal(scope, name)) = self;
        format!("{}/{}/{name}", scope.owner, scope.namespace)
    }
}

/// How far the target is.
struct Mark {
    fingerprint: String,
    names: usize,
    after: Option<String>,
}

impl Mark {
    fn encode(&self) -> String {
        // Keys hold no control characters.
        format!("{}\n{}\n{}", self.fingerprint, self.names, self.after.as_deref().unwrap_or_default())
    }

    fn decode(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let (fingerprint, names, after) = (lines.next()?.to_owned(), lines.next()?.parse().ok()?, lines.next()?);
        Some(Self { fingerprint, names, after: Some(after.to_owned()).filter(|after| !after.is_empty()) })
    }
}

/// Carries all that `from` holds to `to`, or goes on with that; `progress` is told now and then.
///
/// # Errors
/// See [`MigrateError`].
pub async fn migrate(
    from: &dyn Storage, to: &dyn Storage, progress: &mut (dyn FnMut(&Migrated) + Send),
) -> Result<Migrated> {
    let names = names(from).await.map_err(MigrateError::Source)?;
    let fingerprint = fingerprint(from, &names).await.map_err(MigrateError::Source)?;
    let mut mark = begin(to, fingerprint).await?;
    let mut done = Migrated { names: mark.names, of: names.len(), entries: 0, before: mark.names > names.len() };
    if done.before {
        return Ok(Migrated { names: names.len(), ..done });
    }
    for name in names.iter().skip(mark.names) {
        match name {
            Name::Table(scope, table) => carry_table(from, to, scope, table, &mut mark, &mut done, progress).await?,
            Name::Journal(scope, journal) => carry_journal(from, to, scope, journal, &mut done, progress).await?,
        }
        (mark.names, mark.after) = (mark.names + 1, None);
        done.names = mark.names;
        note(to, &mark).await?;
        progress(&done);
    }
    for name in &names {
        verify(from, to, name).await?;
    }
    // More than there are: all of them, and verified.
    mark.names = names.len() + 1;
    note(to, &mark).await?;
    Ok(done)
}

async fn names(from: &dyn Storage) -> Result<Vec<Name>, Error> {
    let tables = from.tables().await?.into_iter().map(|(scope, name)| Name::Table(scope, name));
    let journals = from.journals().await?.into_iter().map(|(scope, name)| Name::Journal(scope, name));
    Ok(tables.chain(journals).collect())
}

/// Tells one state of the source from another.
async fn fingerprint(from: &dyn Storage, names: &[Name]) -> Result<String, Error> {
    let mut hash = Xxh3::new();
    for name in names {
        hash.update(format!("{}\n{}\n", name.shown(), state(from, name).await?).as_bytes());
    }
    Ok(format!("{:032x}", hash.digest128()))
}

/// What is compared of a table or journal.
async fn state(of: &dyn Storage, name: &Name) -> Result<String, Error> {
    match name {
        Name::Table(scope, table) => {
            let (revision, used) = (of.revision(scope, table).await?, of.used(scope, table).await?);
            Ok(format!("{} keys of {} bytes at revision {revision}", used.keys, used.bytes))
        }
        Name::Journal(scope, journal) => {
            let (first, last) = of.bounds(scope, journal).await?;
            Ok(format!("items {first} to {last}"))
        }
    }
}

/// Where to go on; refuses a target that holds anything else.
async fn begin(to: &dyn Storage, fingerprint: String) -> Result<Mark> {
    let own = Scope::new(OWNER, "");
    let found = to.get(&own, TABLE, KEY).await.map_err(MigrateError::Target)?;
    if let Some(found) = found {
        let mark = std::str::from_utf8(&found.value).ok().and_then(Mark::decode);
        return mark.filter(|mark| mark.fingerprint == fingerprint).ok_or(MigrateError::Changed);
    }
    if let Some(other) = names(to).await.map_err(MigrateError::Target)?.first() {
        return Err(MigrateError::NotEmpty(other.shown()));
    }
    let mark = Mark { fingerprint, names: 0, after: None };
    let first = put(&mark, Condition::Absent);
    match to.commit(&own, TABLE, vec![first]).await {
        Ok(_) => Ok(mark),
        Err(Error::Conflict(_)) => Err(MigrateError::NotEmpty(format!("{OWNER}//{TABLE}"))),
        Err(error) => Err(MigrateError::Target(error)),
    }
}

fn put(mark: &Mark, condition: Condition) -> Write {
    Write::Put { key: KEY.to_owned(), value: mark.encode().into(), condition, ttl: None }
}

async fn note(to: &dyn Storage, mark: &Mark) -> Result<()> {
    let noted = to.commit(&Scope::new(OWNER, ""), TABLE, vec![put(mark, Condition::Present)]).await;
    noted.map(drop).map_err(MigrateError::Target)
}

async fn carry_table(
    from: &dyn Storage, to: &dyn Storage, scope: &Scope, table: &str, mark: &mut Mark, done: &mut Migrated,
    progress: &mut (dyn FnMut(&Migrated) + Send),
) -> Result<()> {
    loop {
        let page: Vec<Entry> =
            from.scan(scope, table, "", mark.after.as_deref(), MAX_LIMIT).await.map_err(MigrateError::Source)?;
        let Some(last) = page.last() else { break };
        let (after, count) = (last.key.clone(), page.len() as u64);
        let rows = page.into_iter().map(Change::Put).collect();
        to.restore(scope, table, rows, 0).await.map_err(MigrateError::Target)?;
        mark.after = Some(after);
        done.entries += count;
        note(to, mark).await?;
        progress(done);
    }
    let revision = from.revision(scope, table).await.map_err(MigrateError::Source)?;
    to.restore(scope, table, Vec::new(), revision).await.map_err(MigrateError::Target)
}

async fn carry_journal(
    from: &dyn Storage, to: &dyn Storage, scope: &Scope, journal: &str, done: &mut Migrated,
    progress: &mut (dyn FnMut(&Migrated) + Send),
) -> Result<()> {
    let (first, last) = from.bounds(scope, journal).await.map_err(MigrateError::Source)?;
    to.restore_items(scope, journal, first, Vec::new()).await.map_err(MigrateError::Target)?;
    let (_, held) = to.bounds(scope, journal).await.map_err(MigrateError::Target)?;
    let mut next = first.max(held + 1);
    while next <= last {
        let items = from.read(scope, journal, next, MAX_LIMIT, std::time::Duration::ZERO).await;
        let items = items.map_err(MigrateError::Source)?;
        next += items.len() as u64;
        done.entries += items.len() as u64;
        to.restore_items(scope, journal, first, items).await.map_err(MigrateError::Target)?;
        progress(done);
    }
    Ok(())
}

async fn verify(from: &dyn Storage, to: &dyn Storage, name: &Name) -> Result<()> {
    let expected = state(from, name).await.map_err(MigrateError::Source)?;
    let found = state(to, name).await.map_err(MigrateError::Target)?;
    let name = name.shown();
    if expected == found { Ok(()) } else { Err(MigrateError::Different { name, expected, found }) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::{Clock, Memory, Options, Usage};

    fn still() -> Memory {
        Memory::new(Options { clock: Clock::manual(1), ..Options::default() })
    }

    fn scope(number: usize) -> Scope {
        Scope::new("kv.store", format!("n{number}"))
    }

    fn value(key: &str, ttl: Option<Duration>) -> Write {
        Write::Put { key: key.to_owned(), value: key.to_owned().into(), condition: Condition::Always, ttl }
    }

    async fn filled() -> Memory {
        let from = still();
        for number in 0..3 {
            for page in 0..3 {
                let writes = (0..700).map(|key| value(&format!("{page}/{key:04}"), None)).collect();
                from.commit(&scope(number), "entries", writes).await.unwrap();
            }
            from.commit(&scope(number), "entries", vec![value("ends", Some(Duration::from_secs(5)))]).await.unwrap();
            from.append(&scope(number), "log", vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")]).await.unwrap();
        }
        from.trim(&scope(1), "log", 2).await.unwrap();
        from.trim(&scope(2), "log", 9).await.unwrap();
        from.commit(&scope(0), "gone", vec![value("x", None)]).await.unwrap();
        let gone = Write::Delete { key: "x".to_owned(), condition: Condition::Always };
        from.commit(&scope(0), "gone", vec![gone]).await.unwrap();
        from
    }

    async fn assert_same(from: &Memory, to: &Memory) {
        let all = names(from).await.unwrap();
        for name in &all {
            assert_eq!(state(from, name).await, state(to, name).await, "{}", name.shown());
            if let Name::Table(scope, table) = name {
                let pages = [None, Some("0/0500"), Some("2/0600")];
                for after in pages {
                    assert_eq!(
                        from.scan(scope, table, "", after, 1000).await.unwrap(),
                        to.scan(scope, table, "", after, 1000).await.unwrap()
                    );
                }
            }
        }
        assert_eq!(names(to).await.unwrap().len(), all.len() + 1);
    }

    #[tokio::test]
    async fn everything_is_carried_as_it_is() {
        let (from, to) = (filled().await, still());
        let done = migrate(&from, &to, &mut |_| {}).await.unwrap();
        assert_eq!((done.names, done.of, done.before), (7, 7, false));
        assert_same(&from, &to).await;
        assert_eq!(to.used(&scope(0), "gone").await.unwrap(), Usage::default());
        assert_eq!(to.commit(&scope(0), "gone", vec![value("y", None)]).await.unwrap(), 3, "revisions go on");
        assert_eq!(to.append(&scope(2), "log", vec![Bytes::new()]).await.unwrap(), 3, "and sequences");
        assert!(migrate(&from, &to, &mut |_| {}).await.unwrap().before);
    }

    #[tokio::test]
    async fn what_broke_off_goes_on_wherever_that_was() {
        let from = filled().await;
        let steps = std::sync::atomic::AtomicUsize::new(0);
        let count = &mut |_: &Migrated| {
            steps.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        };
        migrate(&from, &still(), count).await.unwrap();
        for stop in 0..steps.into_inner() {
            let to = still();
            let reached = tokio::sync::Notify::new();
            let mut step = 0;
            // Dropped where it is, as a process that is killed.
            let told = &mut |_: &Migrated| {
                step += 1;
                if step > stop {
                    reached.notify_one();
                }
            };
            tokio::select! {
                biased;
                () = reached.notified() => {}
                done = migrate(&from, &to, told) => drop(done.unwrap()),
            }
            migrate(&from, &to, &mut |_| {}).await.unwrap();
            assert_same(&from, &to).await;
        }
    }

    #[tokio::test]
    async fn a_target_with_other_data_is_refused() {
        let (from, to) = (filled().await, still());
        to.commit(&scope(0), "theirs", vec![value("x", None)]).await.unwrap();
        let refused = migrate(&from, &to, &mut |_| {}).await;
        assert_eq!(refused, Err(MigrateError::NotEmpty("kv.store/n0/theirs".to_owned())));
        assert_eq!(to.tables().await.unwrap().len(), 1, "nothing was written");

        let to = still();
        migrate(&from, &to, &mut |_| {}).await.unwrap();
        from.commit(&scope(0), "entries", vec![value("x", None)]).await.unwrap();
        assert_eq!(migrate(&from, &to, &mut |_| {}).await, Err(MigrateError::Changed));
    }
}
