//! The entries of the log: batches, cut into pieces that a server takes, and notes about snapshots.
//!
//! Owns the form of an entry; must not know how entries travel. Invariant: what is read back is exactly what was written,
//! and bytes of any other form are refused as a whole.

use std::hash::{BuildHasher, RandomState};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{Error, Result, backend::Op, codec::Space};

/// Version of the form, the first byte of each entry.
const VERSION: u8 = 1;
/// Bytes before the body of an entry.
pub(super) const HEAD_BYTES: usize = 26;

/// Names what one writer wrote once; no two are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id {
    pub(super) writer: u64,
    pub(super) number: u64,
}

impl Id {
    /// The first name of a new writer.
    pub(super) fn first() -> Self {
        // Each state is seeded by the system's random numbers.
        Self { writer: RandomState::new().hash_one("writer"), number: 0 }
    }
}

/// A mark by which a writer asks the others for its turn.
pub(super) fn ask_for_turn(id: Id) -> Bytes {
    Bytes::copy_from_slice(&id.writer.to_be_bytes())
}

/// Who asks for its turn by a mark; none when it is the mark of a reader.
pub(super) fn asks_for_turn(mark: &Bytes) -> Option<u64> {
    mark.as_ref().try_into().ok().map(u64::from_be_bytes)
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A piece of a batch, which counts once all of its pieces lie behind one another.
    Piece {
        /// Of which batch.
        id: Id,
        /// Which of them, from 0.
        index: u32,
        /// How many there are.
        count: u32,
        /// The bytes.
        body: Bytes,
    },
    /// Somebody begins to write a snapshot, so that nobody else does.
    Claim(Id),
    /// There is a whole snapshot of the state after this entry.
    Snapshot(Id, u64),
}

impl Entry {
    pub(super) fn encode(&self) -> Bytes {
        let (kind, id, index, count, body) = match self {
            Self::Piece { id, index, count, body } => (0, id, *index, *count, body.clone()),
            Self::Claim(id) => (1, id, 0, 1, Bytes::new()),
            Self::Snapshot(id, at) => (2, id, 0, 1, Bytes::copy_from_slice(&at.to_be_bytes())),
        };
        let mut out = BytesMut::with_capacity(HEAD_BYTES + body.len());
        out.put_u8(VERSION);
        out.put_u8(kind);
        out.put_u64(id.writer);
        out.put_u64(id.number);
        out.put_u32(index);
        out.put_u32(count);
        out.put_slice(&body);
        out.freeze()
    }

    /// The entry that lies at `sequence`.
    pub(super) fn decode(sequence: u64, mut bytes: Bytes) -> Result<Self> {
        let damaged = || damaged(sequence);
        if bytes.len() < HEAD_BYTES || bytes.get_u8() != VERSION {
            return Err(damaged());
        }
        let kind = bytes.get_u8();
        let id = Id { writer: bytes.get_u64(), number: bytes.get_u64() };
        let (index, count) = (bytes.get_u32(), bytes.get_u32());
        match kind {
            0 if index < count => Ok(Self::Piece { id, index, count, body: bytes }),
            1 if bytes.is_empty() => Ok(Self::Claim(id)),
            2 => bytes.try_get_u64().map(|at| Self::Snapshot(id, at)).map_err(|_short| damaged()),
            _ => Err(damaged()),
        }
    }
}

fn damaged(sequence: u64) -> Error {
    Error::Corrupt(format!("the entry {sequence} of the log in NATS is not of the form that this version writes"))
}

/// Puts an operation behind what is there.
pub(super) fn encode_op(out: &mut BytesMut, space: Space, key: &[u8], value: Option<&Bytes>) {
    let bytes = value.map_or(0, Bytes::len);
    out.reserve(10 + key.len() + bytes);
    out.put_u8(space.code());
    out.put_u8(u8::from(value.is_some()));
    // Keys have at most some KiB, values little more than 8 MiB.
    out.put_u32(u32::try_from(key.len()).unwrap_or(u32::MAX));
    out.put_u32(u32::try_from(bytes).unwrap_or(u32::MAX));
    out.put_slice(key);
    if let Some(value) = value {
        out.put_slice(value);
    }
}

