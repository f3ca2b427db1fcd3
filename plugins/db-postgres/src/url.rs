//! Where a server is, who we are there, and whether the way is encrypted:
//! `postgres://USER[:PASSWORD]@HOST[:PORT]/DATABASE[?sslmode=MODE]`.

use percent_encoding::percent_decode_str;

/// The port of a server whose address names none.
const PORT: u16 = 5432;

/// Whether a connection is encrypted: `sslmode` as libpq has it, except that a certificate is checked whenever there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// It is not.
    Disable,
    /// It is when the server can, with a certificate that is trusted; otherwise it is not.
    Prefer,
    /// It is, with a certificate that is trusted and is the host's.
    Require,
}

impl Encryption {
    fn parse(parameters: Option<&str>) -> Result<Self, &'static str> {
        let Some(parameters) = parameters else { return Ok(Self::Prefer) };
        match parameters.strip_prefix("sslmode=") {
            Some("disable") => Ok(Self::Disable),
            Some("prefer") => Ok(Self::Prefer),
            Some("require" | "verify-full") => Ok(Self::Require),
            Some("verify-ca") => Err("`sslmode=verify-ca` would take any host's certificate; write `verify-full`"),
            Some(_) => Err("`sslmode` is one of `disable`, `prefer`, `require` and `verify-full`"),
            None => Err("of the parameters after `?` there is `sslmode` and no other"),
        }
    }
}

/// The address of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
    pub(crate) encryption: Encryption,
}

impl Address {
    /// Reads an address; what is wrong with it otherwise.
    pub(crate) fn parse(url: &str) -> Result<Self, &'static str> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let rest = rest.ok_or("it has to start with `postgres://`")?;
        let (account, rest) = rest.rsplit_once('@').ok_or("it names no user; write `postgres://USER@HOST/DATABASE`")?;
        let (server, database) = rest.split_once('/').ok_or("it names no database")?;
        let (database, parameters) = match database.split_once('?') {
            Some((database, parameters)) => (database, Some(parameters)),
            None => (database, None),
        };
        let encryption = Encryption::parse(parameters)?;
        if database.is_empty() || database.contains('/') {
            return Err("after the host there is a database and nothing else");
        }
        let (user, password) = account.split_once(':').unwrap_or((account, ""));
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().ok_or("its port is no port")?),
            _ => (server, PORT),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || user.is_empty() {
            return Err("its host or its user is empty");
        }
        let text = |text: &str| {
            let text = percent_decode_str(text).decode_utf8().ok().ok_or("it is no UTF-8")?.into_owned();
            if text.contains('\0') { Err("it holds NUL") } else { Ok(text) }
        };
        let (user, password, database) = (text(user)?, text(password)?, text(database)?);
        Ok(Self { host: host.to_owned(), port, user, password, database, encryption })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_of_encryption_are_read() {
        for (parameters, encryption) in [
            ("", Encryption::Prefer),
            ("?sslmode=disable", Encryption::Disable),
            ("?sslmode=prefer", Encryption::Prefer),
            ("?sslmode=require", Encryption::Require),
            ("?sslmode=verify-full", Encryption::Require),
        ] {
            let address = Address::parse(&format!("postgres://me@db.internal/shop{parameters}")).unwrap();
            assert_eq!((address.encryption, address.database.as_str()), (encryption, "shop"), "{parameters}");
        }
    }

    #[test]
    fn addresses_are_read() {
        let address = Address::parse("postgres://me:p%40ss@db.internal:5433/shop").unwrap();
        assert_eq!((address.host.as_str(), address.port, address.password.as_str()), ("db.internal", 5433, "p@ss"));
        let address = Address::parse("postgresql://me@[::1]/shop").unwrap();
        assert_eq!((address.host.as_str(), address.port, address.database.as_str()), ("::1", PORT, "shop"));
        for bad in [
            "",
            "http://a@b/c",
            "postgres://b/c",
            "postgres://a@b",
            "postgres://a@b:x/c",
            "postgres://a@b/c?d",
            "postgres://a@b/c?sslmode=",
            "postgres://a@b/c?sslmode=verify-ca",
            "postgres://a@b/c?sslmode=require&x=y",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}
