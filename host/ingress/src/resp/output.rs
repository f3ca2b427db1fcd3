//! [`Output`]: answers on their way to the peer.
//!
//! Owns the buffer between answers and the socket; must not know what is answered. Invariant: no more waits for a peer than
//! one answer and [`BUFFER_BYTES`], and a peer that does not read is not waited for longer than the timeout.

use std::{io, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{self as tokio_io, AsyncWriteExt},
    net::{TcpStream, tcp},
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::reply::{Protocol, Reply};

/// Answers that are gathered before they are sent.
const BUFFER_BYTES: usize = 64 << 10;

/// One half of a connection, plain or encrypted.
pub(super) type Writer<'a> = Either<tcp::WriteHalf<'a>, tokio_io::WriteHalf<TlsStream<TcpStream>>>;

/// See the module.
#[derive(Debug)]
pub(super) struct Output<'a> {
    socket: Writer<'a>,
    buffer: BytesMut,
    patience: Duration,
}

impl<'a> Output<'a> {
    pub(super) fn new(socket: Writer<'a>, patience: Duration) -> Self {
        Self { socket, buffer: BytesMut::new(), patience }
    }

    /// Adds an answer, and sends what has come together when that is much.
    pub(super) async fn push(&mut self, reply: &Reply, protocol: Protocol) -> io::Result<()> {
        reply.encode(protocol, &mut self.buffer);
        if self.buffer.len() >= BUFFER_BYTES { self.send().await } else { Ok(()) }
    }

    /// Sends what is there, and that nothing follows.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        self.send().await?;
        timeout(self.patience, self.socket.shutdown())
            .await
            .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sends what is there.
    pub(super) async fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let send = async {
            self.socket.write_all(&self.buffer).await?;
            // What is encrypted may wait for more otherwise.
            self.socket.flush().await
        };
        let sent = timeout(self.patience, send).await;
        if self.buffer.capacity() > 2 * BUFFER_BYTES {
            self.buffer = BytesMut::new();
        } else {
            self.buffer.clear();
        }
        sent.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
    }
}
