//! Grants, and circles of slots that call each other.

use crate::{
    daemon::{Place, reason},
    guest::Guest,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_import_needs_its_grant_and_a_changed_grant_is_a_new_generation() {
    let place = Place::new();
    let daemon = place.start().await;
    let installed = daemon.install(&Guest::kv("kv", "0.1.0", 1).importing("platform:storage/table@0.1.0")).await;
    let requested: Vec<_> = installed.plugin.requested.iter().map(ToString::to_string).collect();
    assert_eq!(requested, ["storage"], "an import asks for its grant");
    assert!(installed.plugin.grants.is_empty(), "what is asked for is not given");
    let result = daemon.bind("kv.store", "kv").await;
    assert_eq!(reason(&result), "GRANT_MISSING");
    let text = result.unwrap_err().to_string();
    assert!(text.contains("`platform:storage/"), "{text}");

    daemon.grant("kv", &["storage"], &[]).await.unwrap();
    daemon.bind("kv.store", "kv").await.unwrap();
    daemon.bind("kv.store/team", "kv").await.unwrap();
    daemon.grant("kv", &["wasi", "network:redis:6379"], &[]).await.unwrap();
    assert_eq!((daemon.generation("kv.store"), daemon.generation("kv.store/team")), (2, 2));
    let slot = daemon.control.slot(&"kv.store".parse().unwrap()).unwrap();
    assert_eq!(slot.binding.chain[0].grants.len(), 3);
    assert_eq!(slot.status.unwrap().entries[0].grants.len(), 3);
    daemon.grant("kv", &["wasi"], &[]).await.unwrap();
    assert_eq!(daemon.generation("kv.store"), 2, "nothing changed");

    assert_eq!(reason(&daemon.grant("kv", &[], &["storage"]).await), "GRANT_MISSING");
    let plugin = daemon.control.plugin(&"kv".parse().unwrap()).unwrap().plugin;
    assert_eq!(plugin.grants.len(), 3, "a grant that is needed stays");
    assert_eq!((daemon.generation("kv.store"), daemon.revision().await), (2, Some(1)));

    daemon.grant("kv", &[], &["wasi"]).await.unwrap();
    daemon.control.rollback("kv.store".parse().unwrap(), Some(2), "ada".to_owned()).await.unwrap();
    let slot = daemon.control.slot(&"kv.store".parse().unwrap()).unwrap();
    assert_eq!(slot.status.unwrap().entries[0].grants.len(), 2, "a rollback does not bring a grant back");
    daemon.stop().await;

    let daemon = place.start().await;
    let plugin = daemon.control.plugin(&"kv".parse().unwrap()).unwrap().plugin;
    assert_eq!(plugin.grants.len(), 2, "grants outlive a restart");
    assert_eq!(daemon.revision().await, Some(1));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn circles_are_refused_by_name() {
    let place = Place::new();
    let daemon = place.start().await;
    daemon.install(&Guest::kv("plain", "0.1.0", 1)).await;
    daemon.install(&Guest::kv("cache", "0.1.0", 1).importing("platform:kv/store@0.1.0")).await;
    daemon.install(&Guest::kv("finder", "0.1.0", 1).importing("platform:discovery/registry@0.1.0")).await;
    daemon.install(&Guest::discovery("keeper").importing("platform:kv/store@0.1.0")).await;
    daemon.grant("cache", &["kv"], &[]).await.unwrap();
    daemon.grant("finder", &["discovery"], &[]).await.unwrap();
    daemon.grant("keeper", &["kv"], &[]).await.unwrap();

    let result = daemon.bind("kv.store", "cache").await;
    assert_eq!(reason(&result), "SLOT_CYCLE");
    assert!(result.unwrap_err().to_string().contains("`kv.store` calls `kv.store`"));
    daemon.bind("kv.store", "plain").await.unwrap();
    daemon.bind("discovery.registry", "keeper").await.unwrap();
    for slot in ["kv.store", "kv.store/team"] {
        let result = daemon.bind(slot, "finder").await;
        assert_eq!(reason(&result), "SLOT_CYCLE");
        let text = result.unwrap_err().to_string();
        assert!(text.contains(&format!("`{slot}` calls `discovery.registry` calls `{slot}`")), "{text}");
    }
    assert_eq!(daemon.revision().await, Some(1));
    daemon.stop().await;
}
