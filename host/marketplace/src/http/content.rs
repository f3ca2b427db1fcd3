//! Bytes of a file as the body of an answer.
//!
//! Must not know whose file. Invariant: of bytes that are not what their digest says, the last ones are never sent, and the connection breaks off.

use std::{io, ops::Range};

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use platform_runtime::Digest;
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
};

use crate::blobs::damaged;

/// Bytes that are read at once.
const PIECE_BYTES: usize = 256 << 10;

struct Reading {
    file: File,
    left: u64,
    /// What was read, where all of it is.
    hasher: Option<(Sha256, Digest)>,
}

/// A range of a file, compared with the digest when it is all of it.
pub(super) async fn body(
    file: std::fs::File, range: Range<u64>, size: u64, digest: Digest,
) -> io::Result<UnsyncBoxBody<Bytes, io::Error>> {
    let mut file = File::from_std(file);
    file.seek(io::SeekFrom::Start(range.start)).await?;
    let left = range.end - range.start;
    let hasher = (left == size).then(|| (Sha256::new(), digest));
    let pieces = stream::try_unfold(Reading { file, left, hasher }, |mut reading| async move {
        if reading.left == 0 {
            return Ok(None);
        }
        let length = usize::try_from(reading.left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let mut piece = vec![0; length];
        reading.file.read_exact(&mut piece).await?;
        reading.left -= length as u64;
        if let Some((hasher, digest)) = &mut reading.hasher {
            hasher.update(&piece);
            let is_end = reading.left == 0;
            if is_end && !is(hasher.clone(), *digest) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, damaged(*digest).to_string()));
            }
        }
        Ok(Some((Frame::data(Bytes::from(piece)), reading)))
    });
    Ok(StreamBody::new(pieces).boxed_unsync())
}

fn is(hasher: Sha256, digest: Digest) -> bool {
    let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    hex == digest.hex()
}

/// Sets a header; what can't be one is left out.
pub(super) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// How far an upload is, as a range: `0-0` also when nothing is there, as clients expect.
pub(super) fn progress(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}
