//! [`Script`]: a package of npm whose script `build` puts an engine for JavaScript and the plugin's module into a component.
//!
//! Invariant: npm runs only when what it has installed is older than `package.json`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use serde_json::{Map, Value};

use crate::{
    Error,
    interfaces::{self, WORLD, stage},
    lent,
    run::{captured, done, passed, program},
    validate,
};

/// The file that makes a folder a package.
pub(crate) const FILE: &str = "package.json";
/// The package of the platform's SDK.
const HELPERS: &str = "platform-sdk";
const WAY_OUT: &str = "install Node.js 20 or newer, with npm";

/// Makes a component: installs what the package needs, unless that is there, and runs its script `build`; where it has to be quick
/// `dev`, if there is one.
///
/// # Errors
/// npm is missing or fails, the script fails, or what comes out is no component.
pub(crate) fn build(folder: &Path, quick: bool) -> Result<Vec<u8>, Error> {
    let scripts = scripts(folder)?;
    let named = |name: &str| scripts.get(name).and_then(Value::as_str);
    let script = named("dev").filter(|_| quick).or_else(|| named("build")).ok_or_else(|| {
        Error::Project(format!("`{}`: it has no `scripts.build`, which makes a component", folder.join(FILE).display()))
    })?;
    // npm writes this last, and anew whenever what is there changes.
    let installed = modified(&folder.join("node_modules/.package-lock.json"));
    if installed.is_none() || installed < modified(&folder.join(FILE)) {
        let mut npm = program("NPM", "npm", folder);
        captured(npm.args(["install", "--no-audit", "--no-fund", "--loglevel", "error"]), WAY_OUT)?;
    }
    bring(folder)?;
    let work = tempfile::tempdir()
        .map_err(|error| Error::Project(format!("can't write to the directory for temporary files: {error}")))?;
    let (wit, file) = (work.path().join("wit"), work.path().join("plugin.wasm"));
    stage(folder, &wit)?;
    let mut build = shell(folder, &format!("{script} \"$@\""))?;
    build.arg("build").arg("--wit").arg(&wit).args(["--world", WORLD, "--output"]).arg(&file);
    done(&mut build, WAY_OUT).map_err(|error| match error {
        Error::Failed(_) => Error::Failed(format!("scripts.build of {FILE}")),
        other => other,
    })?;
    let wrote = fs::read(&file);
    let component = wrote.map_err(|error| {
        Error::Component(format!("`scripts.build` of `{FILE}` wrote nothing to the path after `--output`: {error}"))
    })?;
    validate(&component)?;
    let (resolve, world) = interfaces::world(&wit)?;
    let component = lent::give_back(&component, &resolve, world)?;
    validate(&component)?;
    Ok(component)
}

/// Runs the script `test`, where there is one; whether it ended well.
///
/// # Errors
/// It can't be run.
pub(crate) fn test(folder: &Path, quiet: bool) -> Result<Option<bool>, Error> {
    let scripts = scripts(folder)?;
    let Some(script) = scripts.get("test").and_then(Value::as_str) else { return Ok(None) };
    bring(folder)?;
    passed(&mut shell(folder, script)?, quiet, WAY_OUT).map(Some)
}

/// A script as npm runs it, without the time that npm itself takes.
fn shell(folder: &Path, script: &str) -> Result<Command, Error> {
    let mut shell = Command::new("sh");
    shell.current_dir(folder).env("PATH", path(folder)?).arg("-c").arg(script);
    Ok(shell)
}

/// Puts the platform's SDK where modules are imported from by name, and where editors look for them.
fn bring(folder: &Path) -> Result<(), Error> {
    let place = folder.join("node_modules").join(HELPERS);
    for file in interfaces::entries(&interfaces::platform(folder)?.join("sdk/js"))? {
        let to = place.join(file.file_name().unwrap_or_default());
        fs::create_dir_all(&place)
            .and_then(|()| fs::copy(&file, &to))
            .map_err(|error| Error::Project(format!("can't write `{}`: {error}", to.display())))?;
    }
    Ok(())
}

/// The scripts of the package.
fn scripts(folder: &Path) -> Result<Map<String, Value>, Error> {
    let file = folder.join(FILE);
    let wrong = |why: String| Error::Project(format!("`{}`: {why}", file.display()));
    let text = fs::read(&file).map_err(|error| wrong(error.to_string()))?;
    let package: Value = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    Ok(package.get("scripts").and_then(Value::as_object).cloned().unwrap_or_default())
}

/// Where programs are, those of the package first.
fn path(folder: &Path) -> Result<std::ffi::OsString, Error> {
    let own = folder.join("node_modules/.bin");
    let usual = env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(own).chain(env::split_paths(&usual));
    env::join_paths(all.collect::<Vec<PathBuf>>())
        .map_err(|error| Error::Project(format!("`{}` can't be on the path of programs: {error}", folder.display())))
}

fn modified(file: &Path) -> Option<SystemTime> {
    file.metadata().and_then(|metadata| metadata.modified()).ok()
}
