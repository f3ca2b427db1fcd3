//! `platform plugin inspect FILE`: what a component is, without a daemon.
//!
//! Owns the wording of grants; the looking is the daemon's own. Invariant: nothing of the file is run.

use std::path::{Path, PathBuf};

use platform_capability::{Grant, Grants};
use platform_control::inspect::{self as look, Facts};
use serde_json::{Value, json};

use super::COMPONENT_BYTES;
use crate::cli::{
    failure::{Exit, Failure},
    input,
    output::Output,
    quantity::human_bytes,
};

/// The file that is meant, when not an installed component is: names of components hold no `/`.
pub(in crate::cli::plugin) fn file(named: &str) -> Option<PathBuf> {
    let is_file = named == "-" || named.contains('/') || named.ends_with(".wasm");
    is_file.then(|| PathBuf::from(named))
}

/// Tells what the file is.
pub(in crate::cli::plugin) fn inspect(output: Output, file: &Path) -> Result<Exit, Failure> {
    let bytes = input::read(file, COMPONENT_BYTES)?;
    let facts = look::inspect(&bytes).map_err(|rejection| {
        let message = format!("`{}` can't be installed: {rejection}", input::shown(file).display());
        Failure::new(Exit::Error, rejection.reason(), message)
    })?;
    show(output, &input::shown(file), &facts)?;
    Ok(Exit::Done)
}

/// Prints what a component is.
pub(super) fn show(output: Output, file: &Path, facts: &Facts) -> Result<(), Failure> {
    let manifest = &facts.manifest;
    let name = manifest.name.as_ref().map(ToString::to_string).unwrap_or_default();
    let version = manifest.version.clone().unwrap_or_default();
    let mode = manifest.mode.unwrap_or_else(|| facts.slot.mode());
    let mode = serde_json::to_value(mode).ok().and_then(|mode| mode.as_str().map(str::to_owned)).unwrap_or_default();
    if !output.is_human() {
        let grants: Vec<Value> = facts
            .requested
            .iter()
            .map(|grant| json!({"grant": grant.to_string(), "means": means(grant), "inManifest": manifest.grants.contains(grant)}))
            .collect();
        return output.value(&json!({
            "file": file,
            "name": name,
            "version": version,
            "description": manifest.description,
            "license": manifest.license,
            "source": manifest.source,
            "slot": facts.slot.as_str(),
            "mode": mode,
            "digest": facts.digest.to_string(),
            "size": facts.size,
            "requestedGrants": grants,
            "imports": facts.imports,
            "exports": facts.exports,
            "settingsSchema": manifest.settings_schema,
            "warnings": facts.warnings,
        }));
    }
    let lines = |list: &std::collections::BTreeSet<String>| list.iter().cloned().collect::<Vec<_>>().join("\n");
    let schema =
        manifest.settings_schema.as_ref().map(|schema| serde_json::to_string_pretty(schema).unwrap_or_default());
    output.text(&output.fields(&[
        ("file", file.display().to_string()),
        ("name", name),
        ("version", version),
        ("digest", facts.digest.to_string()),
        ("size", human_bytes(facts.size)),
        ("description", manifest.description.clone()),
        ("license", manifest.license.clone()),
        ("source", manifest.source.clone()),
        ("slot", facts.slot.to_string()),
        ("mode", mode),
        ("asks for", in_words(&facts.requested)),
        ("imports", lines(&facts.imports)),
        ("exports", lines(&facts.exports)),
        ("settings", schema.unwrap_or_default()),
    ]))?;
    for warning in &facts.warnings {
        output.note(&format!("warning: {warning}"));
    }
    Ok(())
}

fn in_words(grants: &Grants) -> String {
    if grants.is_empty() {
        return "nothing: it reaches its settings and the question alone".to_owned();
    }
    grants.iter().map(|grant| format!("{grant}: {}", means(grant))).collect::<Vec<_>>().join("\n")
}

/// What a grant lets a component do.
fn means(grant: &Grant) -> String {
    match grant {
        Grant::Storage => "keeps tables and journals of its own in the platform's storage".to_owned(),
        Grant::Kv => "reads and writes keys of the key-value store, in the caller's namespace".to_owned(),
        Grant::Discovery => "sees and registers services and their nodes, in the caller's namespace".to_owned(),
        Grant::Config => "reads configurations, without their secrets, in the caller's namespace".to_owned(),
        Grant::Db => "reads and writes records of all databases, in the caller's namespace".to_owned(),
        Grant::Event => {
            "publishes events, and reads and takes those of all topics, in the caller's namespace".to_owned()
        }
        Grant::Sync => "takes locks and gives them up for the caller, in the caller's namespace".to_owned(),
        Grant::Marketplace => {
            "searches the marketplace and installs from it, with the rights of whoever asks for the page".to_owned()
        }
        Grant::Wasi => "reads the clock and random numbers, and writes to the daemon's log".to_owned(),
        Grant::Network { host, port } => format!("connects to `{host}`, port {port}, and to nothing else"),
        Grant::Files(directory) => format!("reads all files below `{directory}`"),
        Grant::Env(name) => match name.strip_suffix('*') {
            Some(stem) => format!("reads variables of the daemon's environment that begin with `{stem}`"),
            None => format!("reads the variable `{name}` of the daemon's environment"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_from_names() {
        for named in ["a.wasm", "./a", "dist/a.wasm", "/a", "-"] {
            assert!(file(named).is_some(), "{named}");
        }
        for named in ["kv-storage", "kv-storage@1.0.0", "sha256:00"] {
            assert!(file(named).is_none(), "{named}");
        }
    }

    #[test]
    fn grants_are_told_in_words() {
        let network: Grant = "network:db.internal:5432".parse().unwrap();
        assert!(means(&network).contains("`db.internal`, port 5432"));
        assert!(in_words(&Grants::new()).starts_with("nothing"));
    }
}
