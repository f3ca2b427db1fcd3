//! One connection: reads requests, has them run, sends answers.
//!
//! Owns the socket and its buffers; must not know commands. Invariant: nothing is read while requests are run, so a peer
//! that sends without end waits in its own socket; and a request that was read in full is answered before a drain ends
//! the connection.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{self as tokio_io, AsyncReadExt},
    net::{TcpStream, tcp},
    sync::OwnedSemaphorePermit,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{either::Either, sync::CancellationToken};

use super::{
    Door,
    frame::{Malformed, Parser, Request},
    output::Output,
    reply::Reply,
    session::Session,
};

/// Room for one read.
const READ_BYTES: usize = 16 << 10;
/// Buffers that are kept between requests.
const BUFFER_BYTES: usize = 128 << 10;
/// Requests that are taken up together, and bytes of them.
const BATCH_REQUESTS: usize = 512;
const BATCH_BYTES: usize = 4 << 20;
/// Requests above this take a share of the memory that is set aside for such.
const LARGE_BYTES: usize = 64 << 10;

/// Longest TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a peer that is told why may still send.
const LINGER: Duration = Duration::from_secs(2);

/// One half of a connection, plain or encrypted.
type Reader<'a> = Either<tcp::ReadHalf<'a>, tokio_io::ReadHalf<TlsStream<TcpStream>>>;

/// What came of taking requests out of the buffer.
struct Gathered {
    requests: Vec<Request>,
    malformed: Option<Malformed>,
}

/// Serves a connection until one side ends it, or the drain.
pub(super) async fn serve(door: Arc<Door>, mut stream: TcpStream, peer: SocketAddr, draining: CancellationToken) {
    let (reader, writer) = match &door.secure {
        None => {
            let (reader, writer) = stream.split();
            (Either::Left(reader), Either::Left(writer))
        }
        Some(secure) => {
            let accepting = TlsAcceptor::from(Arc::clone(secure)).accept(stream);
            let accepted = draining.run_until_cancelled(timeout(HANDSHAKE, accepting)).await;
            let Some(Ok(Ok(stream))) = accepted else {
                tracing::debug!(%peer, "a RESP connection did not come to speak TLS");
                return;
            };
            let (reader, writer) = tokio_io::split(stream);
            (Either::Right(reader), Either::Right(writer))
        }
    };
    let mut connection = Connection {
        output: Output::new(writer, door.config.write_timeout()),
        session: Session::new(Arc::clone(&door), door.next_id(), peer),
        parser: Parser::default(),
        buffer: BytesMut::new(),
        share: None,
        reader,
        door,
    };
    let ended = match connection.run(&draining).await {
        Ok(()) => connection.output.finish().await,
        broken => broken,
    };
    if let Err(error) = ended {
        // Nobody is left to tell.
        tracing::debug!(%peer, %error, "a RESP connection broke");
    }
}

struct Connection<'a> {
    door: Arc<Door>,
    reader: Reader<'a>,
    output: Output<'a>,
    session: Session,
    parser: Parser,
    buffer: BytesMut,
    /// Held while a large request arrives and is run.
    share: Option<OwnedSemaphorePermit>,
}

impl Connection<'_> {
    async fn run(&mut self, draining: &CancellationToken) -> io::Result<()> {
        loop {
            let Gathered { requests, malformed } = self.gather();
            let some = !requests.is_empty();
            if some {
                self.session.run(requests, &mut self.output).await?;
                self.share = None;
            }
            if let Some(malformed) = malformed {
                return self.refuse(&malformed.to_string()).await;
            }
            if self.session.closing {
                return self.output.send().await;
            }
            // More may be there already, and is answered before anything is sent.
            if some && !self.buffer.is_empty() && self.parser.announced() == 0 {
                continue;
            }
            self.output.send().await?;
            tokio::select! {
                biased;
                () = draining.cancelled() => return Ok(()),
                read = self.read() => if read? == 0 {
                    return Ok(());
                },
            }
        }
    }

    /// Takes requests out of the buffer, as many as are run together.
    fn gather(&mut self) -> Gathered {
        let (limits, known) = (self.session.limits(), self.session.is_known());
        let (mut requests, mut bytes) = (Vec::new(), 0);
        while requests.len() < BATCH_REQUESTS && bytes < BATCH_BYTES && (known || requests.is_empty()) {
            match self.parser.next(&mut self.buffer, limits) {
                Ok(Some(request)) => {
                    bytes += request.iter().map(bytes::Bytes::len).sum::<usize>();
                    requests.push(request);
                }
                Ok(None) => break,
                Err(malformed) => return Gathered { requests, malformed: Some(malformed) },
            }
        }
        Gathered { requests, malformed: None }
    }

    /// Reads what comes next; 0 when the peer is done.
    async fn read(&mut self) -> io::Result<usize> {
        if self.buffer.is_empty() && self.buffer.capacity() > BUFFER_BYTES {
            self.buffer = BytesMut::new();
        }
        if self.parser.announced() > LARGE_BYTES && self.share.is_none() {
            self.share = self.door.large_share().await;
        }
        self.buffer.reserve(READ_BYTES);
        let begun = self.parser.is_within() || !self.buffer.is_empty();
        let read = self.reader.read_buf(&mut self.buffer);
        if !begun {
            return read.await;
        }
        match timeout(self.door.config.request_timeout(), read).await {
            Ok(read) => read,
            Err(_elapsed) => {
                self.refuse("Protocol error: the rest of the request did not come in time").await?;
                Ok(0)
            }
        }
    }

    /// Says why the connection ends. What the peer still sends is read for a moment: to close before would take the
    /// answer back from the wire.
    async fn refuse(&mut self, why: &str) -> io::Result<()> {
        self.output.push(&Reply::Error(format!("ERR {why}")), self.session.protocol).await?;
        self.output.finish().await?;
        let ignored = async {
            loop {
                self.buffer.clear();
                self.buffer.reserve(READ_BYTES);
                if self.reader.read_buf(&mut self.buffer).await? == 0 {
                    return Ok(());
                }
            }
        };
        timeout(LINGER, ignored).await.unwrap_or(Ok(()))
    }
}
