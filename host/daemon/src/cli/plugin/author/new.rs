//! `platform plugin new`: a project to begin with.
//!
//! Owns where it goes; what is in it is `platform_author::scaffold`'s to say. Invariant: nothing that is there is written over, and
//! what can't be written whole is not there afterwards.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use platform_author::scaffold::{self, Language as Written};
use platform_capability::SlotKind;
use serde_json::json;

use crate::{
    cli::{
        Context,
        failure::{Exit, Failure},
    },
    words,
};

#[derive(Debug, Args)]
pub(crate) struct New {
    /// Folder for the project; it is made, or has to be empty.
    folder: PathBuf,
    /// Kind of slot that the plugin is for, such as `auth.policy` or `kv.store`.
    #[arg(long, value_name = "SLOT")]
    slot: SlotKind,
    /// Language to write it in.
    #[arg(long, value_name = "LANGUAGE", default_value = "rust")]
    lang: Language,
    /// Name of the plugin; that of the folder when not given.
    #[arg(long)]
    name: Option<String>,
}

/// Languages that there are templates in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// Rust.
    Rust,
    /// JavaScript, for `auth.policy`, `router.policy` and `kv.store`.
    Js,
    /// Python, for `auth.policy` and `kv.store`.
    Python,
    /// C, for `auth.policy` and `kv.store`.
    C,
}

impl New {
    /// Writes the project.
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let folder = std::path::absolute(&self.folder).unwrap_or_else(|_odd| self.folder.clone());
        let own = || folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = self.name.clone().unwrap_or_else(own);
        let language = match self.lang {
            Language::Rust => Written::Rust,
            Language::Js => Written::JavaScript,
            Language::Python => Written::Python,
            Language::C => Written::C,
        };
        let files = scaffold::project(language, self.slot.as_str(), &name)?;
        let failed = |error: &io::Error| {
            Failure::usage(format!("can't make a project in `{}`: {}", self.folder.display(), words::of(error)))
        };
        match fs::read_dir(&folder).map(|mut entries| entries.next().is_some()) {
            Ok(true) => {
                let message = format!("`{}` is not empty; name a folder that is not there yet", self.folder.display());
                return Err(Failure::usage(message));
            }
            Ok(false) => write(&folder, &files).map_err(|error| failed(&error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                whole(&folder, &files).map_err(|error| failed(&error))?;
            }
            Err(error) => return Err(failed(&error)),
        }
        if context.output.is_human() {
            let shown = self.folder.display();
            context.output.text(&format!("made `{name}` for `{}` in `{shown}`", self.slot))?;
            context.output.note(&format!("next: cd {shown} && platform plugin test"));
        } else {
            context.output.value(&json!({
                "name": name,
                "slot": self.slot.as_str(),
                "language": language.as_str(),
                "folder": folder,
                "files": files.keys().collect::<Vec<_>>(),
            }))?;
        }
        Ok(Exit::Done)
    }
}

/// Writes the files beside the folder's place and puts them there at once.
fn whole(folder: &Path, files: &BTreeMap<String, String>) -> io::Result<()> {
    let parent = folder.parent().unwrap_or(folder);
    fs::create_dir_all(parent)?;
    let beside = tempfile::Builder::new().prefix(".platform-plugin-new-").tempdir_in(parent)?;
    let project = beside.path().join("project");
    fs::create_dir(&project)?;
    write(&project, files)?;
    fs::rename(&project, folder)
}

fn write(folder: &Path, files: &BTreeMap<String, String>) -> io::Result<()> {
    for (path, content) in files {
        let file = folder.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(file, content)?;
    }
    Ok(())
}
