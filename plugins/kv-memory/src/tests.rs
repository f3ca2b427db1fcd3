//! The store as its callers see it, and its state across a handover.

use std::time::Duration;

use platform_sdk::{
    kv::{Action, Conflict, Content, Error},
    native, settings,
};
use proptest::prelude::*;

use super::*;

fn memory(json: &str) -> Memory {
    Memory::configure(settings::parse(json).unwrap()).unwrap()
}

fn put(memory: &mut Memory, key: &str, value: &str, expiry: Expiry) -> Result<u64> {
    memory.put(key, value.into(), Condition::Always, expiry)
}

fn conflict(key: &str, revision: u64) -> Error {
    Error::Conflict(Conflict { key: key.to_owned(), revision })
}

fn write(key: &str, condition: Condition, action: Action) -> Write {
    Write { key: key.to_owned(), condition, action }
}

fn content(value: &str) -> Action {
    Action::Put(Content { value: value.into(), expiry: Expiry::Keep })
}

fn value(memory: &mut Memory, key: &str) -> Option<String> {
    memory.get(key).unwrap().map(|entry| String::from_utf8(entry.value).unwrap())
}

#[test]
fn writes_under_conditions() {
    let mut memory = memory("{}");
    assert_eq!(memory.put("a", vec![1], Condition::Present, Expiry::Never), Err(conflict("a", 0)));
    assert_eq!(memory.put("a", vec![1], Condition::Absent, Expiry::Never), Ok(1));
    assert_eq!(memory.put("a", vec![2], Condition::At(7), Expiry::Never), Err(conflict("a", 1)));
    assert_eq!(memory.put("a", vec![2], Condition::At(1), Expiry::Never), Ok(2));
    assert_eq!(memory.delete("a", Condition::Absent), Err(conflict("a", 2)));
    assert_eq!(memory.delete("a", Condition::Always), Ok(Some(3)));
    assert_eq!(memory.delete("a", Condition::Always), Ok(None));
    assert_eq!(memory.revision(), Ok(3));
}

#[test]
fn commits_all_or_nothing() {
    let mut memory = memory("{}");
    put(&mut memory, "a", "1", Expiry::AfterMs(50)).unwrap();
    let refused = vec![write("b", Condition::Absent, content("2")), write("a", Condition::At(7), Action::Check)];
    assert_eq!(memory.commit(refused), Err(conflict("a", 1)));
    assert_eq!(value(&mut memory, "b"), None);
    let made = vec![
        write("a", Condition::At(1), content("2")),
        write("b", Condition::Absent, content("2")),
        write("gone", Condition::Always, Action::Delete),
        write("c", Condition::Absent, Action::Check),
    ];
    assert_eq!(memory.commit(made), Ok(2));
    let found = memory.get_many(&["b", "gone", "a"].map(str::to_owned)).unwrap();
    let values: Vec<_> = found.iter().map(|entry| entry.as_ref().map(|entry| entry.value.as_slice())).collect();
    assert_eq!(values, [Some(&b"2"[..]), None, Some(b"2")]);
    assert_eq!(memory.changes("", 1, 1, 0).unwrap().len(), 2, "a commit is not cut");
    assert_eq!(memory.commit(vec![write("gone", Condition::Always, Action::Delete)]), Ok(2), "nothing to change");
    native::advance(Duration::from_millis(50));
    assert_eq!(value(&mut memory, "a"), None, "the expiry was kept");
}

#[test]
fn keys_expire_and_watchers_see_it() {
    let mut memory = memory("{}");
    put(&mut memory, "a", "1", Expiry::AfterMs(10)).unwrap();
    put(&mut memory, "b", "1", Expiry::Never).unwrap();
    native::advance(Duration::from_millis(5));
    put(&mut memory, "a", "2", Expiry::Keep).unwrap();
    native::advance(Duration::from_millis(4));
    assert_eq!(value(&mut memory, "a").as_deref(), Some("2"));
    native::advance(Duration::from_millis(1));
    assert_eq!(value(&mut memory, "a"), None);
    assert_eq!(memory.changes("", 3, 10, 0), Ok(vec![Change { key: "a".into(), entry: None, revision: 4 }]));
    native::rewind(Duration::from_millis(5));
    assert_eq!(value(&mut memory, "a"), None, "a call that was admitted earlier does not bring it back");
}

