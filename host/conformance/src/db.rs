//! What every provider of `db.store` promises.

use std::sync::Arc;

use platform_capability::CallContext;
use platform_capability::db::{
    Action, Condition, Content, Error, Field, Filter, Index, Kind, Query, Record, Stamp, Test, Value, Write,
};
use platform_dataplane::{Db, Place};

use crate::{
    Check, Checked, Failure, Subject, checks,
    outcome::{answered, holds, refused, same, shown, told_by},
};

pub(crate) const SUITE: &[Check] = checks! {
    "records" "a record is read as it was written, keeps when it was made, and is gone once it was deleted" records,
    "any-ids" "ids and values may hold everything that the interface allows" any_ids,
    "conditions" "a write whose condition does not hold changes nothing and tells the record and its revision" conditions,
    "transactions" "several writes are made together under one revision, or none is" transactions,
    "unique" "a unique index lets one record have a value" unique,
    "find" "records are found by filters, in the order asked, page by page, once each" find,
    "changes" "every change comes once, in order, from the revision asked for" changes,
    "fences" "a write behind a token that is behind changes nothing" fences,
    "namespaces" "what one namespace holds is not seen from another" namespaces,
};

const TABLE: Place<'static> = Place { database: "conformance", table: "t" };

fn db(subject: &Subject) -> &Db {
    subject.plane().db()
}

fn put(id: &str, condition: Condition, number: f64, text: &str) -> Write {
    let metadata = vec![
        Field { name: "n".to_owned(), value: Value::Number(number) },
        Field { name: "s".to_owned(), value: Value::Text(text.to_owned()) },
    ];
    let action = Action::Put(Content { metadata, data: text.as_bytes().to_vec() });
    Write { table: TABLE.table.to_owned(), id: id.to_owned(), condition, action }
}

fn delete(id: &str) -> Write {
    let (table, id) = (TABLE.table.to_owned(), id.to_owned());
    Write { table, id, condition: Condition::Always, action: Action::Delete }
}

async fn declare(subject: &Subject, indexes: &[(&str, Kind, bool)]) -> Checked {
    let index =
        |(field, kind, unique): &(&str, Kind, bool)| Index { field: (*field).to_owned(), kind: *kind, unique: *unique };
    let indexes: Vec<_> = indexes.iter().map(index).collect();
    answered(db(subject).declare(&subject.call(), TABLE, &indexes).await, "`declare`").map(drop)
}

async fn commit(subject: &Subject, writes: &[Write]) -> Result<Vec<Option<Stamp>>, Failure> {
    answered(db(subject).commit(&subject.call(), TABLE.database, writes).await, "`commit`")
}

async fn one(subject: &Subject, write: Write) -> Result<Stamp, Failure> {
    let stamps = commit(subject, &[write]).await?;
    stamps.into_iter().next().flatten().ok_or_else(|| Failure::new("a record that was written has a stamp"))
}

async fn get(subject: &Subject, id: &str) -> Result<Option<Record>, Failure> {
    let found = answered(db(subject).get(&subject.call(), TABLE, &[id]).await, "`get`")?;
    Ok(found.into_iter().next().flatten())
}

async fn records(subject: Subject) -> Checked {
    declare(&subject, &[]).await?;
    same(&get(&subject, "1").await?, &None, "a record that never was")?;
    let first = one(&subject, put("1", Condition::Always, 1.5, "one")).await?;
    let record = get(&subject, "1").await?.ok_or_else(|| Failure::new("a record that was written is there"))?;
    same(&record.stamp, &first, "the stamp")?;
    same(&record.data, &b"one".to_vec(), "the data")?;
    same(&record.metadata.len(), &2, "fields")?;
    let second = one(&subject, put("1", Condition::Present, 2.0, "two")).await?;
    same(&second.created_ns, &first.created_ns, "when it was made")?;
    holds(second.revision > first.revision, "revisions have to grow")?;
    for what in ["a deletion", "a deletion of what is gone"] {
        same(&commit(&subject, &[delete("1")]).await?, &vec![None], what)?;
        same(&get(&subject, "1").await?, &None, what)?;
    }
    Ok(())
}

