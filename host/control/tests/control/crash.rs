//! Failures in the middle: a restart comes back with the old binding or with the new one, never with half of one.

use std::{sync::Arc, time::Duration};

use crate::{
    daemon::{Daemon, HANG_AFTER, HANG_BEFORE, LIE, NONE, Place, REFUSE, bind, reason},
    guest::Guest,
};

/// A daemon with `old` (revision 1) bound and `new` (revision 2) installed.
async fn prepared(place: &Place) -> Daemon {
    let daemon = place.start().await;
    daemon.install(&Guest::kv("old", "0.1.0", 1)).await;
    daemon.install(&Guest::kv("new", "0.1.0", 2)).await;
    daemon.bind("kv.store", "old").await.unwrap();
    daemon
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_changes_nothing() {
    let place = Place::new();
    let daemon = prepared(&place).await;
    let plugins = place.listing("plugins");
    for fault in [REFUSE, LIE] {
        place.storage.fail(fault);
        assert_eq!(reason(&daemon.bind("kv.store", "new").await), "STORAGE_UNAVAILABLE");
        place.storage.fail(NONE);
        assert_eq!((daemon.revision().await, daemon.generation("kv.store")), (Some(1), 1));
        let view = daemon.control.slot(&"kv.store".parse().unwrap()).unwrap();
        assert!(view.ready, "{view:?}");
        assert_eq!(view.binding.generation, 1);
    }
    place.storage.fail(REFUSE);
    let result = daemon.install_bytes(Guest::kv("third", "0.1.0", 3).component()).await;
    assert_eq!(reason(&result), "STORAGE_UNAVAILABLE");
    assert_eq!(place.listing("plugins"), plugins);
    assert_eq!(reason(&daemon.grant("old", &["wasi"], &[]).await), "STORAGE_UNAVAILABLE");
    assert!(daemon.control.plugin(&"old".parse().unwrap()).unwrap().plugin.grants.is_empty());
    place.storage.fail(NONE);
    let generation = daemon.bind("kv.store", "new").await.unwrap().binding.generation;
    assert_eq!((generation, daemon.revision().await), (2, Some(2)));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_at_its_commit_comes_back_with_the_old_or_the_new_binding() {
    for (fault, revision, generation) in [(HANG_BEFORE, 1, 1), (HANG_AFTER, 2, 2)] {
        let place = Place::new();
        let daemon = prepared(&place).await;
        place.storage.fail(fault);
        let patience = Duration::from_secs(2);
        let result = tokio::time::timeout(patience, daemon.bind("kv.store", "new")).await;
        assert!(result.is_err(), "the commit never comes back");
        assert_eq!(daemon.revision().await, Some(1), "until it is durable the old one serves");
        daemon.stop().await;
        place.storage.fail(NONE);

        let daemon = place.start().await;
        assert_eq!((daemon.revision().await, daemon.generation("kv.store")), (Some(revision), generation));
        assert!(daemon.control.is_ready());
        let next = daemon.bind("kv.store", "old").await.unwrap();
        assert_eq!(next.binding.generation, generation + 1);
        daemon.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_goes_away_leaves_a_whole_binding() {
    let place = Place::new();
    let daemon = prepared(&place).await;
    let mut expected = 1;
    for (delay_us, plugin) in [(0, "new"), (50, "old"), (500, "new"), (2000, "old"), (5000, "new")] {
        let binding = daemon.bind("kv.store", plugin);
        let _gone = tokio::time::timeout(Duration::from_micros(delay_us), binding).await;
        daemon.rest().await;
        let view = daemon.control.slot(&"kv.store".parse().unwrap()).unwrap();
        let serving = if view.binding.chain[0].name.as_str() == "old" { 1 } else { 2 };
        assert!(view.ready, "{view:?}");
        assert_eq!(daemon.revision().await, Some(serving));
        assert!(view.binding.generation >= expected);
        expected = view.binding.generation;
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_of_an_installation_is_swept() {
    let place = Place::new();
    let daemon = prepared(&place).await;
    let files = place.listing("plugins");
    place.storage.fail(HANG_BEFORE);
    let component = Guest::kv("third", "0.1.0", 3).component();
    let patience = Duration::from_secs(3);
    assert!(tokio::time::timeout(patience, daemon.install_bytes(component)).await.is_err());
    assert_eq!(place.listing("plugins").len(), files.len() + 1, "the file comes before the record");
    daemon.stop().await;
    place.storage.fail(NONE);
    let daemon = place.start().await;
    assert_eq!(place.listing("plugins"), files);
    assert_eq!(reason(&daemon.bind("kv.store", "third").await), "PLUGIN_NOT_FOUND");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_can_not_be_restored_is_reported_and_the_others_serve() {
    let place = Place::new();
    let daemon = prepared(&place).await;
    daemon.bind("kv.store/team", "new").await.unwrap();
    let digest = daemon.control.plugin(&"new".parse().unwrap()).unwrap().plugin.digest;
    daemon.stop().await;
    let file = place.path().join("plugins").join(format!("sha256-{}.wasm", digest.hex()));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, &bytes).unwrap();

    let daemon = place.open().await;
    assert!(!daemon.control.is_ready(), "nothing serves yet");
    let restored = daemon.control.restore().await;
    let failed: Vec<_> = restored.iter().filter(|restored| restored.result.is_err()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].slot.to_string(), "kv.store/team");
    assert_eq!(
        reason(&Err::<(), _>(restored.into_iter().find_map(|restored| restored.result.err()).unwrap())),
        "COMPONENT_DAMAGED"
    );
    assert_eq!(daemon.revision().await, Some(1));
    assert!(!daemon.control.is_ready());
    let view = daemon.control.slot(&"kv.store/team".parse().unwrap()).unwrap();
    assert!(view.problem.contains("damaged"), "{}", view.problem);

    let control = Arc::clone(&daemon.control);
    control.bind("kv.store/team".parse().unwrap(), bind(&["old"])).await.unwrap();
    assert!(daemon.control.is_ready(), "binding another plugin repairs the slot");
    daemon.stop().await;
}
