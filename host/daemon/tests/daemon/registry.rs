//! Components in a registry: pushed, pulled and installed by the commands, with the registry of the distribution project.

mod hostile;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use platform_testkit::{Authority, Protection, Registry, tool};
use serde_json::Value;

use crate::support::{Daemon, place, platform, plugins, text};

/// `open sesame`, as `htpasswd -B` keeps it.
const USERS: &str = "alice:$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n";

/// Whether there is a program; where `cargo xtask setup --servers` did not run there is none, which fails a test in CI.
pub(crate) fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        tool(program).is_absolute() || std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    assert!(found || std::env::var_os("CI").is_none(), "no `{program}`; run `cargo xtask setup --servers`");
    found
}

/// A registry; none where there is no program for it.
pub(crate) fn registry(protection: &Protection) -> Option<Registry> {
    found("docker-registry").then(|| tokio::runtime::Runtime::new().unwrap().block_on(Registry::protected(protection)))
}

fn component(name: &str) -> String {
    plugins().join(name).with_extension("wasm").to_str().unwrap().to_owned()
}

/// Runs a command that needs no daemon, with a Docker configuration of its own.
fn run(docker: &Path, arguments: &[&str]) -> Output {
    platform().env("DOCKER_CONFIG", docker).args(["plugin"]).args(arguments).output().unwrap()
}

