//! `platform plugin new`, `build` and what else the author of a plugin does, from an empty folder to a live decision.
//!
//! Owns these commands' place in the grammar and what they share; how source becomes a component is `platform_author`'s to say,
//! and every rule for components is that of the daemon. Invariant: no daemon is asked, but by `dev`.

mod ask;
mod bench;
mod build;
mod cases;
mod dev;
mod inspect;
mod lines;
mod new;
mod report;
mod stage;
mod test;

use clap::Subcommand;

use super::COMPONENT_BYTES;
use crate::cli::{
    Context,
    failure::{Exit, Failure},
};
use bench::Bench;
use build::Build;
use dev::Dev;
use new::New;
use report::Report;
use test::Test;

pub(super) use inspect::{file, inspect};

/// What the author of a plugin can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Author {
    /// Makes a project for a plugin: source that works, its tests, a schema of its settings and all that it is built with.
    #[command(after_help = "Examples:\n  platform plugin new --slot auth.policy my-policy\n  \
        platform plugin new --slot kv.store --name acme-store stores/acme\n  \
        platform plugin new --slot auth.policy --lang c my-policy")]
    New(New),
    /// Builds the component of a project, the same bytes from the same source.
    #[command(after_help = "Examples:\n  platform plugin build\n  platform plugin build my-policy --output json")]
    Build(Build),
    /// Tries a component on cases and on the promises of its slot's interface, and runs the project's unit tests; exits with 1 when something fails.
    #[command(after_help = "Examples:\n  platform plugin test\n  platform plugin test my-policy --only noon\n  \
        platform plugin test my-policy.wasm --cases cases.toml --strict --output json")]
    Test(Box<Test>),
    /// Builds, tries and binds a project anew at each change of its source, in a daemon that runs. What does not build or fails a case is not bound.
    #[command(
        after_help = "Examples:\n  platform plugin dev\n  platform plugin dev my-policy --slot auth.policy/payments --settings settings.toml"
    )]
    Dev(Box<Dev>),
    /// Measures a component: latency, memory and size, beside what components for its slot are measured by.
    #[command(after_help = "Examples:\n  platform plugin bench\n  platform plugin bench my-policy --for 10s\n  \
        platform plugin bench new.wasm --against old.wasm --cases cases.toml --output json")]
    Bench(Box<Bench>),
    /// Tries and measures a component in a process without a way out, as the marketplace does with what is published, and prints the report as JSON; exits with 1 when it did not pass.
    #[command(after_help = "Examples:\n  platform plugin report my-policy.wasm\n  \
        platform plugin report my-policy.wasm --settings rules.toml > report.json")]
    Report(Box<Report>),
}

impl Author {
    /// Runs a command.
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::New(arguments) => arguments.run(context),
            Self::Build(arguments) => arguments.run(context),
            Self::Test(arguments) => arguments.run(context).await,
            Self::Dev(arguments) => arguments.run(context).await,
            Self::Bench(arguments) => arguments.run(context).await,
            Self::Report(arguments) => arguments.run(context).await,
        }
    }
}

/// What is wrong with a project.
impl From<platform_author::Error> for Failure {
    fn from(error: platform_author::Error) -> Self {
        use platform_author::Error;
        let reason = match &error {
            Error::Name { .. }
            | Error::NoTemplate { .. }
            | Error::NoProject(_)
            | Error::Project(_)
            | Error::Target(_) => "INVALID_ARGUMENT",
            Error::Start { .. } | Error::Missing { .. } | Error::NoStandardLibrary(_) => "TOOLCHAIN_MISSING",
            Error::Failed(_) => "BUILD_FAILED",
            _ => "NOT_A_COMPONENT",
        };
        Self::new(Exit::Error, reason, error.to_string())
    }
}
