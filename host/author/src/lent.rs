//! [`give_back`]: makes a component give back what a call lent it before the call returns.
//!
//! The component model asks for that. componentize-qjs 0.4 gives a borrowed handle back only when the host is done with the
//! answer, so each call that lends would trap. Its bindings are one core module, which is mended here: an export gives back what
//! it was lent once it has returned, and what comes later finds nothing left to do. Must not know any interface: what is lent
//! where is read from the world. Invariant: a component of another make is left as it is.

use std::collections::BTreeMap;

use wasm_encoder::{
    CodeSection, Component, ComponentSectionId, ExportSection, Function, FunctionSection, Instruction, Module,
    ModuleSection, RawSection,
    reencode::{self, Reencode, ReencodeComponent},
};
use wasmparser::{CodeSectionReader, ExternalKind, FunctionSectionReader, Parser, Payload, TypeRef};
use wit_bindgen_core::wit_parser::{
    Handle, Resolve, Type, TypeDefKind, TypeOwner, WorldId, WorldItem,
    abi::{AbiVariant, FlatTypes, WasmType},
};

use crate::Error;

/// What bindings of that make import, and nobody else's.
const MAKE: &str = "wit_dylib_export_finish";
/// Most parameters that are passed one by one.
const FLAT_MAX: usize = 16;

/// A parameter of an export that is a borrowed handle.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lent {
    /// Its place among the parameters of the core function.
    at: u32,
    /// The import that gives it back: module and name.
    back: (String, String),
}

/// What each core export is lent.
type Lendings = BTreeMap<String, Vec<Lent>>;

/// The component, mended where it has to be.
pub(crate) fn give_back(component: &[u8], resolve: &Resolve, world: WorldId) -> Result<Vec<u8>, Error> {
    let lendings = lendings(resolve, world);
    let mut mended = Component::new();
    let mut whole = Whole { lendings: &lendings };
    let done = whole.parse_component(&mut mended, Parser::new(0), component);
    done.map_err(|error| Error::Component(format!("what the engine was put into can't be read: {error}")))?;
    Ok(mended.finish())
}

/// Handles that exports of the world borrow, by the name of the core export.
fn lendings(resolve: &Resolve, world: WorldId) -> Lendings {
    let mut found = Lendings::new();
    let Some(world) = resolve.worlds.get(world) else { return found };
    for (key, item) in &world.exports {
        let WorldItem::Interface { id, .. } = item else { continue };
        let Some(interface) = resolve.interfaces.get(*id) else { continue };
        for function in interface.functions.values() {
            if resolve.wasm_signature(AbiVariant::GuestExport, function).indirect_params {
                continue;
            }
            let mut lent = Vec::new();
            let mut at = 0;
            for parameter in &function.params {
                if let Some(back) = borrowed(resolve, &parameter.ty) {
                    lent.push(Lent { at, back });
                }
                let mut storage = [WasmType::I32; FLAT_MAX];
                let mut flat = FlatTypes::new(&mut storage);
                resolve.push_flat(&parameter.ty, &mut flat);
                at += u32::try_from(flat.to_vec().len()).unwrap_or(u32::MAX);
            }
            if !lent.is_empty() {
                found.insert(format!("{}#{}", resolve.name_world_key(key), function.name), lent);
            }
        }
    }
    found
}

/// The import that gives a handle back, when the type is a borrowed one.
fn borrowed(resolve: &Resolve, ty: &Type) -> Option<(String, String)> {
    let Type::Id(id) = ty else { return None };
    match resolve.types.get(*id)?.kind {
        TypeDefKind::Type(ref alias) => borrowed(resolve, alias),
        TypeDefKind::Handle(Handle::Borrow(of)) => {
            let mut of = resolve.types.get(of)?;
            while let TypeDefKind::Type(Type::Id(alias)) = of.kind {
                of = resolve.types.get(alias)?;
            }
            let TypeOwner::Interface(interface) = of.owner else { return None };
            Some((resolve.id_of(interface)?, format!("[resource-drop]{}", of.name.as_deref()?)))
        }
        _ => None,
    }
}

/// All of a component; what is not mended is copied.
struct Whole<'a> {
    lendings: &'a Lendings,
}

impl Reencode for Whole<'_> {
    type Error = std::convert::Infallible;
}

