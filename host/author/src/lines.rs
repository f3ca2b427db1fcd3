//! [`Built`]: a component as it is shipped, and with its line tables.
//!
//! What a compiler knows of files and lines lies in sections of its modules beside code that is the same with them and without. So a
//! project is compiled once for whoever ships it and for whoever looks at its traps. Invariant: all else is the same in both.

use std::borrow::Cow;

use wasmparser::{BinaryReader, Parser};

use crate::{Error, manifest::leb128};

/// Bytes that modules and components begin with.
const HEAD: usize = 8;
/// Number of sections that no machine runs.
const CUSTOM: u8 = 0;
/// Numbers of the sections of a component that are modules and components themselves.
const NESTED: [u8; 2] = [1, 4];
/// What the names of line tables and all that belongs to them begin with.
const TABLES: &str = ".debug_";

/// A component that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// As it is shipped.
    pub component: Vec<u8>,
    /// The same with line tables, where its language has them.
    pub traced: Vec<u8>,
}

impl Built {
    /// What a compiler made, line tables and all.
    pub(crate) fn of(traced: Vec<u8>) -> Result<Self, Error> {
        let component = without(&traced)
            .map_err(|error| Error::Component(format!("the sections of what was built can't be read: {error}")))?;
        Ok(Self { component, traced })
    }
}

/// A module or component without line tables.
fn without(binary: &[u8]) -> wasmparser::Result<Vec<u8>> {
    let mut reader = BinaryReader::new(binary, 0);
    let head = reader.read_bytes(HEAD)?;
    let mut kept = head.to_vec();
    while !reader.eof() {
        let number = reader.read_u8()?;
        let size = usize::try_from(reader.read_var_u32()?).unwrap_or(usize::MAX);
        let body = reader.read_bytes(size)?;
        if number == CUSTOM && BinaryReader::new(body, 0).read_string()?.starts_with(TABLES) {
            continue;
        }
        let is_nested = Parser::is_component(head) && NESTED.contains(&number);
        let body = if is_nested { Cow::Owned(without(body)?) } else { Cow::Borrowed(body) };
        kept.push(number);
        leb128(body.len(), &mut kept);
        kept.extend_from_slice(&body);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{Component, ComponentSectionId, CustomSection, Module, ModuleSection, RawSection};

    use super::*;

    fn section<'a>(name: &'a str, data: &'a [u8]) -> CustomSection<'a> {
        CustomSection { name: name.into(), data: data.into() }
    }

    /// A component with a module and another component, all with names and, where asked for, line tables.
    fn nested(lines: bool) -> Vec<u8> {
        let mut module = Module::new();
        for name in [".debug_info", "name", ".debug_line"] {
            if lines || name == "name" {
                module.section(&section(name, &[7; 200]));
            }
        }
        let mut inner = Component::new();
        inner.section(&ModuleSection(&module));
        let inner = inner.finish();
        let mut outer = Component::new();
        outer.section(&ModuleSection(&module));
        outer.section(&RawSection { id: ComponentSectionId::Component.into(), data: &inner });
        outer.section(&section("producers", &[1; 3]));
        outer.finish()
    }

    #[test]
    fn line_tables_are_all_that_goes() {
        let built = Built::of(nested(true)).unwrap();
        assert_eq!(built.component, nested(false));
        assert_eq!(built.traced, nested(true));
        assert_eq!(Built::of(nested(false)).unwrap().component, nested(false));
    }

    #[test]
    fn what_is_cut_off_is_told() {
        let whole = nested(true);
        let short = whole.get(..whole.len() - 1).unwrap().to_vec();
        assert!(Built::of(short).unwrap_err().to_string().contains("sections"));
    }
}
