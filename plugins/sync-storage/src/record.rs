//! How lines and leases are stored.

use platform_sdk::{
    codec::{Malformed, Reader, Result, Writer},
    sync::{Mode, Permits, Place},
};

use crate::line::Line;

/// First byte; another layout gets another number.
const LAYOUT: u8 = 1;

/// What is stored of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Who has it.
    pub(crate) holder: String,
    /// How long it lasts.
    pub(crate) ttl_ms: u64,
    /// Whether it was made for one place, with which it ends.
    pub(crate) own: bool,
}

impl Lease {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u8(LAYOUT).text(&self.holder).u64(self.ttl_ms).u8(self.own.into());
        writer.finish()
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Self> {
        let mut reader = open(record)?;
        let holder = reader.text()?.to_owned();
        let (ttl_ms, own) = (reader.u64()?, flag(&mut reader)?);
        reader.end()?;
        Ok(Self { holder, ttl_ms, own })
    }
}

impl Line {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(16 + self.places.len() * 96);
        writer.u8(LAYOUT).u64(self.last).count(self.places.len());
        for place in &self.places {
            writer.u64(place.token).u8(place.held.into());
            match place.mode {
                Mode::Exclusive => writer.u8(0),
                Mode::Shared => writer.u8(1),
                Mode::Permits(Permits { count, limit }) => writer.u8(2).u64(count.into()).u64(limit.into()),
            };
            writer.text(&place.lease).text(&place.holder).u64(place.since_ms).u8(place.value.is_some().into());
            if let Some(value) = &place.value {
                writer.text(value);
            }
        }
        writer.finish()
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Self> {
        let mut reader = open(record)?;
        let last = reader.u64()?;
        let places = (0..reader.count()?).map(|_| read_place(&mut reader)).collect::<Result<_>>()?;
        reader.end()?;
        Ok(Self { last, places })
    }
}

fn read_place(reader: &mut Reader<'_>) -> Result<Place> {
    let (token, held) = (reader.u64()?, flag(reader)?);
    let mode = match reader.u8()? {
        0 => Mode::Exclusive,
        1 => Mode::Shared,
        2 => Mode::Permits(Permits { count: number(reader)?, limit: number(reader)? }),
        _ => return Err(Malformed),
    };
    let (lease, holder) = (reader.text()?.to_owned(), reader.text()?.to_owned());
    let since_ms = reader.u64()?;
    let value = if flag(reader)? { Some(reader.text()?.to_owned()) } else { None };
    Ok(Place { token, held, mode, lease, holder, value, since_ms })
}

fn open(record: &[u8]) -> Result<Reader<'_>> {
    let mut reader = Reader::new(record);
    if reader.u8()? == LAYOUT { Ok(reader) } else { Err(Malformed) }
}

fn flag(reader: &mut Reader<'_>) -> Result<bool> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed),
    }
}

fn number(reader: &mut Reader<'_>) -> Result<u32> {
    u32::try_from(reader.u64()?).ok().ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn place()(
            token: u64, held: bool, count: u32, limit: u32, kind in 0..3, lease in "[0-9a-f]{0,8}", holder in ".{0,6}",
            value: Option<String>, since_ms: u64,
        ) -> Place {
            let mode = [Mode::Exclusive, Mode::Shared, Mode::Permits(Permits { count, limit })][kind as usize];
            Place { token, held, mode, lease, holder, value, since_ms }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(last: u64, places in prop::collection::vec(place(), 0..4), cut: prop::sample::Index) {
            let line = Line { last, places };
            let record = line.encode();
            prop_assert_eq!(Line::decode(&record[..cut.index(record.len())]), Err(Malformed));
            prop_assert_eq!(Line::decode(&record), Ok(line));
        }

        #[test]
        fn leases_too(holder: String, ttl_ms: u64, own: bool) {
            let lease = Lease { holder, ttl_ms, own };
            prop_assert_eq!(Lease::decode(&lease.encode()), Ok(lease));
        }

        #[test]
        fn garbage_never_panics(record: Vec<u8>) {
            let _ = (Line::decode(&record), Lease::decode(&record));
        }
    }
}
