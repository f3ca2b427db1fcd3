//! `platform discovery`: which services run where.
//!
//! Knows the command's arguments and how registrations look; the registry's rules are the daemon's. Invariant: a node kept
//! by `register --keep` is deregistered when the command is told to end.

use std::{collections::BTreeMap, time::Duration};

use clap::{Args, Subcommand};
use platform_proto::discovery::v1::{
    DeregisterRequest, Endpoint, GetRequest, GetResponse, HeartbeatRequest, ListRequest, ListResponse, Node,
    RegisterRequest, Registration, WatchEvent, WatchRequest, watch_event::Event,
};

use super::{
    Context,
    client::{Client, TIMEOUT},
    ends::Ends,
    failure::{Exit, Failure},
    output::show,
    pages,
    quantity::{milliseconds, pair, positive_duration},
    watch::{self, Shown},
};

/// Time to live that the registry gives when none is asked for.
const USUAL_TTL: Duration = Duration::from_secs(30);

/// What can be done with the registry.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Registers a node of a service.
    #[command(
        after_help = "Examples:\n  platform discovery register orders node-1 10.0.0.7:8080 --service-version 1.4.0 --ttl 10s\n  \
        platform discovery register orders node-1 10.0.0.7:8080 --keep"
    )]
    Register(Register),
    /// Keeps a registration for another time to live; exits with 1 when it has gone.
    #[command(after_help = "Example:\n  platform discovery heartbeat orders node-1 --ttl 10s")]
    Heartbeat(Heartbeat),
    /// Removes a registration; removing an absent one succeeds.
    #[command(after_help = "Example:\n  platform discovery deregister orders node-1")]
    Deregister(Which),
    /// Lists the nodes of a service; exits with 1 when there are none.
    #[command(after_help = "Example:\n  platform discovery get orders --output json")]
    Get(Get),
    /// Lists services.
    #[command(after_help = "Example:\n  platform discovery list")]
    List(List),
    /// Shows registrations as they come and go, until interrupted.
    #[command(after_help = "Example:\n  platform discovery watch orders")]
    Watch(Watch),
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Name of the service.
    service: String,
    /// Id of the node.
    node: String,
}

#[derive(Debug, Args)]
pub(crate) struct Register {
    #[command(flatten)]
    which: Which,
    /// Where the node answers.
    #[arg(value_name = "HOST:PORT")]
    at: String,
    /// Version of the service that the node runs.
    #[arg(long, value_name = "VERSION", default_value = "unversioned")]
    service_version: String,
    /// How long the registration stays without a heartbeat; 30s when not given.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    ttl: Option<Duration>,
    /// Where the node runs, for routing that prefers what is near.
    #[arg(long, default_value = "")]
    zone: String,
    /// Share of the traffic, 0 to 65535; 0 takes none.
    #[arg(long, default_value_t = 100)]
    weight: u32,
    /// Label of the node; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Label of the service; may be repeated.
    #[arg(long = "service-label", value_name = "KEY=VALUE", value_parser = pair)]
    service_labels: Vec<(String, String)>,
    /// Name of a method that the service answers; may be repeated.
    #[arg(long = "endpoint", value_name = "NAME")]
    endpoints: Vec<String>,
    /// Sends heartbeats until interrupted, then deregisters.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Heartbeat {
    #[command(flatten)]
    which: Which,
    /// How long the registration stays from now; 30s when not given.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    ttl: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Name of the service.
    service: String,
    /// At most this many; all when not given.
    #[arg(long)]
    limit: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// At most this many; all when not given.
    #[arg(long)]
    limit: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Only this service; all when not given.
    #[arg(default_value = "")]
    service: String,
    #[command(flatten)]
    extent: watch::Extent,
}

/// Runs a command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Register(arguments) => register(context, arguments).await,
        Command::Heartbeat(arguments) => heartbeat(context, arguments).await,
        Command::Deregister(which) => deregister(context, which).await,
        Command::Get(arguments) => get(context, arguments).await,
        Command::List(arguments) => list(context, arguments).await,
        Command::Watch(arguments) => follow(context, arguments).await,
    }
}

async fn register(context: &Context, arguments: Register) -> Result<Exit, Failure> {
    // Taken over before the node is registered, so that from then on no signal ends this without deregistering.
    let ends = if arguments.keep { Some(Ends::take()?) } else { None };
    let message = arguments.into_message();
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, message.clone());
    let registered = client.call(client.discovery().register(request)).await?;
    let human = || format!("registered at revision {}", registered.revision);
    context.output.answer("platform.discovery.v1.RegisterResponse", &registered, human)?;
    match ends {
        Some(ends) => keep_alive(context, client, message, ends).await,
        None => Ok(Exit::Done),
    }
}

impl Register {
    fn into_message(self) -> RegisterRequest {
        let endpoint = |name| Endpoint { name, ..Endpoint::default() };
        let node = Node {
            id: self.which.node,
            address: self.at,
            zone: self.zone,
            weight: Some(self.weight),
            metadata: self.labels.into_iter().collect(),
        };
        let registration = Registration {
            service: self.which.service,
            version: self.service_version,
            node: Some(node),
            metadata: self.service_labels.into_iter().collect(),
            endpoints: self.endpoints.into_iter().map(endpoint).collect(),
        };
        RegisterRequest { registration: Some(registration), ttl_ms: self.ttl.map_or(0, milliseconds) }
    }
}

