//! `cases.toml`: what a component is asked, and what it should say.
//!
//! Owns the file's form and how what came is compared with what was expected; must not know how a component is asked.

use std::{collections::BTreeMap, path::Path};

use platform_capability::SlotKind;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::cli::{failure::Failure, input, quantity::moment};

/// Largest file of cases.
const CASES_BYTES: u64 = 4 << 20;
/// What a case may expect of decisions, by the kind of slot.
const EXPECTED: [(SlotKind, &[&str]); 4] = [
    (
        SlotKind::AuthPolicy,
        &["decision", "reason", "status", "set_headers", "remove_headers", "response_headers", "log", "calls"],
    ),
    (SlotKind::RouterPolicy, &["decision", "nodes", "reason", "log", "calls"]),
    (SlotKind::ConfigValidator, &["decision", "reason", "at", "log", "calls"]),
    (SlotKind::EventFilter, &["decision", "reason", "type", "content_type", "data", "metadata", "log", "calls"]),
];

/// Cases of one component.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cases {
    /// Settings of all cases that have none of their own.
    #[serde(default)]
    pub(super) settings: Map<String, Value>,
    /// Whether a case fails when the component asks its host for something that the case does not give.
    #[serde(default)]
    pub(super) strict: bool,
    /// What the host has for all cases.
    #[serde(default)]
    host: Mocks,
    /// The cases.
    #[serde(default, rename = "case")]
    pub(super) cases: Vec<Case>,
}

/// One question.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// Says what it is about.
    pub(super) name: String,
    /// Settings instead of those of all cases.
    pub(super) settings: Option<Map<String, Value>>,
    strict: Option<bool>,
    time: Option<toml::Value>,
    /// Who asks; nobody who is known when left out.
    pub(super) caller: Option<Asker>,
    /// What the host has.
    #[serde(default)]
    pub(super) host: Mocks,
    /// What is asked, in the form of the slot.
    #[serde(default)]
    pub(super) ask: Map<String, Value>,
    expect: Map<String, Value>,
    /// When it is asked, in nanoseconds of unix time; now when not told.
    #[serde(skip)]
    pub(super) time_ns: Option<u64>,
}

/// A verified caller.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Asker {
    pub(super) subject: String,
    pub(super) roles: Vec<String>,
    pub(super) claims: Map<String, Value>,
}

/// What a component finds when it asks its host.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Mocks {
    /// Configurations by name.
    pub(super) config: BTreeMap<String, Value>,
    /// Values by key.
    pub(super) kv: BTreeMap<String, String>,
    /// Records of databases by place, such as `shop/orders/o-1`.
    pub(super) db: BTreeMap<String, Row>,
    /// Topics by name.
    pub(super) topics: BTreeMap<String, Topic>,
    /// Who holds locks, by name.
    pub(super) locks: BTreeMap<String, String>,
    /// Nodes of services.
    pub(super) nodes: Vec<Node>,
    /// Further calls that are expected, such as `kv.put audit/*`.
    calls: Vec<String>,
}

/// What a record holds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Row {
    /// Texts, numbers and booleans by name.
    pub(super) metadata: BTreeMap<String, Value>,
    /// Its bytes.
    pub(super) data: String,
}

/// What a topic holds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Topic {
    /// Its events in order: `type` and `data`, text or JSON.
    pub(super) events: Vec<Told>,
    /// Subscriptions that begin with the first of them.
    pub(super) subscriptions: Vec<String>,
}

/// An event of a topic.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) data: Value,
}

/// A node of a service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub(super) id: String,
    #[serde(default = "service")]
    pub(super) service: String,
    #[serde(default)]
    pub(super) zone: String,
    #[serde(default = "weight")]
    pub(super) weight: u32,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
}

fn service() -> String {
    "service".to_owned()
}

const fn weight() -> u32 {
    100
}

/// Where what came is not what was expected.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    pub(super) what: String,
    pub(super) expected: Value,
    pub(super) got: Value,
}

