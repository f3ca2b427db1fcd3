//! What the store promises beyond its table, against the native stand-in for storage.

use std::time::Duration;

use platform_sdk::{native, settings};

use super::*;

fn durable() -> Durable {
    Durable::configure(Quotas::default()).unwrap()
}

fn put(key: &str, value: &str, condition: Condition, expiry: Expiry) -> Result<u64> {
    durable().put(key, value.into(), condition, expiry)
}

fn value(key: &str) -> Option<String> {
    durable().get(key).unwrap().map(|entry| String::from_utf8(entry.value).unwrap())
}

#[test]
fn writes_under_conditions() {
    assert_eq!(put("a", "1", Condition::Absent, Expiry::Never), Ok(1));
    assert_eq!(put("a", "2", Condition::Absent, Expiry::Never), Err(conflict("a", 1)));
    assert_eq!(put("a", "2", Condition::At(1), Expiry::Never), Ok(2));
    assert_eq!(put("b", "2", Condition::Present, Expiry::Never), Err(conflict("b", 0)));
    assert_eq!(value("a").as_deref(), Some("2"));
}

#[test]
fn keeps_the_expiry_that_a_key_has() {
    put("a", "1", Condition::Always, Expiry::AfterMs(100)).unwrap();
    native::advance(Duration::from_millis(60));
    put("a", "2", Condition::Always, Expiry::Keep).unwrap();
    native::advance(Duration::from_millis(39));
    assert_eq!(value("a").as_deref(), Some("2"));
    native::advance(Duration::from_millis(1));
    assert_eq!(value("a"), None);

    put("a", "3", Condition::Always, Expiry::Keep).unwrap();
    assert_eq!(durable().get("a").unwrap().unwrap().expires_ms, None, "a new key stays");
}

#[test]
fn keeping_the_expiry_still_asks_the_condition() {
    for condition in [Condition::Present, Condition::At(7), Condition::At(0)] {
        assert_eq!(put("a", "1", condition, Expiry::Keep), Err(conflict("a", 0)));
    }
    assert_eq!(put("a", "1", Condition::Absent, Expiry::Keep), Ok(1));
    assert_eq!(put("a", "1", Condition::Absent, Expiry::Keep), Err(conflict("a", 1)));
    assert_eq!(put("a", "1", Condition::At(1), Expiry::Keep), Ok(2));
}

fn write(key: &str, condition: Condition, action: Action) -> Write {
    Write { key: key.to_owned(), condition, action }
}

fn content(value: &str, expiry: Expiry) -> Action {
    Action::Put(Content { value: value.into(), expiry })
}

#[test]
fn commits_all_or_nothing() {
    put("a", "1", Condition::Always, Expiry::AfterMs(100)).unwrap();
    native::advance(Duration::from_millis(60));
    let refused = durable().commit(vec![
        write("b", Condition::Always, content("2", Expiry::Never)),
        write("a", Condition::At(7), Action::Check),
    ]);
    assert_eq!(refused, Err(conflict("a", 1)));
    assert_eq!(value("b"), None);
    let made = durable().commit(vec![
        write("a", Condition::At(1), content("2", Expiry::Keep)),
        write("b", Condition::Absent, content("2", Expiry::AfterMs(10))),
        write("gone", Condition::Always, Action::Delete),
        write("c", Condition::Absent, Action::Check),
    ]);
    assert_eq!(made, Ok(2));
    let keys = ["b", "gone", "a", "b"].map(str::to_owned);
    let found = durable().get_many(&keys).unwrap();
    let values: Vec<_> = found.iter().map(|entry| entry.as_ref().map(|entry| entry.value.as_slice())).collect();
    assert_eq!(values, [Some(&b"2"[..]), None, Some(b"2"), Some(b"2")]);
    native::advance(Duration::from_millis(40));
    assert_eq!((value("a"), value("b")), (None, None), "the expiry was kept, and given");
    let nothing = vec![write("gone", Condition::Always, Action::Delete)];
    assert_eq!(durable().commit(nothing), durable().revision(), "nothing was there to change");
}

#[test]
fn commits_have_bounds() {
    let many = |count: usize| -> Vec<Write> {
        (0..count).map(|key| write(&key.to_string(), Condition::Absent, Action::Check)).collect()
    };
    assert_eq!(durable().commit(many(1000)), Ok(0));
    assert!(matches!(durable().commit(many(1001)), Err(Error::TooLarge(_))));
    assert!(matches!(durable().commit(Vec::new()), Err(Error::Invalid(_))));
    let twice = vec![many(1).remove(0), many(1).remove(0)];
    assert!(matches!(durable().commit(twice), Err(Error::Invalid(why)) if why.contains("`0`")));
    let eight = "x".repeat(8 << 20);
    let heavy = ["a", "b"].map(|key| write(key, Condition::Always, content(&eight, Expiry::Never))).to_vec();
    assert!(matches!(durable().commit(heavy), Err(Error::TooLarge(_))));
    assert!(matches!(durable().get_many(&[]), Err(Error::Invalid(_))));
    assert!(matches!(durable().get_many(&vec!["a".to_owned(); 1001]), Err(Error::TooLarge(_))));
}

