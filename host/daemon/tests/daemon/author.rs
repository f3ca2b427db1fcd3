//! What the author of a plugin does: from an empty folder to a component.
//!
//! Builds are real and share one target folder, so that the SDK is compiled once.

mod cases;
mod dev;
mod languages;
mod traces;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{platform, plugins, text};

/// All kinds of slots.
const SLOTS: [&str; 12] = [
    "auth.policy",
    "config.source",
    "config.store",
    "config.validator",
    "db.store",
    "discovery.registry",
    "event.broker",
    "event.filter",
    "kv.store",
    "router.policy",
    "sync.lock",
    "web.page",
];

/// Where all builds of these tests go: beside the tests' own, so that a second run finds the SDK compiled.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("author")
}

fn author(arguments: &[&str]) -> Output {
    platform().env("CARGO_TARGET_DIR", target()).args(["plugin"]).args(arguments).output().unwrap()
}

fn done(arguments: &[&str]) -> Value {
    let output = author(&[&["--output", "json"], arguments].concat());
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}{complaint}", text(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

fn refused(code: i32, arguments: &[&str]) -> String {
    let output = author(arguments);
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}{complaint}", text(&output.stdout));
    complaint
}

/// A new project in a folder of its own.
fn project(slot: &str, name: &str) -> (TempDir, String) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(name).display().to_string();
    done(&["new", "--slot", slot, &folder]);
    (root, folder)
}

fn edit(file: &Path, from: &str, to: &str) {
    let source = fs::read_to_string(file).unwrap();
    assert!(source.contains(from), "`{}` has no `{from}`", file.display());
    fs::write(file, source.replace(from, to)).unwrap();
}

