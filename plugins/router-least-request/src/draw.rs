//! Draws positions by weight, without replacement for the second. A draw is one binary search and allocates nothing.

/// Running sums of the weights: node `n` owns the numbers from the sum before it up to its own.
#[derive(Debug)]
pub(crate) struct Draw {
    sums: Vec<u64>,
}

impl Draw {
    pub(crate) fn new(weights: impl Iterator<Item = u32>) -> Self {
        let sums = weights.scan(0_u64, |sum, weight| {
            *sum += u64::from(weight);
            Some(*sum)
        });
        Self { sums: sums.collect() }
    }

    /// A position; `below` gives a uniform number below its argument.
    pub(crate) fn first(&self, below: impl Fn(u64) -> u64) -> Option<usize> {
        let total = self.total();
        if total == 0 { None } else { Some(self.owner(below(total))) }
    }

    /// A position other than `first`; none when no other takes traffic.
    pub(crate) fn other(&self, first: usize, below: impl Fn(u64) -> u64) -> Option<usize> {
        let taken = u64::from(self.weight(first));
        let rest = self.total() - taken;
        if rest == 0 {
            return None;
        }
        // The numbers that `first` owns are cut out of the range.
        let number = below(rest);
        Some(self.owner(if number < self.before(first) { number } else { number + taken }))
    }

    /// The weight of a position.
    pub(crate) fn weight(&self, position: usize) -> u32 {
        let sum = self.sums.get(position).copied().unwrap_or_default();
        u32::try_from(sum - self.before(position)).unwrap_or(u32::MAX)
    }

    /// All weights in order.
    pub(crate) fn weights(&self) -> Vec<u32> {
        (0..self.sums.len()).map(|position| self.weight(position)).collect()
    }

    fn total(&self) -> u64 {
        self.sums.last().copied().unwrap_or_default()
    }

    fn before(&self, position: usize) -> u64 {
        position.checked_sub(1).and_then(|previous| self.sums.get(previous)).copied().unwrap_or_default()
    }

    fn owner(&self, number: u64) -> usize {
        self.sums.partition_point(|sum| *sum <= number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Every number leads to a node, each node gets as many numbers as its weight, and the second is another one.
        #[test]
        fn weights_are_exact(weights in prop::collection::vec(0_u32..8, 0..8)) {
            let draw = Draw::new(weights.iter().copied());
            prop_assert_eq!(draw.weights(), weights.clone());
            let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            let mut counts = vec![0_u32; weights.len()];
            for number in 0..total {
                let first = draw.first(|_| number).unwrap();
                counts[first] += 1;
                let rest = total - u64::from(weights[first]);
                let mut others = vec![0_u32; weights.len()];
                for number in 0..rest {
                    others[draw.other(first, |_| number).unwrap()] += 1;
                }
                prop_assert_eq!(others[first], 0);
                others[first] = weights[first];
                prop_assert_eq!(&others, &weights);
            }
            prop_assert_eq!(counts, weights);
            prop_assert_eq!(draw.first(|_| 0).is_none(), total == 0);
        }
    }
}