impl ReencodeComponent for Whole<'_> {
    fn parse_component_submodule(
        &mut self, component: &mut Component, parser: Parser, submodule: &[u8],
    ) -> Result<(), reencode::Error<Self::Error>> {
        let Some(mut bindings) = Bindings::read(&parser, submodule, self.lendings)? else {
            component.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data: submodule });
            return Ok(());
        };
        let mut module = Module::new();
        bindings.parse_core_module(&mut module, parser, submodule)?;
        component.section(&ModuleSection(&module));
        Ok(())
    }
}

/// The module with the bindings, and what is put into it.
#[derive(Debug, Default)]
struct Bindings {
    /// How many functions there are, imports first.
    functions: u32,
    /// What gives a handle back: its function, its type, and the function that takes its place for everybody else.
    backs: Vec<(u32, u32, u32)>,
    /// Exports that are lent something.
    wraps: Vec<Wrap>,
}

/// An export that gives back what it was lent.
#[derive(Debug)]
struct Wrap {
    name: String,
    /// The function that it was, its type and how many parameters that has.
    function: u32,
    ty: u32,
    parameters: u32,
    /// The one that it is now.
    by: u32,
    /// Parameters to give back, each with the function that does.
    lent: Vec<(u32, u32)>,
}

impl Bindings {
    /// What is to be done in a module; nothing where it is none of that make, or is lent nothing.
    fn read(parser: &Parser, module: &[u8], lendings: &Lendings) -> Result<Option<Self>, wasmparser::Error> {
        let mut imports: Vec<(String, String, u32)> = Vec::new();
        let (mut parameters, mut types, mut exports) = (Vec::new(), Vec::new(), Vec::new());
        for payload in parser.clone().parse_all(module) {
            match payload? {
                Payload::TypeSection(section) => {
                    for ty in section.into_iter_err_on_gc_types() {
                        parameters.push(u32::try_from(ty?.params().len()).unwrap_or(u32::MAX));
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        if let TypeRef::Func(ty) = import.ty {
                            imports.push((import.module.to_owned(), import.name.to_owned(), ty));
                            types.push(ty);
                        }
                    }
                }
                Payload::FunctionSection(section) => {
                    for ty in section {
                        types.push(ty?);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        if export.kind == ExternalKind::Func {
                            exports.push((export.name.to_owned(), export.index));
                        }
                    }
                }
                _ => {}
            }
        }
        if !imports.iter().any(|(_, name, _)| name == MAKE) {
            return Ok(None);
        }
        let mut found = Self { functions: u32::try_from(types.len()).unwrap_or(u32::MAX), ..Self::default() };
        let place = |index: u32| usize::try_from(index).unwrap_or(usize::MAX);
        for (name, function) in exports {
            let Some(lendings) = lendings.get(&name) else { continue };
            let Some(ty) = types.get(place(function)).copied() else { continue };
            let Some(parameters) = parameters.get(place(ty)).copied() else { continue };
            let mut lent = Vec::new();
            for Lent { at, back } in lendings {
                let there = (0_u32..).zip(&imports).find(|(_, (module, name, _))| (module, name) == (&back.0, &back.1));
                let Some((index, (_, _, ty))) = there else { continue };
                lent.push((*at, index));
                if !found.backs.iter().any(|(known, _, _)| *known == index) {
                    found.backs.push((index, *ty, 0));
                }
            }
            found.wraps.push(Wrap { name, function, ty, parameters, by: 0, lent });
        }
        let own = found.backs.iter_mut().map(|(_, _, by)| by).chain(found.wraps.iter_mut().map(|wrap| &mut wrap.by));
        for (next, by) in (found.functions..).zip(own) {
            *by = next;
        }
        Ok((!found.wraps.is_empty()).then_some(found))
    }
}

impl Reencode for Bindings {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, reencode::Error<Self::Error>> {
        let placed = self.backs.iter().find(|(back, _, _)| *back == function);
        Ok(placed.map_or(function, |(_, _, by)| *by))
    }

