//! How versions are stored: what the key says is left out, and the revision, which storage knows.

use platform_sdk::{
    codec::{Malformed, Reader, Result, Writer},
    config::{Action, Candidate, Change, Content, Version},
};

/// First byte; another layout gets another number.
const LAYOUT: u8 = 1;

const ACTIONS: [Action; 9] = [
    Action::Set,
    Action::Merge,
    Action::Delete,
    Action::Rollback,
    Action::Schema,
    Action::Reseal,
    Action::Stage,
    Action::Promote,
    Action::Abort,
];

/// The current version of a configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Head {
    /// The version, without its difference.
    pub(crate) version: Version,
    /// The oldest version that is kept.
    pub(crate) oldest: u64,
}

impl Head {
    pub(crate) fn encode(version: &Version, oldest: u64) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u8(LAYOUT).u64(oldest).u64(version.number);
        write_version(&mut writer, version, None);
        writer.finish()
    }

    pub(crate) fn decode(id: &str, revision: u64, record: &[u8]) -> Result<Self> {
        let mut reader = open(record)?;
        let oldest = reader.u64()?;
        let number = reader.u64()?;
        let version = read_version(&mut reader, id, number, revision)?;
        reader.end()?;
        Ok(Self { version, oldest })
    }
}

/// Writes a version with its difference.
pub(crate) fn encode_version(version: &Version) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.u8(LAYOUT);
    write_version(&mut writer, version, version.change.difference.as_deref());
    writer.finish()
}

/// The version under `version!ID!NUMBER`.
pub(crate) fn decode_version(key: &str, revision: u64, record: &[u8]) -> Result<Version> {
    let mut parts = key.split('!').skip(1);
    let (id, number) = (parts.next().ok_or(Malformed)?, parts.next().ok_or(Malformed)?);
    let number = u64::from_str_radix(number, 16).ok().ok_or(Malformed)?;
    let mut reader = open(record)?;
    let version = read_version(&mut reader, id, number, revision)?;
    reader.end()?;
    Ok(version)
}

pub(crate) fn encode_content(content: &Content) -> Vec<u8> {
    let candidate = content.candidate.as_ref().map(|candidate| candidate.document.as_str());
    let texts = [content.document.as_deref(), content.schema.as_deref(), candidate];
    let size: usize = texts.iter().flatten().map(|text| text.len()).sum();
    let mut writer = Writer::with_capacity(size + 16);
    writer.u8(LAYOUT);
    for text in texts {
        write_text(&mut writer, text);
    }
    writer.u64(content.candidate.as_ref().map_or(0, |candidate| candidate.percent.into()));
    writer.finish()
}

pub(crate) fn decode_content(record: &[u8]) -> Result<Content> {
    let mut reader = open(record)?;
    let (document, schema, candidate) = (read_text(&mut reader)?, read_text(&mut reader)?, read_text(&mut reader)?);
    let percent = read_percent(&mut reader)?;
    reader.end()?;
    let candidate = candidate.map(|document| Candidate { document, percent });
    Ok(Content { document, schema, candidate })
}

fn open(record: &[u8]) -> Result<Reader<'_>> {
    let mut reader = Reader::new(record);
    if reader.u8()? == LAYOUT { Ok(reader) } else { Err(Malformed) }
}

fn write_version(writer: &mut Writer, version: &Version, difference: Option<&str>) {
    let change = &version.change;
    let action = ACTIONS.iter().position(|action| *action == change.action).unwrap_or_default();
    writer.count(action).u8(u8::from(version.has_document)).u8(u8::from(version.has_schema));
    writer.optional(version.staged.map(u64::from));
    writer.text(&change.path).text(&change.comment).u64(change.time_ms).u64(change.restores).text(&change.checksum);
    write_text(writer, change.author.as_deref());
    writer.count(change.touched.len());
    for place in &change.touched {
        writer.text(place);
    }
    write_text(writer, difference);
}

fn read_version(reader: &mut Reader<'_>, id: &str, number: u64, revision: u64) -> Result<Version> {
    let action = reader.u64().map(|action| usize::try_from(action).unwrap_or(usize::MAX))?;
    let action = *ACTIONS.get(action).ok_or(Malformed)?;
    let (has_document, has_schema) = (read_flag(reader)?, read_flag(reader)?);
    let staged = reader.optional()?.map(|percent| u32::try_from(percent).ok().ok_or(Malformed)).transpose()?;
    let path = reader.text()?.to_owned();
    let comment = reader.text()?.to_owned();
    let (time_ms, restores) = (reader.u64()?, reader.u64()?);
    let checksum = reader.text()?.to_owned();
    let author = read_text(reader)?;
    let count = reader.count()?;
    let touched = (0..count).map(|_| reader.text().map(ToOwned::to_owned)).collect::<Result<_>>()?;
    let difference = read_text(reader)?;
    let change = Change { action, path, author, comment, time_ms, touched, difference, restores, checksum };
    Ok(Version { id: id.to_owned(), number, revision, change, has_document, has_schema, staged })
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

fn read_percent(reader: &mut Reader<'_>) -> Result<u32> {
    u32::try_from(reader.u64()?).ok().ok_or(Malformed)
}

fn read_flag(reader: &mut Reader<'_>) -> Result<bool> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn version()(
            action in prop::sample::select(&ACTIONS[..]), texts in prop::collection::vec(".{0,6}", 3),
            author in prop::option::of(".{0,6}"), numbers: (u64, u64, u64, u64), touched in prop::collection::vec(".{0,5}", 0..4),
            difference in prop::option::of(".{0,9}"), flags: (bool, bool), staged: Option<u32>,
        ) -> Version {
            let change = Change {
                action, path: texts[0].clone(), comment: texts[1].clone(), checksum: texts[2].clone(), author,
                time_ms: numbers.0, restores: numbers.1, touched, difference,
            };
            Version {
                id: "a".into(), number: numbers.2, revision: numbers.3, change,
                has_document: flags.0, has_schema: flags.1, staged,
            }
        }
    }

    proptest! {
        #[test]
        fn reads_what_was_written(version in version(), oldest: u64) {
            let key = crate::key::version("a", version.number);
            prop_assert_eq!(decode_version(&key, version.revision, &encode_version(&version)), Ok(version.clone()));
            let head = Head::decode("a", version.revision, &Head::encode(&version, oldest)).unwrap();
            prop_assert_eq!(head.oldest, oldest);
            let light = Change { difference: None, ..version.change.clone() };
            prop_assert_eq!(head.version, Version { change: light, ..version });
        }

        #[test]
        fn a_cut_record_is_refused(version in version(), cut: prop::sample::Index) {
            let record = encode_version(&version);
            prop_assert_eq!(decode_version("version!a!0", 1, &record[..cut.index(record.len())]), Err(Malformed));
        }

        #[test]
        fn contents_come_back(
            document in prop::option::of(".{0,9}"), schema in prop::option::of(".{0,9}"),
            candidate in prop::option::of((".{0,9}", 0..=100_u32)),
        ) {
            let candidate = candidate.map(|(document, percent)| Candidate { document, percent });
            let content = Content { document, schema, candidate };
            prop_assert_eq!(decode_content(&encode_content(&content)), Ok(content));
        }

        #[test]
        fn garbage_never_panics(record: Vec<u8>) {
            let _ = (decode_version("version!a!0", 1, &record), decode_content(&record), Head::decode("a", 1, &record));
        }
    }
}
