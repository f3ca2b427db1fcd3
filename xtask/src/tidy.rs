//! Placeholder until written.
use anyhow::Result; use crate::report::Report; use crate::workspace::Workspace;
pub(crate) fn run(_: &Workspace, _: &Report) -> Result<()> { Ok(()) }
