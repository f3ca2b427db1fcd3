//! The signals that end a command that holds something until it is told to stop.
//!
//! Must not know what is held. Invariant: once taken over, no signal ends the process before the command gives up what it
//! holds.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;

/// The signals, taken over.
#[derive(Debug)]
pub(crate) struct Ends {
    interrupt: Signal,
    terminate: Signal,
}

impl Ends {
    /// Takes them over.
    pub(crate) fn take() -> Result<Self, Failure> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
