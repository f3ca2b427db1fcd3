//! One key at a time.

use std::time::Duration;

use platform_capability::kv::{Condition, Error, Expiry, Usage};

use super::{delete, put, put_for, values};
use crate::{
    Checked, Subject,
    outcome::{answered, holds, refused, same, shown},
    subject::until,
};

/// Nobody waits longer for an expiry to show.
const SHOWS: Duration = Duration::from_secs(5);

pub(super) async fn read_back(subject: Subject) -> Checked {
    let (kv, call) = (subject.kv(), &subject.call());
    let get = async |what: &str| answered(kv.get(call, "key").await, what);
    same(&answered(kv.revision(call).await, "`revision`")?, &0, "the revision of a namespace without writes")?;
    same(&get("`get` of a key that never was").await?, &None, "a key that never was")?;
    let write = async |value: &str| {
        answered(kv.put(call, "key", value.as_bytes(), Condition::Always, Expiry::Never).await, "`put`")
    };
    let first = write("1").await?;
    let second = write("2").await?;
    holds(second > first && first > 0, &format!("revisions have to grow: {first}, then {second}"))?;
    let found = get("`get`").await?;
    same(&values(std::slice::from_ref(&found)), &vec![Some("2".to_owned())], "the key")?;
    same(&found.map(|entry| (entry.revision, entry.expires_ms)), &Some((second, None)), "its revision and expiry")?;
    let gone = answered(kv.delete(call, "key", Condition::Always).await, "`delete`")?;
    holds(gone.is_some_and(|gone| gone > second), &format!("a deletion has a revision of its own, not {gone:?}"))?;
    same(&get("`get` after `delete`").await?, &None, "a deleted key")?;
    let again = answered(kv.delete(call, "key", Condition::Always).await, "`delete` of an absent key")?;
    same(&again, &None, "the revision of a deletion that had nothing to delete")?;
    same(&answered(kv.revision(call).await, "`revision`")?, &gone.unwrap_or_default(), "the last revision")
}

pub(super) async fn any_bytes(subject: Subject) -> Checked {
    let (kv, call) = (subject.kv(), &subject.call());
    let longest = "k".repeat(1024);
    let bytes: Vec<u8> = (0..=255).collect();
    let keys =
        ["a", "../a", "a/../b", "%00", "*", "a>b", "?[a-z]", "a.b", "' OR 1=1 --", "\u{1f600}é", " ", "{a}", &longest];
    for key in keys {
        answered(kv.put(call, key, &bytes, Condition::Absent, Expiry::Never).await, &format!("`put` of {key:?}"))?;
    }
    for key in keys {
        let found = answered(kv.get(call, key).await, &format!("`get` of {key:?}"))?;
        holds(found.is_some_and(|entry| entry.value == bytes), &format!("{key:?} has to hold all 256 bytes"))?;
    }
    answered(kv.put(call, "empty", b"", Condition::Always, Expiry::Never).await, "`put` of an empty value")?;
    let found = answered(kv.get(call, "empty").await, "`get` of an empty value")?;
    holds(found.is_some_and(|entry| entry.value.is_empty()), "an empty value is there, and empty")
}

