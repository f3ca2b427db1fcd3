//! Processes that a scenario starts: found, logged into files, measured, and stopped by id.
//!
//! Knows nothing of what they are. Invariant: a process ends with its guard.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use platform_base::clock;

/// A started process. Dropping it kills the process and waits for its end.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts a program with its output in `folder/name.log`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(name: &str, folder: &Path, command: &mut Command) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("can't write `{}`", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command
            .spawn()
            .with_context(|| format!("can't start {name}: `{}`", command.get_program().to_string_lossy()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Waits until `ready` answers true.
    ///
    /// # Errors
    /// When the process ends before, or is not ready in `within`; the error carries the end of its log.
    pub async fn ready(&mut self, within: Duration, mut ready: impl AsyncFnMut() -> bool) -> Result<()> {
        let deadline = clock::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status} while it was starting:\n{}", self.name, self.log_end());
            }
            if ready().await {
                return Ok(());
            }
            if clock::now() > deadline {
                bail!("{} was not ready within {} s:\n{}", self.name, within.as_secs(), self.log_end());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Kills the process at once, as a crash of the machine would, and waits for its end.
    pub fn kill(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether the process is still there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Memory that the process has in use, in bytes.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn resident_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).with_context(|| format!("can't read `{path}`"))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the system tells no resident size")?;
        let kibibytes: u64 =
            line.trim().trim_end_matches(" kB").trim().parse().context("the resident size is no number")?;
        Ok(kibibytes << 10)
    }

    /// The last lines that the process wrote.
    #[must_use]
    pub fn log_end(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A loopback address that was free a moment ago.
///
/// # Errors
/// When the system gives none.
pub fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
    listener.local_addr().context("a listener has no address")
}

/// An executable: what the variable names, else the one in `PATH` or among the tools that `cargo xtask setup` installs.
///
/// # Errors
/// When there is none.
pub fn executable(variable: &str, name: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), target().join("tools/bin")]);
    let found = places.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.with_context(|| {
        format!(
            "no `{name}` on this machine; `cargo xtask setup --servers` installs it, or set `{variable}` to where it is"
        )
    })
}

/// The folder for build results of this workspace.
#[must_use]
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The repository.
#[must_use]
pub fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_owned()
}
