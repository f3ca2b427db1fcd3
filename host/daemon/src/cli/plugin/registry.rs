//! `platform plugin push` and `pull`, and components that are installed from a registry.
//!
//! Owns the options, where credentials are found, and the lock file; the registry is spoken to by `platform-registry`. Invariant: what is
//! pulled is complete and verified before any of it is written or sent to the daemon.

use std::{
    env,
    ffi::OsString,
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use platform_base::clock;
use platform_control::inspect;
use platform_proto::plugin::v1::InstallResponse;
use platform_registry::{
    About, Access, Credentials, Error, Interfaces, InvalidReference, Kind, Lock, LockFault, Locked, Reference,
    Repository, Resolved,
};
use platform_signing::Evidence;
use prost_types::Timestamp;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    COMPONENT_BYTES,
    enclose::{self, Enclosures},
    sign,
};
use crate::{
    cli::{
        Context, Global,
        client::COMPILE_TIMEOUT,
        failure::{Exit, Failure},
        input, output,
        quantity::human_bytes,
    },
    place, words,
};

/// Largest file with a password.
const PASSWORD_BYTES: u64 = 64 << 10;
/// File that tells where references led, beside the configuration file.
const LOCK: &str = "platform.lock";

/// How a registry is spoken to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Registry options")]
pub(super) struct Connection {
    /// Allows plain HTTP to a registry on another machine.
    #[arg(long)]
    insecure: bool,
    /// Authorities to trust beside those of the machine, as PEM.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Who asks; else `auths` in the Docker configuration file tells.
    #[arg(long, value_name = "NAME", requires = "password_file")]
    username: Option<String>,
    /// File that holds the password or token; `-` is standard input.
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
}

/// Puts a component into a registry.
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// The component; `-` is standard input.
    file: PathBuf,
    /// Where to, as `HOST/NAME:TAG`.
    reference: String,
    /// Lets a tag that is a version, or that is no component now, become this component.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    enclosures: Enclosures,
    #[command(flatten)]
    connection: Connection,
}

/// Takes a component out of a registry.
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// What, as `HOST/NAME[:TAG|@DIGEST|@RANGE]`.
    reference: String,
    /// Where to; `-` is standard output. The last part of the name with `.wasm` when not given, unless that file exists.
    #[arg(short, long)]
    file: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

/// What installing from a registry takes beside the reference.
#[derive(Debug, Args)]
pub(super) struct Locking {
    /// Installs what the lock file says, and nothing when a tag has moved since.
    #[arg(long)]
    locked: bool,
    /// The lock file; `platform.lock` in the data directory when not given.
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

/// A component that came from a registry.
#[derive(Debug)]
pub(super) struct Pulled {
    /// Its bytes.
    pub(super) component: Vec<u8>,
    /// The signatures that lie beside it.
    pub(super) signatures: Vec<Evidence>,
    reference: String,
    resolved: Resolved,
    lock: Option<PathBuf>,
    before: Option<Locked>,
}

impl Push {
    /// Pushes; the same component again changes nothing.
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let reference = parse(&self.reference)?;
        let component = input::read(&self.file, COMPONENT_BYTES)?;
        let enclosures = self.enclosures.read()?;
        let file = input::shown(&self.file);
        // What no daemon would install is of no use to those who find it.
        let facts = inspect::inspect(&component).map_err(|rejection| {
            Failure::new(Exit::Error, rejection.reason(), format!("`{}`: {rejection}", file.display()))
        })?;
        let about = About {
            created: created()?,
            name: facts.manifest.name.as_ref().map(ToString::to_string),
            version: facts.manifest.version,
            description: facts.manifest.description,
            license: facts.manifest.license,
            source: facts.manifest.source,
            interfaces: Interfaces { exports: facts.exports, imports: facts.imports, target: None },
        };
        let size = component.len() as u64;
        let repository = self.connection.open(&reference, true)?;
        let progress = context.output.progress(format!("pushing {} to `{reference}`", human_bytes(size)));
        let pushed = within(context, &reference, repository.push(component.into(), &about, self.replace)).await;
        let pushed = pushed?;
        let beside = enclose::push(context, &reference, &repository, pushed.digest, &enclosures).await;
        drop(progress);
        let beside = beside?;
        if context.output.is_human() {
            let done = if pushed.existed { "was there before" } else { "pushed" };
            let beside = match beside.len() {
                0 => String::new(),
                count => format!(", with {count} beside it"),
            };
            let size = human_bytes(size);
            context.output.text(&format!("`{reference}` {done} ({size}, {}){beside}", pushed.digest))?;
        } else {
            context.output.value(&json!({
                "reference": reference.to_string(),
                "digest": pushed.digest,
                "component": pushed.component,
                "size": size.to_string(),
                "existed": pushed.existed,
                "beside": beside,
            }))?;
        }
        Ok(Exit::Done)
    }
}

