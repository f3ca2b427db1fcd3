//! How often one value can be checked, at worst: a few references that repeat each other make a schema that takes longer
//! than the age of the world, and a check that has begun can't be stopped.
//!
//! Counts the ways from the schema to a value at every depth, by depth, so that it takes as long as the schema is large.
//! It errs on the side of too many: which member of a `oneOf` fits is not known. Invariant: a schema that passes takes a
//! bounded number of steps for each value of a document.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::SchemaError;
use crate::DEPTH_MAX;

/// Most ways to a value.
const WAYS_MAX: u64 = 20_000;

/// Keywords whose schema applies to the value itself: one, several, or by name.
const IN_PLACE_ONE: [&str; 4] = ["not", "if", "then", "else"];
const IN_PLACE_LIST: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const IN_PLACE_MAP: [&str; 2] = ["dependentSchemas", "dependencies"];
/// Keywords of which one at most applies to each member of an object, or to each item of an array.
const MEMBER_ONE: [&str; 2] = ["additionalProperties", "unevaluatedProperties"];
const ITEM_ONE: [&str; 3] = ["items", "additionalItems", "unevaluatedItems"];
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];

/// Refuses a schema that may check one value too often.
pub(super) fn check(schema: &Value) -> Result<(), SchemaError> {
    let mut nodes = Nodes::default();
    nodes.gather(schema, true)?;
    let links: Vec<Links> = nodes.all.iter().map(|node| nodes.links(node)).collect::<Result<_, _>>()?;
    let order = in_place_first(&links)?;
    let mut below = vec![0_u64; links.len()];
    for _ in 0..=DEPTH_MAX {
        let mut here = vec![0_u64; links.len()];
        for &node in &order {
            let Some(links) = links.get(node) else { continue };
            let ways = |of: &[u64], nodes: &[usize]| {
                nodes.iter().filter_map(|node| of.get(*node)).fold(0, |sum: u64, ways| sum.saturating_add(*ways))
            };
            let most = |nodes: &[usize]| nodes.iter().filter_map(|node| below.get(*node)).max().copied().unwrap_or(0);
            let members = most(&links.member).saturating_add(ways(&below, &links.members));
            let items = most(&links.item).saturating_add(ways(&below, &links.items));
            let sum = 1_u64.saturating_add(ways(&here, &links.in_place)).saturating_add(members.max(items));
            if let Some(place) = here.get_mut(node) {
                *place = sum;
            }
        }
        below = here;
        if below.first().is_some_and(|ways| *ways > WAYS_MAX) {
            return Err(SchemaError::Schema(format!(
                "its references could check one value more than {WAYS_MAX} times; let fewer of them lead to the same place"
            )));
        }
    }
    Ok(())
}

/// The schemas within a schema.
#[derive(Default)]
struct Nodes<'a> {
    all: Vec<&'a Map<String, Value>>,
    place: HashMap<*const Map<String, Value>, usize>,
    anchors: HashMap<&'a str, usize>,
    root: Option<&'a Value>,
}

/// What a schema leads to.
#[derive(Default)]
struct Links {
    in_place: Vec<usize>,
    /// One of these for each member.
    member: Vec<usize>,
    /// All of these for a member.
    members: Vec<usize>,
    /// One of these for each item.
    item: Vec<usize>,
    /// All of these for an item.
    items: Vec<usize>,
}

