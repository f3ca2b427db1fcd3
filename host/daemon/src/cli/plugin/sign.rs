//! `platform plugin keygen`, `sign` and `verify-signature`: whose a component is.
//!
//! Owns the options and where keys and signatures lie; what they are is `platform-signing`'s to know. Invariant: a secret key is read and written here, and
//! is in no answer.

use std::{
    env, fs,
    io::Write,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, ValueEnum};
use platform_registry::{Attached, Repository, Resolved};
use platform_runtime::Digest;
use platform_signing::{Algorithm, Evidence, InvalidKey, PublicKey, SecretKey, bundle, payload};
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    COMPONENT_BYTES,
    registry::{self, Connection},
};
use crate::{
    cli::{
        Context,
        failure::{Exit, Failure},
        input,
    },
    words,
};

/// Largest file with a key or a password.
const KEY_BYTES: u64 = 64 << 10;
/// Variable with the password of a key, as cosign has it.
const PASSWORD: &str = "COSIGN_PASSWORD";

/// Makes a pair of keys.
#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// What both names begin with: `PREFIX.key` is the secret one, `PREFIX.pub` the public one.
    #[arg(default_value = "platform")]
    prefix: PathBuf,
    /// The kind of keys.
    #[arg(long, value_enum, default_value = "ecdsa-p256")]
    algorithm: Kind,
    #[command(flatten)]
    password: Password,
}

/// Kinds of keys.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// ECDSA on P-256 with SHA-256, as cosign makes them.
    EcdsaP256,
    /// Ed25519.
    Ed25519,
}

/// What protects a secret key.
#[derive(Debug, Args)]
struct Password {
    /// File that holds the password of the secret key; else the variable `COSIGN_PASSWORD` does, else there is none.
    #[arg(long, value_name = "FILE")]
    key_password_file: Option<PathBuf>,
}

/// Signs a component.
#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The component: a file, or `oci://HOST/NAME[:TAG|@DIGEST|@RANGE]`.
    component: PathBuf,
    /// The secret key: of `keygen` or cosign, or a plain one of openssl.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the signature of a file goes; beside it as `FILE.sigstore.json` when not given.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    password: Password,
    #[command(flatten)]
    connection: Connection,
}

/// Tells whether a component is signed by one of some keys.
#[derive(Debug, Args)]
pub(crate) struct VerifySignature {
    /// The component: a file, or `oci://HOST/NAME[:TAG|@DIGEST|@RANGE]`.
    component: PathBuf,
    /// A public key; may be repeated.
    #[arg(long, value_name = "FILE", required = true)]
    key: Vec<PathBuf>,
    #[command(flatten)]
    signatures: Signatures,
    #[command(flatten)]
    connection: Connection,
}

/// Where the signatures of a file are.
#[derive(Debug, Args)]
pub(super) struct Signatures {
    /// A signature of a file, as a bundle or in base64; may be repeated. `FILE.sigstore.json` is taken where it is there.
    #[arg(long = "signature", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Keygen {
    /// Makes both files, or none.
    pub(crate) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let algorithm = match self.algorithm {
            Kind::EcdsaP256 => Algorithm::EcdsaP256,
            Kind::Ed25519 => Algorithm::Ed25519,
        };
        let password = self.password.read()?;
        let named = |ending: &str| {
            let mut name = self.prefix.clone().into_os_string();
            name.push(ending);
            PathBuf::from(name)
        };
        let (secret, public) = (named(".key"), named(".pub"));
        if public.exists() {
            return Err(there(&public));
        }
        let key = SecretKey::generate(algorithm);
        let of_key = |error: InvalidKey| unusable(&secret, &error);
        let sealed = Zeroizing::new(key.seal(&password).map_err(of_key)?);
        let verifies = key.public().map_err(of_key)?;
        create(&secret, sealed.as_bytes(), 0o600)?;
        create(&public, verifies.to_pem().as_bytes(), 0o644)?;
        let (secret, public) = (secret.display().to_string(), public.display().to_string());
        if context.output.is_human() {
            context
                .output
                .text(&format!("`{secret}` signs, keep it to yourself; `{public}` verifies ({})", verifies.id()))?;
        } else {
            context.output.value(&json!({"secretKey": secret, "publicKey": public, "id": verifies.id()}))?;
        }
        if password.is_empty() {
            let how = "no password protects the secret key; give one with `--key-password-file` or `COSIGN_PASSWORD`";
            context.output.note(&format!("warning: {how}"));
        }
        Ok(Exit::Done)
    }
}

