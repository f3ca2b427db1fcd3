//! What the front doors tell of the platform, what they refuse, and how they close.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't be set up has failed"
)]

#[path = "support/server.rs"]
mod server;

use platform_ingress::{Config, IngressError};
use platform_proto::kv::v1::{self as kv, kv_client::KvClient};
use serde_json::json;
use server::{ADMIN, SERVICE, Server, config, with};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

#[tokio::test(flavor = "multi_thread")]
async fn health_metrics_and_the_document_are_open_here() {
    let server = Server::start(config()).await;
    server.bind("kv.store", "kv-storage", json!({})).await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    let mut health = HealthClient::new(server.channel().await);
    for service in ["", "platform.kv.v1.Kv"] {
        let request = HealthCheckRequest { service: service.into() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1, "{service}");
    }
    let unknown = health.check(HealthCheckRequest { service: "nobody".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);

    let text = server.get("/metrics").await;
    assert!(text.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = text.text();
    assert!(
        text.contains("platform_requests_total{method=\"/platform.plugin.v1.Plugins/Bind\",code=\"OK\"} 1\n"),
        "{text}"
    );
    assert!(text.contains("platform_slot_generation{slot=\"kv.store\"} 1\n"), "{text}");
    let open = server.http("GET", "/metrics", &[("accept", "application/openmetrics-text")], b"", "").await;
    assert!(open.text().ends_with("# EOF\n"));

    let document = server.get("/openapi.json").await.value();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/v1/kv/{key}"]["put"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_tells_every_service_in_both_versions() {
    use tonic_reflection::pb::{v1, v1alpha};
    let server = Server::start(config()).await;
    let channel = server.channel().await;
    let ask = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream_of(ask)).await.unwrap().into_inner();
    let answer = format!("{:?}", answers.message().await.unwrap().unwrap());
    for service in ["platform.kv.v1.Kv", "platform.plugin.v1.Plugins", "grpc.health.v1.Health"] {
        assert!(answer.contains(service), "{service}");
    }
    let ask = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            "platform.kv.v1.Kv".into(),
        )),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(tokio_stream_of(ask)).await.unwrap().into_inner();
    let answer = format!("{:?}", answers.message().await.unwrap().unwrap());
    assert!(answer.contains("FileDescriptorResponse"), "{answer}");
}

