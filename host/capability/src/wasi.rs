//! WASI 0.2 for guests that were granted it: clocks, random numbers, standard error to the log; files, variables of the
//! environment, sockets, TLS over them and HTTP only as far as they were granted.

use std::sync::Arc;

use wasmtime_wasi::{FsPerms, ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, sockets::SocketAddrUse};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView, default_send_request,
};
use wasmtime_wasi_tls::{WasiTlsCtx, WasiTlsCtxBuilder, WasiTlsCtxView, WasiTlsView};

use crate::{
    grant::{Grant, Grants},
    guest::Guest,
    trust::Trust,
};

/// What of the machine a plugin may reach.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Hosts and ports that it may connect to.
    network: Arc<[(String, u16)]>,
    /// Directories that it may read.
    directories: Vec<String>,
    /// Variables that it sees.
    variables: Vec<(String, String)>,
    /// Whom its connections trust.
    trust: Trust,
}

impl Reach {
    /// What grants open. Variables are those that the environment has now.
    #[must_use]
    pub fn of(grants: &Grants, trust: &Trust) -> Self {
        let (mut network, mut directories, mut variables) = (Vec::new(), Vec::new(), Vec::new());
        for grant in grants {
            match grant {
                Grant::Network { host, port } => network.push((host.clone(), *port)),
                Grant::Files(directory) => directories.push(directory.clone()),
                Grant::Env(name) => variables.extend(present(name)),
                Grant::Storage
                | Grant::Kv
                | Grant::Discovery
                | Grant::Config
                | Grant::Db
                | Grant::Event
                | Grant::Sync
                | Grant::Marketplace
                | Grant::Wasi => {}
            }
        }
        Self { network: network.into(), directories, variables, trust: trust.clone() }
    }
}

/// Variables of a name, or of all that begin with what stands before its `*`. What is not Unicode is left out.
fn present(granted: &str) -> impl Iterator<Item = (String, String)> + use<> {
    let (stem, all) = match granted.strip_suffix('*') {
        Some(stem) => (stem.to_owned(), true),
        None => (granted.to_owned(), false),
    };
    std::env::vars_os().filter_map(move |(name, value)| {
        let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
        (name == stem || all && name.starts_with(&stem)).then_some((name, value))
    })
}

/// WASI's state of one instance.
pub(crate) struct Wasi {
    context: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    tls: WasiTlsCtx,
    table: ResourceTable,
}

impl std::fmt::Debug for Wasi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wasi")
    }
}

impl Wasi {
    fn new(reach: &Reach) -> Self {
        let mut builder = WasiCtxBuilder::new();
        if reach.network.is_empty() {
            builder.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        } else {
            let granted = Arc::clone(&reach.network);
            builder.allow_tcp(true).allow_udp(false).allow_ip_name_lookup(true).socket_addr_check(
                move |address, reason| {
                    let granted = Arc::clone(&granted);
                    Box::pin(async move {
                        match reason {
                            // Before a connection the guest's library binds to any local port.
                            SocketAddrUse::TcpBind => address.port() == 0,
                            SocketAddrUse::TcpConnect => reaches(&granted, address).await,
                            _ => false,
                        }
                    })
                },
            );
        }
        for (name, value) in &reach.variables {
            builder.env(name, value);
        }
        for directory in &reach.directories {
            // A directory that is not there now is not there for the guest, which says so in its own words.
            if let Err(error) = builder.preopened_dir(directory, directory, FsPerms::ReadOnly) {
                tracing::warn!(directory, %error, "a granted directory can't be opened");
            }
        }
        let hooks = Hooks(Arc::clone(&reach.network));
        let tls = WasiTlsCtxBuilder::new().provider(Box::new(reach.trust.clone())).build();
        Self { context: builder.build(), http: WasiHttpCtx::new(), hooks, tls, table: ResourceTable::new() }
    }
}

/// Sends requests to granted hosts and ports, and no others.
struct Hooks(Arc<[(String, u16)]>);

type Sent = wasmtime::Result<(http::Response<WasiBody>, Ended), Error>;
type Ended = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self, request: http::Request<WasiBody>, options: Option<RequestOptions>, _ended: Ended,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let granted = is_granted(&self.0, request.uri());
        Box::new(async move {
            if !granted {
                return Err(Error::HttpRequestDenied);
            }
            let (response, ended) = default_send_request(request, options).await?;
            Ok((response.map(http_body_util::BodyExt::boxed_unsync), Box::new(ended) as Ended))
        })
    }
}

fn is_granted(granted: &[(String, u16)], uri: &http::Uri) -> bool {
    let port = uri.port_u16().unwrap_or(if uri.scheme() == Some(&http::uri::Scheme::HTTP) { 80 } else { 443 });
    let host = uri.host().unwrap_or_default();
    granted.iter().any(|(name, granted)| *granted == port && name.eq_ignore_ascii_case(host))
}

/// Whether `address` is one that a granted host has now.
async fn reaches(granted: &[(String, u16)], address: std::net::SocketAddr) -> bool {
    for (host, port) in granted.iter().filter(|(_, port)| *port == address.port()) {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(mut addresses) = tokio::net::lookup_host((host, *port)).await
            && addresses.any(|known| known.ip() == address.ip())
        {
            return true;
        }
    }
    false
}

impl Guest {
    fn wasi(&mut self) -> &mut Wasi {
        let reach = &self.parts.reach;
        self.wasi.get_or_insert_with(|| Box::new(Wasi::new(reach)))
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi();
        WasiCtxView { ctx: &mut wasi.context, table: &mut wasi.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let wasi = self.wasi();
        WasiHttpCtxView { ctx: &mut wasi.http, hooks: &mut wasi.hooks, table: &mut wasi.table }
    }
}

impl WasiTlsView for Guest {
    fn tls(&mut self) -> WasiTlsCtxView<'_> {
        let wasi = self.wasi();
        WasiTlsCtxView { ctx: &mut wasi.tls, table: &mut wasi.table }
    }
}
