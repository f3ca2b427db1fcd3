//! `CLIENT`: what a connection says of itself.

use bytes::Bytes;
use platform_base::clock;

use super::Session;
use crate::resp::{
    refusal::Refusal,
    reply::{Protocol, Reply},
};

/// Longest name of a connection or a library, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// A name without spaces and control characters.
pub(super) fn name(bytes: &[u8]) -> Result<String, Refusal> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= NAME_BYTES_MAX);
    let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
    let wrong = "Client names cannot contain spaces, newlines or special characters.";
    text.map(str::to_owned).ok_or_else(|| Refusal::Other(wrong.to_owned()))
}

impl Session {
    /// `CLIENT SUBCOMMAND ...`.
    pub(super) fn client(&mut self, arguments: &[Bytes]) -> Result<Reply, Refusal> {
        let (word, rest) = arguments.split_first().ok_or(Refusal::Arity("client"))?;
        let switch = |word: &Bytes| word.eq_ignore_ascii_case(b"on") || word.eq_ignore_ascii_case(b"off");
        match (word.to_ascii_lowercase().as_slice(), rest) {
            (b"id", []) => Ok(Reply::Integer(self.id)),
            (b"getname", []) if self.name.is_empty() => Ok(Reply::Null),
            (b"getname", []) => Ok(Reply::bulk(self.name.clone())),
            (b"setname", [given]) => {
                self.name = name(given)?;
                Ok(Reply::OK)
            }
            (b"setinfo", [attribute, given]) => {
                let given = name(given)?;
                match attribute.to_ascii_lowercase().as_slice() {
                    b"lib-name" => self.library.0 = given,
                    b"lib-ver" => self.library.1 = given,
                    _ => return Err(Refusal::Other("Unrecognized option".to_owned())),
                }
                Ok(Reply::OK)
            }
            // Of this connection alone: the others are none of the caller's business.
            (b"info" | b"list", []) => Ok(Reply::Text(self.describe() + "\n")),
            // Nothing is evicted here and no use is remembered, so there is nothing to switch.
            (b"no-evict" | b"no-touch", [given]) if switch(given) => Ok(Reply::OK),
            (b"reply", [given]) if given.eq_ignore_ascii_case(b"on") => Ok(Reply::OK),
            (b"id" | b"getname" | b"setname" | b"setinfo" | b"info" | b"list", _) => Err(Refusal::Arity("client")),
            (b"no-evict" | b"no-touch" | b"reply", _) => Err(Refusal::Syntax),
            (other, _) => Err(Refusal::UnknownSubcommand(String::from_utf8_lossy(other).into_owned(), "CLIENT HELP")),
        }
    }

    fn describe(&self) -> String {
        let age_s = (clock::unix_ms() / 1000).saturating_sub(self.begun_s);
        let user = self.identity.as_ref().map_or("", |identity| identity.caller.subject.as_str());
        let protocol = if self.protocol == Protocol::Three { 3 } else { 2 };
        let (library, version) = &self.library;
        format!(
            "id={} addr={} name={} age={age_s} db={} user={user} lib-name={library} lib-ver={version} resp={protocol}",
            self.id, self.peer, self.name, self.database
        )
    }
}
