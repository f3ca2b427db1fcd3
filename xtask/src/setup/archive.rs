//! Packages of newer releases of the distribution than the machine's own, unpacked beside it and never installed.
//!
//! Lists of packages lie in a folder of our own and the system's are not touched. Invariant: what is downloaded was signed
//! by the distribution, which apt checks.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process;
use crate::report::Report;

/// Suites that may carry packages newer than the machine's own release, oldest first.
const SUITES: [&str; 3] = ["trixie-backports", "forky", "sid"];
/// What signs the distribution's package lists.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The distribution's package archive, read through lists of our own.
pub(super) struct Archive {
    folder: PathBuf,
    lists: PathBuf,
}

impl Archive {
    /// Reads the lists of packages into `work`.
    pub(super) fn open(work: &Path, report: &Report) -> Result<Self> {
        ensure!(
            process::find("apt-get").is_some(),
            "this machine has no apt-get, and only Debian's packages are known"
        );
        // Apt knows where this machine gets its packages from; newer suites lie in the same place.
        let known = process::output(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(REPO_URI)",
            "Created-By: Packages",
        ]))?;
        let archive = known.lines().find(|uri| uri.trim_end_matches('/').ends_with("/debian"));
        let Some(archive) = archive else { bail!("no source of Debian packages is configured on this machine") };
        let folder = work.join("packages");
        let lists = work.join("apt");
        for needed in [folder.clone(), lists.join("lists/partial"), lists.join("cache/archives/partial")] {
            std::fs::create_dir_all(needed)?;
        }
        let sources = SUITES.map(|suite| format!("deb [signed-by={KEYRING}] {archive} {suite} main\n")).concat();
        std::fs::write(lists.join("sources.list"), sources)?;
        report.note("reading package lists");
        let archive = Self { folder, lists };
        process::run(archive.apt("apt-get").arg("update"))?;
        Ok(archive)
    }

    /// Downloads and unpacks packages, each given as `NAME=VERSION`; the folder they are in.
    pub(super) fn fetch(&self, wanted: &[String], report: &Report) -> Result<PathBuf> {
        report.note(format!("downloading {}", wanted.join(" and ")));
        process::run(self.apt("apt-get").current_dir(&self.folder).arg("download").args(wanted))?;
        for file in std::fs::read_dir(&self.folder)? {
            let file = file?.path();
            if file.extension().is_some_and(|extension| extension == "deb") {
                process::run(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(&self.folder))?;
            }
        }
        Ok(self.folder.clone())
    }

    /// The first version of a package that fits, newest suite last.
    pub(super) fn version(&self, package: &str, fits: impl Fn(&str) -> bool) -> Result<String> {
        let table = process::output(self.apt("apt-cache").args(["madison", package]))?;
        let mut versions = table.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim);
        let found = versions.find(|version| fits(version));
        found.map(str::to_owned).with_context(|| format!("no package {package} that fits in {}", SUITES.join(", ")))
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let option = |name: &str, path: &str| format!("{name}={}", self.lists.join(path).display());
        for setting in [
            option("Dir::Etc::sourcelist", "sources.list"),
            option("Dir::State::lists", "lists"),
            option("Dir::Cache", "cache"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            "APT::Sandbox::User=".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ] {
            command.arg("-o").arg(setting);
        }
        command.arg("-qq");
        command
    }
}
