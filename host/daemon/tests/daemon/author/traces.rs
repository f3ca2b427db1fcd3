//! Where a plugin failed, as its author is told: functions, files and lines.

use std::{fs, path::Path};

use super::{
    author, done, edit,
    languages::{new, with_tools},
    project, target,
};
use crate::{
    registry::found,
    support::{Daemon, http, place, platform, text},
};

/// A case that the plugin fails at.
const CASES: &str = "
[settings]
opens = 0
closes = 24

[[case]]
name = \"brew\"
ask.target = \"/brew\"
expect.decision = \"allow\"
";

/// Puts a statement first into a function of a file; the number of its line.
fn put(file: &Path, function: &str, statement: &str) -> usize {
    edit(file, function, &format!("{function}\n        {statement}"));
    let source = fs::read_to_string(file).unwrap();
    source.lines().position(|line| line.contains(statement)).unwrap() + 1
}

/// A policy that panics at a request for `/brew`, and where it does.
fn panicking(folder: &str) -> String {
    let source = Path::new(folder).join("src/lib.rs");
    let function = "fn authorize(&self, request: &auth::Request<'_>) -> auth::Decision {";
    let line = put(&source, function, "assert!(request.target != \"/brew\", \"a teapot\");");
    format!("(src/lib.rs:{line})")
}

#[test]
fn a_case_that_traps_names_files_and_lines() {
    let (_root, folder) = project("auth.policy", "teapot");
    let place = panicking(&folder);
    fs::write(Path::new(&folder).join("cases.toml"), CASES).unwrap();
    let output = author(&["test", &folder, "--only", "brew"]);
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{printed}{}", text(&output.stderr));
    for words in
        ["FAILED  brew", "got      \"fault\"", "the plugin trapped", "\n         frame-0=", "authorize", &place]
    {
        assert!(printed.contains(words), "no `{words}` in {printed}");
    }
    assert!(!printed.contains(&folder), "what is told holds a path of this machine: {printed}");

    // What is shipped has no line tables, and is the same component otherwise: its digest is the one that the test tells.
    edit(&Path::new(&folder).join("cases.toml"), "expect.decision = \"allow\"", "expect.decision = \"fault\"");
    let tested = done(&["test", &folder, "--only", "brew"]);
    let built = done(&["build", &folder]);
    assert_eq!(built["digest"], tested["digest"]);
    let file = format!("{folder}/dist/teapot.wasm");
    let has_lines = || fs::read(&file).unwrap().windows(11).any(|window| window == b".debug_line");
    assert!(!has_lines());
    let kept = done(&["build", &folder, "--debug"]);
    assert!(has_lines() && kept["digest"] != built["digest"]);
}

#[test]
fn a_daemon_tells_lines_where_it_is_asked_to() {
    let (_root, folder) = project("auth.policy", "kettle");
    let place_of_panic = panicking(&folder);
    fs::write(Path::new(&folder).join("cases.toml"), "[settings]\nopens = 0\ncloses = 24\n").unwrap();
    for asked in [false, true] {
        let (_root, data) = place();
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("platform.toml"), format!("[engine]\nbacktrace_lines = {asked}\n")).unwrap();
        let daemon = Daemon::start(&data);
        let mut dev = platform();
        dev.env("CARGO_TARGET_DIR", target()).arg("--data-dir").arg(daemon.data());
        let dev = dev.args(["plugin", "dev", &folder, "--once"]).output().unwrap();
        assert_eq!(dev.status.code(), Some(0), "{}", text(&dev.stderr));
        let headers = format!("authorization: Bearer {}\r\n", daemon.token());
        let body = r#"{"action": "GET", "target": "/brew"}"#;
        http(&daemon.address().unwrap(), "POST", "/v1/auth:check", &headers, body).unwrap();
        let told = daemon.ok(&["plugin", "logs", "kettle", "--level", "error"]);
        assert!(told.contains("frame-0=") && told.contains("authorize"), "{told}");
        assert_eq!(told.contains(&place_of_panic), asked, "{told}");
        daemon.stop();
    }
}

#[test]
fn a_trap_in_c_names_files_and_lines() {
    if !(found("clang") && found("wasm-ld")) {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let folder = new(root.path(), "c", "auth.policy");
    let source = Path::new(&folder).join("src/policy.c");
    let line = put(&source, "(void)subject, (void)action, (void)target;", "if (target->len == 5) __builtin_trap();");
    fs::write(Path::new(&folder).join("cases.toml"), CASES).unwrap();
    let output = with_tools().args(["plugin", "test", &folder, "--only", "brew"]).output().unwrap();
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{printed}{}", text(&output.stderr));
    let place = format!("(src/policy.c:{line})");
    assert!(printed.contains("authorize") && printed.contains(&place), "no `{place}` in {printed}");
}
