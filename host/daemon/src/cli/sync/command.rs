//! Runs a command under a place that is held.
//!
//! Must not know how the place is kept. Invariant: a command whose place is lost is stopped, and this process does not end
//! before it.

use std::{ffi::OsString, os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::hold::Holding;
use crate::cli::{
    FENCING,
    ends::Ends,
    failure::{Exit, Failure},
    fencing,
};

/// How long a command may take to stop before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// Runs a command to its end, or until the place is lost.
pub(crate) async fn under(holding: &mut Holding<'_>, ends: &mut Ends, command: &[OsString]) -> Result<Exit, Failure> {
    let Some((program, arguments)) = command.split_first() else { return Ok(Exit::Done) };
    let spawned = Command::new(program)
        .args(arguments)
        .env(FENCING, fencing(&holding.name, holding.token))
        .env("PLATFORM_SYNC_NAME", &holding.name)
        .env("PLATFORM_SYNC_TOKEN", holding.token.to_string())
        .env("PLATFORM_SYNC_LEASE", &holding.lease)
        .kill_on_drop(true)
        .spawn();
    let mut child = spawned.map_err(|error| {
        let program = program.to_string_lossy();
        Failure::usage(format!("can't run `{}`: {error}", program.escape_debug()))
    })?;
    let outcome = tokio::select! {
        status = child.wait() => Ok(status?),
        lost = holding.until_lost() => Err(Some(lost)),
        () = ends.next() => Err(None),
    };
    match outcome {
        Ok(status) => Ok(exit_of(status)),
        Err(Some(lost)) => {
            stop(&mut child).await?;
            Err(lost)
        }
        Err(None) => Ok(exit_of(stop(&mut child).await?)),
    }
}

/// Asks a command to end, and ends it if it does not.
async fn stop(child: &mut Child) -> Result<ExitStatus, Failure> {
    if let Some(pid) = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).unwrap_or_default())) {
        // It may have ended by itself just now.
        let _ = kill_process(pid, Signal::TERM);
    }
    match tokio::time::timeout(GRACE, child.wait()).await {
        Ok(status) => Ok(status?),
        Err(_) => {
            child.kill().await?;
            Ok(child.wait().await?)
        }
    }
}

/// The exit code of a command, as shells tell it.
fn exit_of(status: ExitStatus) -> Exit {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Exit::Of(u8::try_from(code).unwrap_or(1))
}
