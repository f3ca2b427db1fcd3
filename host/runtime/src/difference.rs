//! What a component's types differ in from those that the host has, said in sentences.
//!
//! Reads binaries that anyone may have made: everything goes through the validator, every walk is bounded by the host's
//! own types or by a number, and only types are read, never code. Knows no WIT: what is expected is a parameter.
//!
//! Invariant: of an interface that both sides have, either nothing is reported and the host can link it, or the
//! report names the function, field or case that is in the way.

mod shape;

use std::{collections::BTreeMap, fmt};

use wasmparser::{
    Parser, Payload, ValidPayload, Validator, WasmFeatures,
    component_types::{ComponentAnyTypeId, ComponentEntityType, ComponentInstanceTypeId},
    types::{Types, TypesRef},
};

use shape::Interface;

/// Most differences that are reported; who has that many has the wrong component.
const DIFFERENCES_MAX: usize = 24;

/// Most characters of a name of a guest that a sentence repeats.
const NAME_CHARS_MAX: usize = 120;

/// The proposals of WebAssembly that components may use.
#[must_use]
pub fn features() -> WasmFeatures {
    WasmFeatures::WASM2
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::RELAXED_SIMD
        | WasmFeatures::MEMORY64
        | WasmFeatures::COMPONENT_MODEL
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The interface as the component names it, such as `platform:kv/store@0.1.0`.
    pub interface: String,
    /// What differs: one sentence, lowercase, that names the interface.
    pub sentence: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// The bytes can't be compared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// They are no valid component.
    #[error("it is no valid component: {0}")]
    Invalid(#[from] wasmparser::BinaryReaderError),
    /// They are a valid core module.
    #[error("it is a core module; a component is needed")]
    Module,
    /// What the host expects is not an encoded world.
    #[error("the expected world can't be read")]
    Expected,
}

/// Compares every interface that the component `guest` imports or exports with the interface of that name in
/// `expected`, the component type of a world as `wit-component` encodes it. Interfaces of packages whose namespace
/// `expected` does not know are left alone.
///
/// # Errors
/// One of the two can't be read.
pub fn differences(guest: &[u8], expected: &[u8]) -> Result<Vec<Difference>, Error> {
    let expected = Outline::of_world(expected)?;
    let guest = Outline::of_component(guest)?;
    let mut found = Vec::new();
    for (side, names) in [(Side::Import, &guest.imports), (Side::Export, &guest.exports)] {
        for (name, id) in names {
            compare(side, name, &Interface::new(guest.types.as_ref(), *id), &expected, &mut found);
            if found.len() >= DIFFERENCES_MAX {
                found.truncate(DIFFERENCES_MAX);
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// Which way an interface goes, as seen from the guest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Import,
    Export,
}

fn compare(side: Side, name: &str, guest: &Interface<'_>, expected: &Outline, found: &mut Vec<Difference>) {
    let shown = shown(name);
    let mut report = |sentence: String| found.push(Difference { interface: shown.clone(), sentence });
    let (bare, version) = split(name);
    let Some((our_name, id)) = expected.interface(bare) else {
        if expected.knows_namespace(bare) {
            report(format!("`{shown}` is no interface of this platform"));
        }
        return;
    };
    let (_, our_version) = split(our_name);
    if !compatible(version, our_version) {
        let relation = if newer(version, our_version) { "newer" } else { "older" };
        report(format!("`{shown}` is {relation} than this platform, which offers {our_version}"));
        return;
    }
    let ours = Interface::new(expected.types.as_ref(), id);
    for sentence in guest.differences(side, &shown, &ours) {
        report(sentence);
    }
}

/// The interfaces of a component or a world.
struct Outline {
    types: Types,
    imports: BTreeMap<String, ComponentInstanceTypeId>,
    exports: BTreeMap<String, ComponentInstanceTypeId>,
}

impl Outline {
    fn of_component(bytes: &[u8]) -> Result<Self, Error> {
        let (types, imports, exports) = names(bytes)?;
        let view = types.as_ref();
        let instance = |entity: &ComponentEntityType| match entity {
            ComponentEntityType::Instance(id) => Some(*id),
            _ => None,
        };
        let imports = imports
            .into_iter()
            .filter_map(|name| Some((name.clone(), instance(&view.component_item_for_import(&name)?.ty)?)))
            .collect();
        let exports = exports
            .into_iter()
            .filter_map(|name| Some((name.clone(), instance(&view.component_item_for_export(&name)?.ty)?)))
            .collect();
        Ok(Self { types, imports, exports })
    }

    /// A world is encoded as a component that exports one component type, which exports one component type: the world.
    fn of_world(bytes: &[u8]) -> Result<Self, Error> {
        let (types, _, exports) = names(bytes)?;
        let view = types.as_ref();
        let outer = exports.first().and_then(|name| view.component_item_for_export(name)).ok_or(Error::Expected)?;
        let package = component(view, &outer.ty).ok_or(Error::Expected)?;
        let (_, inner) = package.exports.iter().next().ok_or(Error::Expected)?;
        let world = component(view, &inner.ty).ok_or(Error::Expected)?;
        let instances = |items: &indexmap_of::Items| {
            items
                .iter()
                .filter_map(|(name, item)| match item.ty {
                    ComponentEntityType::Instance(id) => Some((name.clone(), id)),
                    _ => None,
                })
                .collect()
        };
        let (imports, exports) = (instances(&world.imports), instances(&world.exports));
        Ok(Self { types, imports, exports })
    }

    /// The interface of that name, whatever its version.
    fn interface(&self, bare: &str) -> Option<(&str, ComponentInstanceTypeId)> {
        let all = self.imports.iter().chain(&self.exports);
        all.into_iter().find(|(name, _)| split(name).0 == bare).map(|(name, id)| (name.as_str(), *id))
    }

    fn knows_namespace(&self, bare: &str) -> bool {
        let namespace = |name: &str| name.split_once(':').map(|(namespace, _)| namespace.to_owned());
        let wanted = namespace(bare);
        wanted.is_some() && self.imports.keys().chain(self.exports.keys()).any(|name| namespace(name) == wanted)
    }
}

mod indexmap_of {
    //! The validator's map of named items, which it does not name itself.
    pub(super) type Items = wasmparser::collections::IndexMap<String, wasmparser::component_types::ComponentItem>;
}

fn component<'a>(
    types: TypesRef<'a>, entity: &ComponentEntityType,
) -> Option<&'a wasmparser::component_types::ComponentType> {
    match entity {
        ComponentEntityType::Type { referenced: ComponentAnyTypeId::Component(id), .. }
        | ComponentEntityType::Component(id) => types.get(*id),
        _ => None,
    }
}

/// The types of a component and the names that it imports and exports. Bodies of functions are skipped.
fn names(bytes: &[u8]) -> Result<(Types, Vec<String>, Vec<String>), Error> {
    let mut validator = Validator::new_with_features(features());
    let mut parser = Parser::new(0);
    parser.set_features(features());
    let (mut imports, mut exports, mut depth, mut types) = (Vec::new(), Vec::new(), 0_usize, None);
    for payload in parser.parse_all(bytes) {
        let payload = payload?;
        match &payload {
            Payload::Version { encoding: wasmparser::Encoding::Module, .. } if depth == 0 => return Err(Error::Module),
            Payload::Version { .. } => depth += 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section.clone() {
                    imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section.clone() {
                    exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
        if let ValidPayload::End(ended) = validator.payload(&payload)? {
            depth = depth.saturating_sub(1);
            types = Some(ended);
        }
    }
    let types = types.filter(|_| depth == 0).ok_or(Error::Expected)?;
    Ok((types, imports, exports))
}

/// Name without version, and version, empty when there is none.
fn split(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}

/// Versions that can stand for each other: the same major, or the same minor below 1.0.
fn compatible(guest: &str, ours: &str) -> bool {
    let line = |version: &str| {
        let [major, minor, _] = numbers(version)?;
        let release = !version.contains(['-', '+']);
        release.then_some(if major == 0 { (0, minor) } else { (major, 0) })
    };
    guest == ours || matches!((line(guest), line(ours)), (Some(guest), Some(ours)) if guest == ours)
}

fn newer(guest: &str, ours: &str) -> bool {
    numbers(guest) > numbers(ours)
}

fn numbers(version: &str) -> Option<[u64; 3]> {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let mut parts = core.split('.').map(str::parse);
    let mut next = || parts.next()?.ok();
    Some([next()?, next()?, next()?])
}

/// A name of the guest, cut so that no sentence grows without bound.
fn shown(name: &str) -> String {
    let mut cut: String = name.chars().take(NAME_CHARS_MAX).collect();
    if cut.len() < name.len() {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_for_each_other_along_one_line() {
        for (guest, ours) in [("0.1.0", "0.1.0"), ("0.1.7", "0.1.0"), ("1.2.0", "1.9.3"), ("", "")] {
            assert!(compatible(guest, ours), "{guest} {ours}");
        }
        for (guest, ours) in [("0.2.0", "0.1.0"), ("1.0.0", "2.0.0"), ("", "0.1.0"), ("0.1.0-rc.1", "0.1.0")] {
            assert!(!compatible(guest, ours), "{guest} {ours}");
        }
        assert!(newer("0.10.0", "0.9.0") && !newer("0.0.9", "0.1.0"));
    }

    #[test]
    fn hostile_bytes_are_errors() {
        for bytes in [&b""[..], b"\0asm", b"\0asm\x0d\0\x01\0\xff\xff\xff\xff\xff", &[0; 4096], b"MZ\x90\0"] {
            assert!(names(bytes).is_err());
        }
        assert!(matches!(names(b"\0asm\x01\0\0\0"), Err(Error::Module)));
    }
}
