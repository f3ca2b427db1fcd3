//! Small components, made from the platform's WIT: every function answers with zeros, unless told otherwise.

use std::{fmt::Write as _, path::Path};

use wasmparser::{CompositeInnerType, Parser, Payload, TypeRef, ValType};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

/// A component to be.
#[derive(Clone)]
pub(crate) struct Guest {
    manifest: String,
    world: String,
    bodies: Vec<(&'static str, String)>,
    data: Vec<(u32, Vec<u8>)>,
    from: &'static str,
    to: &'static str,
}

/// Where an answer that a test sets lies in the guest's memory.
const ANSWER: u32 = 4096;
/// Where a refusal lies.
const REFUSAL: u32 = 8192;

impl Guest {
    /// A kv provider whose `revision` is `revision`.
    pub(crate) fn kv(name: &'static str, version: &'static str, revision: u64) -> Self {
        let mut answer = vec![0; 16];
        answer[8..].copy_from_slice(&revision.to_le_bytes());
        Self {
            data: vec![(ANSWER, answer)],
            bodies: vec![("kv/store@0.1.0#revision", format!("i32.const {ANSWER}"))],
            ..Self::new(name, version, "kv.store", "platform:kv/store@0.1.0")
        }
    }

    /// A discovery provider.
    pub(crate) fn discovery(name: &'static str) -> Self {
        Self::new(name, "0.1.0", "discovery.registry", "platform:discovery/registry@0.1.0")
    }

    /// An auth policy.
    pub(crate) fn auth(name: &'static str) -> Self {
        Self::new(name, "0.1.0", "auth.policy", "platform:auth/policy@0.1.0")
    }

