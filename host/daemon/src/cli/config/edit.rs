//! Changes of configurations: `set`, `merge`, `delete`, `rollback` and `schema`.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use platform_proto::config::v1::{
    DecideRequest, DeleteRequest, EditResponse, GetSchemaRequest, MergeRequest, ResealRequest, RollbackRequest,
    SetRequest, SetSchemaRequest, StageRequest,
};

use super::read::{self, pretty};
use crate::cli::{
    Context,
    client::TIMEOUT,
    failure::{Exit, Failure},
    input,
};

/// Largest text that is sent; the daemon says what is allowed.
const TEXT_BYTES: u64 = 8 << 20;

/// What every change can be given.
#[derive(Debug, Args)]
pub(crate) struct About {
    /// What to say about the change, for the history.
    #[arg(long, short, default_value = "", value_name = "TEXT")]
    comment: String,
    /// Changes only when the configuration is at exactly this version; 0 when there must never have been one.
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").args(["value", "file"]))]
pub(crate) struct Put {
    /// Name of the configuration.
    id: String,
    /// Where, a JSON Pointer such as `/limits/requests`; the whole document when not given.
    path: Option<String>,
    /// The value, JSON; `-` reads it from standard input.
    #[arg(allow_hyphen_values = true)]
    value: Option<String>,
    /// Reads the value from a file; `-` is standard input.
    #[arg(long)]
    file: Option<PathBuf>,
    /// The value is text as it stands, not JSON.
    #[arg(long)]
    text: bool,
    #[command(flatten)]
    about: About,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Name of the configuration.
    id: String,
    /// What, a JSON Pointer; the whole document when not given.
    #[arg(default_value = "")]
    path: String,
    #[command(flatten)]
    about: About,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// Name of the configuration.
    id: String,
    /// The version to go back to.
    version: u64,
    #[command(flatten)]
    about: About,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    #[command(flatten)]
    put: Put,
    /// The value is a secret: it is stored encrypted, and shown to nobody who may not see it.
    #[arg(long)]
    secret: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Stage {
    #[command(flatten)]
    put: Put,
    /// Percentage of instances that are served the candidate, 0 to 100.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=100))]
    percent: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Decide {
    /// Name of the configuration.
    id: String,
    #[command(flatten)]
    about: About,
}

#[derive(Debug, Args)]
pub(crate) struct Reseal {
    /// Name of the configuration; all of the namespace when not given.
    id: Option<String>,
    /// What to say about the change, for the history.
    #[arg(long, short, default_value = "", value_name = "TEXT")]
    comment: String,
}

/// What can be done with a schema.
#[derive(Debug, Subcommand)]
pub(crate) enum Schema {
    /// Attaches a JSON Schema that the document has to match from now on.
    #[command(after_help = "Example:\n  platform config schema set shop shop.schema.json")]
    Set(SetSchema),
    /// Shows the schema; exits with 1 when there is none.
    #[command(after_help = "Example:\n  platform config schema get shop")]
    Get(GetSchema),
    /// Removes the schema.
    #[command(after_help = "Example:\n  platform config schema delete shop")]
    Delete(DeleteSchema),
}

#[derive(Debug, Args)]
pub(crate) struct SetSchema {
    /// Name of the configuration.
    id: String,
    /// File that holds the schema; `-` is standard input.
    file: PathBuf,
    #[command(flatten)]
    about: About,
}

#[derive(Debug, Args)]
pub(crate) struct GetSchema {
    /// Name of the configuration.
    id: String,
    /// The version whose schema is wanted; the current one when not given.
    #[arg(long)]
    version: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteSchema {
    /// Name of the configuration.
    id: String,
    #[command(flatten)]
    about: About,
}

impl Put {
    /// Path and value. A path starts with `/`, which no JSON does, so one word alone is told from the other.
    fn read(&self) -> Result<(String, String), Failure> {
        let (path, value) = match (&self.path, &self.value) {
            (Some(word), None) if !word.starts_with('/') && self.file.is_none() && (!self.text || !word.is_empty()) => {
                (String::new(), Some(word))
            }
            (path, value) => (path.clone().unwrap_or_default(), value.as_ref()),
        };
        let text = match (value, &self.file) {
            (Some(text), _) if text != "-" => text.clone(),
            (None, None) => return Err(Failure::usage("no value is given; write JSON, `-`, or `--file FILE`")),
            (_, file) => read_text(file.as_deref().unwrap_or(Path::new("-")))?,
        };
        let value = if self.text { serde_json::Value::String(text).to_string() } else { text };
        Ok((path, value))
    }
}

fn read_text(file: &Path) -> Result<String, Failure> {
    let bytes = input::read(file, TEXT_BYTES)?;
    String::from_utf8(bytes)
        .map_err(|error| Failure::usage(format!("`{}` is no text: {error}", input::shown(file).display())))
}

/// Puts a value.
pub(crate) async fn set(context: &Context, arguments: Set) -> Result<Exit, Failure> {
    let Set { put, secret } = arguments;
    let (path, value) = put.read()?;
    let About { comment, if_version } = put.about;
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, SetRequest { id: put.id, path, value, comment, if_version, secret });
    told(context, &client.call(client.config().set(request)).await?)
}

/// Merges a value.
pub(crate) async fn merge(context: &Context, arguments: Put) -> Result<Exit, Failure> {
    let (path, value) = arguments.read()?;
    let About { comment, if_version } = arguments.about;
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, MergeRequest { id: arguments.id, path, value, comment, if_version });
    told(context, &client.call(client.config().merge(request)).await?)
}

/// Removes a value or a configuration.
pub(crate) async fn delete(context: &Context, arguments: Delete) -> Result<Exit, Failure> {
    let Delete { id, path, about: About { comment, if_version } } = arguments;
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, DeleteRequest { id, path, comment, if_version });
    told(context, &client.call(client.config().delete(request)).await?)
}

/// Goes back to a version.
pub(crate) async fn rollback(context: &Context, arguments: Rollback) -> Result<Exit, Failure> {
    let Rollback { id, version, about: About { comment, if_version } } = arguments;
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, RollbackRequest { id, version, comment, if_version });
    told(context, &client.call(client.config().rollback(request)).await?)
}

