//! A weighted cycle over positions: each step goes to the node that is furthest behind its share, found in logarithmic
//! time, with nothing allocated per step.

use std::{cmp::Reverse, collections::BinaryHeap};

/// When a node is due next: the time of its next turn, in units of the whole cycle divided by its weight. Ties go to
/// the lower position, so that the order repeats.
type Turn = Reverse<(u128, usize)>;

/// Picks in turn.
#[derive(Debug)]
pub(crate) struct Cycle {
    weights: Vec<u32>,
    turns: BinaryHeap<Turn>,
}

/// Distance between two turns of a node with weight 1: divisible enough that weights up to 65535 stay exact to a part in 2^48.
const CIRCLE: u128 = 1 << 64;

impl Cycle {
    /// A cycle over nodes with these weights; nodes of weight 0 never come. Where it starts depends on the name, so
    /// that many instances of the host do not send their first picks of every service to the first node.
    pub(crate) fn new(name: &str, weights: Vec<u32>) -> Self {
        let turns = weights
            .iter()
            .enumerate()
            .filter(|(_, weight)| **weight > 0)
            .map(|(position, weight)| Reverse((CIRCLE / u128::from(*weight) / 2, position)))
            .collect();
        let mut cycle = Self { weights, turns };
        let nodes = cycle.turns.len();
        for _ in 0..start(name, nodes) {
            cycle.next();
        }
        cycle
    }

    /// The weights given.
    pub(crate) fn weights(&self) -> &[u32] {
        &self.weights
    }

    /// The next position; none when no node takes traffic.
    pub(crate) fn next(&mut self) -> Option<usize> {
        let mut turn = self.turns.peek_mut()?;
        let Reverse((time, position)) = *turn;
        let weight = self.weights.get(position).copied().unwrap_or(1).max(1);
        // 128 bits last for 2^64 turns of the slowest node.
        turn.0.0 = time.wrapping_add(CIRCLE / u128::from(weight));
        Some(position)
    }
}

/// A position below `nodes` that depends on the name (FNV-1a).
fn start(name: &str, nodes: usize) -> usize {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash as usize).checked_rem(nodes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn picks(weights: &[u32], count: usize) -> Vec<usize> {
        let mut cycle = Cycle::new("", weights.to_vec());
        std::iter::repeat_with(|| cycle.next()).take(count).flatten().collect()
    }

    #[test]
    fn equal_weights_come_in_turn() {
        let picks = picks(&[100, 100, 100], 9);
        for round in picks.chunks(3) {
            let mut round = round.to_vec();
            round.sort_unstable();
            assert_eq!(round, [0, 1, 2]);
        }
    }

    #[test]
    fn nodes_without_weight_never_come() {
        assert_eq!(picks(&[], 3), Vec::<usize>::new());
        assert_eq!(picks(&[0, 0], 3), Vec::<usize>::new());
        assert_eq!(picks(&[0, 5, 0], 3), [1, 1, 1]);
    }

    #[test]
    fn a_heavy_node_is_spread_out() {
        let picks = picks(&[2, 1, 1], 400);
        assert_eq!(picks.iter().filter(|pick| **pick == 0).count(), 200);
        assert!(picks.windows(3).all(|three| three != [0, 0, 0]));
    }

    proptest! {
        #[test]
        fn every_share_is_kept(weights in prop::collection::vec(0_u32..200, 1..20), rounds in 1_usize..4) {
            let sum: u32 = weights.iter().sum();
            let picks = picks(&weights, sum as usize * rounds);
            for (position, weight) in weights.iter().enumerate() {
                let count = picks.iter().filter(|pick| **pick == position).count();
                let share = *weight as usize * rounds;
                prop_assert!(count.abs_diff(share) <= 1, "node {position} came {count} times, its share is {share}");
            }
        }
    }
}
