//! Staged rollouts: a candidate that a share of the instances is served before it becomes the document for all.
//!
//! Invariant: an instance that is served the candidate at one percentage is served it at every higher one, on every daemon.

use platform_capability::config::Content;

use crate::share::share;

/// What `instance` is served of the configuration `id`, and whether that is the candidate.
pub(super) fn serve(mut content: Content, id: &str, instance: &str) -> (Content, bool) {
    let chosen = content.candidate.take_if(|candidate| is_among(id, instance, candidate.percent));
    let staged = chosen.is_some();
    if let Some(candidate) = chosen {
        content.document = Some(candidate.document);
    }
    (content, staged)
}

/// Whether `instance` is among the first so many percent; one without a name never is.
pub(super) fn is_among(id: &str, instance: &str, percent: u32) -> bool {
    !instance.is_empty() && share(id, instance) < percent
}

#[cfg(test)]
mod tests {
    use platform_capability::config::Candidate;

    use super::*;

    #[test]
    fn instances_are_chosen_evenly_and_stay_chosen() {
        let staged = |id: &str, instance: &str, percent: u32| {
            let candidate = Some(Candidate { document: "2".into(), percent });
            let content = Content { document: Some("1".into()), schema: None, candidate };
            let (content, staged) = serve(content, id, instance);
            assert_eq!(content.document.as_deref(), Some(if staged { "2" } else { "1" }));
            staged
        };
        for percent in [0, 1, 10, 50, 99, 100] {
            let chosen = (0..10_000).filter(|node| staged("shop", &format!("node-{node}"), percent)).count();
            let expected = percent as usize * 100;
            assert!(chosen.abs_diff(expected) < 200, "{chosen} at {percent} %");
            assert!(percent != 0 || chosen == 0);
            assert!(percent != 100 || chosen == 10_000);
        }
        for node in 0..100 {
            let node = format!("node-{node}");
            assert!(!staged("shop", &node, 10) || staged("shop", &node, 11));
        }
        assert!((0..100).any(|node| staged("shop", &node.to_string(), 50) != staged("other", &node.to_string(), 50)));
        assert!(!staged("shop", "", 100), "who names no instance is served the document");
        assert_eq!(share("shop", "node-1"), share("shop", "node-1"));
    }
}