fn tokio_stream_of<T: Send + 'static>(item: T) -> impl futures::Stream<Item = T> + Send + 'static {
    futures::stream::iter([item])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_tells_its_settings_and_status_to_administrators() {
    let server = Server::start(config()).await;
    let status = server.http("GET", "/v1/server/status", &[], b"", ADMIN).await.value();
    assert_eq!((status["version"].as_str(), status["ready"].as_bool()), (Some("0.1.0"), Some(true)));
    assert_eq!(server.http("GET", "/v1/server/settings", &[], b"", ADMIN).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_get_clear_answers() {
    let mut config = config();
    config.limits.request_bytes = 4096;
    let server = Server::start(config).await;
    let json = [("content-type", "application/json")];
    let large = vec![b' '; 5000];
    for (method, path, headers, body, status, reason) in [
        ("GET", "/nowhere", &[][..], &b""[..], 404, "NO_SUCH_PATH"),
        ("PATCH", "/v1/kv/a", &[], b"", 405, "METHOD_NOT_ALLOWED"),
        ("PUT", "/v1/kv/a", &json, b"{", 400, "INVALID_JSON"),
        ("PUT", "/v1/kv/a", &json, b"{\"valeu\":1}", 400, "INVALID_JSON"),
        ("PUT", "/v1/kv/a", &[("content-type", "text/html")], b"x", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ("PUT", "/v1/kv/a", &json, &large, 413, "REQUEST_TOO_LARGE"),
        ("GET", "/v1/kv?limit=x", &[], b"", 400, "INVALID_PARAMETER"),
        ("GET", "/v1/kv/%ff", &[], b"", 400, "INVALID_PATH"),
        ("GET", "/v1/kv/a", &[("x-request-timeout", "soon")], b"", 400, "INVALID_TIMEOUT"),
        ("GET", "/v1/kv/a", &[("x-platform-namespace", "a/b")], b"", 400, "INVALID_NAMESPACE"),
    ] {
        let answer = server.http(method, path, headers, body, SERVICE).await;
        assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{method} {path}");
    }
    let many = "a".repeat(100_000);
    assert_eq!(server.http("GET", "/livez", &[("x-many", &many)], b"", "").await.status, 431);
    assert_eq!(server.raw(b"NONSENSE\r\n\r\n").await.status, 400);
    let web = server.http("POST", "/platform.kv.v1.Kv/Get", &[("content-type", "application/grpc-web")], b"", SERVICE);
    assert_eq!(web.await.status, 415);
    let mut client = KvClient::new(server.channel().await);
    let put = kv::PutRequest { key: "a".into(), value: large.into(), ..Default::default() };
    assert_eq!(client.put(with(SERVICE, put)).await.unwrap_err().code(), Code::OutOfRange);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_named() {
    let server = Server::start(config()).await;
    let taken = Config { address: server.address.to_string(), ..config() };
    let parts = platform_ingress::Parts {
        plane: server.plane.clone(),
        control: server.control.clone(),
        webhooks: server.webhooks.clone(),
        marketplace: None,
        about: platform_ingress::About::default(),
    };
    let error = taken.build(parts).await.unwrap_err();
    assert!(
        matches!(&error, IngressError::AddressInUse { address } if *address == server.address.to_string()),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_over_http_comes_line_by_line() {
    let server = Server::start(config()).await;
    server.bind("kv.store", "kv-storage", json!({})).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "GET /v1/kv:watch?prefix=w HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {SERVICE}\r\naccept: text/event-stream\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, "\"progress\"").await;
    assert!(seen.contains("text/event-stream"), "{seen}");
    let put = server.http("PUT", "/v1/kv/w", &[], b"{\"value\":\"aGk=\"}", SERVICE).await;
    assert_eq!(put.status, 200, "{}", put.text());
    read_until(&mut stream, &mut seen, "data: {\"put\":{\"key\":\"w\",\"value\":\"aGk=\"").await;
    // A drain ends the stream, and says why in the stream itself.
    server.begin_stop();
    read_until(&mut stream, &mut seen, "SHUTTING_DOWN").await;
}

async fn read_until(stream: &mut TcpStream, seen: &mut String, text: &str) {
    let read = async {
        let mut buffer = [0; 4096];
        while !seen.contains(text) {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the stream ended without `{text}`: {seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    };
    let soon = std::time::Duration::from_secs(20);
    tokio::time::timeout(soon, read).await.unwrap_or_else(|_| panic!("no `{text}`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_streams_finishes_requests_and_cuts_nobody() {
    let mut server = Server::start(config()).await;
    server.bind("kv.store", "kv-storage", json!({})).await;
    let mut client = KvClient::new(server.channel().await);
    let mut events = client.watch(with(SERVICE, kv::WatchRequest::default())).await.unwrap().into_inner();
    events.message().await.unwrap().unwrap();
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    read_until(&mut idle, &mut seen, "ok\n").await;

    let address = server.address;
    let cut = server.stop().await;
    assert_eq!(cut, 0);
    let ended = events.message().await.unwrap_err();
    assert_eq!((ended.code(), ended.message()), (Code::Unavailable, "the platform is shutting down: connect again"));
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_in_number_and_time() {
    let mut config = config();
    config.limits.watches_max = 1;
    let server = Server::start(config).await;
    server.bind("kv.store", "kv-storage", json!({})).await;
    let mut client = KvClient::new(server.channel().await);
    let mut timed = with(SERVICE, kv::WatchRequest::default());
    timed.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let mut first = client.watch(timed).await.unwrap().into_inner();
    let second = client.watch(with(SERVICE, kv::WatchRequest::default())).await.unwrap_err();
    assert_eq!(second.code(), Code::ResourceExhausted);
    let ended = loop {
        match first.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::DeadlineExceeded);
    drop(first);
    let again = async {
        // The server lets go of the stream a moment after its last message.
        while client.watch(with(SERVICE, kv::WatchRequest::default())).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), again).await.expect("the place is never free again");
}
