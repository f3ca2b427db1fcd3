//! The daemon as a process, and its methods as an operator's client calls them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use platform_base::clock;
use platform_proto::{auth, discovery, kv, plugin, router};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::process::{self, Running};

/// A client's connection, which sends the administrator's token with each call.
pub type Connection = InterceptedService<Channel, Token>;

/// Adds the token to a call.
#[derive(Debug, Clone)]
pub struct Token(MetadataValue<Ascii>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Caches that fill up within a run, so that memory comes to rest.
const SETTINGS: &str = "\
[storage]
memtable_bytes = 262144
cache_bytes = 2097152

[engine]
instances_warm_per_core = 8
compile_cache_mib_max = 1
";

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    /// Its process.
    pub process: Running,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its data directory.
    pub data: PathBuf,
    /// From its start until every bound slot served.
    pub ready_after: Duration,
}

impl Daemon {
    /// Starts the daemon on a free port with its data in `folder/data`.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn start(folder: &Path) -> Result<Self> {
        Self::start_at(folder, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts the daemon on this address.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn start_at(folder: &Path, address: SocketAddr) -> Result<Self> {
        let binary = binary()?;
        let data = folder.join("data");
        // What a daemon that was killed left must not be taken for the new one's.
        let _ = std::fs::remove_file(data.join("address"));
        let started = clock::now();
        let settings = folder.join("platform.toml");
        std::fs::write(&settings, SETTINGS).with_context(|| format!("`{}`", settings.display()))?;
        let mut command = Command::new(binary);
        command
            .arg("server")
            .arg("--config")
            .arg(&settings)
            .arg("--data-dir")
            .arg(&data)
            .arg("--server-address")
            .arg(address.to_string());
        command.arg("--plugins-dir").arg(process::root().join("dist/plugins"));
        let mut process = Running::start("daemon", folder, &mut command)?;
        let file = data.join("address");
        let mut found = None;
        process
            .ready(Duration::from_secs(60), async || {
                if found.is_none() {
                    found = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<SocketAddr>().ok());
                }
                match found {
                    Some(address) => is_ready(address).await,
                    None => false,
                }
            })
            .await?;
        let address = found.context("the daemon wrote no address")?;
        Ok(Self { process, address, data, ready_after: clock::now() - started })
    }

    /// A new connection to the daemon.
    ///
    /// # Errors
    /// When the administrator's token can't be read.
    pub fn connect(&self) -> Result<Connection> {
        let token = std::fs::read_to_string(self.data.join("admin.token"))
            .context("the daemon wrote no token of its administrator")?;
        let token = format!("Bearer {}", token.trim()).parse().context("the administrator's token is no header")?;
        let channel = Endpoint::from_shared(format!("http://{}", self.address))?.tcp_nodelay(true).connect_lazy();
        Ok(InterceptedService::new(channel, Token(token)))
    }

    /// Clients for every service, over one new connection.
    ///
    /// # Errors
    /// When the administrator's token can't be read.
    pub fn clients(&self) -> Result<Clients> {
        let connection = self.connect()?;
        Ok(Clients {
            plugins: plugin::v1::plugins_client::PluginsClient::new(connection.clone())
                .max_decoding_message_size(16 << 20),
            kv: kv::v1::kv_client::KvClient::new(connection.clone()),
            router: router::v1::router_client::RouterClient::new(connection.clone()),
            discovery: discovery::v1::discovery_client::DiscoveryClient::new(connection.clone()),
            auth: auth::v1::auth_client::AuthClient::new(connection),
        })
    }
}

/// A client for each service of the platform.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is named after the service")]
pub struct Clients {
    pub plugins: plugin::v1::plugins_client::PluginsClient<Connection>,
    pub kv: kv::v1::kv_client::KvClient<Connection>,
    pub router: router::v1::router_client::RouterClient<Connection>,
    pub discovery: discovery::v1::discovery_client::DiscoveryClient<Connection>,
    pub auth: auth::v1::auth_client::AuthClient<Connection>,
}

