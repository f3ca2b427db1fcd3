//! Builds std for guests where neither the toolchain nor rustup has it: on machines that only reach their distribution.
//!
//! The source package `rust-src` of the compiler's own version gives std, `wasi-libc` gives the C library below it. Both
//! are unpacked, not installed: package lists live in a folder of our own and the system's are not touched. The result
//! is a sysroot that links back to the toolchain for everything that runs on this machine.
//! Invariant: the finished sysroot appears under its name by one rename, so a half-built one is never used.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use platform_author::{TARGETS, Toolchain};

use super::archive::Archive;
use crate::process;
use crate::report::Report;
use crate::workspace::Workspace;

/// Where sysroots built here are kept.
pub(super) fn home(workspace: &Workspace) -> PathBuf {
    platform_author::overlays().unwrap_or_else(|| workspace.target.join("sysroot"))
}

/// Builds the sysroot `finished` for the toolchain.
pub(super) fn build(toolchain: &Toolchain, finished: &Path, report: &Report) -> Result<()> {
    let work = beside(finished)?;
    remove(&work)?;
    std::fs::create_dir_all(&work).with_context(|| format!("can't make `{}`", work.display()))?;
    let packages = report.step("fetch the sources of std", || fetch(toolchain, &work, report))?;
    let sources = packages.join("usr/src").join(format!("rustc-{}", toolchain.release));
    ensure!(sources.join("library").is_dir(), "the package rust-src has no `{}`", sources.join("library").display());
    let sysroot = work.join("sysroot");
    for target in TARGETS {
        report.step(&format!("build std for {target}"), || {
            compile(toolchain, &sources, &work, target)?;
            collect(&packages, &work, &sysroot, target)
        })?;
    }
    // Linkers and the std of this machine stay the toolchain's own.
    let own = Path::new("lib/rustlib").join(&toolchain.host);
    std::os::unix::fs::symlink(toolchain.sysroot.join(&own), sysroot.join(&own))
        .context("can't link to the toolchain")?;
    remove(finished)?;
    std::fs::rename(&sysroot, finished).with_context(|| format!("can't put `{}` in its place", finished.display()))?;
    remove(&work)
}

/// Downloads and unpacks the packages that std is built from; the folder they are in.
fn fetch(toolchain: &Toolchain, work: &Path, report: &Report) -> Result<PathBuf> {
    let archive = Archive::open(work, report)?;
    let wanted = [
        format!(
            "rust-src={}",
            archive.version("rust-src", |version| version.starts_with(&format!("{}+", toolchain.release)))?
        ),
        format!("wasi-libc={}", archive.version("wasi-libc", |version| version.starts_with("0.0~git"))?),
    ];
    archive.fetch(&wanted, report)
}

/// Compiles std the way the toolchain's own build does: as a dependency of nothing, with the internal features unlocked.
fn compile(toolchain: &Toolchain, sources: &Path, work: &Path, target: &str) -> Result<()> {
    let remap = format!("--remap-path-prefix={}=/rustc/{}", sources.display(), toolchain.commit);
    let flags = ["-Cembed-bitcode=yes", "-Zforce-unstable-if-unmarked", &remap].join("\x1f");
    let mut cargo = process::cargo(&sources.join("library"));
    // Flags and targets meant for the user's own builds must not reach std.
    for variable in ["CARGO_BUILD_TARGET", "RUSTFLAGS", "RUSTC_WRAPPER", "CARGO_BUILD_RUSTC_WRAPPER"] {
        cargo.env_remove(variable);
    }
    cargo
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", work.join("target"))
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        // Symbols of a std built elsewhere must not collide with this one's.
        .env("__CARGO_DEFAULT_LIB_METADATA", "platform-std")
        .args(["build", "--release", "-Zavoid-dev-deps", "--package", "sysroot"])
        .args(["--features", "panic-unwind backtrace", "--target", target]);
    process::run(&mut cargo)
}

/// Copies what rustc looks for below the target's folder of a sysroot.
fn collect(packages: &Path, work: &Path, sysroot: &Path, target: &str) -> Result<()> {
    let libraries = sysroot.join("lib/rustlib").join(target).join("lib");
    std::fs::create_dir_all(&libraries)?;
    let built = work.join("target").join(target).join("release/deps");
    for file in std::fs::read_dir(&built).with_context(|| format!("cargo left nothing in `{}`", built.display()))? {
        let file = file?;
        let name = file.file_name().to_string_lossy().into_owned();
        // The package `sysroot` only pulls the others in.
        if name.ends_with(".rlib") && !name.starts_with("libsysroot-") {
            std::fs::copy(file.path(), libraries.join(name))?;
        }
    }
    if target.contains("wasi") {
        let own = libraries.join("self-contained");
        std::fs::create_dir_all(&own)?;
        for name in ["libc.a", "crt1-command.o", "crt1-reactor.o"] {
            let source = packages.join("usr/lib").join(target).join(name);
            std::fs::copy(&source, own.join(name))
                .with_context(|| format!("the package wasi-libc has no `{}`", source.display()))?;
        }
    }
    Ok(())
}

/// Where the sysroot is made before it is put in its place, on the same file system.
fn beside(finished: &Path) -> Result<PathBuf> {
    let name = finished.file_name().context("a sysroot needs a name")?.to_string_lossy();
    Ok(finished.with_file_name(format!("{name}.work")))
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("can't remove `{}`", folder.display()))
        }
        _ => Ok(()),
    }
}
