//! What a file is, before anything of it is compiled or run.
//!
//! Every file is taken for hostile: sizes and counts are bounded before anyone works on them. Invariant: what passes
//! here exports what its slot needs, imports only what the platform offers, and agrees with the platform's WIT.

mod structure;

use std::collections::BTreeSet;

use platform_capability::{Grants, Need, SlotKind, WIT_WORLD, need};
use platform_runtime::{Digest, difference};

use crate::{manifest::Manifest, settings};
use structure::Structure;

/// Largest component, in bytes.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;

/// The interface that every plugin exports, without its version.
const LIFECYCLE: &str = "platform:plugin/lifecycle";
/// Most imports that an error names.
const NAMED_MAX: usize = 10;

/// What a component is and asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// What it says of itself; empty when it says nothing.
    pub manifest: Manifest,
    /// Interfaces that it imports.
    pub imports: BTreeSet<String>,
    /// Interfaces that it exports.
    pub exports: BTreeSet<String>,
    /// Slot that it is for.
    pub slot: SlotKind,
    /// Grants that its manifest asks for, and those that its imports need.
    pub requested: Grants,
    /// What an operator should know; nothing that hinders.
    pub warnings: Vec<String>,
}

/// Why a file can't be installed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// There is nothing in it.
    #[error("the file is empty")]
    Empty,
    /// It is all zeros.
    #[error("the file holds nothing but zeros; it was probably not written completely")]
    Zeros,
    /// It is too large.
    #[error("it is {size} bytes long; components have at most {COMPONENT_BYTES_MAX} (64 MiB)")]
    TooLarge {
        /// Its size.
        size: usize,
    },
    /// It is something else.
    #[error(
        "it is no WebAssembly: it starts with `{start}`; build a component, for example with `cargo build --target wasm32-wasip2`"
    )]
    NotWasm {
        /// Its first bytes, readable.
        start: String,
    },
    /// It is the text form.
    #[error("it is WebAssembly text; make it binary with `wasm-tools parse FILE -o FILE.wasm`")]
    Text,
    /// It is a core module.
    #[error(
        "it is a core module, not a component; make one with `wasm-tools component new FILE -o FILE.component.wasm`, or build for the target `wasm32-wasip2`"
    )]
    CoreModule,
    /// It ends too early.
    #[error("it is truncated: it ends after {size} bytes, in the middle of something; copy it again")]
    Truncated {
        /// Its size.
        size: usize,
    },
    /// It does not validate.
    #[error("it is damaged or uses a proposal that this platform does not have: {0}")]
    Invalid(String),
    /// It has too much of something.
    #[error("it has {what}; at most {max} are allowed")]
    TooMuch {
        /// What, and how many.
        what: String,
        /// The most.
        max: u64,
    },
    /// Its manifest can't be read.
    #[error("its manifest can't be read: {0}")]
    Manifest(String),
    /// The schema of its settings can't be used.
    #[error("the `settings_schema` of its manifest can't be used: {0}")]
    Schema(String),
    /// It exports no interface of a slot.
    #[error("it exports no interface of a slot; there are {}", interfaces())]
    NoSlot,
    /// It exports interfaces of several slots.
    #[error("it exports interfaces of several slots, {0}; say which one it is for as `slot` in its manifest")]
    SeveralSlots(String),
    /// It does not export what its manifest says.
    #[error("its manifest says `{slot}`, but it does not export `{interface}`")]
    OtherSlot {
        /// The slot of the manifest.
        slot: SlotKind,
        /// What the slot needs.
        interface: &'static str,
    },
    /// It can't be configured or tested.
    #[error("it does not export `{LIFECYCLE}`, which every plugin does")]
    NoLifecycle,
    /// It imports what nobody offers.
    #[error("it imports {0}, which this platform does not offer")]
    UnknownImports(String),
    /// It was made for other interfaces.
    #[error("it does not fit this platform's interfaces: {}", .0.join("; "))]
    Differs(Vec<String>),
}

impl Rejection {
    /// A stable name for programs, in upper case.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Empty | Self::Zeros | Self::NotWasm { .. } | Self::Text => "NOT_A_COMPONENT",
            Self::TooLarge { .. } => "COMPONENT_TOO_LARGE",
            Self::CoreModule => "CORE_MODULE",
            Self::Truncated { .. } => "COMPONENT_TRUNCATED",
            Self::Invalid(_) => "COMPONENT_INVALID",
            Self::TooMuch { .. } => "COMPONENT_TOO_COMPLEX",
            Self::Manifest(_) | Self::Schema(_) => "MANIFEST_INVALID",
            Self::NoSlot | Self::SeveralSlots(_) | Self::OtherSlot { .. } | Self::NoLifecycle => "SLOT_MISMATCH",
            Self::UnknownImports(_) => "IMPORT_UNKNOWN",
            Self::Differs(_) => "WIT_MISMATCH",
        }
    }
}

