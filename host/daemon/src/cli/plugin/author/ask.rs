//! Asking a component what a case asks, in the words of its slot.
//!
//! Invariant: an answer is a table whose members are those that a case may expect.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use platform_base::clock;
use platform_capability::{
    Call, CallContext, Caller, Name, SlotKind,
    auth::Facts,
    db::{self, Content, Field},
    discovery::{Node as Registered, Registration},
    event::{Start, SubscriptionSettings, TopicSettings},
    kv::{Condition, Expiry},
    sync::{Mode, Want},
};
use platform_dataplane::{
    Action, CallError, ConfigError, Edit, EventError, Keep, NewEvent, Plane, RouteError, SelectRequest, Witness,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::cases::{Case, Mocks, Node, Row, Topic};

/// Time for one question.
const TIME: Duration = Duration::from_secs(5);
/// How long nodes are there.
const TTL_MS: u64 = 600_000;
/// Most picks of one case.
const PICKS_MAX: u32 = 10_000;

/// Members of an answer.
pub(super) type Answer = Map<String, Value>;

/// What a component asked its host.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<Vec<String>>);

impl Asked {
    /// What was asked since this was asked last.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Witness for Asked {
    fn asked(&self, _: &Call, function: &str, about: &str) {
        let call = if about.is_empty() { function.to_owned() } else { format!("{function} {about}") };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }
}

/// The context in which a case is asked.
pub(super) fn call(case: &Case, namespace: &Name) -> Call {
    let caller = case.caller.clone().map(|asker| {
        Arc::new(Caller { subject: asker.subject, roles: asker.roles.into_iter().collect(), claims: asker.claims })
    });
    let call = CallContext::new(caller, namespace, TIME);
    Arc::new(CallContext { time_ns: case.time_ns.unwrap_or(call.time_ns), ..call })
}

/// Puts what the host should have where the component finds it.
pub(super) async fn give(plane: &Plane, namespace: &Name, mocks: &Mocks) -> Result<(), String> {
    let call: Call = Arc::new(CallContext::new(None, namespace, TIME));
    for (key, value) in &mocks.kv {
        let put = plane.kv().put(&call, key, value.as_bytes(), Condition::Always, Expiry::Never).await;
        put.map_err(|error| format!("`host.kv.{key}`: {error}"))?;
    }
    for (id, document) in &mocks.config {
        let value = document.to_string();
        let edited = plane.configurations().edit(&call, &Edit { value: &value, ..Edit::new(id, Action::Set) }).await;
        edited.map_err(|error| format!("`host.config.{id}`: {error}"))?;
    }
    for (place, row) in &mocks.db {
        let mut parts = place.splitn(3, '/').map(str::to_owned);
        let (Some(database), Some(table), Some(id)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(format!("`host.db.{place}`: a record has a place such as `DATABASE/TABLE/ID`"));
        };
        let wrong = |error: &dyn Display| format!("`host.db.{place}`: {error}");
        let content = content(row).map_err(|error| wrong(&error))?;
        let write = db::Write { table, id, condition: db::Condition::Always, action: db::Action::Put(content) };
        plane.db().commit(&call, &database, &[write]).await.map_err(|error| wrong(&error))?;
    }
    for (name, topic) in &mocks.topics {
        let told = tell(plane, &call, name, topic).await;
        told.map_err(|error| format!("`host.topics.{name}`: {error}"))?;
    }
    for (name, holder) in &mocks.locks {
        let caller = Some(Arc::new(Caller { subject: holder.clone(), ..Caller::default() }));
        let holders: Call = Arc::new(CallContext::new(caller, namespace, TIME));
        let want = Want { mode: Mode::Exclusive, value: None };
        let taken = plane.sync().acquire(&holders, name, &want, &Keep::Own(TTL_MS), clock::now()).await;
        taken.map_err(|error| format!("`host.locks.{name}`: {error}"))?;
    }
    for node in &mocks.nodes {
        let registration = Registration {
            service: node.service.clone(),
            version: "1".to_owned(),
            node: Registered {
                id: node.id.clone(),
                address: "127.0.0.1:1".to_owned(),
                zone: node.zone.clone(),
                weight: node.weight,
                metadata: node.metadata.clone().into_iter().collect(),
            },
            metadata: Vec::new(),
            endpoints: Vec::new(),
        };
        let registered = plane.discovery().register(&call, &registration, TTL_MS).await;
        registered.map_err(|error| format!("`host.nodes`, `{}`: {error}", node.id))?;
    }
    Ok(())
}

/// What a record is to hold.
fn content(row: &Row) -> Result<Content, String> {
    let field = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::String(text) => db::Value::Text(text.clone()),
            Value::Number(number) => db::Value::Number(number.as_f64().unwrap_or_default()),
            Value::Bool(boolean) => db::Value::Boolean(*boolean),
            _ => return Err(format!("`metadata.{name}` is no text, number or boolean")),
        };
        Ok(Field { name: name.clone(), value })
    };
    let metadata = row.metadata.iter().map(field).collect::<Result<_, _>>()?;
    Ok(Content { metadata, data: row.data.clone().into_bytes() })
}

