//! The connection to the server: statements with their values apart, rows, and what the server refuses. Must not know what a
//! store means.
//!
//! Its invariant: a call that failed on the way leaves no connection behind, so no answer is ever taken for another's; and no
//! value is ever part of the text of a statement.

use std::{
    io::{self, Read, Write},
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use platform_sdk::{db::Error, net::Stream};
use postgres_protocol::{
    IsNull,
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    },
    message::{
        backend::{DataRowBody, ErrorResponseBody, Message},
        frontend,
    },
};

use crate::url::{Address, Encryption};

type Result<T, E = Error> = std::result::Result<T, E>;

/// A connection that was used so lately is taken to be open still.
const SURELY_OPEN: Duration = Duration::from_secs(1);
/// Bytes that are read at once.
const READ: usize = 64 << 10;

/// The time, of which a guest with WASI has no other source.
#[expect(clippy::disallowed_methods, reason = "the host's clock is out of a guest's reach")]
fn now() -> Instant {
    Instant::now()
}

/// A value of a statement.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Parameter<'a> {
    Text(&'a str),
    Whole(i64),
    Number(f64),
    Boolean(bool),
    Data(&'a [u8]),
    /// Nothing, where a value of another kind might be.
    Nothing(&'a Self),
}

impl Parameter<'_> {
    /// Its type, as `pg_type` numbers them.
    fn kind(&self) -> u32 {
        match self {
            Self::Boolean(_) => 16,
            Self::Data(_) => 17,
            Self::Whole(_) => 20,
            Self::Text(_) => 25,
            Self::Number(_) => 701,
            Self::Nothing(of) => of.kind(),
        }
    }

    fn write(&self, out: &mut BytesMut) -> IsNull {
        match self {
            Self::Text(text) => out.put_slice(text.as_bytes()),
            Self::Whole(number) => out.put_i64(*number),
            Self::Number(number) => out.put_f64(*number),
            Self::Boolean(boolean) => out.put_u8((*boolean).into()),
            Self::Data(bytes) => out.put_slice(bytes),
            Self::Nothing(_) => return IsNull::Yes,
        }
        IsNull::No
    }
}

/// A row of an answer.
#[derive(Debug)]
pub(crate) struct Row(Vec<Option<Bytes>>);

impl Row {
    fn read(body: &DataRowBody) -> io::Result<Self> {
        let bytes = body.buffer_bytes();
        let cell = |range: Option<std::ops::Range<usize>>| Ok(range.map(|range| bytes.slice(range)));
        Ok(Self(body.ranges().map(cell).collect()?))
    }

    fn cell(&self, column: usize) -> Option<&Bytes> {
        self.0.get(column)?.as_ref()
    }

    /// Whether there is something in a column.
    pub(crate) fn has(&self, column: usize) -> bool {
        self.cell(column).is_some()
    }

    pub(crate) fn text(&self, column: usize) -> Result<String> {
        let text = self.cell(column).and_then(|cell| String::from_utf8(cell.to_vec()).ok());
        text.ok_or_else(|| unexpected("a text"))
    }

    pub(crate) fn whole(&self, column: usize) -> Result<i64> {
        let bytes = self.cell(column).and_then(|cell| <[u8; 8]>::try_from(cell.as_ref()).ok());
        bytes.map(i64::from_be_bytes).ok_or_else(|| unexpected("a whole number"))
    }

    pub(crate) fn count(&self, column: usize) -> Result<u64> {
        u64::try_from(self.whole(column)?).map_err(|_negative| unexpected("a count"))
    }

    pub(crate) fn number(&self, column: usize) -> Result<f64> {
        let bytes = self.cell(column).and_then(|cell| <[u8; 8]>::try_from(cell.as_ref()).ok());
        bytes.map(f64::from_be_bytes).ok_or_else(|| unexpected("a number"))
    }

    pub(crate) fn boolean(&self, column: usize) -> Result<bool> {
        self.cell(column)
            .and_then(|cell| cell.first())
            .map(|byte| *byte != 0)
            .ok_or_else(|| unexpected("true or false"))
    }

    pub(crate) fn data(&self, column: usize) -> Vec<u8> {
        self.cell(column).map(|cell| cell.to_vec()).unwrap_or_default()
    }
}

fn unexpected(what: &str) -> Error {
    Error::Other(format!("the PostgreSQL server holds something else where {what} should be"))
}

/// Why a statement failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection broke, or what came over it made no sense.
    Broken(io::Error),
    /// The server refused it: its code, what it says, and the constraint that it names.
    Refused { code: String, message: String, constraint: String },
}

