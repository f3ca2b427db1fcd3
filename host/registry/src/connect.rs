//! Connections to a registry and to where it leads.
//!
//! Owns who may be connected to and how the line is encrypted; must not know what is sent. Names are resolved here, and the addresses
//! that are judged are those that are connected to. Invariant: the registry that the user named is reached wherever it is; any
//! other place is reached over TLS only, and only if it is no closer to this machine than the registry itself.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Uri, uri::Scheme};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use tokio_util::either::Either;

use crate::{error::Fault, reference::bare_host};

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Longest wait for one of them, and for the encryption.
const CONNECT: Duration = Duration::from_secs(5);
/// Largest file of certificates.
const CERTIFICATES_BYTES_MAX: u64 = 8 << 20;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the URL has no host")]
    NoHost,
    #[error("{0}")]
    Unreachable(String),
    #[error("plain HTTP")]
    Plain,
    #[error("{0}")]
    Astray(&'static str),
    #[error("{0}")]
    Tls(String),
}

/// Makes connections.
#[derive(Clone)]
pub(crate) struct Connector {
    home: Arc<Home>,
    tls: TlsConnector,
}

/// The registry that the user named.
#[derive(Debug)]
pub(crate) struct Home {
    /// Its host, with its port if there is one.
    pub(crate) host: String,
    /// Whether it is spoken to over TLS.
    pub(crate) is_tls: bool,
    /// Whether the user allows plain HTTP to other machines.
    pub(crate) insecure: bool,
}

impl Home {
    /// Whether a URL leads to the registry itself.
    pub(crate) fn is(&self, uri: &Uri) -> bool {
        let authority = uri.authority().is_some_and(|authority| authority.as_str() == self.host);
        authority && is_tls(uri) == self.is_tls
    }
}

impl Connector {
    /// One that trusts whom the machine trusts, and the authorities in a file.
    pub(crate) fn new(home: Arc<Home>, ca_file: Option<&Path>) -> Result<Self, Fault> {
        let mut roots = RootCertStore::empty();
        // Those that can't be read are left out, as other programs of the machine do.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(file) = ca_file {
            let failed = |why: String| Fault::Certificates { file: file.display().to_string(), why };
            for certificate in certificates(file).map_err(failed)? {
                roots.add(certificate).map_err(|error| failed(error.to_string()))?;
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions();
        let failed =
            |error: tokio_rustls::rustls::Error| Fault::Tls { host: home.host.clone(), why: error.to_string() };
        let config = builder.map_err(failed)?.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { home, tls: TlsConnector::from(Arc::new(config)) })
    }

    async fn connect(self, uri: Uri) -> Result<Line, ConnectError> {
        let is_tls = is_tls(&uri);
        let host = bare_host(uri.host().ok_or(ConnectError::NoHost)?);
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let at_home = self.home.is(&uri);
        if !at_home && !is_tls {
            return Err(ConnectError::Astray("over plain HTTP"));
        }
        let found = resolve(host, port).await?;
        let allowed = if at_home { self.at_home(found)? } else { self.elsewhere(found).await? };
        let mut failure = io::ErrorKind::AddrNotAvailable;
        for address in allowed.into_iter().take(ADDRESSES_MAX) {
            match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // It is quicker with it, and works without.
                    let _ = stream.set_nodelay(true);
                    return if is_tls {
                        self.encrypt(host, stream).await
                    } else {
                        Ok(Line(TokioIo::new(Either::Left(stream))))
                    };
                }
                Ok(Err(error)) => failure = error.kind(),
                Err(_over) => failure = io::ErrorKind::TimedOut,
            }
        }
        Err(ConnectError::Unreachable(failure.to_string()))
    }

    /// The addresses of the registry itself: all of them, unless what is called loopback is none.
    fn at_home(&self, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, ConnectError> {
        let inside = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
        if self.home.is_tls || self.home.insecure || found.iter().all(inside) {
            Ok(found)
        } else {
            Err(ConnectError::Plain)
        }
    }

    /// The addresses of a place where the registry leads.
    async fn elsewhere(&self, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, ConnectError> {
        // The port does not matter for where a host is.
        let home = resolve(bare_host(&self.home.host), 443).await?;
        let closest = home.iter().map(|address| nearness(address.ip())).max().unwrap_or(Nearness::Public);
        let allowed: Vec<_> = found.into_iter().filter(|address| nearness(address.ip()) <= closest).collect();
        if allowed.is_empty() { Err(ConnectError::Astray("which is inside this network")) } else { Ok(allowed) }
    }

    async fn encrypt(&self, host: &str, stream: TcpStream) -> Result<Line, ConnectError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| ConnectError::Tls(error.to_string()))?;
        let stream = tokio::time::timeout(CONNECT, self.tls.connect(name, stream)).await;
        let stream = stream.map_err(|_over| ConnectError::Tls("no answer in time".to_owned()))?;
        let stream = stream.map_err(|error| ConnectError::Tls(error.to_string()))?;
        Ok(Line(TokioIo::new(Either::Right(Box::new(stream)))))
    }
}

