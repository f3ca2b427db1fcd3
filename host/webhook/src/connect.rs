//! Connections to targets.
//!
//! Owns the way from a name to an encrypted connection; must not know what is sent. Names are resolved here, and the addresses
//! that are judged are those that are connected to: a name that leads elsewhere the next time is judged anew. Invariant: no
//! connection is made to an address that the configuration does not allow.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use platform_capability::{TlsError, Trust};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::{config::Config, target};

/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Longest wait for one of them, and for the encryption.
const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the URL has no host")]
    NoHost,
    #[error("the name can't be resolved: {0}")]
    Name(io::ErrorKind),
    #[error("the host leads to `{0}`, which is no public address and in no network of `webhooks.networks`")]
    Inside(IpAddr),
    #[error("`http` is not allowed")]
    Plain,
    #[error("no connection: {0}")]
    Refused(io::ErrorKind),
    #[error("no encrypted connection: {0}")]
    Tls(#[from] TlsError),
    #[error("no encrypted connection: no answer in time")]
    Silent,
}

/// Makes connections.
#[derive(Clone)]
pub(crate) struct Connector {
    config: Arc<Config>,
    trust: Trust,
}

impl Connector {
    /// One that trusts whom the platform trusts.
    pub(crate) fn new(config: Arc<Config>, trust: Trust) -> Self {
        Self { config, trust }
    }

    async fn connect(self, uri: Uri) -> Result<Line, ConnectError> {
        let (host, port) = target::place(&uri).ok_or(ConnectError::NoHost)?;
        let is_tls = target::is_tls(&uri);
        if !is_tls && !self.config.plain_http {
            return Err(ConnectError::Plain);
        }
        let mut failure = None;
        for address in resolve(host, port, &self.config).await? {
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
                Ok(Err(error)) => failure = Some(error.kind()),
                Err(_over) => failure = Some(io::ErrorKind::TimedOut),
            }
        }
        Err(ConnectError::Refused(failure.unwrap_or(io::ErrorKind::AddrNotAvailable)))
    }

    async fn encrypt(&self, host: &str, stream: TcpStream) -> Result<Line, ConnectError> {
        let stream = tokio::time::timeout(CONNECT, self.trust.connect(host, stream)).await;
        let stream = stream.map_err(|_over| ConnectError::Silent)??;
        Ok(Line(TokioIo::new(Either::Right(Box::new(stream)))))
    }
}

/// The addresses of a host that may be connected to.
pub(crate) async fn resolve(host: &str, port: u16, config: &Config) -> Result<Vec<SocketAddr>, ConnectError> {
    let found: Vec<SocketAddr> =
        lookup_host((host, port)).await.map_err(|error| ConnectError::Name(error.kind()))?.collect();
    let inside = found.iter().map(SocketAddr::ip).find(|address| !config.reaches(*address));
    let allowed: Vec<SocketAddr> =
        found.into_iter().filter(|address| config.reaches(address.ip())).take(ADDRESSES_MAX).collect();
    match inside {
        Some(inside) if allowed.is_empty() => Err(ConnectError::Inside(inside)),
        _ if allowed.is_empty() => Err(ConnectError::Name(io::ErrorKind::NotFound)),
        _ => Ok(allowed),
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
    use platform_capability::TrustConfig;

    use super::*;

    #[tokio::test]
    async fn what_leads_inside_is_refused_whatever_it_is_called() {
        for host in [
            "127.0.0.1",
            "::1",
            "localhost",
            "169.254.169.254",
            "::ffff:10.0.0.1",
            "0.0.0.0",
            "127.1",
            "2130706433",
            "0x7f.1",
        ] {
            match resolve(host, 80, &Config::default()).await {
                // Some resolvers know only the usual form of an address.
                Err(ConnectError::Inside(_) | ConnectError::Name(_)) => {}
                other => panic!("{host}: {other:?}"),
            }
        }
        let config = Config { networks: vec!["127.0.0.0/8".parse().unwrap()], ..Config::default() };
        assert_eq!(resolve("127.0.0.1", 80, &config).await.unwrap().len(), 1);
        assert!(matches!(resolve("10.0.0.1", 80, &config).await, Err(ConnectError::Inside(_))));
    }

    #[tokio::test]
    async fn plain_connections_are_the_operators_choice() {
        let config = Config { networks: vec!["127.0.0.0/8".parse().unwrap()], ..Config::default() };
        let connector = Connector::new(Arc::new(config), TrustConfig::default().build().unwrap());
        let refused = connector.connect("http://127.0.0.1:1/".parse().unwrap()).await.err();
        assert!(matches!(refused, Some(ConnectError::Plain)), "{refused:?}");
    }
}
