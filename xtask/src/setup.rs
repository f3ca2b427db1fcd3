//! Making a bare machine ready: the standard library for guests, and the servers that tests run against.
//!
//! Guests need std for two WebAssembly targets. In this order: the toolchain has them; rustup brings them; std is built
//! here once, from the distribution's source package. Invariant: when nothing is to be done, it costs milliseconds.

mod archive;
mod overlay;
mod servers;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::report::Report;
use crate::workspace::Workspace;

pub(crate) use self::servers::{python, servers};

/// The targets that guests are built for.
pub(crate) const TARGETS: [&str; 2] = ["wasm32-unknown-unknown", "wasm32-wasip2"];

/// The toolchain in use, as far as building std for it goes.
pub(crate) struct Toolchain {
    /// Where it keeps its libraries.
    pub(crate) sysroot: PathBuf,
    /// For example `1.95.0`.
    pub(crate) release: String,
    /// The commit of the compiler, which appears in paths inside std.
    pub(crate) commit: String,
    /// The target that the compiler itself runs on.
    pub(crate) host: String,
}

/// The sysroot to build guests with.
pub(crate) enum Sysroot {
    /// The toolchain's own.
    Toolchain,
    /// One that was built here.
    Overlay(PathBuf),
}

impl Sysroot {
    /// Arguments for a cargo that builds guests for `target`. Flags are given as a list, for paths with spaces.
    pub(crate) fn cargo_arguments(&self, target: &str) -> Vec<String> {
        match self {
            Self::Toolchain => Vec::new(),
            Self::Overlay(path) => {
                let flags = serde_json::json!(["--sysroot", path.to_string_lossy()]);
                vec!["--config".to_owned(), format!("target.{target}.rustflags={flags}")]
            }
        }
    }
}

/// Makes guests compile on this machine and says with which sysroot.
pub(crate) fn guests(workspace: &Workspace, report: &Report) -> Result<Sysroot> {
    let toolchain = Toolchain::detect(&workspace.root)?;
    if has_targets(&toolchain.sysroot) {
        return Ok(Sysroot::Toolchain);
    }
    let overlay = overlay::home(workspace).join(&toolchain.release);
    if has_targets(&overlay) {
        return Ok(Sysroot::Overlay(overlay));
    }
    report.step("make guests compile here", || {
        report.note(format!("the toolchain {} has no {}", toolchain.release, TARGETS.join(" or no ")));
        if std::env::var_os("PLATFORM_NO_RUSTUP").is_none() && process::find("rustup").is_some() {
            report.note("asking rustup for them");
            let added = process::run(Command::new("rustup").current_dir(&workspace.root).args(["target", "add"]).args(TARGETS));
            if added.is_ok() && has_targets(&toolchain.sysroot) {
                return Ok(Sysroot::Toolchain);
            }
            report.note("rustup can't bring them");
        }
        overlay::build(&toolchain, &overlay, report).context(
            "guests can't be compiled on this machine; install the targets wasm32-unknown-unknown and wasm32-wasip2 for \
             the toolchain in use, then run this again",
        )?;
        if !has_targets(&overlay) {
            bail!("the standard library built in `{}` is incomplete; remove the folder and try again", overlay.display());
        }
        Ok(Sysroot::Overlay(overlay))
    })
}

/// Whether a sysroot has std for every target of guests.
fn has_targets(sysroot: &Path) -> bool {
    TARGETS.iter().all(|target| {
        let folder = sysroot.join("lib/rustlib").join(target).join("lib");
        let Ok(files) = std::fs::read_dir(folder) else { return false };
        files.flatten().any(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            name.starts_with("libstd-") && name.ends_with(".rlib")
        })
    })
}

impl Toolchain {
    fn detect(root: &Path) -> Result<Self> {
        let rustc = || {
            let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
            command.current_dir(root);
            command
        };
        let sysroot = process::output(rustc().args(["--print", "sysroot"]))?;
        let version = process::output(rustc().arg("-vV"))?;
        let field = |name: &str| {
            let line = version.lines().find_map(|line| line.strip_prefix(name));
            line.map(|text| text.trim().to_owned()).with_context(|| format!("`rustc -vV` does not say `{name}`"))
        };
        Ok(Self {
            sysroot: PathBuf::from(sysroot.trim_end()),
            release: field("release:")?,
            commit: field("commit-hash:")?,
            host: field("host:")?,
        })
    }
}
