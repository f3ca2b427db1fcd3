//! What `config-http` makes of what it finds.

use platform_sdk::config::Source as _;
use serde_json::json;

use super::*;

fn remote(settings: &Value) -> Remote {
    Remote::configure(serde_json::from_value(settings.clone()).unwrap()).unwrap()
}

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, tag: Some("\"1\"".to_owned()), body: body.into() }
}

#[test]
fn urls_are_taken_apart() {
    let of = |is_secure, authority: &str, path: &str| {
        Ok(Target { is_secure, authority: authority.into(), path: path.into() })
    };
    assert_eq!(target("https://h/a?b=c#d"), of(true, "h", "/a?b=c"));
    assert_eq!(target("http://[::1]:81"), of(false, "[::1]:81", "/"));
    assert_eq!(target("http://h?x"), of(false, "h", "/?x"));
    for bad in [
        "",
        "h/a",
        "ftp://h",
        "https://",
        "https:///a",
        "https://user:secret@h/",
        "https://h/a b",
        "https://h/\r\nx: y",
    ] {
        assert!(target(bad).is_err(), "{bad}");
    }
}

#[test]
fn one_document_or_one_for_each_member() {
    let named = remote(&json!({"url": "http://h/", "id": "shop"})).hear(answer(200, "[1]")).unwrap();
    assert_eq!(named, vec![config::Document { id: "shop".into(), content: "[1]".into() }]);
    let both = remote(&json!({"url": "http://h/"})).hear(answer(200, r#"{"a": 1, "b": {}}"#)).unwrap();
    assert_eq!(both.iter().map(|document| document.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(remote(&json!({"url": "http://h/"})).hear(answer(200, "[]")).is_err());
}

#[test]
fn what_did_not_change_is_said_again_and_what_is_wrong_changes_nothing() {
    let mut remote = remote(&json!({"url": "http://h/", "id": "shop"}));
    let first = remote.hear(answer(200, "1")).unwrap();
    assert_eq!(remote.hear(answer(304, "")).unwrap(), first);
    assert!(remote.hear(answer(500, "2")).is_err());
    assert!(remote.hear(answer(200, "{\"half")).is_err());
    assert_eq!(remote.load().unwrap(), first, "until the time to ask again has come");
}