async fn any_ids(subject: Subject) -> Checked {
    declare(&subject, &[("s", Kind::Text, false)]).await?;
    let ids = ["a/b", "../x", "%", "'; DROP TABLE t; --", "\u{1f600}é", "x y", "\"", "*>", "$1"];
    let writes: Vec<_> = ids.iter().map(|id| put(id, Condition::Absent, -0.0, id)).collect();
    commit(&subject, &writes).await?;
    for id in ids {
        let found = get(&subject, id).await?;
        holds(found.is_some_and(|found| found.data == id.as_bytes()), &format!("the record {id:?} has to be there"))?;
        let filter = Filter { field: "s".to_owned(), test: Test::Equals(Value::Text(id.to_owned())) };
        let found = search(&subject, vec![filter], "", false, 10).await?;
        same(&found, &vec![id.to_owned()], &format!("records whose `s` is {id:?}"))?;
    }
    Ok(())
}

async fn conditions(subject: Subject) -> Checked {
    declare(&subject, &[]).await?;
    let at = one(&subject, put("held", Condition::Absent, 1.0, "")).await?.revision;
    for (condition, id, revision) in [
        (Condition::Absent, "held", at),
        (Condition::At(at + 1), "held", at),
        (Condition::Present, "gone", 0),
        (Condition::At(0), "gone", 0),
    ] {
        let what = format!("a write of `{id}` on {condition:?}, where `held` is at {at} and `gone` is absent,");
        let writes = [put("beside", Condition::Always, 0.0, ""), put(id, condition, 0.0, "")];
        let refusal = refused(db(&subject).commit(&subject.call(), TABLE.database, &writes).await, &what)?;
        let told = matches!(&refusal, Error::Conflict(met) if met.id == id && met.revision == revision);
        holds(told, &format!("{what} is a conflict at {revision}, not {}", shown(&refusal)))?;
    }
    same(&get(&subject, "beside").await?, &None, "a record beside writes that were refused")
}

async fn transactions(subject: Subject) -> Checked {
    declare(&subject, &[]).await?;
    let writes: Vec<_> = (0..20).map(|number| put(&number.to_string(), Condition::Absent, 0.0, "")).collect();
    let stamps = commit(&subject, &writes).await?;
    let revisions: Vec<_> = stamps.iter().flatten().map(|stamp| stamp.revision).collect();
    same(&revisions.len(), &20, "stamps")?;
    holds(
        revisions.windows(2).all(|pair| matches!(pair, [one, next] if one == next)),
        "writes made together share a revision",
    )
}

async fn unique(subject: Subject) -> Checked {
    declare(&subject, &[("s", Kind::Text, true)]).await?;
    one(&subject, put("1", Condition::Always, 0.0, "name")).await?;
    let writes = [put("2", Condition::Always, 0.0, "name")];
    let refusal = refused(db(&subject).commit(&subject.call(), TABLE.database, &writes).await, "a second `name`")?;
    holds(matches!(refusal, Error::Duplicate(_)), &format!("a second `name` is a duplicate, not {}", shown(&refusal)))?;
    one(&subject, put("1", Condition::Always, 0.0, "other")).await?;
    one(&subject, put("2", Condition::Always, 0.0, "name")).await.map(drop)
}

/// Ids of the records found, page by page.
async fn search(
    subject: &Subject, filters: Vec<Filter>, order_by: &str, descending: bool, limit: u32,
) -> Result<Vec<String>, Failure> {
    let order_by = order_by.to_owned();
    let mut query = Query { filters, order_by, descending, offset: 0, limit, after: None };
    let mut ids = Vec::new();
    loop {
        let found = answered(db(subject).find(&subject.call(), TABLE, &query).await, "`find`")?;
        ids.extend(found.records.into_iter().map(|record| record.stamp.id));
        holds(ids.len() <= 1000, "a search goes on beyond what there is")?;
        query.after = found.next;
        if query.after.is_none() {
            return Ok(ids);
        }
    }
}

