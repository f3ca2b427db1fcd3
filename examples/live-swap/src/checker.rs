//! Clients that check every single answer: was it right, and which one generation explains it?
//!
//! A policy is told its index as its settings' tag and sends it back in a header, through the gateway. With odd and even
//! indexes the policy allows different paths, so an answer of the wrong generation is a wrong answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use platform_base::clock;
use platform_proto::{auth, router};
use serde_json::{Value, json};

use crate::backend::{NODE_HEADER, SERVICE, TAG_HEADER};
use crate::daemon::Clients;
use crate::timeline::{Span, Timeline};

/// A path that every generation allows, for load that only counts.
pub const OPEN: &str = "/open";

const PATHS: [&str; 4] = [OPEN, "/shut", "/even", "/odd"];
/// Answers that went wrong of which the account keeps the details.
const SAMPLES_MAX: usize = 10;

/// What the generation with this index answers for a path.
fn allows(index: usize, path: &str) -> bool {
    match path {
        OPEN => true,
        "/even" => index.is_multiple_of(2),
        "/odd" => !index.is_multiple_of(2),
        _ => false,
    }
}

/// Settings of the policy `auth-scopes` that answer as the checkers expect of this index.
#[must_use]
pub fn settings(index: usize) -> Value {
    let rule = |path: &str| {
        let effect = if allows(index, path) { "allow" } else { "deny" };
        json!({ "effect": effect, "paths": [path], "set_headers": { TAG_HEADER: index.to_string() } })
    };
    json!({ "default": "deny", "rules": PATHS.map(rule) })
}

/// What a kind of checker saw.
#[derive(Debug, Default)]
pub struct Account {
    /// Answers that were right.
    pub right: AtomicU64,
    /// Requests without an answer, or with one that says that something broke.
    pub failed: AtomicU64,
    /// Answers that the generation which gave them must not give.
    pub wrong: AtomicU64,
    /// Answers of a generation that did not serve at that time, or of none.
    pub unexplained: AtomicU64,
    samples: Mutex<Vec<String>>,
}

enum Verdict {
    Right,
    Failed(String),
    Wrong(String),
    Unexplained(String),
}

impl Account {
    fn take(&self, verdict: Verdict) {
        let (counter, sample) = match verdict {
            Verdict::Right => (&self.right, None),
            Verdict::Failed(what) => (&self.failed, Some(format!("failed: {what}"))),
            Verdict::Wrong(what) => (&self.wrong, Some(format!("wrong: {what}"))),
            Verdict::Unexplained(what) => (&self.unexplained, Some(format!("unexplained: {what}"))),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(sample) = sample {
            let mut samples = self.samples.lock();
            if samples.len() < SAMPLES_MAX {
                samples.push(sample);
            }
        }
    }

    /// The counts, and details of the first answers that were not right.
    ///
    /// # Errors
    /// When anything but right answers came back, or none at all.
    pub fn settle(&self, name: &str) -> Result<String> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let line = format!(
            "{name}: {} right, {} failed, {} wrong, {} unexplained",
            count(&self.right),
            count(&self.failed),
            count(&self.wrong),
            count(&self.unexplained)
        );
        let bad = count(&self.failed) + count(&self.wrong) + count(&self.unexplained);
        anyhow::ensure!(bad == 0 && count(&self.right) > 0, "{line}\n{}", self.samples.lock().join("\n"));
        Ok(line)
    }
}

/// A client for single requests.
#[derive(Debug, Clone)]
pub struct Probe {
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Probe {
    /// A client without connections.
    #[must_use]
    pub fn new() -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build(HttpConnector::new()) }
    }

    /// The status that a GET is answered with.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn status(&self, url: &str) -> Result<u16> {
        Ok(self.get(url).await?.status().as_u16())
    }

    async fn get(&self, url: &str) -> Result<Response<Bytes>> {
        let (head, body) = self.client.request(Request::get(url).body(Empty::new())?).await?.into_parts();
        Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    }
}

impl Default for Probe {
    fn default() -> Self {
        Self::new()
    }
}

/// Asks a gateway until `stop`, one request after the other.
pub async fn gateway(base: String, policies: Arc<Timeline>, account: Arc<Account>, stop: Arc<AtomicBool>) {
    let probe = Probe::new();
    for path in PATHS.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let began = clock::now();
        let answer = probe.get(&format!("{base}{path}")).await;
        let span = Span { began, ended: clock::now() };
        account.take(match answer {
            Err(error) => Verdict::Failed(format!("{base}{path}: {error:#}")),
            Ok(answer) => judge_answer(path, &answer, span, &policies),
        });
    }
}

fn judge_answer(path: &str, answer: &Response<Bytes>, span: Span, policies: &Timeline) -> Verdict {
    let allowed = match answer.status() {
        StatusCode::OK => true,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => false,
        other => {
            return Verdict::Failed(format!(
                "{path} answered {other}: {}",
                String::from_utf8_lossy(answer.body()).trim()
            ));
        }
    };
    if allowed && !answer.headers().contains_key(NODE_HEADER) {
        return Verdict::Wrong(format!("{path} was answered by no service"));
    }
    let tags: Vec<&str> = answer.headers().get_all(TAG_HEADER).iter().filter_map(|tag| tag.to_str().ok()).collect();
    let [tag] = tags.as_slice() else {
        return Verdict::Unexplained(format!("{path} came back with the tags {tags:?}"));
    };
    judge(path, allowed, tag, span, policies)
}

