//! `router.policy` that takes nodes in turn: among any run of picks as long as the sum of the weights, each node comes
//! as often as its weight says, and heavy nodes are spread out rather than taken in bursts.
//!
//! It owns the cycle of each service; what a node is and whether it is well is the host's business.

use platform_sdk::{
    Problem, export,
    router::{Node, Pick, Policy},
};

mod cycle;

use cycle::Cycle;

/// Round robin has no settings and one cycle per service.
struct RoundRobin;

export!(router::Policy for RoundRobin, mode = "reused");

impl Policy for RoundRobin {
    type Settings = ();
    type Table = Cycle;

    fn configure((): ()) -> Result<Self, Problem> {
        Ok(Self)
    }

    fn table(&self, service: &str, nodes: Vec<Node>) -> Cycle {
        Cycle::new(service, nodes.iter().map(|node| node.weight).collect())
    }

    fn pick(&self, cycle: &mut Cycle, _: Pick) -> Option<usize> {
        cycle.next()
    }

    fn weights(&self, cycle: &Cycle) -> Vec<u32> {
        cycle.weights().to_vec()
    }
}
