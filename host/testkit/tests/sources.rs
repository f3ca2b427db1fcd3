//! Configurations that come from elsewhere, with the shipped sources: a directory, the environment, and a real nginx.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what a test can't set up has failed")]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command},
};

use platform_capability::SlotKind;
use platform_dataplane::{Action, Audit, BindingSpec, Edit, FailureMode, PlaneConfig, Plugin, Read, Reading};
use platform_runtime::{EngineConfig, Mode};
use platform_testkit::{Fixture, alone, call, call_of, component, plugin, until};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A fixture that keeps configurations and asks sources all the time.
async fn fixture() -> Fixture {
    let engine = EngineConfig { instances_max: 1000, ..EngineConfig::default() };
    let fixture = Fixture::with(&engine, PlaneConfig { sources_ms: 20, ..PlaneConfig::default() });
    let store = plugin(SlotKind::ConfigStore, "config-storage", &component("plugins", "config-storage"), &["storage"]);
    fixture.bind("config.store", alone(store)).await;
    fixture.plane.configurations().follow_sources();
    fixture
}

fn source(name: &str, grants: &[&str], settings: &Value) -> Plugin {
    let grants: Vec<&str> = [&["wasi"], grants].concat();
    let plugin = plugin(SlotKind::ConfigSource, name, &component("plugins", name), &grants);
    Plugin { settings: settings.to_string(), mode: Mode::Single, ..plugin }
}

fn files(folder: &TempDir) -> Plugin {
    let directory = folder.path().to_str().unwrap();
    source("config-file", &[&format!("files:{directory}")], &json!({ "directory": directory }))
}

fn chain(plugins: Vec<Plugin>) -> BindingSpec {
    BindingSpec { plugins, failure: FailureMode::Closed, fallback: None }
}

async fn read(fixture: &Fixture, id: &str) -> Option<Reading> {
    fixture.plane.configurations().get(&call(), &Read::new(id)).await.ok()
}

async fn becomes(fixture: &Fixture, id: &str, expected: &Value) {
    let what = format!("`{id}` to be {expected}");
    until(&what, async || read(fixture, id).await.is_some_and(|reading| reading.value == *expected)).await;
}

