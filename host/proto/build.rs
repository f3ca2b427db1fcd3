//! Compiles `proto/` into Rust types, clients, servers and a descriptor set, without `protoc`.
//!
//! Knows where the definitions are, nothing of what they say. Invariant: everything it writes is in `OUT_DIR`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

const CAPABILITIES: [&str; 11] =
    ["kv", "discovery", "config", "sync", "db", "event", "auth", "router", "plugin", "server", "marketplace"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets `OUT_DIR`")?);

    let files = CAPABILITIES.map(|name| root.join(format!("platform/{name}/v1/{name}.proto")));
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;
    // Encoded by the compiler itself: the typed set would drop the HTTP annotations, which it has no field for.
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    let services = tonic_prost_build::configure().codec_path("crate::codec::Codec");
    services.bytes(".").btree_map(".").compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
