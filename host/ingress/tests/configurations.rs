//! The config capability through gRPC and HTTP/JSON, with the shipped store behind it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't be set up has failed"
)]

#[path = "support/server.rs"]
mod server;

use platform_dataplane::{SecretKey, SecretsConfig};
use platform_ingress::StaticToken;
use platform_proto::config::v1::{self as proto, config_client::ConfigClient, watch_event};
use serde_json::{Value, json};
use server::{ADMIN, Answer, SERVICE, Server, config, with};
use tonic::Code;
use tonic_types::StatusExt;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

async fn started() -> Server {
    let server = Server::start(config()).await;
    server.bind("config.store", "config-storage", json!({})).await;
    server
}

async fn put(server: &Server, path: &str, body: &str) -> Answer {
    server.http("PUT", path, &JSON, body.as_bytes(), SERVICE).await
}

async fn read(server: &Server, path: &str) -> Value {
    let answer = server.http("GET", path, &[], b"", SERVICE).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.value()
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_json_in_json_and_text_in_grpc() {
    let server = started().await;
    let mut client = ConfigClient::new(server.channel().await);
    let set =
        put(&server, "/v1/config/shop?comment=first", r#"{"limits": {"requests": 10}, "big": 18446744073709551615}"#)
            .await;
    assert_eq!(set.status, 200, "{}", set.text());
    let version = &set.value()["version"];
    assert_eq!(
        (&version["number"], &version["author"], &version["comment"]),
        (&json!("1"), &json!("svc/shop"), &json!("first"))
    );
    assert_eq!(set.value()["changed"], true);

    let got = read(&server, "/v1/config/shop").await;
    assert_eq!(got["value"], json!({"big": 18_446_744_073_709_551_615_u64, "limits": {"requests": 10}}));
    assert_eq!(read(&server, "/v1/config/shop?path=/limits/requests").await["value"], 10);
    let get = proto::GetRequest { id: "shop".into(), path: "/limits".into(), ..Default::default() };
    let reading = client.get(with(SERVICE, get)).await.unwrap().into_inner();
    assert_eq!(reading.value, r#"{"requests":10}"#);

    let merged = server
        .http(
            "PATCH",
            "/v1/config/shop",
            &[("content-type", "application/merge-patch+json")],
            br#"{"big":null}"#,
            SERVICE,
        )
        .await;
    assert_eq!(merged.value()["version"]["number"], "2", "{}", merged.text());
    let same = put(&server, "/v1/config/shop?path=/limits/requests", "10").await.value();
    assert_eq!((&same["changed"], &same["version"]["number"]), (&json!(false), &json!("2")));

    // The same refusal in both forms.
    let stale = put(&server, "/v1/config/shop?path=/a&ifVersion=1", "1").await;
    assert_eq!((stale.status, stale.reason()), (409, "CONFLICT".into()));
    assert_eq!(stale.value()["metadata"]["version"], "2");
    let stale = proto::SetRequest { id: "shop".into(), value: "1".into(), if_version: Some(1), ..Default::default() };
    let status = client.set(with(SERVICE, stale)).await.unwrap_err();
    assert_eq!(
        (status.code(), status.get_details_error_info().unwrap().metadata["version"].as_str()),
        (Code::Aborted, "2")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_told_compared_and_brought_back() {
    let server = started().await;
    for value in 1..=3 {
        put(&server, "/v1/config/shop?path=/a", &value.to_string()).await;
    }
    put(&server, "/v1/config/other", "null").await;
    let history = read(&server, "/v1/config/shop:history?from=2&limit=1").await;
    let version = &history["versions"][0];
    assert_eq!((&version["number"], &version["action"]), (&json!("2"), &json!("ACTION_SET")));
    assert_eq!(version["difference"], json!([{"op": "replace", "path": "/a", "value": 2}]));
    let token = history["nextPageToken"].as_str().unwrap();
    let next = read(&server, &format!("/v1/config/shop:history?from=2&limit=1&pageToken={token}")).await;
    assert_eq!(next["versions"][0]["number"], "3");
    let newest = read(&server, "/v1/config/shop:history?reverse=true").await;
    let numbers: Vec<_> =
        newest["versions"].as_array().unwrap().iter().map(|version| version["number"].clone()).collect();
    assert_eq!(numbers, [json!("3"), json!("2"), json!("1")]);

    let (mut audit, mut token) = (Vec::new(), String::new());
    loop {
        let page =
            read(&server, &format!("/v1/config:audit?limit=3&from=2020-01-01T00:00:00Z&pageToken={token}")).await;
        audit.extend(page["versions"].as_array().unwrap().iter().map(|version| version["id"].clone()));
        token = page["nextPageToken"].as_str().unwrap().to_owned();
        if token.is_empty() {
            break;
        }
    }
    // Within a millisecond they come in the order of their names.
    audit.sort_by_key(ToString::to_string);
    assert_eq!(audit, [json!("other"), json!("shop"), json!("shop"), json!("shop")]);
    assert_eq!(read(&server, "/v1/config:audit?to=2020-01-01T00:00:00Z").await["versions"], json!([]));

    let diff = read(&server, "/v1/config/shop:diff?from=1").await;
    assert_eq!(diff, json!({"from": "1", "to": "3", "patch": [{"op": "replace", "path": "/a", "value": 3}]}));
    let back =
        server.http("POST", "/v1/config/shop:rollback", &JSON, br#"{"version": 1, "comment": "oops"}"#, SERVICE).await;
    assert_eq!(back.value()["version"]["restores"], "1", "{}", back.text());
    let gone = server.http("DELETE", "/v1/config/shop", &[], b"", SERVICE).await;
    assert_eq!(gone.value()["version"]["deleted"], true, "{}", gone.text());
    let missing = server.http("GET", "/v1/config/shop", &[], b"", SERVICE).await;
    assert_eq!((missing.status, missing.reason()), (404, "CONFIG_NOT_FOUND".into()));
    assert_eq!(read(&server, "/v1/config").await["configurations"].as_array().unwrap().len(), 1);
    assert_eq!(read(&server, "/v1/config?deleted=true&prefix=sh").await["configurations"][0]["id"], "shop");
    assert_eq!(read(&server, "/v1/config/shop?version=3").await["value"], json!({"a": 3}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_the_value_at_its_path() {
    let server = started().await;
    put(&server, "/v1/config/shop", r#"{"a": 1, "b": 1}"#).await;
    let mut client = ConfigClient::new(server.channel().await);
    let watch = proto::WatchRequest { id: "shop".into(), path: Some("/a".into()), ..Default::default() };
    let mut events = client.watch(with(SERVICE, watch)).await.unwrap().into_inner();
    put(&server, "/v1/config/shop?path=/b", "2").await;
    put(&server, "/v1/config/shop?path=/a", "[2]").await;
    server.http("DELETE", "/v1/config/shop", &[], b"", SERVICE).await;
    let mut values = Vec::new();
    while values.len() < 2 {
        if let Some(watch_event::Event::Changed(changed)) = events.message().await.unwrap().unwrap().event {
            values.push((changed.version.unwrap().number, changed.value));
        }
    }
    assert_eq!(values, [(3, Some("[2]".into())), (4, None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_in_both_forms() {
    let server = started().await;
    let deep = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    let mut client = ConfigClient::new(server.channel().await);
    for (path, body, status, reason) in [
        ("/v1/config/shop", deep.as_str(), 400, "TOO_LARGE"),
        ("/v1/config/shop", &large, 400, "TOO_LARGE"),
        ("/v1/config/shop", "", 400, "INVALID_ARGUMENT"),
        ("/v1/config/shop", "{", 400, "INVALID_ARGUMENT"),
        ("/v1/config/shop?path=a.b", "1", 400, "INVALID_ARGUMENT"),
        ("/v1/config/..%2Fx", "1", 400, "INVALID_ARGUMENT"),
        ("/v1/config/shop?ifVersion=-1", "1", 400, "INVALID_PARAMETER"),
        ("/v1/config/shop?ifVersion=7", "1", 409, "CONFLICT"),
        ("/v1/config/shop?comments=7", "1", 400, "UNKNOWN_PARAMETER"),
    ] {
        let answer = put(&server, path, body).await;
        assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{path}: {}", answer.text());
    }
    let set = proto::SetRequest { id: "shop".into(), value: deep, ..Default::default() };
    let status = client.set(with(SERVICE, set)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    for (path, status, reason) in [
        ("/v1/config/shop", 404, "CONFIG_NOT_FOUND"),
        ("/v1/config/shop:history", 404, "CONFIG_NOT_FOUND"),
        ("/v1/config/shop:history?pageToken=AXg", 400, "INVALID_PAGE_TOKEN"),
        ("/v1/config:audit?pageToken=AXg", 400, "INVALID_ARGUMENT"),
        ("/v1/config:watch?id=shop&afterRevision=99", 400, "INVALID_ARGUMENT"),
        ("/v1/config?limit=1001", 400, "INVALID_LIMIT"),
    ] {
        let answer = server.http("GET", path, &[], b"", SERVICE).await;
        // A stream begins before its first read fails.
        let told = if answer.status == 200 {
            answer.text().contains(reason)
        } else {
            answer.status == status && answer.reason() == reason
        };
        assert!(told, "{path}: {} {}", answer.status, answer.text());
    }
    let elsewhere = server.http("GET", "/v1/config/shop", &[("x-platform-namespace", "prod")], b"", SERVICE).await;
    assert_eq!(elsewhere.reason(), "NAMESPACE_DENIED");
    let other = [("content-type", "application/json"), ("x-platform-namespace", "prod")];
    server.http("PUT", "/v1/config/shop", &other, b"1", ADMIN).await;
    assert_eq!(server.http("GET", "/v1/config/shop", &[], b"", SERVICE).await.status, 404, "namespaces are apart");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_revealed_to_those_who_may_and_ask() {
    let mut config = config();
    let seer =
        StaticToken { roles: vec!["config-secrets".into()], ..StaticToken::new("svc/seer", "the-seers-token-x") };
    config.identity.tokens.push(seer);
    let server = Server::start(config).await;
    server.bind("config.store", "config-storage", json!({})).await;
    let missing = put(&server, "/v1/config/shop?path=/password&secret=true", "\"hunter2\"").await;
    assert_eq!((missing.status, missing.reason()), (400, "SECRET_KEY_UNAVAILABLE".into()), "{}", missing.text());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "0a".repeat(32)).unwrap();
    let id: platform_capability::Name = "k1".parse().unwrap();
    let key = SecretKey { id: id.clone(), file: Some(folder.path().join("key")), env: None };
    server.plane.configurations().use_keys(SecretsConfig { key: Some(id), keys: vec![key] }.build());
    let set = put(&server, "/v1/config/shop?path=/password&secret=true", "\"hunter2\"").await;
    assert_eq!(set.status, 200, "{}", set.text());
    let mark = read(&server, "/v1/config/shop").await["value"]["password"]["$secret"].clone();
    assert!(mark.as_str().unwrap().starts_with("k1:"), "{mark}");
    let denied = server.http("GET", "/v1/config/shop?reveal=true", &[], b"", SERVICE).await;
    assert_eq!((denied.status, denied.reason()), (403, "REVEAL_DENIED".into()));
    for token in ["the-seers-token-x", ADMIN] {
        let revealed = server.http("GET", "/v1/config/shop?reveal=true", &[], b"", token).await;
        assert_eq!(revealed.value()["value"], json!({"password": "hunter2"}), "{}", revealed.text());
        assert!(!server.http("GET", "/v1/config/shop", &[], b"", token).await.text().contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_is_staged_and_decided_on() {
    let server = started().await;
    put(&server, "/v1/config/shop", r#"{"a": 1}"#).await;
    let post = async |path: &str, body: &str| server.http("POST", path, &JSON, body.as_bytes(), SERVICE).await;
    let staged = post("/v1/config/shop:stage?path=/a&percent=100", "2").await;
    assert_eq!(staged.value()["version"]["stagedPercent"], 100, "{}", staged.text());
    let (document, candidate) =
        (read(&server, "/v1/config/shop").await, read(&server, "/v1/config/shop?instance=n1").await);
    assert_eq!((&document["value"]["a"], &document["candidate"]), (&json!(1), &json!(false)));
    assert_eq!((&candidate["value"]["a"], &candidate["candidate"]), (&json!(2), &json!(true)));
    let pending = put(&server, "/v1/config/shop", "{}").await;
    assert_eq!((pending.status, pending.reason()), (400, "CANDIDATE_PENDING".into()));
    let promoted = post("/v1/config/shop:promote", "{}").await;
    assert_eq!(promoted.value()["version"]["action"], "ACTION_PROMOTE", "{}", promoted.text());
    let late = post("/v1/config/shop:abort", "{}").await;
    assert_eq!((late.status, late.reason()), (400, "NO_CANDIDATE".into()));
    assert_eq!(read(&server, "/v1/config/shop").await["value"], json!({"a": 2}));
}