#[test]
fn a_deletion_tells_whether_there_was_something() {
    assert_eq!(durable().delete("a", Condition::Always), Ok(None));
    assert_eq!(durable().delete("a", Condition::Absent), Ok(None));
    assert_eq!(durable().delete("a", Condition::Present), Err(conflict("a", 0)));
    put("a", "1", Condition::Always, Expiry::Never).unwrap();
    assert_eq!(durable().delete("a", Condition::Absent), Err(conflict("a", 1)));
    assert_eq!(durable().delete("a", Condition::At(9)), Err(conflict("a", 1)));
    assert_eq!(durable().delete("a", Condition::At(1)), Ok(Some(2)));
    let changes = durable().changes("", 1, 10, 0).unwrap();
    assert_eq!(changes, vec![Change { key: "a".into(), entry: None, revision: 2 }]);
}

#[test]
fn increments_numbers_and_nothing_else() {
    assert_eq!(durable().increment("n", -3), Ok(-3));
    assert_eq!(durable().increment("n", i64::MAX), Ok(i64::MAX - 3));
    assert!(matches!(durable().increment("n", 4), Err(Error::Invalid(_))));
    assert_eq!(value("n"), Some((i64::MAX - 3).to_string()));
    for text in ["", "+1", " 1", "1.0", "9223372036854775808", "\u{661}"] {
        put("t", text, Condition::Always, Expiry::Never).unwrap();
        assert!(matches!(durable().increment("t", 1), Err(Error::Invalid(_))), "{text:?}");
    }
}

#[test]
fn an_increment_keeps_the_expiry() {
    put("n", "1", Condition::Always, Expiry::AfterMs(50)).unwrap();
    durable().increment("n", 1).unwrap();
    native::advance(Duration::from_millis(50));
    assert_eq!(durable().increment("n", 1), Ok(1));
}

#[test]
fn scans_in_byte_order_page_by_page() {
    for key in ["b", "a/2", "a/1", "a/\u{e9}"] {
        put(key, key, Condition::Always, Expiry::Never).unwrap();
    }
    let keys = |after, limit| -> Vec<String> {
        durable().scan("a/", after, limit).unwrap().into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys(None, 2), ["a/1", "a/2"]);
    assert_eq!(keys(Some("a/2"), 5000), ["a/\u{e9}"]);
    assert!(matches!(durable().scan("", None, 0), Err(Error::Invalid(_))));
}

#[test]
fn refuses_what_is_beyond_the_limits() {
    for key in ["", "a\nb", "\u{7f}"] {
        assert!(matches!(durable().get(key), Err(Error::Invalid(_))), "{key:?}");
    }
    assert!(matches!(durable().get(&"k".repeat(1025)), Err(Error::TooLarge(_))));
    let large = vec![0; (8 << 20) + 1];
    assert!(matches!(durable().put("a", large, Condition::Always, Expiry::Never), Err(Error::TooLarge(_))));
    assert!(matches!(put("a", "", Condition::Always, Expiry::AfterMs(0)), Err(Error::Invalid(_))));
}

#[test]
fn namespaces_are_apart() {
    put("a", "1", Condition::Always, Expiry::Never).unwrap();
    native::set_namespace("other");
    assert_eq!(value("a"), None);
    assert_eq!(durable().revision(), Ok(0));
}

#[test]
fn quotas_are_of_the_namespace() {
    let settings = r#"{"quota": {"keys": 2}, "quotas": {"small": {"bytes": 5}}}"#;
    let mut store = Durable::configure(settings::parse(settings).unwrap()).unwrap();
    let mut put = |key: &str, value: &str| store.put(key, value.into(), Condition::Always, Expiry::Never);
    put("a", "1").unwrap();
    put("b", "1").unwrap();
    assert!(matches!(put("c", "1"), Err(Error::Quota(_))));
    put("a", "longer").unwrap();
    native::set_namespace("small");
    put("a", "1234").unwrap();
    assert!(matches!(put("a", "12345"), Err(Error::Quota(_))));
    let usage = Usage { keys: 1, bytes: 5, keys_quota: None, bytes_quota: Some(5) };
    assert_eq!(store.used(), Ok(usage));
    assert!(matches!(store.increment("n", 1), Err(Error::Quota(_))));
    store.delete("a", Condition::Always).unwrap();
    assert_eq!(store.increment("n", 1), Ok(1));
}

#[test]
fn unknown_settings_are_refused() {
    for json in [r#"{"quoat": {}}"#, r#"{"quota": {"key": 1}}"#, r#"{"quota": {"keys": -1}}"#] {
        assert!(settings::parse::<Quotas>(json).is_err(), "{json}");
    }
}
