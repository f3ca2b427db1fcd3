//! [`project`]: the files of a new project.
//!
//! A template is a plugin of the platform itself: what is built, tested and served here is what an author begins with. The SDK
//! and the interfaces go along, so that a project builds without this repository and without a registry that has them.
//! Invariant: a project depends on no path outside of itself, and on the versions that the platform was tested with.

use std::{collections::BTreeMap, fmt::Write as _};

use toml::{Table, Value};

use crate::Error;

/// Files of the repository, by their path in it.
const CARRIED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/carried.rs"));
const README: &str = include_str!("readme.md");
const README_OTHER: &str = include_str!("readme-other.md");
/// Cases of a project whose template has none.
const CASES: &str = "\
# Settings that the component is tried with. The promises of its slot's interface are its cases.
[settings]
";

/// Kinds of slots and the plugin that a project for them begins with.
const TEMPLATES: [(&str, &str); 12] = [
    ("kv.store", "plugins/kv-storage"),
    ("discovery.registry", "plugins/discovery-storage"),
    ("auth.policy", "examples/auth-policy-rust"),
    ("router.policy", "plugins/router-round-robin"),
    ("config.store", "plugins/config-storage"),
    ("config.validator", "examples/config-validator-rust"),
    ("config.source", "plugins/config-env"),
    ("sync.lock", "plugins/sync-storage"),
    ("db.store", "plugins/db-storage"),
    ("event.broker", "plugins/event-storage"),
    ("event.filter", "examples/event-filter-rust"),
    ("web.page", "examples/web-page-rust"),
];

/// The same in C.
const C: [(&str, &str); 2] = [("auth.policy", "examples/auth-policy-c"), ("kv.store", "examples/kv-store-c")];
/// The same in Python.
const PYTHON: [(&str, &str); 2] =
    [("auth.policy", "examples/auth-policy-python"), ("kv.store", "examples/kv-store-python")];
/// The same in JavaScript.
const JAVASCRIPT: [(&str, &str); 3] = [
    ("auth.policy", "examples/auth-policy-js"),
    ("router.policy", "examples/router-policy-js"),
    ("kv.store", "examples/kv-store-js"),
];

/// A language to write plugins in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Rust.
    Rust,
    /// JavaScript.
    JavaScript,
    /// Python.
    Python,
    /// C.
    C,
}

impl Language {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::JavaScript => "js",
            Self::Python => "python",
            Self::C => "c",
        }
    }

    const fn templates(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Rust => &TEMPLATES,
            Self::JavaScript => &JAVASCRIPT,
            Self::Python => &PYTHON,
            Self::C => &C,
        }
    }

    /// Where the SDK of the language lie that a project takes along.
    const fn sdk(self) -> &'static str {
        match self {
            Self::Rust => "sdk/rust/",
            Self::JavaScript => "sdk/js/",
            Self::Python => "sdk/python/",
            Self::C => "sdk/c/",
        }
    }

    /// What a project's description says of it: what is needed, and where the plugin is.
    const fn readme(self) -> (&'static str, &'static str) {
        match self {
            Self::Rust => ("Rust is needed", "`src/lib.rs`"),
            Self::JavaScript => ("Node.js 20 or newer with npm is needed", "`plugin.js`"),
            Self::Python => (
                "componentize-py is needed: `python3 -m venv .venv && .venv/bin/pip install -r requirements.txt`",
                "`plugin.py`",
            ),
            Self::C => ("clang, lld and wasi-libc are needed, or `WASI_SDK_PATH`", "`src/`, all `*.c` of it"),
        }
    }
}

/// Longest name of a project, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Names that cargo or the compiler have another use for.
const RESERVED: [&str; 12] =
    ["alloc", "build", "core", "crate", "dist", "platform", "proc_macro", "self", "std", "super", "target", "test"];

/// The files of a project for a kind of slot, by their path in it.
///
/// # Errors
/// The name is none, or there is no template.
pub fn project(language: Language, slot: &str, name: &str) -> Result<BTreeMap<String, String>, Error> {
    check_name(name)?;
    let templates = language.templates();
    let template = templates.iter().find(|(of, _)| *of == slot).map(|(_, template)| *template);
    let template = template.ok_or_else(|| Error::NoTemplate {
        slot: slot.to_owned(),
        language: language.as_str(),
        others: templates.iter().map(|(of, _)| format!("`{of}`")).collect::<Vec<_>>().join(", "),
    })?;
    match language {
        Language::Rust => rust(template, slot, name),
        other => sources(other, template, slot, name),
    }
}

