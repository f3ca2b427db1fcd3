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
        let zone = load::zone();
        let taking = |(_, node): &(usize, &Node)| node.weight > 0;
        let well = |(index, _): &(usize, &Node)| load::failures_permille(*index) <= self.max_failures_permille;
        let near = |(_, node): &(usize, &Node)| node.zone == zone;
        let all = || nodes.iter().enumerate().filter(taking);
        draw(all().filter(near).filter(well)).or_else(|| draw(all().filter(well))).or_else(|| draw(all()))
    }

    fn weights(&self, nodes: &Vec<Node>) -> Vec<u32> {
        nodes.iter().map(|node| node.weight).collect()
    }
}

/// One of the candidates, each as likely as the others.
fn draw<'a>(candidates: impl Iterator<Item = (usize, &'a Node)> + Clone) -> Option<usize> {
    let count = candidates.clone().count();
    candidates.map(|(index, _)| index).nth(usize::try_from(load::random_below(count as u64)).ok()?)
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
        let mut seen: Vec<usize> =
            (0..200).filter_map(|_| policy.pick(&mut table, Pick { key: 0, attempt: 0 })).collect();
        seen.sort_unstable();
        seen.dedup();
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