pub(super) async fn large(subject: Subject) -> Checked {
    let (kv, call) = (subject.kv(), &subject.call());
    let value: Vec<u8> = (0..8_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for key in ["big/1", "big/2", "big/3"] {
        answered(kv.put(call, key, &value, Condition::Always, Expiry::Never).await, "`put` of 8 MiB")?;
    }
    let found = answered(kv.get(call, "big/1").await, "`get` of 8 MiB")?;
    holds(found.is_some_and(|entry| entry.value == value), "8 MiB have to come back as they were written")?;
    let two = answered(kv.get_many(call, &["big/1", "gone"]).await, "`get-many` of 8 MiB")?;
    same(&two.iter().flatten().count(), &1, "entries found")?;
    let refusal = refused(kv.get_many(call, &["big/1", "big/2", "big/3"]).await, "`get-many` of 24 MiB")?;
    let what = format!("`get-many` of 24 MiB is `too-large`, not {}", shown(&refusal));
    holds(matches!(refusal, Error::TooLarge(_)), &what)
}

pub(super) async fn namespaces(subject: Subject) -> Checked {
    let (kv, here, other) = (subject.kv(), subject.call(), subject.beside()?.call());
    answered(kv.commit(&here, &[put("shared", "here"), put("mine", "1")]).await, "`commit`")?;
    same(&answered(kv.get(&other, "shared").await, "`get`")?, &None, "another namespace's key")?;
    same(&answered(kv.revision(&other).await, "`revision`")?, &0, "the revision of another namespace")?;
    answered(kv.put(&other, "shared", b"other", Condition::Absent, Expiry::Never).await, "`put`")?;
    let found = answered(kv.get_many(&here, &["shared", "mine"]).await, "`get-many`")?;
    same(&values(&found), &vec![Some("here".into()), Some("1".into())], "keys after a write in another namespace")?;
    let listed = answered(kv.scan(&other, "", None, 10).await, "`scan`")?;
    same(&listed.len(), &1, "keys that a scan of the other namespace finds")
}

pub(super) async fn numbers(subject: Subject) -> Checked {
    const TASKS: i64 = 8;
    const STEPS: i64 = 20;
    let (kv, call) = (subject.kv(), &subject.call());
    let add = async |by: i64| answered(kv.increment(call, "number", by).await, "`increment`");
    same(&add(5).await?, &5, "the sum on an absent key")?;
    same(&add(-7).await?, &-2, "the sum with a negative number")?;
    let tasks = (0..TASKS).map(|_| async {
        for _ in 0..STEPS {
            add(1).await?;
        }
        Ok(())
    });
    futures::future::try_join_all(tasks).await?;
    same(&add(0).await?, &(TASKS * STEPS - 2), "the sum of increments that came at the same time")?;
    let found = answered(kv.get(call, "number").await, "`get`")?;
    same(&values(&[found]), &vec![Some((TASKS * STEPS - 2).to_string())], "the number as text")?;
    answered(kv.commit(call, &[put("most", &i64::MAX.to_string()), put("text", "1x")]).await, "`commit`")?;
    for (key, what) in [("most", "a sum that does not fit"), ("text", "a value that is no number")] {
        let before = answered(kv.get(call, key).await, "`get`")?;
        let refusal = refused(kv.increment(call, key, 1).await, &format!("`increment` with {what}"))?;
        let words = format!("{what} is `invalid`, not {}", shown(&refusal));
        holds(matches!(refusal, Error::Invalid(_)), &words)?;
        same(&answered(kv.get(call, key).await, "`get`")?, &before, &format!("the key after {what}"))?;
    }
    Ok(())
}

pub(super) async fn numbers_at_the_edge(subject: Subject) -> Checked {
    let (kv, call) = (subject.kv(), &subject.call());
    let text = |number: i64| number.to_string();
    for (held, by, sum) in [
        ("007", 1, Some(8)),
        ("-0", -1, Some(-1)),
        ("9007199254740993", 1, Some(9_007_199_254_740_994)),
        (text(i64::MAX - 1).as_str(), 1, Some(i64::MAX)),
        (text(i64::MIN).as_str(), i64::MAX, Some(-1)),
        ("0", i64::MIN, Some(i64::MIN)),
        (text(i64::MAX).as_str(), 1, None),
        (text(i64::MIN).as_str(), -1, None),
        ("-1", i64::MIN, None),
        ("9223372036854775808", -1, None),
        ("-9223372036854775809", 1, None),
        ("", 1, None),
        ("-", 1, None),
        ("+1", 1, None),
        (" 1", 1, None),
        ("1\n", 1, None),
        ("1.0", 1, None),
        ("0x1", 1, None),
        ("\u{661}", 1, None),
    ] {
        answered(kv.commit(call, &[put("number", held)]).await, "`commit`")?;
        let what = format!("`increment` of {held:?} by {by}");
        match sum {
            Some(sum) => same(&answered(kv.increment(call, "number", by).await, &what)?, &sum, &what)?,
            None => {
                let refusal = refused(kv.increment(call, "number", by).await, &what)?;
                holds(matches!(refusal, Error::Invalid(_)), &format!("{what} is `invalid`, not {}", shown(&refusal)))?;
            }
        }
        let left = sum.map_or_else(|| held.to_owned(), text);
        let found = answered(kv.get(call, "number").await, "`get`")?;
        same(&values(&[found]), &vec![Some(left)], &format!("the key after {what}"))?;
    }
    let hour = put_for("lasting", "1", Condition::Always, Expiry::AfterMs(3_600_000));
    answered(kv.commit(call, &[hour]).await, "`commit`")?;
    let ends = async || Ok(answered(kv.get(call, "lasting").await, "`get`")?.and_then(|entry| entry.expires_ms));
    let before = ends().await?;
    let at = answered(kv.revision(call).await, "`revision`")?;
    answered(kv.increment(call, "lasting", 1).await, "`increment`")?;
    same(&ends().await?, &before, "when a number ends that was added to")?;
    let told = answered(kv.changes(call, "lasting", at, 10).await, "`changes`")?;
    let told: Vec<_> = told.into_iter().map(|change| change.entry).collect();
    same(&values(&told), &vec![Some("2".to_owned())], "the change that an increment is")
}

pub(super) async fn expiry(subject: Subject) -> Checked {
    // Each call has a time of its own, at which the host admitted it.
    let (kv, call) = (subject.kv(), || subject.call());
    let hour = Expiry::AfterMs(3_600_000);
    let given = ["stays", "kept", "taken"].map(|key| put_for(key, "1", Condition::Always, hour));
    answered(kv.commit(&call(), &given).await, "`commit`")?;
    let again = [
        put_for("kept", "2", Condition::Present, Expiry::Keep),
        put("taken", "2"),
        put_for("new", "2", Condition::Absent, Expiry::Keep),
    ];
    answered(kv.commit(&call(), &again).await, "`commit`")?;
    let found = answered(kv.get_many(&call(), &["stays", "kept", "taken", "new"]).await, "`get-many`")?;
    let expires: Vec<_> = found.iter().map(|entry| entry.as_ref().and_then(|entry| entry.expires_ms)).collect();
    holds(
        matches!(expires[..], [Some(stays), Some(kept), None, None] if stays.abs_diff(kept) < 60_000),
        &format!("a key keeps its expiry with `keep` and loses it with `never`; the expiries are {}", shown(&expires)),
    )?;
    let short = [put_for("short", "1", Condition::Always, Expiry::AfterMs(1500)), delete("gone", Condition::Always)];
    let at = answered(kv.commit(&call(), &short).await, "`commit`")?;
    let found = answered(kv.get(&call(), "short").await, "`get`")?;
    holds(found.is_some(), "a key with 1500 ms to live is there at once")?;
    until("the end of a key with 1500 ms to live", SHOWS, async || {
        Ok(answered(kv.get(&call(), "short").await, "`get`")?.is_none())
    })
    .await?;
    answered(kv.put(&call(), "short", b"2", Condition::Absent, Expiry::Never).await, "`put` where an expired key was")?;
    until("the revision of an expiry", SHOWS, async || Ok(answered(kv.revision(&call()).await, "`revision`")? > at))
        .await
}

pub(super) async fn usage(subject: Subject) -> Checked {
    let (kv, call) = (subject.kv(), &subject.call());
    let used = async || {
        let Usage { keys, bytes, .. } = answered(kv.used(call).await, "`used`")?;
        Ok((keys, bytes))
    };
    same(&used().await?, &(0, 0), "keys and bytes of an empty namespace")?;
    answered(kv.commit(call, &[put("one", "12345"), put("two", "")]).await, "`commit`")?;
    same(&used().await?, &(2, 11), "keys and bytes of `one` with 5 bytes and `two` with none")?;
    answered(kv.put(call, "one", b"1", Condition::Always, Expiry::Never).await, "`put`")?;
    same(&used().await?, &(2, 7), "keys and bytes after a shorter value")?;
    answered(
        kv.commit(call, &[delete("one", Condition::Present), delete("gone", Condition::Always)]).await,
        "`commit`",
    )?;
    same(&used().await?, &(1, 3), "keys and bytes after a deletion")
}
