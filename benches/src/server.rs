//! What front doors cost, against the daemon as it is shipped: a process of its own, asked over loopback.
//!
//! The native side of the ext_authz comparison is this program started a second time: the same server library and the
//! same protocol, with a handler in Rust where the daemon asks a component.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use envoy_types::{
    ext_authz::v3::{
        CheckResponseExt as _,
        pb::{Authorization, AuthorizationServer, CheckRequest, CheckResponse},
    },
    pb::envoy::service::auth::v3::authorization_client::AuthorizationClient,
};
use platform_base::clock;
use platform_proto::kv::v1::{GetRequest, PutRequest, kv_client::KvClient};
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::measure::{compare, figure, load, median, row, us};

/// First argument of the program when it is the native server.
pub(crate) const NATIVE: &str = "--native-ext-authz";
/// Calls at the same time.
pub(crate) const IN_FLIGHT: usize = 64;
const CONNECTIONS: usize = 4;

/// Ends a process when it goes out of scope.
pub(crate) struct Guard(pub(crate) Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn binary() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("platform");
    if path.exists() {
        Ok(path)
    } else {
        bail!("no `{}`; `cargo build --release -p platform-daemon` makes it", path.display())
    }
}

pub(crate) fn dist() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist")
}

/// Starts the daemon on a data directory and waits until it is ready; how long that took.
pub(crate) async fn start(data: &Path) -> Result<(Guard, String, Duration)> {
    start_with(data, &[]).await
}