/// Registers again and again, a third of the time to live apart, so that one lost attempt does no harm.
async fn keep_alive(
    context: &Context, mut client: Client, message: RegisterRequest, mut ends: Ends,
) -> Result<Exit, Failure> {
    let ttl = if message.ttl_ms == 0 { USUAL_TTL } else { Duration::from_millis(message.ttl_ms) };
    let mut ticks = tokio::time::interval(ttl / 3);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = ends.next() => break,
        }
        if let Err(failure) = beat(&client, &message).await {
            if !failure.is_transient() {
                return Err(failure);
            }
            context.output.note(&format!("no heartbeat: {failure}; trying again"));
            if let Ok(fresh) = context.connect().await {
                client = fresh;
            }
        }
    }
    let registration = message.registration.unwrap_or_default();
    let node_id = registration.node.unwrap_or_default().id;
    let request = client.request(TIMEOUT, DeregisterRequest { service: registration.service, node_id });
    client.call(client.discovery().deregister(request)).await?;
    Ok(Exit::Done)
}

/// One heartbeat; registers again where the registration has gone.
async fn beat(client: &Client, message: &RegisterRequest) -> Result<(), Failure> {
    let registration = message.registration.clone().unwrap_or_default();
    let node_id = registration.node.unwrap_or_default().id;
    let heartbeat = HeartbeatRequest { service: registration.service, node_id, ttl_ms: message.ttl_ms };
    match client.call(client.discovery().heartbeat(client.request(TIMEOUT, heartbeat))).await {
        Err(failure) if failure.code == Some(tonic::Code::NotFound) => {
            client.call(client.discovery().register(client.request(TIMEOUT, message.clone()))).await.map(drop)
        }
        other => other.map(drop),
    }
}

async fn heartbeat(context: &Context, arguments: Heartbeat) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let Which { service, node } = arguments.which;
    let message = HeartbeatRequest { service, node_id: node, ttl_ms: arguments.ttl.map_or(0, milliseconds) };
    let kept = client.call(client.discovery().heartbeat(client.request(TIMEOUT, message))).await?;
    context.output.answer("platform.discovery.v1.HeartbeatResponse", &kept, || "kept".to_owned())?;
    Ok(Exit::Done)
}

async fn deregister(context: &Context, which: Which) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let message = DeregisterRequest { service: which.service, node_id: which.node };
    let gone = client.call(client.discovery().deregister(client.request(TIMEOUT, message))).await?;
    context.output.answer("platform.discovery.v1.DeregisterResponse", &gone, || "deregistered".to_owned())?;
    Ok(Exit::Done)
}

async fn get(context: &Context, arguments: Get) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let (registrations, next_page_token) = pages::read(arguments.limit, async |limit, page_token| {
        let message = GetRequest { service: arguments.service.clone(), limit, page_token };
        let page = client.call(client.discovery().get(client.request(TIMEOUT, message))).await?;
        Ok((page.registrations, page.next_page_token))
    })
    .await?;
    let output = context.output;
    let answer = GetResponse { registrations, next_page_token };
    output.answer("platform.discovery.v1.GetResponse", &answer, || {
        let mut table = output.table(&["NODE", "ADDRESS", "VERSION", "ZONE", "WEIGHT", "LABELS"]);
        for registration in &answer.registrations {
            let node = registration.node.clone().unwrap_or_default();
            let weight = node.weight.unwrap_or(100).to_string();
            table.add_row([
                node.id,
                node.address,
                registration.version.clone(),
                node.zone,
                weight,
                labels(&node.metadata),
            ]);
        }
        if answer.registrations.is_empty() { String::new() } else { show(&table) }
    })?;
    if answer.registrations.is_empty() {
        output.note(&format!("no node of `{}` is registered", arguments.service));
        return Ok(Exit::No);
    }
    Ok(Exit::Done)
}

async fn list(context: &Context, arguments: List) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let (services, next_page_token) = pages::read(arguments.limit, async |limit, page_token| {
        let page =
            client.call(client.discovery().list(client.request(TIMEOUT, ListRequest { limit, page_token }))).await?;
        Ok((page.services, page.next_page_token))
    })
    .await?;
    let output = context.output;
    if services.is_empty() {
        output.note("no services");
    }
    let answer = ListResponse { services, next_page_token };
    output.answer("platform.discovery.v1.ListResponse", &answer, || {
        let mut table = output.table(&["SERVICE", "NODES", "VERSIONS"]);
        for service in &answer.services {
            table.add_row([service.service.clone(), service.nodes.to_string(), service.versions.join(", ")]);
        }
        if answer.services.is_empty() { String::new() } else { show(&table) }
    })?;
    Ok(Exit::Done)
}

async fn follow(context: &Context, arguments: Watch) -> Result<Exit, Failure> {
    let service = arguments.service;
    let open = async |client: &Client, after_revision| {
        client.discovery().watch(WatchRequest { service: service.clone(), after_revision }).await
    };
    watch::follow(context, arguments.extent, "platform.discovery.v1.WatchEvent", open, |event: &WatchEvent| {
        Some(match event.event.as_ref()? {
            Event::Registered(registered) => {
                let registration = registered.registration.clone().unwrap_or_default();
                let node = registration.node.unwrap_or_default();
                let Registration { service, version, .. } = registration;
                let words = format!("registered  {service}  {}  {}  {version}", node.id, node.address);
                Shown::Change(registered.revision, words)
            }
            Event::Removed(gone) => {
                Shown::Change(gone.revision, format!("removed     {}  {}", gone.service, gone.node_id))
            }
            Event::Progress(progress) => Shown::Progress(progress.revision),
        })
    })
    .await
}

/// Labels on one line.
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> String {
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.join(",")
}
