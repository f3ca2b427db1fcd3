//! [`Session`]: what a connection is at the moment: who calls, in which namespace, in which version of the protocol.
//!
//! Owns the order in which requests are taken up and answered; the commands of the connection are in `session/`, those on
//! keys in `data`. Invariant: answers come in the order of requests, and commands on keys that follow each other are run
//! together, in their order.

mod client;
mod hello;
mod transaction;

use std::{io, net::SocketAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use platform_base::clock;
use platform_capability::Call;

use self::transaction::Transaction;
use super::{
    Door, about, browse,
    command::{self, Kind, Session as Command, Spec},
    data::{Data, KEYS_MAX, integer},
    engine::Watched,
    frame::{Limits, Request},
    output::Output,
    refusal::Refusal,
    reply::{Protocol, Reply},
};
use crate::identity::Identity;

/// Bytes of values that are run together: half of what one commit takes.
const BATCH_BYTES: usize = 8 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    door: Arc<Door>,
    id: i64,
    peer: SocketAddr,
    begun_s: u64,
    name: String,
    library: (String, String),
    identity: Option<Arc<Identity>>,
    database: usize,
    transaction: Option<Transaction>,
    watched: Watched,
    pub(super) protocol: Protocol,
    /// Whether the connection ends after what is answered already.
    pub(super) closing: bool,
}

/// Commands on keys that wait to be run together.
#[derive(Debug, Default)]
struct Batch {
    metrics: Vec<&'static str>,
    commands: Vec<Data>,
    keys: usize,
    bytes: usize,
}

impl Session {
    pub(super) fn new(door: Arc<Door>, id: i64, peer: SocketAddr) -> Self {
        let identity = door.unnamed.clone();
        Self {
            door,
            id,
            peer,
            begun_s: clock::unix_ms() / 1000,
            name: String::new(),
            library: (String::new(), String::new()),
            identity,
            database: 0,
            transaction: None,
            watched: Watched::new(),
            protocol: Protocol::Two,
            closing: false,
        }
    }

    /// How large requests may be.
    pub(super) fn limits(&self) -> Limits {
        if self.identity.is_some() { self.door.config.request_limits() } else { Limits::STRANGER }
    }

    /// Whether it is known who calls. Until then requests are taken one by one, since each may change that.
    pub(super) fn is_known(&self) -> bool {
        self.identity.is_some()
    }

    /// Runs requests and writes their answers.
    pub(super) async fn run(&mut self, requests: Vec<Request>, out: &mut Output<'_>) -> io::Result<()> {
        let mut batch = Batch::default();
        for request in requests {
            if self.closing {
                break;
            }
            let found = command::find(&request).inspect_err(|_| self.suspect(&request));
            let metric = found.as_ref().map_or("resp/unknown", |(spec, _)| spec.metric);
            let step = match self.read(found) {
                Ok(Step::Data(data)) => {
                    if !batch.fits(&data) {
                        self.flush(&mut batch, out).await?;
                    }
                    batch.push(metric, data);
                    continue;
                }
                step => step,
            };
            self.flush(&mut batch, out).await?;
            let begun = clock::now();
            let reply = match step {
                Ok(step) => self.step(step).await.unwrap_or_else(Reply::from),
                Err(refusal) => refusal.into(),
            };
            self.answer(metric, &reply, begun, out).await?;
        }
        self.flush(&mut batch, out).await
    }

    /// Runs what waits.
    async fn flush(&mut self, batch: &mut Batch, out: &mut Output<'_>) -> io::Result<()> {
        let Batch { metrics, commands, .. } = std::mem::take(batch);
        if commands.is_empty() {
            return Ok(());
        }
        let begun = clock::now();
        let replies = match self.call() {
            Ok(call) => self.door.engine.batch(&call, &commands).await,
            Err(refusal) => commands.iter().map(|_| refusal.clone().into()).collect(),
        };
        for (metric, reply) in metrics.into_iter().zip(replies) {
            self.answer(metric, &reply, begun, out).await?;
        }
        Ok(())
    }

    async fn answer(&self, metric: &str, reply: &Reply, begun: Instant, out: &mut Output<'_>) -> io::Result<()> {
        self.door.requests.record(metric, reply.code(), begun.elapsed());
        out.push(reply, self.protocol).await
    }

    /// What a request asks for. Refusals within a transaction end it.
    fn read<'a>(&mut self, found: Result<(&'static Spec, &'a [Bytes]), Refusal>) -> Result<Step<'a>, Refusal> {
        let step = found.and_then(|(spec, arguments)| self.admit(spec, arguments));
        if step.is_err()
            && let Some(transaction) = &mut self.transaction
        {
            transaction.abort();
        }
        step
    }

