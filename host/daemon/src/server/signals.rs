//! [`Signals`]: what the operating system tells the daemon.
//!
//! Owns the meaning of signals; must not know what is done about them. Invariant: no signal is lost between two waits.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What is asked of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// SIGTERM or SIGINT: end in order; asked again: end now.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The signals that the daemon listens to.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Takes the signals over from their usual effect.
    pub(crate) fn take() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next thing that is asked.
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// Returns once the daemon is asked to stop; other signals are nothing to one that stops already.
    pub(crate) async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}
