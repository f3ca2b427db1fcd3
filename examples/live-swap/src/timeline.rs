//! When which generation could have answered.
//!
//! A bind call that began at `b` and ended at `e` made its generation the serving one at some instant between the two. So
//! a generation can have answered a request exactly when the request ended after the generation's bind began, and began
//! before the next one's bind ended. Invariant: generations of one slot are recorded in the order in which they were bound.

use std::time::Instant;

use parking_lot::RwLock;

/// Bindings of one slot, oldest first.
#[derive(Debug, Default)]
pub struct Timeline {
    bindings: RwLock<Vec<Bound>>,
}

/// What a binding was, as the script that made it knows.
#[derive(Debug, Clone)]
pub struct Bound {
    /// Position in the order of bindings, from 0. Policies are given it as their tag.
    pub index: usize,
    /// The component.
    pub plugin: String,
    /// The daemon's number, known once the bind call has returned.
    pub generation: Option<u64>,
    began: Instant,
    ended: Option<Instant>,
}

/// When a request was on its way.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Just before it was sent.
    pub began: Instant,
    /// Just after the answer was there.
    pub ended: Instant,
}

impl Timeline {
    /// Records that a bind call begins; the binding's index.
    pub fn begin(&self, plugin: &str, at: Instant) -> usize {
        let mut bindings = self.bindings.write();
        let index = bindings.len();
        bindings.push(Bound { index, plugin: plugin.to_owned(), generation: None, began: at, ended: None });
        index
    }

    /// Records that the call ended and which generation it made.
    pub fn end(&self, index: usize, generation: u64, at: Instant) {
        if let Some(bound) = self.bindings.write().get_mut(index) {
            bound.generation = Some(generation);
            bound.ended = Some(at);
        }
    }

    /// Whether the binding with this index can have answered a request of this span.
    #[must_use]
    pub fn explains(&self, index: usize, span: Span) -> bool {
        let bindings = self.bindings.read();
        let Some(bound) = bindings.get(index) else { return false };
        let next_ended = bindings.get(index + 1).and_then(|next| next.ended);
        span.ended >= bound.began && next_ended.is_none_or(|ended| span.began <= ended)
    }

    /// The binding that the daemon gave this number. A number whose bind call has not returned yet is the last one's.
    #[must_use]
    pub fn by_generation(&self, generation: u64) -> Option<Bound> {
        let bindings = self.bindings.read();
        let known = bindings.iter().rev().find(|bound| bound.generation == Some(generation));
        known.or_else(|| bindings.last().filter(|last| last.generation.is_none())).cloned()
    }

    /// How many bindings were recorded.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bindings.read().len()
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use platform_base::clock;

    use super::{Span, Timeline};

    #[test]
    fn a_generation_answers_between_its_bind_and_the_next() {
        let zero = clock::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let span = |began: u64, ended: u64| Span { began: at(began), ended: at(ended) };
        let timeline = Timeline::default();
        let first = timeline.begin("a@1", at(10));
        timeline.end(first, 7, at(20));
        let second = timeline.begin("b@1", at(100));
        assert!(
            timeline.explains(first, span(500, 501)),
            "the second bind has not returned, so the first may still serve"
        );
        assert_eq!(timeline.by_generation(8).map(|bound| bound.index), Some(second));
        timeline.end(second, 8, at(110));
        assert!(!timeline.explains(first, span(1, 9)), "before its bind began");
        assert!(timeline.explains(first, span(1, 10)));
        assert!(timeline.explains(first, span(105, 200)), "sent before the second bind returned");
        assert!(!timeline.explains(first, span(111, 200)), "sent after the second bind returned");
        assert!(timeline.explains(second, span(105, 106)));
        assert!(!timeline.explains(second, span(90, 99)));
        assert!(!timeline.explains(2, span(0, 1000)));
        assert_eq!(timeline.by_generation(7).map(|bound| bound.plugin), Some("a@1".to_owned()));
        assert!(timeline.by_generation(9).is_none());
    }
}
