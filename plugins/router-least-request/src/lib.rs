//! `router.policy` that draws two nodes by their weights and takes the one with fewer requests in flight for its
//! weight (power of two choices). Among idle nodes each gets its share; a slow node gets less the slower it is.
//!
//! It owns the draw. Load comes from the host at each pick, so a pick costs the same for 10 nodes and for 10,000.

use platform_sdk::{
    Problem, export,
    router::{Node, Pick, Policy, load},
};

mod draw;

use draw::Draw;

/// No settings, no state but the tables.
struct LeastRequest;

export!(router::Policy for LeastRequest, mode = "reused");

impl Policy for LeastRequest {
    type Settings = ();
    type Table = Draw;

    fn configure((): ()) -> Result<Self, Problem> {
        Ok(Self)
    }

    fn table(&self, _: &str, nodes: Vec<Node>) -> Draw {
        Draw::new(nodes.iter().map(|node| node.weight))
    }

    fn pick(&self, draw: &mut Draw, _: Pick) -> Option<usize> {
        let first = draw.first(load::random_below)?;
        let Some(second) = draw.other(first, load::random_below) else { return Some(first) };
        let relative = |node, other| u64::from(load::outstanding(node)) * u64::from(draw.weight(other));
        Some(if relative(second, first) < relative(first, second) { second } else { first })
    }

    fn weights(&self, draw: &Draw) -> Vec<u32> {
        draw.weights()
    }
}

#[cfg(test)]
mod tests {
    use platform_sdk::native::{self, Load};

    use super::*;

    const ANY: Pick = Pick { key: 0, attempt: 0 };

    fn shares(weights: &[u32], picks: usize) -> Vec<usize> {
        let mut draw = Draw::new(weights.iter().copied());
        let mut counts = vec![0; weights.len()];
        for _ in 0..picks {
            counts[LeastRequest.pick(&mut draw, ANY).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn idle_nodes_get_their_shares() {
        let counts = shares(&[100, 300, 0], 40_000);
        assert!(counts[0].abs_diff(10_000) < 500, "{counts:?}");
        assert_eq!(counts[2], 0);
    }

    #[test]
    fn of_two_nodes_the_less_loaded_one_is_taken() {
        native::set_load(&[Load { outstanding: 3, ..Load::default() }, Load { outstanding: 2, ..Load::default() }]);
        assert_eq!(shares(&[100, 100], 100), [0, 100]);
        assert_eq!(shares(&[200, 100], 100), [100, 0], "three for a weight of 200 are fewer than two for 100");
    }

    #[test]
    fn the_most_loaded_of_many_is_never_taken() {
        let mut load = vec![Load::default(); 10];
        load[4].outstanding = 1;
        native::set_load(&load);
        assert_eq!(shares(&[1; 10], 1000)[4], 0);
    }

    #[test]
    fn without_nodes_there_is_no_pick() {
        for weights in [&[][..], &[0, 0]] {
            assert_eq!(LeastRequest.pick(&mut Draw::new(weights.iter().copied()), ANY), None);
        }
        assert_eq!(shares(&[0, 1], 10), [0, 10]);
    }
}