    fn parse_function_section(
        &mut self, functions: &mut FunctionSection, section: FunctionSectionReader<'_>,
    ) -> Result<(), reencode::Error<Self::Error>> {
        for ty in section {
            functions.function(ty?);
        }
        for (_, ty, _) in &self.backs {
            functions.function(*ty);
        }
        for wrap in &self.wraps {
            functions.function(wrap.ty);
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self, code: &mut CodeSection, section: CodeSectionReader<'_>,
    ) -> Result<(), reencode::Error<Self::Error>> {
        for body in section {
            self.parse_function_body(code, body?)?;
        }
        for _ in &self.backs {
            let mut nothing = Function::new([]);
            nothing.instruction(&Instruction::End);
            code.function(&nothing);
        }
        for wrap in &self.wraps {
            let mut body = Function::new([]);
            for parameter in 0..wrap.parameters {
                body.instruction(&Instruction::LocalGet(parameter));
            }
            body.instruction(&Instruction::Call(wrap.function));
            for (parameter, back) in &wrap.lent {
                body.instruction(&Instruction::LocalGet(*parameter));
                body.instruction(&Instruction::Call(*back));
            }
            body.instruction(&Instruction::End);
            code.function(&body);
        }
        Ok(())
    }

    fn parse_export(
        &mut self, exports: &mut ExportSection, export: wasmparser::Export<'_>,
    ) -> Result<(), reencode::Error<Self::Error>> {
        let wrap = self.wraps.iter().find(|wrap| export.kind == ExternalKind::Func && wrap.name == export.name);
        let index = match wrap {
            Some(wrap) => wrap.by,
            None => self.external_index(export.kind, export.index)?,
        };
        exports.export(export.name, self.export_kind(export.kind)?, index);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIT: &str = "
        package test:lent;
        interface facts { resource request { name: func() -> string; } }
        interface policy {
            use facts.{request};
            ask: func(subject: string, asked: borrow<request>, last: u64) -> string;
            tell: func(subject: string);
        }
        world plugin { import facts; export policy; }
    ";

    fn world() -> (Resolve, WorldId) {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("lent.wit", WIT).unwrap();
        let world = resolve.select_world(&[package], Some("plugin")).unwrap();
        (resolve, world)
    }

    #[test]
    fn what_is_lent_is_read_from_the_world() {
        let (resolve, world) = world();
        let back = ("test:lent/facts".to_owned(), "[resource-drop]request".to_owned());
        let expected = [("test:lent/policy#ask".to_owned(), vec![Lent { at: 2, back }])];
        assert_eq!(lendings(&resolve, world), BTreeMap::from(expected));
    }

    /// Bindings of that make, reduced to what is looked at.
    fn bindings(make: &str) -> Vec<u8> {
        let module = wat::parse_str(format!(
            "(module
                (import \"env\" \"{make}\" (func))
                (import \"test:lent/facts\" \"[resource-drop]request\" (func $back (param i32)))
                (table 1 funcref)
                (elem (i32.const 0) func $back)
                (func (export \"test:lent/policy#ask\") (param i32 i32 i32 i64) (result i32)
                    (call $back (local.get 0)) (i32.const 7))
                (func (export \"test:lent/policy#tell\") (param i32 i32)))"
        ));
        let mut component = Component::new();
        component.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data: &module.unwrap() });
        component.finish()
    }

    #[test]
    fn exports_give_back_what_they_were_lent_and_nobody_else_does() {
        let (resolve, world) = world();
        let mended = give_back(&bindings(MAKE), &resolve, world).unwrap();
        crate::validate(&mended).unwrap();
        let seen = look(&mended);
        // Functions 0 and 1 are imports, 2 and 3 what was there, 4 does nothing and 5 gives back.
        assert_eq!(seen.exports, [("test:lent/policy#ask".to_owned(), 5), ("test:lent/policy#tell".to_owned(), 3)]);
        assert_eq!(seen.calls, [vec![4], vec![], vec![], vec![2, 1]]);
    }

    #[test]
    fn components_of_another_make_stay_as_they_are() {
        let (resolve, world) = world();
        let other = bindings("other");
        assert_eq!(give_back(&other, &resolve, world).unwrap(), other);
        assert!(give_back(b"\0asm\x0d\0\x01\0\xff", &resolve, world).is_err());
    }

    struct Seen {
        exports: Vec<(String, u32)>,
        calls: Vec<Vec<u32>>,
    }

    fn look(component: &[u8]) -> Seen {
        let mut seen = Seen { exports: Vec::new(), calls: Vec::new() };
        for payload in Parser::new(0).parse_all(component) {
            match payload.unwrap() {
                Payload::ExportSection(section) => {
                    seen.exports.extend(
                        section.into_iter().map(|export| export.map(|it| (it.name.to_owned(), it.index)).unwrap()),
                    );
                }
                Payload::CodeSectionEntry(body) => {
                    let operators = body.get_operators_reader().unwrap().into_iter().map(Result::unwrap);
                    seen.calls.push(
                        operators
                            .filter_map(|operator| match operator {
                                wasmparser::Operator::Call { function_index } => Some(function_index),
                                _ => None,
                            })
                            .collect(),
                    );
                }
                _ => {}
            }
        }
        seen
    }
}
