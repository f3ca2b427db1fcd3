//! The event capability through gRPC, HTTP/JSON and CloudEvents, with the shipped broker behind it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't be set up has failed"
)]

#[path = "support/server.rs"]
mod server;

use platform_proto::event::v1::{self as proto, events_client::EventsClient};
use serde_json::{Value, json};
use server::{Answer, SERVICE, Server, USER, config, with};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

const STRUCTURED: [(&str, &str); 1] = [("content-type", "application/cloudevents+json")];

async fn started() -> Server {
    let server = Server::start(config()).await;
    server.bind("event.broker", "event-storage", json!({})).await;
    let made = post(&server, "/v1/event/topics", &json!({"name": "orders", "retention": {"count": "1000"}})).await;
    assert_eq!(made.status, 200, "{}", made.text());
    server
}

async fn post(server: &Server, path: &str, body: &Value) -> Answer {
    let json = [("content-type", "application/json")];
    server.http("POST", path, &json, body.to_string().as_bytes(), SERVICE).await
}

async fn get(server: &Server, path: &str) -> Answer {
    server.http("GET", path, &[], b"", SERVICE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_goes_from_publish_to_acknowledgement() {
    let server = started().await;
    let mut client = EventsClient::new(server.channel().await);
    let subscription = post(
        &server,
        "/v1/event/topics/orders/subscriptions",
        &json!({"name": "billing", "start": {"beginning": true}}),
    )
    .await;
    assert_eq!(subscription.value()["deadLetterTopic"], "orders.dead-letter", "{}", subscription.text());
    let event = json!({"type": "order.placed", "id": "o7", "data": "aGVsbG8=", "metadata": {"k": "v"}});
    let published = post(&server, "/v1/event/topics/orders/events", &event).await;
    assert_eq!((published.status, &published.value()["sequence"]), (200, &json!("1")), "{}", published.text());
    assert_eq!(post(&server, "/v1/event/topics/orders/events", &event).await.value()["duplicate"], true);

    let subscribe = proto::SubscribeRequest { topic: "orders".into(), name: "billing".into(), consumer: String::new() };
    let mut deliveries = client.subscribe(with(SERVICE, subscribe)).await.unwrap().into_inner();
    let delivery = deliveries.message().await.unwrap().unwrap();
    let event = delivery.event.unwrap();
    assert_eq!((event.id.as_str(), &event.data[..], event.publisher.as_str()), ("o7", &b"hello"[..], "svc/shop"));
    let ack = json!({"receipts": [{"sequence": "1", "attempt": delivery.attempt}, {"sequence": "9", "attempt": 1}]});
    let settled = post(&server, "/v1/event/topics/orders/subscriptions/billing:ack", &ack).await;
    assert_eq!(settled.value(), json!({"settled": ["1"], "unknown": ["9"]}));

    let batch = json!({"events": [{"type": "a", "root": "o7", "parent": "o7"}, {"type": "b"}]});
    let batch = post(&server, "/v1/event/topics/orders:publish", &batch).await;
    assert_eq!(batch.value()["published"][1]["sequence"], "3", "{}", batch.text());
    assert_eq!(deliveries.message().await.unwrap().unwrap().event.unwrap().sequence, 2);
    drop(deliveries);
    let found = get(&server, "/v1/event/topics/orders/subscriptions/billing").await.value();
    assert_eq!(found["next"], "4");

    let read = get(&server, "/v1/event/topics/orders/events?limit=2").await.value();
    assert_eq!(read["events"].as_array().unwrap().len(), 2);
    let token = read["nextPageToken"].as_str().unwrap();
    let rest = get(&server, &format!("/v1/event/topics/orders/events?limit=2&pageToken={token}")).await.value();
    assert_eq!((&rest["events"][0]["sequence"], &rest["nextPageToken"]), (&json!("3"), &json!("")));
    assert_eq!(get(&server, "/v1/event/topics/orders/events/3").await.value()["type"], "b");
    let tree = get(&server, "/v1/event/roots/o7").await.value();
    assert_eq!((&tree["nodes"][1]["depth"], &tree["cut"]), (&json!(1), &json!(false)));
    let search = get(&server, "/v1/event:search?topic=orders&types=a&types=b&reverse=true").await.value();
    assert_eq!(search["events"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_have_codes_and_reasons() {
    let server = started().await;
    let mut client = EventsClient::new(server.channel().await);
    let missing = client.get_topic(with(SERVICE, proto::GetTopicRequest { name: "none".into() })).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    let again = post(&server, "/v1/event/topics", &json!({"name": "orders"})).await;
    assert_eq!((again.status, again.reason().as_str()), (409, "ALREADY_EXISTS"));
    for (path, body) in [
        ("/v1/event/topics", json!({"name": "../x"})),
        ("/v1/event/topics", json!({"name": "a.>"})),
        ("/v1/event/topics", json!({"name": "x", "retention": {"ageMs": "0"}})),
        ("/v1/event/topics/orders/events", json!({})),
        ("/v1/event/topics/orders:publish", json!({"events": []})),
        ("/v1/event/topics/platform/events", json!({"type": "t"})),
        ("/v1/event/topics/orders/subscriptions", json!({"name": "s", "ackWaitMs": "1"})),
    ] {
        let answer = post(&server, path, &body).await;
        assert_eq!((answer.status, answer.reason().as_str()), (400, "INVALID_ARGUMENT"), "{path} {body}");
    }
    let forged = get(&server, "/v1/event/topics/orders/events?pageToken=AXh4").await;
    assert_eq!((forged.status, forged.reason().as_str()), (400, "INVALID_PAGE_TOKEN"));
    let nothing = get(&server, "/v1/event:search").await;
    assert_eq!(nothing.status, 400, "{}", nothing.text());
    let other = [("x-platform-namespace", "other")];
    let apart = server.http("GET", "/v1/event/topics/orders", &other, b"", server::ADMIN).await;
    assert_eq!((apart.status, apart.reason().as_str()), (404, "NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn cloudevents_come_in_and_what_is_none_is_refused() {
    let server = started().await;
    let event = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"a": 1}});
    let sent = |body: String, token: &'static str| {
        let server = &server;
        async move { server.http("POST", "/cloudevents/orders", &STRUCTURED, body.as_bytes(), token).await }
    };
    let taken = sent(event.to_string(), SERVICE).await;
    assert_eq!(taken.value(), json!({"published": [{"id": "1", "sequence": "1", "duplicate": false}]}));
    let kept = get(&server, "/v1/event/topics/orders/events/1").await.value();
    assert_eq!((&kept["origin"], &kept["publisher"]), (&json!("/s"), &json!("svc/shop")));
    for (body, status) in [
        ("{}".to_owned(), 400),
        ("[".repeat(10_000), 400),
        (
            json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": "x".repeat(1 << 20)})
                .to_string(),
            400,
        ),
        (" ".repeat(13 << 20), 413),
    ] {
        assert_eq!(sent(body, SERVICE).await.status, status);
    }
    assert_eq!(sent(event.to_string(), "").await.status, 401);
    assert_eq!(sent(event.to_string(), USER).await.status, 403);
    let missing = server.http("POST", "/cloudevents/none", &STRUCTURED, event.to_string().as_bytes(), SERVICE).await;
    assert_eq!(missing.status, 404);
    let method = server.http("PUT", "/cloudevents/orders", &[], b"", SERVICE).await;
    assert_eq!((method.status, method.header("allow")), (405, Some("GET, POST")));
    assert_eq!(get(&server, "/v1/event/topics/orders").await.value()["last"], "1", "nothing else was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_the_daemon() {
    let mut server = started().await;
    let event = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"});
    server.http("POST", "/cloudevents/orders", &STRUCTURED, event.to_string().as_bytes(), SERVICE).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "GET /cloudevents/orders?from=1 HTTP/1.1\r\nhost: platform\r\nconnection: close\r\nauthorization: Bearer {SERVICE}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("id: 1\ndata: {") {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "{}", String::from_utf8_lossy(&seen));
    }
    server.begin_stop();
    stream.read_to_end(&mut seen).await.unwrap();
    let text = String::from_utf8_lossy(&seen);
    assert!(text.contains("content-type: text/event-stream"), "{text}");
    assert!(text.contains("event: error\ndata: ") && text.contains("SHUTTING_DOWN"), "{text}");
    assert_eq!(server.stop().await, 0);
}