/// How many versions there are of all configurations.
async fn versions(fixture: &Fixture) -> usize {
    let all = Audit { from_ms: 0, to_ms: u64::MAX, after: None, limit: 100, reverse: false };
    fixture.plane.configurations().audit(&call(), &all).await.unwrap().0.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_what_configurations_are() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("shop.yaml"), "limits:\n  requests: 5\n").unwrap();
    let fixture = fixture().await;
    fixture.bind("config.source", chain(vec![files(&folder)])).await;
    becomes(&fixture, "shop", &json!({"limits": {"requests": 5}})).await;
    let first = read(&fixture, "shop").await.unwrap().version;
    assert_eq!(first.change.comment, "loaded by config-file@0.1.0");

    // A change by hand lasts until the source is asked again.
    let edit = Edit { path: "/limits/requests", value: "9", ..Edit::new("shop", Action::Set) };
    fixture.plane.configurations().edit(&call_of("alice", &[]), &edit).await.unwrap();
    becomes(&fixture, "shop", &json!({"limits": {"requests": 5}})).await;

    // What is half-written changes nothing; what is whole again does.
    fs::write(folder.path().join("shop.yaml"), "limits: {\n").unwrap();
    let before = fixture.counts("config.source").calls;
    until("the source to be asked", async || fixture.counts("config.source").calls > before + 3).await;
    let counted = versions(&fixture).await;
    assert_eq!(counted, 3, "a file that can't be read made a version");
    fs::write(folder.path().join("shop.yaml"), "limits: {requests: 6}\n").unwrap();
    becomes(&fixture, "shop", &json!({"limits": {"requests": 6}})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn later_sources_win_and_only_what_is_granted_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let secret = tempfile::tempdir().unwrap();
    fs::write(secret.path().join("secret.json"), "1").unwrap();
    let link = folder.path().join("secret.json");
    std::os::unix::fs::symlink(secret.path().join("secret.json"), &link).unwrap();
    fs::write(folder.path().join("shop.json"), r#"{"name": "of the file", "pkg": {"old": true}}"#).unwrap();
    let fixture = fixture().await;
    // Variables that whoever runs tests sets.
    let variables =
        |grant: &str| source("config-env", &[grant], &json!({"id": "shop", "prefix": "CARGO_PKG_", "separator": "__"}));
    fixture.bind("config.source", chain(vec![files(&folder), variables("env:CARGO_PKG_NAME")])).await;
    // A link that leads out of the directory is not followed, and holds everything back.
    let before = fixture.counts("config.source").calls;
    until("the sources to be asked", async || fixture.counts("config.source").calls > before + 3).await;
    assert_eq!(versions(&fixture).await, 0);
    fs::remove_file(link).unwrap();
    becomes(&fixture, "shop", &json!({"name": "platform-testkit", "pkg": {"old": true}})).await;
    fixture.bind("config.source", chain(vec![files(&folder), variables("env:HOME")])).await;
    becomes(&fixture, "shop", &json!({"name": "of the file", "pkg": {"old": true}})).await;
}

/// A real nginx that serves a directory.
struct Nginx {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Nginx {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let home = folder.path().display().to_string();
        fs::create_dir(folder.path().join("served")).unwrap();
        let configuration = format!(
            "daemon off; pid {home}/pid; error_log {home}/error.log; worker_processes 1; events {{}}
            http {{ access_log {home}/access.log;
              client_body_temp_path {home}; proxy_temp_path {home}; fastcgi_temp_path {home};
              uwsgi_temp_path {home}; scgi_temp_path {home};
              server {{ listen {address}; root {home}/served; }} }}"
        );
        fs::write(folder.path().join("nginx.conf"), configuration).unwrap();
        let mut command = Command::new("nginx");
        let child = command.arg("-p").arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf")).spawn();
        let child = child.expect("`cargo xtask setup --servers` installs nginx");
        let server = Self { child, address, folder };
        until("nginx to listen", async || TcpStream::connect(address).is_ok()).await;
        server
    }

    fn serve(&self, text: &str) {
        let (new, place) = (self.folder.path().join("new"), self.folder.path().join("served/settings.json"));
        fs::write(&new, text).unwrap();
        fs::rename(new, place).unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default()
    }

    fn source(&self, grant: &str) -> Plugin {
        let url = format!("http://{}/settings.json", self.address);
        source("config-http", &[grant], &json!({ "url": url, "every_ms": 1, "headers": {"user-agent": "platform"} }))
    }

    fn grant(&self) -> String {
        format!("network:{}", self.address)
    }

    fn stop(&mut self) {
        let id = fs::read_to_string(Path::new(self.folder.path()).join("pid")).unwrap_or_default();
        let _ = Command::new("kill").arg(id.trim()).status();
        let _ = self.child.wait();
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_is_asked_whether_something_changed() {
    let mut nginx = Nginx::start().await;
    nginx.serve(r#"{"shop": {"open": true}, "bank": {"rate": 1}}"#);
    let fixture = fixture().await;
    fixture.bind("config.source", chain(vec![nginx.source(&nginx.grant())])).await;
    becomes(&fixture, "shop", &json!({"open": true})).await;
    becomes(&fixture, "bank", &json!({"rate": 1})).await;
    until("nginx to say that nothing changed", async || nginx.log().contains("\" 304 ")).await;
    assert!(nginx.log().contains("\"platform\""), "{}", nginx.log());
    nginx.serve(r#"{"shop": {"open": false, "why": "a rest"}, "bank": {"rate": 1}}"#);
    becomes(&fixture, "shop", &json!({"open": false, "why": "a rest"})).await;
    let counted = versions(&fixture).await;
    assert_eq!(counted, 3, "only what changed has a new version");

    // A server that is gone changes nothing.
    nginx.stop();
    let before = fixture.counts("config.source").calls;
    until("the source to be asked", async || fixture.counts("config.source").calls > before + 3).await;
    assert_eq!(read(&fixture, "shop").await.unwrap().value, json!({"open": false, "why": "a rest"}));
    assert_eq!(versions(&fixture).await, counted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_was_not_granted_is_not_asked() {
    let nginx = Nginx::start().await;
    nginx.serve("{}");
    let fixture = fixture().await;
    let port = nginx.address.port();
    for grant in [format!("network:127.0.0.2:{port}"), format!("network:127.0.0.1:{}", port ^ 1)] {
        fixture.bind("config.source", chain(vec![nginx.source(&grant)])).await;
        let why = fixture.plane.configurations().sourced(&call()).await.unwrap_err();
        assert!(why.contains("HttpRequestDenied"), "{why}");
    }
    assert_eq!(nginx.log(), "");
}