/// Makes a topic with what it holds.
async fn tell(plane: &Plane, call: &Call, name: &str, topic: &Topic) -> Result<(), CallError<EventError>> {
    let events = plane.event();
    let settings = TopicSettings { age_ms: None, count: None, bytes: None, window_ms: 0 };
    events.put_topic(call, name, settings, true).await?;
    for told in &topic.events {
        let (content_type, data) = match &told.data {
            Value::Null => (String::new(), String::new()),
            Value::String(text) => ("text/plain".to_owned(), text.clone()),
            json => ("application/json".to_owned(), json.to_string()),
        };
        let kind = told.kind.clone();
        let event = NewEvent { kind, content_type, data: data.into_bytes(), ..NewEvent::default() };
        events.publish(call, name, vec![event]).await?;
    }
    for subscription in &topic.subscriptions {
        let settings = SubscriptionSettings {
            types: Vec::new(),
            fan_out: false,
            ack_wait_ms: TTL_MS,
            deliveries_max: 0,
            dead_letter: format!("{name}.dead-letter"),
            pending_max: 1000,
        };
        events.create_subscription(call, name, subscription, Start::Beginning, &settings).await?;
    }
    Ok(())
}

/// Asks what the case asks; why it can't be asked when it makes no sense.
pub(super) async fn ask(plane: &Plane, slot: SlotKind, call: &Call, case: &Case) -> Result<Answer, String> {
    match slot {
        SlotKind::AuthPolicy => Ok(request(plane, call, form(case)?).await),
        SlotKind::RouterPolicy => pick(plane, call, &form(case)?, &case.host.nodes).await,
        SlotKind::ConfigValidator => change(plane, call, form(case)?).await,
        SlotKind::EventFilter => event(plane, call, form(case)?).await,
        _ => Err(format!("`{slot}` is not asked by cases")),
    }
}

fn form<T: DeserializeOwned>(case: &Case) -> Result<T, String> {
    serde_json::from_value(Value::Object(case.ask.clone())).map_err(|error| format!("`ask`: {error}"))
}

fn answer(decision: &str, reason: impl Into<Value>) -> Answer {
    Map::from_iter([("decision".to_owned(), decision.into()), ("reason".to_owned(), reason.into())])
}

/// What a gateway asks about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Request {
    action: String,
    target: String,
    headers: BTreeMap<String, String>,
    attributes: BTreeMap<String, String>,
}

impl Default for Request {
    fn default() -> Self {
        let (headers, attributes) = (BTreeMap::new(), BTreeMap::new());
        Self { action: "GET".to_owned(), target: "/".to_owned(), headers, attributes }
    }
}

impl Facts for Request {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let header = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        header.map(|(_, value)| Cow::Borrowed(value.as_str()))
    }

    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        self.attributes.get(name).map(|value| Cow::Borrowed(value.as_str()))
    }

    fn headers(&self) -> BTreeMap<String, String> {
        self.headers.clone()
    }

    fn attributes(&self) -> BTreeMap<String, String> {
        self.attributes.clone()
    }
}

async fn request(plane: &Plane, call: &Call, request: Request) -> Answer {
    let (action, target) = (request.action.clone(), request.target.clone());
    let verdict = plane.auth().check(call, None, &action, &target, Arc::new(request)).await;
    let decision = match (verdict.fault, &verdict.decided_by, verdict.allowed) {
        (Some(fault), ..) => return answer("fault", fault),
        (_, None, false) => return answer("abstain", ""),
        (_, _, true) => "allow",
        (..) => "deny",
    };
    let headers = |headers: Vec<(String, String)>| {
        Value::Object(Map::from_iter(headers.into_iter().map(|(name, value)| (name, value.into()))))
    };
    let mut answer = answer(decision, verdict.reason);
    answer.insert("status".to_owned(), verdict.status.into());
    answer.insert("set_headers".to_owned(), headers(verdict.set_headers));
    answer.insert("remove_headers".to_owned(), verdict.remove_headers.into());
    answer.insert("response_headers".to_owned(), headers(verdict.response_headers));
    answer
}