impl Failure {
    fn read(body: &ErrorResponseBody) -> Self {
        let (mut code, mut message, mut constraint) = (String::new(), String::new(), String::new());
        let mut fields = body.fields();
        while let Ok(Some(field)) = fields.next() {
            let value = || String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => code = value(),
                b'M' => message = value(),
                b'n' => constraint = value(),
                _ => {}
            }
        }
        Self::Refused { code, message, constraint }
    }

    /// The constraint that a value broke by being there already.
    pub(crate) fn taken(&self) -> Option<&str> {
        match self {
            Self::Refused { code, constraint, .. } if code == "23505" => Some(constraint),
            _ => None,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// Trying again makes sense unless the server said otherwise; a write may have been made when the connection broke.
impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Broken(error) => Self::Unavailable(format!("the PostgreSQL server: {error}")),
            Failure::Refused { code, message, .. } => {
                // Connection, resources, locks, shutting down; a table or column that was dropped meanwhile.
                let may_pass = ["08", "40", "53", "55", "57", "42P01", "42703"];
                let why = format!("the PostgreSQL server: {message} ({code})");
                if may_pass.iter().any(|class| code.starts_with(class)) {
                    Self::Unavailable(why)
                } else {
                    Self::Other(why)
                }
            }
        }
    }
}

/// A server, and the connection to it once there was a call.
#[derive(Debug)]
pub(crate) struct Server {
    address: Address,
    open: Option<(Session, Instant)>,
}

impl Server {
    pub(crate) fn new(address: Address) -> Self {
        Self { address, open: None }
    }

    /// Runs `call` on a connection.
    pub(crate) fn call<T>(&mut self, call: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
        let mut session = self.session()?;
        let answer = call(&mut session);
        if session.usable() {
            self.open = Some((session, now()));
        }
        answer
    }

    /// Runs `call` as a transaction: all of it, or nothing where it fails.
    pub(crate) fn transaction<T>(&mut self, call: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
        self.call(|session| {
            session.run("BEGIN", &[])?;
            let made = call(session);
            match &made {
                Ok(_) => session.run("COMMIT", &[]).map(drop)?,
                // Where even that fails the server does it by itself.
                Err(_) => session.run("ROLLBACK", &[]).map(drop).unwrap_or_default(),
            }
            made
        })
    }

