//! How messages become bytes: as prost writes them, into buffers that start small.
//!
//! Invariant: what is on the wire is what tonic's own codec would write; only the room set aside for it differs.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{self, BufferSettings};
use tonic_prost::ProstCodec;

/// Room that a call sets aside for its answers, kept for as long as a stream is open. It grows with what is written: the usual
/// 8 KiB would be most of what an idle watch costs.
const BUFFER_BYTES: usize = 256;
/// Bytes of answers that are collected before they are sent, as tonic has it.
const YIELD_BYTES: usize = 32 << 10;

/// The codec of the platform's clients and servers.
#[derive(Debug, Clone)]
pub(crate) struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as codec::Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as codec::Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}
