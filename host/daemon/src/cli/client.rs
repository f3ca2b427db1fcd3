//! [`Client`]: the connection of a client command to the daemon.
//!
//! Owns how the daemon and the token are found, and what every request carries; must not know the commands. Invariants:
//! every call ends within the timeout; a token from the data directory goes to no other address than the one found there
//! unless the user named both.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use platform_proto::{
    NAMESPACE_HEADER, auth::v1::auth_client::AuthClient, discovery::v1::discovery_client::DiscoveryClient,
    kv::v1::kv_client::KvClient, plugin::v1::plugins_client::PluginsClient, router::v1::router_client::RouterClient,
    server::v1::server_client::ServerClient,
};
use tonic::{
    Request, Response, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use super::failure::{Exit, Failure};
use crate::{cli::Global, place};

/// From here on a person wants to see that something goes on.
pub(crate) const SLOW: Duration = Duration::from_millis(100);
/// How long a call may take unless `--timeout` says otherwise.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);
/// The same for calls that compile components.
pub(crate) const COMPILE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a silent connection is looked after, so that a watch notices a daemon that went without a word.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Largest answer: a page of values and room for what is around them.
const ANSWER_BYTES: usize = 32 << 20;
/// Largest token file that is read.
const TOKEN_BYTES: u64 = 64 << 10;

/// A channel whose requests carry token and namespace.
pub(crate) type Connection = InterceptedService<Channel, Credentials>;

/// A connection to the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    channel: Channel,
    credentials: Credentials,
    timeout: Option<Duration>,
}

macro_rules! capability {
    ($(#[$doc:meta])* $name:ident, $client:ident) => {
        $(#[$doc])*
        pub(crate) fn $name(&self) -> $client<Connection> {
            $client::with_interceptor(self.channel.clone(), self.credentials.clone())
                .max_decoding_message_size(ANSWER_BYTES)
        }
    };
}

impl Client {
    /// Finds the daemon and connects.
    pub(crate) async fn connect(global: &Global) -> Result<Self, Failure> {
        let target = Target::find(global)?;
        let credentials = Credentials {
            token: target.token.as_deref().map(bearer).transpose()?,
            namespace: global.namespace.as_deref().filter(|name| !name.is_empty()).map(namespace).transpose()?,
        };
        let channel = target.connect().await?;
        Ok(Self { channel, credentials, timeout: global.timeout })
    }

    capability!(
        /// Values under keys.
        kv, KvClient
    );
    capability!(
        /// Which services run where.
        discovery, DiscoveryClient
    );
    capability!(
        /// May this caller do this?
        auth, AuthClient
    );
    capability!(
        /// Which copy of a service should take this request?
        router, RouterClient
    );
    capability!(
        /// Components and slots.
        plugins, PluginsClient
    );
    capability!(
        /// The daemon itself.
        server, ServerClient
    );

    /// Waits for the answer of a call.
    pub(crate) async fn call<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Failure> {
        self.call_within(TIMEOUT, call).await
    }

    /// Waits for the answer of a call that usually takes up to `usual`.
    pub(crate) async fn call_within<T>(
        &self, usual: Duration, call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        let limit = self.timeout(usual);
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => {
                let message = format!("no answer within {} ms; give more time with `--timeout`", limit.as_millis());
                Err(Failure::new(Exit::Unavailable, "DEADLINE_EXCEEDED", message))
            }
        }
    }

    /// A request that tells the daemon how long this side will wait.
    pub(crate) fn request<T>(&self, usual: Duration, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout(usual));
        request
    }

    fn timeout(&self, usual: Duration) -> Duration {
        self.timeout.unwrap_or(usual)
    }
}

/// What every request carries.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    token: Option<AsciiMetadataValue>,
    namespace: Option<AsciiMetadataValue>,
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        if let Some(token) = &self.token {
            metadata.insert("authorization", token.clone());
        }
        if let Some(namespace) = &self.namespace {
            metadata.insert(NAMESPACE_HEADER, namespace.clone());
        }
        Ok(request)
    }
}

/// Where the daemon is and what it is shown.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    address: String,
    token: Option<String>,
}

impl Target {
    fn find(global: &Global) -> Result<Self, Failure> {
        let named = global.data_dir.as_deref().filter(|path| !path.as_os_str().is_empty());
        let address = global.address.as_deref().filter(|address| !address.is_empty());
        // The default directory's token belongs to the daemon of the default directory, whatever address is named.
        let directory = match (address, named) {
            (_, Some(directory)) => Some(directory.to_owned()),
            (Some(_), None) => None,
            (None, None) => Some(place::default_data_dir().ok_or_else(nowhere)?),
        };
        let address = match (address, &directory) {
            (Some(address), _) => address.to_owned(),
            (None, Some(directory)) => read_address(directory)?,
            (None, None) => return Err(nowhere()),
        };
        let token = match (&global.token_file, &directory) {
            (Some(file), _) if !file.as_os_str().is_empty() => Some(read_token(file)?),
            (_, Some(directory)) => {
                let file = directory.join(place::ADMIN_TOKEN);
                if file.exists() { Some(read_token(&file)?) } else { None }
            }
            _ => None,
        };
        Ok(Self { address: normal_address(&address)?, token })
    }

