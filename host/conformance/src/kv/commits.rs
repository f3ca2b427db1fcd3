//! Several keys at a time, and what must hold for them.

use platform_capability::kv::{Condition, Entry, Error, Expiry};
use platform_dataplane::CallError;

use super::{check, conflict, delete, put, put_for, values};
use crate::{
    Checked, Failure, Subject,
    outcome::{answered, same},
};

pub(super) async fn conditions(subject: Subject) -> Checked {
    let (kv, call) = (subject.kv(), &subject.call());
    let at = answered(kv.commit(call, &[put("held", "1")]).await, "`commit`")?;
    for (write, key, revision) in [
        (check("held", Condition::Absent), "held", at),
        (check("held", Condition::At(at + 7)), "held", at),
        (check("gone", Condition::Present), "gone", 0),
        (check("gone", Condition::At(0)), "gone", 0),
        (delete("held", Condition::At(at + 7)), "held", at),
        (delete("gone", Condition::Present), "gone", 0),
        (put_for("held", "2", Condition::Absent, Expiry::Never), "held", at),
        (put_for("gone", "2", Condition::At(1), Expiry::Keep), "gone", 0),
    ] {
        let what = format!("a commit with {write:?}, where `held` is at {at} and `gone` is absent,");
        let told = conflict(kv.commit(call, &[put("beside", "2"), write]).await, &what)?;
        same(&told, &(key.to_owned(), revision), &format!("key and revision of the conflict of {what}"))?;
    }
    let found = answered(kv.get_many(call, &["beside", "held"]).await, "`get-many`")?;
    same(&values(&found), &vec![None, Some("1".into())], "`beside` and `held` after commits that were refused")?;
    let told = conflict(kv.put(call, "held", b"", Condition::At(0), Expiry::Never).await, "`put` at revision 0")?;
    same(&told, &("held".into(), at), "key and revision of the conflict")?;
    let told =
        conflict(kv.delete(call, "gone", Condition::Present).await, "`delete` of an absent key that must exist")?;
    same(&told, &("gone".into(), 0), "key and revision of the conflict")?;
    same(&answered(kv.revision(call).await, "`revision`")?, &at, "the revision after writes that were refused")
}

pub(super) async fn several(subject: Subject) -> Checked {
    let (kv, call) = (subject.kv(), &subject.call());
    let first = answered(kv.commit(call, &[put("a", "1"), put("b", "1")]).await, "`commit`")?;
    let writes = [put("a", "2"), delete("b", Condition::Present), put("c", "2")];
    let second = answered(kv.commit(call, &writes).await, "`commit`")?;
    let found = answered(kv.get_many(call, &["c", "b", "a", "c"]).await, "`get-many`")?;
    let two = || Some("2".to_owned());
    same(&values(&found), &vec![two(), None, two(), two()], "values in the order asked")?;
    let revisions: Vec<_> = found.iter().map(|entry| entry.as_ref().map(|entry| entry.revision)).collect();
    let one = Some(second);
    same(&revisions, &vec![one, None, one, one], &format!("revisions of a commit after {first}, all the same"))?;
    let unchanged = [check("a", Condition::Present), delete("gone", Condition::Always)];
    let third = answered(kv.commit(call, &unchanged).await, "`commit` without a change")?;
    same(&third, &second, "the revision of a commit that had nothing to change")?;
    let many: Vec<_> = (0..1000).map(|key| put(&format!("many/{key}"), "1")).collect();
    answered(kv.commit(call, &many).await, "`commit` of 1000 writes")?;
    let keys: Vec<_> = many.iter().map(|write| write.key.as_str()).collect();
    let found = answered(kv.get_many(call, &keys).await, "`get-many` of 1000 keys")?;
    same(&found.iter().flatten().count(), &1000, "keys of a commit of 1000 writes")
}

/// Transfers between accounts, each decided by what it read: no money is made or lost, and nobody sees a half.
pub(super) async fn transfers(subject: Subject) -> Checked {
    const ACCOUNTS: [&str; 4] = ["t/0", "t/1", "t/2", "t/3"];
    let (kv, call) = (subject.kv(), &subject.call());
    answered(kv.commit(call, &ACCOUNTS.map(|key| put(key, "100"))).await, "`commit`")?;
    let transfer = async |from: &str, to: &str| loop {
        let found = answered(kv.get_many(call, &[from, to]).await, "`get-many`")?;
        let [Some(source), Some(target)] = &found[..] else {
            return Err(Failure::new(format!("`{from}` and `{to}` were written, and one is gone")));
        };
        let new = |key: &str, entry: &Entry, by: i64| {
            let amount = (amount(entry)? + by).to_string();
            Ok(put_for(key, &amount, Condition::At(entry.revision), Expiry::Never))
        };
        match kv.commit(call, &[new(from, source, -1)?, new(to, target, 1)?]).await {
            Err(CallError::Capability(Error::Conflict(_))) => {}
            done => return answered(done, "`commit`"),
        }
    };
    let mover = async |seed: usize| {
        for step in 0..20 {
            let from = seed + step;
            let to = from + 1 + step % 3;
            let account = |number: usize| ACCOUNTS.get(number % 4).copied().unwrap_or_default();
            transfer(account(from), account(to)).await?;
        }
        Ok(())
    };
    let watcher = async {
        for _ in 0..50 {
            let all = answered(kv.get_many(call, &ACCOUNTS).await, "`get-many`")?;
            let amounts = all.iter().flatten().map(amount).collect::<Result<Vec<_>, _>>()?;
            same(&amounts.iter().sum::<i64>(), &400, "the sum of all accounts, seen while money moves")?;
        }
        Ok(())
    };
    futures::try_join!(mover(0), mover(1), mover(2), watcher).map(|_| ())
}

fn amount(entry: &Entry) -> Result<i64, Failure> {
    let text = String::from_utf8_lossy(&entry.value);
    text.parse().map_err(|error| Failure::new(format!("an account holds {text:?}, which nobody wrote: {error}")))
}
