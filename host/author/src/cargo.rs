//! [`Compile`]: one run of cargo that builds guests, and what a project says of itself.
//!
//! Invariant: the same source gives the same bytes wherever it lies: flags of the user's own builds are left out, and paths of
//! this machine are replaced.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    Built, Error, Sysroot, TARGETS, Toolchain,
    run::{captured, passed, program},
};

/// How to get what a toolchain consists of.
pub(crate) const WAY_OUT: &str = "install Rust, see https://rustup.rs";

/// Keeps line tables, which [`Built`] has a component without.
const LINES: [&str; 2] = ["profile.release.debug=\"line-tables-only\"", "profile.release.strip=false"];

/// Builds guests for one target.
#[derive(Debug, Clone)]
pub struct Compile<'a> {
    /// Folder of the package or workspace.
    pub folder: &'a Path,
    /// The target.
    pub target: &'a str,
    /// Standard library to build with.
    pub sysroot: &'a Sysroot,
    /// Profile of cargo.
    pub profile: &'a str,
    /// Packages, all that the folder stands for when empty.
    pub packages: &'a [&'a str],
    /// Whether examples are built too.
    pub examples: bool,
    /// Further settings of cargo, as `--config` takes them.
    pub config: &'a [&'a str],
    /// Folders whose names must not get into the component, and what stands for them.
    pub remap: &'a [(PathBuf, &'a str)],
}

/// A module or component as the compiler left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Cargo's identifier of its package.
    pub package: String,
    /// Name of the example when it is one.
    pub example: Option<String>,
    /// The file.
    pub file: PathBuf,
}

impl Compile<'_> {
    /// Runs cargo, which tells on standard error what it does; the modules it left, also those that were fresh.
    ///
    /// # Errors
    /// Cargo can't be started or failed.
    pub fn run(&self) -> Result<Vec<Artifact>, Error> {
        let mut command = cargo(self.folder);
        // Flags for the host's builds would only make guests differ from machine to machine.
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_BUILD_RUSTFLAGS"] {
            command.env_remove(name);
        }
        command.args(["build", "--profile", self.profile, "--target", self.target]);
        command.args(["--message-format", "json-render-diagnostics", "--lib"]);
        let mut flags = self.sysroot.flags();
        for (folder, name) in self.remap {
            flags.push(format!("--remap-path-prefix={}={name}", folder.display()));
        }
        if !flags.is_empty() {
            // Given as a list, for paths with spaces.
            let flags = Value::from(flags);
            command.arg("--config").arg(format!("target.{}.rustflags={flags}", self.target));
        }
        for (option, values) in [("--config", self.config), ("--package", self.packages)] {
            command.args(values.iter().flat_map(|value| [option, value]));
        }
        if self.examples {
            command.arg("--examples");
        }
        let messages = captured(&mut command, WAY_OUT)?;
        let mut artifacts = Vec::new();
        for line in messages.lines().filter(|line| line.starts_with('{')) {
            let message: Value = serde_json::from_str(line)
                .map_err(|error| Error::Output { program: "cargo build".to_owned(), what: error.to_string() })?;
            artifacts.extend(artifact(&message));
        }
        Ok(artifacts)
    }
}

/// The module that a message of cargo tells of.
fn artifact(message: &Value) -> Option<Artifact> {
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
    let files = message.get("filenames")?.as_array()?;
    let file = files.iter().filter_map(Value::as_str).map(Path::new);
    let file = file.into_iter().find(|file| file.extension().is_some_and(|extension| extension == "wasm"))?;
    let example = text("/target/kind/0") == Some("example");
    let example = if example { Some(text("/target/name")?.to_owned()) } else { None };
    Some(Artifact { package: text("/package_id")?.to_owned(), example, file: file.to_owned() })
}

/// What the project of a plugin says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Cargo's identifier of the package.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The root of its workspace.
    pub workspace: PathBuf,
    /// What it is compiled for.
    pub target: String,
}