#[test]
fn the_same_source_is_the_same_component_wherever_it_lies() {
    let (_here, first) = project("auth.policy", "my-policy");
    let (_there, second) = project("auth.policy", "my-policy");
    // A compiler that saw the first one's paths would leave them in the second.
    let elsewhere = tempfile::tempdir().unwrap();
    let one = done(&["build", &first]);
    let output = platform()
        .env("CARGO_TARGET_DIR", elsewhere.path())
        .args(["plugin", "build", &second, "--output", "json"])
        .output()
        .unwrap();
    let other: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    assert_eq!(one["digest"], other["digest"]);
    let said = ["name", "version", "slot", "mode", "license"].map(|name| one[name].as_str().unwrap_or_default());
    assert_eq!(said, ["my-policy", "0.1.0", "auth.policy", "fresh", "Apache-2.0"]);
    assert_eq!(one["requestedGrants"], serde_json::json!([]));
    assert!(one["settingsSchema"]["properties"]["opens"].is_object(), "{one}");

    let file = format!("{first}/dist/my-policy.wasm");
    let bytes = fs::read(&file).unwrap();
    for path in [first.as_str(), env!("CARGO_TARGET_TMPDIR")] {
        let there = bytes.windows(path.len()).any(|window| window == path.as_bytes());
        assert!(!there, "the component holds the path `{path}`");
    }
    let inspected = done(&["inspect", &file]);
    assert_eq!(inspected["digest"], one["digest"]);
    let printed = text(&author(&["inspect", &file]).stdout);
    assert!(printed.contains("nothing: it reaches its settings"), "{printed}");

    // The compiler's words come through, and what was built before stays.
    edit(&Path::new(&first).join("src/lib.rs"), "let open = ", "let open: u8 = ");
    let complaint = refused(2, &["build", &first]);
    assert!(complaint.contains("expected `u8`") && complaint.contains("`cargo build` failed"), "{complaint}");
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

#[test]
fn a_manifest_that_lies_is_refused() {
    let (_root, folder) = project("kv.store", "my-store");
    let source = Path::new(&folder).join("src/lib.rs");
    edit(&source, "grants = [\"storage\"]", "grants = [\"storage\", \"discovery\"]");
    let complaint = refused(2, &["build", &folder]);
    assert!(complaint.contains("asks for `discovery`, which nothing in the component uses"), "{complaint}");
    edit(&source, "grants = [\"storage\", \"discovery\"]", "grants = []");
    let complaint = refused(2, &["build", &folder]);
    assert!(
        complaint.contains("imports `platform:storage/") && complaint.contains("the grant `storage`"),
        "{complaint}"
    );
    assert!(!Path::new(&folder).join("dist").exists());
}

/// All templates are members of one workspace, and share the SDK of one of them.
#[test]
fn every_template_is_built_and_keeps_its_promises() {
    let root = tempfile::tempdir().unwrap();
    let place = |slot: &str| root.path().join(slot.replace('.', "-"));
    for slot in SLOTS {
        let name = slot.replace('.', "-");
        let made = done(&["new", "--slot", slot, "--name", &format!("my-{name}"), place(slot).to_str().unwrap()]);
        assert_eq!(made["slot"].as_str(), Some(slot));
        let manifest = place(slot).join("Cargo.toml");
        let source = fs::read_to_string(&manifest).unwrap();
        let (source, _) = source.split_once("\n[profile.release]").unwrap();
        let source = source.replace("path = \"platform/sdk/rust\"", "path = \"../kv-store/platform/sdk/rust\"");
        fs::write(&manifest, source).unwrap();
    }
    fs::copy(place("kv.store").join("Cargo.lock"), root.path().join("Cargo.lock")).unwrap();
    let members = SLOTS.map(|slot| format!("{:?}", slot.replace('.', "-"))).join(", ");
    // Quick to build rather than small.
    let workspace = format!(
        "[workspace]\nresolver = \"3\"\nmembers = [{members}, \"kv-store/platform/sdk/rust\"]\n\
         [profile.release]\nopt-level = 1\npanic = \"abort\"\nstrip = true\n"
    );
    fs::write(root.path().join("Cargo.toml"), workspace).unwrap();
    for slot in SLOTS {
        let folder = place(slot).display().to_string();
        let built = done(&["build", &folder]);
        assert_eq!(built["slot"].as_str(), Some(slot));
        let file = format!("{folder}/dist/my-{}.wasm", slot.replace('.', "-"));
        let plugins = plugins().display().to_string();
        let cases = format!("{folder}/cases.toml");
        let tested = done(&["test", &file, "--cases", &cases, "--plugins-dir", &plugins, "--grant", "requested"]);
        assert_eq!(tested["failed"].as_u64(), Some(0), "{slot}: {tested}");
        assert!(tested["passed"].as_u64() > Some(0), "{slot}: {tested}");
    }
}

#[test]
fn what_can_not_be_made_says_why_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name).display().to_string();
    let full = at("full");
    fs::create_dir(&full).unwrap();
    fs::write(format!("{full}/mine"), "mine").unwrap();
    fs::write(at("file"), "mine").unwrap();
    for (arguments, words) in [
        (&["new", "--slot", "auth.policy", &full][..], "is not empty"),
        (&["new", "--slot", "auth.policy", &at("file")], "can't make a project"),
        (&["new", "--slot", "auth.policy", &at("file/below")], "can't make a project"),
        (&["new", "--slot", "auth.policy", &at("Capital")], "lowercase letter"),
        (&["new", "--slot", "auth.policy", &at("serde")], "name it with `--name`"),
        (&["new", "--slot", "auth.policy", "--name", "../x", &at("new")], "lowercase letter"),
        (&["new", "--slot", "auth", &at("new")], "`auth` is no kind of slot"),
        (&["new", "--slot", "auth.policy", "--lang", "cobol", &at("new")], "cobol"),
        (&["build", &at("nowhere")], "platform plugin new"),
        (&["build", &full], "platform plugin new"),
        (&["inspect", &at("file")], "is no WebAssembly"),
        (&["inspect", &at("nowhere.wasm")], "can't read"),
    ] {
        let complaint = refused(2, arguments);
        assert!(complaint.contains(words), "{arguments:?}: {complaint}");
    }
    let mut left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["file", "full"]);
    assert_eq!(fs::read_dir(&full).unwrap().count(), 1);

    let empty = at("empty");
    fs::create_dir(&empty).unwrap();
    let made = done(&["new", "--slot", "event.filter", &empty]);
    assert_eq!(made["name"].as_str(), Some("empty"));
    edit(&Path::new(&empty).join("Cargo.toml"), "wasm32-unknown-unknown", "riscv");
    assert!(refused(2, &["build", &empty]).contains("plugins are built for wasm32-unknown-unknown or wasm32-wasip2"));
    let output = platform()
        .env("RUSTC", "/nowhere/rustc")
        .env("CARGO", "/nowhere/cargo")
        .args(["plugin", "build", &empty])
        .output();
    assert!(text(&output.unwrap().stderr).contains("install Rust"));
}
