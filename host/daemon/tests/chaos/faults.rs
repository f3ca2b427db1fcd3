//! What goes wrong, in an order that a seed gives.

use std::{fmt, time::Duration};

use platform_testkit::{NatsServer, Network};
use rand::{Rng, rngs::StdRng, seq::SliceRandom};

use crate::support::{Daemon, wait_for};

/// One thing that goes wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A server of NATS is killed.
    KillServer(usize),
    /// A server of NATS stops in the middle of whatever it does.
    PauseServer(usize),
    /// A server of NATS is reached by nobody.
    CutOff(usize),
    /// What one server sends to another is lost, and nothing else.
    Deafen(usize, usize),
    /// A daemon is killed.
    KillDaemon(usize),
    /// A daemon stops in the middle of whatever it does, for longer than leases last.
    PauseDaemon(usize),
}

/// A fault, how long it lasts, and how long nothing is wrong after it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trouble {
    pub(crate) fault: Fault,
    pub(crate) lasts: Duration,
    pub(crate) calm: Duration,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} for {:?}, then {:?} of calm", self.fault, self.lasts, self.calm)
    }
}

/// Troubles that fill `time`: each kind in turn, in an order and of lengths that are drawn.
pub(crate) fn schedule(random: &mut StdRng, mut time: Duration, kinds: &[fn(usize, usize) -> Fault]) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    while !time.is_zero() {
        let mut round = kinds.to_vec();
        round.shuffle(random);
        for kind in round {
            let at = random.random_range(0..3);
            let other = (at + random.random_range(1..3)) % 3;
            let lasts = Duration::from_millis(random.random_range(1800..5000));
            let calm = Duration::from_millis(random.random_range(200..2000));
            if time.is_zero() {
                break;
            }
            time = time.saturating_sub(lasts + calm);
            troubles.push(Trouble { fault: kind(at, other), lasts, calm });
        }
    }
    troubles
}

/// Everything that faults happen to.
pub(crate) struct Stage {
    pub(crate) network: Network,
    pub(crate) servers: Vec<NatsServer>,
    pub(crate) daemons: Vec<Option<Daemon>>,
}

impl Stage {
    /// Makes a fault happen.
    pub(crate) fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::KillServer(at) => self.servers[at].kill(),
            Fault::PauseServer(at) => self.servers[at].pause(),
            Fault::CutOff(at) => self.network.cut_off(at),
            Fault::Deafen(from, to) => self.network.deafen(from, to),
            Fault::KillDaemon(at) => self.daemons[at].take().unwrap().kill(),
            Fault::PauseDaemon(at) => self.daemons[at].as_ref().unwrap().signal("STOP"),
        }
    }

    /// Undoes a fault; `start` starts a daemon.
    pub(crate) fn heal(&mut self, fault: Fault, start: impl Fn(usize) -> Daemon) {
        match fault {
            Fault::KillServer(at) => self.servers[at].spawn(),
            Fault::PauseServer(at) => self.servers[at].resume(),
            Fault::CutOff(at) => self.network.join(at),
            Fault::Deafen(from, to) => self.network.hear(from, to),
            Fault::KillDaemon(at) => self.daemons[at] = Some(start(at)),
            Fault::PauseDaemon(at) => self.daemons[at].as_ref().unwrap().signal("CONT"),
        }
    }

    /// Waits until every daemon is ready; one that could not start while NATS was away is started again.
    pub(crate) fn recover(&mut self, start: impl Fn(usize) -> Daemon) {
        for (at, daemon) in self.daemons.iter_mut().enumerate() {
            wait_for("a daemon to recover", || {
                if !daemon.as_mut().is_some_and(Daemon::is_running) {
                    *daemon = Some(start(at));
                }
                daemon.as_ref().is_some_and(Daemon::is_ready).then_some(())
            });
        }
    }
}
