//! Making a bare machine ready: the standard library for guests, and the servers that tests run against.
//!
//! Guests need std for two WebAssembly targets. In this order: the toolchain has them; rustup brings them; std is built
//! here once, from the distribution's source package. Invariant: when nothing is to be done, it costs milliseconds.

mod archive;
mod overlay;
mod servers;

use std::process::Command;

use anyhow::{Context, Result, bail};
use platform_author::{Sysroot, TARGETS, Toolchain, has_targets};

use crate::process;
use crate::report::Report;
use crate::workspace::Workspace;

pub(crate) use self::servers::{python, servers};

/// Makes guests compile on this machine and says with which sysroot.
pub(crate) fn guests(workspace: &Workspace, report: &Report) -> Result<Sysroot> {
    let toolchain = Toolchain::detect(&workspace.root)?;
    if let Some(found) = Sysroot::find(&toolchain, &TARGETS) {
        return Ok(found);
    }
    let overlay = overlay::home(workspace).join(&toolchain.release);
    if has_targets(&overlay, &TARGETS) {
        return Ok(Sysroot::Overlay(overlay));
    }
    report.step("make guests compile here", || {
        report.note(format!("the toolchain {} has no {}", toolchain.release, TARGETS.join(" or no ")));
        if std::env::var_os("PLATFORM_NO_RUSTUP").is_none() && process::find("rustup").is_some() {
            report.note("asking rustup for them");
            let added = process::run(Command::new("rustup").current_dir(&workspace.root).args(["target", "add"]).args(TARGETS));
            if added.is_ok() && has_targets(&toolchain.sysroot, &TARGETS) {
                return Ok(Sysroot::Toolchain);
            }
            report.note("rustup can't bring them");
        }
        overlay::build(&toolchain, &overlay, report).context(
            "guests can't be compiled on this machine; install the targets wasm32-unknown-unknown and wasm32-wasip2 for \
             the toolchain in use, then run this again",
        )?;
        if !has_targets(&overlay, &TARGETS) {
            bail!("the standard library built in `{}` is incomplete; remove the folder and try again", overlay.display());
        }
        Ok(Sysroot::Overlay(overlay))
    })
}
