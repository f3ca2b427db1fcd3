//! The capabilities through gRPC and HTTP/JSON, with the shipped components behind them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't be set up has failed"
)]

#[path = "support/server.rs"]
mod server;

use std::time::Duration;

use platform_proto::{
    kv::v1::{self as kv, kv_client::KvClient, watch_event},
    plugin::v1::{self as plugin, plugins_client::PluginsClient},
    router::v1::{self as router, router_client::RouterClient},
};
use serde_json::json;
use server::{ADMIN, SERVICE, Server, USER, config, with};
use tonic::Code;
use tonic_types::StatusExt;

#[tokio::test(flavor = "multi_thread")]
async fn kv_is_the_same_over_grpc_and_json() {
    let server = Server::start(config()).await;
    server.bind("kv.store", "kv-storage", json!({})).await;
    let mut client = KvClient::new(server.channel().await);

    let put = kv::PutRequest { key: "a/b".into(), value: "hi".into(), ..Default::default() };
    let first = client.put(with(SERVICE, put.clone())).await.unwrap().into_inner().revision;
    let got = server.http("GET", "/v1/kv/a/b", &[], b"", SERVICE).await;
    assert_eq!((got.status, got.value()["value"].as_str()), (200, Some("aGk=")));
    assert_eq!(got.value()["revision"], first.to_string());
    let raw = server.http("GET", "/v1/kv/a%2Fb", &[("accept", "application/octet-stream")], b"", SERVICE).await;
    assert_eq!(raw.body, b"hi");

    let octets = [("content-type", "application/octet-stream")];
    let put = server.http("PUT", &format!("/v1/kv/a/b?ifRevision={first}"), &octets, b"\xff\0", SERVICE).await;
    assert_eq!(put.status, 200, "{}", put.text());
    let got = client.get(with(SERVICE, kv::GetRequest { key: "a/b".into() })).await.unwrap().into_inner();
    assert_eq!(&got.value[..], b"\xff\0");

    // The same refusal in both forms.
    let stale = kv::PutRequest {
        key: "a/b".into(),
        condition: Some(kv::put_request::Condition::IfRevision(first)),
        ..Default::default()
    };
    let status = client.put(with(SERVICE, stale)).await.unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!((status.code(), info.reason.as_str(), info.domain.as_str()), (Code::Aborted, "CONFLICT", "platform"));
    assert_eq!(info.metadata["revision"], got.revision.to_string());
    let refused = server.http("PUT", &format!("/v1/kv/a/b?ifRevision={first}"), &octets, b"", SERVICE).await;
    assert_eq!((refused.status, refused.reason()), (409, "CONFLICT".into()));
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert_eq!(refused.value()["metadata"]["revision"], got.revision.to_string());

    let sum = server.http("POST", "/v1/kv/n:increment", &[], b"", SERVICE).await;
    assert_eq!(sum.value(), json!({"value": "1"}));
    let gone = server.http("DELETE", "/v1/kv/a/b", &[], b"", SERVICE).await;
    assert_eq!(gone.status, 200);
    let missing = server.http("GET", "/v1/kv/a/b", &[], b"", SERVICE).await;
    assert_eq!((missing.status, missing.reason()), (404, "KEY_NOT_FOUND".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_keys_are_read_and_written_at_once() {
    let server = Server::start(config()).await;
    server.bind("kv.store", "kv-storage", json!({"quota": {"keys": 3}})).await;
    let mut client = KvClient::new(server.channel().await);
    let post = async |path: &str, body: serde_json::Value| {
        let json = [("content-type", "application/json")];
        server.http("POST", path, &json, body.to_string().as_bytes(), SERVICE).await
    };

    let put = |key: &str| kv::Write {
        key: key.into(),
        condition: Some(kv::write::Condition::IfAbsent(true)),
        action: Some(kv::write::Action::Put(kv::write::Put { value: "1".into(), expiry: None })),
    };
    let writes = kv::CommitRequest { writes: vec![put("a"), put("b")] };
    let first = client.commit(with(SERVICE, writes.clone())).await.unwrap().into_inner().revision;
    let refused = client.commit(with(SERVICE, writes)).await.unwrap_err();
    let info = refused.get_details_error_info().unwrap();
    assert_eq!((refused.code(), info.metadata["key"].as_str()), (Code::Aborted, "a"));

    let body = json!({"writes": [
        {"key": "a", "ifRevision": first.to_string(), "put": {"value": "Mg==", "ttlMs": "60000"}},
        {"key": "b", "delete": true},
        {"key": "c", "ifAbsent": true},
    ]});
    let made = post("/v1/kv:commit", body.clone()).await;
    assert_eq!((made.status, made.value()), (200, json!({"revision": (first + 1).to_string()})));
    let refused = post("/v1/kv:commit", body).await;
    assert_eq!((refused.status, refused.reason()), (409, "CONFLICT".into()));
    assert_eq!(refused.value()["metadata"]["key"], "a");

    let got = post("/v1/kv:batchGet", json!({"keys": ["b", "a", "c", "a"]})).await.value();
    assert_eq!((&got["missing"], &got["entries"][1]["value"]), (&json!(["b", "c"]), &json!("Mg==")));
    let got = client.batch_get(with(SERVICE, kv::BatchGetRequest { keys: vec!["a".into()] })).await.unwrap();
    assert!(got.into_inner().entries[0].expire_time.is_some());

    let usage = server.http("GET", "/v1/kv:usage", &[], b"", SERVICE).await.value();
    assert_eq!(usage, json!({"keys": "1", "bytes": "2", "keysQuota": "3"}));
    let many = json!({"writes": (0..4).map(|n| json!({"key": n.to_string(), "put": {}})).collect::<Vec<_>>()});
    let full = post("/v1/kv:commit", many).await;
    assert_eq!((full.status, full.reason()), (429, "QUOTA_EXCEEDED".into()));
    for (body, reason) in [
        (json!({"writes": []}), "INVALID_ARGUMENT"),
        (json!({"writes": [{"key": "a"}, {"key": "a"}]}), "INVALID_ARGUMENT"),
        (json!({"writes": (0..1001).map(|n| json!({"key": n.to_string()})).collect::<Vec<_>>()}), "TOO_LARGE"),
    ] {
        let refused = post("/v1/kv:commit", body).await;
        assert_eq!((refused.status, refused.reason()), (400, reason.into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages() {
    let server = Server::start(config()).await;
    server.bind("kv.store", "kv-storage", json!({})).await;
    for number in 0..7 {
        let put = server.http("PUT", &format!("/v1/kv/p/{number}"), &[], b"{\"value\":\"\"}", SERVICE).await;
        assert_eq!(put.status, 200, "{}", put.text());
    }
    let (mut keys, mut token) = (Vec::new(), String::new());
    loop {
        let page = server.http("GET", &format!("/v1/kv?prefix=p/&limit=3&pageToken={token}"), &[], b"", SERVICE).await;
        assert_eq!(page.status, 200, "{}", page.text());
        let page = page.value();
        let entries = page["entries"].as_array().unwrap();
        assert!(entries.len() <= 3);
        keys.extend(entries.iter().map(|entry| entry["key"].as_str().unwrap().to_owned()));
        token = page["nextPageToken"].as_str().unwrap().to_owned();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(keys, (0..7).map(|number| format!("p/{number}")).collect::<Vec<_>>());
    let refused = server.http("GET", "/v1/kv?pageToken=abc", &[], b"", SERVICE).await;
    assert_eq!((refused.status, refused.reason()), (400, "INVALID_PAGE_TOKEN".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_loses_nothing_across_a_reconnect_and_a_swap() {
    let server = Server::start(config()).await;
    server.bind("kv.store", "kv-storage", json!({})).await;
    let mut client = KvClient::new(server.channel().await);
    let mut put = async |key: &str| {
        let put = kv::PutRequest { key: key.into(), ..Default::default() };
        client.put(with(SERVICE, put)).await.unwrap().into_inner().revision
    };
    let first = put("w/1").await;
    let mut watcher = KvClient::new(server.channel().await);
    let watch = |after| kv::WatchRequest { prefix: "w/".into(), after_revision: Some(after) };
    let mut events = watcher.watch(with(SERVICE, watch(0))).await.unwrap().into_inner();
    let mut next = async || loop {
        match events.message().await.unwrap().unwrap().event.unwrap() {
            watch_event::Event::Put(entry) => return entry,
            watch_event::Event::Progress(_) => {}
            watch_event::Event::Delete(gone) => panic!("{gone:?}"),
        }
    };
    assert_eq!(next().await.revision, first);
    server.bind("kv.store", "kv-storage", json!({})).await;
    put("other").await;
    let second = put("w/2").await;
    assert_eq!(next().await.key, "w/2");
    drop(events);
    let third = put("w/3").await;
    let mut events = watcher.watch(with(SERVICE, watch(second))).await.unwrap().into_inner();
    let resumed = loop {
        if let Some(watch_event::Event::Put(entry)) = events.message().await.unwrap().unwrap().event {
            break entry;
        }
    };
    assert_eq!((resumed.key.as_str(), resumed.revision), ("w/3", third));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_nodes_follows_nodes_and_policies() {
    let server = Server::start(config()).await;
    server.bind("discovery.registry", "discovery-storage", json!({})).await;
    server.bind("router.policy", "router-round-robin", json!({})).await;
    let register = async |node: &str, weight: u32| {
        let registered = json!({"address": "127.0.0.1:1", "weight": weight});
        let body = json!({"registration": {"version": "1", "node": registered}}).to_string();
        let headers = [("content-type", "application/json")];
        let path = format!("/v1/discovery/services/pay/nodes/{node}");
        let put = server.http("PUT", &path, &headers, body.as_bytes(), SERVICE).await;
        assert_eq!(put.status, 200, "{}", put.text());
    };
    register("a", 100).await;
    let mut client = RouterClient::new(server.channel().await);
    let wanted = router::SelectStreamRequest { service: "pay".into(), ..Default::default() };
    let mut told = client.select_stream(with(SERVICE, wanted)).await.unwrap().into_inner();
    let mut next = async || {
        let told = tokio::time::timeout(Duration::from_secs(20), told.message());
        let told = told.await.expect("nothing came").unwrap().unwrap();
        assert_eq!(told.valid_ms, 120_000);
        let weight = |node: &router::WeightedNode| (node.node.as_ref().unwrap().id.clone(), node.weight);
        (told.policy, told.generation, told.nodes.iter().map(weight).collect::<Vec<_>>())
    };
    let nodes =
        |nodes: &[(&str, u32)]| nodes.iter().map(|(id, weight)| ((*id).to_owned(), *weight)).collect::<Vec<_>>();
    assert_eq!(next().await, ("router-round-robin@0.1.0".into(), 1, nodes(&[("a", 100)])));
    register("b", 7).await;
    assert_eq!(next().await, ("router-round-robin@0.1.0".into(), 1, nodes(&[("a", 100), ("b", 7)])));
    server.bind("router.policy", "router-ring-hash", json!({})).await;
    assert_eq!(next().await, ("router-ring-hash@0.1.0".into(), 2, nodes(&[("a", 100), ("b", 7)])));
    let back = server.json("POST", "/v1/slots/router.policy:rollback", &json!({})).await;
    assert_eq!(back.status, 200, "{}", back.text());
    assert_eq!(next().await, ("router-round-robin@0.1.0".into(), 3, nodes(&[("a", 100), ("b", 7)])));
    let gone = server.http("DELETE", "/v1/discovery/services/pay/nodes/a", &[], b"", SERVICE).await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert_eq!(next().await, ("router-round-robin@0.1.0".into(), 3, nodes(&[("b", 7)])));
}

/// What a flood of the log comes to, and how instances come to be, is told everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn slots_tell_of_dropped_log_lines_and_of_snapshots() {
    let server = Server::start(config()).await;
    server.bind("kv.store", "kv-storage", json!({})).await;
    server.bind_from("testkit", "auth.policy", "auth-acts", json!({})).await;
    let flood = json!({"action": "log", "target": "5000", "asCaller": true});
    let answer = server.json("POST", "/v1/auth:check", &flood).await;
    assert_eq!(answer.value()["decision"], "DECISION_ALLOW", "{}", answer.text());

    let slot = server.http("GET", "/v1/slots/auth.policy", &[], b"", ADMIN).await.value();
    let figures = &slot["figures"][0];
    assert_eq!((figures["snapshot"].as_str(), figures["snapshotProblem"].as_str()), (Some("cloned"), Some("")));
    let dropped: u64 = figures["logLinesDropped"].as_str().unwrap().parse().unwrap();
    assert!((1..5000).contains(&dropped), "{dropped}");
    let plugin = server.http("GET", "/v1/plugins/auth-acts", &[], b"", ADMIN).await.value();
    let serving = &plugin["serving"][0];
    assert_eq!((serving["slot"].as_str(), serving["generation"].as_str()), (Some("auth.policy"), Some("1")));
    assert_eq!(serving["figures"]["logLinesDropped"], dropped.to_string());
    let metrics = server.get("/metrics").await.text();
    let line = format!(
        "platform_plugin_log_lines_dropped_total{{slot=\"auth.policy\",plugin=\"auth-acts@0.1.0\",generation=\"1\"}} {dropped}"
    );
    assert!(metrics.contains(&line), "{metrics}");

    let plugin = server.http("GET", "/v1/plugins/kv-storage", &[], b"", ADMIN).await.value();
    assert_eq!(plugin["serving"][0]["figures"]["snapshot"], "configured", "instances of a provider are kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn control_installs_binds_rolls_back_and_keeps_a_trail() {
    let server = Server::start(config()).await;
    let mut client = PluginsClient::new(server.channel().await);
    let wasm = platform_testkit::component("plugins", "auth-scopes");
    let dry = plugin::InstallRequest { component: wasm.to_vec().into(), dry_run: true, ..Default::default() };
    let facts = client.install(with(ADMIN, dry)).await.unwrap().into_inner().plugin.unwrap();
    assert_eq!((facts.name.as_str(), facts.slot.as_str()), ("auth-scopes", "auth.policy"));
    assert!(facts.digest.starts_with("sha256:"));
    assert!(client.list(with(ADMIN, plugin::ListRequest::default())).await.unwrap().into_inner().plugins.is_empty());

    for rule in ["allow", "deny"] {
        server.bind("auth.policy", "auth-scopes", json!({"rules": [{"effect": rule}]})).await;
    }
    let check = json!({"action": "GET", "target": "/a", "asCaller": true});
    let denied = server.json("POST", "/v1/auth:check", &check).await.value();
    assert_eq!((denied["decision"].as_str(), denied["generation"].as_str()), (Some("DECISION_DENY"), Some("2")));
    assert_eq!((denied["subject"].as_str(), denied["status"].as_u64()), (Some("admin"), Some(403)));
    let back = server.json("POST", "/v1/slots/auth.policy:rollback", &json!({})).await;
    assert_eq!(back.value()["binding"]["generation"], "3", "{}", back.text());
    let allowed = server.json("POST", "/v1/auth:check", &check).await.value();
    assert_eq!(allowed["decision"], "DECISION_ALLOW");
    assert!(allowed["policy"].as_str().unwrap().starts_with("auth-scopes@"));

    let trail = server.http("GET", "/v1/audit?limit=1", &[], b"", ADMIN).await.value();
    let last = &trail["records"][0];
    assert_eq!((last["action"].as_str(), last["caller"].as_str()), (Some("rollback"), Some("admin")));
    let refused = server.http("DELETE", "/v1/plugins/auth-scopes", &[], b"", ADMIN).await;
    assert_eq!(refused.reason(), "PLUGIN_IN_USE");
    let junk = server.http("POST", "/v1/plugins", &[("content-type", "application/wasm")], b"junk", ADMIN).await;
    assert_eq!(junk.status, 400, "{}", junk.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_get_in_by_their_token_only() {
    let server = Server::start(config()).await;
    for (method, path, token, status, reason) in [
        ("GET", "/v1/kv/a", "", 401, "TOKEN_MISSING"),
        ("GET", "/v1/kv/a", "wrong", 401, "TOKEN_INVALID"),
        ("GET", "/v1/kv/a", USER, 403, "DATA_ACCESS_REQUIRED"),
        ("GET", "/v1/kv/a", SERVICE, 503, "NOT_BOUND"),
        ("GET", "/v1/plugins", SERVICE, 403, "ADMIN_REQUIRED"),
        ("POST", "/v1/plugins", SERVICE, 403, "ADMIN_REQUIRED"),
        ("GET", "/v1/server/settings", SERVICE, 403, "ADMIN_REQUIRED"),
        ("GET", "/v1/slots", ADMIN, 200, ""),
    ] {
        let answer = server.http(method, path, &[], b"", token).await;
        assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{method} {path} {token}");
    }
    let elsewhere = server.http("GET", "/v1/kv/a", &[("x-platform-namespace", "prod")], b"", SERVICE).await;
    assert_eq!(elsewhere.reason(), "NAMESPACE_DENIED");
    let mut client = KvClient::new(server.channel().await);
    let status = client.get(kv::GetRequest { key: "a".into() }).await.unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().reason, "TOKEN_MISSING");
    // What the front door adds to a request can't be brought along.
    let status = client.list(with("wrong", kv::ListRequest::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}
