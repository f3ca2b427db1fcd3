//! The outline of a component: what it imports and exports, its manifest, and how much of everything it has.
//!
//! Invariant: what compiling and instantiating cost is bounded by the numbers below, whatever the file claims.

use std::collections::BTreeSet;

use platform_runtime::difference;
use wasmparser::{BinaryReaderError, Encoding, MemoryType, Parser, Payload, TableType, TypeRef, Validator};

use super::Rejection;
use crate::manifest::{self, Manifest};

/// Most modules and components within a component.
const NESTED_MAX: u64 = 200;
/// Deepest nesting of components.
const DEPTH_MAX: u64 = 12;
/// Most functions over all modules.
const FUNCTIONS_MAX: u64 = 300_000;
/// Largest body of a function, in bytes; compiling one takes more than proportional time.
const BODY_BYTES_MAX: u64 = 2 << 20;
/// Most types, imports, exports, globals, element and data segments over all modules, each.
const ITEMS_MAX: u64 = 200_000;
/// Most memory that instances start with, in bytes.
const MEMORY_BYTES_MAX: u64 = 64 << 20;
/// Most table elements that instances start with.
const TABLE_ELEMENTS_MAX: u64 = 100_000;
/// Most imports and exports of the component itself, each.
const INTERFACES_MAX: u64 = 500;

/// The outline of a component.
pub(super) struct Structure {
    pub(super) imports: BTreeSet<String>,
    pub(super) exports: BTreeSet<String>,
    pub(super) manifest: Manifest,
}

#[derive(Default)]
struct Counts {
    nested: u64,
    functions: u64,
    items: u64,
    memory_bytes: u64,
    table_elements: u64,
    interfaces: u64,
}

impl Structure {
    /// Reads and validates everything but the bodies of functions, which the compiler validates.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Rejection> {
        let wrong = |error: BinaryReaderError| explain(&error, bytes.len());
        let mut validator = Validator::new_with_features(difference::features());
        let mut parser = Parser::new(0);
        parser.set_features(difference::features());
        let (mut imports, mut exports) = (BTreeSet::new(), BTreeSet::new());
        let mut manifest: Option<&[u8]> = None;
        let mut counts = Counts::default();
        let mut depth = 0_u64;
        for payload in parser.parse_all(bytes) {
            let payload = payload.map_err(wrong)?;
            counts.add(&payload).map_err(|stop| stop.rejection(bytes.len()))?;
            match &payload {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return Err(Rejection::CoreModule),
                Payload::Version { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 1 => {
                    for import in section.clone() {
                        imports.insert(import.map_err(wrong)?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 1 => {
                    for export in section.clone() {
                        exports.insert(export.map_err(wrong)?.name.name.to_owned());
                    }
                }
                Payload::CustomSection(section) if section.name() == manifest::SECTION => {
                    if manifest.is_some_and(|other| other != section.data()) {
                        return Err(Rejection::Manifest("there are several, and they differ".to_owned()));
                    }
                    manifest = Some(section.data());
                }
                _ => {}
            }
            most("components within components", depth, DEPTH_MAX).map_err(|stop| stop.rejection(bytes.len()))?;
            validator.payload(&payload).map_err(wrong)?;
        }
        let manifest = match manifest {
            Some(json) => Manifest::parse(json).map_err(Rejection::Manifest)?,
            None => Manifest::default(),
        };
        Ok(Self { imports, exports, manifest })
    }
}

/// Why reading ends.
enum Stop {
    TooMuch(Rejection),
    Wrong(BinaryReaderError),
}

impl Stop {
    fn rejection(self, size: usize) -> Rejection {
        match self {
            Self::TooMuch(rejection) => rejection,
            Self::Wrong(error) => explain(&error, size),
        }
    }
}

impl From<BinaryReaderError> for Stop {
    fn from(error: BinaryReaderError) -> Self {
        Self::Wrong(error)
    }
}

impl Counts {
    /// Counts what a section announces, before anyone makes room for it.
    fn add(&mut self, payload: &Payload<'_>) -> Result<(), Stop> {
        match payload {
            Payload::Version { .. } => self.nested += 1,
            Payload::FunctionSection(section) => self.functions += u64::from(section.count()),
            Payload::CodeSectionEntry(body) => {
                let range = body.range();
                most("bytes in one function", range.end - range.start, BODY_BYTES_MAX)?;
            }
            Payload::TypeSection(section) => self.items += u64::from(section.count()),
            Payload::ExportSection(section) => self.items += u64::from(section.count()),
            Payload::GlobalSection(section) => self.items += u64::from(section.count()),
            Payload::ElementSection(section) => self.items += u64::from(section.count()),
            Payload::DataSection(section) => self.items += u64::from(section.count()),
            Payload::ComponentTypeSection(section) => self.items += u64::from(section.count()),
            Payload::ComponentAliasSection(section) => self.items += u64::from(section.count()),
            Payload::InstanceSection(section) => self.items += u64::from(section.count()),
            Payload::ComponentInstanceSection(section) => self.items += u64::from(section.count()),
            Payload::ComponentImportSection(section) => self.interfaces += u64::from(section.count()),
            Payload::ComponentExportSection(section) => self.interfaces += u64::from(section.count()),
            Payload::ImportSection(section) => {
                self.items += u64::from(section.count());
                for import in section.clone().into_imports() {
                    match import?.ty {
                        TypeRef::Memory(memory) => self.memory(&memory),
                        TypeRef::Table(table) => self.table(&table),
                        _ => {}
                    }
                }
            }
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    self.memory(&memory?);
                }
            }
            Payload::TableSection(section) => {
                for table in section.clone() {
                    self.table(&table?.ty);
                }
            }
            _ => return Ok(()),
        }
        most("modules and components", self.nested, NESTED_MAX)?;
        most("functions", self.functions, FUNCTIONS_MAX)?;
        most("types, imports, exports, globals and segments", self.items, ITEMS_MAX)?;
        most("imported and exported interfaces", self.interfaces, INTERFACES_MAX)?;
        most("bytes of memory to start with", self.memory_bytes, MEMORY_BYTES_MAX)?;
        most("table elements to start with", self.table_elements, TABLE_ELEMENTS_MAX)
    }

    fn memory(&mut self, memory: &MemoryType) {
        let page = 1_u64.checked_shl(memory.page_size_log2.unwrap_or(16)).unwrap_or(u64::MAX);
        self.memory_bytes = self.memory_bytes.saturating_add(memory.initial.saturating_mul(page));
    }

    fn table(&mut self, table: &TableType) {
        self.table_elements = self.table_elements.saturating_add(table.initial);
    }
}

fn most(what: &str, count: u64, max: u64) -> Result<(), Stop> {
    if count > max {
        return Err(Stop::TooMuch(Rejection::TooMuch { what: format!("{count} {what}"), max }));
    }
    Ok(())
}

fn explain(error: &BinaryReaderError, size: usize) -> Rejection {
    let message = error.message();
    if message.contains("unexpected end") || message.contains("unexpected-end") {
        return Rejection::Truncated { size };
    }
    Rejection::Invalid(error.to_string().chars().take(500).collect())
}
