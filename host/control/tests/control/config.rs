//! The configuration file.

use platform_control::{Applied, Change, file::Declaration};

use crate::{
    daemon::{Daemon, Place, reason},
    guest::Guest,
};

async fn apply(place: &Place, daemon: &Daemon, text: &str) -> Applied {
    let declaration = Declaration::parse(text, place.path()).unwrap();
    daemon.control.apply(declaration).await.unwrap()
}

fn write(place: &Place, file: &str, guest: &Guest) {
    std::fs::write(place.path().join(file), guest.component()).unwrap();
}

const FIRST: &str = r#"
[[plugin]]
path = "a.wasm"
grants = ["storage"]

[[plugin]]
path = "policy.wasm"

[[binding]]
slot = "kv.store"
plugins = ["a"]

[[binding]]
slot = "auth.policy"
plugins = ["policy", { plugin = "policy", settings = { rules = ["x"] }, limits = { deadline_ms = 7 } }]
"#;

fn files(place: &Place) {
    write(place, "a.wasm", &Guest::kv("a", "0.1.0", 1).importing("platform:storage/table@0.1.0"));
    write(place, "b.wasm", &Guest::kv("b", "0.1.0", 2));
    write(place, "policy.wasm", &Guest::auth("policy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_changed_is_applied() {
    let place = Place::new();
    files(&place);
    let daemon = place.start().await;
    let applied = apply(&place, &daemon, FIRST).await;
    assert!(applied.problems.is_empty(), "{:?}", applied.problems);
    assert_eq!(applied.changes.len(), 5, "{:?}", applied.changes);
    let policy = daemon.control.slot(&"auth.policy".parse().unwrap()).unwrap();
    assert_eq!(policy.binding.chain[1].limits.deadline_ms, 7);
    assert_eq!(policy.binding.chain[1].settings["rules"], serde_json::json!(["x"]));
    assert_eq!(policy.binding.bound_by, "config");
    assert_eq!(apply(&place, &daemon, FIRST).await.changes, []);
    daemon.stop().await;

    let daemon = place.start().await;
    assert_eq!(daemon.revision().await, Some(1));
    assert_eq!(apply(&place, &daemon, FIRST).await.changes, [], "nor after a restart");
    let second = FIRST.replace("plugins = [\"a\"]", "plugins = [\"b\"]") + "\n[[plugin]]\npath = 'b.wasm'\n";
    let applied = apply(&place, &daemon, &second).await;
    assert!(applied.problems.is_empty(), "{:?}", applied.problems);
    let bound = Change::Bound("kv.store".parse().unwrap(), 2);
    assert!(applied.changes.contains(&bound) && applied.changes.len() == 2, "{:?}", applied.changes);
    assert_eq!((daemon.revision().await, daemon.generation("auth.policy")), (Some(2), 1));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_bound_stays_until_its_entry_changes() {
    let place = Place::new();
    files(&place);
    let daemon = place.start().await;
    apply(&place, &daemon, FIRST).await;
    daemon.install(&Guest::kv("b", "0.1.0", 2)).await;
    daemon.bind("kv.store", "b").await.unwrap();
    assert_eq!(apply(&place, &daemon, FIRST).await.changes, []);
    daemon.stop().await;
    let daemon = place.start().await;
    assert_eq!(apply(&place, &daemon, FIRST).await.changes, []);
    assert_eq!(daemon.revision().await, Some(2), "a restart does not undo it");
    let changed = FIRST.replace("plugins = [\"a\"]", "plugins = [\"a\"]\nsettings = { x = 1 }");
    apply(&place, &daemon, &changed).await;
    assert_eq!(daemon.revision().await, Some(1));

    let without = "[[plugin]]\npath = 'a.wasm'\n";
    let applied = apply(&place, &daemon, without).await;
    let mut gone: Vec<_> = ["kv.store", "auth.policy"].map(|slot| Change::Unbound(slot.parse().unwrap())).into();
    gone.retain(|change| !applied.changes.contains(change));
    assert_eq!(gone, [], "{:?}", applied.changes);
    assert_eq!(daemon.revision().await, None);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_entry_is_named_and_leaves_the_old_generation() {
    let place = Place::new();
    files(&place);
    let daemon = place.start().await;
    apply(&place, &daemon, FIRST).await;
    std::fs::write(place.path().join("broken.wasm"), vec![0; 100]).unwrap();
    let bad = FIRST.replace("plugins = [\"a\"]", "plugins = [\"nobody\"]").replace("\"policy\", {", "{")
        + "
        [[plugin]]
        path = 'broken.wasm'
        [[plugin]]
        path = 'missing.wasm'
        [[plugin]]
        name = 'unshipped'
        [[binding]]
        slot = 'kv.store'
        plugins = ['a']
        [[binding]]
        slot = 'auth.policy/two'
        plugins = ['policy', 'policy']
        settings = { x = 1 }
        ";
    let applied = apply(&place, &daemon, &bad).await;
    let problems: Vec<_> = applied.problems.iter().map(|(entry, error)| (entry.as_str(), error.reason())).collect();
    assert_eq!(
        problems,
        [
            ("plugin `broken.wasm`", "NOT_A_COMPONENT"),
            ("plugin `missing.wasm`", "FILE_UNREADABLE"),
            ("plugin `unshipped`", "CONFIG_INVALID"),
            ("binding of `kv.store`", "PLUGIN_NOT_FOUND"),
            ("binding of `kv.store`", "CONFIG_INVALID"),
            ("binding of `auth.policy/two`", "CONFIG_INVALID"),
        ]
    );
    assert_eq!(applied.changes, [Change::Bound("auth.policy".parse().unwrap(), 2)], "the good entry is applied");
    assert_eq!((daemon.revision().await, daemon.generation("kv.store")), (Some(1), 1));
    let mut declaration =
        Declaration::parse("[[plugin]]\nname = 'b'\n[[binding]]\nslot = 'kv.store'\nplugins = ['b']", place.path())
            .unwrap();
    declaration.bundled = vec![place.path().join("nowhere"), place.path().to_owned()];
    let applied = daemon.control.apply(declaration).await.unwrap();
    assert!(applied.problems.is_empty(), "{:?}", applied.problems);
    assert_eq!(daemon.revision().await, Some(2), "a plugin that ships is found by name");
    let taken = daemon.bind("kv.store", "a@9.9.9").await;
    assert_eq!(reason(&taken), "PLUGIN_NOT_FOUND");
    daemon.stop().await;
}
