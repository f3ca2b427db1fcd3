//! Where the server is, and a connection to it, logged in, over TLS where the address asks for it. Must not know what is asked.
//!
//! Its invariant: an address that begins with `rediss://` is never spoken to in plain text.

use std::io::Write as _;

use platform_sdk::net::Stream;
use redis::{ConnectionAddr, ConnectionInfo, ConnectionLike, IntoConnectionInfo as _, Parser, RedisResult, Value, cmd};

/// What addresses begin with whose connections are encrypted.
const SECURE: &str = "rediss://";

/// Where the server is, and who we are there.
pub(crate) struct Address {
    host: String,
    port: u16,
    is_secure: bool,
    info: ConnectionInfo,
}

impl Address {
    /// Reads an address; what is wrong with it otherwise.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        if url.contains(['?', '#']) {
            return Err("after the database there is nothing".to_owned());
        }
        let (is_secure, plain) = match url.strip_prefix(SECURE) {
            Some(rest) => (true, format!("redis://{rest}")),
            None => (false, url.to_owned()),
        };
        let info = plain.as_str().into_connection_info().map_err(|error| error.to_string())?;
        match info.addr() {
            ConnectionAddr::Tcp(host, port) => Ok(Self { host: host.clone(), port: *port, is_secure, info }),
            _ => Err("it has to begin with `redis://` or `rediss://`".to_owned()),
        }
    }
}

/// A connection.
pub(crate) struct Link {
    stream: Stream,
    parser: Parser,
    database: i64,
}

impl Link {
    pub(crate) fn open(address: &Address) -> RedisResult<Self> {
        let mut stream = Stream::connect(&address.host, address.port)?;
        if address.is_secure {
            stream = stream.secure(&address.host)?;
        }
        let settings = address.info.redis_settings();
        let mut link = Self { stream, parser: Parser::new(), database: settings.db() };
        if let Some(password) = settings.password() {
            let mut login = cmd("AUTH");
            login.arg(settings.username()).arg(password);
            login.query::<Value>(&mut link)?;
        }
        if link.database != 0 {
            cmd("SELECT").arg(link.database).query::<Value>(&mut link)?;
        }
        Ok(link)
    }

    fn send(&mut self, commands: &[u8]) -> RedisResult<()> {
        self.stream.write_all(commands)?;
        Ok(self.stream.flush()?)
    }

    fn receive(&mut self) -> RedisResult<Value> {
        self.parser.parse_value(&mut self.stream)
    }
}

impl ConnectionLike for Link {
    fn req_packed_command(&mut self, command: &[u8]) -> RedisResult<Value> {
        self.send(command)?;
        self.receive()
    }

    fn req_packed_commands(&mut self, commands: &[u8], offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        self.send(commands)?;
        let answers: Vec<Value> = (0..offset + count).map(|_| self.receive()).collect::<RedisResult<_>>()?;
        Ok(answers.into_iter().skip(offset).collect())
    }

    fn get_db(&self) -> i64 {
        self.database
    }

    fn check_connection(&mut self) -> bool {
        cmd("PING").query::<Value>(self).is_ok()
    }

    fn is_open(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let address = Address::parse("rediss://me:p%40ss@cache.internal:6380/3").unwrap();
        assert_eq!((address.host.as_str(), address.port, address.is_secure), ("cache.internal", 6380, true));
        let settings = address.info.redis_settings();
        assert_eq!((settings.username(), settings.password(), settings.db()), (Some("me"), Some("p@ss"), 3));
        let address = Address::parse("redis://:secret@[::1]").unwrap();
        assert_eq!((address.host.as_str(), address.port, address.is_secure), ("::1", 6379, false));
        assert_eq!((address.info.redis_settings().username(), address.info.redis_settings().db()), (None, 0));
        for bad in [
            "",
            "rediss://",
            "http://a",
            "unix:///run/redis",
            "rediss://a/x",
            "rediss://a:99999",
            "rediss://a#insecure",
            "rediss://rediss://a",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}