#[test]
fn increments_numbers() {
    let mut memory = memory("{}");
    assert_eq!(memory.increment("n", 5), Ok(5));
    assert_eq!(memory.increment("n", -7), Ok(-2));
    assert!(matches!(memory.increment("n", i64::MIN), Err(Error::Invalid(_))));
    put(&mut memory, "n", "x", Expiry::Never).unwrap();
    assert!(matches!(memory.increment("n", 1), Err(Error::Invalid(_))));
}

#[test]
fn scans_and_watches_by_prefix() {
    let mut memory = memory("{}");
    for key in ["b", "a/2", "a/1", "a/3", "a"] {
        put(&mut memory, key, key, Expiry::Never).unwrap();
    }
    let keys = |memory: &mut Memory, prefix: &str, after: Option<&str>, limit| -> Vec<String> {
        memory.scan(prefix, after, limit).unwrap().into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys(&mut memory, "a/", None, 2), ["a/1", "a/2"]);
    assert_eq!(keys(&mut memory, "a/", Some("a/2"), 9), ["a/3"]);
    assert_eq!(keys(&mut memory, "a/", Some("A"), 9), ["a/1", "a/2", "a/3"]);
    assert_eq!(keys(&mut memory, "", Some("z"), 9), Vec::<String>::new());
    let revisions: Vec<u64> = memory.changes("a/", 0, 2, 0).unwrap().iter().map(|change| change.revision).collect();
    assert_eq!(revisions, [2, 3]);
}