/// A project that says what it is in `manifest.json`.
fn sources(language: Language, template: &str, slot: &str, name: &str) -> Result<BTreeMap<String, String>, Error> {
    let mut files = below(template, &["wit/", language.sdk()]);
    let mut description = String::new();
    for file in ["package.json", "manifest.json"] {
        let wrong = |why: String| Error::Carried(format!("`{template}/{file}`: {why}"));
        // Only JavaScript has packages.
        let Some(text) = files.get(file) else { continue };
        let mut value: serde_json::Value = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let said = value.get("description").and_then(serde_json::Value::as_str);
        said.unwrap_or_default().clone_into(&mut description);
        if let Some(members) = value.as_object_mut() {
            members.insert("name".to_owned(), name.into());
        }
        let text = serde_json::to_string_pretty(&value).map_err(|error| wrong(error.to_string()))?;
        files.insert(file.to_owned(), text + "\n");
    }
    let (needs, place) = language.readme();
    let readme = README_OTHER.replace("NEEDS", needs).replace("PLACE", place);
    common(&mut files, &readme, template, slot, name, &description);
    Ok(files)
}

/// Files of the template and, below `platform/`, those that begin with one of `also`.
fn below(template: &str, also: &[&str]) -> BTreeMap<String, String> {
    let place = |path: &str| match path.strip_prefix(template).and_then(|path| path.strip_prefix('/')) {
        Some(own) => Some(own.to_owned()),
        None if path == "LICENSE" || also.iter().any(|also| path.starts_with(also)) => Some(format!("platform/{path}")),
        None => None,
    };
    CARRIED.iter().filter_map(|(path, content)| Some((place(path)?, (*content).to_owned()))).collect()
}

/// Adds what projects in all languages have.
fn common(
    files: &mut BTreeMap<String, String>, readme: &str, template: &str, slot: &str, name: &str, description: &str,
) {
    files.insert(".gitignore".to_owned(), "/target\n/dist\n/node_modules\n/.venv\n__pycache__\n".to_owned());
    files.entry("cases.toml".to_owned()).or_insert_with(|| CASES.to_owned());
    let own = template.rsplit('/').next().unwrap_or(template);
    let readme = readme.replace("DESCRIPTION", description).replace("TEMPLATE", own);
    files.insert("README.md".to_owned(), readme.replace("SLOT", slot).replace("NAME", name));
}

fn rust(template: &str, slot: &str, name: &str) -> Result<BTreeMap<String, String>, Error> {
    let workspace = table("Cargo.toml")?;
    let mut manifest = table(&format!("{template}/Cargo.toml"))?;
    resolve(&mut manifest, &workspace, "platform/sdk/rust")?;
    let mut sdk = table("sdk/rust/Cargo.toml")?;
    resolve(&mut sdk, &workspace, ".")?;
    sdk.remove("dev-dependencies");

    let mut files = below(template, &["wit/", "sdk/"]);
    let sdk = toml::to_string(&sdk).map_err(|error| Error::Carried(error.to_string()))?;
    files.insert("platform/sdk/rust/Cargo.toml".to_owned(), sdk);
    files.insert("Cargo.lock".to_owned(), carried("Cargo.lock")?.to_owned());
    let description = text(&manifest, "package", "description").unwrap_or_default().to_owned();
    files.insert("Cargo.toml".to_owned(), manifest_text(name, &manifest, &workspace)?);
    common(&mut files, README, template, slot, name, &description);
    Ok(files)
}

/// Checks that cargo, the platform and a file system take the name.
fn check_name(name: &str) -> Result<(), Error> {
    let refuse = |why| Err(Error::Name { name: name.chars().take(NAME_BYTES_MAX).collect(), why });
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return refuse("it is longer than 64 bytes");
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return refuse("it has to start with a lowercase letter");
    }
    if !name.bytes().all(allowed) {
        return refuse("lowercase letters, digits, `-` and `_` are allowed");
    }
    // A package can't have the name of one that it is built with.
    let is_used = carried("Cargo.lock")?.lines().any(|line| line == format!("name = \"{name}\""));
    let is_template = TEMPLATES.iter().any(|(_, template)| template.ends_with(&format!("/{name}")));
    if RESERVED.contains(&name) || (is_used && !is_template) {
        return refuse("it means something else to the compiler or is the name of a library");
    }
    Ok(())
}

