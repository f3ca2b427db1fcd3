//! What is published beside a component: a README, a list of its parts, a report of its tests.
//!
//! Owns the options and how they are told; what fits where is for `platform-registry` to say. Invariant: nothing is pushed when one of the files is not what it
//! should be.

use std::path::{Path, PathBuf};

use clap::Args;
use platform_registry::{Enclosure, NotEnclosed, Reference, Repository};
use platform_runtime::Digest;
use serde_json::{Value, json};

use super::registry::within;
use crate::cli::{
    Context,
    failure::{Exit, Failure},
    input,
};

/// Largest file that is read.
const FILE_BYTES: u64 = 16 << 20;

#[derive(Debug, Args)]
#[command(next_help_heading = "What is published beside it")]
pub(super) struct Enclosures {
    /// A README, as Markdown.
    #[arg(long, value_name = "FILE")]
    readme: Option<PathBuf>,
    /// A list of its parts (SBOM), as SPDX or CycloneDX in JSON.
    #[arg(long, value_name = "FILE")]
    sbom: Option<PathBuf>,
    /// A report of its tests, as JSON: `platform plugin report` and `test --output json` make such.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Makes a file something that can be enclosed.
type Read = fn(bytes::Bytes) -> Result<Enclosure, NotEnclosed>;

impl Enclosures {
    /// Reads the files.
    pub(super) fn read(&self) -> Result<Vec<Enclosure>, Failure> {
        let all: [(&Option<PathBuf>, Read); 3] =
            [(&self.readme, Enclosure::readme), (&self.sbom, Enclosure::sbom), (&self.report, Enclosure::report)];
        let named = all.into_iter().filter_map(|(file, read)| Some((file.as_deref()?, read)));
        named.map(|(file, read)| one(file, read)).collect()
    }
}

fn one(file: &Path, read: Read) -> Result<Enclosure, Failure> {
    let bytes = input::read(file, FILE_BYTES)?;
    read(bytes.into()).map_err(|error| {
        let message = format!("`{}` can't be published: {error}", input::shown(file).display());
        Failure::new(Exit::Error, "NOT_ENCLOSED", message)
    })
}

/// Publishes files beside an artifact; for scripts what each became.
pub(super) async fn push(
    context: &Context, reference: &Reference, repository: &Repository, artifact: Digest, files: &[Enclosure],
) -> Result<Vec<Value>, Failure> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let subject = within(context, reference, repository.pushed(artifact)).await?;
    let mut pushed = Vec::new();
    for file in files {
        let digest = within(context, reference, repository.enclose(&subject, file)).await?;
        pushed.push(json!({"mediaType": file.media_type(), "digest": digest, "size": file.size().to_string()}));
    }
    Ok(pushed)
}
