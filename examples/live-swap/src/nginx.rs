//! A real nginx that asks the daemon about every request (`auth_request`) before it passes it on.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::backend::TAG_HEADER;
use crate::checker::Probe;
use crate::process::{Running, executable, free_address};

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    /// Its process.
    pub process: Running,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Nginx {
    /// Starts nginx in front of the services.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn start(folder: &Path, daemon: SocketAddr, backends: &[SocketAddr]) -> Result<Self> {
        let address = free_address()?;
        let home = folder.join("nginx");
        std::fs::create_dir_all(&home)?;
        let file = home.join("nginx.conf");
        std::fs::write(&file, configuration(&home, address, daemon, backends))
            .context("can't write nginx's configuration")?;
        let mut command = Command::new(executable("NGINX", "nginx")?);
        command.arg("-p").arg(&home).arg("-c").arg(&file).args(["-e", "stderr"]);
        let mut process = Running::start("nginx", folder, &mut command)?;
        let url = format!("http://{address}/-/alive");
        process.ready(Duration::from_secs(10), async || matches!(Probe::new().status(&url).await, Ok(204))).await?;
        Ok(Self { process, address })
    }
}

/// One process and one worker, so that ending the process ends all of nginx. Connections to the daemon and the services
/// are kept open: a new one for every request would use up the ports of the machine.
fn configuration(home: &Path, address: SocketAddr, daemon: SocketAddr, backends: &[SocketAddr]) -> String {
    let home = home.display();
    let servers: String = backends.iter().map(|backend| format!("server {backend};\n        ")).collect();
    let tag = TAG_HEADER.replace('-', "_");
    format!(
        "\
daemon off;
master_process off;
pid {home}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    keepalive_requests 1000000000;
    upstream platform {{
        server {daemon};
        keepalive 64;
        keepalive_requests 1000000000;
    }}
    upstream services {{
        {servers}keepalive 64;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address};
        location = /-/alive {{ return 204; }}
        location / {{
            auth_request /-/auth;
            auth_request_set $tag $upstream_http_{tag};
            # The caller must not be able to set what the policy sets.
            proxy_set_header {TAG_HEADER} $tag;
            proxy_hide_header {TAG_HEADER};
            add_header {TAG_HEADER} $tag always;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_pass http://services;
        }}
        location = /-/auth {{
            internal;
            proxy_pass http://platform/forward-auth?gateway=nginx;
            proxy_http_version 1.1;
            proxy_pass_request_body off;
            proxy_set_header Connection \"\";
            proxy_set_header Content-Length \"\";
            proxy_set_header X-Original-URI $request_uri;
            proxy_set_header X-Original-Method $request_method;
        }}
    }}
}}
"
    )
}
