//! `platform plugin revoke` and `revocations`: components that are not to be used any more.
//!
//! Knows the arguments and how an advisory looks; what follows from one is the daemon's.

use clap::Args;
use platform_proto::plugin::v1::{ListRevocationsRequest, RevokeRequest, WithdrawRequest};

use crate::cli::{
    Context,
    client::{COMPILE_TIMEOUT, TIMEOUT},
    failure::{Exit, Failure},
    kv::time,
    output::show,
};

/// Revokes a component, or takes that back.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The component as `NAME@VERSION` or digest; what is not installed, and with `--withdraw`, as `sha256:HEX`.
    plugin: String,
    /// Why; whoever can't use the component reads it.
    #[arg(long, value_name = "TEXT", required_unless_present = "withdraw", conflicts_with = "withdraw")]
    reason: Option<String>,
    /// Takes a revocation back.
    #[arg(long)]
    withdraw: bool,
}

impl Revoke {
    /// Revokes, or withdraws.
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.connect().await?;
        let (revocation, done) = if self.withdraw {
            let message = WithdrawRequest { digest: self.plugin };
            (
                client.call(client.plugins().withdraw(client.request(TIMEOUT, message))).await?,
                "is revoked no more; it was",
            )
        } else {
            // Slots may return to what has to be compiled first.
            let message = RevokeRequest { plugin: self.plugin, reason: self.reason.unwrap_or_default() };
            let request = client.request(COMPILE_TIMEOUT, message);
            (client.call_within(COMPILE_TIMEOUT, client.plugins().revoke(request)).await?, "is revoked")
        };
        let human = || format!("{} {done}: {}", revocation.digest, revocation.reason);
        context.output.answer("platform.plugin.v1.Revocation", &revocation, human)?;
        Ok(Exit::Done)
    }
}

/// Lists what is revoked.
pub(crate) async fn list(context: &Context) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, ListRevocationsRequest {});
    let answer = client.call(client.plugins().list_revocations(request)).await?;
    if answer.revocations.is_empty() {
        context.output.note("nothing is revoked");
    }
    let human = || {
        let mut table = context.output.table(&["DIGEST", "REVOKED", "BY", "REASON"]);
        for one in &answer.revocations {
            table.add_row([one.digest.clone(), time(one.revoke_time), one.revoked_by.clone(), one.reason.clone()]);
        }
        if answer.revocations.is_empty() { String::new() } else { show(&table) }
    };
    context.output.answer("platform.plugin.v1.ListRevocationsResponse", &answer, human)?;
    Ok(Exit::Done)
}
