//! `platform plugin verify`: a component is tried without a daemon.

use std::{fs, process::Output};

use crate::support::{platform, plugins, text};

fn verify(file: &str, arguments: &[&str]) -> Output {
    let file = plugins().join("..").join(file);
    let mut command = platform();
    command.args(["plugin", "verify"]).arg(file).arg("--plugins-dir").arg(plugins()).args(arguments);
    command.output().unwrap()
}

#[test]
fn a_good_component_keeps_its_promises_and_scripts_read_so() {
    let output = verify("plugins/router-round-robin.wasm", &["--output", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (report["slot"].as_str(), report["beside"].as_str()),
        (Some("router.policy"), Some("discovery-storage"))
    );
    assert_eq!((report["failed"].as_u64(), report["passed"].as_u64()), (Some(0), Some(6)));
    assert!(report["checks"].as_array().unwrap().iter().all(|check| check["passed"] == true), "{report}");
}

#[test]
fn a_broken_provider_is_told_what_it_breaks() {
    let output = verify("testkit/kv-counts.wasm", &["--only", "a"]);
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{printed}{}", text(&output.stderr));
    assert!(printed.contains("FAILED") && printed.contains("reads-what-was-written"), "{printed}");
    assert!(printed.contains("`revision` failed: Error::Other(\"it only counts\")"), "{printed}");
    assert!(printed.trim_end().ends_with("promises checked"), "{printed}");
}

#[test]
fn promises_that_are_not_made_are_left_out() {
    let output = verify("testkit/kv-counts.wasm", &["--only", "fences", "--output", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let counts = ["failed", "passed", "leftOut"].map(|name| report[name].as_u64());
    assert_eq!(counts, [Some(0), Some(0), Some(1)]);
    assert!(report["checks"][0]["leftOut"].as_str().unwrap().contains("can't take over"), "{report}");
}

#[test]
fn what_can_not_be_tried_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage.wasm");
    fs::write(&garbage, "no component").unwrap();
    for (file, arguments, code, words) in [
        (garbage.to_str().unwrap(), &[][..], 1, "component"),
        ("plugins/missing.wasm", &[], 2, "missing.wasm"),
        ("plugins/kv-redis.wasm", &["--settings", "{\"url\": \"redis://127.0.0.1:1\"}"], 1, "wasi"),
        ("plugins/kv-storage.wasm", &["--only", "nothing-like-it"], 2, "reads-what-was-written"),
        ("plugins/kv-storage.wasm", &["--settings", "{\"what\": 1}"], 1, "what"),
    ] {
        let output = verify(file, arguments);
        let complaint = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{file}: {complaint}");
        assert!(complaint.contains(words), "{file}: {complaint}");
    }
}
