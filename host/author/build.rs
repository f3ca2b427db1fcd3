//! Lists the files that a new project consists of: the SDK, the interfaces, and for each slot the plugin that is its
//! template. They are carried by the binary, so that a project needs nothing but it.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
};

/// What is carried, relative to the repository.
const CARRIED: [&str; 29] = [
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "wit",
    "sdk/c",
    "sdk/js",
    "sdk/python",
    "sdk/rust/Cargo.toml",
    "sdk/rust/src",
    "sdk/rust/wit",
    "examples/auth-policy-c",
    "examples/auth-policy-js",
    "examples/auth-policy-python",
    "examples/auth-policy-rust",
    "examples/config-validator-rust",
    "examples/event-filter-rust",
    "examples/kv-store-c",
    "examples/kv-store-js",
    "examples/kv-store-python",
    "examples/router-policy-js",
    "examples/web-page-rust",
    "plugins/config-env",
    "plugins/config-storage",
    "plugins/db-storage",
    "plugins/discovery-storage",
    "plugins/event-storage",
    "plugins/kv-storage",
    "plugins/router-round-robin",
    "plugins/sync-storage",
];

/// What npm, pip and builds leave beside it.
const LEFT: [&str; 6] = ["node_modules", "package-lock.json", "target", "dist", ".venv", "__pycache__"];

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
        // What is brought or left by tools is no source.
        if path.file_name().is_some_and(|name| !LEFT.iter().any(|left| name == *left)) {
            collect(&path, files)?;
        }
    }
    Ok(())
}
