//! How topics, events and subscriptions are stored: what the key says is left out, and the revision, which storage knows.

use platform_sdk::{
    codec::{Malformed, Reader, Result, Writer},
    event::{Draft, SubscriptionSettings, TopicSettings},
};

/// First byte; another layout gets another number.
const LAYOUT: u8 = 1;

/// A topic: how it is kept, and where its events begin and end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Head {
    /// Tells it from other topics of its name.
    pub(crate) number: u64,
    /// How it is kept.
    pub(crate) settings: TopicSettings,
    /// When it was made.
    pub(crate) created_ms: u64,
    /// Nothing before this sequence is kept.
    pub(crate) first: u64,
    /// When the event at `first` was published, or the one before it.
    pub(crate) first_ms: u64,
    /// Bytes of all events before `first`.
    pub(crate) start: u64,
    /// Sequence of the next event.
    pub(crate) next: u64,
    /// When the last event was published.
    pub(crate) last_ms: u64,
    /// Bytes of all events that there ever were.
    pub(crate) end: u64,
    /// How many events the write of this record brought.
    pub(crate) brought: u64,
}

impl Head {
    pub(crate) fn new(number: u64, settings: TopicSettings, now_ms: u64) -> Self {
        Self {
            number,
            settings,
            created_ms: now_ms,
            first: 1,
            first_ms: now_ms,
            start: 0,
            next: 1,
            last_ms: 0,
            end: 0,
            brought: 0,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        let settings = &self.settings;
        writer.u8(LAYOUT).u64(self.number);
        writer.optional(settings.age_ms).optional(settings.count).optional(settings.bytes).u64(settings.window_ms);
        writer.u64(self.created_ms).u64(self.first).u64(self.first_ms).u64(self.start);
        writer.u64(self.next).u64(self.last_ms).u64(self.end).u64(self.brought);
        writer.finish()
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Self> {
        let mut reader = open(record)?;
        let number = reader.u64()?;
        let (age_ms, count, bytes) = (reader.optional()?, reader.optional()?, reader.optional()?);
        let settings = TopicSettings { age_ms, count, bytes, window_ms: reader.u64()? };
        let head = Self {
            number,
            settings,
            created_ms: reader.u64()?,
            first: reader.u64()?,
            first_ms: reader.u64()?,
            start: reader.u64()?,
            next: reader.u64()?,
            last_ms: reader.u64()?,
            end: reader.u64()?,
            brought: reader.u64()?,
        };
        reader.end()?;
        Ok(head)
    }
}

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    /// When it was published.
    pub(crate) time_ms: u64,
    /// Bytes of all events before it.
    pub(crate) offset: u64,
    /// What was published. Whether its id was chosen is of no account any more.
    pub(crate) content: Draft,
}

impl Stored {
    pub(crate) fn encode(time_ms: u64, offset: u64, content: &Draft) -> Vec<u8> {
        let mut writer = Writer::with_capacity(content.data.len() + 256);
        writer.u8(LAYOUT).u64(time_ms).u64(offset);
        writer.text(&content.id).text(&content.type_).text(&content.origin).text(&content.root);
        write_text(&mut writer, content.parent.as_deref());
        write_text(&mut writer, content.publisher.as_deref());
        writer.text(&content.content_type).count(content.metadata.len());
        for (name, value) in &content.metadata {
            writer.text(name).text(value);
        }
        writer.bytes(&content.data);
        writer.finish()
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Self> {
        let mut reader = open(record)?;
        let (time_ms, offset) = (reader.u64()?, reader.u64()?);
        let id = reader.text()?.to_owned();
        let type_ = reader.text()?.to_owned();
        let origin = reader.text()?.to_owned();
        let root = reader.text()?.to_owned();
        let (parent, publisher) = (read_text(&mut reader)?, read_text(&mut reader)?);
        let content_type = reader.text()?.to_owned();
        let count = reader.count()?;
        let metadata =
            (0..count).map(|_| Ok((reader.text()?.to_owned(), reader.text()?.to_owned()))).collect::<Result<_>>()?;
        let data = reader.bytes()?.to_owned();
        reader.end()?;
        let deduplicated = false;
        let content = Draft { id, deduplicated, type_, origin, root, parent, publisher, content_type, metadata, data };
        Ok(Self { time_ms, offset, content })
    }
}

/// A subscription.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Subscribed {
    /// How it delivers.
    pub(crate) settings: SubscriptionSettings,
    /// When it was made.
    pub(crate) created_ms: u64,
    /// Where it began, or was last sent back to.
    pub(crate) from: u64,
    /// How often it was sent elsewhere.
    pub(crate) generation: u64,
}

impl Subscribed {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let settings = &self.settings;
        let mut writer = Writer::new();
        writer.u8(LAYOUT).u64(self.created_ms).u64(self.from).u64(self.generation);
        writer.u8(u8::from(settings.fan_out)).u64(settings.ack_wait_ms).u64(settings.deliveries_max.into());
        writer.u64(settings.pending_max.into()).text(&settings.dead_letter).count(settings.types.len());
        for kind in &settings.types {
            writer.text(kind);
        }
        writer.finish()
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Self> {
        let mut reader = open(record)?;
        let (created_ms, from, generation) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let fan_out = read_flag(&mut reader)?;
        let (ack_wait_ms, deliveries_max) = (reader.u64()?, small(reader.u64()?)?);
        let (pending_max, dead_letter) = (small(reader.u64()?)?, reader.text()?.to_owned());
        let count = reader.count()?;
        let types = (0..count).map(|_| reader.text().map(ToOwned::to_owned)).collect::<Result<_>>()?;
        reader.end()?;
        let settings = SubscriptionSettings { types, fan_out, ack_wait_ms, deliveries_max, dead_letter, pending_max };
        Ok(Self { settings, created_ms, from, generation })
    }
}

/// How far a consumer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// Sequence that is delivered next.
    pub(crate) next: u64,
    /// Events that retention took before they were delivered.
    pub(crate) missed: u64,
}

