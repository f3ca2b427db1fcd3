//! [`Clang`]: from sources in C to a component, by clang and the bindings that are generated for the project's world.
//!
//! What is linked is freestanding: of the C library only what reaches no operating system. Invariant: the same source and compiler
//! give the same bytes wherever they lie.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use wit_bindgen_core::Files;

use crate::{
    Error, component,
    interfaces::{self, entries, stage},
    run::{captured, done, passed, program},
};

const TARGET: &str = "--target=wasm32-wasi";
const WAY_OUT: &str = "install clang, lld and wasi-libc (`apt-get install clang lld wasi-libc`), or set `WASI_SDK_PATH` to an unpacked wasi-sdk";
/// Where tests lie.
const TESTS: &str = "tests";
const NATIVE: &str = "install a C compiler for this machine, such as gcc, or name one in `CC`";
/// Variables that would add to what the compiler is told.
const UNHEARD: [&str; 5] = ["CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "CCC_OVERRIDE_OPTIONS"];
/// What links a module that is entered by its exports alone. The stack lies below all data, so that one that overflows traps.
const LINK: [&str; 5] =
    ["-nostartfiles", "-nodefaultlibs", "-Wl,--no-entry", "-Wl,--stack-first", "-Wl,-z,stack-size=65536"];
/// What only an operating system can do ends up as imports of this module.
const SYSTEM: &str = "wasi_snapshot_preview1";

/// A clang that compiles to WebAssembly.
#[derive(Debug)]
struct Clang {
    program: PathBuf,
    /// What the compiler's code calls for what the processor has no instruction for, where it is installed.
    builtins: Option<PathBuf>,
}

/// Compiles what lies below `src` of a folder.
///
/// # Errors
/// The compiler is missing or refuses the source, or what comes out is no component.
pub(crate) fn build(folder: &Path) -> Result<Vec<u8>, Error> {
    let mut sources = Vec::new();
    collect(&folder.join("src"), Path::new("src"), &mut sources)?;
    if sources.is_empty() {
        return Err(Error::Project(format!("there is no `*.c` below `{}`", folder.join("src").display())));
    }
    let clang = Clang::find(folder)?;
    let work = tempfile::tempdir().map_err(|error| unwritten(&error))?;
    let work = work.path();
    let bindings = bindings(folder, work)?;
    show(&bindings, folder);

    let sdk = interfaces::platform(folder)?.join("sdk/c");
    let mut objects = vec![bindings.join("plugin_component_type.o")];
    sources.push(bindings.join("plugin.c"));
    for (number, source) in sources.iter().enumerate() {
        let object = work.join(format!("{number}.o"));
        let mut compile = clang.command(folder);
        compile.args(["-std=gnu17", "-Os", "-gline-tables-only", "-fvisibility=hidden", "-c"]);
        // The bindings are as they are.
        compile.args(if source.is_absolute() { &["-w"][..] } else { &["-Wall", "-Wextra"] });
        for (path, name) in [(work, "/platform"), (sdk.as_path(), "/sdk"), (folder, "")] {
            compile.arg(format!("-ffile-prefix-map={}={name}", path.display()));
        }
        compile.arg("-I").arg(&bindings).arg("-I").arg(&sdk).arg("-o").arg(&object).arg(source);
        done(&mut compile, WAY_OUT)?;
        objects.push(object);
    }
    let module = work.join("plugin.wasm");
    let mut link = clang.command(folder);
    link.args(LINK).arg("-o").arg(&module).args(&objects).arg("-lc").args(&clang.builtins);
    done(&mut link, WAY_OUT)?;
    let module = fs::read(&module).map_err(|error| Error::Component(format!("clang left no module: {error}")))?;
    component(&module).map_err(|error| reaches(&module).unwrap_or(error))
}

/// Compiles each `*.c` below `tests` with the sources for this machine and runs it; whether all ended well. What a test's plugin asks of
/// its host the test defines.
///
/// # Errors
/// There is no compiler for this machine.
pub(crate) fn test(folder: &Path, quiet: bool) -> Result<Option<bool>, Error> {
    let (mut sources, mut tests) = (Vec::new(), Vec::new());
    collect(&folder.join("src"), Path::new("src"), &mut sources)?;
    if folder.join(TESTS).is_dir() {
        collect(&folder.join(TESTS), Path::new(TESTS), &mut tests)?;
    }
    if tests.is_empty() {
        return Ok(None);
    }
    let work = tempfile::tempdir().map_err(|error| unwritten(&error))?;
    let bindings = bindings(folder, work.path())?;
    let sdk = interfaces::platform(folder)?.join("sdk/c");
    let mut all = true;
    for (number, test) in tests.iter().enumerate() {
        let made = work.path().join(format!("test-{number}"));
        let mut compile = program("CC", "cc", folder);
        compile.args(["-std=gnu17", "-g", "-Wall", "-Wextra", "-I"]).arg(&bindings).arg("-I").arg(&sdk);
        compile.arg("-o").arg(&made).arg(test).args(&sources);
        let passes =
            passed(&mut compile, quiet, NATIVE)? && passed(Command::new(&made).current_dir(folder), quiet, NATIVE)?;
        all &= passes;
    }
    Ok(Some(all))
}

impl Clang {
    /// The one in use, if it has all that is needed.
    fn find(folder: &Path) -> Result<Self, Error> {
        let sdk = env::var_os("WASI_SDK_PATH").filter(|path| !path.is_empty());
        let program = sdk.map_or_else(|| PathBuf::from("clang"), |sdk| Path::new(&sdk).join("bin/clang"));
        let clang = Self { program, builtins: None };
        let print = |what: &str| captured(clang.command(folder).arg(what), WAY_OUT);
        let library = print("--print-file-name=libc.a")?;
        let linker = print("--print-prog-name=wasm-ld")?;
        for (found, what) in [(library, "the C library for WebAssembly, wasi-libc"), (linker, "the linker `wasm-ld`")] {
            if !is_there(Path::new(found.trim_end())) {
                return Err(Error::Missing { what: what.to_owned(), way_out: WAY_OUT });
            }
        }
        let builtins = PathBuf::from(print("--print-libgcc-file-name")?.trim_end());
        Ok(Self { builtins: Some(builtins).filter(|file| file.is_file()), ..clang })
    }

    /// A run of it in a folder, which hears nothing but what it is told here.
    fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(folder).arg(TARGET).env("SOURCE_DATE_EPOCH", "0");
        for variable in UNHEARD {
            command.env_remove(variable);
        }
        command
    }
}

