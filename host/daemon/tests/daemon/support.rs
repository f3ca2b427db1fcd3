//! Starts daemons on free ports with data of their own, and runs commands against them.
//!
//! Owns processes and temporary directories. Invariant: a process that a test started does not outlive it, and what it
//! wrote is shown when the test fails.

use std::{
    ffi::OsStr,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::Duration,
};

use platform_base::clock;
use tempfile::TempDir;

/// Longest wait for anything: far more than it takes, for machines that are busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test, with nothing of the tester's environment that it would listen to.
pub(crate) fn platform() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_platform"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PLATFORM_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// The components that `cargo xtask plugins` builds.
pub(crate) fn plugins() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist/plugins");
    for name in [
        "kv-storage",
        "kv-memory",
        "discovery-storage",
        "config-storage",
        "sync-storage",
        "db-storage",
        "event-storage",
        "auth-scopes",
        "router-round-robin",
        "web-marketplace",
    ] {
        let file = folder.join(name).with_extension("wasm");
        assert!(file.is_file(), "`{}` is missing; run `cargo xtask plugins` first", file.display());
    }
    folder
}

/// Waits until `ready` gives something.
pub(crate) fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = clock::now() + PATIENCE;
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(clock::now() < deadline, "waited {PATIENCE:?} for {what}");
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// A daemon that runs.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    data: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts a daemon with its data in `data` and waits until it is ready.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &["--server-address", "127.0.0.1:0"])
    }

    /// The same with arguments of the test's choosing.
    pub(crate) fn start_with(data: &Path, arguments: &[&str]) -> Self {
        Self::spawn(data, arguments).ready()
    }

    /// Waits until it is ready.
    pub(crate) fn ready(mut self) -> Self {
        wait_for("the daemon to be ready", || {
            assert!(self.is_running(), "the daemon ended:\n{}", self.log());
            self.is_ready().then_some(())
        });
        self
    }

    /// Starts a daemon and does not wait.
    pub(crate) fn spawn(data: &Path, arguments: &[&str]) -> Self {
        Self::spawn_in(data, arguments, &[])
    }

    /// The same with variables in its environment.
    pub(crate) fn spawn_in(data: &Path, arguments: &[&str], variables: &[(&str, &Path)]) -> Self {
        fs::create_dir_all(data).unwrap();
        let log = data.with_extension("log");
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let child = platform()
            .arg("server")
            .arg("--data-dir")
            .arg(data)
            .arg("--plugins-dir")
            .arg(plugins())
            .args(arguments)
            .envs(variables.iter().copied())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, data: data.to_owned(), log }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Option<String> {
        fs::read_to_string(self.data.join("address")).ok().map(|address| address.trim().to_owned())
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The administrator's token.
    pub(crate) fn token(&self) -> String {
        fs::read_to_string(self.data.join("admin.token")).unwrap().trim().to_owned()
    }

    /// What it wrote.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether `/readyz` says so.
    pub(crate) fn is_ready(&self) -> bool {
        self.address().is_some_and(|address| http_status(&address, "/readyz") == Some(200))
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Whether its process is there.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("the daemon to end", || self.child.try_wait().unwrap())
    }

    /// Stops it in order.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// Takes it away without a word.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Runs a command against it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        platform().arg("--data-dir").arg(&self.data).args(arguments).output().unwrap()
    }

    /// Runs a command that has to succeed; what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}\n{}", text(&output.stderr), self.log());
        text(&output.stdout)
    }

    /// Runs a command that has to succeed; its answer.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let printed = self.ok(&[&["--output", "json"], arguments].concat());
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {printed}"))
    }

    /// Runs a command that has to end with this code; what it complained.
    pub(crate) fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let complaint = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}{complaint}", text(&output.stdout));
        assert_is_a_sentence(&complaint);
        complaint
    }

    /// The plugins of a slot as it serves now.
    pub(crate) fn bound(&self, slot: &str) -> Vec<String> {
        let slot = self.json(&["plugin", "slots", slot]);
        let chain = slot["binding"]["chain"].as_array().unwrap();
        chain.iter().map(|link| link["plugin"].as_str().unwrap().split('@').next().unwrap().to_owned()).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A place for a daemon's data.
pub(crate) fn place() -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    (root, data)
}

/// What a process printed.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a server that has to refuse to start; its complaint.
pub(crate) fn refused<S: AsRef<OsStr>>(code: i32, arguments: &[S]) -> String {
    let output = platform().arg("server").args(arguments).output().unwrap();
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{complaint}");
    assert_is_a_sentence(complaint.lines().last().unwrap_or_default());
    complaint
}

/// A complaint is for people: no trace of the program's inside.
fn assert_is_a_sentence(complaint: &str) {
    for inside in ["panicked", "stack backtrace", "src/", "RUST_BACKTRACE", "Os {", "Status {"] {
        assert!(!complaint.contains(inside), "{complaint}");
    }
}

/// Status of an HTTP GET.
pub(crate) fn http_status(address: &str, path: &str) -> Option<u16> {
    http_body(address, path).map(|(status, _)| status)
}

/// Status and body of an HTTP GET.
pub(crate) fn http_body(address: &str, path: &str) -> Option<(u16, String)> {
    http(address, "GET", path, "", "").map(|(status, _, body)| (status, body))
}

/// Status, head and body of an answer over HTTP.
pub(crate) fn http(
    address: &str, method: &str, path: &str, headers: &str, body: &str,
) -> Option<(u16, String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{headers}connection: close\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, head.to_owned(), body.to_owned()))
}
