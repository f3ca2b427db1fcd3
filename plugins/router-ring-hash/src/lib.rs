//! `router.policy` that sends requests with the same key to the same node (consistent hashing on a ring). When a node
//! comes or goes, only the keys that it takes or leaves move.
//!
//! It owns the ring. Requests without a key are spread by chance; a retry goes to the next node along the ring, the
//! same one for the same key.

use platform_sdk::{
    Problem, export,
    router::{Node, Pick, Policy, load},
};
use serde::Deserialize;

mod ring;

use ring::Ring;

/// Size of the ring.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Points of a node of weight 100; more of them spread keys more evenly.
    points: u32,
    /// Points of all nodes together, above which each gets fewer: bounds the time to rebuild.
    max_points: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { points: 160, max_points: 65_536 }
    }
}

/// The ring's size; the rings are the tables.
struct RingHash(Settings);

export!(router::Policy for RingHash, mode = "reused", settings_schema = include_str!("../settings.schema.json"));

impl Policy for RingHash {
    type Settings = Settings;
    type Table = Ring;

    fn configure(settings: Settings) -> Result<Self, Problem> {
        if !(1..=10_000).contains(&settings.points) {
            return Err(Problem::new("the points of a node are 1 to 10000").at("/points"));
        }
        if !(1..=1_000_000).contains(&settings.max_points) {
            return Err(Problem::new("the points of all nodes are 1 to 1000000").at("/max_points"));
        }
        Ok(Self(settings))
    }

    fn table(&self, _: &str, nodes: Vec<Node>) -> Ring {
        Ring::new(&nodes, self.0.points, self.0.max_points)
    }

    fn pick(&self, ring: &mut Ring, request: Pick) -> Option<usize> {
        let key = if request.key == 0 { load::random() } else { request.key };
        ring.node(key, request.attempt)
    }

    fn weights(&self, ring: &Ring) -> Vec<u32> {
        ring.weights().to_vec()
    }
}