fn carried(path: &str) -> Result<&'static str, Error> {
    let found = CARRIED.iter().find(|(own, _)| *own == path).map(|(_, content)| *content);
    found.ok_or_else(|| Error::Carried(format!("`{path}` is missing")))
}

fn table(path: &str) -> Result<Table, Error> {
    carried(path)?.parse().map_err(|error| Error::Carried(format!("`{path}`: {error}")))
}

fn text<'a>(table: &'a Table, section: &str, key: &str) -> Option<&'a str> {
    table.get(section)?.get(key)?.as_str()
}

/// Puts in place what a manifest takes from its workspace; `sdk` is where the SDK lies.
fn resolve(manifest: &mut Table, workspace: &Table, sdk: &str) -> Result<(), Error> {
    manifest.remove("lints");
    let shared = workspace.get("workspace").and_then(Value::as_table);
    let shared = shared.ok_or_else(|| Error::Carried("there is no workspace".to_owned()))?;
    let missing = |name: &str| Error::Carried(format!("the workspace has no `{name}`"));
    for (section, source) in
        [("package", "package"), ("dependencies", "dependencies"), ("dev-dependencies", "dependencies")]
    {
        let Some(own) = manifest.get_mut(section).and_then(Value::as_table_mut) else { continue };
        let source = shared.get(source).and_then(Value::as_table).ok_or_else(|| missing(source))?;
        for (name, value) in own.iter_mut() {
            if value.get("workspace").is_none() {
                continue;
            }
            let found = source.get(name).ok_or_else(|| missing(name))?;
            let Value::Table(asked) = std::mem::replace(value, found.clone()) else { continue };
            if name == "platform-sdk" {
                *value = Value::Table(Table::from_iter([("path".to_owned(), sdk.into())]));
            }
            let more = asked.into_iter().filter(|(key, _)| key != "workspace");
            for (key, said) in more {
                join(value, key, said);
            }
        }
    }
    Ok(())
}

/// Adds to what the workspace says of a dependency.
fn join(dependency: &mut Value, key: String, said: Value) {
    if let Value::String(version) = dependency {
        let version = Value::String(std::mem::take(version));
        *dependency = Value::Table(Table::from_iter([("version".to_owned(), version)]));
    }
    let Some(table) = dependency.as_table_mut() else { return };
    match (table.get_mut(&key), said) {
        (Some(Value::Array(there)), Value::Array(said)) => there.extend(said),
        (_, said) => drop(table.insert(key, said)),
    }
}