impl Password {
    fn read(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let Some(file) = &self.key_password_file else {
            return Ok(Zeroizing::new(env::var(PASSWORD).unwrap_or_default().into_bytes()));
        };
        let mut text = Zeroizing::new(input::read(file, KEY_BYTES)?);
        while text.last().is_some_and(|byte| b"\r\n".contains(byte)) {
            text.pop();
        }
        Ok(text)
    }
}

impl Sign {
    /// Signs; signing again with the same key changes nothing.
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let text = Zeroizing::new(read_text(&self.key, KEY_BYTES)?);
        let key = SecretKey::parse(&text, &self.password.read()?).map_err(|error| unusable(&self.key, &error))?;
        let public = key.public().map_err(|error| unusable(&self.key, &error))?;
        match oci(&self.component) {
            Some(reference) => self.sign_artifact(context, reference, &key, &public).await,
            None => self.sign_file(context, &key, &public),
        }
    }

    fn sign_file(&self, context: &Context, key: &SecretKey, public: &PublicKey) -> Result<Exit, Failure> {
        if self.bundle.is_none() && self.component == Path::new("-") {
            return Err(Failure::usage("standard input has no place beside it; say where with `--bundle`"));
        }
        let component = input::read(&self.component, COMPONENT_BYTES)?;
        let file = self.bundle.clone().unwrap_or_else(|| Evidence::place(&self.component));
        let digest = Digest::of(&component);
        registry::write(&file, bundle(public, digest, &key.sign(&component)).as_bytes())?;
        if context.output.is_human() {
            let (of, file) = (input::shown(&self.component), file.display());
            context.output.text(&format!("signed `{}` in `{file}` with key {}", of.display(), public.id()))?;
        } else {
            let file = file.display().to_string();
            context.output.value(&json!({"component": digest, "key": public.id(), "bundle": file}))?;
        }
        Ok(Exit::Done)
    }

    async fn sign_artifact(
        &self, context: &Context, reference: &str, key: &SecretKey, public: &PublicKey,
    ) -> Result<Exit, Failure> {
        if self.bundle.is_some() {
            return Err(Failure::usage("`--bundle` is for files; the signature of an artifact goes beside it"));
        }
        let reference = registry::parse(reference)?;
        let repository = self.connection.open(&reference, true)?;
        let resolved = registry::within(context, &reference, repository.resolve()).await?;
        let attached = registry::within(context, &reference, repository.signatures(&resolved)).await?;
        let existed = evidence(&resolved, &attached).iter().any(|one| one.shows(public, &[], resolved.component));
        if !existed {
            let place = format!("{}/{}", reference.host(), reference.repository());
            let payload = payload(&place, resolved.digest);
            let signature = STANDARD.encode(key.sign(payload.as_bytes()));
            registry::within(context, &reference, repository.attach(&resolved, payload.into(), &signature)).await?;
        }
        if context.output.is_human() {
            let done = if existed { "was signed before" } else { "is signed" };
            context.output.text(&format!("`{reference}`, {}, {done} with key {}", resolved.digest, public.id()))?;
        } else {
            let (digest, component) = (resolved.digest, resolved.component);
            let answer = json!({
                "reference": reference.to_string(), "digest": digest, "component": component, "key": public.id(), "existed": existed,
            });
            context.output.value(&answer)?;
        }
        Ok(Exit::Done)
    }
}

