//! Makes configurations of the files in a directory: `shop.yaml` is the configuration `shop`. The settings are
//! `{"directory": "/etc/platform"}`, and the grant is `files:/etc/platform`.
//!
//! A file that can't be read, or was written by half, is an error, and the configurations stay as they are.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use platform_sdk::{Problem, config};
use serde::Deserialize;
use serde_json::Value;

/// Most files in a directory.
const FILES_MAX: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Directory {
    /// Its absolute path.
    directory: PathBuf,
}

platform_sdk::export!(
    config::Source for Directory,
    mode = "single",
    grants = ["wasi"],
    settings_schema = include_str!("../settings.schema.json"),
);

impl config::Source for Directory {
    type Settings = Self;

    fn configure(directory: Self) -> Result<Self, Problem> {
        if directory.directory.is_absolute() {
            Ok(directory)
        } else {
            Err(Problem::new("the path of a directory begins with `/`").at("/directory"))
        }
    }

    fn load(&mut self) -> Result<Vec<config::Document>, String> {
        let unreadable = |error| {
            let path = self.directory.display();
            format!("`{path}` can't be read: {error}; it has to be there, and granted with `files:{path}`")
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let is_hidden = path.file_name().and_then(OsStr::to_str).is_none_or(|name| name.starts_with('.'));
            if !is_hidden && format_of(&path).is_some() {
                files.push(path);
            }
        }
        if files.len() > FILES_MAX {
            return Err(format!("`{}` has {} files, more than {FILES_MAX}", self.directory.display(), files.len()));
        }
        files.sort();
        files.iter().map(|path| document(path)).collect()
    }
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Toml,
    Yaml,
}

/// None for a file that is no configuration.
fn format_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        "json" => Some(Format::Json),
        "toml" => Some(Format::Toml),
        "yaml" | "yml" => Some(Format::Yaml),
        _ => None,
    }
}

fn document(path: &Path) -> Result<config::Document, String> {
    let wrong = |why: String| format!("`{}`: {}", path.display(), why.trim());
    let id = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    config::check_id(id).map_err(|error| wrong(format!("its name can't be that of a configuration: {error:?}")))?;
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let format = format_of(path).unwrap_or(Format::Json);
    config::Document::new(id, &read(format, &text).map_err(wrong)?)
}

fn read(format: Format, text: &str) -> Result<Value, String> {
    match format {
        Format::Json => serde_json::from_str(text).map_err(|error| error.to_string()),
        Format::Toml => toml::from_str(text).map_err(|error| error.to_string()),
        Format::Yaml => serde_saphyr::from_str(text).map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests;