/// A delivery that waits for an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    /// How often the event was delivered.
    pub(crate) attempt: u32,
    /// When it is delivered again.
    pub(crate) due_ms: u64,
}

/// Two numbers: a position, or a delivery.
fn encode_pair(one: u64, two: u64) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.u8(LAYOUT).u64(one).u64(two);
    writer.finish()
}

fn decode_pair(record: &[u8]) -> Result<(u64, u64)> {
    let mut reader = open(record)?;
    let pair = (reader.u64()?, reader.u64()?);
    reader.end()?;
    Ok(pair)
}

impl Position {
    pub(crate) fn encode(self) -> Vec<u8> {
        encode_pair(self.next, self.missed)
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Self> {
        decode_pair(record).map(|(next, missed)| Self { next, missed })
    }
}

impl Pending {
    pub(crate) fn encode(self) -> Vec<u8> {
        encode_pair(self.attempt.into(), self.due_ms)
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Self> {
        let (attempt, due_ms) = decode_pair(record)?;
        Ok(Self { attempt: small(attempt)?, due_ms })
    }
}

/// A sequence, under an id.
pub(crate) fn encode_sequence(sequence: u64, time_ms: u64) -> Vec<u8> {
    encode_pair(sequence, time_ms)
}

pub(crate) fn decode_sequence(record: &[u8]) -> Result<(u64, u64)> {
    decode_pair(record)
}

fn open(record: &[u8]) -> Result<Reader<'_>> {
    let mut reader = Reader::new(record);
    if reader.u8()? == LAYOUT { Ok(reader) } else { Err(Malformed) }
}

fn write_text(writer: &mut Writer, text: Option<&str>) {
    match text {
        None => writer.u8(0),
        Some(text) => writer.u8(1).text(text),
    };
}

fn read_text(reader: &mut Reader<'_>) -> Result<Option<String>> {
    Ok(if read_flag(reader)? { Some(reader.text()?.to_owned()) } else { None })
}

fn read_flag(reader: &mut Reader<'_>) -> Result<bool> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed),
    }
}

fn small(number: u64) -> Result<u32> {
    u32::try_from(number).ok().ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn draft()(
            texts in prop::collection::vec(".{0,6}", 5), parent in prop::option::of(".{0,6}"),
            publisher in prop::option::of(".{0,6}"), metadata in prop::collection::vec((".{0,4}", ".{0,4}"), 0..3), data: Vec<u8>,
        ) -> Draft {
            Draft {
                id: texts[0].clone(), deduplicated: false, type_: texts[1].clone(), origin: texts[2].clone(),
                root: texts[3].clone(), parent, publisher, content_type: texts[4].clone(), metadata, data,
            }
        }
    }

    proptest! {
        #[test]
        fn reads_what_was_written(content in draft(), numbers: [u64; 9], types in prop::collection::vec(".{0,4}", 0..3), flag: bool) {
            let stored = Stored { time_ms: numbers[0], offset: numbers[1], content };
            let record = Stored::encode(stored.time_ms, stored.offset, &stored.content);
            prop_assert_eq!(Stored::decode(&record), Ok(stored));
            let settings = TopicSettings { age_ms: flag.then_some(numbers[0]), count: None, bytes: Some(numbers[1]), window_ms: numbers[2] };
            let head = Head { first: numbers[3], start: numbers[4], next: numbers[5], end: numbers[6], brought: numbers[7], ..Head::new(numbers[8], settings, 5) };
            prop_assert_eq!(Head::decode(&head.encode()), Ok(head));
            let settings = SubscriptionSettings {
                types, fan_out: flag, ack_wait_ms: numbers[0], deliveries_max: 7, dead_letter: "d".into(), pending_max: 9,
            };
            let subscribed = Subscribed { settings, created_ms: numbers[1], from: numbers[2], generation: numbers[3] };
            prop_assert_eq!(Subscribed::decode(&subscribed.encode()), Ok(subscribed));
        }

        #[test]
        fn a_cut_record_is_refused(content in draft(), cut: prop::sample::Index) {
            let record = Stored::encode(1, 2, &content);
            prop_assert_eq!(Stored::decode(&record[..cut.index(record.len())]), Err(Malformed));
        }

        #[test]
        fn garbage_never_panics(record: Vec<u8>) {
            let _ = (Stored::decode(&record), Head::decode(&record), Subscribed::decode(&record), Pending::decode(&record));
        }
    }
}
