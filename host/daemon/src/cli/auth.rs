//! `platform auth`: may this caller do this.
//!
//! Knows the command's arguments and how a decision looks; the decision is the policies'. Invariant: the exit code is 0 only
//! for an allowance, 1 only for a denial, and 2 whenever nobody decided.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use platform_proto::auth::v1::{CheckRequest, CheckResponse, Decision, Header};

use super::{
    Context,
    client::TIMEOUT,
    failure::{Exit, Failure},
    output::{Output, show},
    quantity::pair,
    target::read_token,
};

/// What can be asked of the policies.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Asks the chain of policies; exits with 0 for allow, 1 for deny, 2 for an error.
    #[command(
        after_help = "Examples:\n  platform auth check GET /orders/7\n  platform auth check GET /orders/7 --for alice.token\n  \
        platform auth check POST /orders --anonymous --header x-request-id=1"
    )]
    Check(Check),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("subject").args(["for_token_file", "anonymous"]))]
pub(crate) struct Check {
    /// HTTP method, or the name of an action.
    action: String,
    /// Path without query, or the name of a resource.
    target: String,
    /// Decides about the one whose token is in this file; about the caller of this command when not given.
    #[arg(long = "for", value_name = "FILE")]
    for_token_file: Option<PathBuf>,
    /// Decides about a request without a token.
    #[arg(long)]
    anonymous: bool,
    /// Header of the request in question; may be repeated.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = pair)]
    headers: Vec<(String, String)>,
    /// What else is known of the request, such as `host` or `source-address`; may be repeated.
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = pair)]
    attributes: Vec<(String, String)>,
    /// Asks the slot `auth.policy/POLICY` where it is bound.
    #[arg(long, default_value = "")]
    policy: String,
}

/// Runs a command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    let Command::Check(arguments) = command;
    // Scripts branch on the code: whatever kept an answer from coming, it was no denial.
    check(context, arguments).await.map_err(|failure| Failure { exit: Exit::Error, ..failure })
}

async fn check(context: &Context, arguments: Check) -> Result<Exit, Failure> {
    let token = arguments.for_token_file.as_deref().map(read_token).transpose()?;
    let message = CheckRequest {
        as_caller: token.is_none() && !arguments.anonymous,
        token: token.unwrap_or_default(),
        action: arguments.action,
        target: arguments.target,
        headers: arguments.headers.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect(),
        attributes: arguments.attributes.into_iter().collect(),
        policy: arguments.policy,
    };
    let client = context.connect().await?;
    let answer = client.call(client.auth().check(client.request(TIMEOUT, message))).await?;
    let exit = match answer.decision() {
        Decision::Allow => Exit::Done,
        Decision::Deny => Exit::No,
        Decision::Unspecified => {
            return Err(Failure::new(Exit::Error, "NO_DECISION", "the daemon answered without a decision"));
        }
    };
    context.output.answer("platform.auth.v1.CheckResponse", &answer, || human(context.output, &answer))?;
    Ok(exit)
}

fn human(output: Output, answer: &CheckResponse) -> String {
    let allowed = answer.decision() == Decision::Allow;
    let mut verdict = output.table(&[]);
    verdict.add_row([output.verdict(allowed, if allowed { "allow" } else { "deny" })]);
    let generation = if answer.generation == 0 { String::new() } else { answer.generation.to_string() };
    let details = output.fields(&[
        ("reason", answer.reason.clone()),
        ("subject", answer.subject.clone()),
        ("policy", answer.policy.clone()),
        ("generation", generation),
        ("status", answer.status.to_string()),
        ("sets", headers(&answer.set_headers)),
        ("removes", answer.remove_headers.join(", ")),
        ("answers with", headers(&answer.response_headers)),
    ]);
    format!("{}\n{details}", show(&verdict))
}

fn headers(headers: &[Header]) -> String {
    let headers: Vec<String> = headers.iter().map(|header| format!("{}: {}", header.name, header.value)).collect();
    headers.join("\n")
}
