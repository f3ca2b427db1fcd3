//! Real NATS servers on free ports of this machine, with JetStream, stopped when they are dropped.
//!
//! Owns processes and their temporary directories. Invariant: a server that is started again has its data and its ports.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use platform_base::clock;
use platform_storage::{Nats, NatsOptions, Options};

/// Until a server must answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A NATS server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: String,
    address: SocketAddr,
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl Server {
    /// A server by itself.
    pub(crate) fn alone() -> Self {
        Self::alone_with("")
    }

    /// The same with more in its configuration.
    pub(crate) fn alone_with(more: &str) -> Self {
        let mut server = Self::prepare("alone", free(), more);
        server.start();
        server
    }

    /// Three servers that replicate.
    pub(crate) fn cluster() -> Vec<Self> {
        let routes: Vec<SocketAddr> = (0..3).map(|_| free()).collect();
        let urls: Vec<String> = routes.iter().map(|route| format!("nats://{route}")).collect();
        let make = |(index, route): (usize, &SocketAddr)| {
            let urls = urls.join(", ");
            let more = format!("cluster {{ name: c, listen: \"{route}\", routes: [{urls}] }}");
            Self::prepare(&format!("n{index}"), free(), &more)
        };
        let mut servers: Vec<Self> = routes.iter().enumerate().map(make).collect();
        for server in &mut servers {
            server.start();
        }
        servers
    }

    fn prepare(name: &str, address: SocketAddr, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        let configuration = format!(
            "listen: \"{address}\"\nserver_name: {name}\njetstream {{ store_dir: \"{}\" }}\n{more}\n",
            store.display()
        );
        fs::write(folder.path().join("nats.conf"), configuration).unwrap();
        Self { name: name.to_owned(), address, folder, process: None }
    }

    /// Starts it, for the first time or again, and waits until it listens.
    pub(crate) fn start(&mut self) {
        let child = Command::new(program())
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
        let until = clock::now() + PATIENCE;
        while TcpStream::connect(self.address).is_err() {
            assert!(clock::now() < until, "{} does not listen:\n{}", self.name, self.log());
            thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops it in the middle of whatever it does.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on as if no time had passed.
    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let start = log.len().saturating_sub(4000);
            println!("what {} wrote last:\n{}", self.name, log.get(start..).unwrap_or_default());
        }
    }
}

/// What `cargo xtask setup` unpacked beside what it builds, or what the machine has.
fn program() -> PathBuf {
    let own = env::current_exe().unwrap();
    let own = own.ancestors().map(|folder| folder.join("tools/bin/nats-server")).find(|program| program.is_file());
    own.unwrap_or_else(|| "nats-server".into())
}

fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// How a daemon gets to servers.
pub(crate) fn options(servers: &[Server]) -> NatsOptions {
    NatsOptions::new(servers.iter().map(Server::url))
}

/// Storage as a daemon has it.
pub(crate) async fn connect(servers: &[Server]) -> Nats {
    Nats::connect(options(servers), Options::default()).await.unwrap()
}