impl Cases {
    /// The cases of a file, for a component of a kind.
    pub(super) fn read(file: &Path, slot: SlotKind) -> Result<Self, Failure> {
        let bytes = input::read(file, CASES_BYTES)?;
        let wrong = |why: String| Failure::usage(format!("`{}`: {why}", file.display()));
        let text = String::from_utf8(bytes).map_err(|error| wrong(format!("it is no text: {error}")))?;
        let cases: Self = toml::from_str(&text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
        cases.checked(slot).map_err(wrong)
    }

    fn checked(mut self, slot: SlotKind) -> Result<Self, String> {
        let known = EXPECTED.iter().find(|(kind, _)| *kind == slot).map(|(_, known)| *known);
        for case in &mut self.cases {
            let name = &case.name;
            let Some(known) = known else {
                return Err(format!(
                    "case `{name}`: a component for `{slot}` is not asked by cases; `platform plugin test` tries the promises of its interface"
                ));
            };
            if case.expect.is_empty() {
                return Err(format!("case `{name}` expects nothing; there are {}", known.join(", ")));
            }
            if let Some(odd) = case.expect.keys().find(|key| !known.contains(&key.as_str())) {
                return Err(format!(
                    "case `{name}`: `expect.{odd}` is unknown; for `{slot}` there are {}",
                    known.join(", ")
                ));
            }
            case.time_ns = case.time.as_ref().map(|time| nanoseconds(name, time)).transpose()?;
            case.host.join(&self.host);
        }
        Ok(self)
    }

    /// Whether a case fails when the component asks for what it is not given.
    pub(super) fn is_strict(&self, case: &Case) -> bool {
        case.strict.unwrap_or(self.strict)
    }
}

fn nanoseconds(case: &str, time: &toml::Value) -> Result<u64, String> {
    let text = time.as_str().map_or_else(|| time.to_string(), str::to_owned);
    let time = moment(&text).map_err(|why| format!("case `{case}`: {why}"))?;
    let seconds = u64::try_from(time.seconds).map_err(|_early| format!("case `{case}`: `{text}` is before 1970"))?;
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.nanos).unwrap_or(0)))
}

impl Mocks {
    /// Adds what all cases have.
    fn join(&mut self, all: &Self) {
        for (id, document) in &all.config {
            self.config.entry(id.clone()).or_insert_with(|| document.clone());
        }
        for (key, value) in &all.kv {
            self.kv.entry(key.clone()).or_insert_with(|| value.clone());
        }
        for (place, row) in &all.db {
            self.db.entry(place.clone()).or_insert_with(|| row.clone());
        }
        for (name, topic) in &all.topics {
            self.topics.entry(name.clone()).or_insert_with(|| topic.clone());
        }
        for (name, holder) in &all.locks {
            self.locks.entry(name.clone()).or_insert_with(|| holder.clone());
        }
        self.nodes.extend(all.nodes.iter().cloned());
        self.calls.extend(all.calls.iter().cloned());
    }

    /// Whether the host was expected to be asked this, such as `kv.get a`.
    fn expects(&self, call: &str) -> bool {
        let given = match call.split_once(' ') {
            Some(("kv.get", key)) => self.kv.contains_key(key),
            Some(("config.get", place)) => self.config.contains_key(place.split('/').next().unwrap_or_default()),
            Some(("db.get", place)) => self.db.contains_key(place),
            Some(("db.find", table)) => {
                self.db.keys().any(|place| place.strip_prefix(table).is_some_and(|rest| rest.starts_with('/')))
            }
            Some(("event.read", topic)) => self.topics.contains_key(topic),
            Some(("event.receive", place)) => place.split_once('/').is_some_and(|(topic, subscription)| {
                self.topics.get(topic).is_some_and(|topic| topic.subscriptions.iter().any(|name| name == subscription))
            }),
            Some(("sync.get" | "sync.acquire", name)) => self.locks.contains_key(name),
            Some(("discovery.get", service)) => self.nodes.iter().any(|node| node.service == service),
            _ => false,
        };
        let allowed = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => call.starts_with(start),
            None => call == pattern,
        };
        given || self.calls.iter().any(allowed)
    }
}

impl Cases {
    /// Questions under these settings.
    pub(super) fn asking(settings: Map<String, Value>, cases: Vec<Case>) -> Self {
        Self { settings, cases, ..Self::default() }
    }
}

impl Node {
    /// One of the default service.
    pub(super) fn named(id: &str) -> Self {
        Self { id: id.to_owned(), service: service(), zone: String::new(), weight: weight(), metadata: BTreeMap::new() }
    }
}

impl Case {
    /// A question without words, where what is asked is known.
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            settings: None,
            strict: None,
            time: None,
            caller: None,
            host: Mocks::default(),
            ask: Map::new(),
            expect: Map::new(),
            time_ns: None,
        }
    }

    /// Where the answer is not what the case expects; `calls` is what the component asked its host.
    pub(super) fn judge(&self, answer: &Map<String, Value>, calls: &[String], strict: bool) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (what, expected) in &self.expect {
            let got = if what == "calls" { json!(calls) } else { answer.get(what).cloned().unwrap_or_default() };
            if !agrees(expected, &got) {
                differences.push(Difference { what: what.clone(), expected: expected.clone(), got });
            }
        }
        let unexpected: Vec<_> = calls.iter().filter(|call| !self.host.expects(call)).collect();
        if strict && !unexpected.is_empty() && !self.expect.contains_key("calls") {
            let expected = json!("no call of the host that the case does not give");
            differences.push(Difference { what: "calls".to_owned(), expected, got: json!(unexpected) });
        }
        differences
    }
}

