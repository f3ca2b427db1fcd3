//! What every component for `auth.policy` promises, whatever it decides.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use platform_capability::{Call, auth::Facts};
use platform_dataplane::Verdict;

use crate::{Check, Checked, Failure, Subject, checks, outcome::same};

pub(crate) const SUITE: &[Check] = checks! {
    "answers" "every question gets a decision, whatever the request holds" answers,
    "repeatable" "the same question gets the same decision, whatever was asked between" repeatable,
    "concurrent" "questions that come at the same time get the decisions that they get alone" concurrent,
};

/// What a question is made of.
#[derive(Debug, Clone)]
struct Question {
    subject: &'static str,
    roles: &'static [&'static str],
    action: &'static str,
    target: String,
    facts: Arc<Text>,
}

/// The same text for every header and attribute; none when it is empty.
#[derive(Debug, Default)]
struct Text(String);

impl Facts for Text {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.attribute(name)
    }

    fn attribute(&self, _name: &str) -> Option<Cow<'_, str>> {
        (!self.0.is_empty()).then(|| self.0.as_str().into())
    }

    /// Nothing is kept of what a check asks.
    fn headers(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn attributes(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
}

fn questions() -> Vec<Question> {
    let plain = |subject, roles, action, target: &str| Question {
        subject,
        roles,
        action,
        target: target.to_owned(),
        facts: Arc::default(),
    };
    let mut questions = vec![
        plain("", &[], "GET", "/"),
        plain("", &[], "", ""),
        plain("alice", &["admin"], "GET", "/orders/7"),
        plain("alice", &["admin", "", "*"], "DELETE", "/orders/../admin//x/%2e%2e/"),
        plain("svc/checkout", &["reader"], "kv.get", "secrets/key"),
        plain("\u{202e}\u{1f600}'\"<>", &["\u{0}"], "\u{0}\n", "\\..\\\u{ffff}"),
        plain("**", &["**"], "**", "**/{a,b}/[!x]/(?:.*)*"),
    ];
    for facts in ["1".to_owned(), "{\"a\":".to_owned(), "\u{1f600}, ".repeat(2000), "[".repeat(4000)] {
        questions.push(Question { facts: Arc::new(Text(facts)), ..plain("bob", &["user"], "POST", "/pay") });
    }
    questions.push(plain("a", &["b"], "PUT", &"/very/long".repeat(800)));
    questions.push(plain("a", &["b"], "PUT", &format!("/{}", "a*".repeat(2000))));
    questions
}

impl Question {
    fn call(&self, subject: &Subject) -> Call {
        if self.subject.is_empty() { subject.call() } else { subject.call_of(self.subject, self.roles) }
    }

    async fn ask(&self, subject: &Subject) -> Result<Verdict, Failure> {
        let facts: Arc<dyn Facts> = self.facts.clone();
        let verdict = subject.plane().auth().check(&self.call(subject), None, self.action, &self.target, facts).await;
        match verdict.fault {
            None => Ok(verdict),
            Some(fault) => Err(Failure::new(format!("{} got no decision: {fault}: {}", self.tell(), verdict.reason))),
        }
    }

    /// The question in a few words.
    fn tell(&self) -> String {
        let target: String = self.target.chars().take(40).collect();
        let facts: String = self.facts.0.chars().take(20).collect();
        format!("`{:?}` by {:?} on {target:?} with facts {facts:?}", self.action, self.subject)
    }
}

async fn answers(subject: Subject) -> Checked {
    for question in questions() {
        question.ask(&subject).await?;
    }
    Ok(())
}

async fn repeatable(subject: Subject) -> Checked {
    let questions = questions();
    let mut first = Vec::new();
    for question in &questions {
        first.push(question.ask(&subject).await?);
    }
    for (question, expected) in questions.iter().zip(&first).rev() {
        same(&question.ask(&subject).await?, expected, &question.tell())?;
    }
    Ok(())
}

async fn concurrent(subject: Subject) -> Checked {
    let questions = questions();
    let mut alone = Vec::new();
    for question in &questions {
        alone.push(question.ask(&subject).await?);
    }
    for _ in 0..8 {
        let together = futures::future::try_join_all(questions.iter().map(|question| question.ask(&subject))).await?;
        for ((question, found), expected) in questions.iter().zip(&together).zip(&alone) {
            same(found, expected, &question.tell())?;
        }
    }
    Ok(())
}