impl VerifySignature {
    /// Verifies; the answer is no when no key made a signature over this component.
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let keys = self
            .key
            .iter()
            .map(|file| PublicKey::parse(&read_text(file, KEY_BYTES)?).map_err(|error| unusable(file, &error)));
        let keys = keys.collect::<Result<Vec<_>, Failure>>()?;
        let (component, digest, evidence) = match oci(&self.component) {
            Some(reference) => {
                self.signatures.check_unused()?;
                let reference = registry::parse(reference)?;
                let repository = self.connection.open(&reference, false)?;
                let resolved = registry::within(context, &reference, repository.resolve()).await?;
                let evidence = attached(context, &reference, &repository, &resolved).await?;
                (Vec::new(), resolved.component, evidence)
            }
            None => {
                let component = input::read(&self.component, COMPONENT_BYTES)?;
                let digest = Digest::of(&component);
                (component, digest, self.signatures.read(&self.component)?)
            }
        };
        let signer = keys.iter().find(|key| evidence.iter().any(|one| one.shows(key, &component, digest)));
        let id = signer.map(PublicKey::id);
        if context.output.is_human() {
            let said = match (id, evidence.len()) {
                (Some(id), _) => format!("{digest} is signed with key {id}"),
                (None, 0) => format!("{digest} has no signature"),
                (None, count) => {
                    format!("{digest} has {count} signatures, and none of them is over it with these keys")
                }
            };
            context.output.text(&said)?;
        } else {
            let answer = json!({"component": digest, "signed": id.is_some(), "key": id, "signatures": evidence.len()});
            context.output.value(&answer)?;
        }
        Ok(if id.is_some() { Exit::Done } else { Exit::No })
    }
}

impl Signatures {
    /// The signatures of a file: those named, and the one beside it.
    pub(super) fn read(&self, component: &Path) -> Result<Vec<Evidence>, Failure> {
        let place = Evidence::place(component);
        let beside = Some(&place).filter(|place| component != Path::new("-") && place.is_file());
        let read = |file: &PathBuf| Evidence::read(file).map_err(|error| invalid(file, &error));
        self.files.iter().chain(beside).map(read).collect()
    }

    /// Artifacts of a registry have theirs beside them.
    pub(super) fn check_unused(&self) -> Result<(), Failure> {
        if self.files.is_empty() {
            return Ok(());
        }
        Err(Failure::usage("`--signature` is for files; the signatures of an artifact lie beside it in its registry"))
    }
}

/// The signatures that lie beside an artifact.
pub(super) async fn attached(
    context: &Context, reference: &platform_registry::Reference, repository: &Repository, resolved: &Resolved,
) -> Result<Vec<Evidence>, Failure> {
    let attached = registry::within(context, reference, repository.signatures(resolved)).await?;
    Ok(evidence(resolved, &attached))
}

/// What is no signature of ours is of no use to anybody here.
fn evidence(resolved: &Resolved, attached: &[Attached]) -> Vec<Evidence> {
    let of = |one: &Attached| match one {
        Attached::Plain { payload, signature } => Evidence::of_artifact(&resolved.manifest, payload, signature).ok(),
        Attached::Bundle(bundle) => Evidence::of_statement(&resolved.manifest, bundle).ok(),
    };
    attached.iter().filter_map(of).collect()
}

/// A signature as the daemon takes it.
pub(super) fn to_text(evidence: &Evidence) -> Result<String, Failure> {
    evidence.to_text().map_err(|error| Failure::new(Exit::Error, "SIGNATURE_INVALID", error.to_string()))
}

/// The reference, if the component is one in a registry.
pub(super) fn oci(component: &Path) -> Option<&str> {
    component.to_str().filter(|text| text.starts_with("oci://"))
}

fn read_text(file: &Path, bytes_max: u64) -> Result<String, Failure> {
    let bytes = input::read(file, bytes_max)?;
    String::from_utf8(bytes).map_err(|_why| Failure::usage(format!("`{}` holds no text", file.display())))
}

fn create(file: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let created = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(file);
    let written = created.and_then(|mut created| created.write_all(bytes).and_then(|()| created.sync_all()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => there(file),
        _ => Failure::usage(format!("can't write `{}`: {}", file.display(), words::of(&error))),
    })
}

fn there(file: &Path) -> Failure {
    Failure::usage(format!("`{}` is there already, and keys are not replaced; name others", file.display()))
}

fn unusable(file: &Path, error: &InvalidKey) -> Failure {
    Failure::new(Exit::Error, "KEY_INVALID", format!("`{}`: {error}", file.display()))
}

fn invalid(file: &Path, error: &platform_signing::InvalidEvidence) -> Failure {
    Failure::new(Exit::Error, "SIGNATURE_INVALID", format!("`{}`: {error}", file.display()))
}
