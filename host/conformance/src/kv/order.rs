//! Many keys in order, and changes in order.

use platform_capability::kv::{Change, Condition};

use super::{delete, put};
use crate::{
    Checked, Failure, Subject,
    outcome::{answered, holds, same, told_by},
};

pub(super) async fn scan(subject: Subject) -> Checked {
    let (kv, call) = (subject.kv(), &subject.call());
    let mut keys: Vec<String> = (0..120).map(|number| format!("p/{number}")).collect();
    keys.extend(["p/", "p/é", "p/%", "p/~", "p/a*", "p/\u{10000}", "p/\u{ffff}"].map(str::to_owned));
    let beside = ["p", "q", "o/1", "P/1"].map(str::to_owned);
    let writes: Vec<_> = keys.iter().chain(&beside).map(|key| put(key, key)).collect();
    answered(kv.commit(call, &writes).await, "`commit`")?;
    keys.sort_unstable();
    for limit in [1, 7, 1000] {
        let mut found: Vec<String> = Vec::new();
        loop {
            let page = answered(kv.scan(call, "p/", found.last().map(String::as_str), limit).await, "`scan`")?;
            holds(page.len() <= limit as usize, &format!("a page of at most {limit} has {} entries", page.len()))?;
            if page.is_empty() {
                break;
            }
            let whole = page.iter().all(|(key, entry)| key.as_bytes() == entry.value);
            holds(whole, "each key of a scan comes with its own value")?;
            found.extend(page.into_iter().map(|(key, _)| key));
            holds(found.len() <= keys.len(), "a scan goes on beyond the keys that there are")?;
        }
        same(&found, &keys, &format!("keys that a scan of `p/` in pages of {limit} finds"))?;
    }
    let found = answered(kv.scan(call, "", Some("p/~"), 1000).await, "`scan` of everything")?;
    same(&found.last().map(|(key, _)| key.as_str()), &Some("q"), "the last key of all")
}

/// What a watch has to tell of one change: key, value, revision.
type Told = (String, Option<Vec<u8>>, u64);

pub(super) async fn changes(subject: Subject) -> Checked {
    let (kv, call) = (subject.kv(), &subject.call());
    let written = |key: &str, revision| (key.to_owned(), Some(b"1".to_vec()), revision);
    let first = answered(kv.commit(call, &[put("w/0", "1")]).await, "`commit`")?;
    let together = answered(kv.commit(call, &["w/1", "w/2", "w/3"].map(|key| put(key, "1"))).await, "`commit`")?;
    answered(kv.commit(call, &[put("x", "1")]).await, "`commit`")?;
    let gone = answered(kv.commit(call, &[delete("w/1", Condition::Present)]).await, "`commit`")?;
    let mut expected = vec![written("w/1", together), written("w/2", together), written("w/3", together)];
    expected.push(("w/1".to_owned(), None, gone));
    same(&told(&subject, first, 4, together).await?, &expected, "changes of `w/` after the first")?;
    expected.insert(0, written("w/0", first));
    same(&told(&subject, first - 1, 5, together).await?, &expected, "changes of `w/` from the first")?;
    let after = told(&subject, gone, 1, together);
    let later = async { answered(kv.commit(call, &[put("w/4", "1")]).await, "`commit`") };
    let (after, later) = futures::try_join!(after, later)?;
    same(&after, &vec![written("w/4", later)], "what is written while somebody watches")
}

/// The first changes of `w/` after a revision; those of the revision `together` in one piece.
async fn told(subject: &Subject, after: u64, count: usize, together: u64) -> Result<Vec<Told>, Failure> {
    let pieces = told_by(subject.kv().watch(&subject.call(), "w/", after), count).await?;
    for piece in &pieces {
        let of_one = piece.iter().filter(|change| change.revision == together).count();
        holds(matches!(of_one, 0 | 3), &format!("3 changes of one commit have to come together, {of_one} came"))?;
    }
    let told = pieces.into_iter().flatten();
    let mut told: Vec<_> =
        told.map(|Change { key, entry, revision }| (key, entry.map(|entry| entry.value), revision)).collect();
    // Revisions come in order; keys of one revision may come in any.
    let in_order = told.is_sorted_by_key(|(_, _, revision)| *revision);
    holds(in_order, "changes have to come in the order of their revisions")?;
    told.sort_by(|one, other| (one.2, &one.0).cmp(&(other.2, &other.0)));
    Ok(told)
}