#[test]
fn old_changes_go_and_asking_for_them_says_so() {
    let mut memory = memory(r#"{"max_changes": 3}"#);
    for _ in 0..5 {
        put(&mut memory, "a", "1", Expiry::Never).unwrap();
    }
    assert_eq!(memory.changes("", 1, 10, 0), Err(Error::Compacted(2)));
    assert_eq!(memory.changes("", 2, 10, 0).unwrap().len(), 3);
    assert_eq!(memory.changes("", 0, 10, 0).unwrap().len(), 3);
    assert_eq!(memory.changes("", 99, 10, 0).unwrap(), []);
    let five = (0..5).map(|key| write(&key.to_string(), Condition::Absent, content("1"))).collect();
    assert_eq!(memory.commit(five), Ok(6));
    assert_eq!(memory.changes("", 5, 10, 0), Err(Error::Compacted(6)), "a commit is kept whole or not at all");
}

#[test]
fn the_bytes_kept_have_an_end() {
    let mut memory = memory(r#"{"max_bytes": 8192}"#);
    let large = "x".repeat(3000);
    put(&mut memory, "a", &large, Expiry::Never).unwrap();
    put(&mut memory, "b", &large, Expiry::Never).unwrap();
    assert_eq!(memory.changes("", 1, 10, 0), Err(Error::Compacted(2)), "changes gave way");
    assert!(matches!(put(&mut memory, "c", &large, Expiry::Never), Err(Error::Quota(_))));
    assert_eq!(value(&mut memory, "c"), None);
    native::set_namespace("other");
    assert!(matches!(put(&mut memory, "c", &large, Expiry::Never), Err(Error::Quota(_))), "all namespaces count");
    native::set_namespace("default");
    memory.delete("a", Condition::Always).unwrap();
    put(&mut memory, "c", &large, Expiry::Never).unwrap();
}

#[test]
fn quotas_are_of_the_namespace() {
    let mut memory = memory(r#"{"quota": {"keys": 2}, "quotas": {"small": {"bytes": 5}}}"#);
    put(&mut memory, "a", "1", Expiry::Never).unwrap();
    put(&mut memory, "b", "1", Expiry::AfterMs(10)).unwrap();
    assert!(matches!(put(&mut memory, "c", "1", Expiry::Never), Err(Error::Quota(_))));
    put(&mut memory, "a", "longer", Expiry::Never).unwrap();
    native::advance(Duration::from_millis(10));
    put(&mut memory, "c", "1", Expiry::Never).unwrap();
    native::set_namespace("small");
    put(&mut memory, "a", "1234", Expiry::Never).unwrap();
    assert!(matches!(put(&mut memory, "a", "12345", Expiry::Never), Err(Error::Quota(_))));
    let usage = Usage { keys: 1, bytes: 5, keys_quota: None, bytes_quota: Some(5) };
    assert_eq!(memory.used(), Ok(usage));
}

#[test]
fn namespaces_are_apart() {
    let mut memory = memory("{}");
    put(&mut memory, "a", "1", Expiry::Never).unwrap();
    native::set_namespace("other");
    assert_eq!(value(&mut memory, "a"), None);
    assert_eq!(memory.revision(), Ok(0));
}

#[test]
fn a_namespace_that_was_never_written_takes_no_memory() {
    let mut memory = memory("{}");
    for name in 0..100 {
        native::set_namespace(&name.to_string());
        assert_eq!(value(&mut memory, "a"), None);
        assert_eq!(memory.put("a", Vec::new(), Condition::Present, Expiry::Never), Err(conflict("a", 0)));
        assert_eq!(memory.delete("a", Condition::Always), Ok(None));
    }
    assert!(memory.spaces.is_empty());
}

#[test]
fn refuses_bad_settings_and_states() {
    for (json, pointer) in [(r#"{"max_bytes": 1}"#, "/max_bytes"), (r#"{"max_changes": 1000001}"#, "/max_changes")] {
        assert_eq!(Memory::configure(settings::parse(json).unwrap()).unwrap_err().pointer(), Some(pointer));
    }
    let mut store = memory("{}");
    put(&mut store, "a", "1", Expiry::Never).unwrap();
    let state = store.save().unwrap();
    for end in 0..state.len() {
        assert!(memory("{}").load(&state[..end]).is_err(), "cut at {end}");
    }
    assert!(memory("{}").load(&[&state[..], &[0]].concat()).is_err());
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8, Expiry),
    Delete(u8),
    Swap(u8, u8),
    Increment(u8, i64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let expiry = prop_oneof![Just(Expiry::Keep), Just(Expiry::Never), (1_u64..50).prop_map(Expiry::AfterMs)];
    prop_oneof![
        (0_u8..6, 0_u8..9, expiry).prop_map(|(key, value, expiry)| Step::Put(key, value, expiry)),
        (0_u8..6).prop_map(Step::Delete),
        (0_u8..6, 0_u8..6).prop_map(|(gone, come)| Step::Swap(gone, come)),
        (0_u8..6, -5_i64..5).prop_map(|(key, by)| Step::Increment(key, by)),
        (0_u64..30).prop_map(Step::Wait),
    ]
}

fn run(memory: &mut Memory, step: &Step) {
    let name = |key: u8| format!("k{key}");
    match step {
        Step::Put(key, value, expiry) => {
            put(memory, &name(*key), &value.to_string(), *expiry).unwrap();
        }
        Step::Delete(key) => drop(memory.delete(&name(*key), Condition::Always).unwrap()),
        Step::Swap(gone, come) => {
            let gone = write(&name(*gone), Condition::Always, Action::Delete);
            let come = write(&format!("s{come}"), Condition::Always, content("s"));
            memory.commit(vec![gone, come]).unwrap();
        }
        Step::Increment(key, by) => drop(memory.increment(&name(*key), *by).unwrap()),
        Step::Wait(ms) => native::advance(Duration::from_millis(*ms)),
    }
}

proptest! {
    /// Whoever follows the changes ends with what a scan shows, and revisions have no gaps.
    #[test]
    fn changes_add_up_to_the_entries(steps in prop::collection::vec(step(), 0..60)) {
        let mut memory = memory("{}");
        steps.iter().for_each(|step| run(&mut memory, step));
        let mut followed = BTreeMap::new();
        let mut last = 0;
        loop {
            let page = memory.changes("", last, 7, 0).unwrap();
            let Some(newest) = page.last() else { break };
            prop_assert_eq!(page[0].revision, last + 1);
            last = newest.revision;
            for change in page {
                match change.entry {
                    Some(entry) => drop(followed.insert(change.key, entry)),
                    None => drop(followed.remove(&change.key)),
                }
            }
        }
        prop_assert_eq!(last, memory.revision().unwrap());
        let scanned: BTreeMap<String, Entry> = memory.scan("", None, 1000).unwrap().into_iter().collect();
        prop_assert_eq!(followed, scanned);
    }

    /// The successor is the same store, down to the bytes that it counts.
    #[test]
    fn a_successor_takes_everything_over(steps in prop::collection::vec(step(), 0..60)) {
        let mut old = memory("{}");
        steps.iter().for_each(|step| run(&mut old, step));
        let mut new = memory("{}");
        new.load(&old.save().unwrap()).unwrap();
        prop_assert_eq!(&new.spaces, &old.spaces);
    }

    #[test]
    fn garbage_is_no_state(state: Vec<u8>) {
        let _ = memory("{}").load(&state);
    }
}