fn is_tls(uri: &Uri) -> bool {
    uri.scheme() != Some(&Scheme::HTTP)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let size = fs::metadata(file).map_err(|error| error.kind().to_string())?.len();
    if size > CERTIFICATES_BYTES_MAX {
        return Err(format!("it is larger than {CERTIFICATES_BYTES_MAX} bytes"));
    }
    let text = fs::read(file).map_err(|error| error.kind().to_string())?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| error.to_string())?;
    if found.is_empty() { Err("there are none in it".to_owned()) } else { Ok(found) }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    let found = lookup_host((host, port)).await;
    let found: Vec<_> = found.map_err(|_why| ConnectError::Unreachable("the name is not known".to_owned()))?.collect();
    if found.is_empty() { Err(ConnectError::Unreachable("the name has no address".to_owned())) } else { Ok(found) }
}

/// How close an address is to this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    Public,
    Private,
    /// This machine, its link, where clouds have their metadata, and forms that hide another address.
    Own,
}

fn nearness(address: IpAddr) -> Nearness {
    match address.to_canonical() {
        IpAddr::V4(address) => match address.octets() {
            [0 | 127 | 224..=255, ..] | [169, 254, ..] => Nearness::Own,
            [100, 64..=127, ..] => Nearness::Private,
            _ if address.is_private() => Nearness::Private,
            _ => Nearness::Public,
        },
        IpAddr::V6(address) => match address.segments() {
            [0xfc00..=0xfdff, ..] => Nearness::Private,
            // 6to4 and Teredo carry an address of IPv4, which may be any.
            [0x2002, ..] | [0x2001, 0, ..] => Nearness::Own,
            [0x2000..=0x3fff, ..] => Nearness::Public,
            _ => Nearness::Own,
        },
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Line;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Line, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A connection.
pub(crate) struct Line(TokioIo<Either<TcpStream, Box<TlsStream<TcpStream>>>>);

impl Connection for Line {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Line {
    fn poll_read(
        mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Line {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_as_close_as_they_lead() {
        for (address, near) in [
            ("127.0.0.1", Nearness::Own),
            ("0.0.0.0", Nearness::Own),
            ("169.254.169.254", Nearness::Own),
            ("::1", Nearness::Own),
            ("::ffff:127.0.0.1", Nearness::Own),
            ("fe80::1", Nearness::Own),
            ("64:ff9b::7f00:1", Nearness::Own),
            ("2002:7f00:1::", Nearness::Own),
            ("10.1.2.3", Nearness::Private),
            ("100.64.0.1", Nearness::Private),
            ("fd00::1", Nearness::Private),
            ("::ffff:192.168.0.1", Nearness::Private),
            ("1.1.1.1", Nearness::Public),
            ("2606:4700::1111", Nearness::Public),
        ] {
            assert_eq!(nearness(address.parse().unwrap()), near, "{address}");
        }
    }

    fn connector(host: &str, is_tls: bool, insecure: bool) -> Connector {
        Connector::new(Arc::new(Home { host: host.to_owned(), is_tls, insecure }), None).unwrap()
    }

    async fn refused(connector: Connector, uri: &str) -> ConnectError {
        connector.connect(uri.parse().unwrap()).await.err().unwrap()
    }

    #[tokio::test]
    async fn a_registry_leads_no_closer_than_it_is_itself() {
        let public = || connector("192.88.100.1", true, true);
        for inside in ["https://127.0.0.1:1/", "https://10.0.0.1:1/", "https://[::1]:1/", "https://169.254.169.254/"] {
            let error = refused(public(), inside).await;
            assert!(matches!(error, ConnectError::Astray("which is inside this network")), "{inside}: {error:?}");
        }
        for plain in ["http://192.88.100.1/", "http://1.1.1.1/", "http://192.88.100.1:5000/"] {
            let error = refused(public(), plain).await;
            assert!(matches!(error, ConnectError::Astray("over plain HTTP")), "{plain}: {error:?}");
        }
        let error = refused(connector("127.0.0.1:5000", false, false), "http://127.0.0.1:1/").await;
        assert!(matches!(error, ConnectError::Astray("over plain HTTP")), "{error:?}");
        let error = refused(connector("127.0.0.1:5000", false, false), "https://127.0.0.1:1/").await;
        assert!(matches!(error, ConnectError::Unreachable(_)), "{error:?}");
    }

    #[tokio::test]
    async fn plain_http_is_for_this_machine_or_on_demand() {
        let error = refused(connector("10.0.0.1:1", false, false), "http://10.0.0.1:1/").await;
        assert!(matches!(error, ConnectError::Plain), "{error:?}");
        let error = refused(connector("127.0.0.1:1", false, false), "http://127.0.0.1:1/").await;
        assert!(matches!(error, ConnectError::Unreachable(_)), "{error:?}");
    }
}
