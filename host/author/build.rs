//! Lists the files that a new project consists of: the SDK, the interfaces, and for each slot the plugin that is its
//! template. They are carried by the binary, so that a project needs nothing but it.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
};

/// What is carried, relative to the repository.
const CARRIED: [&str; 19] = [
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "wit",
    "sdk/rust/Cargo.toml",
    "sdk/rust/src",
    "sdk/rust/wit",
    "examples/auth-policy-js",
    "examples/auth-policy-rust",
    "examples/config-validator-rust",
    "examples/event-filter-rust",
    "plugins/config-env",
    "plugins/config-storage",
    "plugins/db-storage",
    "plugins/discovery-storage",
    "plugins/event-storage",
    "plugins/kv-storage",
    "plugins/router-round-robin",
    "plugins/sync-storage",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../..").canonicalize()?;
    let mut files = Vec::new();
    for carried in CARRIED {
        println!("cargo::rerun-if-changed={}", root.join(carried).display());
        collect(&root.join(carried), &mut files)?;
    }
    files.sort();
    let mut list = fs::File::create(Path::new(&env::var("OUT_DIR")?).join("carried.rs"))?;
    writeln!(list, "&[")?;
    for file in files {
        let name = file.strip_prefix(&root)?.to_str().ok_or("a name that is no UTF-8")?.replace('\\', "/");
        writeln!(list, "({name:?}, include_str!({file:?})),")?;
    }
    writeln!(list, "]")?;
    Ok(())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        // What npm brings follows from the pinned versions.
        if path.file_name().is_some_and(|name| name != "node_modules" && name != "package-lock.json") {
            collect(&path, files)?;
        }
    }
    Ok(())
}