    fn session(&mut self) -> Result<Session> {
        if let Some((mut session, used)) = self.open.take()
            && (used.elapsed() < SURELY_OPEN || session.answers())
        {
            return Ok(session);
        }
        Ok(Session::open(&self.address)?)
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Session {
    stream: Stream,
    received: BytesMut,
    /// Nothing is under way, and no transaction is open.
    idle: bool,
}

impl Session {
    fn open(address: &Address) -> Result<Self, Failure> {
        let mut session = Self { stream: connect(address)?, received: BytesMut::new(), idle: false };
        let mut out = BytesMut::new();
        let named = [
            ("user", address.user.as_str()),
            ("database", address.database.as_str()),
            ("client_encoding", "UTF8"),
            ("application_name", "platform"),
        ];
        frontend::startup_message(named, &mut out)?;
        session.send(&out)?;
        session.authenticate(address)?;
        loop {
            match session.receive()? {
                Message::ReadyForQuery(_) => break,
                Message::ErrorResponse(body) => return Err(Failure::read(&body)),
                _ => {}
            }
        }
        session.idle = true;
        Ok(session)
    }

    fn authenticate(&mut self, address: &Address) -> Result<(), Failure> {
        let mut scram = None;
        loop {
            let mut out = BytesMut::new();
            match self.receive()? {
                Message::AuthenticationOk => return Ok(()),
                Message::AuthenticationCleartextPassword => {
                    frontend::password_message(address.password.as_bytes(), &mut out)?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(address.user.as_bytes(), address.password.as_bytes(), body.salt());
                    frontend::password_message(hash.as_bytes(), &mut out)?;
                }
                Message::AuthenticationSasl(_) => {
                    let begun = ScramSha256::new(address.password.as_bytes(), ChannelBinding::unsupported());
                    frontend::sasl_initial_response(SCRAM_SHA_256, begun.message(), &mut out)?;
                    scram = Some(begun);
                }
                Message::AuthenticationSaslContinue(body) => {
                    let begun = scram.as_mut().ok_or_else(|| garbled("an answer to nothing"))?;
                    begun.update(body.data())?;
                    frontend::sasl_response(begun.message(), &mut out)?;
                }
                Message::AuthenticationSaslFinal(body) => {
                    scram.as_mut().ok_or_else(|| garbled("an answer to nothing"))?.finish(body.data())?;
                    continue;
                }
                Message::ErrorResponse(body) => return Err(Failure::read(&body)),
                _ => return Err(garbled("a way to log in that is not known here").into()),
            }
            self.send(&out)?;
        }
    }

    fn usable(&self) -> bool {
        self.idle
    }

    /// Whether the server is still there.
    fn answers(&mut self) -> bool {
        self.run("", &[]).is_ok()
    }

    /// Runs a statement; its rows, with whole numbers, numbers and the like in their binary form.
    pub(crate) fn run(&mut self, statement: &str, values: &[Parameter<'_>]) -> Result<Vec<Row>, Failure> {
        self.idle = false;
        let mut out = BytesMut::new();
        frontend::parse("", statement, values.iter().map(Parameter::kind), &mut out)?;
        let write = |value: &Parameter<'_>, out: &mut BytesMut| Ok(value.write(out));
        frontend::bind("", "", [1], values, write, [1], &mut out)
            .map_err(|_too_large| garbled("more values than a statement can have"))?;
        frontend::execute("", 0, &mut out)?;
        frontend::sync(&mut out);
        self.send(&out)?;
        let (mut rows, mut refused) = (Vec::new(), None);
        loop {
            match self.receive()? {
                Message::DataRow(body) => rows.push(Row::read(&body)?),
                Message::ErrorResponse(body) => refused = Some(Failure::read(&body)),
                Message::ReadyForQuery(body) => {
                    self.idle = body.status() == b'I';
                    return refused.map_or(Ok(rows), Err);
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    fn receive(&mut self) -> io::Result<Message> {
        loop {
            if let Some(message) = Message::parse(&mut self.received)? {
                return Ok(message);
            }
            let held = self.received.len();
            self.received.resize(held + READ, 0);
            let read = self.received.get_mut(held..).map_or(Ok(0), |room| self.stream.read(room));
            self.received.truncate(held + read.as_ref().copied().unwrap_or(0));
            if read? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
            }
        }
    }
}

/// A connection that is encrypted as far as the address asks and the server can: before anything else is said the server is
/// asked whether it can, and answers with one byte.
fn connect(address: &Address) -> io::Result<Stream> {
    let open = || Stream::connect(&address.host, address.port);
    let mut stream = open()?;
    if address.encryption == Encryption::Disable {
        return Ok(stream);
    }
    let may_be_plain = address.encryption == Encryption::Prefer;
    let mut question = BytesMut::new();
    frontend::ssl_request(&mut question);
    stream.write_all(&question)?;
    stream.flush()?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    match answer {
        [b'S'] => match stream.secure(&address.host) {
            Err(_no_trust) if may_be_plain => open(),
            secured => secured,
        },
        [b'N'] if may_be_plain => Ok(stream),
        [b'N'] => {
            let why = format!(
                "`{}` has no TLS; turn `ssl` on there, or write `sslmode=disable` where the way to it is safe",
                address.host
            );
            Err(io::Error::new(io::ErrorKind::Unsupported, why))
        }
        _ => Err(garbled("something else than whether it has TLS")),
    }
}

fn garbled(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it asked for or answered {what}"))
}