async fn find(subject: Subject) -> Checked {
    declare(&subject, &[("n", Kind::Number, false), ("s", Kind::Text, false)]).await?;
    let numbers = [-1e300, -2.0, -0.5, 0.0, 0.25, 3.0, 10.0, 1e300];
    let texts = ["x", "y", "xy", "é", "", "x", "X", "xz"];
    let writes: Vec<_> = numbers
        .iter()
        .zip(texts)
        .enumerate()
        .map(|(id, (number, text))| put(&id.to_string(), Condition::Absent, *number, text))
        .collect();
    commit(&subject, &writes).await?;
    let filter = |field: &str, test| vec![Filter { field: field.to_owned(), test }];
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    for limit in [1, 3, 100] {
        let found = search(&subject, filter("n", Test::Greater(Value::Number(-1.0))), "n", false, limit).await?;
        same(&found, &ids(&["2", "3", "4", "5", "6", "7"]), "records with `n` > -1 by `n`")?;
        let found = search(&subject, filter("n", Test::AtMost(Value::Number(0.25))), "n", true, limit).await?;
        same(&found, &ids(&["4", "3", "2", "1", "0"]), "records with `n` <= 0.25 by `n`, descending")?;
        let mut found = search(&subject, filter("s", Test::Equals(Value::Text("x".into()))), "", false, limit).await?;
        found.sort_unstable();
        same(&found, &ids(&["0", "5"]), "records with `s` = `x`")?;
        let mut found = search(&subject, filter("s", Test::StartsWith("x".into())), "", false, limit).await?;
        found.sort_unstable();
        same(&found, &ids(&["0", "2", "5", "7"]), "records whose `s` starts with `x`")?;
    }
    Ok(())
}

async fn changes(subject: Subject) -> Checked {
    declare(&subject, &[]).await?;
    let first = one(&subject, put("1", Condition::Always, 1.0, "")).await?.revision;
    one(&subject, put("2", Condition::Always, 1.0, "")).await?;
    commit(&subject, &[delete("1")]).await?;
    let watch = db(&subject).watch(&subject.call(), TABLE.database, Some(TABLE.table), first - 1);
    let told = told_by(watch, 3).await?.concat();
    let ids: Vec<_> = told.iter().map(|change| (change.id.as_str(), change.now.is_some())).collect();
    same(&ids, &vec![("1", true), ("2", true), ("1", false)], "changes from the first")
}

async fn namespaces(subject: Subject) -> Checked {
    let other = subject.beside()?;
    declare(&subject, &[]).await?;
    declare(&other, &[]).await?;
    one(&subject, put("same", Condition::Absent, 1.0, "here")).await?;
    same(&get(&other, "same").await?, &None, "another namespace's record")?;
    one(&other, put("same", Condition::Absent, 1.0, "other")).await?;
    let found = get(&subject, "same").await?;
    holds(found.is_some_and(|found| found.data == b"here"), "a record after a write in another namespace")
}

async fn fences(subject: Subject) -> Checked {
    let fenced = |token| {
        let fence = Some(Arc::new(platform_capability::Fence { name: "holders/é".into(), token }));
        Arc::new(CallContext { fence, ..subject.call().as_ref().clone() })
    };
    let write = async |token: u64, write: Write| db(&subject).commit(&fenced(token), TABLE.database, &[write]).await;
    answered(write(5, put("a", Condition::Always, 5.0, "5")).await, "`commit` with token 5")?;
    answered(write(5, put("a", Condition::Always, 5.5, "5 again")).await, "`commit` with token 5 once more")?;
    for stale in [put("a", Condition::Always, 4.0, "4"), put("b", Condition::Absent, 4.0, "4"), delete("a")] {
        let refusal = refused(write(4, stale).await, "`commit` with token 4 after token 5")?;
        same(&refusal, &Error::Stale(5), "the error for a token that is behind")?;
    }
    let found = answered(db(&subject).get(&subject.call(), TABLE, &["a", "b"]).await, "`get`")?;
    let data: Vec<_> = found.into_iter().map(|record| record.map(|record| record.data)).collect();
    same(&data, &vec![Some(b"5 again".to_vec()), None], "records after writes that were refused")?;
    answered(write(u64::MAX, delete("a")).await, "`commit` with the greatest token")?;
    let refusal =
        refused(write(u64::MAX - 1, put("c", Condition::Always, 1.0, "")).await, "`commit` with the one before")?;
    same(&refusal, &Error::Stale(u64::MAX), "the error for a token that is behind")
}