    async fn connect(&self) -> Result<Channel, Failure> {
        let wrong = |_| Failure::usage(format!("`{}` is no address; write `HOST:PORT`", self.address));
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).map_err(wrong)?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        endpoint.connect().await.map_err(|error| {
            let why = root_cause(&error);
            let address = &self.address;
            let message = format!(
                "can't reach the daemon at `{address}`: {why}; start it with `platform server`, or name another with `--address` or `--data-dir`"
            );
            Failure::new(Exit::Unavailable, "UNREACHABLE", message)
        })
    }
}

/// The address without a scheme.
fn normal_address(text: &str) -> Result<String, Failure> {
    if text.starts_with("https://") {
        let message = format!("`{text}` asks for TLS, which the daemon does not speak; write `HOST:PORT`");
        return Err(Failure::usage(message));
    }
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let parts = address.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if parts.is_none() || address.contains(['/', '@', ' ']) {
        return Err(Failure::usage(format!("`{text}` is no address; write `HOST:PORT`, an IPv6 host in brackets")));
    }
    Ok(address.to_owned())
}

fn read_address(directory: &Path) -> Result<String, Failure> {
    let file = directory.join(place::ADDRESS);
    match fs::read_to_string(&file) {
        Ok(address) => Ok(address.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let message = format!(
                "no daemon has run in `{}`; start one with `platform server --data-dir {}`, or name one with `--address` or `--data-dir`",
                directory.display(),
                directory.display()
            );
            Err(Failure::new(Exit::Unavailable, "UNREACHABLE", message))
        }
        Err(error) => Err(Failure::usage(format!("can't read `{}`: {error}", file.display()))),
    }
}

/// The token in a file, without the white space around it.
pub(crate) fn read_token(file: &Path) -> Result<String, Failure> {
    use io::Read;
    let unreadable = |error: io::Error| {
        let message = format!("can't read the token file `{}`: {error}", file.display());
        Failure::new(Exit::Unauthorized, "UNREADABLE_TOKEN", message)
    };
    let mut text = String::new();
    fs::File::open(file).map_err(unreadable)?.take(TOKEN_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    match text.trim() {
        "" => Err(Failure::usage(format!("the token file `{}` is empty; write the token into it", file.display()))),
        token => Ok(token.to_owned()),
    }
}

fn bearer(token: &str) -> Result<AsciiMetadataValue, Failure> {
    let wrong = |_| Failure::usage("the token holds characters that no token has; name the right file with `--token-file`");
    let mut value: AsciiMetadataValue = format!("Bearer {token}").parse().map_err(wrong)?;
    value.set_sensitive(true);
    Ok(value)
}

fn namespace(name: &str) -> Result<AsciiMetadataValue, Failure> {
    name.parse().map_err(|_| Failure::usage(format!("`{name}` is no name of a namespace; use letters, digits, `.`, `_` and `-`")))
}

fn nowhere() -> Failure {
    Failure::usage("don't know which daemon to ask; name it with `--address` or `--data-dir`")
}

/// What the system said, without the layers that passed it on.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    // The system's errors end with a number that tells a person nothing.
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// The file named on the command line, or standard input for `-`.
pub(crate) fn read_input(file: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    use io::Read;
    let unreadable = |error: io::Error| Failure::usage(format!("can't read `{}`: {error}", file.display()));
    let source: Box<dyn io::Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(fs::File::open(file).map_err(unreadable)?)
    };
    let mut bytes = Vec::new();
    source.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        let message = format!("`{}` is larger than the {} that are allowed", file.display(), super::quantity::human_bytes(most));
        return Err(Failure::usage(message));
    }
    Ok(bytes)
}

/// A path for messages.
pub(crate) fn shown(path: &Path) -> PathBuf {
    if path == Path::new("-") { PathBuf::from("standard input") } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global() -> Global {
        Global::default()
    }

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["127.0.0.1:80", "http://localhost:8080/", "[::1]:1"] {
            assert!(normal_address(good).is_ok(), "{good}");
        }
        for wrong in ["", "localhost", ":80", "a:b", "a:99999", "https://a:1", "http://a:1/x", "u@h:1", "a b:1"] {
            assert_eq!(normal_address(wrong).unwrap_err().exit, Exit::Error, "{wrong}");
        }
    }

    #[test]
    fn the_data_directory_tells_address_and_token() {
        let directory = tempfile::tempdir().unwrap();
        let mut global = Global { data_dir: Some(directory.path().to_owned()), ..global() };
        let failure = Target::find(&global).unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.message.contains("platform server --data-dir"), "{failure}");

        fs::write(directory.path().join("address"), "127.0.0.1:9\n").unwrap();
        assert_eq!(Target::find(&global).unwrap(), Target { address: "127.0.0.1:9".into(), token: None });
        fs::write(directory.path().join("admin.token"), "secret\n").unwrap();
        assert_eq!(Target::find(&global).unwrap().token.as_deref(), Some("secret"));

        global.address = Some("example.org:1".into());
        let target = Target::find(&global).unwrap();
        assert_eq!((target.address.as_str(), target.token.as_deref()), ("example.org:1", Some("secret")));
        global.data_dir = None;
        assert_eq!(Target::find(&global).unwrap().token, None, "no token goes to an address that stands alone");
    }

    #[test]
    fn an_empty_token_file_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(read_token(file.path()).unwrap_err().message.contains("is empty"));
        assert!(read_token(Path::new("/nowhere/token")).unwrap_err().message.contains("`/nowhere/token`"));
    }

    #[test]
    fn input_is_bounded() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "12345").unwrap();
        assert_eq!(read_input(file.path(), 5).unwrap(), b"12345");
        assert!(read_input(file.path(), 4).is_err());
    }
}
