//! Makes configurations of what a URL answers: the configuration `id`, or without it one for each member of the object that
//! comes. The settings are `{"url": "https://settings.internal/shop", "id": "shop"}`, and the grant is
//! `network:settings.internal:443`.
//!
//! It asks again when `every_ms` has passed, and says what it has (`If-None-Match`, RFC 9110).

#[cfg(target_arch = "wasm32")]
mod request;

use std::collections::BTreeMap;

use platform_sdk::{Problem, config, context};
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Where to ask, with `http` or `https`.
    url: String,
    /// Name of the configuration; without it the members of the answer are configurations.
    #[serde(default)]
    id: Option<String>,
    /// Headers to send.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Time after which the URL is asked again, in milliseconds.
    #[serde(default = "every_ms")]
    every_ms: u64,
    /// Longest time for an answer, in milliseconds.
    #[serde(default = "timeout_ms")]
    timeout_ms: u64,
}

fn every_ms() -> u64 {
    30_000
}

fn timeout_ms() -> u64 {
    3_000
}

/// The URL, in the parts that a request has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    is_secure: bool,
    authority: String,
    path: String,
}

struct Remote {
    settings: Settings,
    target: Target,
    heard: Option<Heard>,
}

/// The last answer.
struct Heard {
    /// When, unix time in milliseconds.
    at_ms: u64,
    tag: Option<String>,
    documents: Vec<config::Document>,
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    tag: Option<String>,
    body: Vec<u8>,
}

platform_sdk::export!(
    config::Source for Remote,
    mode = "single",
    grants = ["wasi"],
    settings_schema = include_str!("../settings.schema.json"),
);

impl config::Source for Remote {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Problem> {
        let target = target(&settings.url).map_err(|why| Problem::new(why).at("/url"))?;
        if let Some(id) = &settings.id {
            config::check_id(id).map_err(|error| Problem::new(format!("{error:?}")).at("/id"))?;
        }
        Ok(Self { settings, target, heard: None })
    }

    fn load(&mut self) -> Result<Vec<config::Document>, String> {
        let is_fresh = |heard: &&Heard| context::time_ms().saturating_sub(heard.at_ms) < self.settings.every_ms;
        if let Some(heard) = self.heard.as_ref().filter(is_fresh) {
            return Ok(heard.documents.clone());
        }
        let tag = self.heard.as_ref().and_then(|heard| heard.tag.as_deref());
        let answer = ask(&self.target, &self.settings, tag).map_err(|why| self.about(&why))?;
        self.hear(answer).map_err(|why| self.about(&why))
    }
}

impl Remote {
    fn about(&self, why: &str) -> String {
        format!("`{}`: {why}", self.settings.url)
    }

    /// What an answer makes of what was known.
    fn hear(&mut self, answer: Answer) -> Result<Vec<config::Document>, String> {
        if let (304, Some(heard)) = (answer.status, &mut self.heard) {
            heard.at_ms = context::time_ms();
            return Ok(heard.documents.clone());
        }
        if answer.status != 200 {
            return Err(format!("it answered with status {}, not 200", answer.status));
        }
        let content: Value =
            serde_json::from_slice(&answer.body).map_err(|error| format!("the answer is no JSON: {error}"))?;
        let documents = match (&self.settings.id, content) {
            (Some(id), content) => vec![config::Document::new(id, &content)?],
            (None, Value::Object(members)) => {
                members.iter().map(|(id, content)| config::Document::new(id, content)).collect::<Result<_, _>>()?
            }
            (None, _) => return Err("the answer is no object; name the configuration with the setting `id`".into()),
        };
        self.heard = Some(Heard { at_ms: context::time_ms(), tag: answer.tag, documents: documents.clone() });
        Ok(documents)
    }
}

/// The parts of a URL.
fn target(url: &str) -> Result<Target, String> {
    let (is_secure, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Err("a URL begins with `https://` or `http://`".into()),
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() || authority.contains('@') || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("a URL names a host, and no user; a token goes into the setting `headers`".into());
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(Target { is_secure, authority: authority.to_owned(), path })
}

#[cfg(target_arch = "wasm32")]
fn ask(target: &Target, settings: &Settings, tag: Option<&str>) -> Result<Answer, String> {
    request::get(target, settings, tag)
}

/// Only a host has HTTP for its guests.
#[cfg(not(target_arch = "wasm32"))]
fn ask(_: &Target, settings: &Settings, _: Option<&str>) -> Result<Answer, String> {
    Err(format!("nothing can be asked here, after {:?} or within {}", settings.headers, settings.timeout_ms))
}

#[cfg(test)]
mod tests;
