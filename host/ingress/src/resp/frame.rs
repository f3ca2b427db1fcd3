//! Requests as they come over the wire: arrays of bulk strings, and inline commands.
//!
//! Owns the grammar of requests and its limits; must not know what a command means. Invariant: what a peer sends takes no
//! more memory than its limits, and the same bytes give the same requests however they are cut into reads.

use bytes::{Buf, Bytes, BytesMut};

/// Most bytes of the head of an array or a bulk string: a sign, digits and the end of the line.
const HEAD_BYTES: usize = 64;
/// Most bytes of an inline command.
const INLINE_BYTES: usize = 64 << 10;
/// Room set aside for arguments that are only announced.
const ANNOUNCED: usize = 64;

/// One request: the command's name and its arguments.
pub(crate) type Request = Vec<Bytes>;

/// How much one request may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Arguments, with the command's name.
    pub(crate) arguments: usize,
    /// Bytes of all of them.
    pub(crate) bytes: usize,
}

impl Limits {
    /// Of peers that nobody knows yet; those of Redis.
    pub(crate) const STRANGER: Self = Self { arguments: 10, bytes: 16 << 10 };
}

/// Bytes that are no request, in Redis's words. What follows them can't be made out: the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// The head of an array.
    #[error("Protocol error: invalid multibulk length")]
    ArrayLength,
    /// The head of a bulk string.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// Something else where a bulk string has to be; arrays in arrays are refused so, too.
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0).escape_default())]
    NotBulk(u8),
    /// A bulk string is longer than it said.
    #[error("Protocol error: expected the end of a bulk string")]
    BulkEnd,
    /// A head without an end.
    #[error("Protocol error: too big count string")]
    Head,
    /// More than one request may hold.
    #[error("Protocol error: the request is larger than {0} bytes")]
    Bytes(usize),
    /// The same for a peer that has not said who it is.
    #[error("Protocol error: unauthenticated multibulk or bulk length")]
    Stranger,
    /// An inline command without an end.
    #[error("Protocol error: too big inline request")]
    Inline,
    /// Quotes that don't close, or close in the middle of a word.
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
}

type Result<T> = std::result::Result<T, Malformed>;

/// Takes requests off the front of what was read.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    partial: Option<Partial>,
}

/// An array of which a part was read.
#[derive(Debug)]
struct Partial {
    missing: usize,
    arguments: Request,
    bytes: usize,
    /// Length of the bulk string that comes next, once its head was read.
    bulk: Option<usize>,
}

impl Parser {
    /// The next request; none when more has to be read for it. Empty requests are skipped, as Redis does.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut, limits: Limits) -> Result<Option<Request>> {
        loop {
            if let Some(partial) = &mut self.partial {
                if !partial.fill(buffer, limits)? {
                    return Ok(None);
                }
                let request = self.partial.take().map(|partial| partial.arguments).unwrap_or_default();
                return Ok(Some(request));
            }
            let Some(first) = buffer.first() else { return Ok(None) };
            if *first != b'*' {
                match inline(buffer)? {
                    Some(request) if request.is_empty() => continue,
                    request => return Ok(request),
                }
            }
            let Some(count) = head(buffer, Malformed::ArrayLength)? else { return Ok(None) };
            let Ok(count) = usize::try_from(count) else { continue };
            if count > limits.arguments {
                return Err(if limits == Limits::STRANGER { Malformed::Stranger } else { Malformed::ArrayLength });
            }
            if count > 0 {
                let arguments = Vec::with_capacity(count.min(ANNOUNCED));
                self.partial = Some(Partial { missing: count, arguments, bytes: 0, bulk: None });
            }
        }
    }

    /// Bytes that the request being read is known to have.
    pub(crate) fn announced(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.bytes)
    }

    /// Whether a request was begun.
    pub(crate) fn is_within(&self) -> bool {
        self.partial.is_some()
    }
}

