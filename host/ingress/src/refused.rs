//! [`Refusing`]: the socket of a connection, on which a request whose head is too long is refused in words.
//!
//! hyper answers such a request with a bare status before any door hears of it. Here that answer gets a sentence, as the door of pages has for what it
//! refuses, and the rest of the request is read to nowhere for a while: a connection that is closed over unread bytes takes its answer along. Invariant: all
//! else passes as it is.

use std::{
    fmt::Write as _,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use crate::page::FOR_BROWSERS;

/// What hyper begins such answers with: about an address that it has read, and about a head that does not fit.
const ADDRESS: &[u8] = b"HTTP/1.1 414 ";
const HEAD: &[u8] = b"HTTP/1.1 431 ";
/// What else it says then, which is no body.
const EMPTY: &str = "content-length: 0\r\n";
/// Most bytes that are read of a request that was refused, and for how long.
const REST_BYTES_MAX: usize = 16 << 20;
const REST_TIME: Duration = Duration::from_secs(5);
/// Bytes that are read to nowhere at once.
const PIECE: usize = 4096;

/// A socket.
#[derive(Debug)]
pub(crate) struct Refusing {
    socket: TcpStream,
    /// The bound that is named.
    head_bytes_max: usize,
    /// Whether the first line of what is being read has ended.
    line_ended: bool,
    refusal: Option<Refusal>,
}

/// An answer in place of hyper's.
#[derive(Debug)]
struct Refusal {
    answer: Vec<u8>,
    sent: usize,
    /// Bytes that are still read, and when that ends.
    rest: usize,
    end: Pin<Box<Sleep>>,
}

impl Refusing {
    pub(crate) fn new(socket: TcpStream, head_bytes_max: usize) -> Self {
        Self { socket, head_bytes_max, line_ended: false, refusal: None }
    }

    /// Takes the place of an answer of hyper's that says nothing.
    fn refuse(&mut self, bare: &[u8]) {
        let Some(answer) = in_words(bare, self.line_ended, self.head_bytes_max) else { return };
        let end = Box::pin(sleep(REST_TIME));
        self.refusal = Some(Refusal { answer: answer.into_bytes(), sent: 0, rest: REST_BYTES_MAX, end });
    }

    /// Sends what is left of the refusal; then all of `given` counts as written.
    fn send(&mut self, context: &mut Context<'_>, given: usize) -> Poll<io::Result<usize>> {
        let Some(refusal) = &mut self.refusal else { return Poll::Ready(Ok(given)) };
        while let Some(left) = refusal.answer.get(refusal.sent..).filter(|left| !left.is_empty()) {
            match ready!(Pin::new(&mut self.socket).poll_write(context, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => refusal.sent += sent,
            }
        }
        Poll::Ready(Ok(given))
    }
}

fn is_bare(bytes: &[u8]) -> bool {
    bytes.starts_with(ADDRESS) || bytes.starts_with(HEAD)
}

/// The answer in words; none when it says something already.
fn in_words(bare: &[u8], line_ended: bool, head_bytes_max: usize) -> Option<String> {
    let (_, headers) = std::str::from_utf8(bare).ok()?.strip_suffix("\r\n\r\n")?.split_once("\r\n")?;
    let headers = format!("{headers}\r\n");
    if !headers.contains(EMPTY) {
        return None;
    }
    let (status, what) = if line_ended && !bare.starts_with(ADDRESS) {
        ("431 Request Header Fields Too Large", "the headers of this request are")
    } else {
        ("414 URI Too Long", "the address is")
    };
    let sentence = format!(
        "{what} too long: the head of a request has at most {head_bytes_max} bytes (`server.limits.header_bytes_max`)\n"
    );
    let mut told = format!("content-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n", sentence.len());
    for (name, value) in FOR_BROWSERS {
        // Writing to a text does not fail.
        let _ = write!(told, "{name}: {value}\r\n");
    }
    Some(format!("HTTP/1.1 {status}\r\n{}\r\n{sentence}", headers.replacen(EMPTY, &told, 1)))
}

impl AsyncRead for Refusing {
    fn poll_read(
        mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        if !self.line_ended {
            self.line_ended = buffer.filled().get(before..).is_some_and(|read| read.contains(&b'\n'));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Refusing {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.refusal.is_none() && is_bare(bytes) {
            self.refuse(bytes);
        }
        if self.refusal.is_some() {
            return self.send(context, bytes.len());
        }
        self.line_ended = false;
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| &**slice);
        if self.refusal.is_some() || is_bare(first) {
            return self.poll_write(context, first);
        }
        self.line_ended = false;
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_shutdown(context))?;
        let Self { socket, refusal, .. } = &mut *self;
        let Some(refusal) = refusal else { return Poll::Ready(Ok(())) };
        let mut waste = [0; PIECE];
        while refusal.rest > 0 && refusal.end.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut waste);
            ready!(Pin::new(&mut *socket).poll_read(context, &mut buffer))?;
            match buffer.filled().len() {
                0 => break,
                read => refusal.rest = refusal.rest.saturating_sub(read),
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &[u8] =
        b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";

    #[test]
    fn what_is_too_long_is_told() {
        for (line_ended, status, words) in [(false, "414 URI Too Long", "the address"), (true, "431 ", "the headers")] {
            let told = in_words(BARE, line_ended, 8192).unwrap();
            let (head, body) = told.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")) && body.starts_with(words), "{told}");
            assert!(head.contains("connection: close\r\n") && head.ends_with("date: x"), "{told}");
            assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{told}");
            assert!(body.contains("8192 bytes") && head.contains("content-security-policy: "), "{told}");
        }
    }

    #[test]
    fn what_says_something_is_left_as_it_is() {
        let answer = b"HTTP/1.1 414 URI Too Long\r\ncontent-length: 3\r\n\r\n";
        assert!(is_bare(answer) && in_words(answer, false, 8192).is_none());
        assert!(!is_bare(b"HTTP/1.1 413 Payload Too Large\r\n") && in_words(b"HTTP/1.1 431 \r\n", true, 1).is_none());
    }
}