/// Whether there is such a file; one without a folder is looked for where programs are.
fn is_there(file: &Path) -> bool {
    if file.components().count() > 1 {
        return file.is_file();
    }
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(file).is_file()))
}

/// Sources below a folder, by their path from the project's folder: that is what messages and assertions name.
fn collect(folder: &Path, shown: &Path, sources: &mut Vec<PathBuf>) -> Result<(), Error> {
    for path in entries(folder)? {
        let shown = shown.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            collect(&path, &shown, sources)?;
        } else if path.extension().is_some_and(|kind| kind == "c") {
            sources.push(shown);
        }
    }
    Ok(())
}

/// The bindings of a project, written into a folder below `work`.
fn bindings(folder: &Path, work: &Path) -> Result<PathBuf, Error> {
    let (wit, into) = (work.join("wit"), work.join("bindings"));
    stage(folder, &wit)?;
    bind(&wit, &into)?;
    Ok(into)
}

/// Generates header, source and description of the interfaces for the world in a folder.
fn bind(wit: &Path, into: &Path) -> Result<(), Error> {
    let (mut resolve, world) = interfaces::world(wit)?;
    let options = wit_bindgen_c::Opts {
        // What is lent has to be given back before a call returns.
        autodrop_borrows: wit_bindgen_c::Enabled::Yes,
        ..wit_bindgen_c::Opts::default()
    };
    let mut files = Files::default();
    let generated = options.build().generate(&mut resolve, world, &mut files);
    generated
        .map_err(|error| Error::Project(format!("there are no bindings to C for `{}`: {error:#}", interfaces::FILE)))?;
    write(&files, into).map_err(|error| unwritten(&error))
}

fn write(files: &Files, into: &Path) -> io::Result<()> {
    fs::create_dir_all(into)?;
    files.iter().try_for_each(|(name, content)| fs::write(into.join(name), content))
}

/// Leaves the header where people and their editors find it; nothing is compiled from there.
fn show(bindings: &Path, folder: &Path) {
    let place = folder.join("target/bindings");
    let _ = fs::create_dir_all(&place).and_then(|()| fs::copy(bindings.join("plugin.h"), place.join("plugin.h")));
}

/// Says of a module that needs an operating system what it needs of it.
fn reaches(module: &[u8]) -> Option<Error> {
    let imports =
        wasmparser::Parser::new(0).parse_all(module).filter_map(Result::ok).find_map(|payload| match payload {
            wasmparser::Payload::ImportSection(imports) => Some(imports),
            _ => None,
        })?;
    let name = imports
        .into_imports()
        .filter_map(Result::ok)
        .find_map(|import| (import.module == SYSTEM).then(|| import.name.to_owned()))?;
    Some(Error::Component(format!(
        "it calls the operating system (`{name}`), which a component in C has none of; leave out files, streams, clocks and \
         `printf`: `log_line` writes to the log, `platform:plugin/context` has the time"
    )))
}

fn unwritten(error: &io::Error) -> Error {
    Error::Project(format!("can't write to the directory for temporary files: {error}"))
}