    fn admit<'a>(&mut self, spec: &'static Spec, arguments: &'a [Bytes]) -> Result<Step<'a>, Refusal> {
        if self.identity.as_ref().is_some_and(|identity| identity.is_expired()) {
            self.identity = None;
        }
        let open = matches!(spec.kind, Kind::Session(command) if command.is_open());
        if self.identity.is_none() && !open {
            return Err(Refusal::Unauthenticated);
        }
        match (spec.kind, &mut self.transaction) {
            (Kind::Data(parse), None) => parse(spec.name, arguments).map(Step::Data),
            (Kind::Data(parse), Some(transaction)) => {
                transaction.queue(parse(spec.name, arguments)?)?;
                Ok(Step::Queued)
            }
            (Kind::Session(command), None) => Ok(Step::Session(command, arguments)),
            (Kind::Browse(command), None) => Ok(Step::Browse(command, arguments)),
            (Kind::Session(command), Some(_)) if transaction::is_allowed(command) => {
                Ok(Step::Session(command, arguments))
            }
            (_, Some(_)) => Err(Refusal::Transaction("Command not allowed inside a transaction")),
        }
    }

    /// A browser that was made to talk to this port sends such lines; nothing it sends is to be a command.
    fn suspect(&mut self, request: &Request) {
        let name = request.first().map_or(&[][..], |name| &name[..]);
        if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
            tracing::warn!(peer = %self.peer, "an HTTP request came to the RESP port; the connection is closed");
            self.closing = true;
        }
    }

    async fn step(&mut self, step: Step<'_>) -> Result<Reply, Refusal> {
        match step {
            Step::Data(_) => Err(Refusal::Other("a command was taken out of its order".to_owned())),
            Step::Queued => Ok(Reply::Simple("QUEUED")),
            Step::Browse(command, arguments) => {
                let call = self.call()?;
                browse::run(command, arguments, &call, &self.door.engine, &self.door.cursors).await
            }
            Step::Session(command, arguments) => self.command(command, arguments).await,
        }
    }

    async fn command(&mut self, command: Command, arguments: &[Bytes]) -> Result<Reply, Refusal> {
        match command {
            Command::Ping => match arguments {
                [] => Ok(Reply::Simple("PONG")),
                [text] => Ok(Reply::Bulk(text.clone())),
                _ => Err(Refusal::Arity("ping")),
            },
            Command::Echo => Ok(arguments.first().cloned().map_or(Reply::Null, Reply::Bulk)),
            Command::Quit => {
                self.closing = true;
                Ok(Reply::OK)
            }
            Command::Reset => Ok(self.reset()),
            Command::Hello => self.hello(arguments),
            Command::Auth => self.auth(arguments),
            Command::Select => self.select(arguments),
            Command::Client => self.client(arguments),
            Command::Info => Ok(self.info(arguments).await),
            Command::Command => about::command(arguments),
            Command::Config => about::config(arguments, self.door.namespaces.len()),
            Command::Watch => self.watch(arguments).await,
            Command::Unwatch => {
                self.watched.clear();
                Ok(Reply::OK)
            }
            Command::Multi => self.multi(),
            Command::Exec => self.exec().await,
            Command::Discard => self.discard(),
        }
    }

    fn reset(&mut self) -> Reply {
        *self = Self { begun_s: self.begun_s, ..Self::new(Arc::clone(&self.door), self.id, self.peer) };
        Reply::Simple("RESET")
    }

    fn select(&mut self, arguments: &[Bytes]) -> Result<Reply, Refusal> {
        let number = integer(arguments.first().map_or(&[], |number| &number[..]))?;
        let database = usize::try_from(number).map_err(|_negative| Refusal::Database)?;
        let namespace = self.door.namespaces.get(database).ok_or(Refusal::Database)?;
        if !self.watched.is_empty() {
            return Err(Refusal::Transaction("SELECT with watched keys: UNWATCH first"));
        }
        if let Some(identity) = &self.identity {
            self.door.admission.enter(identity, namespace)?;
        }
        self.database = database;
        Ok(Reply::OK)
    }

    async fn info(&self, sections: &[Bytes]) -> Reply {
        let keys = match self.call() {
            Ok(call) => self.door.engine.kv().used(&call).await.ok().map(|used| used.keys),
            Err(_) => None,
        };
        let facts = about::Facts {
            version: &self.door.version,
            uptime_s: self.door.begun.elapsed().as_secs(),
            connections: self.door.gate.in_flight(),
            database: self.database,
            keys,
        };
        about::info(&facts, sections)
    }

    /// The context of a call that begins now.
    fn call(&self) -> Result<Call, Refusal> {
        let identity = self.identity.as_ref().ok_or(Refusal::Unauthenticated)?;
        let namespace = self.door.namespaces.get(self.database).ok_or(Refusal::Database)?;
        Ok(self.door.admission.enter(identity, namespace)?)
    }
}

/// What a request asks for.
enum Step<'a> {
    Data(Data),
    Queued,
    Browse(command::Browse, &'a [Bytes]),
    Session(Command, &'a [Bytes]),
}

impl Batch {
    /// Whether one read and one commit take it too.
    fn fits(&self, data: &Data) -> bool {
        self.keys + data.keys().len() <= KEYS_MAX && self.bytes + data.bytes() <= BATCH_BYTES
    }

    fn push(&mut self, metric: &'static str, data: Data) {
        self.metrics.push(metric);
        self.keys += data.keys().len();
        self.bytes += data.bytes();
        self.commands.push(data);
    }
}
