//! What a store takes over from another one.

use std::{sync::Arc, time::Duration};

use platform_base::clock;
use platform_capability::kv::{Change, Condition, Entry, Error, Expiry, Fence};
use platform_capability::{Call, CallContext};
use platform_dataplane::CallError;

use super::put;
use crate::{
    Checked, Failure, Subject,
    outcome::{answered, holds, refused, same},
    subject::until,
};

/// Nobody waits longer for an end to show.
const SHOWS: Duration = Duration::from_secs(5);

/// Until an entry ends that is to outlive the check.
const FAR_MS: u64 = 600_000;

fn fenced(subject: &Subject, name: &str, token: u64) -> Call {
    let fence = Some(Arc::new(platform_capability::Fence { name: name.into(), token }));
    Arc::new(CallContext { fence, ..subject.call().as_ref().clone() })
}

/// A store that can't take over says so when it is given nothing.
async fn can_take_over(subject: &Subject) -> Checked {
    match subject.kv().restore(&subject.call(), &[], &[], 0).await {
        Err(CallError::Capability(Error::Other(why))) => Err(Failure::NotMade(why)),
        other => answered(other, "`restore` of nothing"),
    }
}

pub(super) async fn takes_over(subject: Subject) -> Checked {
    can_take_over(&subject).await?;
    let (kv, call) = (subject.kv(), &subject.call());
    answered(kv.commit(call, &[put("stays", "1"), put("goes", "1"), put("changes", "1")]).await, "`commit`")?;
    let far = Some(clock::unix_ms() + FAR_MS);
    let entry = |value: &str, revision, expires_ms| Some(Entry { value: value.into(), revision, expires_ms });
    let change = |key: &str, entry, revision| Change { key: key.to_owned(), entry, revision };
    let given = [
        change("changes", entry("theirs", 700, far), 700),
        change("new", entry("", 701, None), 701),
        change("goes", None, 702),
        change("never-was", None, 703),
    ];
    answered(kv.restore(call, &given, &[], 0).await, "`restore`")?;
    answered(kv.restore(call, &given, &[], 900).await, "`restore` of the same once more")?;
    let found = answered(kv.get_many(call, &["changes", "new", "goes", "stays"]).await, "`get-many`")?;
    let expected = vec![entry("theirs", 700, far), entry("", 701, None), None];
    same(&found.get(..3).unwrap_or_default().to_vec(), &expected, "entries that were taken over")?;
    holds(found.last().is_some_and(Option::is_some), "a key that another store says nothing of stays")?;
    let used = answered(kv.used(call).await, "`used`")?;
    same(&(used.keys, used.bytes), &(3, 7 + 6 + 3 + 6), "keys and bytes after entries were taken over")?;

    same(&answered(kv.revision(call).await, "`revision`")?, &900, "the revision that the store goes on above")?;
    let at = answered(kv.put(call, "changes", b"ours", Condition::At(700), Expiry::Keep).await, "`put` at 700")?;
    holds(at > 900, &format!("a write after the takeover has to have a revision above 900, not {at}"))?;
    let told = answered(kv.changes(call, "", 900, 10).await, "`changes`")?;
    let told: Vec<_> = told.into_iter().map(|change| (change.key, change.revision)).collect();
    same(&told, &vec![("changes".to_owned(), at)], "changes after the takeover, and none of what was taken over")?;
    let before = refused(kv.changes(call, "", 500, 10).await, "`changes` from before what is kept")?;
    same(&before, &Error::Compacted(900), "the error for changes from before the takeover")?;
    let ttl = answered(kv.get(call, "changes").await, "`get`")?.and_then(|entry| entry.expires_ms);
    same(&ttl, &far, "when a key that was taken over ends, after a write that keeps it")
}

pub(super) async fn ends(subject: Subject) -> Checked {
    can_take_over(&subject).await?;
    let (kv, call) = (subject.kv(), || subject.call());
    let entry = Some(Entry { value: b"theirs".to_vec(), revision: 700, expires_ms: Some(1) });
    let ended = Change { key: "ended".to_owned(), entry, revision: 700 };
    answered(kv.restore(&call(), &[], &[], 900).await, "`restore`")?;
    answered(kv.restore(&call(), &[ended], &[], 0).await, "`restore` of what has ended")?;
    same(&answered(kv.get(&call(), "ended").await, "`get`")?, &None, "a key that had ended elsewhere")?;
    let told = async || answered(kv.changes(&call(), "", 900, 10).await, "`changes`");
    until("its end to be told", SHOWS, async || Ok(!told().await?.is_empty())).await?;
    let told: Vec<_> = told().await?.into_iter().map(|change| (change.key, change.entry)).collect();
    same(&told, &vec![("ended".to_owned(), None)], "changes after a key came that had ended elsewhere")
}

pub(super) async fn fences(subject: Subject) -> Checked {
    can_take_over(&subject).await?;
    let (kv, call) = (subject.kv(), &subject.call());
    let write = async |call: &Call| kv.put(call, "key", b"1", Condition::Always, Expiry::Never).await;
    let fence = |name: &str, token| Fence { name: name.to_owned(), token };
    answered(write(&fenced(&subject, "b", 5)).await, "a fenced `put`")?;
    answered(kv.restore(call, &[], &[fence("a", 7), fence("b", 4), fence("c/é", u64::MAX)], 0).await, "`restore`")?;
    let all = vec![fence("a", 7), fence("b", 5), fence("c/é", u64::MAX)];
    same(&answered(kv.fences(call, None, 10).await, "`fences`")?, &all, "fences, the greatest token of each")?;
    same(&answered(kv.fences(call, Some("a"), 1).await, "`fences`")?, &vec![fence("b", 5)], "the fence after `a`")?;
    for (name, token, seen) in [("a", 6, 7), ("b", 4, 5), ("c/é", 1, u64::MAX)] {
        let stale = refused(write(&fenced(&subject, name, token)).await, "a `put` behind a fence that was taken over")?;
        same(&stale, &Error::Stale(seen), "the error for a token that is behind")?;
    }
    answered(write(&fenced(&subject, "a", 8)).await, "a `put` with a greater token").map(drop)
}