/// Takes an operation from the front; none when only a part of one is there. The bytes are copied, so that a small value
/// does not hold a large message.
pub(super) fn decode_op(bytes: &mut impl Buf) -> Result<Option<Op>, Malformed> {
    let mut head = bytes.chunk();
    let Ok(space) = head.try_get_u8() else { return Ok(None) };
    let space = Space::of(space).ok_or(Malformed)?;
    let (Ok(some), Ok(key), Ok(value)) = (head.try_get_u8(), head.try_get_u32(), head.try_get_u32()) else {
        return Ok(None);
    };
    let (key, value) = (key as usize, value as usize);
    if head.len() < key.saturating_add(value) {
        return Ok(None);
    }
    bytes.advance(10);
    let key = bytes.copy_to_bytes(key).to_vec();
    let value = Bytes::copy_from_slice(&bytes.copy_to_bytes(value));
    Ok(Some(Op { space, key, value: (some == 1).then_some(value) }))
}

/// Bytes that are no operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// The pieces of a batch, none longer than `most` bytes as an entry.
pub(super) fn pieces(id: Id, ops: &[Op], most: usize) -> Vec<Bytes> {
    let mut body = BytesMut::new();
    for Op { space, key, value } in ops {
        encode_op(&mut body, *space, key, value.as_ref());
    }
    let mut body = body.freeze();
    let most = most.saturating_sub(HEAD_BYTES).max(1);
    let count = u32::try_from(body.len().div_ceil(most).max(1)).unwrap_or(u32::MAX);
    (0..count)
        .map(|index| Entry::Piece { id, index, count, body: body.split_to(most.min(body.len())) }.encode())
        .collect()
}

/// The operations of a batch whose last piece lies at `sequence`.
pub(super) fn ops(sequence: u64, pieces: &[Bytes]) -> Result<Vec<Op>> {
    let mut body = match pieces {
        [one] => one.clone(),
        many => many.concat().into(),
    };
    let mut ops = Vec::new();
    while body.has_remaining() {
        match decode_op(&mut body) {
            Ok(Some(op)) => ops.push(op),
            Ok(None) | Err(Malformed) => return Err(damaged(sequence)),
        }
    }
    Ok(ops)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn op() -> impl Strategy<Value = (u8, Vec<u8>, Option<Vec<u8>>)> {
        (0..5_u8, proptest::collection::vec(any::<u8>(), 0..40), any::<Option<Vec<u8>>>())
    }

    proptest! {
        #[test]
        fn a_batch_comes_back_whatever_its_pieces(given in proptest::collection::vec(op(), 0..20), most in 27..200_usize) {
            let id = Id { writer: 7, number: 9 };
            let made: Vec<Op> = given
                .iter()
                .map(|(space, key, value)| Op {
                    space: Space::of(*space).unwrap(),
                    key: key.clone(),
                    value: value.clone().map(Bytes::from),
                })
                .collect();
            let mut bodies = Vec::new();
            for (place, piece) in pieces(id, &made, most).into_iter().enumerate() {
                prop_assert!(piece.len() <= most);
                match Entry::decode(1, piece) {
                    Ok(Entry::Piece { id: of, index, body, .. }) if of == id && index as usize == place => bodies.push(body),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            let read: Vec<_> = ops(1, &bodies)
                .unwrap()
                .into_iter()
                .map(|op| (op.space.code(), op.key, op.value.map(|value| value.to_vec())))
                .collect();
            prop_assert_eq!(read, given);
        }

        #[test]
        fn anything_else_is_refused_and_never_a_panic(bytes: Vec<u8>) {
            if let Ok(Entry::Piece { body, .. }) = Entry::decode(1, bytes.clone().into()) {
                let _any = ops(1, &[body]);
            }
            let _any = ops(1, &[bytes.into()]);
        }
    }

    #[test]
    fn notes_come_back() {
        let id = Id::first();
        assert_ne!(id.writer, Id::first().writer);
        for entry in [Entry::Claim(id), Entry::Snapshot(id, 42)] {
            assert_eq!(Entry::decode(1, entry.encode()), Ok(entry));
        }
        let cut = Entry::Snapshot(id, 42).encode();
        assert!(Entry::decode(5, cut.slice(..cut.len() - 1)).unwrap_err().to_string().contains("entry 5"));
    }
}
