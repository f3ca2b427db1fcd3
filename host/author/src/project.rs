//! [`Project`]: the source of a plugin, in whichever language.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde_json::Value;

use crate::{
    Error,
    cargo::{Package, captured, package, rust},
    validate,
};

/// The source of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Project {
    /// A package of cargo.
    Rust(Package),
    /// A package of npm whose script `build` writes the component to the path that it is given.
    JavaScript(Script),
}

/// A package of npm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    name: String,
    version: String,
    folder: PathBuf,
}

impl Project {
    /// The project in a folder.
    ///
    /// # Errors
    /// There is none, or it says nothing that makes sense.
    pub fn find(folder: &Path) -> Result<Self, Error> {
        if folder.join("Cargo.toml").is_file() || !folder.join("package.json").is_file() {
            return package(folder).map(Self::Rust);
        }
        Script::read(folder).map(Self::JavaScript)
    }

    /// Name of the plugin.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Rust(package) => &package.name,
            Self::JavaScript(script) => &script.name,
        }
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> &str {
        match self {
            Self::Rust(package) => &package.version,
            Self::JavaScript(script) => &script.version,
        }
    }

    /// Where it lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        match self {
            Self::Rust(package) => &package.folder,
            Self::JavaScript(script) => &script.folder,
        }
    }

    /// Builds the component; `config` is settings of cargo, for projects that have to do with it.
    ///
    /// # Errors
    /// It can't be built, or what comes out is no component.
    pub fn build(&self, config: &[&str]) -> Result<Vec<u8>, Error> {
        match self {
            Self::Rust(package) => package.build("release", config),
            Self::JavaScript(script) => script.build(),
        }
    }

    /// Runs its native unit tests; whether all passed, none where there are no such tests.
    ///
    /// # Errors
    /// They can't be started.
    pub fn test(&self, quiet: bool) -> Result<Option<bool>, Error> {
        match self {
            Self::Rust(package) => package.test(quiet).map(Some),
            Self::JavaScript(_) => Ok(None),
        }
    }
}

fn modified(file: &Path) -> Option<SystemTime> {
    file.metadata().and_then(|metadata| metadata.modified()).ok()
}

impl Script {
    /// The package in a folder.
    ///
    /// # Errors
    /// There is none, or it says nothing that makes sense.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let file = folder.join("package.json");
        let wrong = |why: String| Error::Component(format!("`{}`: {why}", file.display()));
        let text = std::fs::read(&file).map_err(|error| wrong(error.to_string()))?;
        let package: Value = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        let member = |name: &str| {
            let text = package.get(name).and_then(Value::as_str).map(str::to_owned);
            text.ok_or_else(|| wrong(format!("it has no `{name}`")))
        };
        let folder = std::path::absolute(folder).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { name: member("name")?, version: member("version")?, folder })
    }

    /// Installs what it needs, unless that is there, and builds the component.
    ///
    /// # Errors
    /// npm is missing or fails, or what comes out is no component.
    pub fn build(&self) -> Result<Vec<u8>, Error> {
        let npm = || rust("NPM", "npm", &self.folder);
        // npm writes this last, and anew whenever what is there changes.
        let installed = modified(&self.folder.join("node_modules/.package-lock.json"));
        if installed.is_none() || installed < modified(&self.folder.join("package.json")) {
            captured(npm().args(["install", "--no-audit", "--no-fund", "--loglevel", "error"]))?;
        }
        let wrong = |why: String| Error::Component(format!("`npm run build`: {why}"));
        // A place that nobody watches, packs or commits.
        let file = self.folder.join("node_modules/.platform-plugin.wasm");
        captured(npm().args(["run", "--silent", "build", "--"]).arg(&file))?;
        let component =
            std::fs::read(&file).map_err(|error| wrong(format!("it wrote no `{}`: {error}", file.display())));
        // Whether it was written or not, nobody else looks for it.
        let _ = std::fs::remove_file(&file);
        let component = component?;
        validate(&component)?;
        Ok(component)
    }
}
