//! Real NATS servers with JetStream, on free ports of this machine or in a network of their own; stopped when dropped.
//!
//! Owns processes and their temporary directories. Invariant: a server that is started again has its data and its address.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use platform_base::clock;

use crate::{network::Network, signal};

/// Until a server must answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Ports of a server that has an address for itself.
const CLIENTS: u16 = 4222;
const ROUTES: u16 = 6222;

/// A NATS server.
#[derive(Debug)]
pub struct NatsServer {
    /// Its name in its cluster.
    pub name: String,
    address: SocketAddr,
    /// The namespace that it runs in.
    namespace: Option<String>,
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl NatsServer {
    /// A server by itself.
    #[must_use]
    pub fn alone() -> Self {
        Self::alone_with("")
    }

    /// The same with more in its configuration.
    #[must_use]
    pub fn alone_with(more: &str) -> Self {
        let mut server = Self::prepare("alone", free(), None, "", more);
        server.start();
        server
    }

    /// The same that syncs its files at this interval: `always` before it acknowledges, or a time such as `2m`.
    #[must_use]
    pub fn alone_synced(interval: &str) -> Self {
        let mut server = Self::prepare("alone", free(), None, &format!(", sync_interval: \"{interval}\""), "");
        server.start();
        server
    }

    /// Three servers that replicate.
    #[must_use]
    pub fn cluster() -> Vec<Self> {
        Self::connected([0; 3].map(|_| (free(), free(), None)))
    }

    /// Three servers that replicate, each on a node of its own of the network.
    ///
    /// # Panics
    /// The network has fewer nodes.
    #[must_use]
    pub fn cluster_in(network: &Network) -> Vec<Self> {
        Self::connected([0, 1, 2].map(|node| {
            let address = network.address(node);
            let port = |port| SocketAddr::new(address.into(), port);
            (port(CLIENTS), port(ROUTES), Some(network.namespace(node)))
        }))
    }

    fn connected(nodes: [(SocketAddr, SocketAddr, Option<String>); 3]) -> Vec<Self> {
        let urls: Vec<String> = nodes.iter().map(|(_, route, _)| format!("nats://{route}")).collect();
        let urls = urls.join(", ");
        let make = |(index, (address, route, namespace)): (usize, (SocketAddr, SocketAddr, Option<String>))| {
            let more = format!("cluster {{ name: c, listen: \"{route}\", routes: [{urls}] }}");
            Self::prepare(&format!("n{index}"), address, namespace, "", &more)
        };
        let mut servers: Vec<Self> = nodes.into_iter().enumerate().map(make).collect();
        for server in &mut servers {
            server.spawn();
        }
        for server in &servers {
            server.listens();
        }
        servers
    }

    fn prepare(
        name: &str, address: SocketAddr, namespace: Option<String>, more_of_jetstream: &str, more: &str,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let store = folder.path().join("store");
        let configuration = format!(
            "listen: \"{address}\"\nserver_name: {name}\njetstream {{ store_dir: \"{}\"{more_of_jetstream} }}\n{more}\n",
            store.display()
        );
        fs::write(folder.path().join("nats.conf"), configuration).unwrap_or_else(|error| panic!("{error}"));
        Self { name: name.to_owned(), address, namespace, folder, process: None }
    }

    /// Starts it, for the first time or again, and waits until it listens.
    ///
    /// # Panics
    /// It can't be started; `cargo xtask setup --servers` installs it.
    pub fn start(&mut self) {
        self.spawn();
        self.listens();
    }

    /// Starts it and does not wait.
    ///
    /// # Panics
    /// It can't be started.
    pub fn spawn(&mut self) {
        let program = crate::tool("nats-server");
        let mut command = match &self.namespace {
            None => Command::new(&program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(&program);
                command
            }
        };
        let child = command
            .arg("--config")
            .arg(self.folder.path().join("nats.conf"))
            .arg("--log")
            .arg(self.folder.path().join("log"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("`nats-server`: {error}; `cargo xtask setup --servers` installs version 2.12")
        });
        self.process = Some(child);
    }

    fn listens(&self) {
        let until = clock::now() + PATIENCE;
        while TcpStream::connect_timeout(&self.address, PATIENCE).is_err() {
            assert!(clock::now() < until, "{} does not listen:\n{}", self.name, self.log());
            thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops it in the middle of whatever it does.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on as if no time had passed.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        match &self.process {
            Some(process) => signal(process, name),
            None => panic!("{} does not run", self.name),
        }
    }

    /// Where clients find it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let start = log.len().saturating_sub(4000);
            eprintln!("what {} wrote last:\n{}", self.name, log.get(start..).unwrap_or_default());
        }
    }
}

fn free() -> SocketAddr {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
    free.unwrap_or_else(|error| panic!("no free port: {error}"))
}