/// The project of a plugin in a folder.
///
/// # Errors
/// There is none, or it says nothing that makes sense.
pub(crate) fn package(folder: &Path) -> Result<Package, Error> {
    if !folder.join("Cargo.toml").is_file() {
        return Err(Error::NoProject(folder.to_owned()));
    }
    let text = captured(cargo(folder).args(["metadata", "--no-deps", "--format-version", "1"]), WAY_OUT)?;
    let odd = |what: &str| Error::Output { program: "cargo metadata".to_owned(), what: what.to_owned() };
    let metadata: Value = serde_json::from_str(&text).map_err(|error| odd(&error.to_string()))?;
    let manifest = folder.join("Cargo.toml").canonicalize().map_err(|_gone| Error::NoProject(folder.to_owned()))?;
    let is_here = |package: &&Value| {
        let path = package.get("manifest_path").and_then(Value::as_str).map(Path::new);
        path.and_then(|path| path.canonicalize().ok()).is_some_and(|path| path == manifest)
    };
    let packages = metadata.get("packages").and_then(Value::as_array).ok_or_else(|| odd("no packages"))?;
    let package = packages.iter().find(is_here).ok_or_else(|| Error::NoProject(folder.to_owned()))?;
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let target = package.pointer("/metadata/platform/target").and_then(Value::as_str);
    let target = target.ok_or_else(|| Error::NoProject(folder.to_owned()))?;
    if !TARGETS.contains(&target) {
        return Err(Error::Target(target.to_owned()));
    }
    Ok(Package {
        id: text(package, "id").ok_or_else(|| odd("a package without an id"))?,
        name: text(package, "name").ok_or_else(|| odd("a package without a name"))?,
        version: text(package, "version").ok_or_else(|| odd("a package without a version"))?,
        folder: manifest.parent().unwrap_or(folder).to_owned(),
        workspace: text(&metadata, "workspace_root").ok_or_else(|| odd("no workspace"))?.into(),
        target: target.to_owned(),
    })
}

impl Package {
    /// Builds the component with the profile `release`; `config` is further settings of cargo.
    ///
    /// # Errors
    /// It can't be compiled, or what comes out is no component.
    pub fn build(&self, config: &[&str]) -> Result<Built, Error> {
        let toolchain = Toolchain::detect(&self.folder)?;
        let sysroot =
            Sysroot::find(&toolchain, &[&self.target]).ok_or_else(|| Error::NoStandardLibrary(self.target.clone()))?;
        // What a backtrace names is found from the project's folder.
        let mut remap = vec![(self.workspace.clone(), "")];
        remap.extend(cargo_home().map(|home| (home, "/cargo")));
        let compile = Compile {
            folder: &self.folder,
            target: &self.target,
            sysroot: &sysroot,
            profile: "release",
            packages: &[],
            examples: false,
            config: &[&LINES[..], config].concat(),
            remap: &remap,
        };
        let artifacts = compile.run()?;
        let built = artifacts.into_iter().find(|artifact| artifact.package == self.id);
        let nothing = || {
            let why = "cargo left no module; `[lib]` of `Cargo.toml` needs `crate-type = [\"cdylib\"]`";
            Error::Component(why.to_owned())
        };
        let file = built.ok_or_else(nothing)?.file;
        let compiled = std::fs::read(&file)
            .map_err(|error| Error::Component(format!("can't read `{}`: {error}", file.display())))?;
        Built::of(crate::component(&compiled)?)
    }

    /// Runs its native unit tests, which tell on standard error how they fare; whether all passed.
    ///
    /// # Errors
    /// Cargo can't be started.
    pub fn test(&self, quiet: bool) -> Result<bool, Error> {
        passed(cargo(&self.folder).args(["test", "--quiet", "--lib"]), quiet, WAY_OUT)
    }
}

fn cargo_home() -> Option<PathBuf> {
    let named = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("CARGO_HOME").or_else(|| named("HOME").map(|home| home.join(".cargo")))
}

/// The cargo to use, so that toolchain overrides of one that runs this program carry over.
fn cargo(folder: &Path) -> Command {
    program("CARGO", "cargo", folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_among_messages() {
        let message = |kind: &str, file: &str| {
            serde_json::json!({
                "reason": "compiler-artifact", "package_id": "a 1", "filenames": [file],
                "target": {"kind": [kind], "name": "one"},
            })
        };
        let found = artifact(&message("cdylib", "/x/a.wasm")).unwrap();
        assert_eq!((found.package.as_str(), found.example), ("a 1", None));
        assert_eq!(artifact(&message("example", "/x/one.wasm")).unwrap().example.as_deref(), Some("one"));
        assert_eq!(artifact(&message("lib", "/x/a.rlib")), None);
    }

    #[test]
    fn a_folder_without_a_project_is_told_so() {
        let error = package(Path::new("/nowhere")).unwrap_err();
        assert!(error.to_string().contains("platform plugin new"), "{error}");
    }
}
