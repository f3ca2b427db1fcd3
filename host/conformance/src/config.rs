//! What every provider of `config.store` and every component for `config.validator` and `config.source` promises.
//!
//! Validators are asked about changes of configurations in the store that is bound beside them, and what sources have is put there.

use std::collections::BTreeMap;

use platform_capability::config::Version;
use platform_dataplane::{Action, Audit, CallError, ConfigError, Edit, Edited, Read, Search};
use serde_json::{Value, json};

use crate::{
    Check, Checked, Failure, Subject, checks,
    outcome::{answered, holds, refused, same, shown, told_by},
};

pub(crate) const STORE: &[Check] = checks! {
    "versions" "versions count from 1, each holds what was written, a deletion is one too" versions,
    "conflicts" "a change of a version that is no longer the current one is refused and changes nothing" conflicts,
    "concurrent" "changes that come at the same time are all made, one after the other" concurrent,
    "large" "a document of 1 MiB comes back whole" large,
    "search" "configurations are found by prefix, once each, in byte order of ids, page by page" search,
    "audit" "versions of all configurations are told by time, page by page, in both directions" audit,
    "changes" "every version is told once, in order, from the revision asked for" changes,
    "namespaces" "what one namespace holds is not seen from another" namespaces,
};

pub(crate) const VALIDATOR: &[Check] = checks! {
    "answers" "every change is accepted or refused with a reason, whatever the documents hold" answers,
    "repeatable" "the same change gets the same answer" repeatable,
};

pub(crate) const SOURCE: &[Check] = checks! {
    "loads" "everything that it has can be a configuration" loads,
    "steady" "what did not change is said again as it was said" steady,
};

type Edits = Result<Edited, CallError<ConfigError>>;

async fn edit(subject: &Subject, edit: Edit<'_>) -> Edits {
    subject.plane().configurations().edit(&subject.call_of("alice", &[]), &edit).await
}

async fn set(subject: &Subject, id: &str, value: &Value) -> Result<Version, Failure> {
    let text = value.to_string();
    let edited = edit(subject, Edit { value: &text, ..Edit::new(id, Action::Set) }).await;
    made(answered(edited, &format!("a change of `{id}`"))?)
}

fn made(edited: Edited) -> Result<Version, Failure> {
    edited.version.ok_or_else(|| Failure::new("a change that was made has a version"))
}

async fn get(subject: &Subject, id: &str, number: Option<u64>) -> Result<Value, Failure> {
    let read = Read { number, ..Read::new(id) };
    let what = format!("`get` of `{id}`");
    Ok(answered(subject.plane().configurations().get(&subject.call(), &read).await, &what)?.value)
}

async fn versions(subject: Subject) -> Checked {
    let configurations = subject.plane().configurations();
    let absent = refused(configurations.get(&subject.call(), &Read::new("shop")).await, "`get` of what never was")?;
    holds(matches!(absent, ConfigError::NotFound(_)), &format!("it is absent, not {}", shown(&absent)))?;
    let mut revision = 0;
    for number in 1..=5 {
        let version = set(&subject, "shop", &json!({"number": number, "text": "\u{1f600}\u{0}"})).await?;
        same(&version.number, &number, "the number of the version")?;
        let words = format!("revisions have to grow: {revision}, then {}", version.revision);
        holds(version.revision > revision, &words)?;
        revision = version.revision;
    }
    for number in 1..=5 {
        let expected = json!({"number": number, "text": "\u{1f600}\u{0}"});
        same(&get(&subject, "shop", Some(number)).await?, &expected, &format!("version {number}"))?;
    }
    made(answered(edit(&subject, Edit::new("shop", Action::Delete)).await, "a deletion")?)?;
    let history = configurations.history(&subject.call(), "shop", (2, 6), 1000, true).await;
    let (history, _) = answered(history, "`history`")?;
    let numbers: Vec<_> = history.iter().map(|version| (version.number, version.has_document)).collect();
    let expected = vec![(6, false), (5, true), (4, true), (3, true), (2, true)];
    same(&numbers, &expected, "versions 2 to 6, newest first, and whether they hold a document")?;
    let author = history.first().and_then(|version| version.change.author.clone());
    same(&author.as_deref(), &Some("alice"), "the author that the host told")?;
    same(&set(&subject, "shop", &json!({})).await?.number, &7, "the version after a deletion")?;
    let told = answered(configurations.revision(&subject.call()).await, "`revision`")?;
    holds(told > revision, "the revision of the namespace has to grow with each write")
}

