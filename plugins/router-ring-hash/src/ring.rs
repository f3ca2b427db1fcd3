//! The ring: points in hash order, each owned by a node. Where the points of a node lie depends on its id alone, never
//! on the other nodes or their order; that is what keeps keys where they are.

use platform_sdk::router::Node;

/// Points and the nodes that own them.
#[derive(Debug)]
pub(crate) struct Ring {
    /// Hash and position of the owner, in order of hashes.
    points: Vec<(u64, u32)>,
    weights: Vec<u32>,
    /// Nodes that have points.
    owners: usize,
}

impl Ring {
    /// A ring where a node of weight 100 has `points`, all together have about `max_points`, and each node that takes
    /// traffic has at least one.
    pub(crate) fn new(nodes: &[Node], points: u32, max_points: u32) -> Self {
        let wanted = |weight: u32| (u64::from(weight) * u64::from(points)).div_ceil(100);
        let total: u64 = nodes.iter().map(|node| wanted(node.weight)).sum();
        let mut ring = Self {
            points: Vec::with_capacity(usize::try_from(total.min(max_points.into())).unwrap_or_default()),
            weights: nodes.iter().map(|node| node.weight).collect(),
            owners: nodes.iter().filter(|node| node.weight > 0).count(),
        };
        for (position, node) in (0_u32..).zip(nodes) {
            let mut count = wanted(node.weight);
            if total > u64::from(max_points) && count > 0 {
                let share = u128::from(count) * u128::from(max_points) / u128::from(total);
                count = u64::try_from(share).unwrap_or(u64::MAX).max(1);
            }
            let seed = hash(node.id.as_bytes());
            // Fewer points are the first of more points: a ring that is scaled moves few keys.
            ring.points.extend((0..count).map(|point| (mix(seed ^ mix(point + 1)), position)));
        }
        // Two points on one hash go by id, so that the order of the nodes does not matter.
        ring.points.sort_unstable_by(|left, right| {
            let id = |position: u32| nodes.get(position as usize).map(|node| &node.id);
            left.0.cmp(&right.0).then_with(|| id(left.1).cmp(&id(right.1)))
        });
        ring
    }

    /// The weights given.
    pub(crate) fn weights(&self) -> &[u32] {
        &self.weights
    }

    /// The node for a key; with each attempt the next other one along the ring, until all were tried.
    pub(crate) fn node(&self, key: u64, attempt: u32) -> Option<usize> {
        let from = self.points.partition_point(|(hash, _)| *hash < mix(key));
        let (before, after) = self.points.split_at_checked(from)?;
        let mut along = after.iter().chain(before).map(|(_, position)| *position as usize);
        let skipped = (attempt as usize).checked_rem(self.owners)?;
        if skipped == 0 {
            return along.next();
        }
        let mut tried = Vec::with_capacity(skipped);
        along.find(|position| {
            if tried.contains(position) {
                return false;
            }
            tried.push(*position);
            tried.len() > skipped
        })
    }
}

/// FNV-1a, evened out by [`mix`].
fn hash(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)))
}

/// The finalizer of `SplitMix64`: a bijection in which every input bit moves every output bit.
const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn node(id: &str, weight: u32) -> Node {
        Node {
            id: id.into(),
            address: String::new(),
            zone: String::new(),
            version: String::new(),
            weight,
            labels: Vec::new(),
        }
    }

    fn nodes(count: usize) -> Vec<Node> {
        (0..count).map(|index| node(&format!("node-{index}"), 100)).collect()
    }

    fn shares(nodes: &[Node], keys: u64) -> Vec<usize> {
        let ring = Ring::new(nodes, 160, 65_536);
        let mut counts = vec![0; nodes.len()];
        for key in 1..=keys {
            counts[ring.node(key, 0).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn keys_spread_by_weight() {
        for share in shares(&nodes(10), 50_000) {
            assert!(share.abs_diff(5_000) < 1_500, "{share}");
        }
        let counts = shares(&[node("a", 100), node("b", 300), node("c", 0)], 40_000);
        assert!(counts[0].abs_diff(10_000) < 2_500, "{counts:?}");
        assert_eq!(counts[2], 0);
    }

    #[test]
    fn the_ring_is_bounded_and_leaves_nobody_out() {
        let ring = Ring::new(&nodes(10_000), 160, 65_536);
        assert!(ring.points.len() <= 65_536);
        let owners: BTreeSet<u32> = ring.points.iter().map(|(_, position)| *position).collect();
        assert_eq!(owners.len(), 10_000);
        let heavy = Ring::new(&[node("a", 65_535), node("b", 1)], 10_000, 1_000_000);
        assert!(heavy.points.len() <= 1_000_001);
        assert!(heavy.points.iter().any(|(_, position)| *position == 1));
    }

    #[test]
    fn without_nodes_there_is_no_pick() {
        assert_eq!(Ring::new(&[], 160, 100).node(1, 0), None);
        assert_eq!(Ring::new(&[node("a", 0)], 160, 100).node(1, 3), None);
    }

    proptest! {
        #[test]
        fn retries_try_every_node_once(count in 1_usize..12, key: u64) {
            let ring = Ring::new(&nodes(count), 40, 65_536);
            let tried: BTreeSet<usize> = (0..12).take(count).filter_map(|attempt| ring.node(key, attempt)).collect();
            prop_assert_eq!(tried.len(), count);
        }

        #[test]
        fn a_node_that_goes_moves_only_its_keys(count in 2_usize..12, gone: prop::sample::Index, keys in prop::collection::vec(any::<u64>(), 1..100)) {
            let before = nodes(count);
            let gone = gone.index(count);
            let mut after = before.clone();
            after.remove(gone);
            after.reverse();
            let (old, new) = (Ring::new(&before, 40, 65_536), Ring::new(&after, 40, 65_536));
            for key in keys {
                let old = &before[old.node(key, 0).unwrap()].id;
                let new = &after[new.node(key, 0).unwrap()].id;
                prop_assert!(old == new || *old == before[gone].id);
            }
        }
    }
}
