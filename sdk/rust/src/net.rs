//! Connections over TCP, and TLS over them, for plugins with the grants `wasi` and `network:HOST:PORT`; the crate's feature
//! `net`, on `wasm32-wasip2`.
//!
//! Owns the way from a name to bytes that come and go; must not know what they mean. Certificates are judged by the host.
//! Invariant: nothing waits longer than the call has time.
//!
//! ```no_run
//! use std::io::{Read, Write};
//!
//! use platform_sdk::net::Stream;
//!
//! # fn main() -> std::io::Result<()> {
//! let mut stream = Stream::connect("cache.internal", 6380)?.secure("cache.internal")?;
//! stream.write_all(b"PING\r\n")?;
//! stream.flush()?;
//! let mut answer = [0; 7];
//! stream.read_exact(&mut answer)?;
//! # Ok(())
//! # }
//! ```

use std::{
    io::{self, ErrorKind, Read, Write},
    time::Duration,
};

use wasip2::{
    clocks::monotonic_clock::subscribe_duration,
    io::{
        poll::{Pollable, poll},
        streams::{InputStream, OutputStream, StreamError},
    },
    sockets::{
        instance_network::instance_network,
        ip_name_lookup::resolve_addresses,
        network::{
            ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, Network,
        },
        tcp::TcpSocket,
        tcp_create_socket::create_tcp_socket,
    },
};

use crate::{
    bindings::tls::wasi::tls::types::{ClientConnection, ClientHandshake},
    context,
};

/// Shortest wait, for calls whose time is as good as over.
const LEAST: Duration = Duration::from_millis(10);
/// Longest wait for the end of a TLS handshake: a server that speaks something else may say nothing at all.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// Most bytes that are read at once.
const READ: usize = 64 << 10;

/// A connection. Reading and writing wait as long as the call has time, then fail with [`ErrorKind::TimedOut`].
#[derive(Debug)]
pub struct Stream {
    // They are dropped in this order: each stands on what comes after it.
    input: InputStream,
    output: OutputStream,
    _encrypted: Option<ClientConnection>,
    socket: TcpSocket,
}

impl Stream {
    /// Connects to a host by its name or address.
    ///
    /// # Errors
    /// With host and port: what kept the connection from being made. [`ErrorKind::PermissionDenied`] when it was not granted.
    pub fn connect(host: &str, port: u16) -> io::Result<Self> {
        let network = instance_network();
        let mut failure = ErrorCode::NameUnresolvable;
        let connected = resolve(&network, host).and_then(|addresses| {
            for address in addresses {
                match Self::open(&network, address, port) {
                    Err(Failure::Code(code)) => failure = code,
                    done => return done,
                }
            }
            Err(Failure::Code(failure))
        });
        connected.map_err(|failure| failure.told(host, port))
    }