/// What a client asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Pick {
    service: String,
    key: u64,
    zone: String,
    attempt: u32,
    /// How often it is asked.
    picks: u32,
}

impl Default for Pick {
    fn default() -> Self {
        Self { service: "service".to_owned(), key: 0, zone: String::new(), attempt: 0, picks: 1 }
    }
}

async fn pick(plane: &Plane, call: &Call, pick: &Pick, nodes: &[Node]) -> Result<Answer, String> {
    if pick.picks == 0 || pick.picks > PICKS_MAX {
        return Err(format!("`ask.picks` is 1 to {PICKS_MAX}"));
    }
    let Pick { service, key, zone, attempt, picks } = pick;
    let has_nodes = nodes.iter().any(|node| node.service == *service);
    let request = SelectRequest { service, key: *key, zone, attempt: *attempt, version: None, labels: &[] };
    let begun = clock::now();
    let mut nodes = Vec::new();
    for _ in 0..*picks {
        loop {
            match plane.router().select(call, request).await {
                Ok(selection) => nodes.push(Value::from(selection.node.id)),
                // Nodes are on their way to the policy.
                Err(CallError::Capability(RouteError::NoNodes { .. }))
                    if has_nodes && clock::now().saturating_duration_since(begun) < TIME =>
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
                Err(CallError::Capability(error)) => return Ok(answer("none", error.to_string())),
                Err(error) => return Ok(answer("fault", error.to_string())),
            }
            break;
        }
    }
    let mut answer = answer("pick", "");
    answer.insert("nodes".to_owned(), nodes.into());
    Ok(answer)
}

/// A change of a configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Change {
    id: String,
    path: String,
    comment: String,
    before: Option<Value>,
    after: Option<Value>,
}

impl Default for Change {
    fn default() -> Self {
        Self { id: "config".to_owned(), path: String::new(), comment: String::new(), before: None, after: None }
    }
}

async fn change(plane: &Plane, call: &Call, change: Change) -> Result<Answer, String> {
    let action = if change.after.is_some() { Action::Set } else { Action::Delete };
    let edit = Edit { path: &change.path, comment: &change.comment, ..Edit::new(&change.id, action) };
    Ok(match plane.configurations().would_take(call, &edit, change.before, change.after).await {
        Ok(()) => answer("accept", ""),
        Err(CallError::Capability(ConfigError::Refused { reason, at, .. })) => {
            let mut answer = answer("refuse", reason);
            answer.insert("at".to_owned(), at.into());
            answer
        }
        Err(CallError::Capability(ConfigError::Unjudged { why, .. })) => answer("fault", why),
        Err(error) => return Err(format!("`ask`: {error}")),
    })
}

/// An event on its way.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Event {
    topic: String,
    #[serde(rename = "type")]
    kind: String,
    origin: String,
    content_type: String,
    metadata: BTreeMap<String, String>,
    /// Text as it is, else JSON.
    data: Value,
}

impl Default for Event {
    fn default() -> Self {
        Self {
            topic: "topic".to_owned(),
            kind: "event".to_owned(),
            origin: String::new(),
            content_type: "application/json".to_owned(),
            metadata: BTreeMap::new(),
            data: Value::Null,
        }
    }
}

async fn event(plane: &Plane, call: &Call, event: Event) -> Result<Answer, String> {
    let data = match event.data {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let new = NewEvent {
        kind: event.kind,
        origin: event.origin,
        content_type: event.content_type,
        metadata: event.metadata,
        data: data.into_bytes(),
        ..NewEvent::default()
    };
    let before = (new.kind.clone(), new.content_type.clone(), new.metadata.clone(), new.data.clone());
    let draft = match plane.event().would_keep(call, &event.topic, new).await {
        Ok(Ok(draft)) => draft,
        Ok(Err(reason)) => return Ok(answer("drop", reason)),
        Err(CallError::Capability(EventError::Unfiltered { why, .. })) => return Ok(answer("fault", why)),
        Err(error) => return Err(format!("`ask`: {error}")),
    };
    let metadata: BTreeMap<String, String> = draft.metadata.iter().cloned().collect();
    let now = (draft.type_.clone(), draft.content_type.clone(), metadata.clone(), draft.data.clone());
    let mut answer = answer(if now == before { "pass" } else { "change" }, "");
    let data = String::from_utf8_lossy(&draft.data).into_owned();
    answer.insert("data".to_owned(), serde_json::from_str(&data).unwrap_or(Value::String(data)));
    answer.insert("type".to_owned(), draft.type_.clone().into());
    answer.insert("content_type".to_owned(), draft.content_type.clone().into());
    answer.insert("metadata".to_owned(), json!(metadata));
    Ok(answer)
}
