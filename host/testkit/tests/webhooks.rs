//! Webhooks of daemons that share a storage, against a server that counts.

#![expect(clippy::unwrap_used, reason = "what a test can't set up has failed")]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use platform_base::{TaskGroup, clock};
use platform_capability::{
    SlotKind,
    event::{Start, SubscriptionSettings, TopicSettings},
};
use platform_dataplane::NewEvent;
use platform_testkit::{Fixture, alone, call, component, plugin};
use platform_webhook::{Config, NewWebhook, Parts, Webhooks};
use tokio::net::TcpListener;

const EVENTS: usize = 40;
/// Far more than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A target; what it was posted.
async fn target(tasks: &TaskGroup) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (told, group) = (Arc::clone(&seen), tasks.clone());
    tasks.spawn_until_cancelled("target", async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let told = Arc::clone(&told);
            group.spawn_until_cancelled("connection", async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let told = Arc::clone(&told);
                    async move {
                        let id = request.headers()["ce-id"].to_str().unwrap().to_owned();
                        request.into_body().collect().await.unwrap();
                        told.lock().unwrap().push(id);
                        Ok::<_, Infallible>(Response::new(Empty::<hyper::body::Bytes>::new()))
                    }
                });
                // A client that leaves is no matter.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (url, seen)
}

fn daemon(fixture: &Fixture) -> (Arc<Webhooks>, TaskGroup) {
    let tasks = TaskGroup::new();
    let config = Config { networks: vec!["127.0.0.0/8".parse().unwrap()], plain_http: true, ..Config::default() };
    let webhooks = Webhooks::new(Parts {
        plane: Arc::clone(&fixture.plane),
        storage: Arc::clone(&fixture.storage),
        tasks: tasks.clone(),
        config,
        shared: true,
    });
    webhooks.start();
    (webhooks, tasks)
}

async fn publish(fixture: &Fixture, round: usize) {
    for number in 0..EVENTS {
        let event = NewEvent { id: format!("{round}-{number}"), kind: "t".to_owned(), ..NewEvent::default() };
        fixture.plane.event().publish(&call(), "orders", vec![event]).await.unwrap();
    }
}

fn delivered(webhooks: &Webhooks) -> u64 {
    webhooks.all().iter().map(|one| one.progress.delivered).sum()
}

async fn wait_for(mut ready: impl FnMut() -> bool) {
    let deadline = clock::now() + PATIENCE;
    while !ready() {
        assert!(clock::now() < deadline, "waited too long");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_them_delivers_and_another_when_it_is_gone() {
    let fixture = Fixture::new();
    let broker = plugin(SlotKind::EventBroker, "event-storage", &component("plugins", "event-storage"), &["storage"]);
    fixture.bind("event.broker", alone(broker)).await;
    let events = fixture.plane.event();
    let keeps = TopicSettings { age_ms: None, count: None, bytes: None, window_ms: 60_000 };
    events.put_topic(&call(), "orders", keeps, true).await.unwrap();
    let settings = SubscriptionSettings {
        types: Vec::new(),
        fan_out: false,
        ack_wait_ms: 30_000,
        deliveries_max: 3,
        dead_letter: "dead".to_owned(),
        pending_max: 100,
    };
    events.create_subscription(&call(), "orders", "billing", Start::Beginning, &settings).await.unwrap();
    let tasks = TaskGroup::new();
    let (url, seen) = target(&tasks).await;
    let (one, ones) = daemon(&fixture);
    let (other, others) = daemon(&fixture);
    let new = NewWebhook { url, unsigned: true, ..NewWebhook::default() };
    one.create(&call(), "orders", "billing", new).await.unwrap();

    publish(&fixture, 0).await;
    wait_for(|| delivered(&one) + delivered(&other) == EVENTS as u64).await;
    let first_delivers = delivered(&one) > 0;
    assert!(!first_delivers || delivered(&other) == 0, "one delivers, the other waits");
    assert_eq!(seen.lock().unwrap().len(), EVENTS, "each event once");

    let (gone, left) = if first_delivers { (ones, &other) } else { (others, &one) };
    assert!(gone.join(PATIENCE).await.is_empty());
    publish(&fixture, 1).await;
    wait_for(|| delivered(left) == EVENTS as u64).await;
    let mut ids = seen.lock().unwrap().clone();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 2 * EVENTS);
}