impl Pull {
    /// Pulls into a file.
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let reference = parse(&self.reference)?;
        let name = reference.repository().rsplit('/').next().unwrap_or_default();
        let file = self.file.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.wasm")));
        if self.file.is_none() && file.exists() {
            let message = format!("`{}` is there already; name a file with `--file`", file.display());
            return Err(Failure::usage(message));
        }
        let repository = self.connection.open(&reference, false)?;
        let resolved = within(context, &reference, repository.resolve()).await?;
        let component = fetch(context, &reference, &repository, &resolved).await?;
        if file == Path::new("-") {
            context.output.raw(&component)?;
            context.output.note(&format!("`{reference}` is `{}`", resolved.digest));
            return Ok(Exit::Done);
        }
        write(&file, &component)?;
        if context.output.is_human() {
            let size = human_bytes(resolved.size);
            context.output.text(&format!(
                "pulled `{reference}` into `{}` ({size}, {})",
                file.display(),
                resolved.digest
            ))?;
        } else {
            let mut answer = described(&reference.to_string(), &resolved);
            answer.insert("file".to_owned(), file.display().to_string().into());
            context.output.value(&answer.into())?;
        }
        Ok(Exit::Done)
    }
}

impl Locking {
    /// The component of `oci://…`.
    pub(super) async fn pull(&self, context: &Context, reference: &str) -> Result<Pulled, Failure> {
        let reference = parse(reference)?;
        let lock = self.file(&context.global);
        let before = match &lock {
            Some(file) => Lock::read(file).map_err(|fault| unlocked(&fault))?.get(&reference.to_string()).cloned(),
            None => None,
        };
        let repository = self.connection.open(&reference, false)?;
        let resolved = if self.locked {
            let locked = before.as_ref().ok_or_else(|| not_locked(&reference, lock.as_deref()))?;
            within(context, &reference, repository.resolve_locked(locked.tag.as_deref(), locked.digest)).await?
        } else {
            within(context, &reference, repository.resolve()).await?
        };
        let component = fetch(context, &reference, &repository, &resolved).await?;
        let signatures = sign::attached(context, &reference, &repository, &resolved).await?;
        Ok(Pulled { component, signatures, reference: reference.to_string(), resolved, lock, before })
    }

    /// Files have no tags that move.
    pub(super) fn check_unused(&self) -> Result<(), Failure> {
        if self.locked || self.lock.is_some() {
            return Err(Failure::usage(
                "`--locked` and `--lock` are for components of a registry; give `oci://HOST/NAME:TAG`",
            ));
        }
        Ok(())
    }

    /// The lock file; none where nothing tells which one. As with tokens, the default directory belongs to the default daemon.
    fn file(&self, global: &Global) -> Option<PathBuf> {
        if self.lock.is_some() {
            return self.lock.clone();
        }
        let named = global.data_dir.clone().filter(|path| !path.as_os_str().is_empty());
        let default = || if global.address.is_none() { place::default_data_dir() } else { None };
        named.or_else(default).filter(|folder| folder.is_dir()).map(|folder| folder.join(LOCK))
    }
}

impl Pulled {
    /// What to call it while it is installed.
    pub(super) fn name(&self) -> PathBuf {
        PathBuf::from(&self.reference)
    }

    /// Notes where the reference led, once the component is installed.
    pub(super) fn record(&self, context: &Context) -> Result<(), Failure> {
        let Some(lock) = &self.lock else {
            context.output.note("where it came from was not recorded; name a file with `--lock`");
            return Ok(());
        };
        let Resolved { tag, digest, .. } = self.resolved.clone();
        let locked = Locked { reference: self.reference.clone(), tag, digest };
        if self.before.as_ref() == Some(&locked) {
            return Ok(());
        }
        Lock::record(lock, locked).map_err(|fault| unlocked(&fault))
    }

    /// The answer for people, with where it came from.
    pub(super) fn human(&self, installed: &str) -> String {
        let from = match &self.resolved.tag {
            Some(tag) if !self.reference.ends_with(&format!(":{tag}")) => {
                format!("`{}`, there `{tag}`,", self.reference)
            }
            _ => format!("`{}`", self.reference),
        };
        let mut text = format!("{installed}\nfrom {from} as {}", self.resolved.digest);
        if let Some(before) = self.before.as_ref().filter(|before| before.digest != self.resolved.digest) {
            text.push_str(&format!("; it was {} before", before.digest));
        }
        text
    }

    /// The answer for scripts, with where it came from.
    pub(super) fn answer(&self, installed: &InstallResponse) -> Result<Value, Failure> {
        let mut answer = output::to_json("platform.plugin.v1.InstallResponse", installed)?;
        if let Value::Object(members) = &mut answer {
            let mut artifact = described(&self.reference, &self.resolved);
            artifact.insert("previousDigest".to_owned(), json!(self.before.as_ref().map(|before| before.digest)));
            members.insert("artifact".to_owned(), artifact.into());
        }
        Ok(answer)
    }
}

