//! What the store promises beyond its table, against the native stand-in for storage.

use std::time::Duration;

use platform_sdk::native;

use super::*;

fn put(key: &str, value: &str, condition: Condition, expiry: Expiry) -> Result<u64> {
    Durable.put(key, value.into(), condition, expiry)
}

fn value(key: &str) -> Option<String> {
    Durable.get(key).unwrap().map(|entry| String::from_utf8(entry.value).unwrap())
}

#[test]
fn writes_under_conditions() {
    assert_eq!(put("a", "1", Condition::Absent, Expiry::Never), Ok(1));
    assert_eq!(put("a", "2", Condition::Absent, Expiry::Never), Err(Error::Conflict(1)));
    assert_eq!(put("a", "2", Condition::At(1), Expiry::Never), Ok(2));
    assert_eq!(put("b", "2", Condition::Present, Expiry::Never), Err(Error::Conflict(0)));
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
    assert_eq!(Durable.get("a").unwrap().unwrap().expires_ms, None, "a new key stays");
}

#[test]
fn keeping_the_expiry_still_asks_the_condition() {
    for condition in [Condition::Present, Condition::At(7)] {
        assert_eq!(put("a", "1", condition, Expiry::Keep), Err(Error::Conflict(0)));
    }
    assert_eq!(put("a", "1", Condition::At(0), Expiry::Keep), Ok(1));
    assert_eq!(put("a", "1", Condition::Absent, Expiry::Keep), Err(Error::Conflict(1)));
    assert_eq!(put("a", "1", Condition::At(1), Expiry::Keep), Ok(2));
}

#[test]
fn a_deletion_tells_whether_there_was_something() {
    assert_eq!(Durable.delete("a", Condition::Always), Ok(None));
    assert_eq!(Durable.delete("a", Condition::Absent), Ok(None));
    assert_eq!(Durable.delete("a", Condition::Present), Err(Error::Conflict(0)));
    put("a", "1", Condition::Always, Expiry::Never).unwrap();
    assert_eq!(Durable.delete("a", Condition::Absent), Err(Error::Conflict(1)));
    assert_eq!(Durable.delete("a", Condition::At(9)), Err(Error::Conflict(1)));
    assert_eq!(Durable.delete("a", Condition::At(1)), Ok(Some(2)));
    let changes = Durable.changes("", 1, 10, 0).unwrap();
    assert_eq!(changes, vec![Change { key: "a".into(), entry: None, revision: 2 }]);
}

#[test]
fn increments_numbers_and_nothing_else() {
    assert_eq!(Durable.increment("n", -3), Ok(-3));
    assert_eq!(Durable.increment("n", i64::MAX), Ok(i64::MAX - 3));
    assert!(matches!(Durable.increment("n", 4), Err(Error::Invalid(_))));
    assert_eq!(value("n"), Some((i64::MAX - 3).to_string()));
    for text in ["", "+1", " 1", "1.0", "9223372036854775808", "\u{661}"] {
        put("t", text, Condition::Always, Expiry::Never).unwrap();
        assert!(matches!(Durable.increment("t", 1), Err(Error::Invalid(_))), "{text:?}");
    }
}

#[test]
fn an_increment_keeps_the_expiry() {
    put("n", "1", Condition::Always, Expiry::AfterMs(50)).unwrap();
    Durable.increment("n", 1).unwrap();
    native::advance(Duration::from_millis(50));
    assert_eq!(Durable.increment("n", 1), Ok(1));
}

#[test]
fn scans_in_byte_order_page_by_page() {
    for key in ["b", "a/2", "a/1", "a/\u{e9}"] {
        put(key, key, Condition::Always, Expiry::Never).unwrap();
    }
    let keys = |after, limit| -> Vec<String> {
        Durable.scan("a/", after, limit).unwrap().into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys(None, 2), ["a/1", "a/2"]);
    assert_eq!(keys(Some("a/2"), 5000), ["a/\u{e9}"]);
    assert!(matches!(Durable.scan("", None, 0), Err(Error::Invalid(_))));
}

#[test]
fn refuses_what_is_beyond_the_limits() {
    for key in ["", "a\nb", "\u{7f}"] {
        assert!(matches!(Durable.get(key), Err(Error::Invalid(_))), "{key:?}");
    }
    assert!(matches!(Durable.get(&"k".repeat(1025)), Err(Error::TooLarge(_))));
    let large = vec![0; (8 << 20) + 1];
    assert!(matches!(Durable.put("a", large, Condition::Always, Expiry::Never), Err(Error::TooLarge(_))));
    assert!(matches!(put("a", "", Condition::Always, Expiry::AfterMs(0)), Err(Error::Invalid(_))));
}

#[test]
fn namespaces_are_apart() {
    put("a", "1", Condition::Always, Expiry::Never).unwrap();
    native::set_namespace("other");
    assert_eq!(value("a"), None);
    assert_eq!(Durable.revision(), Ok(0));
}
