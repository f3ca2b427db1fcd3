//! Plugins in other languages than Rust, from an empty folder to a live answer.
//!
//! The tools are real: what `cargo xtask setup --servers` installs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use platform_testkit::tool;
use serde_json::Value;

use super::edit;
use crate::{
    registry::found,
    support::{Daemon, place, platform, plugins, text},
};

/// A command of authors, which finds the tools where they are installed for tests.
pub(super) fn with_tools() -> Command {
    let own = tool("componentize-py");
    let own = own.parent().filter(|folder| folder.is_absolute()).map(Path::to_owned);
    let usual = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&usual))).unwrap();
    let mut command = platform();
    command.env("PATH", path).env_remove("WASI_SDK_PATH");
    command
}

fn author(arguments: &[&str]) -> Output {
    with_tools().args(["--output", "json", "plugin"]).args(arguments).output().unwrap()
}

fn done(arguments: &[&str]) -> Value {
    let output = author(arguments);
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}{complaint}", text(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

/// A new project; its folder.
pub(super) fn new(root: &Path, language: &str, slot: &str) -> String {
    let name = format!("{}-{language}", slot.replace('.', "-"));
    let folder = root.join(name).display().to_string();
    let made = done(&["new", "--slot", slot, "--lang", language, &folder]);
    assert_eq!(made["language"].as_str(), Some(language));
    folder
}

/// Builds a project and tries its cases, all promises of its slot and, where it should have some, its unit tests; the component.
fn tried(folder: &str, has_unit_tests: bool) -> PathBuf {
    let built = done(&["build", folder]);
    assert!(built["settingsSchema"].is_object() && built["requestedGrants"] == serde_json::json!([]), "{built}");
    for import in built["imports"].as_array().unwrap().iter().filter_map(Value::as_str) {
        assert!(import.starts_with("platform:"), "a plugin that asks for no grants imports `{import}`");
    }
    let name = built["name"].as_str().unwrap();
    let file = Path::new(folder).join("dist").join(name).with_extension("wasm");
    let cases = Path::new(folder).join("cases.toml").display().to_string();
    let plugins = plugins().display().to_string();
    let what = if has_unit_tests { folder } else { file.to_str().unwrap() };
    let report = done(&["test", what, "--cases", &cases, "--plugins-dir", &plugins]);
    assert_eq!(report["failed"].as_u64(), Some(0), "{report}");
    assert_eq!(report["unitTests"].as_bool(), has_unit_tests.then_some(true), "{report}");
    assert!(report["passed"].as_u64() > Some(5), "{report}");
    file
}

/// Installs and binds a component for the rest of the test.
fn bind(daemon: &Daemon, slot: &str, file: &Path, settings: &str) {
    let installed = daemon.json(&["plugin", "install", file.to_str().unwrap()]);
    let name = installed["plugin"]["name"].as_str().unwrap_or_else(|| panic!("{installed}")).to_owned();
    daemon.ok(&["plugin", "bind", slot, &name, "--settings", settings]);
    assert_eq!(daemon.bound(slot), [name]);
}

