//! What the store promises, against the native stand-in for storage.

use std::time::Duration;

use platform_sdk::{config::Action, context, native};

use super::*;

fn store(versions_kept: u64) -> Durable {
    Durable::configure(Settings { versions_kept }).unwrap()
}

fn change(comment: &str) -> Change {
    Change {
        action: Action::Set,
        path: String::new(),
        author: Some("alice".into()),
        comment: comment.into(),
        time_ms: context::time_ms(),
        touched: vec![String::new()],
        difference: Some("[]".into()),
        restores: 0,
        checksum: "c".into(),
    }
}

fn commit(store: &mut Durable, id: &str, expected: u64, document: Option<&str>) -> Result<Version> {
    let content = Content { document: document.map(Into::into), schema: None, candidate: None };
    store.commit(id, expected, change(&format!("{id} {}", expected + 1)), content)
}

fn numbers(versions: &[Version]) -> Vec<u64> {
    versions.iter().map(|version| version.number).collect()
}

#[test]
fn versions_count_and_are_compared() {
    let mut store = store(1000);
    assert_eq!(store.get("a", None), Ok(None));
    assert_eq!(commit(&mut store, "a", 1, Some("1")), Err(Error::Conflict(0)));
    let first = commit(&mut store, "a", 0, Some("1")).unwrap();
    assert_eq!((first.number, first.revision, first.has_document), (1, 1, true));
    assert_eq!(commit(&mut store, "a", 0, Some("2")), Err(Error::Conflict(1)));
    commit(&mut store, "a", 1, Some("2")).unwrap();
    let (version, content) = store.get("a", None).unwrap().unwrap();
    assert_eq!((version.number, version.revision, content.document.as_deref()), (2, 2, Some("2")));
    assert_eq!(version.change.difference, None);
    let (version, content) = store.get("a", Some(1)).unwrap().unwrap();
    assert_eq!((version.number, version.revision, content.document.as_deref()), (1, 1, Some("1")));
    for nothing in [0, 3] {
        assert_eq!(store.get("a", Some(nothing)), Ok(None));
    }
}

#[test]
fn a_deletion_is_a_version_and_keeps_the_history() {
    let mut store = store(1000);
    commit(&mut store, "a", 0, Some("1")).unwrap();
    commit(&mut store, "a", 1, None).unwrap();
    let (version, content) = store.get("a", None).unwrap().unwrap();
    assert_eq!((version.number, version.has_document, content.document), (2, false, None));
    assert_eq!(store.get("a", Some(1)).unwrap().unwrap().1.document.as_deref(), Some("1"));
    assert_eq!(numbers(&store.changes("a", 1, 10, 0).unwrap()), [2], "watchers hear of it");
}

#[test]
fn old_versions_are_compacted_with_their_places() {
    let mut store = store(3);
    for number in 0..5 {
        native::advance(Duration::from_millis(1));
        commit(&mut store, "a", number, Some("1")).unwrap();
    }
    assert_eq!(store.get("a", Some(2)), Err(Error::Compacted(3)));
    assert!(store.get("a", Some(3)).unwrap().is_some());
    assert_eq!(numbers(&store.history("a", 0, u64::MAX, 10, false).unwrap()), [3, 4, 5]);
    for reverse in [false, true] {
        assert_eq!(store.audit(0, u64::MAX, None, 10, reverse).unwrap().len(), 3);
    }
    assert_eq!(TABLE.scan("", None, 1000).unwrap().len(), 1 + 3 * 4, "nothing of them is left");
    assert_eq!(numbers(&store.changes("*", 4, 10, 0).unwrap()), [5], "compaction is no change");

    let mut fewer = self::store(1);
    commit(&mut fewer, "a", 5, Some("1")).unwrap();
    assert_eq!(numbers(&fewer.history("a", 0, u64::MAX, 10, false).unwrap()), [6]);
    assert!(fewer.get("a", None).unwrap().is_some());
}

