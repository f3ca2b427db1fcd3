//! Real `wkg`, the client of the Bytecode Alliance: what it pushes is ours to take, and the other way round.

use std::fs;

use platform_testkit::Protection;
use serde_json::json;

use super::{Market, READER, index::bytes};
use crate::{
    registry::{found, registry},
    support::plugins,
};

#[test]
fn wkg_takes_what_we_push_and_we_take_what_it_pushes() {
    if !found("wkg") {
        return;
    }
    let market = Market::start("");
    market.log_in();
    let component = plugins().join("kv-memory.wasm");
    let file = component.to_str().unwrap();
    let out = market.root.path().join("out.wasm");
    let out = out.to_str().unwrap();
    let wkg = |address: &str, verb: &str, more: &[&str]| {
        market.runs("wkg", &[&["oci", verb, "--insecure", address][..], more].concat())
    };
    let own = market.address.as_str();
    let at = |address: &str, name: &str| format!("{address}/{name}");

    // In the daemon's registry, where it is inspected and listed.
    wkg(own, "push", &[&at(own, "wkg/store:1.0.0"), file]);
    market.plugin(&["pull", &at(own, "wkg/store@^1"), "--file", out]);
    assert!(fs::read(out).unwrap() == bytes("kv-memory"));
    let told = market.api(READER, "/v1/marketplace/wkg/store").json();
    assert_eq!(told["listing"]["newest"]["slot"], json!("kv.store"), "{told}");
    market.plugin(&["push", file, &at(own, "ours/store:1.0.0")]);
    fs::remove_file(out).unwrap();
    wkg(own, "pull", &[&at(own, "ours/store:1.0.0"), "--output", out]);
    assert!(fs::read(out).unwrap() == bytes("kv-memory"));

    // In the registry of the distribution project, from where the daemon installs it unless a byte is another.
    let Some(registry) = registry(&Protection::default()) else { return };
    let theirs = registry.address().to_string();
    wkg(&theirs, "push", &[&at(&theirs, "store:1.0.0"), file]);
    let data = market.data.to_str().unwrap();
    let install = format!("oci://{}", at(&theirs, "store:1.0.0"));
    let installed = market.plugin(&["--data-dir", data, "install", &install]);
    assert_eq!(installed["plugin"]["name"], "kv-memory", "{installed}");
    let digest = platform_runtime::Digest::of(&bytes("kv-memory"));
    let blob = registry.blob(&digest.hex());
    let mut flipped = fs::read(&blob).unwrap();
    flipped[1000] ^= 1;
    fs::write(&blob, flipped).unwrap();
    let said = market.daemon.fails(2, &["plugin", "install", &install, "--name", "flipped"]);
    assert!(said.contains("sha256"), "{said}");
    market.daemon.stop();
}
