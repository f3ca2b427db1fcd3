//! [`Reply`]: what a command answers, in the two versions of the protocol.
//!
//! Owns the grammar of answers; must not know commands. Invariant: an answer is one value of the protocol, whatever text
//! an error carries.

use bytes::{BufMut, Bytes, BytesMut};
use tonic::Code;

/// Version of the protocol that a connection speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// What every connection speaks at first.
    #[default]
    Two,
    /// With maps and a null of its own; asked for by `HELLO 3`.
    Three,
}

/// What a command answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A word such as `OK`.
    Simple(&'static str),
    /// Prefix and message.
    Error(String),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Bytes),
    /// Text for people.
    Text(String),
    /// No value.
    Null,
    /// No array: a transaction that was not made.
    NullArray,
    /// Several values.
    Array(Vec<Self>),
    /// Names and values.
    Map(Vec<(Self, Self)>),
}

impl Reply {
    /// `OK`.
    pub(crate) const OK: Self = Self::Simple("OK");

    /// Text as bytes.
    pub(crate) fn bulk(text: impl Into<String>) -> Self {
        Self::Bulk(Bytes::from(text.into()))
    }

    /// Bytes, or no value.
    pub(crate) fn optional(value: Option<Bytes>) -> Self {
        value.map_or(Self::Null, Self::Bulk)
    }

    /// A number of things; more than fit are as many as fit.
    pub(crate) fn count(count: impl TryInto<i64>) -> Self {
        Self::Integer(count.try_into().unwrap_or(i64::MAX))
    }

    /// 1 for yes, 0 for no.
    pub(crate) fn bit(yes: bool) -> Self {
        Self::Integer(i64::from(yes))
    }

    /// What it is counted as, by the word that an error begins with.
    pub(crate) fn code(&self) -> Code {
        let Self::Error(message) = self else { return Code::Ok };
        match message.split(' ').next().unwrap_or_default() {
            "NOAUTH" | "WRONGPASS" => Code::Unauthenticated,
            "NOPERM" => Code::PermissionDenied,
            "TRYAGAIN" => Code::Unavailable,
            "OOM" => Code::ResourceExhausted,
            "EXECABORT" => Code::Aborted,
            _ => Code::InvalidArgument,
        }
    }

    /// Writes it in the words of `protocol`.
    pub(crate) fn encode(&self, protocol: Protocol, out: &mut BytesMut) {
        match self {
            Self::Simple(word) => line(out, b'+', word.as_bytes()),
            Self::Error(message) => {
                let one_line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                line(out, b'-', one_line.as_bytes());
            }
            Self::Integer(number) => line(out, b':', number.to_string().as_bytes()),
            Self::Bulk(bytes) => bulk(out, bytes),
            Self::Text(text) if protocol == Protocol::Three => {
                head(out, b'=', text.len() + 4);
                out.put_slice(b"txt:");
                out.put_slice(text.as_bytes());
                out.put_slice(b"\r\n");
            }
            Self::Text(text) => bulk(out, text.as_bytes()),
            Self::Null | Self::NullArray if protocol == Protocol::Three => out.put_slice(b"_\r\n"),
            Self::Null => out.put_slice(b"$-1\r\n"),
            Self::NullArray => out.put_slice(b"*-1\r\n"),
            Self::Array(values) => {
                head(out, b'*', values.len());
                values.iter().for_each(|value| value.encode(protocol, out));
            }
            Self::Map(members) => {
                match protocol {
                    Protocol::Three => head(out, b'%', members.len()),
                    Protocol::Two => head(out, b'*', members.len() * 2),
                }
                for (name, value) in members {
                    name.encode(protocol, out);
                    value.encode(protocol, out);
                }
            }
        }
    }
}

fn line(out: &mut BytesMut, sign: u8, text: &[u8]) {
    out.put_u8(sign);
    out.put_slice(text);
    out.put_slice(b"\r\n");
}

fn head(out: &mut BytesMut, sign: u8, count: usize) {
    line(out, sign, count.to_string().as_bytes());
}

fn bulk(out: &mut BytesMut, bytes: &[u8]) {
    head(out, b'$', bytes.len());
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(reply: &Reply, protocol: Protocol) -> String {
        let mut out = BytesMut::new();
        reply.encode(protocol, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn versions_differ_where_they_must() {
        let map = Reply::Map(vec![(Reply::bulk("a"), Reply::Integer(-1))]);
        let text = Reply::Text("hi".to_owned());
        for (reply, two, three) in [
            (&Reply::OK, "+OK\r\n", "+OK\r\n"),
            (&Reply::Null, "$-1\r\n", "_\r\n"),
            (&Reply::NullArray, "*-1\r\n", "_\r\n"),
            (&map, "*2\r\n$1\r\na\r\n:-1\r\n", "%1\r\n$1\r\na\r\n:-1\r\n"),
            (&text, "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
            (&Reply::Array(vec![Reply::bulk(""), Reply::Null]), "*2\r\n$0\r\n\r\n$-1\r\n", "*2\r\n$0\r\n\r\n_\r\n"),
        ] {
            assert_eq!(
                (encoded(reply, Protocol::Two).as_str(), encoded(reply, Protocol::Three).as_str()),
                (two, three)
            );
        }
    }

    #[test]
    fn an_error_is_one_line_whatever_it_says() {
        let error = Reply::Error("ERR a\r\n+OK\r\n".to_owned());
        assert_eq!(encoded(&error, Protocol::Two), "-ERR a  +OK  \r\n");
    }
}