    fn open(network: &Network, address: IpAddress, port: u16) -> Result<Self, Failure> {
        let (family, address) = match address {
            IpAddress::Ipv4(address) => {
                (IpAddressFamily::Ipv4, IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address }))
            }
            IpAddress::Ipv6(address) => {
                let address = Ipv6SocketAddress { port, flow_info: 0, address, scope_id: 0 };
                (IpAddressFamily::Ipv6, IpSocketAddress::Ipv6(address))
            }
        };
        let socket = create_tcp_socket(family)?;
        socket.start_connect(network, address)?;
        loop {
            match socket.finish_connect() {
                Err(ErrorCode::WouldBlock) => wait(&socket.subscribe(), Duration::MAX)?,
                connected => {
                    let (input, output) = connected?;
                    return Ok(Self { input, output, _encrypted: None, socket });
                }
            }
        }
    }

    /// Encrypts the connection, once the host has found that the server's certificate is that of `host`, a name or an address.
    ///
    /// # Errors
    /// Why it is not encrypted; the connection is closed then. [`ErrorKind::InvalidData`] when the host says why,
    /// [`ErrorKind::TimedOut`] when the server says nothing.
    pub fn secure(self, host: &str) -> io::Result<Self> {
        let Self { input, output, socket, .. } = self;
        let coming = ClientHandshake::finish(ClientHandshake::new(host, input, output));
        wait(&coming.subscribe(), HANDSHAKE).map_err(|_silent| {
            let why = format!("`{host}` did not answer the TLS handshake in time; does it speak TLS on that port?");
            io::Error::new(ErrorKind::TimedOut, why)
        })?;
        match coming.get() {
            Some(Ok(Ok((encrypted, input, output)))) => Ok(Self { input, output, _encrypted: Some(encrypted), socket }),
            Some(Ok(Err(error))) => {
                let why = error.to_debug_string();
                Err(io::Error::new(ErrorKind::InvalidData, why.lines().next().unwrap_or_default()))
            }
            Some(Err(())) | None => Err(io::Error::other("the host lost the TLS handshake")),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let found = match self.input.read(buffer.len().min(READ) as u64) {
                Ok(found) => found,
                Err(StreamError::Closed) => return Ok(0),
                Err(error) => return Err(broken(&error)),
            };
            if found.is_empty() {
                wait(&self.input.subscribe(), Duration::MAX)?;
                continue;
            }
            if let Some(room) = buffer.get_mut(..found.len()) {
                room.copy_from_slice(&found);
            }
            return Ok(found.len());
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let room = self.output.check_write().map_err(|error| broken(&error))?;
            if room == 0 {
                wait(&self.output.subscribe(), Duration::MAX)?;
                continue;
            }
            let count = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            self.output.write(bytes.get(..count).unwrap_or(bytes)).map_err(|error| broken(&error))?;
            return Ok(count);
        }
    }

    /// Sends what was written on its way; does not wait until it has gone.
    fn flush(&mut self) -> io::Result<()> {
        self.output.flush().map_err(|error| broken(&error))
    }
}

/// Why there is no connection.
enum Failure {
    Code(ErrorCode),
    Late(io::Error),
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<io::Error> for Failure {
    fn from(late: io::Error) -> Self {
        Self::Late(late)
    }
}

impl Failure {
    fn told(self, host: &str, port: u16) -> io::Error {
        let (kind, why) = match self {
            Self::Late(late) => (late.kind(), late.to_string()),
            Self::Code(ErrorCode::AccessDenied) => {
                (ErrorKind::PermissionDenied, format!("it was not granted; grant `network:{host}:{port}`"))
            }
            Self::Code(code) => {
                let kind = match code {
                    ErrorCode::ConnectionRefused => ErrorKind::ConnectionRefused,
                    ErrorCode::ConnectionReset => ErrorKind::ConnectionReset,
                    ErrorCode::ConnectionAborted => ErrorKind::ConnectionAborted,
                    ErrorCode::Timeout => ErrorKind::TimedOut,
                    _ => ErrorKind::Other,
                };
                (kind, code.name().replace('-', " "))
            }
        };
        io::Error::new(kind, format!("no connection to `{host}:{port}`: {why}"))
    }
}

fn resolve(network: &Network, host: &str) -> Result<Vec<IpAddress>, Failure> {
    let coming = resolve_addresses(network, host)?;
    let mut found = Vec::new();
    loop {
        match coming.resolve_next_address() {
            Ok(Some(address)) => found.push(address),
            Ok(None) => return Ok(found),
            Err(ErrorCode::WouldBlock) => wait(&coming.subscribe(), Duration::MAX)?,
            Err(code) => return Err(code.into()),
        }
    }
}

/// Waits, as long as the call has time and no longer than `most`.
fn wait(event: &Pollable, most: Duration) -> io::Result<()> {
    let time = context::remaining().max(LEAST).min(most);
    let over = subscribe_duration(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    if poll(&[event, &over]).contains(&0) {
        return Ok(());
    }
    Err(io::Error::new(ErrorKind::TimedOut, "no answer in time"))
}

fn broken(error: &StreamError) -> io::Error {
    match error {
        StreamError::Closed => io::Error::new(ErrorKind::BrokenPipe, "the connection is closed"),
        StreamError::LastOperationFailed(error) => {
            let why = error.to_debug_string();
            io::Error::new(ErrorKind::ConnectionAborted, why.lines().next().unwrap_or_default())
        }
    }
}