fn judge(path: &str, allowed: bool, tag: &str, span: Span, policies: &Timeline) -> Verdict {
    let Ok(index) = tag.parse::<usize>() else {
        return Verdict::Unexplained(format!("{path} came back with the tag `{tag}`"));
    };
    if allows(index, path) != allowed {
        return Verdict::Wrong(format!(
            "{path} was {} by generation {index}",
            if allowed { "allowed" } else { "denied" }
        ));
    }
    if !policies.explains(index, span) {
        return Verdict::Unexplained(format!(
            "{path} was answered by generation {index} of {}, which did not serve then",
            policies.len()
        ));
    }
    Verdict::Right
}

/// Asks the daemon itself for decisions until `stop`; its answers also name their generation.
pub async fn decisions(mut clients: Clients, policies: Arc<Timeline>, account: Arc<Account>, stop: Arc<AtomicBool>) {
    for path in PATHS.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let request =
            auth::v1::CheckRequest { action: "GET".to_owned(), target: (*path).to_owned(), ..Default::default() };
        let began = clock::now();
        let answer = clients.auth.check(request).await;
        let span = Span { began, ended: clock::now() };
        account.take(match answer {
            Err(status) => Verdict::Failed(format!("{path}: {} {}", status.code(), status.message())),
            Ok(answer) => judge_decision(path, &answer.into_inner(), span, &policies),
        });
    }
}

fn judge_decision(path: &str, answer: &auth::v1::CheckResponse, span: Span, policies: &Timeline) -> Verdict {
    let allowed = answer.decision() == auth::v1::Decision::Allow;
    let headers = if allowed { &answer.set_headers } else { &answer.response_headers };
    let Some(tag) = headers.iter().find(|header| header.name == TAG_HEADER) else {
        return Verdict::Unexplained(format!("{path} came back without a tag: {}", answer.reason));
    };
    let by_number = policies.by_generation(answer.generation).map(|bound| bound.index.to_string());
    if by_number.as_deref() != Some(tag.value.as_str()) {
        return Verdict::Unexplained(format!(
            "{path}: generation {} is {by_number:?}, its policy says {}",
            answer.generation, tag.value
        ));
    }
    judge(path, allowed, &tag.value, span, policies)
}

/// Asks the router for nodes until `stop`, and reports each pick as finished.
pub async fn picks(
    mut clients: Clients, nodes: Vec<String>, policies: Arc<Timeline>, account: Arc<Account>, stop: Arc<AtomicBool>,
) {
    while !stop.load(Ordering::Relaxed) {
        let request = router::v1::SelectRequest { service: SERVICE.to_owned(), ..Default::default() };
        let began = clock::now();
        let answer = clients.router.select(request).await;
        let span = Span { began, ended: clock::now() };
        let verdict = match answer {
            Err(status) => Verdict::Failed(format!("select: {} {}", status.code(), status.message())),
            Ok(answer) => {
                let answer = answer.into_inner();
                let verdict = judge_pick(&answer, &nodes, span, &policies);
                match report(&mut clients, answer.pick_id).await {
                    Ok(()) => verdict,
                    Err(error) => Verdict::Failed(format!("report: {error:#}")),
                }
            }
        };
        account.take(verdict);
    }
}

fn judge_pick(answer: &router::v1::SelectResponse, nodes: &[String], span: Span, policies: &Timeline) -> Verdict {
    let node = answer.node.as_ref().map(|node| node.id.clone()).unwrap_or_default();
    if !nodes.contains(&node) {
        return Verdict::Wrong(format!("picked `{node}`, which is none of {nodes:?}"));
    }
    match policies.by_generation(answer.generation) {
        None => Verdict::Unexplained(format!("picked by generation {}, which was never bound", answer.generation)),
        Some(bound) if bound.plugin != answer.policy => Verdict::Wrong(format!(
            "generation {} is {}, but {} picked",
            answer.generation, bound.plugin, answer.policy
        )),
        Some(bound) if !policies.explains(bound.index, span) => {
            Verdict::Unexplained(format!("picked by generation {}, which did not serve then", answer.generation))
        }
        Some(_) => Verdict::Right,
    }
}

async fn report(clients: &mut Clients, pick_id: String) -> Result<()> {
    let result = router::v1::PickResult { pick_id, latency_us: 100, success: true };
    let answer = clients.router.report(router::v1::ReportRequest { results: vec![result] }).await?.into_inner();
    anyhow::ensure!(answer.accepted == 1, "the daemon did not know its own pick");
    Ok(())
}

/// The node that the router picks now.
///
/// # Errors
/// When it picks none.
pub async fn pick(clients: &mut Clients) -> Result<String> {
    let request = router::v1::SelectRequest { service: SERVICE.to_owned(), ..Default::default() };
    let answer = clients.router.select(request).await?.into_inner();
    report(clients, answer.pick_id).await?;
    Ok(answer.node.context("a pick without a node")?.id)
}