impl<'a> Nodes<'a> {
    /// Numbers every object: those that are no schemas lead nowhere, and nothing leads to them.
    fn gather(&mut self, value: &'a Value, top: bool) -> Result<(), SchemaError> {
        if top {
            self.root = Some(value);
        }
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.gather(item, false)),
            Value::Object(members) => {
                if !top && members.get("$id").is_some_and(Value::is_string) && !members.contains_key("const") {
                    let why = "it holds a schema with an `$id` of its own; name it by `$anchor` or by its place";
                    return Err(SchemaError::Schema(why.to_owned()));
                }
                let number = self.all.len();
                self.place.insert(std::ptr::from_ref(members), number);
                self.all.push(members);
                for name in ["$anchor", "$dynamicAnchor"] {
                    if let Some(anchor) = members.get(name).and_then(Value::as_str) {
                        self.anchors.insert(anchor, number);
                    }
                }
                members.values().try_for_each(|member| self.gather(member, false))
            }
            _ => Ok(()),
        }
    }

    fn number(&self, value: Option<&Value>) -> Option<usize> {
        self.place.get(&std::ptr::from_ref(value?.as_object()?)).copied()
    }

    fn links(&self, node: &Map<String, Value>) -> Result<Links, SchemaError> {
        let one = |name: &str| self.number(node.get(name));
        let list = |name: &str| {
            node.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(|item| self.number(Some(item)))
        };
        let map = |name: &str| {
            node.get(name)
                .and_then(Value::as_object)
                .into_iter()
                .flat_map(Map::values)
                .filter_map(|member| self.number(Some(member)))
        };
        let mut links = Links::default();
        links.in_place.extend(IN_PLACE_ONE.iter().filter_map(|name| one(name)));
        links.in_place.extend(IN_PLACE_LIST.iter().flat_map(|name| list(name)));
        links.in_place.extend(IN_PLACE_MAP.iter().flat_map(|name| map(name)));
        for reference in REFERENCES.iter().filter_map(|name| node.get(*name)?.as_str()) {
            links.in_place.extend(self.resolve(reference)?);
        }
        links.member.extend(map("properties").chain(MEMBER_ONE.iter().filter_map(|name| one(name))));
        links.members.extend(map("patternProperties").chain(one("propertyNames")));
        links.item.extend(list("items").chain(list("prefixItems")).chain(ITEM_ONE.iter().filter_map(|name| one(name))));
        links.items.extend(one("contains"));
        Ok(links)
    }

    /// The schema that a reference leads to; none when it leads to `true`, `false` or nowhere, which the compiler tells.
    fn resolve(&self, reference: &str) -> Result<Option<usize>, SchemaError> {
        let Some(fragment) = reference.strip_prefix('#') else {
            let shown: String = reference.chars().take(200).collect();
            return Err(SchemaError::Schema(format!(
                "`{shown}` is another document; a schema can refer to itself only"
            )));
        };
        if let Some(number) = self.anchors.get(fragment) {
            return Ok(Some(*number));
        }
        if fragment.contains('%') {
            return Err(SchemaError::Schema(format!(
                "the reference `#{}` is percent-encoded; write it as it is",
                fragment.chars().take(200).collect::<String>()
            )));
        }
        Ok(self.number(self.root.and_then(|root| root.pointer(fragment))))
    }
}

/// Every schema after those that apply in place of it.
fn in_place_first(links: &[Links]) -> Result<Vec<usize>, SchemaError> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; links.len()];
    let mut order = Vec::with_capacity(links.len());
    for start in 0..links.len() {
        let mut way = vec![(start, 0)];
        while let Some((node, next)) = way.pop() {
            let (Some(links), Some(mark)) = (links.get(node), marks.get_mut(node)) else { continue };
            if next == 0 && *mark != Mark::New {
                continue;
            }
            *mark = Mark::Open;
            match links.in_place.get(next) {
                None => {
                    *mark = Mark::Done;
                    order.push(node);
                }
                Some(&inner) => {
                    way.push((node, next + 1));
                    match marks.get(inner) {
                        Some(Mark::Open) => {
                            return Err(SchemaError::Schema("it refers to itself without end".to_owned()));
                        }
                        Some(Mark::New) => way.push((inner, 0)),
                        _ => {}
                    }
                }
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_that_repeat_themselves_are_refused() {
        let mut doubling = Map::new();
        for level in 0..60 {
            let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
            doubling.insert(format!("d{level}"), json!({"allOf": [next.clone(), next]}));
        }
        doubling.insert("d60".to_owned(), json!({"type": "object"}));
        for schema in [
            json!({"$ref": "#/$defs/d0", "$defs": doubling}),
            json!({"allOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]}),
            json!({"patternProperties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}}),
            json!({"items": {"$ref": "#"}, "contains": {"$ref": "#"}}),
            json!({"$ref": "#"}),
            json!({"$defs": {"a": {"not": {"$ref": "#b"}}, "b": {"$anchor": "b", "$ref": "#/$defs/a"}}}),
            json!({"$ref": "https://json-schema.org/draft/2020-12/schema"}),
            json!({"properties": {"a": {"$id": "b", "$ref": "#/x"}}}),
        ] {
            assert!(matches!(check(&schema), Err(SchemaError::Schema(_))), "{schema}");
        }
    }

    #[test]
    fn usual_schemas_pass() {
        let tree = json!({"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "all": {"type": "array", "items": {"$ref": "#"}}}});
        let named = json!({
            "$id": "https://example.com/shop",
            "$defs": {"port": {"$anchor": "port", "type": "integer", "minimum": 1, "maximum": 65535}},
            "properties": {"ports": {"items": {"$ref": "#port"}}, "port": {"$ref": "#/$defs/port"}, "$id": {"type": "string"}},
            "additionalProperties": false,
        });
        let wide: Map<_, _> = (0..500).map(|name| (name.to_string(), json!({"type": "integer"}))).collect();
        for schema in [
            json!(true),
            json!({}),
            tree,
            named,
            json!({"properties": wide, "oneOf": [{"required": ["1"]}, {"required": ["2"]}]}),
        ] {
            assert_eq!(check(&schema), Ok(()), "{schema}");
        }
    }
}
