//! The index: what is inspected when it is pushed, what is listed and found, and whose a name is.

use std::fs;

use platform_runtime::Digest;
use serde_json::json;

use super::{MANIFEST, Market, PUBLISHER, READER, Reply};
use crate::support::{plugins, text, wait_for};

const CONFIG: &str = "application/vnd.wasm.config.v0+json";

impl Market {
    /// Pushes bytes as a component.
    pub(super) fn component(&self, name: &str, reference: &str, bytes: &[u8]) -> Reply {
        self.component_with(name, reference, bytes, b"{}")
    }

    /// The same with a configuration.
    fn component_with(&self, name: &str, reference: &str, bytes: &[u8], config_bytes: &[u8]) -> Reply {
        let (config, layer) = (self.blob(name, config_bytes), self.blob(name, bytes));
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config, "size": config_bytes.len()},
            "layers": [{"mediaType": "application/wasm", "digest": layer, "size": bytes.len()}],
        });
        let path = format!("/v2/{name}/manifests/{reference}");
        self.push("PUT", &path, &[("content-type", MANIFEST)], manifest.to_string().as_bytes())
    }

    pub(super) fn api(&self, token: &str, path: &str) -> Reply {
        self.ask(token, "GET", path, &[], b"")
    }

    /// Names that a search finds.
    pub(super) fn found(&self, query: &str) -> Vec<String> {
        let reply = self.api(READER, &format!("/v1/marketplace{query}"));
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        let found = reply.json();
        let listings = found["listings"].as_array().cloned().unwrap_or_default();
        listings.iter().map(|listing| listing["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Status of a version's tag for those who only read.
    pub(super) fn tag(&self, name: &str, tag: &str) -> u16 {
        self.api(READER, &format!("/v2/{name}/manifests/{tag}")).status
    }
}

pub(super) fn bytes(name: &str) -> Vec<u8> {
    fs::read(plugins().join(name).with_extension("wasm")).unwrap()
}

/// The same bytes with each of one text replaced by another that is as long.
pub(super) fn patched(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let (mut patched, mut at) = (bytes.to_vec(), 0);
    while let Some(found) = patched[at..].windows(from.len()).position(|window| window == from.as_bytes()) {
        patched[at + found..at + found + to.len()].copy_from_slice(to.as_bytes());
        at += found + to.len();
    }
    assert_ne!(patched, bytes, "`{from}` is there");
    patched
}

#[test]
fn components_are_inspected_listed_and_found() {
    let market = Market::start("");
    let (memory, discovery) = (bytes("kv-memory"), bytes("discovery-storage"));
    refusals(&market, &memory);
    for (name, tag, bytes) in [
        ("team/kv-memory", "1.0.0", &memory),
        ("team/kv-memory", "1.2.0", &memory),
        ("team/kv-memory", "2.0.0-rc.1", &memory),
        ("team/kv-memory", "latest", &memory),
        ("discovery", "0.1.0", &discovery),
        ("other/store", "0.1.0", &memory),
    ] {
        assert_eq!(market.component(name, tag, bytes).status, 201, "{name}:{tag}");
    }
    searches(&market);

    // What is told of a name.
    let told = market.api(READER, "/v1/marketplace/team/kv-memory").json();
    let (listing, newest) = (&told["listing"], &told["listing"]["newest"]);
    assert_eq!(listing["versions"], json!(["1.2.0", "1.0.0", "2.0.0-rc.1"]));
    assert_eq!((&newest["version"], &newest["slot"]), (&json!("1.2.0"), &json!("kv.store")));
    assert_eq!((&newest["component"], &newest["publisher"]), (&json!(Digest::of(&memory)), &json!("pia")));
    assert!(
        newest["exports"]
            .as_array()
            .unwrap()
            .iter()
            .any(|export| export.as_str().unwrap().starts_with("platform:kv/store@"))
    );
    assert_eq!(told["versions"].as_array().unwrap().len(), 3);
    let grants = market.api(READER, "/v1/marketplace/discovery").json()["listing"]["newest"]["grants"].clone();
    assert!(
        grants
            .as_array()
            .unwrap()
            .iter()
            .any(|grant| grant["grant"] == "storage" && grant["words"].as_str().unwrap().contains("tables")),
        "{grants}"
    );
    assert_eq!(market.api(READER, "/v1/marketplace/none").status, 404);

    // Pulls are counted, and the commands tell the same.
    let layer = format!("/v2/team/kv-memory/blobs/{}", Digest::of(&memory));
    (0..3).for_each(|_| assert_eq!(market.api(READER, &layer).body.len(), memory.len()));
    let searched = market.daemon.json(&["plugin", "search", "TEAM", "memory", "--slot", "kv.store"]);
    assert_eq!(
        (&searched["listings"][0]["name"], &searched["listings"][0]["downloads"]),
        (&json!("team/kv-memory"), &json!("3"))
    );
    assert!(market.daemon.ok(&["plugin", "search"]).contains("team/kv-memory"));
    let shown = market.daemon.ok(&["plugin", "show", "discovery"]);
    assert!(shown.contains("tables and journals") && shown.contains("0.1.0"), "{shown}");
    assert!(market.daemon.fails(1, &["plugin", "show", "none"]).contains("nothing is listed as `none`"));
    let openapi = market.api(READER, "/openapi.json").json();
    assert!(openapi["paths"].get("/v1/marketplace").is_some());

    // What is deleted is not listed.
    let admin = market.daemon.token();
    let delete =
        |reference: &str| market.ask(&admin, "DELETE", &format!("/v2/team/kv-memory/manifests/{reference}"), &[], b"");
    assert_eq!(delete("1.2.0").status, 202);
    let listing = |market: &Market| market.api(READER, "/v1/marketplace/team/kv-memory").json()["listing"].clone();
    assert_eq!(listing(&market)["newest"]["version"], "1.0.0");
    let market = market.killed();
    assert_eq!(listing(&market)["versions"], json!(["1.0.0", "2.0.0-rc.1"]), "the index is kept");
    market.daemon.stop();
}

/// A component that is small as a file and exhausts whoever reads or starts it.
fn bomb(inside: &str) -> Vec<u8> {
    wat::parse_str(format!("(component (core module {inside}))")).unwrap()
}

/// What is no component, or lies.
fn refusals(market: &Market, memory: &[u8]) {
    let storage = bytes("kv-storage");
    let told = json!({"component": {"exports": [], "imports": ["platform:kv/types@0.1.0"], "target": null}});
    let hidden = market.component_with("team/wrong", "1.0.0", &storage, told.to_string().as_bytes());
    let said = hidden.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(hidden.status == 400 && said.contains("does not say that the component imports"), "{said}");
    for (what, wrong, words) in [
        ("garbage", b"no component".to_vec(), "no WebAssembly"),
        ("module", b"\0asm\x01\0\0\0".to_vec(), "core module"),
        ("truncated", memory[..memory.len() / 2].to_vec(), ""),
        ("lying", patched(memory, "\"slot\":\"kv.store\"", "\"slot\":\"db.store\""), "db.store"),
        ("broken schema", patched(&bytes("router-ring-hash"), "\"integer\"", "\"integxr\""), "settings_schema"),
        ("unknown imports", patched(memory, "platform:plugin/context", "platform:plugin/contexu"), ""),
        ("huge memory", bomb("(memory 65536)"), "bytes of memory"),
        ("huge table", bomb("(table 4000000000 funcref)"), "table elements"),
        ("many functions", bomb(&format!("(type (func)) {}", "(func)".repeat(400_000))), "functions"),
        ("other WIT", patched(memory, "platform:kv/store@0.1.0", "platform:kv/store@9.1.0"), ""),
    ] {
        let refused = market.component("team/wrong", "1.0.0", &wrong);
        assert_eq!(refused.refusal(), (400, "MANIFEST_INVALID".to_owned()), "{what}");
        let said = refused.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        assert!(said.contains("the component is not taken") && said.contains(words), "{what}: {said}");
    }
    assert_eq!(market.api(PUBLISHER, "/v2/team/wrong/tags/list").status, 404, "nothing of it is there");
}

fn searches(market: &Market) {
    assert_eq!(market.found(""), ["discovery", "other/store", "team/kv-memory"]);
    assert_eq!(market.found("?slot=kv.store"), ["other/store", "team/kv-memory"]);
    assert_eq!(market.found("?text=TEAM%20memory"), ["team/kv-memory"]);
    assert_eq!(market.found("?text=nothing-like-it"), [""; 0]);
    let page = market.api(READER, "/v1/marketplace?limit=2").json();
    assert_eq!(page["listings"].as_array().unwrap().len(), 2);
    assert_eq!(
        market.found(&format!("?limit=2&page_token={}", page["nextPageToken"].as_str().unwrap())),
        ["team/kv-memory"]
    );
    for (query, status) in [(format!("?text={}", "a".repeat(300)), 400), ("?page_token=x".to_owned(), 400)] {
        assert_eq!(market.api(READER, &format!("/v1/marketplace{query}")).status, status);
    }
    let large = format!("?text={}", "a".repeat(1 << 20));
    // What is longer than a request's head may be comes to no door.
    assert_eq!(market.api(READER, &format!("/v1/marketplace{large}")).status, 414);
    let text = "a".repeat(100_000);
    assert!(market.daemon.fails(2, &["plugin", "search", &text]).contains("longer than 256 bytes"));
    assert_eq!(market.api("", "/v1/marketplace").status, 401);
}

#[test]
fn a_name_belongs_to_the_key_that_signed_first() {
    let trust = "[[trust]]\nnames = ['*']\nkeys = ['ours.pub', 'theirs.pub']\nrequired = false";
    let market = Market::start_with(&format!("require_signatures = true\n{trust}"), &["ours", "theirs"]);
    market.log_in();
    let memory = bytes("kv-memory");
    let key = |name: &str| market.data.join(name).with_extension("key").to_str().unwrap().to_owned();
    let sign = |name: &str, by: &str| {
        let url = format!("oci://{}/{name}", market.address);
        market.tool("platform", &["plugin", "sign", &url, "--key", &key(by)])
    };
    let signed = |name: &str, by: &str| {
        let output = sign(name, by);
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    let refused = |name: &str, by: &str| {
        let output = sign(name, by);
        assert!(!output.status.success(), "{name} {by}");
        text(&output.stderr)
    };
    assert_eq!(market.component("team/kv-memory", "1.0.0", &memory).status, 201);
    // Before it is signed only publishers see it.
    assert_eq!((market.found(""), market.tag("team/kv-memory", "1.0.0")), (Vec::new(), 404));
    assert_eq!(market.api(READER, "/v2/team/kv-memory/tags/list").json()["tags"], json!([]));
    assert_eq!(market.api(PUBLISHER, "/v2/team/kv-memory/manifests/1.0.0").status, 200);
    let waiting = market.api(PUBLISHER, "/v1/marketplace/team/kv-memory").json();
    assert!(waiting["versions"][0]["unlisted"].as_str().unwrap().contains("not signed"), "{waiting}");
    assert_eq!(market.api(READER, "/v1/marketplace/team/kv-memory").status, 404);
    signed("team/kv-memory:1.0.0", "ours");
    assert_eq!((market.found(""), market.tag("team/kv-memory", "1.0.0")), (vec!["team/kv-memory".to_owned()], 200));

    // The next version is for the same key, and so are names that look alike.
    let other = bytes("kv-storage");
    assert_eq!(market.component("team/kv-memory", "1.1.0", &other).status, 201);
    assert!(refused("team/kv-memory:1.1.0", "theirs").contains("belongs to the key that signed its first version"));
    assert_eq!(market.tag("team/kv-memory", "1.1.0"), 404);
    signed("team/kv-memory:1.1.0", "ours");
    assert_eq!(market.tag("team/kv-memory", "1.1.0"), 200);
    for alike in ["team/kv_memory", "team/kv-mem0ry", "team/kv--memory"] {
        assert_eq!(market.component(alike, "1.0.0", &memory).status, 201);
        let said = refused(&format!("{alike}:1.0.0"), "theirs");
        assert!(said.contains("looks like `team/kv-memory`"), "{said}");
        assert_eq!(market.tag(alike, "1.0.0"), 404, "{alike}");
    }
    signed("team/kv_memory:1.0.0", "ours");
    assert_eq!(market.component("lab/memory", "1.0.0", &memory).status, 201);
    signed("lab/memory:1.0.0", "theirs");
    assert_eq!(market.found(""), ["lab/memory", "team/kv-memory", "team/kv_memory"]);
    let told = market.api(READER, "/v1/marketplace/lab/memory").json();
    assert!(told["listing"]["newest"]["signer"].as_str().unwrap().starts_with("sha256:"));

    // Whoever is trusted no more is listed no more.
    let file = market.data.join("platform.toml");
    let settings = fs::read_to_string(&file).unwrap().replace("'ours.pub', 'theirs.pub'", "'ours.pub'");
    fs::write(&file, settings).unwrap();
    wait_for("the other key to count no more", || {
        (market.found("") == ["team/kv-memory", "team/kv_memory"]).then_some(())
    });
    assert_eq!(market.tag("lab/memory", "1.0.0"), 404);
    market.daemon.stop();
}
