//! What is published is tried by the marketplace itself, and what lies beside it is told.

use std::{fs, path::Path};

use platform_testkit::Protection;
use serde_json::{Value, json};

use super::{
    Market, READER,
    index::{bytes, patched},
};
use crate::{
    registry::{found, registry},
    support::{http, http_body, platform, plugins, text, wait_for},
};

/// A file of the guests of tests.
fn guest(name: &str) -> Vec<u8> {
    fs::read(plugins().join("../testkit").join(name).with_extension("wasm")).unwrap()
}

/// Settings that the schema of `router-ring-hash` takes and the component refuses.
fn lying() -> Vec<u8> {
    let bounds = r#""minimum": 1, "maximum": 10000, "default": 160}"#;
    patched(&bytes("router-ring-hash"), bounds, r#""minimum": 0, "maximum": 10000, "default": 0  }"#)
}

impl Market {
    /// The only version of a name as a publisher sees it, once it was tried.
    pub(super) fn tried(&self, name: &str) -> Value {
        wait_for(&format!("`{name}` to be tried"), || {
            let told = self.api(super::PUBLISHER, &format!("/v1/marketplace/{name}")).json();
            let version = told["versions"][0].clone();
            version.get("report").is_some().then_some(version)
        })
    }
}

#[test]
fn what_is_published_is_tried_before_it_is_listed() {
    let market = Market::start("require_conformance = true");
    for (name, component) in [
        ("team/kv-memory", bytes("kv-memory")),
        ("team/counts", guest("kv-counts")),
        ("team/ring", lying()),
        ("team/redis", bytes("kv-redis")),
    ] {
        let put = market.component(name, "1.0.0", &component);
        assert_eq!(put.status, 201, "{name}: {}", String::from_utf8_lossy(&put.body));
    }

    // Nothing of it is listed before it passed, and publishers are told why.
    let version = market.tried("team/kv-memory");
    let report = &version["report"];
    assert_eq!((&report["verdict"], &version["unlisted"]), (&json!("VERDICT_PASSED"), &json!("")), "{version}");
    assert!(report["kept"].as_str().unwrap().parse::<u32>().unwrap() > 10, "{report}");
    assert_eq!(report["platform"], env!("CARGO_PKG_VERSION"));
    let (own, reference) = (&report["measured"], &report["reference"]);
    assert_eq!((&own["component"], &reference["component"]), (&json!("kv-memory"), &json!("kv-memory")), "{report}");
    let number = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
    assert!(number(&own["p50Ns"]) <= number(&own["p99Ns"]) && number(&own["memoryBytes"]) > 0, "{own}");
    assert!(report["p50Ratio"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!((market.tag("team/kv-memory", "1.0.0"), market.found("")), (200, vec!["team/kv-memory".to_owned()]));

    for (name, verdict, words) in [
        ("team/counts", "VERDICT_FAILED", "promises of `kv.store`"),
        ("team/ring", "VERDICT_FAILED", "the schema of its settings takes"),
        ("team/redis", "VERDICT_NOT_TRIED", "no settings are known that its schema takes"),
    ] {
        let version = market.tried(name);
        assert_eq!(version["report"]["verdict"], verdict, "{version}");
        let why = version["unlisted"].as_str().unwrap();
        assert!(why.contains(words), "{name}: {why}");
        assert_eq!(
            (market.tag(name, "1.0.0"), market.api(READER, &format!("/v1/marketplace/{name}")).status),
            (404, 404)
        );
    }
    let broken = market.tried("team/counts")["report"]["broken"].clone();
    assert!(broken.as_array().unwrap().iter().any(|one| one["found"].as_str().unwrap().contains("it only counts")));
    let shown = market.daemon.ok(&["plugin", "show", "team/kv-memory"]);
    assert!(shown.contains("promises checked") && shown.contains("in the same run"), "{shown}");
    let shown = market.daemon.ok(&["plugin", "show", "team/counts"]);
    assert!(shown.contains("FAILED") && shown.contains("no: it was tried and failed"), "{shown}");
    assert!(market.daemon.ok(&["plugin", "search"]).contains("passed"));

    // What was interrupted is begun anew, and what was found is kept.
    assert_eq!(market.component("team/scopes", "1.0.0", &bytes("auth-scopes")).status, 201);
    let market = market.killed();
    assert_eq!(market.tag("team/kv-memory", "1.0.0"), 200);
    let version = market.tried("team/scopes");
    assert_eq!(version["report"]["verdict"], "VERDICT_PASSED", "{version}");
    assert_eq!(version["report"]["reference"]["component"], "auth-scopes", "{version}");
    let listed = wait_for("it to be listed", || Some(market.found("")).filter(|found| found.len() > 1));
    assert_eq!(listed, ["team/kv-memory", "team/scopes"]);
    // The same bytes under another name need no second trial.
    assert_eq!(market.component("other/memory", "1.0.0", &bytes("kv-memory")).status, 201);
    assert_eq!(market.tag("other/memory", "1.0.0"), 200);

    let (_, metrics) = http_body(&market.address, "/metrics").unwrap();
    for line in [
        "platform_registry_requests_total{operation=\"push-manifest\",status=\"201\"} 1",
        "platform_registry_bytes_in_total ",
        "platform_registry_bytes_out_total ",
        "platform_registry_uploads_open 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    market.daemon.stop();
}

#[test]
fn a_report_is_made_for_whoever_asks() {
    let report = |file: &Path, arguments: &[&str]| {
        let mut command = platform();
        command.args(["plugin", "report"]).arg(file).arg("--plugins-dir").arg(plugins()).args(arguments);
        let output = command.args(["--for", "50ms"]).output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr)));
        (output.status.code(), told)
    };
    let (code, told) = report(&plugins().join("router-ring-hash.wasm"), &[]);
    assert_eq!((code, &told["verdict"]), (Some(0), &json!("passed")), "{told}");
    let settings: Value = serde_json::from_str(told["settings"].as_str().unwrap()).unwrap();
    assert_eq!(settings, json!({"max_points": 65536, "points": 160}));
    assert_eq!(told["reference"]["component"], "router-round-robin", "{told}");
    let (code, told) = report(&plugins().join("router-ring-hash.wasm"), &["--settings", "{\"points\": 0}"]);
    assert_eq!((code, &told["verdict"]), (Some(1), &json!("not-tried")), "{told}");
    assert!(told["why"].as_str().unwrap().contains("examples"), "{told}");
}

/// Files that are published beside a component.
fn files(folder: &Path) -> [String; 3] {
    let write = |name: &str, text: &str| {
        let file = folder.join(name);
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    [
        write("README.md", "# A store\n<img src=x onerror=alert(1)>\u{1b}[2J\n"),
        write("sbom.json", r#"{"bomFormat": "CycloneDX", "specVersion": "1.6"}"#),
        write("report.json", r#"{"passed": 7}"#),
    ]
}

#[test]
fn what_lies_beside_a_component_is_published_and_told() {
    let market = Market::start("");
    market.log_in();
    let component = plugins().join("kv-memory.wasm");
    let file = component.to_str().unwrap();
    let [readme, sbom, report] = files(market.root.path());
    let at = format!("{}/team/store:1.2.0", market.address);
    let push = || market.plugin(&["push", file, &at, "--readme", &readme, "--sbom", &sbom, "--report", &report]);
    let pushed = push();
    assert_eq!(pushed["beside"].as_array().unwrap().len(), 3, "{pushed}");
    assert_eq!(push()["beside"], pushed["beside"], "again it is the same");

    let told = market.api(READER, "/v1/marketplace/team/store").json();
    let of = |kind: &str| told["attachments"].as_array().unwrap().iter().find(|one| one["kind"] == kind).cloned();
    for (kind, media_type) in [
        ("readme", "text/markdown"),
        ("sbom", "application/vnd.cyclonedx+json"),
        ("report", "application/vnd.platform.report.v1+json"),
    ] {
        let one = of(kind).unwrap_or_else(|| panic!("{kind}: {told}"));
        assert_eq!((&one["mediaType"], &one["artifactType"]), (&json!(media_type), &json!(media_type)), "{one}");
        assert_eq!(one["publisher"], "pia");
        let content = market.get(&format!("/v2/team/store/blobs/{}", one["content"].as_str().unwrap()));
        assert_eq!(content.body.len().to_string(), one["size"].as_str().unwrap());
    }
    assert_eq!(told["attachments"].as_array().unwrap().len(), 3);
    assert_eq!(told["readme"].as_str().unwrap(), fs::read_to_string(&readme).unwrap(), "as it was written");
    let schema: Value = serde_json::from_str(told["settingsSchema"].as_str().unwrap()).unwrap();
    assert!(schema["properties"]["max_bytes"].is_object(), "{schema}");
    assert_eq!(told["version"], "1.2.0");
    assert_eq!(market.api(READER, "/v1/marketplace/team/store?version=9.9.9").status, 404);
    let shown = market.daemon.ok(&["plugin", "show", "team/store"]);
    assert!(shown.contains("sbom of pia") && shown.contains("max_bytes"), "{shown}");
    let shown = market.daemon.ok(&["plugin", "show", "team/store", "--of", "1.2.0", "--readme"]);
    assert!(shown.starts_with("# A store\n<img") && !shown.contains('\u{1b}'), "{shown}");

    // A README that somebody else attaches is not the publisher's.
    let admin = market.daemon.token();
    market.plugin(&["push", file, &format!("{}/team/other:1.0.0", market.address)]);
    let password = market.root.path().join("admin");
    fs::write(&password, admin).unwrap();
    let by_admin = ["--username", "root", "--password-file", password.to_str().unwrap(), "--readme", &readme];
    let other = format!("{}/team/other:1.0.0", market.address);
    market.plugin(&[&["push", file, &other][..], &by_admin].concat());
    let told = market.api(READER, "/v1/marketplace/team/other").json();
    assert_eq!(
        (told["readme"].as_str().unwrap_or_default(), told["attachments"].as_array().unwrap().len()),
        ("", 1),
        "{told}"
    );
    assert!(market.daemon.fails(1, &["plugin", "show", "team/other", "--readme"]).contains("no README"));

    // What is not what it should be is not published, and neither is the component.
    for (option, wrong, words) in [("--sbom", &report, "neither SPDX"), ("--report", &readme, "JSON")] {
        let refused = market.tool("platform", &["plugin", "push", file, &format!("{at}-rc.1"), option, wrong]);
        assert!(!refused.status.success() && text(&refused.stderr).contains(words), "{}", text(&refused.stderr));
    }
    assert_eq!(market.tag("team/store", "1.2.0-rc.1"), 404);
    if found("oras") {
        let listed = market.tool("oras", &["discover", "--plain-http", "--format", "json", &at]);
        assert!(text(&listed.stdout).contains("cyclonedx"), "{}{}", text(&listed.stdout), text(&listed.stderr));
    }
    market.daemon.stop();
}

#[test]
fn what_lies_beside_a_component_is_found_in_registries_that_keep_no_list() {
    let Some(registry) = registry(&Protection::default()) else { return };
    let market = Market::start("");
    let [readme, sbom, report] = files(market.root.path());
    let at = format!("{}/store:1.0.0", registry.address());
    let component = plugins().join("kv-memory.wasm");
    let push = ["push", component.to_str().unwrap(), &at, "--readme", &readme, "--sbom", &sbom, "--report", &report];
    let pushed = market.plugin(&push);
    market.plugin(&push);
    let digest = pushed["digest"].as_str().unwrap().replace(':', "-");
    let accept = "accept: application/vnd.oci.image.index.v1+json\r\n";
    let (address, path) = (registry.address().to_string(), format!("/v2/store/manifests/{digest}"));
    let (_, _, index) = http(&address, "GET", &path, accept, "").unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    let types: Vec<&str> =
        index["manifests"].as_array().unwrap().iter().map(|one| one["artifactType"].as_str().unwrap()).collect();
    assert_eq!(
        types,
        ["text/markdown", "application/vnd.cyclonedx+json", "application/vnd.platform.report.v1+json"],
        "each once"
    );
    if found("oras") {
        let listed = market.tool("oras", &["discover", "--plain-http", "--format", "json", &at]);
        assert!(text(&listed.stdout).contains("text/markdown"), "{}{}", text(&listed.stdout), text(&listed.stderr));
    }
    market.daemon.stop();
}
