//! Prefers nodes in the caller's zone as long as they are well, and draws evenly among those that are left. The
//! setting `max_failures_permille` says from when on a node is not well.

use platform_sdk::{
    Problem, export,
    router::{Node, Pick, Policy, load},
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Near {
    max_failures_permille: u32,
}

export!(router::Policy for Near, mode = "reused");

impl Policy for Near {
    type Settings = Self;
    type Table = Vec<Node>;

    fn configure(settings: Self) -> Result<Self, Problem> {
        Ok(settings)
    }

    fn table(&self, _: &str, nodes: Vec<Node>) -> Vec<Node> {
        nodes
    }

    fn pick(&self, nodes: &mut Vec<Node>, _: Pick) -> Option<usize> {
        let best = self.best(nodes);
        let drawn = load::random_below(best.len() as u64);
        best.get(usize::try_from(drawn).ok()?).copied()
    }

    fn weights(&self, nodes: &Vec<Node>) -> Vec<u32> {
        let best = self.best(nodes);
        let weight = |(index, node): (usize, &Node)| if best.contains(&index) { node.weight } else { 0 };
        nodes.iter().enumerate().map(weight).collect()
    }
}

impl Near {
    /// Positions of the nodes to use: near ones that are well, else all that are well, else all.
    fn best(&self, nodes: &[Node]) -> Vec<usize> {
        let zone = load::zone();
        let indexed = nodes.iter().enumerate();
        let all: Vec<_> = indexed.filter(|(_, node)| node.weight > 0).collect();
        let is_well = |(index, _): &(usize, &Node)| load::failures_permille(*index) <= self.max_failures_permille;
        let well: Vec<_> = all.iter().copied().filter(is_well).collect();
        let near: Vec<_> = well.iter().copied().filter(|(_, node)| node.zone == zone).collect();
        let best = [near, well, all].into_iter().find(|nodes| !nodes.is_empty()).unwrap_or_default();
        best.into_iter().map(|(index, _)| index).collect()
    }
}

#[cfg(test)]
mod tests {
    use platform_sdk::native::{self, Load};

    use super::*;

    fn node(zone: &str, weight: u32) -> Node {
        Node {
            id: String::new(),
            address: String::new(),
            zone: zone.into(),
            version: String::new(),
            weight,
            labels: Vec::new(),
        }
    }

    fn picked(nodes: Vec<Node>, failures: &[u32]) -> Vec<usize> {
        native::set_zone("a");
        native::set_load(
            &failures
                .iter()
                .map(|&permille| Load { failures_permille: permille, ..Load::default() })
                .collect::<Vec<_>>(),
        );
        let policy = Near { max_failures_permille: 100 };
        let mut table = policy.table("", nodes);
        let weights = policy.weights(&table);
        let weighty = weights.iter().enumerate().filter(|(_, weight)| **weight > 0).map(|(index, _)| index);
        let weighty: Vec<usize> = weighty.collect();
        let mut seen: Vec<usize> =
            (0..200).filter_map(|_| policy.pick(&mut table, Pick { key: 0, attempt: 0 })).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, weighty, "those who balance by themselves use the same nodes");
        seen
    }

    #[test]
    fn near_and_well_comes_first() {
        let nodes = || vec![node("a", 1), node("a", 1), node("b", 1), node("a", 0)];
        assert_eq!(picked(nodes(), &[]), [0, 1]);
        assert_eq!(picked(nodes(), &[500]), [1]);
        assert_eq!(picked(nodes(), &[500, 500]), [2]);
        assert_eq!(picked(nodes(), &[500, 500, 500]), [0, 1, 2], "when none is well, any is better than none");
        assert_eq!(picked(vec![node("a", 0)], &[]), Vec::<usize>::new());
        assert_eq!(picked(Vec::new(), &[]), Vec::<usize>::new());
    }
}