impl Connection {
    pub(super) fn open(&self, reference: &Reference, push: bool) -> Result<Repository, Failure> {
        let credentials = match (&self.username, &self.password_file) {
            (Some(username), Some(file)) => {
                let password = Zeroizing::new(input::read(file, PASSWORD_BYTES)?);
                let text = std::str::from_utf8(&password).ok().map(|text| text.trim_end_matches(['\r', '\n']));
                let text = text.ok_or_else(|| Failure::usage(format!("`{}` holds no text", file.display())))?;
                Some(Credentials::new(username, text))
            }
            _ => docker_file().and_then(|file| Credentials::of_docker(&file, reference.host()).transpose()),
        };
        let credentials = credentials.transpose().map_err(|error| Failure::usage(error.to_string()))?;
        let access = Access { insecure: self.insecure, ca_file: self.ca_file.clone(), credentials, push };
        Repository::open(reference.clone(), access).map_err(|error| failed(&error))
    }
}

/// Where Docker keeps credentials.
fn docker_file() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
    let folder = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")))?;
    Some(folder.join("config.json"))
}

/// When an artifact is made: now, or when those who build reproducibly say.
fn created() -> Result<String, Failure> {
    let seconds = match env::var_os("SOURCE_DATE_EPOCH") {
        None => i64::try_from(clock::unix_ms() / 1000).ok(),
        Some(text) => text
            .to_str()
            .and_then(|text| text.parse::<i64>().ok())
            .filter(|seconds| (0..=1_i64 << 37).contains(seconds)),
    };
    let wrong = || Failure::usage("`SOURCE_DATE_EPOCH` is no number of seconds since 1970; mend or unset it");
    Ok(Timestamp { seconds: seconds.ok_or_else(wrong)?, nanos: 0 }.to_string())
}

async fn fetch(
    context: &Context, reference: &Reference, repository: &Repository, resolved: &Resolved,
) -> Result<Vec<u8>, Failure> {
    let size = human_bytes(resolved.size);
    let progress = context.output.progress(format!("pulling `{reference}` ({size})"));
    let mut told = |came| progress.update(format!("pulling `{reference}` ({} of {size})", human_bytes(came)));
    within(context, reference, repository.pull(resolved, COMPONENT_BYTES, &mut told)).await
}

/// Waits for a registry as long as the user wants to.
pub(super) async fn within<T>(
    context: &Context, reference: &Reference, ask: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    let limit: Duration = context.global.timeout.unwrap_or(COMPILE_TIMEOUT);
    match tokio::time::timeout(limit, Box::pin(ask)).await {
        Ok(answer) => answer.map_err(|error| failed(&error)),
        Err(_over) => {
            let (host, ms) = (reference.host(), limit.as_millis());
            let message =
                format!("`{reference}`: `{host}` was not done within {ms} ms; give more time with `--timeout`");
            Err(Failure::new(Exit::Unavailable, "DEADLINE_EXCEEDED", message))
        }
    }
}

pub(super) fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::usage(format!("can't write `{}`: {}", file.display(), words::of(&error)));
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A device or a pipe can't be exchanged for a file.
    if fs::metadata(file).is_ok_and(|found| !found.is_file()) {
        return fs::write(file, bytes).map_err(failed);
    }
    let mut fresh = tempfile::Builder::new();
    #[cfg(unix)]
    fresh.permissions(<fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644));
    let mut fresh = fresh.tempfile_in(folder).map_err(failed)?;
    fresh.write_all(bytes).map_err(failed)?;
    fresh.persist(file).map(drop).map_err(|error| failed(error.error))
}

fn described(reference: &str, resolved: &Resolved) -> serde_json::Map<String, Value> {
    let members = [
        ("reference", json!(reference)),
        ("tag", json!(resolved.tag)),
        ("digest", json!(resolved.digest)),
        ("component", json!(resolved.component)),
        ("size", json!(resolved.size.to_string())),
    ];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

pub(super) fn parse(reference: &str) -> Result<Reference, Failure> {
    reference.parse().map_err(|error: InvalidReference| Failure::usage(error.to_string()))
}

fn failed(error: &Error) -> Failure {
    let exit = match error.fault.kind() {
        Kind::NotFound => Exit::No,
        Kind::Unavailable => Exit::Unavailable,
        Kind::Unauthorized => Exit::Unauthorized,
        Kind::Refused => Exit::Error,
    };
    Failure::new(exit, error.fault.reason(), error.to_string())
}

fn unlocked(fault: &LockFault) -> Failure {
    Failure::new(Exit::Error, "LOCK_FILE", fault.to_string())
}

fn not_locked(reference: &Reference, lock: Option<&Path>) -> Failure {
    let place = lock.map_or_else(
        || "there is no lock file; name one with `--lock`".to_owned(),
        |lock| format!("`{}` does not say where it led; install it once without `--locked`", lock.display()),
    );
    Failure::new(Exit::Error, "NOT_LOCKED", format!("`{reference}`: {place}"))
}