/// Looks at a file. Takes milliseconds per MiB: call it off the request path.
///
/// # Errors
/// Why it can't be installed.
pub fn inspect(bytes: &[u8]) -> Result<Facts, Rejection> {
    recognise(bytes)?;
    let Structure { imports, exports, manifest } = Structure::read(bytes)?;
    let unknown: Vec<_> = imports.iter().filter(|import| need(import) == Need::Unknown).collect();
    if !unknown.is_empty() {
        // An unknown interface of a package that the platform has is better explained by the comparison.
        differences(bytes)?;
        let named: Vec<_> = unknown.iter().take(NAMED_MAX).map(|import| format!("`{import}`")).collect();
        return Err(Rejection::UnknownImports(named.join(", ")));
    }
    let slot = slot(&manifest, &exports)?;
    if !exports.iter().any(|export| bare(export) == LIFECYCLE) {
        return Err(Rejection::NoLifecycle);
    }
    differences(bytes)?;
    if let Some(schema) = &manifest.settings_schema {
        settings::check_schema(schema).map_err(|error| Rejection::Schema(error.to_string()))?;
    }
    let mut warnings: Vec<_> = manifest.warnings().collect();
    let mut requested = manifest.grants.clone();
    let mut network = false;
    for import in &imports {
        match need(import) {
            Need::Grant(grant) => drop(requested.insert(grant)),
            Need::Http if slot == SlotKind::WebPage => {}
            Need::Network | Need::Http => network = true,
            Need::Slot(kind) if kind != slot => {
                return Err(Rejection::UnknownImports(format!("`{import}`, which is only there for `{kind}`")));
            }
            Need::Nothing | Need::Slot(_) | Need::Unknown => {}
        }
    }
    if network && !requested.iter().any(|grant| matches!(grant, platform_capability::Grant::Network { .. })) {
        warnings.push(
            "it imports sockets or HTTP; grant it `network:HOST:PORT` for each server that it may reach".to_owned(),
        );
    }
    let size = bytes.len() as u64;
    Ok(Facts { digest: Digest::of(bytes), size, manifest, imports, exports, slot, requested, warnings })
}

/// Tells what a file is by its size and first bytes.
fn recognise(bytes: &[u8]) -> Result<(), Rejection> {
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(Rejection::TooLarge { size: bytes.len() });
    }
    if bytes.is_empty() {
        return Err(Rejection::Empty);
    }
    match bytes {
        [0, b'a', b's', b'm', version @ ..] => match version {
            [1, 0, 0, 0, ..] => Err(Rejection::CoreModule),
            [_, _, _, _, ..] => Ok(()),
            _ => Err(Rejection::Truncated { size: bytes.len() }),
        },
        _ if bytes.iter().all(|byte| *byte == 0) => Err(Rejection::Zeros),
        _ if bytes.trim_ascii_start().starts_with(b"(") => Err(Rejection::Text),
        _ => Err(Rejection::NotWasm {
            start: bytes.iter().take(8).flat_map(|byte| byte.escape_ascii()).map(char::from).collect(),
        }),
    }
}

fn differences(bytes: &[u8]) -> Result<(), Rejection> {
    match difference::differences(bytes, WIT_WORLD) {
        Ok(found) if found.is_empty() => Ok(()),
        Ok(found) => Err(Rejection::Differs(found.into_iter().map(|difference| difference.sentence).collect())),
        Err(error) => Err(Rejection::Invalid(error.to_string())),
    }
}

/// The slot that the manifest says, else the one whose interface is exported.
fn slot(manifest: &Manifest, exports: &BTreeSet<String>) -> Result<SlotKind, Rejection> {
    let exported: BTreeSet<_> = exports.iter().filter_map(|export| SlotKind::of_interface(export)).collect();
    match (manifest.slot, exported.iter().next()) {
        (Some(slot), _) if exported.contains(&slot) => Ok(slot),
        (Some(slot), _) => Err(Rejection::OtherSlot { slot, interface: slot.interface() }),
        (None, None) => Err(Rejection::NoSlot),
        (None, Some(slot)) if exported.len() == 1 => Ok(*slot),
        (None, Some(_)) => {
            let names: Vec<_> = exported.iter().map(|kind| format!("`{kind}`")).collect();
            Err(Rejection::SeveralSlots(names.join(" and ")))
        }
    }
}

fn bare(interface: &str) -> &str {
    interface.split('@').next().unwrap_or_default()
}

fn interfaces() -> String {
    SlotKind::ALL.map(|kind| format!("`{}` ({kind})", kind.interface())).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_components_are_told_apart() {
        let text = b"\n (component)".to_vec();
        let cases: [(Vec<u8>, Rejection); 6] = [
            (Vec::new(), Rejection::Empty),
            (vec![0; 1000], Rejection::Zeros),
            (text, Rejection::Text),
            (b"\x7fELF\x02\x01".to_vec(), Rejection::NotWasm { start: "\\x7fELF\\x02\\x01".to_owned() }),
            (b"\0asm\x01\0\0\0".to_vec(), Rejection::CoreModule),
            (b"\0asm\x0d".to_vec(), Rejection::Truncated { size: 5 }),
        ];
        for (bytes, rejection) in cases {
            assert_eq!(inspect(&bytes), Err(rejection));
        }
    }

    #[test]
    fn two_hundred_megabytes_of_zeros_are_refused_by_size() {
        let zeros = vec![0; 200 << 20];
        assert_eq!(inspect(&zeros), Err(Rejection::TooLarge { size: 200 << 20 }));
    }
}
