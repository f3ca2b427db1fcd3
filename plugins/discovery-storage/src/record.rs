//! How a registration is stored under its key: what the key says is left out, the version comes first so that lists
//! read nothing else.

use platform_sdk::{
    codec::{Malformed, Reader, Result, Writer},
    discovery::{Endpoint, Node, Registration},
};

/// First byte; another layout gets another number.
const LAYOUT: u8 = 1;

/// Writes all but the service's name and the node's id.
pub(crate) fn encode(registration: &Registration) -> Vec<u8> {
    let mut writer = Writer::new();
    let node = &registration.node;
    writer.u8(LAYOUT).text(&registration.version).text(&node.address).text(&node.zone).u64(node.weight.into());
    write_pairs(&mut writer, &node.metadata);
    write_pairs(&mut writer, &registration.metadata);
    writer.count(registration.endpoints.len());
    for endpoint in &registration.endpoints {
        writer.text(&endpoint.name).text(&endpoint.request).text(&endpoint.response);
        write_pairs(&mut writer, &endpoint.metadata);
    }
    writer.finish()
}

/// The version of a record.
pub(crate) fn version(record: &[u8]) -> Result<&str> {
    open(record)?.text()
}

/// The registration of a node from its record.
pub(crate) fn decode(service: &str, node_id: &str, record: &[u8]) -> Result<Registration> {
    let mut reader = open(record)?;
    let version = reader.text()?.to_owned();
    let node = Node {
        id: node_id.to_owned(),
        address: reader.text()?.to_owned(),
        zone: reader.text()?.to_owned(),
        weight: u32::try_from(reader.u64()?).ok().ok_or(Malformed)?,
        metadata: read_pairs(&mut reader)?,
    };
    let metadata = read_pairs(&mut reader)?;
    let count = reader.count()?;
    let endpoints = (0..count).map(|_| read_endpoint(&mut reader)).collect::<Result<_>>()?;
    reader.end()?;
    Ok(Registration { service: service.to_owned(), version, node, metadata, endpoints })
}

fn open(record: &[u8]) -> Result<Reader<'_>> {
    let mut reader = Reader::new(record);
    if reader.u8()? == LAYOUT { Ok(reader) } else { Err(Malformed) }
}

fn read_endpoint(reader: &mut Reader<'_>) -> Result<Endpoint> {
    Ok(Endpoint {
        name: reader.text()?.to_owned(),
        request: reader.text()?.to_owned(),
        response: reader.text()?.to_owned(),
        metadata: read_pairs(reader)?,
    })
}

fn write_pairs(writer: &mut Writer, pairs: &[(String, String)]) {
    writer.count(pairs.len());
    for (name, value) in pairs {
        writer.text(name).text(value);
    }
}

fn read_pairs(reader: &mut Reader<'_>) -> Result<Vec<(String, String)>> {
    let count = reader.count()?;
    (0..count).map(|_| Ok((reader.text()?.to_owned(), reader.text()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
        prop::collection::vec((".{0,6}", ".{0,6}"), 0..3)
    }

    prop_compose! {
        fn endpoint()(name in ".{0,6}", request in ".{0,9}", response in ".{0,9}", metadata in pairs()) -> Endpoint {
            Endpoint { name, request, response, metadata }
        }
    }

    prop_compose! {
        fn registration()(
            version in ".{0,6}", address in ".{0,9}", zone in ".{0,6}", weight: u32,
            of_node in pairs(), metadata in pairs(), endpoints in prop::collection::vec(endpoint(), 0..3),
        ) -> Registration {
            let node = Node { id: "n".into(), address, zone, weight, metadata: of_node };
            Registration { service: "s".into(), version, node, metadata, endpoints }
        }
    }

    proptest! {
        #[test]
        fn reads_what_was_written(registration in registration()) {
            let record = encode(&registration);
            prop_assert_eq!(version(&record), Ok(registration.version.as_str()));
            prop_assert_eq!(decode("s", "n", &record), Ok(registration));
        }

        #[test]
        fn a_cut_record_is_refused(registration in registration(), cut: prop::sample::Index) {
            let record = encode(&registration);
            prop_assert_eq!(decode("s", "n", &record[..cut.index(record.len())]), Err(Malformed));
        }

        #[test]
        fn garbage_never_panics(record: Vec<u8>) {
            let _ = decode("s", "n", &record);
        }
    }
}
