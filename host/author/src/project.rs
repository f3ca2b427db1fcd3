//! [`Project`]: the source of a plugin, in whichever language.

use std::path::{Path, PathBuf};

use crate::{
    Built, Error, Manifest, c,
    cargo::{Package, package},
    javascript, manifest, python,
};

/// The source of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Project {
    /// A package of cargo.
    Rust(Package),
    /// A folder with a manifest and sources in another language.
    Other(Sources),
}

/// Sources in another language than Rust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    manifest: Manifest,
    folder: PathBuf,
    build: Builder,
}

/// What makes a component of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Builder {
    C,
    Python,
    JavaScript,
}

impl Project {
    /// The project in a folder.
    ///
    /// # Errors
    /// There is none, or it says nothing that makes sense.
    pub fn find(folder: &Path) -> Result<Self, Error> {
        if folder.join("Cargo.toml").is_file() || !folder.join(manifest::FILE).is_file() {
            return package(folder).map(Self::Rust);
        }
        Sources::read(folder).map(Self::Other)
    }

    /// Name of the plugin.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Rust(package) => &package.name,
            Self::Other(sources) => &sources.manifest.name,
        }
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> &str {
        match self {
            Self::Rust(package) => &package.version,
            Self::Other(sources) => &sources.manifest.version,
        }
    }

    /// Where it lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        match self {
            Self::Rust(package) => &package.folder,
            Self::Other(sources) => &sources.folder,
        }
    }

    /// Builds the component; `config` is settings of cargo for a build that is to be quick rather than good, in whichever language.
    ///
    /// # Errors
    /// It can't be built, or what comes out is no component.
    pub fn build(&self, config: &[&str]) -> Result<Built, Error> {
        match self {
            Self::Rust(package) => package.build(config),
            Self::Other(sources) => sources.build(None, !config.is_empty()),
        }
    }

    /// Runs its native unit tests; whether all passed, none where there are no such tests.
    ///
    /// # Errors
    /// They can't be started.
    pub fn test(&self, quiet: bool) -> Result<Option<bool>, Error> {
        match self {
            Self::Rust(package) => package.test(quiet).map(Some),
            Self::Other(sources) => sources.test(quiet),
        }
    }
}

impl Sources {
    /// The sources in a folder.
    ///
    /// # Errors
    /// There are none, or the manifest says nothing that makes sense.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let manifest = Manifest::read(folder)?;
        let folder =
            std::path::absolute(folder).map_err(|error| Error::Project(format!("`{}`: {error}", folder.display())))?;
        let build = if folder.join(javascript::FILE).is_file() {
            Builder::JavaScript
        } else if folder.join(python::FILE).is_file() {
            Builder::Python
        } else if folder.join("src").is_dir() {
            Builder::C
        } else {
            return Err(Error::NoProject(folder));
        };
        Ok(Self { manifest, folder, build })
    }

    /// Builds the component, with its manifest in it; `tools` is a folder of programs to look at before the path. One that is
    /// to be quick may be slower to run.
    ///
    /// # Errors
    /// What it is built with is missing or fails, or what comes out is no component.
    pub fn build(&self, tools: Option<&Path>, quick: bool) -> Result<Built, Error> {
        let component = match self.build {
            Builder::C => c::build(&self.folder)?,
            Builder::Python => python::build(&self.folder, tools)?,
            Builder::JavaScript => javascript::build(&self.folder, quick)?,
        };
        Built::of(self.manifest.embed(component))
    }

    /// Runs the tests that are run natively, if there are any; whether all passed.
    fn test(&self, quiet: bool) -> Result<Option<bool>, Error> {
        match self.build {
            Builder::C => c::test(&self.folder, quiet),
            Builder::Python => python::test(&self.folder, quiet),
            Builder::JavaScript => javascript::test(&self.folder, quiet),
        }
    }
}