/// The manifest of the project.
fn manifest_text(name: &str, manifest: &Table, workspace: &Table) -> Result<String, Error> {
    let part = |section: &str| manifest.get(section).and_then(Value::as_table).cloned().unwrap_or_default();
    let missing = |name: &str| Error::Carried(format!("the template has no `{name}`"));
    let package = |key: &str| text(manifest, "package", key).ok_or_else(|| missing(key));
    let target = manifest.get("package").and_then(|package| package.get("metadata"));
    let target = target.and_then(|metadata| metadata.get("platform")?.get("target")?.as_str());
    let mut out = String::new();
    let mut line =
        |text: std::fmt::Arguments<'_>| writeln!(out, "{text}").map_err(|error| Error::Carried(error.to_string()));
    line(format_args!("[package]\nname = \"{name}\"\nversion = \"0.1.0\""))?;
    for key in ["description", "edition", "rust-version", "license"] {
        line(format_args!("{key} = {}", Value::from(package(key)?)))?;
    }
    line(format_args!("# repository = \"https://example.com/{name}\"\npublish = false\n"))?;
    line(format_args!("# What it is compiled for: `wasm32-wasip2` where it needs WASI, such as sockets."))?;
    line(format_args!("[package.metadata.platform]\ntarget = \"{}\"\n", target.ok_or_else(|| missing("target"))?))?;
    line(format_args!("# Its exports are those of a component; only unit tests run it natively."))?;
    line(format_args!("[lib]\ncrate-type = [\"cdylib\"]\ndoctest = false"))?;
    for section in ["dependencies", "dev-dependencies"] {
        let listed = part(section);
        if !listed.is_empty() {
            line(format_args!("\n[{section}]"))?;
        }
        for (name, value) in listed {
            line(format_args!("{name} = {value}"))?;
        }
    }
    let profiles = workspace.get("profile").and_then(|profiles| profiles.get("guest")?.as_table());
    line(format_args!("\n[profile.release]"))?;
    for (name, value) in profiles.ok_or_else(|| missing("profile"))?.iter().filter(|(name, _)| *name != "inherits") {
        line(format_args!("{name} = {value}"))?;
    }
    line(format_args!("\n# It stands by itself, also inside of another workspace's folder.\n[workspace]"))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_makes_a_whole_project() {
        for (slot, template) in TEMPLATES {
            let files = project(Language::Rust, slot, "my-plugin").unwrap();
            for needed in [
                "README.md",
                "cases.toml",
                "src/lib.rs",
                "platform/sdk/rust/src/lib.rs",
                "platform/wit/plugin/world.wit",
            ] {
                assert!(files.contains_key(needed), "{slot}: {needed}");
            }
            for manifest in ["Cargo.toml", "platform/sdk/rust/Cargo.toml"] {
                let text = &files[manifest];
                let parsed: Table = text.parse().unwrap_or_else(|error| panic!("{slot}: {error}\n{text}"));
                assert!(!text.contains("workspace = true") && !text.contains("../"), "{slot}: {text}");
                assert_eq!(parsed["package"]["edition"].as_str(), Some("2024"));
            }
            let manifest: Table = files["Cargo.toml"].parse().unwrap();
            assert_eq!(manifest["dependencies"]["platform-sdk"]["path"].as_str(), Some("platform/sdk/rust"));
            assert!(files["README.md"].contains("# my-plugin\n") && files["README.md"].contains(slot), "{template}");
            assert!(files.keys().all(|path| !path.starts_with('/') && !path.contains("..")));
            assert!(files["src/lib.rs"].contains("export!("), "{slot}");
            let tests = files.iter().any(|(path, text)| path.starts_with("src/") && text.contains("#[test]"));
            assert!(tests, "{slot} has no unit test");
        }
    }

    #[test]
    fn projects_in_other_languages_have_their_name_and_the_interfaces() {
        for language in [Language::JavaScript, Language::Python, Language::C] {
            for (slot, template) in language.templates() {
                let files = project(language, slot, "my-plugin").unwrap();
                for manifest in ["package.json", "manifest.json"].iter().filter(|file| files.contains_key(**file)) {
                    let value: serde_json::Value = serde_json::from_str(&files[*manifest]).unwrap();
                    assert_eq!(value["name"].as_str(), Some("my-plugin"));
                }
                for needed in ["manifest.json", "plugin.wit", "cases.toml", "platform/wit/auth/world.wit", "README.md"]
                {
                    assert!(files.contains_key(needed), "{template}: {needed}");
                }
                let sdk = format!("platform/{}", language.sdk());
                assert!(files.keys().any(|path| path.starts_with(&sdk)), "{template}: {sdk}");
                let tests = files.keys().any(|path| path.starts_with("tests/"));
                assert_eq!(tests, *slot == "auth.policy", "{template}");
                let foreign = |path: &String| path.starts_with("platform/sdk/") && !path.starts_with(&sdk);
                assert!(!files.keys().any(|path| foreign(path) || path.contains("node_modules")), "{template}");
                assert!(!files["README.md"].contains("NEEDS") && !files["README.md"].contains("PLACE"));
            }
        }
    }

    #[test]
    fn dependencies_keep_what_was_added_to_them() {
        let files = project(Language::Rust, "kv.store", "a").unwrap();
        let sdk: Table = files["platform/sdk/rust/Cargo.toml"].parse().unwrap();
        assert_eq!(sdk["dependencies"]["wasip2"]["optional"].as_bool(), Some(true));
        assert!(sdk["dependencies"]["serde"]["features"].as_array().is_some());
        assert!(sdk.get("dev-dependencies").is_none());
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for name in ["", "A", "1a", "a b", "../x", "a.b", "é", "serde", "test", "platform-sdk", "-", &"a".repeat(65)] {
            assert!(matches!(project(Language::Rust, "auth.policy", name), Err(Error::Name { .. })), "{name}");
        }
        for name in ["a", "my-policy_2", "kv-storage", &"a".repeat(64)] {
            assert!(project(Language::Rust, "auth.policy", name).is_ok(), "{name}");
        }
        for (language, slot) in [(Language::Rust, "no.slot"), (Language::C, "db.store")] {
            assert!(matches!(project(language, slot, "a"), Err(Error::NoTemplate { .. })));
        }
    }
}
