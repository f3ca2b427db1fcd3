//! Real clients of registries, and our own commands, with the daemon's registry: pushed, pulled, copied, discovered, signed and verified.

use std::{
    fs,
    process::{Command, Output},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use platform_testkit::tool;
use serde_json::{Value, json};

use super::{Market, PUBLISHER};
use crate::{
    registry::found,
    support::{platform, plugins, text},
};

impl Market {
    /// Runs a program that knows the publisher's token as a password.
    pub(super) fn tool(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = if program == "platform" { platform() } else { Command::new(tool(program)) };
        command.env("HOME", self.root.path()).env("DOCKER_CONFIG", self.root.path()).current_dir(self.root.path());
        command.env("COSIGN_PASSWORD", "open sesame").env("XDG_RUNTIME_DIR", self.root.path());
        command.args(arguments).output().unwrap()
    }

    pub(super) fn runs(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.tool(program, arguments);
        let said = || {
            format!("{program} {arguments:?}: {}{}\n{}", text(&output.stdout), text(&output.stderr), self.daemon.log())
        };
        assert!(output.status.success(), "{}", said());
        text(&output.stdout)
    }

    /// Logs all programs in.
    pub(super) fn log_in(&self) {
        let auth = STANDARD.encode(format!("anybody:{PUBLISHER}"));
        let auths = json!({"auths": {&self.address: {"auth": auth}}});
        fs::write(self.root.path().join("config.json"), auths.to_string()).unwrap();
    }

    pub(super) fn plugin(&self, arguments: &[&str]) -> Value {
        let printed = self.runs("platform", &[&["plugin"], arguments, &["--output", "json"]].concat());
        serde_json::from_str(&printed).unwrap()
    }
}

#[test]
fn clients_push_pull_copy_discover_sign_and_verify() {
    if !["oras", "skopeo", "cosign"].into_iter().all(found) {
        return;
    }
    let market = Market::start("");
    let component = plugins().join("kv-memory.wasm");
    let bytes = fs::read(&component).unwrap();
    let file = component.to_str().unwrap();
    let at = |name: &str| format!("{}/{name}", market.address);
    let denied = market.tool("platform", &["plugin", "push", file, &at("team/store:1.2.0")]);
    assert_eq!(denied.status.code(), Some(4), "{}", text(&denied.stderr));
    market.log_in();

    // Our own commands.
    let pushed = market.plugin(&["push", file, &at("team/store:1.2.0")]);
    assert_eq!(market.plugin(&["push", file, &at("team/store:1.2.0")])["existed"], true);
    let other = plugins().join("kv-storage.wasm");
    let replaced =
        market.tool("platform", &["plugin", "push", other.to_str().unwrap(), &at("team/store:1.2.0"), "--replace"]);
    assert!(
        !replaced.status.success() && text(&replaced.stderr).contains("never becomes something else"),
        "{}",
        text(&replaced.stderr)
    );
    market.plugin(&["push", other.to_str().unwrap(), &at("team/store:1.10.0")]);
    let out = market.root.path().join("out.wasm");
    let pulled = market.plugin(&["pull", &at("team/store@^1, <1.5"), "--file", out.to_str().unwrap()]);
    assert_eq!((&pulled["digest"], &pulled["tag"]), (&pushed["digest"], &json!("1.2.0")));
    assert_eq!(fs::read(&out).unwrap(), bytes);
    let data = market.data.to_str().unwrap();
    let installed = market.plugin(&["--data-dir", data, "install", &format!("oci://{}", at("team/store@^1"))]);
    assert_eq!(installed["artifact"]["tag"], "1.10.0");

    let digest = pushed["digest"].as_str().unwrap();
    oras(&market, pushed["component"].as_str().unwrap());
    skopeo(&market, &bytes);
    cosign(&market, &format!("{}@{digest}", at("team/store")));
    market.daemon.stop();
}

/// Fetches, pushes, attaches, discovers and copies.
fn oras(market: &Market, component: &str) {
    let at = |name: &str| format!("{}/{name}", market.address);
    let plain = |arguments: &[&str]| market.runs("oras", &[arguments, &["--plain-http"]].concat());
    let manifest = plain(&["manifest", "fetch", &at("team/store:1.2.0")]);
    assert_eq!(serde_json::from_str::<Value>(&manifest).unwrap()["layers"][0]["digest"], component);
    fs::write(market.root.path().join("report.json"), "{\"passed\": 7}").unwrap();
    let store = at("team/store:1.2.0");
    plain(&["attach", "--artifact-type", "application/vnd.example.report", &store, "report.json:application/json"]);
    let found = plain(&["discover", "--format", "json", &store]);
    assert!(found.contains("application/vnd.example.report"), "{found}");
    let found = plain(&["discover", "--format", "json", "--artifact-type", "application/x.none", &store]);
    assert!(!found.contains("application/vnd.example.report"), "{found}");
    market.runs(
        "oras",
        &["copy", "--recursive", "--from-plain-http", "--to-plain-http", &store, &at("copied/store:1.2.0")],
    );
    assert!(plain(&["discover", "--format", "json", &at("copied/store:1.2.0")]).contains("vnd.example.report"));
    assert_eq!(plain(&["repo", "tags", &at("team/store")]).split_whitespace().collect::<Vec<_>>(), ["1.10.0", "1.2.0"]);
    assert!(plain(&["repo", "ls", &market.address]).contains("copied/store"));
    plain(&["push", &at("files:latest"), "report.json:application/json"]);
    let folder = market.root.path().join("pulled");
    plain(&["pull", &at("files:latest"), "--output", folder.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(folder.join("report.json")).unwrap(), "{\"passed\": 7}");
}

/// Copies between repositories, and through a folder.
fn skopeo(market: &Market, bytes: &[u8]) {
    let at = |name: &str| format!("{}/{name}", market.address);
    let out = market.root.path().join("out.wasm");
    let auth = market.root.path().join("config.json");
    let docker = |name: &str| format!("docker://{}", at(name));
    let copy = |from: &str, to: &str| {
        let options = [
            "--insecure-policy",
            "copy",
            "--all",
            "--preserve-digests",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
        ];
        let files = ["--authfile", auth.to_str().unwrap(), from, to];
        market.runs("skopeo", &[&options[..], &files].concat());
    };
    copy(&docker("team/store:1.2.0"), &docker("skopeo/store:1.2.0"));
    let layout = format!("oci:{}:1.2.0", market.root.path().join("layout").display());
    copy(&docker("skopeo/store:1.2.0"), &layout);
    copy(&layout, &docker("skopeo/again:1.2.0"));
    let tags = ["list-tags", "--tls-verify=false", "--authfile", auth.to_str().unwrap(), &docker("skopeo/again")];
    assert!(market.runs("skopeo", &tags).contains("1.2.0"));
    market.plugin(&["pull", &at("skopeo/again:1.2.0"), "--file", out.to_str().unwrap()]);
    assert_eq!(fs::read(&out).unwrap(), bytes);
}

/// Signs in both forms and verifies, also what our own command signed.
fn cosign(market: &Market, reference: &str) {
    market.runs("cosign", &["generate-key-pair", "--output-key-prefix", "theirs"]);
    let verify = |form: &str, key: &str| {
        let options = ["verify", "--key", key, "--insecure-ignore-tlog=true", form, "--allow-http-registry", reference];
        market.tool("cosign", &options).status.success()
    };
    let (old, new) = ("--new-bundle-format=false", "--new-bundle-format=true");
    assert!(!verify(old, "theirs.pub") && !verify(new, "theirs.pub"));
    for form in [old, new] {
        let offline = ["--tlog-upload=false", "--use-signing-config=false", "--allow-http-registry", form, reference];
        market.runs("cosign", &[&["sign", "--yes", "--key", "theirs.key"][..], &offline].concat());
        assert!(verify(form, "theirs.pub"), "{form}");
    }
    market.plugin(&["keygen", market.root.path().join("ours").to_str().unwrap()]);
    let url = format!("oci://{reference}");
    market.plugin(&["sign", &url, "--key", "ours.key"]);
    assert!(verify(old, "ours.pub") && verify(old, "theirs.pub"));
    assert_eq!(market.plugin(&["verify-signature", &url, "--key", "theirs.pub"])["signed"], true);
}