fn decides(daemon: &Daemon, file: &Path) {
    bind(daemon, "auth.policy", file, r#"{"opens":0,"closes":24}"#);
    let output = daemon.run(&["--output", "json", "auth", "check", "GET", "/orders"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    // It has nothing against it, and nobody else is asked; one that fails has another reason.
    assert_eq!(answer["reason"].as_str(), Some("no policy allows it"), "{answer}");
    let name = daemon.bound("auth.policy").remove(0);
    let refused = daemon.run(&["plugin", "bind", "auth.policy", &name, "--settings", r#"{"opens":18,"closes":8}"#]);
    let complaint = text(&refused.stderr);
    assert!(complaint.contains("opens before closes") && complaint.contains("/closes"), "{complaint}");
}

fn keeps(daemon: &Daemon, file: &Path) {
    bind(daemon, "kv.store", file, "{}");
    daemon.ok(&["kv", "put", "greeting", "hello"]);
    assert_eq!(daemon.ok(&["kv", "get", "greeting"]), "hello");
    daemon.fails(1, &["kv", "put", "greeting", "again", "--if-absent"]);
}

#[test]
fn c_decides_and_keeps_and_is_reproducible() {
    if !(found("clang") && found("wasm-ld")) {
        return;
    }
    let (root, data) = place();
    let daemon = Daemon::start(&data);
    let policy = new(root.path(), "c", "auth.policy");
    let store = new(root.path(), "c", "kv.store");
    let component = tried(&policy, true);
    decides(&daemon, &component);
    keeps(&daemon, &tried(&store, false));
    daemon.stop();

    // The same source elsewhere is the same component, and holds no path.
    let elsewhere = tempfile::tempdir().unwrap();
    let again = new(elsewhere.path(), "c", "auth.policy");
    let digests = [&policy, &again].map(|folder| done(&["build", folder])["digest"].clone());
    assert_eq!(digests[0], digests[1]);
    let bytes = fs::read(&component).unwrap();
    let path = root.path().to_str().unwrap().as_bytes();
    assert!(!bytes.windows(path.len()).any(|window| window == path), "the component holds a path of this machine");

    // Unit tests that fail are told apart from cases; that nothing here runs them is told, and no failure.
    let test = Path::new(&again).join("tests/policy.c");
    let shipped = plugins().display().to_string();
    let tests = ["test", again.as_str(), "--plugins-dir", &shipped];
    edit(&test, "hour < 18)", "hour < 19)");
    let output = author(&tests);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert_eq!((report["failed"].as_u64(), report["unitTests"].as_bool()), (Some(0), Some(false)), "{report}");
    let mut nobody = with_tools();
    let output = nobody.env("CC", "/nowhere/cc").arg("plugin").args(tests).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("unit tests are left out: can't start `/nowhere/cc`"), "{output:?}");

    // What is wrong is said by the compiler, and what needs an operating system by us.
    let source = Path::new(&again).join("src/policy.c");
    edit(&source, "int64_t hour = ", "int64_t hour = undeclared + ");
    let complaint = text(&author(&["build", &again]).stderr);
    assert!(complaint.contains("src/policy.c") && complaint.contains("--target=wasm32-wasi` failed"), "{complaint}");
    edit(&source, "undeclared + ", "printf(\"now\") + ");
    edit(&source, "#include \"platform_auth.h\"", "#include \"platform_auth.h\"\n#include <stdio.h>");
    let complaint = text(&author(&["build", &again]).stderr);
    assert!(complaint.contains("calls the operating system"), "{complaint}");

    // A world that makes no sense, and tools that are not there, are told.
    let world = Path::new(&again).join("plugin.wit");
    edit(&world, "platform:auth/", "platform:nobody/");
    let complaint = text(&author(&["build", &again]).stderr);
    assert!(complaint.contains("`plugin.wit` makes no sense"), "{complaint}");
    let nowhere = platform().env("PATH", elsewhere.path()).args(["plugin", "build", &policy]).output().unwrap();
    let complaint = text(&nowhere.stderr);
    assert!(complaint.contains("apt-get install clang lld wasi-libc"), "{complaint}");
}

#[test]
fn javascript_decides_picks_and_keeps() {
    if !found("npm") {
        return;
    }
    let (root, data) = place();
    let daemon = Daemon::start(&data);
    decides(&daemon, &tried(&new(root.path(), "js", "auth.policy"), true));
    tried(&new(root.path(), "js", "router.policy"), false);
    keeps(&daemon, &tried(&new(root.path(), "js", "kv.store"), false));
    daemon.stop();
    let complaint = text(&author(&["new", "--slot", "db.store", "--lang", "js", "unmade"]).stderr);
    assert!(complaint.contains("no template for `db.store` in `js`; there are `auth.policy`"), "{complaint}");
}

#[test]
fn python_decides() {
    if !found("componentize-py") {
        return;
    }
    let (root, data) = place();
    let daemon = Daemon::start(&data);
    let policy = new(root.path(), "python", "auth.policy");
    decides(&daemon, &tried(&policy, true));
    daemon.stop();
    let nowhere = platform().env("PATH", root.path()).args(["plugin", "build", &policy]).output().unwrap();
    let complaint = text(&nowhere.stderr);
    assert!(complaint.contains("pip install -r requirements.txt"), "{complaint}");
}

#[test]
fn python_keeps() {
    if !found("componentize-py") {
        return;
    }
    let (root, data) = place();
    let daemon = Daemon::start(&data);
    keeps(&daemon, &tried(&new(root.path(), "python", "kv.store"), false));
    daemon.stop();
}
