//! Starts the platform from this work tree, with the components built from it.
//!
//! Owns the arguments that a platform started this way gets. Invariant: this process becomes the daemon, so signals and
//! the exit code are the daemon's own.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::plugins::{self, Choice};
use crate::process;
use crate::report::Report;
use crate::workspace::Workspace;

/// Where a platform started by this task listens, unless told otherwise.
const ADDRESS: &str = "127.0.0.1:8080";

pub(crate) fn run(workspace: &Workspace, report: &Report, dev: bool, arguments: &[OsString]) -> Result<()> {
    plugins::build(workspace, report, Choice::default())?;
    report.step("build the daemon", || {
        let mut cargo = process::build_beside_benches(&workspace.root);
        cargo.args(["--bin", "platform"]);
        if !dev {
            cargo.arg("--release");
        }
        process::run(&mut cargo)
    })?;
    let profile = if dev { "debug" } else { "release" };
    let mut daemon = Command::new(workspace.target.join(profile).join("platform"));
    daemon.arg("server");
    for (flag, value) in [
        ("--data-dir", workspace.dist().join("data").into_os_string()),
        ("--plugins-dir", workspace.dist().join("plugins").into_os_string()),
        ("--server-address", ADDRESS.into()),
    ] {
        if !given(arguments, flag) {
            daemon.arg(flag).arg(value);
        }
    }
    daemon.args(arguments);
    Err(daemon.exec()).with_context(|| format!("can't start `{}`", daemon.get_program().to_string_lossy()))
}

/// Whether the user set the flag, as `--flag VALUE` or `--flag=VALUE`.
fn given(arguments: &[OsString], flag: &str) -> bool {
    arguments.iter().any(|argument| {
        let text = argument.to_string_lossy();
        text == flag || text.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='))
    })
}

#[cfg(test)]
mod tests {
    use super::given;

    #[test]
    fn flags_are_found_in_both_forms() {
        let arguments = ["--data-dir=/x".into(), "--server-address".into(), "[::1]:1".into()];
        assert!(given(&arguments, "--data-dir"));
        assert!(given(&arguments, "--server-address"));
        assert!(!given(&arguments, "--plugins-dir"));
        assert!(!given(&arguments, "--data"));
    }
}
