//! [`platform`], [`stage`] and [`world`]: the interfaces that a project is built with, laid out as the tools of all languages read them.
//!
//! A project names its world in `plugin.wit`; what that takes from the platform lies below `platform/wit`, or, for the plugins of
//! this repository, in the repository. Invariant: the project's own files are only read.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use wit_bindgen_core::wit_parser::{Resolve, WorldId};

use crate::Error;

/// The file with the project's world.
pub(crate) const FILE: &str = "plugin.wit";
/// The world in it.
pub(crate) const WORLD: &str = "plugin";

/// Where the platform's SDK and interfaces lie.
pub(crate) fn platform(folder: &Path) -> Result<PathBuf, Error> {
    let places = [folder.join("platform"), folder.join("../..")];
    let found = places.into_iter().find(|place| place.join("wit/plugin/world.wit").is_file());
    found.ok_or_else(|| {
        Error::Project(format!(
            "`{}` is missing; `platform plugin new` makes a project that has the platform's interfaces",
            folder.join("platform/wit").display()
        ))
    })
}

/// Puts the world and all that it may take from the platform into a folder: the world on top, packages below `deps`.
pub(crate) fn stage(folder: &Path, into: &Path) -> Result<(), Error> {
    let wit = platform(folder)?.join("wit");
    let world = folder.join(FILE);
    copied(&world, &into.join(FILE))?;
    for package in entries(&wit)?.into_iter().filter(|package| package.is_dir()) {
        let deps = into.join("deps").join(package.file_name().unwrap_or_default());
        for file in entries(&package)?.into_iter().filter(|file| file.extension().is_some_and(|kind| kind == "wit")) {
            copied(&file, &deps.join(file.file_name().unwrap_or_default()))?;
        }
    }
    Ok(())
}

/// The world that was staged in a folder, and all that it takes.
pub(crate) fn world(staged: &Path) -> Result<(Resolve, WorldId), Error> {
    let refused = |error: &dyn std::fmt::Display| {
        // The copy is nothing that the user knows.
        let why = error.to_string().replace(&format!("{}/", staged.display()), "");
        Error::Project(format!("`{FILE}` makes no sense: {why}"))
    };
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(staged).map_err(|error| refused(&format!("{error:#}")))?;
    let world = resolve.select_world(&[package], Some(WORLD)).map_err(|error| refused(&format!("{error:#}")))?;
    Ok((resolve, world))
}

/// What lies in a folder, by name.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = || -> io::Result<Vec<PathBuf>> {
        let mut found: Vec<_> =
            fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        found.sort();
        Ok(found)
    };
    read().map_err(|error| Error::Project(format!("can't read `{}`: {error}", folder.display())))
}

fn copied(from: &Path, to: &Path) -> Result<(), Error> {
    let copy = || {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(from, to)
    };
    copy().map(drop).map_err(|error| Error::Project(format!("can't read `{}`: {error}", from.display())))
}