impl Clients {
    /// Installs a component and gives it the grants that its manifest asks for; answers `NAME@VERSION`.
    ///
    /// # Errors
    /// When the daemon refuses it.
    pub async fn install(&mut self, component: Vec<u8>, version: &str) -> Result<String> {
        let request = plugin::v1::InstallRequest {
            component: component.into(),
            version: version.to_owned(),
            ..Default::default()
        };
        let installed = self
            .plugins
            .install(request)
            .await?
            .into_inner()
            .plugin
            .context("the daemon tells nothing of what it installed")?;
        let name = format!("{}@{}", installed.name, installed.version);
        let grant = plugin::v1::GrantRequest { plugin: name.clone(), requested: true, ..Default::default() };
        self.plugins.grant(grant).await?;
        Ok(name)
    }

    /// Binds one component to a slot and answers the generation that serves now.
    ///
    /// # Errors
    /// When the daemon refuses, or keeps serving something else.
    pub async fn bind(&mut self, slot: &str, plugin: &str, settings: Option<&serde_json::Value>) -> Result<u64> {
        let link =
            plugin::v1::Link { plugin: plugin.to_owned(), settings: settings.map(structure), ..Default::default() };
        let request = plugin::v1::BindRequest { slot: slot.to_owned(), chain: vec![link], ..Default::default() };
        let bound = self
            .plugins
            .bind(request)
            .await
            .map_err(|status| anyhow::anyhow!("can't bind `{plugin}` to `{slot}`: {}", status.message()))?;
        let bound = bound.into_inner();
        ensure!(bound.ready, "`{slot}` does not serve: {}", bound.problem);
        Ok(bound.binding.context("the daemon tells no binding")?.generation)
    }
}

/// A component from `dist/`, with a custom section that makes its bytes, and so its digest, differ by `variant`.
///
/// # Errors
/// When it was not built.
pub fn component(name: &str, variant: u8) -> Result<Vec<u8>> {
    let file = process::root().join("dist/plugins").join(format!("{name}.wasm"));
    let mut bytes =
        std::fs::read(&file).with_context(|| format!("no `{}`; `cargo xtask plugins` builds it", file.display()))?;
    // Section 0, its size, the length of its name, its name, one byte of content.
    bytes.extend_from_slice(&[0, 9, 7]);
    bytes.extend_from_slice(b"variant");
    bytes.push(variant);
    Ok(bytes)
}

/// The daemon's executable: what `PLATFORM_BINARY` names, else the newest one that was built here.
fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("PLATFORM_BINARY") {
        return Ok(path.into());
    }
    let built = ["debug", "release"].map(|profile| process::target().join(profile).join("platform"));
    let newest = built.into_iter().filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file))).max();
    let (_, file) = newest
        .context("the daemon was not built; `cargo build -p platform-daemon` does that, or set `PLATFORM_BINARY`")?;
    Ok(file)
}

async fn is_ready(address: SocketAddr) -> bool {
    let request = async { crate::checker::Probe::new().status(&format!("http://{address}/readyz")).await };
    matches!(tokio::time::timeout(Duration::from_secs(2), request).await, Ok(Ok(200)))
}

/// JSON as the message that settings travel in.
fn structure(value: &serde_json::Value) -> prost_types::Struct {
    let fields = value.as_object().into_iter().flatten();
    prost_types::Struct { fields: fields.map(|(name, value)| (name.clone(), message(value))).collect() }
}

fn message(value: &serde_json::Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(truth) => Kind::BoolValue(*truth),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(items) => {
            Kind::ListValue(prost_types::ListValue { values: items.iter().map(message).collect() })
        }
        serde_json::Value::Object(_) => Kind::StructValue(structure(value)),
    };
    prost_types::Value { kind: Some(kind) }
}
