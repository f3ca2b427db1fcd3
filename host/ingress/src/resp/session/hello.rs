//! `HELLO` and `AUTH`: who calls, and in which version of the protocol.

use bytes::Bytes;

use super::Session;
use crate::resp::{
    about,
    data::integer,
    refusal::Refusal,
    reply::{Protocol, Reply},
};

/// The name by which clients call a user that they know nothing of.
const DEFAULT_USER: &str = "default";

impl Session {
    /// `AUTH [USER] TOKEN`.
    pub(super) fn auth(&mut self, arguments: &[Bytes]) -> Result<Reply, Refusal> {
        match arguments {
            [token] => self.identify(DEFAULT_USER.as_bytes(), token)?,
            [user, token] => self.identify(user, token)?,
            _ => return Err(Refusal::Syntax),
        }
        Ok(Reply::OK)
    }

    /// Takes the bearer of a token for the caller. The user is the token's subject, or nobody in particular.
    fn identify(&mut self, user: &[u8], token: &[u8]) -> Result<(), Refusal> {
        let wrong = |why: &str| Refusal::WrongPassword(why.to_owned());
        let token = std::str::from_utf8(token).map_err(|_not_text| wrong("the token is unknown"))?;
        let verified = self.door.admission.authenticator.verify(token);
        let identity = verified.map_err(|error| wrong(&error.to_string()))?;
        if user != DEFAULT_USER.as_bytes() && user != identity.caller.subject.as_bytes() {
            return Err(wrong("the token is of another subject"));
        }
        self.identity = Some(identity);
        Ok(())
    }

    /// `HELLO [VERSION [AUTH USER TOKEN] [SETNAME NAME]]`.
    pub(super) fn hello(&mut self, arguments: &[Bytes]) -> Result<Reply, Refusal> {
        let (version, options) = match arguments.split_first() {
            None => (None, &[][..]),
            Some((version, options)) => (Some(version), options),
        };
        let protocol = match version.map(|version| integer(version)) {
            None => self.protocol,
            Some(Ok(2)) => Protocol::Two,
            Some(Ok(3)) => Protocol::Three,
            Some(_) => return Err(Refusal::Protocol),
        };
        let (mut name, mut rest) = (None, options);
        while let Some((word, after)) = rest.split_first() {
            rest = match (word.to_ascii_uppercase().as_slice(), after) {
                (b"AUTH", [user, token, after @ ..]) => {
                    self.identify(user, token)?;
                    after
                }
                (b"SETNAME", [given, after @ ..]) => {
                    name = Some(super::client::name(given)?);
                    after
                }
                _ => return Err(Refusal::Syntax),
            };
        }
        if self.identity.is_none() {
            return Err(Refusal::HelloUnauthenticated);
        }
        self.protocol = protocol;
        self.name = name.unwrap_or_else(|| std::mem::take(&mut self.name));
        let number = if protocol == Protocol::Three { 3 } else { 2 };
        let members = [
            ("server", Reply::bulk("redis")),
            ("version", Reply::bulk(about::REDIS_VERSION)),
            ("proto", Reply::Integer(number)),
            ("id", Reply::Integer(self.id)),
            ("mode", Reply::bulk("standalone")),
            ("role", Reply::bulk("master")),
            ("modules", Reply::Array(Vec::new())),
        ];
        Ok(Reply::Map(members.map(|(name, value)| (Reply::bulk(name), value)).into()))
    }
}
