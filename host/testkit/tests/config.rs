//! Configurations with the shipped store: versions, merging, watches, and what the original of this capability got wrong.

#![expect(clippy::unwrap_used, reason = "what a test can't set up has failed")]

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use platform_capability::SlotKind;
use platform_dataplane::{
    Action, Audit, BindingSpec, CallError, ConfigError, Edit, Edited, Event, Plugin, Read, Reading, Search, Seen,
};
use platform_testkit::{Fixture, MapFacts, alone, call, call_of, component, configured, plugin};
use serde_json::{Value, json};

fn store(settings: &Value) -> BindingSpec {
    let shipped = component("plugins", "config-storage");
    let plugin = plugin(SlotKind::ConfigStore, "config-storage", &shipped, &["storage"]);
    alone(Plugin { settings: settings.to_string(), ..plugin })
}

async fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.bind("config.store", store(&json!({}))).await;
    fixture
}

type Answer<T> = Result<T, ConfigError>;

fn answer<T>(result: Result<T, CallError<ConfigError>>) -> Answer<T> {
    result.map_err(|error| match error {
        CallError::Capability(error) => error,
        other => ConfigError::Other(other.to_string()),
    })
}

fn of<'a>(action: Action, path: &'a str, value: &'a str) -> Edit<'a> {
    Edit { path, value, ..Edit::new("shop", action) }
}

async fn edit(fixture: &Fixture, edit: &Edit<'_>) -> Answer<Edited> {
    answer(fixture.plane.configurations().edit(&call_of("alice", &[]), edit).await)
}

async fn set(fixture: &Fixture, path: &str, value: &Value) -> u64 {
    let text = value.to_string();
    edit(fixture, &of(Action::Set, path, &text)).await.unwrap().version.unwrap().number
}

async fn merge(fixture: &Fixture, path: &str, value: &Value) -> u64 {
    let text = value.to_string();
    edit(fixture, &of(Action::Merge, path, &text)).await.unwrap().version.unwrap().number
}

async fn delete(fixture: &Fixture, path: &str) -> Edited {
    edit(fixture, &of(Action::Delete, path, "")).await.unwrap()
}

async fn rollback(fixture: &Fixture, to: u64) -> Answer<Edited> {
    edit(fixture, &Edit { restores: to, ..of(Action::Rollback, "", "") }).await
}

async fn get(fixture: &Fixture, path: &str, number: Option<u64>) -> Answer<Value> {
    let read = fixture.plane.configurations().get(&call(), &Read { path, number, ..Read::new("shop") }).await;
    answer(read).map(|Reading { value, .. }| value)
}

#[tokio::test]
async fn paths_set_and_merges_are_deep() {
    let fixture = fixture().await;
    assert!(matches!(get(&fixture, "", None).await, Err(ConfigError::NotFound(_))));
    assert_eq!(set(&fixture, "/limits/requests", &json!(10)).await, 1);
    assert_eq!(merge(&fixture, "", &json!({"limits": {"burst": 5}, "name": "shop"})).await, 2);
    assert_eq!(merge(&fixture, "/limits", &json!({"burst": null, "bytes": 7})).await, 3);
    assert_eq!(get(&fixture, "", None).await.unwrap(), json!({"limits": {"bytes": 7, "requests": 10}, "name": "shop"}));
    assert_eq!(get(&fixture, "/limits/requests", None).await.unwrap(), json!(10));
    assert_eq!(get(&fixture, "/limits/burst", Some(2)).await.unwrap(), json!(5));
    assert!(delete(&fixture, "/limits/bytes").await.changed);
    assert_eq!(get(&fixture, "/limits", None).await.unwrap(), json!({"requests": 10}));
    for wrong in ["limits", "/limits/requests/x/y", "/~"] {
        let refused = edit(&fixture, &of(Action::Set, wrong, "1")).await;
        assert!(matches!(refused, Err(ConfigError::Invalid(_))), "{wrong}: {refused:?}");
    }
    assert_eq!(get(&fixture, "/limits", None).await.unwrap(), json!({"requests": 10}), "a refusal changes nothing");
}

