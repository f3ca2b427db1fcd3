//! [`Toolchain`] and [`Sysroot`]: whether guests can be compiled here, and with which standard library.
//!
//! Must not install anything. Invariant: asking costs milliseconds.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::{
    Error,
    cargo::WAY_OUT,
    run::{captured, program},
};

/// The targets that guests are built for.
pub const TARGETS: [&str; 2] = ["wasm32-unknown-unknown", "wasm32-wasip2"];

/// The toolchain in use.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// Where it keeps its libraries.
    pub sysroot: PathBuf,
    /// For example `1.95.0`.
    pub release: String,
    /// The commit of the compiler, which appears in paths inside std.
    pub commit: String,
    /// The target that the compiler itself runs on.
    pub host: String,
}

impl Toolchain {
    /// The toolchain that is used in a folder.
    ///
    /// # Errors
    /// There is none, or it does not answer.
    pub fn detect(folder: &Path) -> Result<Self, Error> {
        let rustc = || program("RUSTC", "rustc", folder);
        let sysroot = captured(rustc().args(["--print", "sysroot"]), WAY_OUT)?;
        let version = captured(rustc().arg("-vV"), WAY_OUT)?;
        let field = |name: &str| {
            let line = version.lines().find_map(|line| line.strip_prefix(name)).map(|text| text.trim().to_owned());
            line.ok_or_else(|| Error::Output { program: "rustc -vV".to_owned(), what: format!("no line `{name}`") })
        };
        Ok(Self {
            sysroot: PathBuf::from(sysroot.trim_end()),
            release: field("release:")?,
            commit: field("commit-hash:")?,
            host: field("host:")?,
        })
    }
}

/// The sysroot to build guests with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sysroot {
    /// The toolchain's own.
    Toolchain,
    /// One that was built on this machine.
    Overlay(PathBuf),
}

impl Sysroot {
    /// What there is already for these targets, if anything.
    #[must_use]
    pub fn find(toolchain: &Toolchain, targets: &[&str]) -> Option<Self> {
        if has_targets(&toolchain.sysroot, targets) {
            return Some(Self::Toolchain);
        }
        let overlay = overlays()?.join(&toolchain.release);
        has_targets(&overlay, targets).then_some(Self::Overlay(overlay))
    }

    /// Flags for rustc that make it use this one.
    pub(crate) fn flags(&self) -> Vec<String> {
        match self {
            Self::Toolchain => Vec::new(),
            Self::Overlay(path) => vec!["--sysroot".to_owned(), path.to_string_lossy().into_owned()],
        }
    }
}

/// Where sysroots that were built here are kept: beside other caches of the user, so that they outlive `cargo clean`.
#[must_use]
pub fn overlays() -> Option<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    variable("PLATFORM_SYSROOT_DIR").or_else(|| cache.map(|cache| cache.join("platform/sysroot")))
}

/// Whether a sysroot has std for all of these targets.
#[must_use]
pub fn has_targets(sysroot: &Path, targets: &[&str]) -> bool {
    targets.iter().all(|target| {
        let folder = sysroot.join("lib/rustlib").join(target).join("lib");
        let Ok(files) = std::fs::read_dir(folder) else { return false };
        files.flatten().any(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            name.starts_with("libstd-") && name.ends_with(".rlib")
        })
    })
}
