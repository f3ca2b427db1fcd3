//! What cargo knows of this workspace: its packages, where they are and what they depend on.
//!
//! Read once from `cargo metadata`; nothing here parses `Cargo.toml` itself.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;

/// The repository's cargo workspace.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// The folder for build results.
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

pub(crate) struct Package {
    /// Cargo's own identifier, as it appears in build messages.
    pub(crate) id: String,
    pub(crate) name: String,
    /// Relative to the root, with `/` between parts.
    pub(crate) folder: String,
    /// Packages of this workspace that it is built with; those that only its tests use are left out.
    pub(crate) uses: Vec<String>,
    /// Packages from elsewhere that it is built with, by the names they have there.
    pub(crate) foreign: Vec<String>,
    /// `package.metadata.platform`, null when there is none.
    pub(crate) platform: Value,
}

impl Workspace {
    pub(crate) fn load() -> Result<Self> {
        // Cargo sets the variable when it runs this task; the folder at build time serves when the binary is run by itself.
        let own = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = own.parent().context("the folder of `xtask` has no parent")?.to_owned();
        let text = process::output(process::cargo(&root).args(["metadata", "--no-deps", "--format-version", "1"]))?;
        let metadata: Value = serde_json::from_str(&text).context("`cargo metadata` wrote no JSON")?;
        let target = PathBuf::from(string(&metadata, "target_directory")?);
        let listed =
            metadata.get("packages").and_then(Value::as_array).context("`cargo metadata` lists no packages")?;
        let packages = listed.iter().map(|package| Package::read(package, &root)).collect::<Result<_>>()?;
        Ok(Self { root, target, packages })
    }

    /// The folder for what is built to be used: components, and the data of a platform started by `run`.
    pub(crate) fn dist(&self) -> PathBuf {
        self.root.join("dist")
    }

    /// The folder for programs that tasks install for themselves.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }
}

impl Package {
    fn read(package: &Value, root: &Path) -> Result<Self> {
        let manifest = PathBuf::from(string(package, "manifest_path")?);
        let folder = manifest.parent().and_then(|folder| folder.strip_prefix(root).ok());
        let dependencies = package.get("dependencies").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let built_with =
            dependencies.iter().filter(|dependency| dependency.get("kind").and_then(Value::as_str) != Some("dev"));
        let (own, foreign): (Vec<&Value>, Vec<&Value>) =
            built_with.partition(|dependency| dependency.get("path").is_some_and(Value::is_string));
        let names = |dependencies: Vec<&Value>| {
            dependencies.into_iter().map(|dependency| string(dependency, "name")).collect::<Result<_>>()
        };
        Ok(Self {
            id: string(package, "id")?,
            name: string(package, "name")?,
            folder: folder.context("a package lies outside of the repository")?.to_string_lossy().replace('\\', "/"),
            uses: names(own)?,
            foreign: names(foreign)?,
            platform: package.pointer("/metadata/platform").cloned().unwrap_or(Value::Null),
        })
    }
}

fn string(value: &Value, key: &str) -> Result<String> {
    let text = value.get(key).and_then(Value::as_str);
    text.map(str::to_owned).with_context(|| format!("`cargo metadata` gives no `{key}`"))
}
