//! What the host refuses of `kv`'s arguments before any provider sees them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on has failed")]

use platform_capability::{
    SlotKind,
    kv::{Action, Condition, Content, Error, Expiry, Write},
};
use platform_dataplane::CallError;
use platform_testkit::{Fixture, alone, call, component, plugin};

fn put(key: &str, value: &str) -> Write {
    put_for(key, value, Expiry::Never)
}

fn put_for(key: &str, value: &str, expiry: Expiry) -> Write {
    let content = Content { value: value.into(), expiry };
    Write { key: key.to_owned(), condition: Condition::Always, action: Action::Put(content) }
}

fn delete(key: &str) -> Write {
    Write { key: key.to_owned(), condition: Condition::Always, action: Action::Delete }
}

fn check(key: &str) -> Write {
    Write { key: key.to_owned(), condition: Condition::Absent, action: Action::Check }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold() {
    let fixture = Fixture::new();
    let storage = plugin(SlotKind::KvStore, "kv-storage", &component("plugins", "kv-storage"), &["storage"]);
    fixture.bind("kv.store", alone(storage)).await;
    let kv = fixture.plane.kv();
    let before = kv.revision(&call()).await.unwrap();
    let many: Vec<Write> = (0..1001).map(|key| check(&key.to_string())).collect();
    let large = "x".repeat(8 << 20);
    let over = large.clone() + "x";
    for (writes, large) in [
        (many.clone(), true),
        (vec![put("a", &over)], true),
        (vec![put("a", &large), put("b", &large)], true),
        (vec![put(&"k".repeat(1025), "")], true),
        (vec![], false),
        (vec![put("", "")], false),
        (vec![put("a\nb", "")], false),
        (vec![put("twice", "1"), delete("twice")], false),
        (vec![put_for("a", "", Expiry::AfterMs(0))], false),
    ] {
        let answer = kv.commit(&call(), &writes).await;
        let told = matches!(&answer, Err(CallError::Capability(Error::TooLarge(_)))) && large
            || matches!(&answer, Err(CallError::Capability(Error::Invalid(_)))) && !large;
        assert!(told, "{answer:?}");
    }
    assert_eq!(kv.commit(&call(), &many[1..]).await.unwrap(), before);
    assert!(matches!(kv.get_many(&call(), &[]).await, Err(CallError::Capability(Error::Invalid(_)))));
    assert!(matches!(kv.get_many(&call(), &["a"; 1001]).await, Err(CallError::Capability(Error::TooLarge(_)))));
    assert_eq!(kv.get_many(&call(), &["gone"; 1000]).await.unwrap(), vec![None; 1000]);
    assert_eq!(kv.revision(&call()).await.unwrap(), before, "nothing of it was made");
}
