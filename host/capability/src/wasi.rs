//! WASI 0.2 for guests that were granted it: clocks, random numbers, standard error to the log; no files, an empty
//! environment, and sockets only to granted hosts and ports.

use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, sockets::SocketAddrUse};

use crate::guest::Guest;

/// WASI's state of one instance.
pub(crate) struct Wasi {
    context: WasiCtx,
    table: ResourceTable,
}

impl std::fmt::Debug for Wasi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wasi")
    }
}

impl Wasi {
    fn new(network: &[(String, u16)]) -> Self {
        let mut builder = WasiCtxBuilder::new();
        if network.is_empty() {
            builder.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        } else {
            let granted: std::sync::Arc<[_]> = network.into();
            builder.allow_tcp(true).allow_udp(false).allow_ip_name_lookup(true).socket_addr_check(
                move |address, reason| {
                    let granted = std::sync::Arc::clone(&granted);
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
        Self { context: builder.build(), table: ResourceTable::new() }
    }
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

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let parts = &self.parts;
        let wasi = self.wasi.get_or_insert_with(|| Box::new(Wasi::new(&parts.network)));
        WasiCtxView { ctx: &mut wasi.context, table: &mut wasi.table }
    }
}
