//! `platform:router`: what policies export, and the live load that they ask about.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use platform_runtime::{Functions, function::Row};

pub use crate::bindings::platform::router::types::Node;
use crate::{
    bindings::platform::router::{load, types},
    functions::{LIFECYCLE, functions},
    guest::Guest,
    plugin::{Configure, SelfTest},
};

/// The interface that a policy exports.
pub const INTERFACE: &str = "platform:router/policy@0.1.0";

functions! { "platform:router/policy@0.1.0" from LIFECYCLE;
    /// Gives the nodes of a service.
    SetNodes = "set-nodes" (u32, &'a str, &'a [Node]) -> ();
    /// Forgets the nodes of a service.
    DropNodes = "drop-nodes" (u32) -> ();
    /// Picks a node.
    Pick = "pick" (u32, u64, u32) -> (Option<u32>,);
    /// Weights of the nodes.
    Weights = "weights" (u32) -> (Vec<u32>,);
}

/// What the host calls in a policy.
pub const FUNCTIONS: Functions<Guest> = &[
    Row::required::<Configure>(),
    Row::required::<SelfTest>(),
    Row::required::<SetNodes>(),
    Row::required::<DropNodes>(),
    Row::required::<Pick>(),
    Row::required::<Weights>(),
];

/// Nodes of one service at one version, with their live load. The load of a node that stays is carried over.
#[derive(Debug)]
pub struct NodeTable {
    /// Number that names the service towards policies.
    pub table: u32,
    /// Grows with every change of the nodes.
    pub version: u64,
    /// Name of the service.
    pub service: Arc<str>,
    /// The nodes, in order of their ids.
    pub nodes: Vec<Node>,
    /// Load of each node, by index.
    pub loads: Vec<Arc<NodeLoad>>,
}

/// Live figures of one node.
#[derive(Debug, Default)]
pub struct NodeLoad {
    outstanding: AtomicU32,
    latency_us: AtomicU32,
    failures_permille: AtomicU32,
}

impl NodeLoad {
    /// Counts a request that was sent.
    pub fn picked(&self) {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that ended, if one was counted as sent.
    pub fn finished(&self, latency_us: u32, failed: bool) {
        self.abandoned();
        let average = |old: u32, new: u32| if old == 0 { new } else { old - old / 8 + new / 8 };
        let _ =
            self.latency_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(average(old, latency_us)));
        let failure = if failed { 1000 } else { 0 };
        let _ = self.failures_permille.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
            Some((old * 7).div_ceil(8).saturating_sub(u32::from(!failed)) + failure / 8)
        });
    }

    /// Takes back a request that was counted as sent and whose end nobody will report.
    pub fn abandoned(&self) {
        let _ = self.outstanding.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| old.checked_sub(1));
    }

    /// Requests sent and not yet ended.
    #[must_use]
    pub fn outstanding(&self) -> u32 {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// Moving average of latency, in microseconds.
    #[must_use]
    pub fn latency_us(&self) -> u32 {
        self.latency_us.load(Ordering::Relaxed)
    }

    /// Moving average of failures, per thousand.
    #[must_use]
    pub fn failures_permille(&self) -> u32 {
        self.failures_permille.load(Ordering::Relaxed).min(1000)
    }
}

impl types::Host for Guest {}

impl Guest {
    fn load_of(&self, node: u32, figure: impl Fn(&NodeLoad) -> u32) -> u32 {
        self.nodes.as_ref().and_then(|table| table.loads.get(node as usize)).map_or(0, |load| figure(load))
    }
}

/// State of the generator behind `load.random`: SplitMix64 over one counter for all guests.
static RANDOM: AtomicU64 = AtomicU64::new(0);

fn random() -> u64 {
    let mut z = RANDOM.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl load::Host for Guest {
    fn outstanding(&mut self, node: u32) -> u32 {
        self.load_of(node, NodeLoad::outstanding)
    }

    fn latency_us(&mut self, node: u32) -> u32 {
        self.load_of(node, NodeLoad::latency_us)
    }

    fn failures_permille(&mut self, node: u32) -> u32 {
        self.load_of(node, NodeLoad::failures_permille)
    }

    fn random(&mut self) -> u64 {
        random()
    }

    fn zone(&mut self) -> String {
        self.zone.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_follows_reports_and_never_underflows() {
        let load = NodeLoad::default();
        load.abandoned();
        assert_eq!(load.outstanding(), 0);
        load.picked();
        load.picked();
        load.finished(800, false);
        assert_eq!((load.outstanding(), load.latency_us(), load.failures_permille()), (1, 800, 0));
        for _ in 0..200 {
            load.finished(80, true);
        }
        assert!(load.failures_permille() > 950, "{}", load.failures_permille());
        assert!(load.latency_us() < 100, "{}", load.latency_us());
        for _ in 0..200 {
            load.finished(80, false);
        }
        assert_eq!(load.failures_permille(), 0);
    }
}
