//! A service behind the gateways: answers every request, tells which copy it is and which policy let the request pass,
//! and keeps itself registered by heartbeats over HTTP/JSON.
//!
//! It uses nothing of the platform's crates on the wire, as a service in any language would not.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Name that the services are registered under.
pub const SERVICE: &str = "shop";
/// Header that tells which copy answered.
pub const NODE_HEADER: &str = "x-node";
/// Header that the policy sets, and that the service sends back.
pub const TAG_HEADER: &str = "x-tag";

/// Serves on a free port until the process is stopped. The port is written to `ID.address` in the folder above the
/// daemon's data.
///
/// # Errors
/// When it can't listen.
pub async fn serve(id: &str, data: &Path, ttl_ms: u64) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("can't listen")?;
    let address = listener.local_addr()?;
    write_address(id, data, address)?;
    let mut tasks = JoinSet::new();
    let registration = Registration { id: id.to_owned(), data: data.to_owned(), address, ttl_ms };
    tasks.spawn(registration.keep());
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A connection that failed before it was accepted is the client's affair.
                if let Ok((stream, _)) = accepted {
                    let node = id.to_owned();
                    tasks.spawn(async move {
                        let service = service_fn(move |request| answer(node.clone(), request));
                        // A client that goes away ends its connection, nothing else.
                        let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                    });
                }
            }
            Some(_) = tasks.join_next() => {}
        }
    }
}

async fn answer(node: String, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let tag = request.headers().get(TAG_HEADER).cloned();
    let mut response = Response::new(Full::new(Bytes::from_static(b"ok\n")));
    if let Ok(node) = node.parse() {
        response.headers_mut().insert(NODE_HEADER, node);
    }
    if let Some(tag) = tag {
        response.headers_mut().insert(TAG_HEADER, tag);
    }
    Ok(response)
}

fn write_address(id: &str, data: &Path, address: SocketAddr) -> Result<()> {
    let file = address_file(id, data);
    let beside = file.with_extension("new");
    std::fs::write(&beside, address.to_string())?;
    std::fs::rename(&beside, &file).with_context(|| format!("can't write `{}`", file.display()))
}

/// The file that a service writes its address to.
#[must_use]
pub fn address_file(id: &str, data: &Path) -> PathBuf {
    data.parent().unwrap_or(data).join(format!("{id}.address"))
}

struct Registration {
    id: String,
    data: PathBuf,
    address: SocketAddr,
    ttl_ms: u64,
}

impl Registration {
    /// Registers, then sends heartbeats; registers again when the registry has forgotten, and keeps trying while the
    /// daemon is away.
    async fn keep(self) {
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let mut registered = false;
        let mut due = tokio::time::interval(Duration::from_millis(self.ttl_ms / 3));
        loop {
            due.tick().await;
            let outcome = if registered { self.heartbeat(&client).await } else { self.register(&client).await };
            registered = outcome.is_ok();
        }
    }

    async fn register(&self, client: &Client<HttpConnector, Full<Bytes>>) -> Result<()> {
        let path = format!("/v1/discovery/services/{SERVICE}/nodes/{}", self.id);
        let node = json!({ "id": self.id, "address": self.address.to_string() });
        let body =
            json!({ "registration": { "service": SERVICE, "version": "1.0.0", "node": node }, "ttlMs": self.ttl_ms });
        self.send(client, Method::PUT, &path, &body).await
    }

    async fn heartbeat(&self, client: &Client<HttpConnector, Full<Bytes>>) -> Result<()> {
        let path = format!("/v1/discovery/services/{SERVICE}/nodes/{}:heartbeat", self.id);
        self.send(client, Method::POST, &path, &json!({ "ttlMs": self.ttl_ms })).await
    }

    async fn send(
        &self, client: &Client<HttpConnector, Full<Bytes>>, method: Method, path: &str, body: &serde_json::Value,
    ) -> Result<()> {
        let daemon = std::fs::read_to_string(self.data.join("address"))?;
        let token = std::fs::read_to_string(self.data.join("admin.token"))?;
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", daemon.trim()))
            .header(AUTHORIZATION, format!("Bearer {}", token.trim()))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))?;
        let response = tokio::time::timeout(Duration::from_secs(5), client.request(request)).await??;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        ensure!(status == StatusCode::OK, "the daemon answered {status}: {}", String::from_utf8_lossy(&answer));
        Ok(())
    }
}
