//! Binding, rolling back, unbinding, uninstalling.

use platform_control::{PageRequest, Reference};
use platform_dataplane::FailureMode;
use serde_json::json;

use crate::{
    daemon::{Place, bind, bind_with, reason},
    guest::Guest,
};

#[tokio::test(flavor = "multi_thread")]
async fn generations_follow_each_other_and_a_rollback_is_a_new_one() {
    let place = Place::new();
    let daemon = place.start().await;
    let slot = || "kv.store".parse().unwrap();
    assert_eq!(reason(&daemon.bind("kv.store", "kv").await), "PLUGIN_NOT_FOUND");
    daemon.install(&Guest::kv("kv", "0.1.0", 1)).await;
    daemon.install(&Guest::kv("kv", "0.2.0", 2)).await;
    assert_eq!(daemon.bind("kv.store", "kv@0.1.0").await.unwrap().binding.generation, 1);
    assert_eq!(daemon.revision().await, Some(1));
    let view = daemon.bind("kv.store", "kv").await.unwrap();
    assert!(view.ready && view.problem.is_empty(), "{view:?}");
    assert_eq!(daemon.revision().await, Some(2), "a bare name is the newest version");

    let back = daemon.control.rollback(slot(), None, "ada".to_owned()).await.unwrap();
    assert_eq!((back.binding.generation, daemon.revision().await), (3, Some(1)));
    let back = daemon.control.rollback(slot(), Some(2), "ada".to_owned()).await.unwrap();
    assert_eq!((back.binding.generation, daemon.revision().await), (4, Some(2)));
    for unknown in [4, 99] {
        let result = daemon.control.rollback(slot(), Some(unknown), "ada".to_owned()).await;
        assert_eq!(reason(&result), "GENERATION_NOT_FOUND");
    }
    let page = PageRequest { limit: 3, token: String::new() };
    let history = daemon.control.history(&slot(), &page).await.unwrap();
    assert_eq!(history.items.iter().map(|binding| binding.generation).collect::<Vec<_>>(), [4, 3, 2]);
    let rest = daemon.control.history(&slot(), &PageRequest { limit: 3, token: history.next }).await.unwrap();
    assert_eq!(rest.items.iter().map(|binding| binding.generation).collect::<Vec<_>>(), [1]);

    assert_eq!(daemon.control.unbind(slot(), "ada".to_owned()).await.unwrap(), 4);
    assert_eq!(daemon.revision().await, None);
    assert_eq!(reason(&daemon.control.unbind(slot(), "ada".to_owned()).await), "SLOT_NOT_BOUND");
    let back = daemon.control.rollback(slot(), None, "ada".to_owned()).await.unwrap();
    assert_eq!((back.binding.generation, daemon.revision().await), (5, Some(2)), "an unbound slot returns to its last");
    assert!(daemon.control.is_ready());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_serve_leaves_the_old_generation() {
    let place = Place::new();
    let daemon = place.start().await;
    daemon.install(&Guest::kv("good", "0.1.0", 1)).await;
    daemon.bind("kv.store", "good").await.unwrap();
    let lifecycle = "lifecycle@0.1.0#self-test";
    let schema = r#"{"type":"object","properties":{"size":{"type":"integer"}},"additionalProperties":false}"#;
    daemon.install(&Guest::kv("untested", "0.1.0", 2).refusing(lifecycle, "the disk is missing")).await;
    daemon.install(&Guest::kv("endless", "0.1.0", 2).body(lifecycle, "(loop (br 0)) unreachable")).await;
    daemon.install(&Guest::kv("trapping", "0.1.0", 2).body(lifecycle, "unreachable")).await;
    daemon.install(&Guest::kv("picky", "0.1.0", 2).refusing("lifecycle@0.1.0#configure", "no server given")).await;
    daemon.install(&Guest::kv("strict", "0.1.0", 2).member("settings_schema", schema)).await;
    daemon.install(&Guest::auth("policy")).await;

    for (request, expected, sentence) in [
        (bind(&["untested"]), "SELF_TEST_FAILED", "the disk is missing"),
        (bind(&["endless"]), "PLUGIN_FAULT", "deadline passed"),
        (bind(&["trapping"]), "PLUGIN_FAULT", "trapped"),
        (bind(&["picky"]), "SETTINGS_REFUSED", "no server given"),
        (bind_with("strict", json!({ "size": "large" })), "SETTINGS_INVALID", "`/size`"),
        (bind_with("strict", json!({ "colour": 1 })), "SETTINGS_INVALID", "colour"),
        (bind_with("good", json!({ "x": "y".repeat(2 << 20) })), "SETTINGS_INVALID", "allowed"),
        (bind(&["policy"]), "WRONG_SLOT", "auth.policy"),
        (bind(&[]), "CHAIN_INVALID", "name a plugin"),
        (bind(&["good", "good"]), "CHAIN_INVALID", "`kv.store`"),
        (bind(&["nobody"]), "PLUGIN_NOT_FOUND", "`nobody`"),
    ] {
        let result = daemon.control.bind("kv.store".parse().unwrap(), request).await;
        assert_eq!(reason(&result), expected, "{result:?}");
        let text = result.unwrap_err().to_string();
        assert!(text.contains(sentence), "{text}");
        assert_eq!((daemon.revision().await, daemon.generation("kv.store")), (Some(1), 1));
    }
    let open = platform_control::Bind { failure: FailureMode::Open, ..bind(&["good"]) };
    assert_eq!(reason(&daemon.control.bind("kv.store".parse().unwrap(), open).await), "FAILURE_MODE_INVALID");
    let stale = platform_control::Bind { if_generation: Some(0), ..bind(&["good"]) };
    assert_eq!(reason(&daemon.control.bind("kv.store".parse().unwrap(), stale).await), "GENERATION_MISMATCH");
    let dry = platform_control::Bind { dry_run: true, if_generation: Some(1), ..bind(&["good"]) };
    assert!(daemon.control.bind("kv.store".parse().unwrap(), dry).await.unwrap().ready);
    assert_eq!(daemon.generation("kv.store"), 1);
    let history = daemon.control.history(&"kv.store".parse().unwrap(), &PageRequest::default()).await.unwrap();
    assert_eq!(history.items.len(), 1, "nothing that failed is on record");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_in_use_stay() {
    let place = Place::new();
    let daemon = place.start().await;
    daemon.install(&Guest::kv("kv", "0.1.0", 1)).await;
    daemon.install(&Guest::kv("kv", "0.2.0", 2)).await;
    daemon.bind("kv.store", "kv@0.1.0").await.unwrap();
    daemon.bind("kv.store/team", "kv@0.2.0").await.unwrap();
    let uninstall = |plugin: &str| daemon.control.uninstall(plugin.parse::<Reference>().unwrap(), "ada".to_owned());
    assert_eq!(reason(&uninstall("kv@0.1.0").await), "PLUGIN_IN_USE");
    assert_eq!(daemon.control.plugin(&"kv".parse().unwrap()).unwrap().bound, ["kv.store/team".parse().unwrap()]);
    daemon.bind("kv.store", "kv@0.2.0").await.unwrap();
    let result = uninstall("kv@0.1.0").await;
    assert_eq!(reason(&result), "PLUGIN_IN_USE", "a rollback would need it");
    assert!(result.unwrap_err().to_string().contains("generation 1 of `kv.store`"));
    daemon.bind("kv.store", "kv@0.2.0").await.unwrap();
    let files = place.listing("plugins").len();
    assert_eq!(uninstall("kv@0.1.0").await.unwrap().len(), 1);
    assert_eq!(place.listing("plugins").len(), files - 1);
    assert_eq!(reason(&uninstall("kv@0.1.0").await), "PLUGIN_NOT_FOUND");
    let back = daemon.control.rollback("kv.store".parse().unwrap(), Some(1), "ada".to_owned()).await;
    assert_eq!(reason(&back), "PLUGIN_NOT_FOUND");
    assert_eq!(daemon.revision().await, Some(2));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slot_changes_in_turn_and_many_in_parallel() {
    let place = Place::new();
    let daemon = place.start().await;
    for (name, revision) in [("a", 1), ("b", 2)] {
        daemon.install(&Guest::kv(name, "0.1.0", revision)).await;
    }
    let same = (0..12).map(|number| daemon.bind("kv.store", if number % 2 == 0 { "a" } else { "b" }));
    let slots: Vec<_> = (0..12).map(|number| format!("kv.store/n{number}")).collect();
    let others = slots.iter().map(|slot| daemon.bind(slot, "a"));
    let (same, others) =
        futures::future::join(futures::future::join_all(same), futures::future::join_all(others)).await;
    let mut generations: Vec<_> = same.into_iter().map(|view| view.unwrap().binding.generation).collect();
    generations.sort_unstable();
    assert_eq!(generations.last(), Some(&12), "{generations:?}");
    assert!(others.into_iter().all(|view| view.unwrap().binding.generation == 1));
    let last = daemon.control.slot(&"kv.store".parse().unwrap()).unwrap();
    let serving = if last.binding.chain[0].name.as_str() == "a" { 1 } else { 2 };
    assert_eq!((daemon.revision().await, daemon.generation("kv.store")), (Some(serving), 12));
    let page = daemon.control.slots(&PageRequest { limit: 5, token: String::new() });
    let next = daemon.control.slots(&PageRequest { limit: 50, token: page.next });
    assert_eq!(page.items.len() + next.items.len(), 13);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_and_fallbacks_are_bound_together() {
    let place = Place::new();
    let daemon = place.start().await;
    for name in ["first", "second", "strict"] {
        daemon.install(&Guest::auth(name)).await;
    }
    let request = platform_control::Bind {
        failure: FailureMode::Fallback("strict".parse().unwrap()),
        ..bind(&["first", "second"])
    };
    let view = daemon.control.bind("auth.policy/payments".parse().unwrap(), request).await.unwrap();
    assert_eq!(view.binding.chain.len(), 2);
    assert_eq!(view.binding.fallback.as_ref().unwrap().name.as_str(), "strict");
    assert_eq!(view.status.unwrap().entries.len(), 3);
    let uninstall = daemon.control.uninstall("strict".parse().unwrap(), "ada".to_owned()).await;
    assert_eq!(reason(&uninstall), "PLUGIN_IN_USE");
    let missing =
        platform_control::Bind { failure: FailureMode::Fallback("nobody".parse().unwrap()), ..bind(&["first"]) };
    assert_eq!(reason(&daemon.control.bind("auth.policy".parse().unwrap(), missing).await), "PLUGIN_NOT_FOUND");
    let long = bind(&["first"; 33]);
    assert_eq!(reason(&daemon.control.bind("auth.policy".parse().unwrap(), long).await), "CHAIN_INVALID");
    daemon.stop().await;
}
