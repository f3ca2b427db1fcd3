//! A daemon with a thousand plugins installed and two hundred bound: what an operator waits for, what a bound one holds,
//! and how long a start with them all takes.
//!
//! The plugins are one small policy with a section of its own each, so that every digest differs and nothing is shared.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use platform_base::clock;
use platform_proto::{
    auth::v1::{CheckRequest, auth_client::AuthClient},
    marketplace::v1::{SearchRequest, marketplace_client::MarketplaceClient},
    plugin::v1::{BindRequest, InspectRequest, InstallRequest, Link, ListRequest, plugins_client::PluginsClient},
};
use prost_types::{Struct, Value, value::Kind};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use crate::{
    measure::{figure, median, quantile, us},
    server::{Guard, binary, channels, dist, start, token},
};

const PLUGINS: usize = 1_000;
const BOUND: usize = 200;
/// Times that a list, a search or an inspection is asked for.
const ASKED: usize = 200;
/// Largest page of a list.
const PAGE: u32 = 100;
const AIM: &str = "aim < 100";

pub(crate) async fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    fs::create_dir_all(&data)?;
    fs::write(data.join("platform.toml"), "[marketplace]\nenabled = true\n")?;
    let (daemon, address, _) = start(&data).await?;
    let operator = Operator { channel: first(&address).await?, token: token(&data)? };
    let policy = fs::read(dist().join("examples/auth-policy-rust.wasm"))?;

    let installs = timed(PLUGINS, async |index| operator.install(&policy, index).await).await?;
    tell("install, compiled", installs);
    let before = resident(&daemon)?;
    let binds = timed(BOUND, async |index| operator.bind(index, index).await).await?;
    tell("bind, to a slot of its own", binds);
    per_plugin("memory of a bound plugin that nobody asks", before, resident(&daemon)?);
    timed(BOUND, async |index| operator.ask(index).await).await?;
    per_plugin("memory of a bound plugin that was asked", before, resident(&daemon)?);
    let swaps = timed(BOUND, async |index| operator.bind(index, BOUND + index).await).await?;
    tell("swap to another that is installed", swaps);
    tell("list, a page of 100", timed(ASKED, async |_| operator.list().await).await?);
    tell("inspect", timed(ASKED, async |index| operator.inspect(index).await).await?);

    for index in 0..PLUGINS {
        publish(&data, &address, &folder.path().join("next.wasm"), &policy, index)?;
    }
    tell("search among 1,000 names", timed(ASKED, async |index| operator.search(index).await).await?);

    drop(daemon);
    let mut starts_ms = Vec::new();
    for _ in 0..5 {
        let (_daemon, _, took) = start(&data).await?;
        starts_ms.push(us(took) / 1000.0);
    }
    figure("start to ready with 1,000 installed and 200 bound", median(&mut starts_ms), "ms", "aim < 2000");
    Ok(())
}

/// A connection with an administrator's rights.
struct Operator {
    channel: Channel,
    token: &'static MetadataValue<Ascii>,
}

impl Operator {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request
    }

    fn plugins(&self) -> PluginsClient<Channel> {
        PluginsClient::new(self.channel.clone())
    }

    async fn install(&self, policy: &[u8], index: usize) -> Result<()> {
        let component = distinct(policy, index).into();
        let request =
            InstallRequest { component, name: name(index), version: "1.0.0".to_owned(), ..Default::default() };
        let answer = self.plugins().install(self.request(request)).await?.into_inner();
        ensure!(!answer.existed, "`{}` was there before", name(index));
        Ok(())
    }

    async fn bind(&self, slot: usize, plugin: usize) -> Result<()> {
        let hour = |hour| Value { kind: Some(Kind::NumberValue(hour)) };
        let fields = [("opens", hour(0.0)), ("closes", hour(24.0))].map(|(name, hour)| (name.to_owned(), hour));
        let link =
            Link { plugin: name(plugin), settings: Some(Struct { fields: fields.into() }), ..Default::default() };
        let slot = format!("auth.policy/{}", name(slot));
        self.plugins().bind(self.request(BindRequest { slot, chain: vec![link], ..Default::default() })).await?;
        Ok(())
    }

    async fn ask(&self, slot: usize) -> Result<()> {
        let request =
            CheckRequest { policy: name(slot), action: "GET".to_owned(), target: "/".to_owned(), ..Default::default() };
        AuthClient::new(self.channel.clone()).check(self.request(request)).await?;
        Ok(())
    }

    async fn list(&self) -> Result<()> {
        let request = ListRequest { limit: PAGE, ..Default::default() };
        let plugins = self.plugins().list(self.request(request)).await?.into_inner().plugins;
        ensure!(plugins.len() == PAGE as usize, "the page has {} plugins", plugins.len());
        Ok(())
    }

    async fn inspect(&self, index: usize) -> Result<()> {
        self.plugins().inspect(self.request(InspectRequest { plugin: name(index) })).await?;
        Ok(())
    }

    async fn search(&self, index: usize) -> Result<()> {
        let request = SearchRequest { text: name(index), ..Default::default() };
        let found = MarketplaceClient::new(self.channel.clone()).search(self.request(request)).await?.into_inner();
        ensure!(found.listings.len() == 1, "{} names were found", found.listings.len());
        Ok(())
    }
}

fn name(index: usize) -> String {
    format!("policy-{index:04}")
}

/// The component with a custom section that no other has (core specification, "Custom Section").
fn distinct(component: &[u8], index: usize) -> Vec<u8> {
    let name = name(index);
    let length = u8::try_from(name.len()).unwrap_or(0);
    let mut distinct = component.to_vec();
    distinct.extend([0, length + 1, length]);
    distinct.extend(name.as_bytes());
    distinct
}

/// Pushes to the daemon's own registry, as anybody would.
fn publish(data: &Path, address: &str, file: &Path, policy: &[u8], index: usize) -> Result<()> {
    fs::write(file, distinct(policy, index))?;
    let host = address.trim_start_matches("http://");
    let reference = format!("{host}/bench/{}:1.0.0", name(index));
    let output = Command::new(binary()?)
        .args(["plugin", "push"])
        .arg(file)
        .args([&reference, "--username", "bench", "--password-file"])
        .arg(data.join("admin.token"))
        .output()?;
    ensure!(output.status.success(), "`{reference}`: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

async fn first(address: &str) -> Result<Channel> {
    channels(address).await?.into_iter().next().context("no connection was made")
}

/// Milliseconds of each of so many calls, one after another.
async fn timed(calls: usize, mut call: impl AsyncFnMut(usize) -> Result<()>) -> Result<Vec<f64>> {
    let mut took_ms = Vec::with_capacity(calls);
    for index in 0..calls {
        let begun = clock::now();
        call(index).await?;
        took_ms.push(us(clock::now().saturating_duration_since(begun)) / 1000.0);
    }
    Ok(took_ms)
}

fn tell(what: &str, mut took_ms: Vec<f64>) {
    figure(&format!("1,000 plugins: {what}, p95"), quantile(&mut took_ms, 0.95), "ms", AIM);
}

fn per_plugin(what: &str, before_kib: u32, after_kib: u32) {
    let bound = u32::try_from(BOUND).unwrap_or(1);
    figure(
        &format!("1,000 plugins: {what}"),
        f64::from(after_kib.saturating_sub(before_kib)) / f64::from(bound),
        "KiB",
        "",
    );
}

/// Memory of the daemon that is in RAM, in KiB (proc(5), `VmRSS`).
fn resident(daemon: &Guard) -> Result<u32> {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.0.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