impl Partial {
    /// Takes bulk strings; whether the request is complete.
    fn fill(&mut self, buffer: &mut BytesMut, limits: Limits) -> Result<bool> {
        while self.missing > 0 {
            let length = match self.bulk {
                Some(length) => length,
                None => match buffer.first() {
                    None => return Ok(false),
                    Some(b'$') => {
                        let Some(length) = head(buffer, Malformed::BulkLength)? else { return Ok(false) };
                        let length = usize::try_from(length).map_err(|_negative| Malformed::BulkLength)?;
                        self.bytes = self.bytes.saturating_add(length);
                        if self.bytes > limits.bytes {
                            let stranger = limits == Limits::STRANGER;
                            return Err(if stranger { Malformed::Stranger } else { Malformed::Bytes(limits.bytes) });
                        }
                        *self.bulk.insert(length)
                    }
                    Some(other) => return Err(Malformed::NotBulk(*other)),
                },
            };
            if buffer.len() < length + 2 {
                return Ok(false);
            }
            self.arguments.push(buffer.split_to(length).freeze());
            if buffer.split_to(2) != b"\r\n"[..] {
                return Err(Malformed::BulkEnd);
            }
            self.bulk = None;
            self.missing -= 1;
        }
        Ok(true)
    }
}

/// The number of a line such as `*3`; none when the line is not complete.
fn head(buffer: &mut BytesMut, malformed: Malformed) -> Result<Option<i64>> {
    let Some(end) = buffer.iter().take(HEAD_BYTES).position(|byte| *byte == b'\n') else {
        return if buffer.len() < HEAD_BYTES { Ok(None) } else { Err(Malformed::Head) };
    };
    let line = buffer.split_to(end + 1);
    let digits = line.get(1..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(malformed)?;
    let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'));
    text.and_then(|text| text.parse().ok()).map(Some).ok_or(malformed)
}

/// A command on a line of its own; none when the line is not complete.
fn inline(buffer: &mut BytesMut) -> Result<Option<Request>> {
    let Some(end) = buffer.iter().take(INLINE_BYTES).position(|byte| *byte == b'\n') else {
        return if buffer.len() < INLINE_BYTES { Ok(None) } else { Err(Malformed::Inline) };
    };
    let line = buffer.split_to(end).freeze();
    buffer.advance(1);
    words(line.strip_suffix(b"\r").unwrap_or(&line)).map(Some).ok_or(Malformed::Quotes)
}

/// The words of a line, where `"..."` knows escapes and `'...'` does not; none when quotes don't match.
fn words(line: &[u8]) -> Option<Request> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii_start();
    while let Some(first) = rest.first() {
        let (word, after) = match first {
            b'"' => double_quoted(rest.get(1..)?)?,
            b'\'' => single_quoted(rest.get(1..)?)?,
            _ => {
                let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                if word.contains(&b'"') {
                    return None;
                }
                (Bytes::copy_from_slice(word), after)
            }
        };
        if after.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
            return None;
        }
        words.push(word);
        rest = after.trim_ascii_start();
    }
    Some(words)
}

fn single_quoted(text: &[u8]) -> Option<(Bytes, &[u8])> {
    let mut word = Vec::new();
    let mut rest = text;
    loop {
        match rest {
            [b'\\', b'\'', after @ ..] => {
                word.push(b'\'');
                rest = after;
            }
            [b'\'', after @ ..] => return Some((word.into(), after)),
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
            [] => return None,
        }
    }
}

fn double_quoted(text: &[u8]) -> Option<(Bytes, &[u8])> {
    let hex = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut word = Vec::new();
    let mut rest = text;
    loop {
        match rest {
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex(*high)? << 4 | hex(*low)?);
                rest = after;
            }
            [b'\\', byte, after @ ..] => {
                word.push(match byte {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = after;
            }
            [b'"', after @ ..] => return Some((word.into(), after)),
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
            [] => return None,
        }
    }
}

#[cfg(test)]
mod tests;
