//! The contracts: every interface, function, type and case below `wit/` says what it means.
//!
//! Read with the parser that bindings are made with, so what passes here also compiles.

use std::path::Path;

use anyhow::{Context, Result};
use wit_parser::{Docs, Function, Resolve, SourceMap, TypeDef, TypeDefKind, UnresolvedPackageGroup, WorldItem};

use super::{File, Finding};
use crate::workspace::Workspace;

pub(super) fn check(workspace: &Workspace, files: &[File]) -> Vec<Finding> {
    let mut folders: Vec<&str> = files
        .iter()
        .filter(|file| file.is("wit"))
        .filter_map(|file| file.path.rsplit_once('/'))
        .map(|(folder, _)| folder)
        .collect();
    folders.retain(|folder| folder.starts_with("wit/"));
    folders.sort_unstable();
    folders.dedup();
    match parse(workspace, &folders) {
        Ok(resolve) => documented(&resolve),
        Err(error) => vec![Finding::new("wit", format!("does not parse: {error:#}"))],
    }
}

fn parse(workspace: &Workspace, folders: &[&str]) -> Result<Resolve> {
    let mut groups = folders.iter().map(|folder| group(&workspace.root.join(folder))).collect::<Result<Vec<_>>>()?;
    let mut resolve = Resolve::default();
    if let Some(main) = groups.pop() {
        resolve.push_groups(main, groups).map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    Ok(resolve)
}

fn group(folder: &Path) -> Result<UnresolvedPackageGroup> {
    let mut sources = SourceMap::default();
    sources.push_dir(folder).with_context(|| format!("can't read `{}`", folder.display()))?;
    sources.parse().map_err(|(_, error)| anyhow::anyhow!("`{}`: {error}", folder.display()))
}

fn documented(resolve: &Resolve) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut need = |docs: &Docs, what: String| {
        if docs.contents.as_deref().is_none_or(|text| text.trim().is_empty()) {
            findings.push(Finding::new(what, "has no documentation; say what it means in a `///` line"));
        }
    };
    for (_, interface) in &resolve.interfaces {
        let package = interface.package.and_then(|id| resolve.packages.get(id)).map(|package| package.name.to_string());
        let place = format!("{}/{}", package.unwrap_or_default(), interface.name.as_deref().unwrap_or("(inline)"));
        need(&interface.docs, place.clone());
        for function in interface.functions.values() {
            need(&function.docs, format!("{place} {}", title(function)));
        }
        for id in interface.types.values() {
            if let Some(one) = resolve.types.get(*id) {
                type_documented(one, &place, &mut need);
            }
        }
    }
    for (_, world) in &resolve.worlds {
        need(&world.docs, format!("world {}", world.name));
        for item in world.imports.values().chain(world.exports.values()) {
            if let WorldItem::Function(function) = item {
                need(&function.docs, format!("world {} {}", world.name, title(function)));
            }
        }
    }
    findings
}

fn type_documented(one: &TypeDef, place: &str, need: &mut impl FnMut(&Docs, String)) {
    let name = format!("{place} {}", one.name.as_deref().unwrap_or("(unnamed)"));
    let parts: Vec<(&Docs, String)> = match &one.kind {
        // A name taken over by `use` is documented where it is defined.
        TypeDefKind::Type(_) => return,
        TypeDefKind::Record(record) => {
            record.fields.iter().map(|field| (&field.docs, format!("{name}.{}", field.name))).collect()
        }
        TypeDefKind::Variant(variant) => {
            variant.cases.iter().map(|case| (&case.docs, format!("{name}::{}", case.name))).collect()
        }
        TypeDefKind::Enum(all) => all.cases.iter().map(|case| (&case.docs, format!("{name}::{}", case.name))).collect(),
        TypeDefKind::Flags(all) => {
            all.flags.iter().map(|flag| (&flag.docs, format!("{name}::{}", flag.name))).collect()
        }
        _ => Vec::new(),
    };
    need(&one.docs, name);
    for (docs, what) in parts {
        need(docs, what);
    }
}

fn title(function: &Function) -> String {
    format!("{}()", function.name)
}