fn json(docker: &Path, arguments: &[&str]) -> Value {
    let output = run(docker, &[arguments, &["--output", "json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs a command that has to end with this code; the reason and the words.
fn refused(docker: &Path, code: i32, arguments: &[&str]) -> (String, String) {
    let output = run(docker, &[arguments, &["--output", "json"]].concat());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}{said}", text(&output.stdout));
    let error: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    let member = |name: &str| error["error"][name].as_str().unwrap().to_owned();
    (member("reason"), member("message"))
}

#[test]
fn a_component_comes_back_as_it_was_pushed() {
    let Some(registry) = registry(&Protection::default()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let docker = folder.path();
    let at = |name: &str| format!("{}/team/store{name}", registry.address());
    let (one, other) = (component("kv-memory"), component("kv-storage"));

    let pushed = json(docker, &["push", &one, &at(":1.2.0")]);
    assert_eq!((&pushed["existed"], &pushed["reference"]), (&false.into(), &at(":1.2.0").into()));
    let again = json(docker, &["push", &one, &at(":1.2.0")]);
    assert_eq!((&again["existed"], &again["digest"]), (&true.into(), &pushed["digest"]));
    let (reason, said) = refused(docker, 2, &["push", &other, &at(":1.2.0")]);
    assert!(reason == "VERSION_TAKEN" && said.contains("--replace"), "{said}");
    json(docker, &["push", &other, &at(":v1.10.0")]);
    json(docker, &["push", &one, &at(":2.0.0-rc.1")]);
    json(docker, &["push", &one, &at(":latest")]);
    json(docker, &["push", &other, &at(":latest")]);

    let file = folder.path().join("pulled.wasm");
    let file = file.to_str().unwrap();
    let digest = pushed["digest"].as_str().unwrap();
    for (which, expected, tag) in [
        (":1.2.0", &one, Some("1.2.0")),
        (&format!("@{digest}"), &one, None),
        ("@^1.2", &other, Some("v1.10.0")),
        ("@>=1, <1.10", &one, Some("1.2.0")),
        ("", &other, Some("latest")),
    ] {
        let pulled = json(docker, &["pull", &at(which), "--file", file]);
        assert_eq!(fs::read(file).unwrap(), fs::read(expected).unwrap(), "{which}");
        assert_eq!(pulled["tag"], tag.map_or(Value::Null, Value::from), "{which}");
    }
    let piped = run(docker, &["pull", &at(":1.2.0"), "--file", "-"]);
    assert_eq!(piped.stdout, fs::read(&one).unwrap());

    let (reason, said) = refused(docker, 1, &["pull", &at("@^3")]);
    assert!(reason == "VERSION_NOT_FOUND" && said.contains("2.0.0-rc.1"), "{said}");
    for missing in [at(":nothing"), at(&format!("@sha256:{}", "0".repeat(64))), format!("{}/none", registry.address())]
    {
        let (reason, said) = refused(docker, 1, &["pull", &missing, "--file", file]);
        assert!(reason == "ARTIFACT_NOT_FOUND" && said.starts_with(&format!("`{missing}")), "{said}");
    }
    let garbage = folder.path().join("garbage.wasm");
    fs::write(&garbage, "no component").unwrap();
    assert_eq!(refused(docker, 2, &["push", garbage.to_str().unwrap(), &at(":3.0.0")]).0, "NOT_A_COMPONENT");
}

#[test]
fn an_artifact_is_what_other_clients_make() {
    let Some(registry) = registry(&Protection::default()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = format!("{}/store:1.0.0", registry.address());
    // The time is given, so the same source makes the same artifact.
    let push = || {
        let mut command = platform();
        command.env("SOURCE_DATE_EPOCH", "1700000000").env("DOCKER_CONFIG", folder.path());
        let output = command.args(["plugin", "push", &component("kv-memory"), &at, "-o", "json"]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let pushed = push();
    let blob = |digest: &Value| {
        let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        serde_json::from_slice::<Value>(&fs::read(registry.blob(hex)).unwrap()).unwrap()
    };
    let manifest = blob(&pushed["digest"]);
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    assert_eq!(manifest["layers"][0]["digest"], pushed["component"]);
    assert_eq!(manifest["annotations"]["org.opencontainers.image.title"], "kv-memory");
    let config = blob(&manifest["config"]["digest"]);
    assert_eq!((&config["os"], &config["architecture"]), (&"wasip2".into(), &"wasm".into()));
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    assert_eq!(config["layerDigests"][0], pushed["component"]);
    let exports = config["component"]["exports"].as_array().unwrap();
    assert!(exports.iter().any(|export| export.as_str().unwrap().starts_with("platform:kv/store@")), "{config}");
}

#[test]
fn other_clients_take_and_give_the_same() {
    if !found("oras") {
        return;
    }
    let Some(registry) = registry(&Protection::default()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let oras = |arguments: &[&str]| {
        let mut command = Command::new(tool("oras"));
        command.env("HOME", folder.path()).env("DOCKER_CONFIG", folder.path()).current_dir(folder.path());
        let output = command.args(arguments).arg("--plain-http").output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    };
    let bytes = fs::read(component("kv-memory")).unwrap();
    let (ours, theirs) = (format!("{}/ours:1.0.0", registry.address()), format!("{}/theirs:1.0.0", registry.address()));

    let pushed = json(folder.path(), &["push", &component("kv-memory"), &ours]);
    let config = oras(&["manifest", "fetch-config", &ours]);
    assert_eq!(serde_json::from_str::<Value>(&config).unwrap()["layerDigests"][0], pushed["component"]);
    let layer = format!("{}/ours@{}", registry.address(), pushed["component"].as_str().unwrap());
    oras(&["blob", "fetch", &layer, "--output", "ours.wasm"]);
    assert_eq!(fs::read(folder.path().join("ours.wasm")).unwrap(), bytes);

    fs::write(folder.path().join("config.wasm.json"), config).unwrap();
    let types = ["config.wasm.json:application/vnd.wasm.config.v0+json", "ours.wasm:application/wasm"];
    oras(&["push", &theirs, "--config", types[0], types[1]]);
    let file = folder.path().join("theirs.wasm");
    json(folder.path(), &["pull", &theirs, "--file", file.to_str().unwrap()]);
    assert_eq!(fs::read(&file).unwrap(), bytes);
    // An image, which is something else.
    oras(&["push", &theirs, "ours.wasm:application/vnd.oci.image.layer.v1.tar"]);
    assert_eq!(refused(folder.path(), 2, &["pull", &theirs, "--file", file.to_str().unwrap()]).0, "NOT_A_COMPONENT");
}

#[test]
fn what_is_in_a_registry_is_installed_locked_and_serves() {
    let Some(registry) = registry(&Protection::default()) else { return };
    let (root, data) = place();
    let daemon = Daemon::start(&data);
    let at = format!("{}/team/store:1", registry.address());
    let url = format!("oci://{at}");
    let docker = root.path();
    let pushed = json(docker, &["push", &component("kv-memory"), &at]);
    let install = ["plugin", "install", &url, "--name", "fetched", "--version", "1.0.0"];

    assert!(daemon.fails(2, &[&install[..], &["--locked"]].concat()).contains("install it once without `--locked`"));
    daemon.ok(&[&install[..], &["--dry-run"]].concat());
    let lock = data.join("platform.lock");
    assert!(!lock.exists(), "nothing was installed");
    let installed = daemon.json(&install);
    assert_eq!(installed["plugin"]["digest"], pushed["component"]);
    assert_eq!(
        (&installed["artifact"]["digest"], &installed["artifact"]["previousDigest"]),
        (&pushed["digest"], &Value::Null)
    );
    let kept: toml::Table = fs::read_to_string(&lock).unwrap().parse().unwrap();
    assert_eq!(kept["artifact"][0]["reference"].as_str(), Some(at.as_str()));
    assert_eq!(kept["artifact"][0]["digest"].as_str(), pushed["digest"].as_str());

    daemon.ok(&["plugin", "bind", "kv.store", "fetched@1.0.0"]);
    daemon.ok(&["kv", "put", "greeting", "hello"]);
    assert_eq!(daemon.ok(&["kv", "get", "greeting"]), "hello");
    assert!(daemon.ok(&[&install[..], &["--locked"]].concat()).contains(pushed["digest"].as_str().unwrap()));

    // The tag moves.
    let moved = json(docker, &["push", &component("kv-storage"), &at]);
    let output = daemon.run(&[&install[..], &["--locked", "--output", "json"]].concat());
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((output.status.code(), &error["error"]["reason"]), (Some(2), &"TAG_MOVED".into()));
    let said = error["error"]["message"].as_str().unwrap();
    for named in [&at, pushed["digest"].as_str().unwrap(), moved["digest"].as_str().unwrap()] {
        assert!(said.contains(named), "{said}");
    }
    assert_eq!(fs::read_to_string(&lock).unwrap().parse::<toml::Table>().unwrap(), kept, "a refusal changes nothing");

    // Without the lock it is told, and locked anew in the file that was named.
    let other = root.path().join("other.lock");
    fs::copy(&lock, &other).unwrap();
    let told = daemon.ok(&[
        "plugin",
        "install",
        &url,
        "--name",
        "fetched",
        "--version",
        "2.0.0",
        "--lock",
        other.to_str().unwrap(),
    ]);
    assert!(
        told.contains(moved["digest"].as_str().unwrap()) && told.contains(pushed["digest"].as_str().unwrap()),
        "{told}"
    );
    assert!(fs::read_to_string(&other).unwrap().contains(moved["digest"].as_str().unwrap()));

    let file = component("kv-memory");
    assert!(daemon.fails(2, &["plugin", "install", &file, "--locked"]).contains("oci://"));
    daemon.stop();
}

#[test]
fn a_flipped_byte_is_refused() {
    let Some(registry) = registry(&Protection::default()) else { return };
    let (root, data) = place();
    let daemon = Daemon::start(&data);
    let at = format!("{}/store:1.0.0", registry.address());
    let pushed = json(root.path(), &["push", &component("kv-memory"), &at]);
    let flip = |digest: &Value| {
        let file = registry.blob(digest.as_str().unwrap().strip_prefix("sha256:").unwrap());
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
    };
    flip(&pushed["component"]);
    let file = root.path().join("pulled.wasm");
    let (reason, said) = refused(root.path(), 2, &["pull", &at, "--file", file.to_str().unwrap()]);
    assert!(reason == "DIGEST_MISMATCH" && said.contains(pushed["component"].as_str().unwrap()), "{said}");
    assert!(!file.exists(), "nothing that is wrong is kept");
    let complaint = daemon.fails(2, &["plugin", "install", &format!("oci://{at}"), "--name", "flipped"]);
    assert!(complaint.contains("do not use it"), "{complaint}");
    assert!(!daemon.ok(&["plugin", "list"]).contains("flipped"));
    daemon.stop();
}

#[test]
fn credentials_are_asked_for_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let docker = folder.path();
    let users = docker.join("users");
    fs::write(&users, USERS).unwrap();
    let Some(registry) = registry(&Protection { users: Some(users), tls: None }) else { return };
    let at = format!("{}/store:1.0.0", registry.address());
    let store = component("kv-memory");
    let file = docker.join("password");
    fs::write(&file, "open sesame\n").unwrap();
    let known = ["--username", "alice", "--password-file", file.to_str().unwrap()];

    let (reason, said) = refused(docker, 4, &["push", &store, &at]);
    assert!(reason == "REGISTRY_UNAUTHORIZED" && said.contains("wants credentials"), "{said}");
    json(docker, &[&["push", store.as_str(), &at][..], &known].concat());
    let out = docker.join("out.wasm");
    let pull = ["pull", &at, "--file", out.to_str().unwrap()];
    assert_eq!(refused(docker, 4, &pull).0, "REGISTRY_UNAUTHORIZED");
    json(docker, &[&pull[..], &known[..]].concat());

    fs::write(&file, "open barley").unwrap();
    let (_, said) = refused(docker, 4, &[&pull[..], &known[..]].concat());
    assert!(!said.contains("barley") && said.contains("does not let these"), "{said}");
    // `alice:open sesame` in base64.
    let auths = serde_json::json!({"auths": {registry.address().to_string(): {"auth": "YWxpY2U6b3BlbiBzZXNhbWU="}}});
    fs::write(docker.join("config.json"), auths.to_string()).unwrap();
    json(docker, &pull);
    fs::write(docker.join("config.json"), "{\"auths\": \"hunter2\"}").unwrap();
    let (_, said) = refused(docker, 2, &pull);
    assert!(said.contains("config.json") && !said.contains("hunter2"), "{said}");
}

#[test]
fn certificates_are_verified() {
    if !found("openssl") {
        return;
    }
    let (ours, theirs) = (Authority::new(), Authority::new());
    let protection = Protection { tls: Some(ours.sign("DNS:localhost,IP:127.0.0.1")), users: None };
    let Some(registry) = registry(&protection) else { return };
    let at = format!("{}/store:1.0.0", registry.address());
    let store = component("kv-memory");
    let folder = tempfile::tempdir().unwrap();
    let docker = folder.path();
    let file = |authority: &Authority| authority.file().to_str().unwrap().to_owned();
    let pushed = json(docker, &["push", &store, &at, "--ca-file", &file(&ours)]);
    assert_eq!(pushed["existed"], false);
    let (reason, said) = refused(docker, 2, &["push", &store, &at, "--ca-file", &file(&theirs)]);
    assert!(reason == "REGISTRY_TLS" && said.contains("certificate"), "{said}");
    let none = docker.join("none.pem");
    fs::write(&none, "no certificate").unwrap();
    let (reason, said) = refused(docker, 2, &["push", &store, &at, "--ca-file", none.to_str().unwrap()]);
    assert!(reason == "REGISTRY_TLS" && said.contains("give PEM"), "{said}");
}
