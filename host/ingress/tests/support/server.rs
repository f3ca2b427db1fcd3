//! A platform with its front doors open on a free port, and plain clients for it.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use platform_base::TaskGroup;
use platform_capability::TrustConfig;
use platform_control::{Control, ControlParts};
use platform_dataplane::{Plane, PlaneConfig, PlaneParts};
use platform_ingress::{About, Access, Config, Parts, StaticToken};
use platform_runtime::{Artifacts, Engine, EngineConfig};
use platform_storage::{Memory, Options, Storage};
use platform_webhook::{Parts as WebhookParts, Webhooks};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, metadata::MetadataValue, transport::Channel};

pub const ADMIN: &str = "the-admins-token";
pub const SERVICE: &str = "the-services-token";
pub const USER: &str = "the-users-token-x";
const SOON: Duration = Duration::from_secs(20);

pub struct Server {
    pub address: SocketAddr,
    pub plane: Arc<Plane>,
    pub control: Arc<Control>,
    pub webhooks: Arc<Webhooks>,
    stop: CancellationToken,
    ended: Option<oneshot::Receiver<usize>>,
    tasks: TaskGroup,
    _folder: tempfile::TempDir,
}

/// Tokens of an administrator, of a service, and of a user who may do nothing but be judged.
pub fn config() -> Config {
    let mut config = Config { address: "127.0.0.1:0".into(), ..Config::default() };
    config.identity.tokens = vec![
        StaticToken::admin(ADMIN),
        StaticToken::new("svc/shop", SERVICE),
        StaticToken { access: Access::Check, roles: vec!["buyer".into()], ..StaticToken::new("alice", USER) },
    ];
    config
}

impl Server {
    pub async fn start(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tasks = TaskGroup::new();
        let engine = Engine::new(&EngineConfig::default()).unwrap();
        let artifacts = Artifacts::open(engine.clone(), folder.path()).unwrap();
        let storage: Arc<dyn Storage> = Arc::new(Memory::new(Options::default()));
        let plane = Plane::new(PlaneParts {
            witness: None,
            engine: engine.clone(),
            artifacts: artifacts.clone(),
            storage: Arc::clone(&storage),
            tasks: tasks.clone(),
            trust: TrustConfig::default().build().unwrap(),
            recorder: None,
            config: PlaneConfig::default(),
        });
        let webhooks = Webhooks::new(WebhookParts {
            plane: Arc::clone(&plane),
            storage: Arc::clone(&storage),
            tasks: tasks.clone(),
            config: platform_webhook::Config::default(),
            shared: false,
        });
        webhooks.start();
        let control = Control::open(ControlParts {
            daemon: "one".to_owned(),
            plane: Arc::clone(&plane),
            storage,
            data_dir: folder.path().into(),
            artifacts,
            tasks: tasks.clone(),
        });
        let control = control.await.unwrap();
        let about = About { version: "0.1.0".into(), ..About::default() };
        let parts = Parts {
            plane: Arc::clone(&plane),
            control: Arc::clone(&control),
            webhooks: Arc::clone(&webhooks),
            marketplace: None,
            about,
        };
        let ingress = config.build(parts).await.unwrap();
        let address = ingress.address();
        let stop = CancellationToken::new();
        let (tell, ended) = oneshot::channel();
        let (stopped, group) = (stop.clone(), tasks.clone());
        tasks.spawn("ingress", async move {
            let _ = tell.send(ingress.serve(&group, stopped.cancelled_owned(), SOON).await);
        });
        Self { address, plane, control, webhooks, stop, ended: Some(ended), tasks, _folder: folder }
    }

    /// Installs a shipped component, grants what it asks for, and binds it.
    pub async fn bind(&self, slot: &str, component: &str, settings: serde_json::Value) {
        self.bind_from("plugins", slot, component, settings).await;
    }

    /// The same for a component that was built into another folder.
    pub async fn bind_from(&self, folder: &str, slot: &str, component: &str, settings: serde_json::Value) {
        let bytes = platform_testkit::component(folder, component);
        let path = format!("/v1/plugins?name={component}");
        let body = self.http("POST", &path, &[("content-type", "application/wasm")], &bytes, ADMIN).await;
        assert_eq!(body.status, 200, "{}", body.text());
        let requested = serde_json::json!({"requested": true});
        let body = self.json("POST", &format!("/v1/plugins/{component}:grant"), &requested).await;
        assert_eq!(body.status, 200, "{}", body.text());
        let chain = serde_json::json!({"chain": [{"plugin": component, "settings": settings}]});
        let body = self.json("PUT", &format!("/v1/slots/{slot}"), &chain).await;
        assert_eq!(body.status, 200, "{}", body.text());
    }

    /// Asks the server to stop; how many connections it had to cut.
    pub async fn stop(&mut self) -> usize {
        self.stop.cancel();
        let ended = self.ended.take().unwrap();
        tokio::time::timeout(SOON * 2, ended).await.expect("the server never ended").unwrap()
    }

    pub fn begin_stop(&self) {
        self.stop.cancel();
    }

    pub async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.http("GET", path, &[], b"", "").await
    }

    pub async fn json(&self, method: &str, path: &str, body: &serde_json::Value) -> Answer {
        self.http(method, path, &[("content-type", "application/json")], body.to_string().as_bytes(), ADMIN).await
    }

    /// One request over HTTP/1.1 on a connection of its own.
    pub async fn http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8], token: &str) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: platform\r\nconnection: close\r\n");
        if !token.is_empty() {
            head.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    /// Sends bytes and reads until the server closes.
    pub async fn raw(&self, bytes: &[u8]) -> Answer {
        let (mut read, mut write) = TcpStream::connect(self.address).await.unwrap().into_split();
        // The server may answer, and close, before it has read everything.
        let send = async {
            let _ = write.write_all(bytes).await;
            write
        };
        let receive = async {
            let mut answer = Vec::new();
            let _ = read.read_to_end(&mut answer).await;
            answer
        };
        let both = async { tokio::join!(send, receive) };
        let (_, answer) = tokio::time::timeout(SOON * 3, both).await.expect("the server never closed");
        Answer::parse(&answer)
    }
}

/// A request with a token.
pub fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let pair = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        let headers: Vec<_> = lines.map(pair).collect();
        let mut body = bytes[end + 4..].to_vec();
        if headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked") {
            body = unchunk(&body);
        }
        Self { status, headers, body }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn value(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn reason(&self) -> String {
        self.value()["reason"].as_str().unwrap_or_default().to_owned()
    }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap().trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 4 + size..];
    }
    body
}
