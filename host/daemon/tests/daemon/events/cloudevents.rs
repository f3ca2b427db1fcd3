//! CloudEvents with the standard's own SDK for Python, unmodified.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{Daemon, place, text};

/// The interpreter that has the packages, the SDK among them.
pub(super) fn python(packages: &[&str]) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_BIN_EXE_platform")).ancestors().nth(2).unwrap().to_owned();
    let own = target.join("tools/python/bin/python");
    let import = format!("import {}", packages.join(", "));
    let has = |python: &Path| Command::new(python).args(["-c", &import]).output().is_ok_and(|it| it.status.success());
    let found = Some(own).filter(|python| has(python));
    assert!(
        found.is_some() || std::env::var_os("CI").is_none(),
        "no Python with {packages:?}; run `cargo xtask setup --servers`"
    );
    found
}

#[test]
fn the_sdk_sends_in_every_mode_and_reads_the_stream() {
    let Some(python) = python(&["cloudevents"]) else { return };
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    daemon.ok(&["event", "topic", "create", "orders"]);
    let url = format!("http://{}/cloudevents/orders", daemon.address().unwrap());
    let token = fs::read_to_string(data.join("admin.token")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/events/sdk.py");
    let output = Command::new(python).arg(script).args([&url, token.trim()]).output().unwrap();
    assert!(output.status.success(), "{}{}\n{}", text(&output.stdout), text(&output.stderr), daemon.log());
    let tree = daemon.ok(&["event", "tree", "b"]);
    assert_eq!(tree.lines().count(), 2, "causes come along: {tree}");
}