    fn new(name: &'static str, version: &'static str, slot: &str, interface: &str) -> Self {
        Self {
            manifest: format!(r#"{{"name":"{name}","version":"{version}","slot":"{slot}"}}"#),
            world: format!("export {interface}; export platform:plugin/lifecycle@0.1.0;"),
            bodies: Vec::new(),
            data: Vec::new(),
            from: "",
            to: "",
        }
    }

    /// Imports an interface.
    pub(crate) fn importing(mut self, interface: &str) -> Self {
        write!(self.world, "import {interface};").unwrap();
        self
    }

    /// Adds a member to the manifest.
    pub(crate) fn member(mut self, name: &str, json: &str) -> Self {
        self.manifest.pop();
        write!(self.manifest, r#","{name}":{json}}}"#).unwrap();
        self
    }

    /// Replaces the manifest.
    pub(crate) fn manifest(mut self, json: &str) -> Self {
        json.clone_into(&mut self.manifest);
        self
    }

    /// Gives an exported function a body, as WebAssembly text.
    pub(crate) fn body(mut self, export: &'static str, text: &str) -> Self {
        self.bodies.push((export, text.to_owned()));
        self
    }

    /// Lets a function of `lifecycle` refuse.
    pub(crate) fn refusing(mut self, export: &'static str, message: &str) -> Self {
        let mut refusal = vec![0; 24];
        refusal[0] = 1;
        refusal[4..8].copy_from_slice(&(REFUSAL + 24).to_le_bytes());
        refusal[8..12].copy_from_slice(&u32::try_from(message.len()).unwrap().to_le_bytes());
        refusal.extend_from_slice(message.as_bytes());
        self.data.push((REFUSAL, refusal));
        self.body(export, &format!("i32.const {REFUSAL}"))
    }

    /// Builds against WIT in which `from` is replaced.
    pub(crate) fn against(mut self, from: &'static str, to: &'static str) -> Self {
        (self.from, self.to) = (from, to);
        self
    }

    /// The core module.
    pub(crate) fn module(&self) -> Vec<u8> {
        self.encode(false)
    }

    /// The component.
    pub(crate) fn component(&self) -> Vec<u8> {
        self.encode(true)
    }

    fn encode(&self, component: bool) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
        let mut sources = String::new();
        for package in ["plugin", "storage", "kv", "discovery", "auth", "router", "config"] {
            sources.push_str(&nested(&root.join(package), package));
        }
        if !self.from.is_empty() {
            assert!(sources.contains(self.from), "`{}` is in the WIT", self.from);
            sources = sources.replace(self.from, self.to);
        }
        let world = self
            .world
            .replace("kv/store@0.1.0", if self.to.contains("kv@") { "kv/store@0.2.0" } else { "kv/store@0.1.0" });
        let text = format!("package test:guest;\nworld plugin {{ {world} }}\n{sources}");
        let package = resolve.push_str("guest.wit", &text).unwrap();
        let world = resolve.select_world(&[package], Some("plugin")).unwrap();
        let dummy = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
        let mut module = wat::parse_str(self.text(&dummy)).unwrap();
        if !component {
            return module;
        }
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
        ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
    }

    /// A module with the imports and exports of `dummy` and bodies that answer.
    fn text(&self, dummy: &[u8]) -> String {
        let (mut types, mut functions) = (Vec::new(), Vec::new());
        let mut text = String::from("(module\n");
        let mut exports = String::new();
        for payload in Parser::new(0).parse_all(dummy) {
            match payload.unwrap() {
                Payload::TypeSection(section) => {
                    for group in section {
                        for sub in group.unwrap().into_types() {
                            let CompositeInnerType::Func(function) = sub.composite_type.inner else {
                                panic!("{sub:?}")
                            };
                            types.push(function);
                        }
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import.unwrap();
                        let TypeRef::Func(index) = import.ty else { panic!("{import:?}") };
                        functions.push(index);
                        let signature = signature(&types[index as usize]);
                        writeln!(text, "(import {:?} {:?} (func {signature}))", import.module, import.name).unwrap();
                    }
                }
                Payload::FunctionSection(section) => functions.extend(section.into_iter().map(Result::unwrap)),
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export.unwrap();
                        if export.kind == wasmparser::ExternalKind::Func && !export.name.starts_with("cabi_") {
                            let function = &types[functions[export.index as usize] as usize];
                            let body = self.answer(export.name, function);
                            writeln!(exports, "(func (export {:?}) {} {body})", export.name, signature(function))
                                .unwrap();
                        }
                    }
                }
                _ => {}
            }
        }
        text.push_str(&exports);
        text.push_str(
            "(memory (export \"memory\") 2)
            (global $free (mut i32) (i32.const 65536))
            (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) (local i32)
                (local.set 4 (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
                (global.set $free (i32.add (local.get 4) (local.get 3)))
                (local.get 4))\n",
        );
        for (place, bytes) in &self.data {
            writeln!(text, "(data (i32.const {place}) \"{}\")", escaped(bytes)).unwrap();
        }
        if !self.manifest.is_empty() {
            writeln!(text, "(@custom \"platform:manifest\" \"{}\")", escaped(self.manifest.as_bytes())).unwrap();
        }
        text + ")"
    }

    fn answer(&self, export: &str, function: &wasmparser::FuncType) -> String {
        if let Some((_, body)) = self.bodies.iter().rev().find(|(name, _)| export.ends_with(name)) {
            return body.clone();
        }
        match function.results() {
            [] => String::new(),
            [ValType::I32] => "i32.const 1024".to_owned(),
            [ValType::I64] => "i64.const 0".to_owned(),
            other => panic!("{other:?}"),
        }
    }
}

/// A package as one nested package, so that a test can change all of the WIT as one text.
fn nested(folder: &Path, package: &str) -> String {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let head = format!("package platform:{package}@0.1.0;");
    let files = paths.iter().map(|path| std::fs::read_to_string(path).unwrap().replace(&head, ""));
    format!("package platform:{package}@0.1.0 {{\n{}\n}}\n", files.collect::<Vec<_>>().join("\n"))
}

fn signature(function: &wasmparser::FuncType) -> String {
    let names = |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    format!("(param {}) (result {})", names(function.params()), names(function.results()))
}

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}