/// Makes a candidate, or serves it to more or fewer instances.
pub(crate) async fn stage(context: &Context, arguments: Stage) -> Result<Exit, Failure> {
    let Stage { put, percent } = arguments;
    let is_new = put.path.is_some() || put.value.is_some() || put.file.is_some();
    let (path, value) = if is_new { put.read()? } else { Default::default() };
    let About { comment, if_version } = put.about;
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, StageRequest { id: put.id, path, value, percent, comment, if_version });
    told(context, &client.call(client.config().stage(request)).await?)
}

/// Makes the candidate the document.
pub(crate) async fn promote(context: &Context, arguments: Decide) -> Result<Exit, Failure> {
    let Decide { id, about: About { comment, if_version } } = arguments;
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, DecideRequest { id, comment, if_version });
    told(context, &client.call(client.config().promote(request)).await?)
}

/// Gives the candidate up.
pub(crate) async fn abort(context: &Context, arguments: Decide) -> Result<Exit, Failure> {
    let Decide { id, about: About { comment, if_version } } = arguments;
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, DecideRequest { id, comment, if_version });
    told(context, &client.call(client.config().abort(request)).await?)
}

/// Encrypts secrets anew.
pub(crate) async fn reseal(context: &Context, arguments: Reseal) -> Result<Exit, Failure> {
    let Reseal { id, comment } = arguments;
    let client = context.connect().await?;
    let ids = match id {
        Some(id) => vec![id],
        None => read::ids(&client).await?,
    };
    for id in ids {
        let message = ResealRequest { id: id.clone(), comment: comment.clone(), if_version: None };
        let edited = client.call(client.config().reseal(client.request(TIMEOUT, message))).await?;
        context.output.event("platform.config.v1.EditResponse", &edited, || {
            let what = if edited.changed { "encrypted anew" } else { "nothing to encrypt anew" };
            format!("{id}  {what}")
        })?;
    }
    Ok(Exit::Done)
}

/// Shows or changes a schema.
pub(crate) async fn schema(context: &Context, command: Schema) -> Result<Exit, Failure> {
    let (id, schema, about) = match command {
        Schema::Get(arguments) => return get_schema(context, arguments).await,
        Schema::Set(arguments) => (arguments.id, read_text(&arguments.file)?, arguments.about),
        Schema::Delete(arguments) => (arguments.id, String::new(), arguments.about),
    };
    let About { comment, if_version } = about;
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, SetSchemaRequest { id, schema, comment, if_version });
    told(context, &client.call(client.config().set_schema(request)).await?)
}

async fn get_schema(context: &Context, arguments: GetSchema) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, GetSchemaRequest { id: arguments.id, version: arguments.version });
    let schema = client.call(client.config().get_schema(request)).await?;
    context.output.answer("platform.config.v1.Schema", &schema, || pretty(&schema.schema))?;
    Ok(Exit::Done)
}

fn told(context: &Context, edited: &EditResponse) -> Result<Exit, Failure> {
    context.output.answer("platform.config.v1.EditResponse", edited, || match (&edited.version, edited.changed) {
        (Some(version), true) => format!("version {}", version.number),
        (Some(version), false) => format!("nothing changed; it is at version {}", version.number),
        (None, _) => "there was nothing to change".to_owned(),
    })?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: Option<&str>, value: Option<&str>, text: bool) -> Result<(String, String), Failure> {
        let about = About { comment: String::new(), if_version: None };
        let (path, value) = (path.map(Into::into), value.map(Into::into));
        Put { id: "a".into(), path, value, file: None, text, about }.read()
    }

    #[test]
    fn a_path_is_told_from_a_value() {
        let pair = |path: &str, value: &str| (path.to_owned(), value.to_owned());
        assert_eq!(read(Some("/a"), Some("1"), false).unwrap(), pair("/a", "1"));
        assert_eq!(read(Some("{\"a\":1}"), None, false).unwrap(), pair("", "{\"a\":1}"));
        assert_eq!(read(Some("/a"), Some("b \"c\""), true).unwrap(), pair("/a", "\"b \\\"c\\\"\""));
        assert_eq!(read(Some("a"), Some("1"), false).unwrap(), pair("a", "1"), "the daemon says what is wrong with it");
        for (path, value) in [(None, None), (Some("/a"), None)] {
            assert!(read(path, value, false).is_err());
        }
    }
}
