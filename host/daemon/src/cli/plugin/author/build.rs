//! `platform plugin build`: from the source of a project to the component that is installed.
//!
//! Invariant: what is written is a component that a daemon takes, which says what it asks for and asks for what it says; it
//! is written beside its place and renamed, so that nobody reads half a file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::Args;
use platform_author::Project;
use platform_capability::{Grant, Need, need};
use platform_control::inspect::{Facts, inspect};

use crate::{
    cli::{
        Context,
        failure::{Exit, Failure},
    },
    words,
};

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Folder of the project.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Where the component goes; `dist/NAME.wasm` in the project when not given.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Keeps line tables, for a daemon that tells files and lines of traps (`engine.backtrace_lines`).
    #[arg(long)]
    debug: bool,
}

/// A component that was built.
#[derive(Debug)]
pub(super) struct Built {
    /// The project.
    pub(super) project: Project,
    /// The component as it is shipped.
    pub(super) component: Vec<u8>,
    /// The same with line tables.
    pub(super) traced: Vec<u8>,
    /// What it is.
    pub(super) facts: Facts,
}

impl Build {
    /// Builds and writes the component.
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let built = build(&self.folder, &[])?;
        let own = || self.folder.join("dist").join(built.project.name()).with_extension("wasm");
        let file = self.file.clone().unwrap_or_else(own);
        let (component, facts) = if self.debug {
            let facts = facts(built.project.name(), &built.traced)?;
            (built.traced, facts)
        } else {
            (built.component, built.facts)
        };
        write(&file, &component)
            .map_err(|error| Failure::usage(format!("can't write `{}`: {}", file.display(), words::of(&error))))?;
        super::inspect::show(context.output, &file, &facts)?;
        Ok(Exit::Done)
    }
}

/// Builds the project in a folder; `config` is settings of cargo.
pub(super) fn build(folder: &Path, config: &[&str]) -> Result<Built, Failure> {
    let project = Project::find(folder)?;
    let platform_author::Built { component, traced } = project.build(config)?;
    let facts = facts(project.name(), &component)?;
    Ok(Built { project, component, traced, facts })
}

/// What a component is, if it can be installed and its manifest is right.
fn facts(name: &str, component: &[u8]) -> Result<Facts, Failure> {
    let refused = |reason: &str, message: String| Failure::new(Exit::Error, reason, message);
    let facts = inspect(component)
        .map_err(|rejection| refused(rejection.reason(), format!("`{name}` can't be installed: {rejection}")))?;
    match lie(&facts) {
        Some(lie) => Err(refused("MANIFEST_LIES", format!("the manifest of `{name}` is wrong: {lie}"))),
        None => Ok(facts),
    }
}

/// Where what the manifest asks for is not what the component imports.
fn lie(facts: &Facts) -> Option<String> {
    if facts.manifest.name.is_none() || facts.manifest.slot.is_none() {
        return Some(
            "it names no plugin or no slot; `platform_sdk::export!` writes one that does, as does `manifest.json`"
                .to_owned(),
        );
    }
    let says = &facts.manifest.grants;
    let needs = |import: &String| match need(import) {
        Need::Grant(grant) => Some((import.clone(), grant)),
        _ => None,
    };
    let needed: Vec<_> = facts.imports.iter().filter_map(needs).collect();
    if let Some((import, grant)) = needed.iter().find(|(_, grant)| !says.contains(grant)) {
        return Some(format!(
            "the component imports `{import}`, which takes the grant `{grant}`; ask for it in `export!` or as one of the `grants` of `manifest.json`"
        ));
    }
    let reaches = facts.imports.iter().any(|import| need(import) == Need::Network);
    let is_used = |grant: &Grant| match grant {
        Grant::Network { .. } => reaches,
        Grant::Files(_) | Grant::Env(_) => needed.iter().any(|(_, needed)| *needed == Grant::Wasi),
        _ => needed.iter().any(|(_, needed)| needed == grant),
    };
    let idle = says.iter().find(|grant| !is_used(grant))?;
    Some(format!("it asks for `{idle}`, which nothing in the component uses; leave it out"))
}

fn write(file: &Path, component: &[u8]) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let beside = file.with_extension("wasm.new");
    fs::write(&beside, component)?;
    fs::rename(&beside, file)
}