/// The same with more arguments.
pub(crate) async fn start_with(data: &Path, arguments: &[&str]) -> Result<(Guard, String, Duration)> {
    let _ = std::fs::remove_file(data.join("address"));
    let begun = clock::now();
    let child = Command::new(binary()?)
        .args(["server", "--server-address", "127.0.0.1:0", "--log", "error", "--data-dir"])
        .arg(data)
        .arg("--plugins-dir")
        .arg(dist().join("plugins"))
        .args(arguments)
        .spawn()?;
    let guard = Guard(child);
    loop {
        if clock::now().saturating_duration_since(begun) > Duration::from_secs(60) {
            bail!("the daemon did not become ready within a minute");
        }
        if let Ok(address) = std::fs::read_to_string(data.join("address"))
            && let Ok(channel) = Endpoint::from_shared(format!("http://{}", address.trim()))?.connect().await
            && let Ok(answer) = HealthClient::new(channel).check(HealthCheckRequest::default()).await
            && answer.get_ref().status == 1
        {
            let took = clock::now().saturating_duration_since(begun);
            return Ok((guard, format!("http://{}", address.trim()), took));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn bind(data: &Path, mode: &str) -> Result<()> {
    let settings = crate::decision::rules();
    let output = Command::new(binary()?)
        .args(["plugin", "bind", "auth.policy", "auth-scopes", "--mode", mode, "--settings", &settings, "--data-dir"])
        .arg(data)
        .output()?;
    if !output.status.success() {
        bail!("binding failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Connections to an address.
pub(crate) async fn channels(address: &str) -> Result<Vec<Channel>> {
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(Endpoint::from_shared(address.to_owned())?.connect().await?);
    }
    Ok(channels)
}

async fn check(channel: Channel) -> bool {
    use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, attribute_context};
    let http = attribute_context::HttpRequest {
        method: "GET".to_owned(),
        path: "/open/a".to_owned(),
        host: "shop.test".to_owned(),
        headers: [(":method", "GET"), (":path", "/open/a"), ("user-agent", "bench"), ("accept", "*/*")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..Default::default()
    };
    let request = attribute_context::Request { http: Some(http), time: None };
    let attributes = AttributeContext { request: Some(request), ..Default::default() };
    let answer = AuthorizationClient::new(channel).check(CheckRequest { attributes: Some(attributes) }).await;
    answer.is_ok_and(|answer| answer.get_ref().status.as_ref().is_none_or(|status| status.code == 0))
}

async fn empty(channel: Channel) -> bool {
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.is_ok()
}

pub(crate) async fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let (daemon, _, first) = start(&data).await?;
    drop(daemon);
    figure("first start to ready, everything compiled", us(first) / 1000.0, "ms", "");
    figure("start to ready, all defaults compiled", restarts(&data).await?, "ms", "aim <= 150");
    let (daemon, address, _) = start(&data).await?;
    let ours = channels(&address).await?;

    let (_native, native_address) = native()?;
    let theirs = channels(&native_address).await?;
    for (mode, aim) in [("reused", "aim <= 1.02 (>= 0.98)"), ("fresh", "aim <= 1.33 (>= 0.75)")] {
        bind(&data, mode)?;
        let (a, b, ratio) =
            compare(async || load(&ours, IN_FLIGHT, check).await, async || load(&theirs, IN_FLIGHT, check).await).await;
        row(&format!("ext_authz through a policy, {mode} / native handler"), a, b, ratio, aim);
    }
    kv(&data, &ours).await?;
    drop(daemon);
    figure("start to ready with these writes in the journal", restarts(&data).await?, "ms", "");
    Ok(())
}

/// Milliseconds from start to ready, the middle of several.
async fn restarts(data: &Path) -> Result<f64> {
    let mut ready_ms = Vec::new();
    for _ in 0..7 {
        let (_daemon, _, took) = start(data).await?;
        ready_ms.push(us(took) / 1000.0);
    }
    Ok(median(&mut ready_ms))
}

/// What calls of the administrator carry, for as long as this program runs.
pub(crate) fn token(data: &Path) -> Result<&'static MetadataValue<Ascii>> {
    let token = std::fs::read_to_string(data.join("admin.token")).context("admin.token")?;
    Ok(Box::leak(Box::new(format!("Bearer {}", token.trim()).parse()?)))
}

async fn kv(data: &Path, channels: &[Channel]) -> Result<()> {
    let token = token(data)?;
    let get = move |channel: Channel| async move {
        let mut request = Request::new(GetRequest { key: "bench".to_owned() });
        request.metadata_mut().insert("authorization", token.clone());
        KvClient::new(channel).get(request).await.is_ok()
    };
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let put = move |channel: Channel| async move {
        let key = match NEXT.fetch_add(1, Ordering::Relaxed) {
            0 => "bench".to_owned(),
            next => format!("bench-{next}"),
        };
        let value = vec![7; 100];
        let mut request = Request::new(PutRequest { key, value: value.into(), ..Default::default() });
        request.metadata_mut().insert("authorization", token.clone());
        KvClient::new(channel).put(request).await.is_ok()
    };
    let (a, b, ratio) =
        compare(async || load(channels, IN_FLIGHT, put).await, async || load(channels, IN_FLIGHT, empty).await).await;
    row("kv put through gRPC, durable / empty gRPC call", a, b, ratio, "");
    let (a, b, ratio) =
        compare(async || load(channels, IN_FLIGHT, get).await, async || load(channels, IN_FLIGHT, empty).await).await;
    row("kv get through gRPC / empty gRPC call", a, b, ratio, "");
    Ok(())
}

/// Starts this program as the native server.
fn native() -> Result<(Guard, String)> {
    let mut child = Command::new(std::env::current_exe()?).arg(NATIVE).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("the native server has no output")?;
    let guard = Guard(child);
    let mut address = String::new();
    BufReader::new(output).read_line(&mut address)?;
    Ok((guard, format!("http://{}", address.trim())))
}

/// A check as the daemon's default policy would make it, in Rust.
struct Native;

#[tonic::async_trait]
impl Authorization for Native {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let http = request.into_inner().attributes.and_then(|all| all.request).and_then(|request| request.http);
        let allowed = http.is_some_and(|http| http.method == "GET" && http.path.starts_with("/open/"));
        let status = if allowed { Status::ok("") } else { Status::permission_denied("") };
        Ok(Response::new(CheckResponse::with_status(status)))
    }
}

/// Serves native checks until it is killed.
#[expect(clippy::print_stdout, reason = "the address is this program's answer")]
pub(crate) async fn serve_native() -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tonic::transport::Server::builder()
        .add_service(AuthorizationServer::new(Native))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}
