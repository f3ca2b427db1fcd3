//! Fences: the greatest token of each lock that a transaction was fenced with, kept beside the records.
//!
//! Invariant: a token is looked at and remembered while the transaction has its turn, so no two of them pass each other.

use platform_sdk::{
    context,
    db::{Error, Fence, MAX_LIMIT, Result},
};

use crate::server::{Parameter, Session};

/// A token as it is kept: texts of one length are ordered like numbers, and hold all 64 bits.
fn digits(token: u64) -> String {
    format!("{token:020}")
}

fn token(text: &str) -> Result<u64> {
    text.parse().map_err(|_not_digits| Error::Other("the server keeps a fencing token that is none".into()))
}

/// Refuses a call whose token is behind.
pub(crate) fn check(session: &mut Session, schema: &str) -> Result<()> {
    let Some(fence) = context::fence() else { return Ok(()) };
    let rows = session.run(
        &format!("SELECT token FROM {schema}.fences WHERE namespace = $1 AND name = $2"),
        &[Parameter::Text(&context::namespace()), Parameter::Text(&fence.name)],
    )?;
    let Some(row) = rows.first() else { return Ok(()) };
    let seen = token(&row.text(0)?)?;
    if seen > fence.token { Err(Error::Stale(seen)) } else { Ok(()) }
}

/// Remembers the token of a call that writes.
pub(crate) fn pass(session: &mut Session, schema: &str) -> Result<()> {
    let Some(fence) = context::fence() else { return Ok(()) };
    remember(session, schema, &[Fence { name: fence.name, token: fence.token }])
}

/// Remembers tokens, unless greater ones are known.
pub(crate) fn remember(session: &mut Session, schema: &str, fences: &[Fence]) -> Result<()> {
    let namespace = context::namespace();
    for Fence { name, token } in fences {
        session.run(
            &format!(
                "INSERT INTO {schema}.fences AS f (namespace, name, token) VALUES ($1, $2, $3) \
                 ON CONFLICT (namespace, name) DO UPDATE SET token = greatest(f.token, excluded.token)"
            ),
            &[Parameter::Text(&namespace), Parameter::Text(name), Parameter::Text(&digits(*token))],
        )?;
    }
    Ok(())
}

/// Fences after a name, in order.
pub(crate) fn list(session: &mut Session, schema: &str, after: Option<&str>, limit: u32) -> Result<Vec<Fence>> {
    let rows = session.run(
        &format!("SELECT name, token FROM {schema}.fences WHERE namespace = $1 AND name > $2 ORDER BY name LIMIT $3"),
        &[
            Parameter::Text(&context::namespace()),
            Parameter::Text(after.unwrap_or_default()),
            Parameter::Whole(limit.clamp(1, MAX_LIMIT).into()),
        ],
    )?;
    rows.iter().map(|row| Ok(Fence { name: row.text(0)?, token: token(&row.text(1)?)? })).collect()
}