/// Whether a value is as expected; `{ has = "text" }` expects a text that holds another.
fn agrees(expected: &Value, got: &Value) -> bool {
    match (expected, got) {
        (Value::Object(expected), Value::String(got)) => {
            let has = expected.get("has").filter(|_| expected.len() == 1).and_then(Value::as_str);
            has.is_some_and(|text| got.contains(text))
        }
        (Value::Object(expected), Value::Object(got)) => {
            let same = |(name, value): (&String, &Value)| got.get(name).is_some_and(|got| agrees(value, got));
            expected.len() == got.len() && expected.iter().all(same)
        }
        (Value::Array(expected), Value::Array(got)) => {
            expected.len() == got.len() && expected.iter().zip(got).all(|(expected, got)| agrees(expected, got))
        }
        (Value::Number(expected), Value::Number(got)) => expected.as_f64() == got.as_f64(),
        _ => expected == got,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(text: &str, slot: SlotKind) -> Result<Cases, String> {
        toml::from_str::<Cases>(text).map_err(|error| error.to_string())?.checked(slot)
    }

    #[test]
    fn a_case_has_what_all_cases_have() {
        let text = r#"
            strict = true
            [settings]
            opens = 8
            [host]
            kv.a = "all"
            topics.orders = { events = [{ type = "order.placed", data = "two chairs" }], subscriptions = ["billing"] }
            locks.orders = "bob"
            db."shop/orders/o-1" = { metadata = { total = 12.5 }, data = "two chairs" }
            calls = ["kv.put audit/*"]
            [[case]]
            name = "one"
            time = 1970-01-01T00:00:02Z
            host.kv.b = "own"
            expect.decision = "allow"
            [[case]]
            name = "two"
            strict = false
            time = "1970-01-01T00:00:03.5Z"
            expect.decision = "allow"
        "#;
        let cases = cases(text, SlotKind::AuthPolicy).unwrap();
        let [one, two] = &cases.cases[..] else { panic!("two cases") };
        assert_eq!((one.time_ns, two.time_ns), (Some(2_000_000_000), Some(3_500_000_000)));
        assert_eq!((cases.is_strict(one), cases.is_strict(two)), (true, false));
        for (call, expected) in [
            ("kv.get a", true),
            ("kv.get b", true),
            ("kv.get c", false),
            ("kv.put audit/1", true),
            ("config.get x", false),
            ("db.get shop/orders/o-1", true),
            ("db.get shop/orders/o-2", false),
            ("db.find shop/orders", true),
            ("db.find shop/order", false),
            ("sync.get orders", true),
            ("sync.acquire others", false),
            ("event.read orders", true),
            ("event.read others", false),
            ("event.receive orders/billing", true),
            ("event.receive orders/shipping", false),
            ("event.publish orders/order.paid", false),
        ] {
            assert_eq!(one.host.expects(call), expected, "{call}");
        }
        let answer = json!({"decision": "deny"});
        let calls = ["kv.get c".to_owned()];
        let told: Vec<_> =
            one.judge(answer.as_object().unwrap(), &calls, true).into_iter().map(|found| found.what).collect();
        assert_eq!(told, ["decision", "calls"]);
        assert_eq!(two.judge(answer.as_object().unwrap(), &calls, false).len(), 1);
    }

    #[test]
    fn files_that_make_no_sense_are_told_why() {
        for (text, slot, words) in [
            ("[[case]]\nname = \"a\"\nexpect = {}", SlotKind::AuthPolicy, "expects nothing"),
            ("[[case]]\nname = \"a\"\nexpect.colour = 1", SlotKind::AuthPolicy, "`expect.colour` is unknown"),
            ("[[case]]\nname = \"a\"\nexpect.status = 1", SlotKind::RouterPolicy, "`expect.status` is unknown"),
            ("[[case]]\nname = \"a\"\nexpect.decision = \"x\"", SlotKind::KvStore, "is not asked by cases"),
            (
                "[[case]]\nname = \"a\"\ntime = \"noon\"\nexpect.decision = \"x\"",
                SlotKind::AuthPolicy,
                "`noon` is no time",
            ),
            ("[[case]]\nexpect.decision = \"x\"", SlotKind::AuthPolicy, "missing field `name`"),
            ("colour = 1", SlotKind::AuthPolicy, "unknown field `colour`"),
            ("[[case", SlotKind::AuthPolicy, "TOML parse error"),
        ] {
            let why = cases(text, slot).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
    }

    #[test]
    fn values_agree_by_what_they_mean() {
        for (expected, got, good) in [
            (json!(1), json!(1.0), true),
            (json!({"has": "b"}), json!("abc"), true),
            (json!({"has": "x"}), json!("abc"), false),
            (json!({"a": {"has": "b"}}), json!({"a": "abc"}), true),
            (json!({"a": 1}), json!({"a": 1, "b": 2}), false),
            (json!(["a", {"has": "b"}]), json!(["a", "b"]), true),
            (json!(["a"]), json!(["a", "b"]), false),
            (json!("a"), json!(null), false),
        ] {
            assert_eq!(agrees(&expected, &got), good, "{expected} {got}");
        }
    }
}