async fn conflicts(subject: Subject) -> Checked {
    set(&subject, "shop", &json!(1)).await?;
    set(&subject, "shop", &json!(2)).await?;
    for (if_version, at) in [(0, 2), (1, 2), (3, 2), (u64::MAX, 2)] {
        let change = Edit { value: "3", if_version: Some(if_version), ..Edit::new("shop", Action::Set) };
        let what = format!("a change of version {if_version}, where 2 is the current one,");
        same(&refused(edit(&subject, change).await, &what)?, &ConfigError::Conflict(at), &what)?;
    }
    same(&get(&subject, "shop", None).await?, &json!(2), "the document after changes that were refused")?;
    let new = Edit { value: "1", if_version: Some(0), ..Edit::new("new", Action::Set) };
    same(&made(answered(edit(&subject, new).await, "the first version")?)?.number, &1, "its number")
}

async fn concurrent(subject: Subject) -> Checked {
    const EACH: u64 = 5;
    const TASKS: u64 = 6;
    let tasks = (0..TASKS).map(|task| {
        let subject = &subject;
        async move {
            for number in 0..EACH {
                let (path, text) = (format!("/{task}/{number}"), number.to_string());
                loop {
                    let change = Edit { path: &path, value: &text, ..Edit::new("busy", Action::Set) };
                    match edit(subject, change).await {
                        Err(CallError::Capability(ConfigError::Contended(_))) => {}
                        done => {
                            answered(done, "a change")?;
                            break;
                        }
                    };
                }
            }
            Ok(())
        }
    });
    futures::future::try_join_all(tasks).await?;
    let document = get(&subject, "busy", None).await?;
    let values: usize =
        document.as_object().into_iter().flatten().map(|(_, of)| of.as_object().map_or(0, |of| of.len())).sum();
    same(&(values as u64), &(TASKS * EACH), "changes that came at the same time and are there")?;
    let history = subject.plane().configurations().history(&subject.call(), "busy", (1, u64::MAX), 1000, false).await;
    let (history, _) = answered(history, "`history`")?;
    let numbers: Vec<_> = history.iter().map(|version| version.number).collect();
    same(&numbers, &(1..=TASKS * EACH).collect(), "their versions")
}

async fn large(subject: Subject) -> Checked {
    let document = json!({"text": "x".repeat((1 << 20) - 64)});
    set(&subject, "large", &document).await?;
    holds(get(&subject, "large", None).await? == document, "1 MiB has to come back as it was written")
}

async fn search(subject: Subject) -> Checked {
    let mut ids: Vec<String> = (0..25).map(|number| format!("svc.{number}")).collect();
    ids.extend(["svc.-", "svc._"].map(str::to_owned));
    for id in ids.iter().map(String::as_str).chain(["svc", "other", "zoo"]) {
        set(&subject, id, &json!(id)).await?;
    }
    ids.sort_unstable();
    let mut found: Vec<String> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let search = Search { prefix: "svc.", after: after.as_deref(), limit: 4, ..Search::default() };
        let page = subject.plane().configurations().search(&subject.call(), &search).await;
        let (page, next) = answered(page, "`search`")?;
        found.extend(page.into_iter().map(|version| version.id));
        holds(found.len() <= ids.len(), "a search goes on beyond what there is")?;
        after = next;
        if after.is_none() {
            return same(&found, &ids, "configurations that a search of `svc.` finds");
        }
    }
}

async fn audit(subject: Subject) -> Checked {
    let mut expected = Vec::new();
    for number in 1..=4 {
        for id in ["a", "b"] {
            set(&subject, id, &json!(number)).await?;
            expected.push((id.to_owned(), number));
        }
    }
    expected.sort_unstable();
    let pages = async |reverse: bool| {
        let mut found: Vec<Version> = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let audit = Audit { from_ms: 0, to_ms: u64::MAX, after: after.as_deref(), limit: 3, reverse };
            let page = subject.plane().configurations().audit(&subject.call(), &audit).await;
            let (page, more) = answered(page, "`audit`")?;
            for (position, version) in page {
                found.push(version);
                after = Some(position);
            }
            holds(found.len() <= expected.len(), "an audit goes on beyond what was done")?;
            if !more {
                return Ok::<_, Failure>(found);
            }
        }
    };
    for reverse in [false, true] {
        let found = pages(reverse).await?;
        let by_time = found.is_sorted_by(|one, next| {
            let (one, next) = (one.change.time_ms, next.change.time_ms);
            if reverse { one >= next } else { one <= next }
        });
        let order = if reverse { "newest first" } else { "oldest first" };
        holds(by_time, &format!("versions have to come {order}"))?;
        let mut versions: Vec<_> = found.into_iter().map(|version| (version.id, version.number)).collect();
        versions.sort_unstable();
        same(&versions, &expected, &format!("versions that an audit tells, {order}"))?;
    }
    Ok(())
}

