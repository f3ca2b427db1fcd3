//! Two daemons on one storage: each follows what the other changes, and both say how far they are.

use std::{fs, sync::Arc};

use futures::StreamExt as _;
use platform_control::{Change, DaemonView, Following, Towards, file::Declaration};
use platform_dataplane::SlotName;

use crate::{
    daemon::{Daemon, LIE, Place, SOON, bind, reason},
    guest::Guest,
};

/// Waits until a slot is at a generation; 0 for an empty one.
async fn follows(daemon: &Daemon, slot: &str, generation: u64) {
    let there = async {
        while daemon.generation(slot) != generation {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, there).await.unwrap_or_else(|_| panic!("never came to {generation}"));
}

/// What the daemons say in the end.
async fn settled(daemon: &Daemon, slot: &str) -> Vec<DaemonView> {
    let progress = daemon.control.progress(slot.parse().unwrap(), None).await.unwrap();
    tokio::time::timeout(SOON, progress.collect::<Vec<_>>()).await.unwrap().pop().unwrap()
}

fn objects(place: &Place) -> usize {
    place.storage.objects.as_ref().unwrap().0.lock().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_on_one_is_a_change_on_both() {
    let places = Place::two();
    let (one, two) = (places[0].join().await, places[1].join().await);
    one.install(&Guest::kv("old", "0.1.0", 1)).await;
    two.install(&Guest::kv("new", "0.1.0", 2)).await;
    one.bind("kv.store", "old").await.unwrap();
    let seen = settled(&two, "kv.store").await;
    let there = |daemon: &DaemonView| daemon.following == Following::There && daemon.generation == 1;
    assert!(seen.len() == 2 && seen.iter().all(there), "{seen:?}");
    assert_eq!(seen[1].address, "two.test:8080");
    assert_eq!(two.revision().await, Some(1), "its bytes came from the other daemon");

    // The second to ask finds what the first did, whatever it has seen until then.
    assert_eq!(two.bind("kv.store", "new").await.unwrap().binding.generation, 2);
    assert_eq!(one.bind("kv.store", "old").await.unwrap().binding.generation, 3);
    follows(&two, "kv.store", 3).await;
    one.grant("old", &["wasi"], &[]).await.unwrap();
    follows(&two, "kv.store", 4).await;
    two.control.unbind("kv.store".parse().unwrap(), "eve".to_owned()).await.unwrap();
    follows(&one, "kv.store", 0).await;
    let slot: SlotName = "kv.store".parse().unwrap();
    let progress = two.control.progress(slot.clone(), Some(Towards::Gone(4))).await.unwrap();
    let seen = tokio::time::timeout(SOON, progress.collect::<Vec<_>>()).await.unwrap().pop().unwrap();
    let emptied = |daemon: &DaemonView| daemon.following == Following::There && daemon.generation == 0;
    assert!(seen.len() == 2 && seen.iter().all(emptied), "{seen:?}");
    assert!(two.control.progress(slot, None).await.is_err(), "nothing should serve, and nothing else is wanted");

    assert_eq!(objects(&places[0]), 2);
    let file = places[1].listing("plugins").len();
    one.control.uninstall("old".parse().unwrap(), "eve".to_owned()).await.unwrap();
    assert_eq!(objects(&places[0]), 1);
    let gone = async {
        while places[1].listing("plugins").len() == file {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, gone).await.unwrap();
    let left = Arc::clone(&two.control);
    two.stop().await;
    left.leave().await;
    assert_eq!(one.bind("kv.store", "new").await.unwrap().binding.generation, 5);
    assert_eq!(settled(&one, "kv.store").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_can_not_follow_says_so_until_it_can() {
    let places = Place::two();
    let (one, two) = (places[0].join().await, places[1].join().await);
    one.install(&Guest::kv("old", "0.1.0", 1)).await;
    one.bind("kv.store", "old").await.unwrap();
    follows(&two, "kv.store", 1).await;
    // A component that nobody has any more.
    one.install(&Guest::kv("new", "0.1.0", 2)).await;
    let taken = std::mem::take(&mut *places[0].storage.objects.as_ref().unwrap().0.lock().unwrap());
    one.bind("kv.store", "new").await.unwrap();
    let seen = settled(&one, "kv.store").await;
    assert_eq!((seen[0].following, seen[1].following), (Following::There, Following::Failed));
    assert!(seen[1].problem.contains("install it again") && seen[1].generation == 1, "{seen:?}");
    let view = two.control.slot(&"kv.store".parse().unwrap()).unwrap();
    assert!(!view.ready && view.problem.contains("generation 1 serves on"), "{view:?}");
    assert!(!two.control.is_ready() && two.revision().await == Some(1));
    *places[0].storage.objects.as_ref().unwrap().0.lock().unwrap() = taken;
    follows(&two, "kv.store", 2).await;
    assert_eq!(two.revision().await, Some(2));
    let all_there = async {
        while !settled(&one, "kv.store").await.iter().all(|daemon| daemon.following == Following::There) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, all_there).await.unwrap();
    assert!(two.control.is_ready());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_is_a_generation_of_its_own() {
    let places = Place::two();
    let (one, two) = (places[0].join().await, places[1].join().await);
    one.install(&Guest::kv("old", "0.1.0", 1)).await;
    one.install(&Guest::kv("new", "0.1.0", 2)).await;
    one.bind("kv.store", "old").await.unwrap();
    places[0].storage.fail(LIE);
    assert_eq!(reason(&one.bind("kv.store", "new").await), "STORAGE_UNAVAILABLE");
    follows(&one, "kv.store", 3).await;
    follows(&two, "kv.store", 3).await;
    assert_eq!((one.revision().await, two.revision().await), (Some(1), Some(1)));
}

/// What a crash in the middle of an installation leaves.
#[tokio::test(flavor = "multi_thread")]
async fn objects_that_no_record_names_go_at_the_start() {
    let places = Place::two();
    let one = places[0].join().await;
    one.install(&Guest::kv("old", "0.1.0", 1)).await;
    one.stop().await;
    let kept = || places[0].storage.objects.as_ref().unwrap().0.lock().unwrap();
    let stray = format!("{}.0", "0".repeat(64));
    for name in [stray.as_str(), "blob-of-another"] {
        kept().insert(name.to_owned(), bytes::Bytes::new());
    }
    let one = places[0].join().await;
    let cleaned = async {
        while kept().contains_key(&stray) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, cleaned).await.unwrap();
    assert!(kept().contains_key("blob-of-another") && kept().len() == 2, "what others keep stays");
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_file_on_both_is_applied_once() {
    let places = Place::two();
    let (one, two) = (places[0].join().await, places[1].join().await);
    let text = "[[plugin]]\npath = 'old.wasm'\n[[binding]]\nslot = 'kv.store'\nplugins = ['old']\n";
    let declared = |place: &Place| {
        fs::write(place.path().join("old.wasm"), Guest::kv("old", "0.1.0", 1).component()).unwrap();
        Declaration::parse(text, place.path()).unwrap()
    };
    let (first, second) =
        tokio::join!(one.control.apply(declared(&places[0])), two.control.apply(declared(&places[1])));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first.problems.is_empty() && second.problems.is_empty(), "{first:?} {second:?}");
    let bound = |changes: &[Change]| changes.iter().filter(|change| matches!(change, Change::Bound(..))).count();
    assert_eq!(bound(&first.changes) + bound(&second.changes), 1);
    // What is bound by hand stays, also when the other daemon starts anew with the file that both have.
    one.install(&Guest::kv("new", "0.1.0", 2)).await;
    let slot = || "kv.store".parse().unwrap();
    one.control.bind(slot(), bind(&["new"])).await.unwrap();
    assert!(two.control.apply(declared(&places[1])).await.unwrap().changes.is_empty());
    // One file loses the entry, then the other.
    let empty = |place: &Place| Declaration::parse("", place.path()).unwrap();
    one.control.bind(slot(), bind(&["old"])).await.unwrap();
    assert!(two.control.apply(empty(&places[1])).await.unwrap().changes.is_empty());
    assert_eq!(one.control.slot(&slot()).unwrap().binding.generation, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_goes_from_all_files_at_once_leaves_nothing_bound() {
    let places = Place::two();
    let (one, two) = (places[0].join().await, places[1].join().await);
    let text =
        "[[plugin]]\nname = \"old\"\npath = \"old.wasm\"\n\n[[binding]]\nslot = \"kv.store\"\nplugins = [\"old\"]\n";
    for place in &places {
        fs::write(place.path().join("old.wasm"), Guest::kv("old", "0.1.0", 1).component()).unwrap();
    }
    let file = |text, place: &Place| Declaration::parse(text, place.path()).unwrap();
    for _ in 0..20 {
        for (daemon, place) in [(&one, &places[0]), (&two, &places[1])] {
            let applied = daemon.control.apply(file(text, place)).await.unwrap();
            assert!(applied.problems.is_empty(), "{applied:?}");
        }
        assert!(one.generation("kv.store") > 0);
        let (first, second) =
            tokio::join!(one.control.apply(file("", &places[0])), two.control.apply(file("", &places[1])));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert!(first.problems.is_empty() && second.problems.is_empty(), "{first:?} {second:?}");
        follows(&one, "kv.store", 0).await;
        follows(&two, "kv.store", 0).await;
    }
}