#[tokio::test]
async fn what_changes_nothing_makes_no_version() {
    let fixture = fixture().await;
    let nothing = delete(&fixture, "").await;
    assert_eq!((nothing.version, nothing.changed), (None, false));
    set(&fixture, "", &json!({"a": 1, "b": [1]})).await;
    for same in [
        of(Action::Set, "", "{ \"b\": [1], \"a\": 1 }"),
        of(Action::Set, "/a", "1"),
        of(Action::Merge, "", "{\"c\": null}"),
        of(Action::Delete, "/c", ""),
        Edit { restores: 1, ..of(Action::Rollback, "", "") },
    ] {
        let edited = edit(&fixture, &same).await.unwrap();
        assert_eq!((edited.version.unwrap().number, edited.changed), (1, false), "{same:?}");
    }
}

/// The original kept an audit log and had no way to bring anything of it back.
#[tokio::test]
async fn the_original_could_not_restore_and_this_can() {
    let fixture = fixture().await;
    set(&fixture, "", &json!({"a": 1})).await;
    set(&fixture, "/a", &json!(2)).await;
    let restored = rollback(&fixture, 1).await.unwrap().version.unwrap();
    assert_eq!((restored.number, restored.change.restores, restored.change.action), (3, 1, Action::Rollback));
    assert_eq!(get(&fixture, "", None).await.unwrap(), json!({"a": 1}));
    assert_eq!(get(&fixture, "/a", Some(2)).await.unwrap(), json!(2), "what was rolled back is still there");
    assert!(matches!(rollback(&fixture, 9).await, Err(ConfigError::NotFound(_))));
    assert!(matches!(rollback(&fixture, 0).await, Err(ConfigError::Invalid(_))));
}

/// The original published changes of values only: whoever watched a configuration never heard that it was deleted.
#[tokio::test]
async fn the_original_lost_whole_deletes_and_watchers_of_this_hear_of_them() {
    let fixture = fixture().await;
    set(&fixture, "", &json!({"a": {"b": 1}})).await;
    let mut whole = watch(&fixture, "shop", None, 1).await;
    let mut below = watch(&fixture, "shop", Some("/a/b"), 1).await;
    delete(&fixture, "").await;
    for watch in [&mut whole, &mut below] {
        let seen = next(watch).await;
        assert_eq!((seen.version.number, seen.version.has_document, seen.value), (2, false, None));
    }
    let gone = get(&fixture, "", None).await.unwrap_err().to_string();
    assert_eq!(gone, "`shop` was deleted by version 2; go back to an earlier one with `rollback`");
    rollback(&fixture, 1).await.unwrap();
    assert_eq!(next(&mut below).await.value, Some(json!(1)));
    assert_eq!(get(&fixture, "", None).await.unwrap(), json!({"a": {"b": 1}}));
}

type Watching = Pin<Box<dyn Stream<Item = Result<Event<Seen>, CallError<ConfigError>>> + Send>>;

async fn watch(fixture: &Fixture, selector: &str, path: Option<&str>, after: u64) -> Watching {
    Box::pin(fixture.plane.configurations().watch(&call(), selector, path, "", after).unwrap())
}