#[test]
fn histories_run_both_ways_within_bounds() {
    let mut store = store(1000);
    for number in 0..9 {
        commit(&mut store, "a", number, Some("1")).unwrap();
        commit(&mut store, "a-b", number, Some("1")).unwrap();
    }
    let mut history = |from, to, limit, reverse| numbers(&store.history("a", from, to, limit, reverse).unwrap());
    assert_eq!(history(1, 9, 3, false), [1, 2, 3]);
    assert_eq!(history(4, 6, 9, false), [4, 5, 6]);
    assert_eq!(history(0, u64::MAX, 3, true), [9, 8, 7]);
    assert_eq!(history(2, 6, 3, true), [6, 5, 4]);
    assert_eq!(history(7, 6, 3, false), Vec::<u64>::new());
    assert_eq!(history(10, 20, 3, true), Vec::<u64>::new());
    let with_difference = store.history("a", 1, 1, 1, false).unwrap();
    assert_eq!(with_difference[0].change.difference.as_deref(), Some("[]"));
    assert!(matches!(store.history("a", 0, 1, 0, false), Err(Error::Invalid(_))));
}

#[test]
fn an_audit_goes_by_time_page_by_page() {
    let mut store = store(1000);
    let start = context::time_ms();
    for number in 0..3 {
        commit(&mut store, "a", number, Some("1")).unwrap();
        commit(&mut store, "b", number, Some("1")).unwrap();
        native::advance(Duration::from_millis(10));
    }
    let mut all = |from: u64, to: u64, reverse| {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = store.audit(start + from, start + to, after.as_deref(), 2, reverse).unwrap();
            let short = page.len() < 2;
            after = page.last().map(|(position, _)| position.clone()).or(after);
            found.extend(page.into_iter().map(|(_, version)| version.change.comment));
            if short {
                return found;
            }
        }
    };
    assert_eq!(all(0, 100, false), ["a 1", "b 1", "a 2", "b 2", "a 3", "b 3"]);
    assert_eq!(all(10, 10, false), ["a 2", "b 2"]);
    assert_eq!(all(10, 100, true), ["a 3", "b 3", "a 2", "b 2"]);
    for forged in ["", "x", "head!a", "zz!a!1"] {
        assert!(matches!(store.audit(0, 1, Some(forged), 2, false), Err(Error::Invalid(_))), "{forged}");
    }
}

#[test]
fn searches_find_by_prefix_in_order() {
    let mut store = store(1000);
    for id in ["shop.b", "shop.a", "other"] {
        commit(&mut store, id, 0, Some("1")).unwrap();
    }
    commit(&mut store, "shop.a", 1, Some("2")).unwrap();
    let mut search = |prefix, after, limit| -> Vec<(String, u64)> {
        let found = store.search(prefix, after, limit).unwrap();
        found.into_iter().map(|version| (version.id, version.number)).collect()
    };
    assert_eq!(search("shop.", None, 10), [("shop.a".into(), 2), ("shop.b".into(), 1)]);
    assert_eq!(search("", Some("other"), 1), [("shop.a".into(), 2)]);
    assert_eq!(search("x", None, 1), []);
}

#[test]
fn changes_are_selected_and_light() {
    let mut store = store(1000);
    for id in ["a", "a-b", "b"] {
        commit(&mut store, id, 0, Some("1")).unwrap();
    }
    let mut changes = |selector| -> Vec<String> {
        let found = store.changes(selector, 0, 10, 0).unwrap();
        assert!(found.iter().all(|version| version.change.difference.is_none()));
        found.into_iter().map(|version| version.id).collect()
    };
    assert_eq!(changes("a"), ["a"]);
    assert_eq!(changes("a*"), ["a", "a-b"]);
    assert_eq!(changes("*"), ["a", "a-b", "b"]);
}

#[test]
fn refuses_what_is_beyond_the_limits() {
    let mut store = store(1000);
    for id in ["", "a b", "a/b", "a!b", "ü", &"a".repeat(129)] {
        assert!(matches!(store.get(id, None), Err(Error::Invalid(_))), "{id:?}");
        assert!(matches!(commit(&mut store, id, 0, Some("1")), Err(Error::Invalid(_))), "{id:?}");
    }
    let large = "1".repeat((1 << 20) + 1);
    assert!(matches!(commit(&mut store, "a", 0, Some(&large)), Err(Error::TooLarge(_))));
    assert!(Durable::configure(Settings { versions_kept: 0 }).is_err());
}

#[test]
fn namespaces_are_apart() {
    let mut store = store(1000);
    commit(&mut store, "a", 0, Some("1")).unwrap();
    native::set_namespace("other");
    assert_eq!(store.get("a", None), Ok(None));
    assert_eq!(store.search("", None, 10), Ok(Vec::new()));
    assert_eq!(store.revision(), Ok(0));
}
