//! [`Target`]: where the daemon is, and which token it is shown.
//!
//! Owns how both are found from options, environment and the data directory; must not know what is asked of the daemon.
//! Invariant: a token from the data directory goes to no other address than the one found there, unless the user named
//! both.

use std::{fs, io, path::Path, time::Duration};

use tonic::transport::{Channel, Endpoint};

use super::failure::{Exit, Failure};
use crate::{cli::Global, place, words};

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a silent connection is looked after, so that a watch notices a daemon that went without a word.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// What the daemon may send of large answers before it hears that they were taken.
const WINDOW_BYTES: u32 = 1 << 20;
/// Largest token file that is read.
const TOKEN_BYTES: u64 = 64 << 10;

/// Where the daemon is and what it is shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    address: String,
    /// The bearer token; none when none was found.
    pub(crate) token: Option<String>,
}

impl Target {
    /// Finds the daemon.
    pub(crate) fn find(global: &Global) -> Result<Self, Failure> {
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

    /// Connects to it.
    pub(crate) async fn connect(&self) -> Result<Channel, Failure> {
        let wrong = |_| Failure::usage(format!("`{}` is no address; write `HOST:PORT`", self.address));
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).map_err(wrong)?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
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
        Err(error) => Err(Failure::usage(format!("can't read `{}`: {}", file.display(), words::of(&error)))),
    }
}

/// The token in a file, without the white space around it.
pub(crate) fn read_token(file: &Path) -> Result<String, Failure> {
    use io::Read;
    let unreadable = |error: io::Error| {
        let message = format!("can't read the token file `{}`: {}", file.display(), words::of(&error));
        Failure::new(Exit::Unauthorized, "UNREADABLE_TOKEN", message)
    };
    let mut text = String::new();
    fs::File::open(file).map_err(unreadable)?.take(TOKEN_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    match text.trim() {
        "" => Err(Failure::usage(format!("the token file `{}` is empty; write the token into it", file.display()))),
        token => Ok(token.to_owned()),
    }
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
    words::lower(&cause.to_string())
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
}
