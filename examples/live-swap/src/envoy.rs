//! A real Envoy that asks the daemon about every request (`envoy.service.auth.v3`, gRPC) before it passes it on.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::checker::Probe;
use crate::process::{Running, executable, free_address};

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    /// Its process.
    pub process: Running,
    /// Where it listens, for HTTP/1.1 and for HTTP/2 without TLS.
    pub address: SocketAddr,
}

impl Envoy {
    /// Starts Envoy in front of the services.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn start(folder: &Path, daemon: SocketAddr, backends: &[SocketAddr]) -> Result<Self> {
        let (address, admin) = (free_address()?, free_address()?);
        let file = folder.join("envoy.json");
        let bootstrap = serde_json::to_vec_pretty(&configuration(address, admin, daemon, backends))?;
        std::fs::write(&file, bootstrap).context("can't write Envoy's configuration")?;
        let mut command = Command::new(executable("ENVOY", "envoy")?);
        // Without hot restart, several of them can run on one machine.
        command.arg("--config-path").arg(&file).args([
            "--disable-hot-restart",
            "--concurrency",
            "1",
            "--log-level",
            "warning",
        ]);
        let mut process = Running::start("envoy", folder, &mut command)?;
        let url = format!("http://{admin}/ready");
        process.ready(Duration::from_secs(20), async || matches!(Probe::new().status(&url).await, Ok(200))).await?;
        Ok(Self { process, address })
    }
}

fn configuration(address: SocketAddr, admin: SocketAddr, daemon: SocketAddr, backends: &[SocketAddr]) -> Value {
    let ask = json!({
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "failure_mode_allow": false,
            // A policy that can't be asked must be told apart from one that denies.
            "status_on_error": { "code": "ServiceUnavailable" },
            "grpc_service": { "envoy_grpc": { "cluster_name": "platform" }, "timeout": "10s" },
        },
    });
    let route = json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
    });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "live_swap",
        "codec_type": "AUTO",
        "http_filters": [ask, route],
        "route_config": {
            "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "services" } }],
            }],
        },
    });
    json!({
        "admin": { "address": socket(admin) },
        "static_resources": {
            "listeners": [{
                "name": "front",
                "address": socket(address),
                "filter_chains": [{
                    "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }],
                }],
            }],
            "clusters": [cluster("services", backends, false), cluster("platform", &[daemon], true)],
        },
    })
}

fn cluster(name: &str, addresses: &[SocketAddr], http2: bool) -> Value {
    let endpoints: Vec<Value> =
        addresses.iter().map(|address| json!({ "endpoint": { "address": socket(*address) } })).collect();
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
    });
    if http2 && let Some(fields) = cluster.as_object_mut() {
        let options = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        });
        fields.insert("typed_extension_protocol_options".to_owned(), options);
    }
    cluster
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}
