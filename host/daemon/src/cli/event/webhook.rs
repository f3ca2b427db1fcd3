//! Webhooks: `webhook create`, `list`, `get`, `pause`, `resume` and `delete`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use platform_proto::event::v1::{
    CreateSubscriptionRequest, CreateWebhookRequest, DeleteSubscriptionRequest, DeleteWebhookRequest,
    GetWebhookRequest, ListWebhooksRequest, ListWebhooksResponse, PauseWebhookRequest, ResumeWebhookRequest, Webhook,
    WebhookMode, WebhookState,
};
use tonic::Code;

use super::{
    Begin, begin,
    subscribe::{List, Named},
};
use crate::cli::{
    Context,
    client::{Client, TIMEOUT},
    failure::{Exit, Failure},
    input,
    kv::time,
    output::show,
    pages,
    quantity::{milliseconds, positive_duration},
};

/// How often an event is attempted when nobody says: with waits that double from 5 seconds to an hour, for ten hours.
const DELIVERIES_MAX: u32 = 20;

/// Largest file that may hold a secret.
const SECRET_BYTES_MAX: u64 = 4096;

/// What can be done with webhooks.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Posts what a subscription delivers to a URL; makes the subscription when it is not there. Prints the secret that
    /// requests are signed with, once.
    #[command(after_help = "Examples:\n  platform event webhook create orders billing https://example.com/hooks\n  \
        platform event webhook create orders billing https://example.com/hooks --type 'order.p*' --mode structured\n  \
        platform event webhook create orders billing https://example.com/hooks --secret-file webhook.secret")]
    Create(Box<Create>),
    /// Lists the webhooks of a topic in order of their subscriptions.
    #[command(after_help = "Example:\n  platform event webhook list orders")]
    List(List),
    /// Shows one webhook and how its deliveries go; exits with 1 when there is none.
    #[command(after_help = "Example:\n  platform event webhook get orders billing")]
    Get(Named),
    /// Lets a webhook rest; events wait in the subscription.
    #[command(after_help = "Example:\n  platform event webhook pause orders billing")]
    Pause(Named),
    /// Lets a webhook go on that was paused, or whose target was gone.
    #[command(after_help = "Example:\n  platform event webhook resume orders billing")]
    Resume(Named),
    /// Removes a webhook; its subscription stays.
    #[command(after_help = "Example:\n  platform event webhook delete orders billing")]
    Delete(Named),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The topic.
    topic: String,
    /// Name of the subscription.
    name: String,
    /// Where events are posted to.
    url: String,
    /// How they stand in the request.
    #[arg(long, value_enum, default_value_t = Mode::Binary)]
    mode: Mode,
    /// File with the secret that requests are signed with, `whsec_` and base64; one is made when not given.
    #[arg(long, value_name = "FILE", conflicts_with = "unsigned")]
    secret_file: Option<PathBuf>,
    /// Does not sign requests.
    #[arg(long)]
    unsigned: bool,
    /// Longest attempt; `15s` when not given.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    timeout: Option<Duration>,
    /// Attempts at the same time; 8 when not given.
    #[arg(long, value_name = "NUMBER")]
    concurrency: Option<u32>,
    /// Wait after the first failed attempt of an event, which doubles with each; `5s` when not given.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    retry_min: Option<Duration>,
    /// Longest wait after a failed attempt; `1h` when not given.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    retry_max: Option<Duration>,
    /// Where the subscription begins when it is made: `beginning`, `new`, a sequence, a time, or how long ago.
    #[arg(long, default_value = "new", value_parser = begin)]
    start: Begin,
    /// Only this type, or all that start with what stands before a `*`, when the subscription is made.
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// How often an event is attempted before it goes to the dead-letter topic, when the subscription is made; 0 for as often
    /// as it takes.
    #[arg(long, value_name = "NUMBER", default_value_t = DELIVERIES_MAX)]
    deliveries_max: u32,
    /// Where events go that were not taken, when the subscription is made; `TOPIC.dead-letter` when not given.
    #[arg(long, default_value = "", value_name = "TOPIC")]
    dead_letter: String,
}

/// How events stand in requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Attributes are headers, the data is the body.
    Binary,
    /// All of it is JSON in the body.
    Structured,
}

/// Runs a command.
pub(super) async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let webhook = match command {
        Command::Create(arguments) => return create(context, &client, *arguments).await,
        Command::List(arguments) => return list(context, &client, arguments).await,
        Command::Get(Named { topic, name }) => {
            let request = client.request(TIMEOUT, GetWebhookRequest { topic, name });
            client.call(client.events().get_webhook(request)).await?
        }
        Command::Pause(Named { topic, name }) => {
            let request = client.request(TIMEOUT, PauseWebhookRequest { topic, name });
            client.call(client.events().pause_webhook(request)).await?
        }
        Command::Resume(Named { topic, name }) => {
            let request = client.request(TIMEOUT, ResumeWebhookRequest { topic, name });
            client.call(client.events().resume_webhook(request)).await?
        }
        Command::Delete(Named { topic, name }) => {
            let request = client.request(TIMEOUT, DeleteWebhookRequest { topic, name });
            let deleted = client.call(client.events().delete_webhook(request)).await?;
            context.output.answer("platform.event.v1.DeleteWebhookResponse", &deleted, || "deleted".to_owned())?;
            return Ok(Exit::Done);
        }
    };
    context.output.answer("platform.event.v1.Webhook", &webhook, || one(context, &webhook))?;
    Ok(Exit::Done)
}

