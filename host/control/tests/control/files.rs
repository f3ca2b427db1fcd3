//! Bad files: each is refused with its reason, leaves nothing behind, and the old generation keeps serving.

use std::path::Path;

use crate::{
    daemon::{Place, reason},
    guest::Guest,
};

/// Any reason: it depends on which bytes are hit.
const ANY: &str = "ANY";

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_file_is_refused_by_reason_and_leaves_no_trace() {
    let place = Place::new();
    let daemon = place.start().await;
    daemon.install(&Guest::kv("good", "0.1.0", 7)).await;
    daemon.bind("kv.store", "good").await.unwrap();
    let (plugins, artifacts) = (place.listing("plugins"), place.listing("artifacts"));

    let good = Guest::kv("bad", "0.1.0", 8);
    let component = good.component();
    let mut flipped = component.clone();
    let middle = flipped.len() / 2;
    flipped[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0x5a);
    let cases = [
        ("empty", Vec::new(), "NOT_A_COMPONENT"),
        ("text", b"#!/bin/sh\necho".to_vec(), "NOT_A_COMPONENT"),
        ("zeros", vec![0; 1 << 20], "NOT_A_COMPONENT"),
        ("200 MB of zeros", vec![0; 200_000_000], "COMPONENT_TOO_LARGE"),
        ("core module", good.module(), "CORE_MODULE"),
        ("truncated", component[..component.len() * 2 / 3].to_vec(), "COMPONENT_TRUNCATED"),
        ("flipped", flipped, ANY),
        ("newer WIT", good.clone().against("platform:kv@0.1.0", "platform:kv@0.2.0").component(), "WIT_MISMATCH"),
        ("other type", good.clone().against("by: s64", "by: s32").component(), "WIT_MISMATCH"),
        ("manifest", good.clone().manifest("{").component(), "MANIFEST_INVALID"),
        (
            "bad name",
            good.clone().manifest(r#"{"name":"../../etc/x","version":"0.1.0"}"#).component(),
            "MANIFEST_INVALID",
        ),
        ("bad version", good.clone().manifest(r#"{"name":"x","version":"../1"}"#).component(), "VERSION_INVALID"),
        ("no name", good.clone().manifest("").component(), "NAME_MISSING"),
        (
            "other slot",
            good.clone().manifest(r#"{"name":"x","version":"0.1.0","slot":"auth.policy"}"#).component(),
            "SLOT_MISMATCH",
        ),
        ("bad schema", good.clone().member("settings_schema", r#"{"type":7}"#).component(), "MANIFEST_INVALID"),
        (
            "remote schema",
            good.clone().member("settings_schema", r#"{"$ref":"file:///etc/passwd"}"#).component(),
            "MANIFEST_INVALID",
        ),
        ("same version", Guest::kv("good", "0.1.0", 9).component(), "VERSION_EXISTS"),
    ];
    for (what, bytes, expected) in cases {
        let result = daemon.install_bytes(bytes).await;
        let refused = if expected == ANY { result.is_err() } else { reason(&result) == expected };
        assert!(refused, "{what}: {result:?}");
        assert_eq!(place.listing("plugins"), plugins, "{what}");
        assert_eq!(place.listing("artifacts"), artifacts, "{what}");
        assert_eq!(daemon.control.plugins(&Default::default()).unwrap().items.len(), 1, "{what}");
        assert_eq!(daemon.revision().await, Some(7), "{what}");
    }
    let trail = daemon.control.audit("", &Default::default()).await.unwrap();
    assert_eq!(trail.items.iter().filter(|record| !record.event.done).count(), 17, "refusals are on record");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentences_say_what_differs_and_what_to_do() {
    let place = Place::new();
    let daemon = place.start().await;
    let good = Guest::kv("bad", "0.1.0", 8);
    for (bytes, sentence) in [
        (good.module(), "wasm-tools component new"),
        (
            good.clone().against("platform:kv@0.1.0", "platform:kv@0.2.0").component(),
            "`platform:kv/store@0.2.0` is newer than this platform, which offers 0.1.0",
        ),
        (
            good.clone().against("by: s64", "by: s32").component(),
            "function `increment` of `platform:kv/store@0.1.0`: parameter `by` is `s32`, expected `s64`",
        ),
        (
            good.clone().against("    quota(string),\n", "").component(),
            "variant `error` of `platform:kv/types@0.1.0` lacks case `quota`",
        ),
    ] {
        let text = daemon.install_bytes(bytes).await.unwrap_err().to_string();
        assert!(text.contains(sentence), "{text}");
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn installing_again_repairs_and_a_dry_run_keeps_nothing() {
    let place = Place::new();
    let daemon = place.start().await;
    let guest = Guest::kv("kv", "0.1.0", 1);
    let request = platform_control::Install { dry_run: true, by: "ada".to_owned(), ..Default::default() };
    let tried = daemon.control.install(guest.component().into(), request).await.unwrap();
    assert!(!tried.existed);
    assert_eq!(place.listing("plugins"), Vec::<String>::new());
    assert_eq!(place.listing("artifacts"), Vec::<String>::new());

    assert!(!daemon.install(&guest).await.existed);
    let file = place.listing("plugins").pop().unwrap();
    std::fs::write(&file, b"damaged").unwrap();
    let result = daemon.bind("kv.store", "kv").await;
    assert_eq!(reason(&result), "COMPONENT_DAMAGED");
    assert!(result.unwrap_err().to_string().contains(&file));
    assert!(daemon.install(&guest).await.existed);
    daemon.bind("kv.store", "kv").await.unwrap();
    assert_eq!(daemon.revision().await, Some(1));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_and_version_can_be_given_to_a_component_without_a_manifest() {
    let place = Place::new();
    let daemon = place.start().await;
    let bytes = Guest::kv("kv", "0.1.0", 3).manifest("").component();
    let request = |name: &str| platform_control::Install {
        name: Some(name.to_owned()),
        version: Some("2.0.0".to_owned()),
        ..Default::default()
    };
    let bad = daemon.control.install(bytes.clone().into(), request("../x")).await;
    assert_eq!(reason(&bad), "NAME_INVALID");
    let plugin = daemon.control.install(bytes.into(), request("mine")).await.unwrap().plugin;
    assert_eq!(plugin.label(), "mine@2.0.0");
    daemon.bind("kv.store", &plugin.digest.to_string()).await.unwrap();
    assert_eq!(daemon.revision().await, Some(3));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn components_that_ship_are_installed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist/plugins");
    let place = Place::new();
    let daemon = place.start().await;
    let mut installed = 0;
    for entry in std::fs::read_dir(&folder).expect("`cargo xtask plugins` builds them") {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            let done = daemon.install_bytes(std::fs::read(&path).unwrap()).await;
            let done = done.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            // Where its server is, only whoever binds it knows.
            let servers = path
                .file_stem()
                .is_some_and(|name| ["kv-redis", "db-postgres", "config-http"].iter().any(|one| name == *one));
            let expected: &[&str] = if servers {
                &["it imports sockets or HTTP; grant it `network:HOST:PORT` for each server that it may reach"]
            } else {
                &[]
            };
            assert_eq!(done.warnings, expected, "{}", path.display());
            installed += 1;
        }
    }
    assert!(installed > 0, "`cargo xtask plugins` builds them");
    daemon.stop().await;
}
