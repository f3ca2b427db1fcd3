//! A real PostgreSQL server on a free port of this machine, stopped when it is dropped.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{Certificate, until};

/// Until the server must answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Who the server trusts.
const USER: &str = "platform";
/// The database that a server with a certificate lets in over TLS only.
const SECURE: &str = "template1";

/// A running `postgres`, whose data stays in a folder of its own.
#[derive(Debug)]
pub struct Postgres {
    address: SocketAddr,
    folder: tempfile::TempDir,
    process: Child,
}

impl Postgres {
    /// Starts a server that keeps what it acknowledged.
    ///
    /// # Panics
    /// It can't be started; `cargo xtask setup --servers` installs it.
    #[must_use]
    pub async fn start() -> Self {
        Self::make(None).await
    }

    /// The same with TLS, without which nobody gets to the database of [`Postgres::secure_url`].
    ///
    /// # Panics
    /// It can't be started; `cargo xtask setup --servers` installs it.
    #[must_use]
    pub async fn start_secure(certificate: &Certificate) -> Self {
        Self::make(Some(certificate)).await
    }

    async fn make(certificate: Option<&Certificate>) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
        let address = free.unwrap_or_else(|error| panic!("no free port: {error}"));
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let data = folder.path().join("data");
        // The server refuses to run as root, and its data has to be its user's.
        std::fs::create_dir(&data).unwrap_or_else(|error| panic!("{error}"));
        if let Some((user, group)) = other_user() {
            let open = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(folder.path(), open).unwrap_or_else(|error| panic!("{error}"));
            std::os::unix::fs::chown(&data, Some(user), Some(group)).unwrap_or_else(|error| panic!("{error}"));
        }
        let made = program("initdb")
            .args([
                "--username",
                USER,
                "--auth",
                "trust",
                "--encoding",
                "UTF8",
                "--locale",
                "C",
                "--no-sync",
                "--pgdata",
            ])
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .unwrap_or_else(|error| panic!("`initdb`: {error}; `cargo xtask setup --servers` installs it"));
        assert!(made.success(), "`initdb` ended with {made}");
        if let Some(certificate) = certificate {
            secure(&data, certificate).unwrap_or_else(|error| panic!("{error}"));
        }
        let process = spawn(address, &data);
        let server = Self { address, folder, process };
        server.wait().await;
        server
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of its database, as `db-postgres` takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://{USER}@{}/postgres", self.address)
    }

    /// The address of the database that is reached over TLS only.
    #[must_use]
    pub fn secure_url(&self, mode: &str) -> String {
        format!("postgres://{USER}@{}/{SECURE}?sslmode={mode}", self.address)
    }

    /// Kills the server and the processes that it made at once.
    pub fn kill(&mut self) {
        // It leads a group of its own, in which its workers are.
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again with its data, where it was.
    ///
    /// # Panics
    /// It can't be started.
    pub async fn restart(&mut self) {
        self.kill();
        self.process = spawn(self.address, &self.folder.path().join("data"));
        self.wait().await;
    }

    /// The server takes connections: it answers a start with the way to log in.
    async fn wait(&self) {
        let answers = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect(self.address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let named = format!("user\0{USER}\0database\0postgres\0\0");
            let length = u32::try_from(named.len() + 8).unwrap_or_default();
            stream.write_all(&[&length.to_be_bytes()[..], &196_608_u32.to_be_bytes(), named.as_bytes()].concat())?;
            let mut kind = [0];
            stream.read_exact(&mut kind)?;
            Ok(kind == *b"R")
        };
        until("`postgres` to answer", async || answers().is_ok_and(|answers| answers)).await;
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// User and group that the server runs as where we are root: those of its package, or nobody.
fn other_user() -> Option<(u32, u32)> {
    let number = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).stderr(Stdio::null()).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse::<u32>().ok()
    };
    if number(&["-u"]) != Some(0) {
        return None;
    }
    ["postgres", "nobody"].into_iter().find_map(|name| Some((number(&["-u", name])?, number(&["-g", name])?)))
}

/// A program of the server: distributions keep them beside the path.
fn program(name: &str) -> Command {
    let beside = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<PathBuf> =
        beside.map(|version| version.path().join("bin").join(name)).filter(|file| file.is_file()).collect();
    found.sort();
    let mut command = Command::new(found.pop().unwrap_or_else(|| PathBuf::from(name)));
    command.current_dir("/").stderr(Stdio::null());
    if let Some((user, group)) = other_user() {
        command.uid(user).gid(group);
    }
    command
}

/// Puts a certificate where the server reads it as its own user, and one database behind TLS.
fn secure(data: &Path, Certificate { certificate, key }: &Certificate) -> std::io::Result<()> {
    for (from, name) in [(certificate, "server.crt"), (key, "server.key")] {
        let to = data.join(name);
        std::fs::copy(from, &to)?;
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o600))?;
        if let Some((user, group)) = other_user() {
            std::os::unix::fs::chown(&to, Some(user), Some(group))?;
        }
    }
    std::fs::OpenOptions::new().append(true).open(data.join("postgresql.conf"))?.write_all(b"\nssl = on\n")?;
    let rules = data.join("pg_hba.conf");
    let rest = std::fs::read_to_string(&rules)?;
    std::fs::write(&rules, format!("hostnossl {SECURE} all all reject\n{rest}"))
}

fn spawn(address: SocketAddr, data: &Path) -> Child {
    program("postgres")
        .arg("-D")
        .arg(data)
        .args(["-p", &address.port().to_string(), "-c", "listen_addresses=127.0.0.1"])
        .args(["-c", "unix_socket_directories=", "-c", "max_connections=200", "-c", "shared_buffers=16MB"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("`postgres`: {error}; `cargo xtask setup --servers` installs it"))
}
