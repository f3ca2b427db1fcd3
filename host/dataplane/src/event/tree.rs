//! The tree of causes: all that came of one event, whatever topics it is in.
//!
//! Invariant: every event stands in the tree once, also where causes are missing or run in a circle.

use std::collections::{BTreeMap, BTreeSet};

use platform_capability::{
    Call,
    event::{self, Query},
};

use super::{Event, EventError, Result, deliver::renewed};
use crate::error::CallError;

/// Most events in a tree.
const EVENTS_MAX: usize = 10_000;
/// Events that are read at once.
const PAGE: u32 = 500;

/// What came of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// Each before those that it caused, these by time.
    pub nodes: Vec<Node>,
    /// Whether there are more events than a tree holds.
    pub cut: bool,
}

/// An event in a tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The event, without its data.
    pub event: event::Event,
    /// How many causes lead to it.
    pub depth: u32,
}

impl Event {
    /// All that came of the event with the id `root`.
    ///
    /// # Errors
    /// Nothing did, or it is no longer kept; see [`CallError`].
    pub async fn tree(&self, call: &Call, root: &str) -> Result<Tree> {
        let query = Query {
            topic: None,
            root: Some(root.to_owned()),
            types: Vec::new(),
            from_ms: 0,
            to_ms: u64::MAX,
            reverse: false,
        };
        let (mut events, mut after) = (Vec::new(), None::<String>);
        loop {
            let (page, next) = self.find(&renewed(call), &query, after.as_deref(), PAGE).await?;
            events.extend(page.into_iter().map(|mut event| {
                event.content.data = Vec::new();
                event
            }));
            after = next;
            if after.is_none() || events.len() >= EVENTS_MAX || call.remaining().is_zero() {
                break;
            }
        }
        if events.is_empty() {
            let why = format!("there is no event that came of `{}`, or no longer", root.escape_debug());
            return Err(CallError::Capability(EventError::NotFound(why)));
        }
        let cut = after.is_some() || events.len() > EVENTS_MAX;
        events.truncate(EVENTS_MAX);
        Ok(Tree { nodes: arrange(events), cut })
    }
}

/// Puts events, by time, behind their causes.
fn arrange(events: Vec<event::Event>) -> Vec<Node> {
    let ids: BTreeSet<&str> = events.iter().map(|event| event.content.id.as_str()).collect();
    let mut caused: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut first = Vec::new();
    for (place, event) in events.iter().enumerate() {
        match event.content.parent.as_deref().filter(|parent| ids.contains(parent) && *parent != event.content.id) {
            Some(parent) => caused.entry(parent).or_default().push(place),
            None => first.push(place),
        }
    }
    let mut order: Vec<(usize, u32)> = Vec::with_capacity(events.len());
    let mut stands = vec![false; events.len()];
    // Those in a circle have no beginning: after all others each is tried as one.
    for start in first.into_iter().chain(0..events.len()) {
        let mut open = vec![(start, 0_u32)];
        while let Some((place, depth)) = open.pop() {
            let (Some(stands), Some(event)) = (stands.get_mut(place), events.get(place)) else { continue };
            if std::mem::replace(stands, true) {
                continue;
            }
            order.push((place, depth));
            // An id may be that of events in several topics; what it caused stands behind the first.
            for next in caused.remove(event.content.id.as_str()).into_iter().flatten().rev() {
                open.push((next, depth + 1));
            }
        }
    }
    let mut events: Vec<Option<event::Event>> = events.into_iter().map(Some).collect();
    order.into_iter().filter_map(|(place, depth)| Some(Node { event: events.get_mut(place)?.take()?, depth })).collect()
}

#[cfg(test)]
mod tests {
    use platform_capability::event::Draft;

    use super::*;

    fn event(id: &str, parent: Option<&str>) -> event::Event {
        let content = Draft {
            id: id.to_owned(),
            deduplicated: false,
            type_: "t".to_owned(),
            origin: String::new(),
            root: "1".to_owned(),
            parent: parent.map(str::to_owned),
            publisher: None,
            content_type: String::new(),
            metadata: Vec::new(),
            data: Vec::new(),
        };
        event::Event { topic: "a".to_owned(), sequence: 1, time_ms: 0, revision: 1, content }
    }

    fn arranged(events: Vec<event::Event>) -> Vec<(String, u32)> {
        arrange(events).into_iter().map(|node| (node.event.content.id, node.depth)).collect()
    }

    #[test]
    fn causes_stand_before_what_they_caused() {
        let found = arranged(vec![
            event("1", None),
            event("2", Some("1")),
            event("3", Some("1")),
            event("4", Some("2")),
            event("5", Some("lost")),
        ]);
        let expected = [("1", 0), ("2", 1), ("4", 2), ("3", 1), ("5", 0)];
        assert_eq!(found, expected.map(|(id, depth)| (id.to_owned(), depth)));
    }

    #[test]
    fn a_circle_has_an_end() {
        let found = arranged(vec![event("1", Some("2")), event("2", Some("1")), event("3", Some("3"))]);
        assert_eq!(found.len(), 3);
        assert_eq!(found.iter().filter(|(_, depth)| *depth == 0).count(), 2);
    }
}