async fn create(context: &Context, client: &Client, arguments: Create) -> Result<Exit, Failure> {
    let secret = match &arguments.secret_file {
        Some(file) => String::from_utf8_lossy(&input::read(file, SECRET_BYTES_MAX)?).trim().to_owned(),
        None => String::new(),
    };
    let mode = match arguments.mode {
        Mode::Binary => WebhookMode::Binary,
        Mode::Structured => WebhookMode::Structured,
    };
    let made = subscribe(client, &arguments).await?;
    let (topic, name) = (arguments.topic, arguments.name);
    let message = CreateWebhookRequest {
        topic: topic.clone(),
        name: name.clone(),
        url: arguments.url,
        mode: mode.into(),
        secret,
        unsigned: arguments.unsigned,
        timeout_ms: arguments.timeout.map(milliseconds),
        concurrency: arguments.concurrency,
        retry_ms_min: arguments.retry_min.map(milliseconds),
        retry_ms_max: arguments.retry_max.map(milliseconds),
    };
    let created = match client.call(client.events().create_webhook(client.request(TIMEOUT, message))).await {
        Ok(created) => created,
        Err(failure) => {
            if made {
                let request = client.request(TIMEOUT, DeleteSubscriptionRequest { topic, name });
                // What is told is why there is no webhook.
                let _ = client.call(client.events().delete_subscription(request)).await;
            }
            return Err(failure);
        }
    };
    context.output.answer("platform.event.v1.CreateWebhookResponse", &created, || {
        let shown = created.webhook.as_ref().map(|webhook| one(context, webhook)).unwrap_or_default();
        if created.secret.is_empty() {
            return shown;
        }
        let secret = context.output.fields(&[("secret, shown once", created.secret.clone())]);
        format!("{shown}\n{secret}")
    })?;
    Ok(Exit::Done)
}

/// Makes the subscription unless it is there; whether it was not.
async fn subscribe(client: &Client, arguments: &Create) -> Result<bool, Failure> {
    let message = CreateSubscriptionRequest {
        topic: arguments.topic.clone(),
        name: arguments.name.clone(),
        start: Some(*arguments.start),
        types: arguments.types.clone(),
        deliveries_max: Some(arguments.deliveries_max),
        dead_letter_topic: arguments.dead_letter.clone(),
        ..CreateSubscriptionRequest::default()
    };
    match client.call(client.events().create_subscription(client.request(TIMEOUT, message))).await {
        Ok(_) => Ok(true),
        Err(failure) if failure.code == Some(Code::AlreadyExists) => Ok(false),
        Err(failure) => Err(failure),
    }
}

async fn list(context: &Context, client: &Client, arguments: List) -> Result<Exit, Failure> {
    let List { topic, limit } = arguments;
    let (webhooks, next_page_token) = pages::read(limit, async |limit, page_token| {
        let message = ListWebhooksRequest { topic: topic.clone(), limit, page_token };
        let page = client.call(client.events().list_webhooks(client.request(TIMEOUT, message))).await?;
        Ok((page.webhooks, page.next_page_token))
    })
    .await?;
    let answer = ListWebhooksResponse { webhooks, next_page_token };
    let output = context.output;
    output.answer("platform.event.v1.ListWebhooksResponse", &answer, || {
        if answer.webhooks.is_empty() {
            return String::new();
        }
        let mut table = output.table(&["SUBSCRIPTION", "STATE", "DELIVERED", "FAILED", "LAST", "NEXT TRY", "URL"]);
        for found in &answer.webhooks {
            let (delivered, failed) = (found.delivered.to_string(), found.failed.to_string());
            let (state, next) = (state(found).to_owned(), next(found));
            table.add_row([found.name.clone(), state, delivered, failed, last(found), next, found.url.clone()]);
        }
        show(&table)
    })?;
    output.remark("no webhooks", answer.webhooks.is_empty(), &answer.next_page_token);
    Ok(Exit::Done)
}

fn state(webhook: &Webhook) -> &'static str {
    match webhook.state() {
        WebhookState::Paused => "paused",
        WebhookState::Gone => "gone",
        WebhookState::Active | WebhookState::Unspecified => "active",
    }
}

fn last(webhook: &Webhook) -> String {
    if webhook.last_status == 0 { String::new() } else { webhook.last_status.to_string() }
}

fn next(webhook: &Webhook) -> String {
    webhook.next_attempt_time.map(|next| time(Some(next))).unwrap_or_default()
}

fn one(context: &Context, webhook: &Webhook) -> String {
    let mode = if webhook.mode() == WebhookMode::Structured { "structured" } else { "binary" };
    let mut fields = vec![
        ("topic", webhook.topic.clone()),
        ("subscription", webhook.name.clone()),
        ("url", webhook.url.clone()),
        ("state", state(webhook).to_owned()),
        ("mode", mode.to_owned()),
        ("signed", if webhook.signed { "yes" } else { "no" }.to_owned()),
        ("timeout", format!("{} ms", webhook.timeout_ms)),
        ("concurrency", webhook.concurrency.to_string()),
        ("retries after", format!("{} to {} ms", webhook.retry_ms_min, webhook.retry_ms_max)),
        ("created", time(webhook.create_time)),
        ("delivered", webhook.delivered.to_string()),
        ("failed", format!("{}, {} in a row", webhook.failed, webhook.failures_in_row)),
        ("dead letters", webhook.rejected.to_string()),
        ("in flight", webhook.in_flight.to_string()),
    ];
    let told = [
        ("last status", last(webhook)),
        ("last attempt", webhook.last_attempt_time.map(|at| time(Some(at))).unwrap_or_default()),
        ("next attempt", next(webhook)),
        ("problem", webhook.problem.clone()),
    ];
    fields.extend(told.into_iter().filter(|(_, value)| !value.is_empty()));
    context.output.fields(&fields)
}