/// The next change, marks of progress left out.
async fn next(watching: &mut Watching) -> Seen {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(30), watching.next()).await;
        match event.expect("nothing came").expect("it ended").unwrap() {
            Event::Changes(mut seen) => {
                assert_eq!(seen.len(), 1, "read one by one");
                return seen.remove(0);
            }
            Event::Progress(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_a_path_fires_when_its_value_really_changed() {
    let fixture = fixture().await;
    set(&fixture, "", &json!({"a": {"b": 1}, "list": [1, 2]})).await;
    let mut path = watch(&fixture, "shop", Some("/a/b"), 1).await;
    let mut item = watch(&fixture, "shop", Some("/list/1"), 1).await;
    // None of these changes the value, though each touches what is above or beside it.
    set(&fixture, "/a/c", &json!(1)).await;
    set(&fixture, "", &json!({"a": {"b": 1, "d": 2}, "list": [0, 2]})).await;
    set(&fixture, "/list", &json!([7, 2, 3])).await;
    // These do: by its parent, by a shift, by the whole.
    let changed = set(&fixture, "/a", &json!({"b": 2})).await;
    let seen = next(&mut path).await;
    assert_eq!((seen.version.number, seen.value), (changed, Some(json!(2))));
    let shifted = set(&fixture, "/list", &json!([2, 3])).await;
    let seen = next(&mut item).await;
    assert_eq!((seen.version.number, seen.value), (shifted, Some(json!(3))));
    let gone = set(&fixture, "/a", &json!("text")).await;
    let seen = next(&mut path).await;
    assert_eq!((seen.version.number, seen.value), (gone, None));
    set(&fixture, "/a", &json!("other text")).await;
    let back = set(&fixture, "/a", &json!({"b": null})).await;
    let seen = next(&mut path).await;
    assert_eq!((seen.version.number, seen.value), (back, Some(Value::Null)));
}

/// What thousands hear of is read from the store once.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_read_once_for_all_who_watch() {
    let fixture = fixture().await;
    set(&fixture, "/a", &json!(1)).await;
    let mut watching = Vec::new();
    for _ in 0..500 {
        watching.push(watch(&fixture, "shop", Some("/a"), 1).await);
    }
    let before = fixture.counts("config.store").calls;
    set(&fixture, "/a", &json!(2)).await;
    for watching in &mut watching {
        assert_eq!(next(watching).await.value, Some(json!(2)));
    }
    let calls = fixture.counts("config.store").calls - before;
    // Each asks where the store is when it begins, and for changes that it was too late to be told; none reads the version
    // that someone else has read.
    assert!(calls < 2 * 500 + 50, "{calls} calls");
}

/// Every watch against what its values say, over changes of many kinds; a resumed watch sees the same.
#[tokio::test(flavor = "multi_thread")]
async fn watches_of_paths_agree_with_the_values() {
    let fixture = fixture().await;
    let values = [json!(1), json!(2), json!({"b": 1}), json!({"b": {"c": 1}}), json!([1, {"c": 2}]), json!([1])];
    let mut random = 7_u64;
    let mut pick = |most: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(random >> 33).unwrap() % most
    };
    for _ in 0..120 {
        let path = ["", "/a", "/a/b", "/x"][pick(4)];
        match pick(6) {
            0 => drop(delete(&fixture, path).await),
            1 => drop(merge(&fixture, "", &json!({"a": values[pick(6)].clone()})).await),
            _ => {
                let text = if path.is_empty() { json!({"a": values[pick(6)]}) } else { values[pick(6)].clone() };
                let text = text.to_string();
                // A scalar may be in the way, which is an error and no change.
                drop(edit(&fixture, &of(Action::Set, path, &text)).await);
            }
        }
    }
    let end = set(&fixture, "", &json!({"a": {"b": {"c": "end"}}, "x": "end"})).await;
    for path in ["", "/a", "/a/b", "/a/b/c", "/a/0", "/a/1/c", "/x", "/nothing"] {
        let mut expected = Vec::new();
        let mut before = None;
        for number in 1..=end {
            let value = get(&fixture, path, Some(number)).await.ok();
            if value != before {
                expected.push(number);
            }
            before = value;
        }
        let resume = end / 2;
        for after in [0, resume] {
            let mut watching = watch(&fixture, "shop", Some(path), after).await;
            let mut seen = Vec::new();
            let mut reached = 0;
            while reached < end {
                match watching.next().await.unwrap().unwrap() {
                    Event::Changes(changes) => {
                        reached = changes.last().unwrap().version.revision;
                        seen.extend(changes.iter().map(|seen| seen.version.number));
                    }
                    Event::Progress(revision) => reached = revision,
                }
            }
            let expected: Vec<u64> = expected.iter().copied().filter(|number| *number > after).collect();
            assert_eq!(seen, expected, "`{path}` after {after}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_once_all_land() {
    let fixture = Arc::new(fixture().await);
    let changes = (0..24).map(|number| {
        let fixture = Arc::clone(&fixture);
        async move { merge(&fixture, "", &json!({"from": {number.to_string(): number}})).await }
    });
    let mut numbers = futures::future::join_all(changes).await;
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=24).collect::<Vec<_>>());
    assert_eq!(get(&fixture, "/from", None).await.unwrap().as_object().unwrap().len(), 24);
}

#[tokio::test]
async fn a_version_that_was_named_has_to_be_the_current_one() {
    let fixture = fixture().await;
    let first = Edit { if_version: Some(0), ..of(Action::Set, "/a", "1") };
    assert!(edit(&fixture, &first).await.unwrap().changed);
    assert_eq!(edit(&fixture, &first).await, Err(ConfigError::Conflict(1)));
    let second = Edit { if_version: Some(1), ..of(Action::Merge, "", "{\"a\":2}") };
    assert!(edit(&fixture, &second).await.unwrap().changed);
    for action in [Action::Delete, Action::Set, Action::Merge] {
        assert_eq!(edit(&fixture, &Edit { action, ..second }).await, Err(ConfigError::Conflict(2)));
    }
    let from_the_future = Edit { if_version: Some(u64::MAX), ..of(Action::Delete, "", "") };
    assert_eq!(edit(&fixture, &from_the_future).await, Err(ConfigError::Conflict(2)));
}

#[tokio::test]
async fn a_version_says_who_what_and_when() {
    let fixture = fixture().await;
    set(&fixture, "", &json!({"a": 1})).await;
    let told = Edit { comment: "more\nroom", ..of(Action::Set, "/a", "2") };
    let version = edit(&fixture, &told).await.unwrap().version.unwrap();
    let change = &version.change;
    assert_eq!(
        (change.author.as_deref(), change.comment.as_str(), change.path.as_str()),
        (Some("alice"), "more\nroom", "/a")
    );
    assert_eq!(change.touched, ["/a"]);
    assert_eq!(change.difference.as_deref(), Some(r#"[{"op":"replace","path":"/a","value":2}]"#));
    assert_eq!(change.checksum.len(), 64);
    assert!(change.time_ms > 1_600_000_000_000);
    let configurations = fixture.plane.configurations();
    let (history, more) = configurations.history(&call(), "shop", (0, u64::MAX), 1, true).await.unwrap();
    assert_eq!((&history, more), (&vec![version], true));
    let all = Audit { from_ms: 0, to_ms: u64::MAX, after: None, limit: 10, reverse: false };
    let (audit, more) = configurations.audit(&call(), &all).await.unwrap();
    assert_eq!((audit.len(), audit[1].1.clone(), more), (2, history[0].clone(), false));
    let steps = configurations.difference(&call(), "shop", 2, Some(1)).await.unwrap();
    assert_eq!(steps.json(), r#"[{"op":"replace","path":"/a","value":1}]"#);
}

#[tokio::test]
async fn searches_find_by_prefix_and_author() {
    let fixture = fixture().await;
    let configurations = fixture.plane.configurations();
    for (id, author) in [("shop.a", "alice"), ("shop.b", "bob"), ("shop.c", "alice"), ("other", "alice")] {
        let edit = Edit { id, ..of(Action::Set, "", "1") };
        configurations.edit(&call_of(author, &[]), &edit).await.unwrap();
    }
    configurations.edit(&call_of("bob", &[]), &Edit { id: "shop.c", ..of(Action::Delete, "", "") }).await.unwrap();
    let ids = async |search: Search<'_>| {
        let (found, after) = configurations.search(&call(), &search).await.unwrap();
        (found.into_iter().map(|version| version.id).collect::<Vec<_>>(), after)
    };
    let all = Search { prefix: "shop.", limit: 10, ..Search::default() };
    assert_eq!(ids(all).await.0, ["shop.a", "shop.b"]);
    assert_eq!(ids(Search { deleted: true, ..all }).await.0, ["shop.a", "shop.b", "shop.c"]);
    assert_eq!(ids(Search { author: "bob", ..all }).await.0, ["shop.b"]);
    let (page, after) = ids(Search { limit: 1, ..all }).await;
    assert_eq!((page, after.as_deref()), (vec!["shop.a".to_owned()], Some("shop.a")));
    assert_eq!(ids(Search { limit: 1, after: after.as_deref(), ..all }).await.0, ["shop.b"]);
}

#[tokio::test]
async fn bad_input_is_a_typed_error_and_changes_nothing() {
    let fixture = fixture().await;
    set(&fixture, "", &json!({"a": 1})).await;
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    let nested = (0..60).fold(json!(1), |inner, _| json!([inner])).to_string();
    let way = "/a".repeat(40);
    let comment = "c".repeat(1025);
    for (bad, large) in [
        (of(Action::Set, "", &deep), true),
        (of(Action::Merge, "/a", &deep), true),
        (of(Action::Set, "/b", &large), true),
        (of(Action::Set, &way[2..], &nested), false),
        (of(Action::Set, "", ""), false),
        (of(Action::Set, "", "{\"a\":1,\"a\":2}"), false),
        (of(Action::Set, "", "123456789012345678901234567890"), false),
        (Edit { comment: &comment, ..of(Action::Set, "", "1") }, true),
        (Edit { comment: "a\u{1b}[2J", ..of(Action::Set, "", "1") }, false),
        (Edit { id: "", ..of(Action::Set, "", "1") }, false),
        (Edit { id: "../x", ..of(Action::Set, "", "1") }, false),
        (Edit { id: "a*", ..of(Action::Set, "", "1") }, false),
    ] {
        let error = edit(&fixture, &bad).await.unwrap_err();
        let expected =
            if large { matches!(error, ConfigError::TooLarge(_)) } else { matches!(error, ConfigError::Invalid(_)) };
        assert!(expected, "{error}");
    }
    // Each half is allowed, together they are too deep.
    set(&fixture, "", &json!({})).await;
    let too_deep = edit(&fixture, &of(Action::Set, &way, &nested)).await;
    assert!(matches!(too_deep, Err(ConfigError::TooLarge(_))), "{too_deep:?}");
    assert_eq!(get(&fixture, "", None).await.unwrap(), json!({}));
    assert!(matches!(fixture.plane.configurations().watch(&call(), "a/b", None, "", 0), Err(CallError::Capability(_))));
}

#[tokio::test]
async fn versions_that_are_no_longer_kept_say_so() {
    let fixture = Fixture::new();
    fixture.bind("config.store", store(&json!({"versions_kept": 2}))).await;
    for number in 1..=5 {
        set(&fixture, "/a", &json!(number)).await;
    }
    assert_eq!(get(&fixture, "", Some(3)).await, Err(ConfigError::Compacted(4)));
    assert_eq!(rollback(&fixture, 3).await, Err(ConfigError::Compacted(4)));
    assert_eq!(get(&fixture, "/a", Some(4)).await.unwrap(), json!(4));
    let (kept, _) = fixture.plane.configurations().history(&call(), "shop", (0, u64::MAX), 10, false).await.unwrap();
    assert_eq!(kept.iter().map(|version| version.number).collect::<Vec<_>>(), [4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_across_a_swap() {
    let fixture = fixture().await;
    let mut watching = watch(&fixture, "sh*", None, 0).await;
    set(&fixture, "/a", &json!(1)).await;
    assert_eq!(next(&mut watching).await.version.number, 1);
    fixture.bind("config.store", store(&json!({"versions_kept": 10}))).await;
    set(&fixture, "/a", &json!(2)).await;
    let seen = next(&mut watching).await;
    assert_eq!((seen.version.number, seen.value), (2, Some(json!({"a": 2}))));
}

/// A policy with the grant reads what is current at each decision.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_reads_values_and_sees_them_change() {
    let fixture = fixture().await;
    fixture.bind("auth.policy", alone(configured())).await;
    let reason = async |path: &str| {
        fixture.plane.auth().check(&call(), None, "GET", path, Arc::new(MapFacts::default())).await.reason
    };
    assert_eq!(reason("/allowed").await, "absent", "there is no such configuration");
    let put = async |value: &Value| {
        let text = value.to_string();
        let edit = Edit { path: "", value: &text, ..Edit::new("policy", Action::Set) };
        answer(fixture.plane.configurations().edit(&call(), &edit).await).unwrap();
    };
    put(&json!({"allowed": ["GET"], "number": 1})).await;
    assert_eq!(reason("/allowed").await, "configured");
    assert_eq!(reason("/missing").await, "absent");
    assert_eq!(reason("").await.split(':').next(), Some("Error"), "an object is no list");
    assert!(reason("/number").await.contains("`policy` at `/number`"));
    assert!(reason("no pointer").await.starts_with("Error::Invalid"));
    put(&json!({"allowed": []})).await;
    assert_eq!(reason("/allowed").await, "not configured");
}
