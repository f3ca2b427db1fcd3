//! How often one value can be checked, at worst: a few references that repeat each other make a schema that takes longer
//! than the age of the world, and a check that has begun can't be stopped.
//!
//! Counts the ways from the schema to a value, level by level of the document: which schemas apply in place of one, how often,
//! and which of them lead to the same member or item. It errs on the side of too many: which member of a `oneOf` fits is
//! not known. Invariant: a schema that passes takes a bounded number of steps for each value of a document.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::SchemaError;
use crate::DEPTH_MAX;

/// Most ways to a value.
const WAYS_MAX: u64 = 20_000;
/// Most pairs of schemas of which one applies when the other does.
const APPLIED_MAX: usize = 500_000;

/// Keywords whose schema applies to the value itself: one, several, or by name.
const IN_PLACE_ONE: [&str; 4] = ["not", "if", "then", "else"];
const IN_PLACE_LIST: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const IN_PLACE_MAP: [&str; 2] = ["dependentSchemas", "dependencies"];
/// Keywords whose schema applies to members of any name, and those of which one at most applies to each item.
const MEMBER_ANY: [&str; 3] = ["additionalProperties", "unevaluatedProperties", "propertyNames"];
const ITEM_ONE: [&str; 3] = ["items", "additionalItems", "unevaluatedItems"];
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];

/// Refuses a schema that may check one value too often.
pub(super) fn check(schema: &Value) -> Result<(), SchemaError> {
    let mut nodes = Nodes::default();
    nodes.gather(schema, true)?;
    let links: Vec<Links<'_>> = nodes.all.iter().map(|node| nodes.links(node)).collect::<Result<_, _>>()?;
    let applied = applied(&links)?;
    let mut below = vec![0_u64; links.len()];
    for _ in 0..=DEPTH_MAX {
        let here: Vec<u64> = applied.iter().map(|applied| ways(applied, &links, &below)).collect();
        if here.first().is_some_and(|ways| *ways > WAYS_MAX) {
            return Err(SchemaError::Schema(format!(
                "it could check one value more than {WAYS_MAX} times; let fewer references lead to the same place"
            )));
        }
        below = here;
    }
    Ok(())
}

/// The most ways that lead through schemas which apply to one value, so and so often, to the values at and below it.
fn ways(applied: &BTreeMap<usize, u64>, links: &[Links<'_>], below: &[u64]) -> u64 {
    let (mut own, mut any_member, mut items) = (0_u64, 0_u64, 0_u64);
    let mut members: HashMap<&str, u64> = HashMap::new();
    for (node, times) in applied {
        let Some(links) = links.get(*node) else { continue };
        let of = |node: usize| below.get(node).copied().unwrap_or(0).saturating_mul(*times);
        let all = |nodes: &[usize]| nodes.iter().fold(0_u64, |sum, node| sum.saturating_add(of(*node)));
        own = own.saturating_add(*times);
        any_member = any_member.saturating_add(all(&links.any_member));
        items = items.saturating_add(all(&links.any_item));
        items = items.saturating_add(links.one_item.iter().map(|node| of(*node)).max().unwrap_or(0));
        for (name, node) in &links.members {
            let ways = members.entry(name).or_default();
            *ways = ways.saturating_add(of(*node));
        }
    }
    let members = any_member.saturating_add(members.into_values().max().unwrap_or(0));
    own.saturating_add(members.max(items))
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
struct Links<'a> {
    in_place: Vec<usize>,
    /// For the member of a name.
    members: Vec<(&'a str, usize)>,
    /// For a member of any name.
    any_member: Vec<usize>,
    /// One of these for each item.
    one_item: Vec<usize>,
    /// All of these for an item.
    any_item: Vec<usize>,
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

    fn links(&self, node: &'a Map<String, Value>) -> Result<Links<'a>, SchemaError> {
        let one = |name: &str| self.number(node.get(name));
        let list = |name: &str| {
            let items = node.get(name).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(|item| self.number(Some(item)))
        };
        let map = |name: &str| {
            let members = node.get(name).and_then(Value::as_object).into_iter().flatten();
            members.filter_map(|(name, member)| Some((name.as_str(), self.number(Some(member))?)))
        };
        let mut links = Links::default();
        links.in_place.extend(IN_PLACE_ONE.iter().filter_map(|name| one(name)));
        links.in_place.extend(IN_PLACE_LIST.iter().flat_map(|name| list(name)));
        links.in_place.extend(IN_PLACE_MAP.iter().flat_map(|name| map(name)).map(|(_, node)| node));
        for reference in REFERENCES.iter().filter_map(|name| node.get(*name)?.as_str()) {
            links.in_place.extend(self.resolve(reference)?);
        }
        links.members.extend(map("properties"));
        links.any_member.extend(map("patternProperties").map(|(_, node)| node));
        links.any_member.extend(MEMBER_ANY.iter().filter_map(|name| one(name)));
        links.one_item.extend(list("items").chain(list("prefixItems")));
        links.one_item.extend(ITEM_ONE.iter().filter_map(|name| one(name)));
        links.any_item.extend(one("contains"));
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

/// For each schema, which schemas apply when it does, itself included, and how often.
fn applied(links: &[Links<'_>]) -> Result<Vec<BTreeMap<usize, u64>>, SchemaError> {
    let mut applied = vec![BTreeMap::new(); links.len()];
    let mut total = 0;
    for node in in_place_first(links)? {
        let mut all = BTreeMap::from([(node, 1_u64)]);
        for inner in links.get(node).into_iter().flat_map(|links| &links.in_place) {
            for (other, times) in applied.get(*inner).into_iter().flatten() {
                let sum = all.entry(*other).or_default();
                *sum = sum.saturating_add(*times);
            }
        }
        total += all.len();
        if total > APPLIED_MAX {
            let why = "too many of its schemas apply to one value; let references lead to fewer places";
            return Err(SchemaError::Schema(why.to_owned()));
        }
        if let Some(place) = applied.get_mut(node) {
            *place = all;
        }
    }
    Ok(applied)
}

/// Every schema after those that apply in place of it.
fn in_place_first(links: &[Links<'_>]) -> Result<Vec<usize>, SchemaError> {
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
        // A tree of rules, whose branches have members of different names.
        let rules = json!({"oneOf": [
            {"properties": {"and": {"type": "array", "items": {"$ref": "#"}}}, "required": ["and"]},
            {"properties": {"or": {"type": "array", "items": {"$ref": "#"}}}, "required": ["or"]},
            {"properties": {"not": {"$ref": "#"}}, "required": ["not"]},
            {"type": "string"},
        ]});
        let wide: Map<_, _> = (0..500).map(|name| (name.to_string(), json!({"type": "integer"}))).collect();
        for schema in [
            json!(true),
            json!({}),
            tree,
            named,
            rules,
            json!({"properties": wide, "oneOf": [{"required": ["1"]}, {"required": ["2"]}]}),
        ] {
            assert_eq!(check(&schema), Ok(()), "{schema}");
        }
    }
}