async fn changes(subject: Subject) -> Checked {
    let first = set(&subject, "seen", &json!(1)).await?;
    set(&subject, "other", &json!(1)).await?;
    set(&subject, "seen", &json!(2)).await?;
    made(answered(edit(&subject, Edit::new("seen", Action::Delete)).await, "a deletion")?)?;
    let watch = subject.plane().configurations().watch(&subject.call(), "seen", None, "", first.revision - 1);
    let told: Vec<_> = told_by(watch, 3).await?.into_iter().flatten().map(|seen| seen.version).collect();
    let numbers: Vec<_> =
        told.iter().map(|version| (version.id.as_str(), version.number, version.has_document)).collect();
    same(&numbers, &vec![("seen", 1, true), ("seen", 2, true), ("seen", 3, false)], "versions that a watch tells")?;
    let grow = told.is_sorted_by(|one, next| one.revision < next.revision);
    holds(
        grow && told.first().map(|version| version.revision) == Some(first.revision),
        "revisions as they were written",
    )
}

async fn namespaces(subject: Subject) -> Checked {
    let other = subject.beside()?;
    set(&subject, "shop", &json!("here")).await?;
    let absent = refused(other.plane().configurations().get(&other.call(), &Read::new("shop")).await, "`get`")?;
    holds(
        matches!(absent, ConfigError::NotFound(_)),
        &format!("another namespace's is absent, not {}", shown(&absent)),
    )?;
    same(&set(&other, "shop", &json!("other")).await?.number, &1, "the first version in another namespace")?;
    same(&get(&subject, "shop", None).await?, &json!("here"), "the document after a change in another namespace")
}

/// Documents that a validator may be asked about.
fn documents() -> Vec<Value> {
    let mut deep = json!(1);
    for _ in 0..60 {
        deep = json!([deep]);
    }
    let wide: serde_json::Map<String, Value> = (0..2000).map(|number| (number.to_string(), json!(number))).collect();
    vec![
        json!(null),
        json!({}),
        json!([]),
        json!("text"),
        json!(1e300),
        json!(-0.0),
        json!(true),
        json!({"": {"": ""}, "~": {"/": 1}, "\u{0}": "\u{1f600}"}),
        json!({"limits": {"requests": -1}, "name": ["shop"]}),
        deep,
        Value::Object(wide),
        json!("x".repeat(500_000)),
    ]
}

/// Whether a change was accepted; the reason when not.
fn judged(answer: Edits, what: &str) -> Result<Option<String>, Failure> {
    match answer {
        Ok(_) => Ok(None),
        Err(CallError::Capability(ConfigError::Refused { reason, .. })) if reason.is_empty() => {
            Err(Failure::new(format!("{what} was refused without a reason")))
        }
        Err(CallError::Capability(ConfigError::Refused { reason, .. })) => Ok(Some(reason)),
        Err(error) => Err(Failure::new(format!("{what} was not judged: {error}"))),
    }
}

async fn answers(subject: Subject) -> Checked {
    for (number, document) in documents().into_iter().enumerate() {
        let text = document.to_string();
        let id = format!("shop-{number}");
        let what = format!("setting a document to {}", shown(&text));
        judged(edit(&subject, Edit { value: &text, ..Edit::new(&id, Action::Set) }).await, &what)?;
        let part = Edit { path: "/part", value: &text, ..Edit::new("parts", Action::Set) };
        judged(edit(&subject, part).await, &what)?;
        judged(edit(&subject, Edit::new(&id, Action::Delete)).await, "a deletion")?;
    }
    Ok(())
}

async fn sourced(subject: &Subject) -> Result<BTreeMap<String, Value>, Failure> {
    let said = subject.plane().configurations().sourced(&subject.call()).await;
    said.map_err(|why| Failure::new(format!("`load` failed: {why}")))
}

async fn loads(subject: Subject) -> Checked {
    for (id, document) in sourced(&subject).await? {
        set(&subject, &id, &document).await?;
        same(&get(&subject, &id, None).await?, &document, "the configuration that was loaded")?;
    }
    Ok(())
}

async fn steady(subject: Subject) -> Checked {
    let first = sourced(&subject).await?;
    for _ in 0..3 {
        same(&sourced(&subject).await?, &first, "what is loaded once more")?;
    }
    Ok(())
}

async fn repeatable(subject: Subject) -> Checked {
    for (number, document) in documents().into_iter().enumerate() {
        let text = document.to_string();
        let what = format!("setting a document to {}", shown(&text));
        let mut answers = Vec::new();
        for namespace in [subject.clone(), subject.beside()?] {
            let id = format!("again-{number}");
            let change = Edit { value: &text, ..Edit::new(&id, Action::Set) };
            answers.push(judged(edit(&namespace, change).await, &what)?);
        }
        if let [first, second] = &answers[..] {
            same(second, first, &what)?;
        }
    }
    Ok(())
}
