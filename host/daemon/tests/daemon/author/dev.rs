//! `platform plugin dev`: an edit is live soon, and what is wrong never is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use platform_base::clock;
use serde_json::Value;

use super::{
    edit,
    languages::{new, with_tools},
    project, target,
};
use crate::{
    registry::found,
    support::{Daemon, place, text, wait_for},
};

const CASES: &str = "
[settings]
opens = 0
closes = 24

[[case]]
name = \"open\"
expect.decision = \"allow\"
";

/// Longest that an edit may take to be live. It is a second or two; machines that run tests are busy.
const SOON: Duration = Duration::from_secs(10);

/// A loop that ends with the test.
struct Loop {
    child: Child,
    events: PathBuf,
    log: PathBuf,
}

impl Loop {
    fn start(daemon: &Daemon, folder: &str, root: &Path) -> Self {
        let (events, log) = (root.join("events"), root.join("dev.log"));
        let child = with_tools()
            .env("CARGO_TARGET_DIR", target())
            .arg("--data-dir")
            .arg(daemon.data())
            .args(["--output", "json", "plugin", "dev", folder])
            .stdout(Stdio::from(fs::File::create(&events).unwrap()))
            .stderr(Stdio::from(fs::File::create(&log).unwrap()))
            .spawn()
            .unwrap();
        Self { child, events, log }
    }

    /// What was told after the first `told` events.
    fn next(&mut self, told: usize) -> Value {
        wait_for("the next event of the loop", || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", fs::read_to_string(&self.log).unwrap());
            let events = fs::read_to_string(&self.events).unwrap();
            let whole = events.rsplit_once('\n').map(|(whole, _)| whole.to_owned())?;
            whole.lines().nth(told).map(|line| serde_json::from_str(line).unwrap())
        })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn reason(daemon: &Daemon) -> String {
    let output = daemon.run(&["--output", "json", "auth", "check", "GET", "/orders"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    answer["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn an_edit_is_live_soon_and_what_is_wrong_never_is() {
    let (_data, data) = place();
    let daemon = Daemon::start(&data);
    let (root, folder) = project("auth.policy", "edited");
    let source = Path::new(&folder).join("src/lib.rs");
    fs::write(Path::new(&folder).join("cases.toml"), CASES).unwrap();
    edit(&source, "auth::Decision::abstain()", "auth::Decision::allow(\"first\")");
    let mut dev = Loop::start(&daemon, &folder, root.path());
    let first = dev.next(0);
    assert_eq!(first["slot"].as_str(), Some("auth.policy"), "{first}");
    assert!(first["plugin"].as_str().unwrap().starts_with("edited@0.1.0-dev."), "{first}");
    assert_eq!(reason(&daemon), "first");

    let begun = clock::now();
    edit(&source, "first", "second");
    wait_for("the edit to be live", || (reason(&daemon) == "second").then_some(()));
    let took = clock::now().saturating_duration_since(begun);
    let second = dev.next(1);
    println!("edit to live: {} ms; {second}", took.as_millis());
    assert!(took < SOON, "{second}");
    assert_ne!(first["plugin"], second["plugin"]);

    edit(&source, "allow(\"second\")", "allow(\"third\"");
    let broken = dev.next(2);
    assert_eq!(broken["error"]["reason"].as_str(), Some("BUILD_FAILED"), "{broken}");
    assert!(fs::read_to_string(&dev.log).unwrap().contains("error: "), "the compiler's words come through");
    edit(&source, "allow(\"third\"", "deny(\"third\")");
    let failed = dev.next(3);
    assert_eq!(failed["error"]["reason"].as_str(), Some("CASES_FAILED"), "{failed}");
    assert!(failed["error"]["message"].as_str().unwrap().contains("`open` failed"), "{failed}");
    assert_eq!(reason(&daemon), "second");

    edit(&source, "deny(\"third\")", "allow(\"fourth\")");
    assert!(dev.next(4)["generation"].as_u64() > second["generation"].as_u64());
    assert_eq!(reason(&daemon), "fourth");
    drop(dev);
    daemon.stop();
}

#[test]
fn an_edit_in_javascript_is_live_soon() {
    if !found("npm") {
        return;
    }
    let (_data, data) = place();
    let daemon = Daemon::start(&data);
    let root = tempfile::tempdir().unwrap();
    let folder = new(root.path(), "js", "auth.policy");
    let source = Path::new(&folder).join("plugin.js");
    fs::write(Path::new(&folder).join("cases.toml"), CASES).unwrap();
    edit(&source, "import { abstain, deny,", "import { allow, deny,");
    edit(&source, "abstain()", "allow('first')");
    let mut dev = Loop::start(&daemon, &folder, root.path());
    let first = dev.next(0);
    assert_eq!(reason(&daemon), "first", "{first}");
    let begun = clock::now();
    edit(&source, "first", "second");
    wait_for("the edit to be live", || (reason(&daemon) == "second").then_some(()));
    let took = clock::now().saturating_duration_since(begun);
    let second = dev.next(1);
    println!("edit in JavaScript to live: {} ms; {second}", took.as_millis());
    assert!(took < SOON, "{second}");
    drop(dev);
    daemon.stop();
}
