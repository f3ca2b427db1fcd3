//! The daemon's own registry: the protocol as its specification has it, what hostile and unlucky clients leave behind, and real clients.

mod index;
mod manifests;
mod page;
mod tools;
mod trials;
mod wkg;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    path::PathBuf,
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use platform_runtime::Digest;
use platform_testkit::NatsServer;
use serde_json::{Value, json};

use crate::support::{Daemon, PATIENCE, place, platform, text, wait_for};

const PUBLISHER: &str = "the-publishers-token";
const READER: &str = "the-readers-token";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A daemon with a marketplace.
struct Market {
    root: tempfile::TempDir,
    data: PathBuf,
    daemon: Daemon,
    address: String,
}

/// What was answered.
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.head))
    }

    /// The value of a header.
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Status and code of a refusal.
    fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["errors"][0]["code"].as_str().unwrap().to_owned())
    }
}

impl Market {
    fn start(settings: &str) -> Self {
        Self::start_with(settings, &[])
    }

    /// The same with pairs of keys beside the configuration.
    fn start_with(settings: &str, keys: &[&str]) -> Self {
        let (root, data) = place();
        fs::create_dir_all(&data).unwrap();
        for name in keys {
            let mut command = platform();
            let made = command
                .env("COSIGN_PASSWORD", "open sesame")
                .args(["plugin", "keygen"])
                .arg(data.join(name))
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", text(&made.stderr));
        }
        let token = |subject: &str, token: &str, roles: &str| {
            format!(
                "[[server.identity.tokens]]\nsubject = '{subject}'\ntoken = '{token}'\nroles = [{roles}]\naccess = 'data'\n"
            )
        };
        // Only tests of trials wait for them.
        let trials = if settings.contains("require_conformance") { "" } else { "trials = false\n" };
        let tokens = [token("pia", PUBLISHER, "'publisher'"), token("rea", READER, "")].concat();
        fs::write(data.join("platform.toml"), format!("[marketplace]\nenabled = true\n{trials}{settings}\n{tokens}"))
            .unwrap();
        let daemon = Daemon::start(&data);
        let address = daemon.address().unwrap();
        Self { root, data, daemon, address }
    }

    /// Takes the daemon away and starts it again.
    fn killed(mut self) -> Self {
        self.daemon.kill();
        self.daemon = Daemon::start(&self.data);
        self.address = self.daemon.address().unwrap();
        self
    }

    fn ask(&self, token: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        ask(&self.address, token, method, path, headers, body)
    }

    /// Asks as the publisher.
    fn push(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.ask(PUBLISHER, method, path, headers, body)
    }

    fn get(&self, path: &str) -> Reply {
        self.ask(READER, "GET", path, &[], b"")
    }

    fn blob(&self, name: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let reply = self.push("POST", &format!("/v2/{name}/blobs/uploads/?digest={digest}"), &[], bytes);
        assert_eq!(reply.status, 201, "{}", reply.head);
        digest
    }

    /// Puts a manifest with these members beside one layer.
    fn manifest(&self, name: &str, reference: &str, bytes: &[u8], more: &Value) -> Reply {
        self.blob(name, b"{}");
        self.blob(name, bytes);
        self.push(
            "PUT",
            &format!("/v2/{name}/manifests/{reference}"),
            &[("content-type", MANIFEST)],
            &manifest(bytes, more),
        )
    }
}

fn manifest(bytes: &[u8], more: &Value) -> Vec<u8> {
    let part =
        |bytes: &[u8]| json!({"mediaType": "application/x.part", "digest": Digest::of(bytes), "size": bytes.len()});
    let mut manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": part(b"{}"), "layers": [part(bytes)]});
    manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    manifest.to_string().into_bytes()
}

fn ask(address: &str, token: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    try_ask(address, token, method, path, headers, body).unwrap()
}

fn try_ask(
    address: &str, token: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8],
) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n", body.len());
    if !token.is_empty() {
        head.push_str(&format!("authorization: Bearer {token}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    // Who refuses early does not read the rest.
    let _ = stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes());
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        read?;
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    };
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Reply { status, head, body: answer[end + 4..].to_vec() })
}

#[test]
fn the_protocol_is_kept() {
    let market = Market::start("[marketplace.limits]\nblob_bytes = 1000000\nmanifest_bytes = 100000\nuploads_max = 3");

    callers(&market);
    blobs(&market);
    limits(&market);
    // Names that lead elsewhere are none.
    for path in [
        "/v2/../../x/blobs/uploads/",
        "/v2/..%2f..%2fx/blobs/uploads/",
        "/v2/A/blobs/uploads/",
        "/v2/a..b/blobs/uploads/",
    ] {
        assert_eq!(market.push("POST", path, &[], b"").refusal(), (400, "NAME_INVALID".to_owned()), "{path}");
    }
    assert_eq!(
        market.push("PUT", "/v2/a/manifests/..%2fx", &[], b"{}").refusal(),
        (400, "MANIFEST_INVALID".to_owned())
    );
    let there: Vec<_> = fs::read_dir(market.root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(there.len(), 2, "the data and the log, and nothing outside: {there:?}");
    market.daemon.stop();
}

/// Who may do what.
fn callers(market: &Market) {
    let base = market.ask("", "GET", "/v2/", &[], b"");
    assert_eq!(base.refusal(), (401, "UNAUTHORIZED".to_owned()));
    assert!(base.header("www-authenticate").unwrap().starts_with("Basic realm="), "{}", base.head);
    assert_eq!(market.ask("no-such-token-here", "GET", "/v2/", &[], b"").status, 401);
    let basic = format!("Basic {}", STANDARD.encode(format!("anybody:{READER}")));
    assert_eq!(market.ask("", "GET", "/v2/", &[("authorization", &basic)], b"").status, 200);
    assert_eq!(market.get("/v2/").header("docker-distribution-api-version"), Some("registry/2.0"));
    let begin = |token| market.ask(token, "POST", "/v2/a/blobs/uploads/", &[], b"");
    assert_eq!((begin(READER).refusal(), begin("").status), ((403, "DENIED".to_owned()), 401));
}

/// A blob in one piece, in two steps and in chunks.
fn blobs(market: &Market) {
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let digest = market.blob("team/a", &bytes);
    let upload = |name: &str| begin_at(market, name);
    let at = upload("team/b");
    let put = |at: &str, digest: Digest, body: &[u8]| market.push("PUT", &format!("{at}?digest={digest}"), &[], body);
    assert_eq!(put(&at, digest, &bytes[1..]).refusal(), (400, "DIGEST_INVALID".to_owned()));
    assert_eq!(market.push("GET", &at, &[], b"").refusal(), (404, "BLOB_UPLOAD_UNKNOWN".to_owned()));
    assert_eq!(market.get(&format!("/v2/team/b/blobs/{digest}")).refusal(), (404, "BLOB_UNKNOWN".to_owned()));
    let at = upload("team/b");
    assert_eq!(put(&at, digest, &bytes).header("location"), Some(format!("/v2/team/b/blobs/{digest}").as_str()));
    let at = upload("team/c");
    let patch = |range: &str, body: &[u8]| market.push("PATCH", &at, &[("content-range", range)], body);
    assert_eq!(patch("0-99999", &bytes[..100_000]).header("range"), Some("0-99999"));
    assert_eq!(patch("5-9", b"abcde").status, 416);
    assert_eq!(patch("100000-100009", b"short").refusal(), (400, "SIZE_INVALID".to_owned()));
    // What breaks off leaves the upload as it was.
    let mut torn = TcpStream::connect(&market.address).unwrap();
    write!(
        torn,
        "PATCH {at} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {PUBLISHER}\r\ncontent-length: 9000\r\n\r\nhalf"
    )
    .unwrap();
    torn.shutdown(Shutdown::Both).unwrap();
    let status = wait_for("the torn chunk to be given up", || {
        Some(market.push("PATCH", &at, &[], b"")).filter(|reply| reply.status == 202)
    });
    assert_eq!(status.header("range"), Some("0-99999"));
    assert_eq!(put(&at, digest, &bytes[100_000..]).status, 201);
    given(market, &bytes);
    let mount = |name: &str, from: &str| {
        market.push("POST", &format!("/v2/{name}/blobs/uploads/?mount={digest}&from={from}"), &[], b"").status
    };
    assert_eq!((mount("team/d", "team/c"), mount("team/e", "team/none")), (201, 202));
    assert_eq!(market.get(&format!("/v2/team/d/blobs/{digest}")).body.len(), bytes.len());
}

/// A blob as a whole and in ranges.
fn given(market: &Market, bytes: &[u8]) {
    let digest = Digest::of(bytes);
    let whole = market.get(&format!("/v2/team/c/blobs/{digest}"));
    assert!(whole.body == bytes && whole.header("docker-content-digest") == Some(digest.to_string().as_str()));
    let head = market.ask(READER, "HEAD", &format!("/v2/team/c/blobs/{digest}"), &[], b"");
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("400000"), 0));
    for (range, status, expected, said) in [
        ("bytes=4-7", 206, &bytes[4..8], Some("bytes 4-7/400000")),
        ("bytes=-4", 206, &bytes[399_996..], Some("bytes 399996-399999/400000")),
        ("bytes=0-", 206, bytes, Some("bytes 0-399999/400000")),
    ] {
        let part = market.ask(READER, "GET", &format!("/v2/team/c/blobs/{digest}"), &[("range", range)], b"");
        assert!((part.status, part.header("content-range")) == (status, said) && part.body == expected, "{range}");
    }
    let outside = market.ask(READER, "GET", &format!("/v2/team/c/blobs/{digest}"), &[("range", "bytes=400000-")], b"");
    assert_eq!((outside.status, outside.header("content-range")), (416, Some("bytes */400000")));
}

fn limits(market: &Market) {
    let begin = || market.push("POST", "/v2/a/blobs/uploads/", &[], b"");
    let large = vec![0; 1_000_001];
    let too_large = market.push("POST", &format!("/v2/a/blobs/uploads/?digest={}", Digest::of(&large)), &[], &large);
    assert_eq!(too_large.refusal(), (413, "SIZE_INVALID".to_owned()));
    let open: Vec<Reply> = (0..3).map(|_| begin()).collect();
    assert!(open.iter().any(|reply| reply.status == 429), "one was begun by the mount before");
    for reply in open.iter().filter(|reply| reply.status == 202) {
        assert_eq!(market.push("DELETE", reply.header("location").unwrap(), &[], b"").status, 204);
    }
    let wide = json!({"annotations": {"a": "x".repeat(100_000)}});
    assert_eq!(market.manifest("a", "wide", b"a", &wide).refusal(), (413, "SIZE_INVALID".to_owned()));
}

/// Begins an upload; where it goes on.
fn begin_at(market: &Market, name: &str) -> String {
    let begun = market.push("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"");
    assert_eq!((begun.status, begun.header("range")), (202, Some("0-0")), "{}", begun.head);
    begun.header("location").unwrap().to_owned()
}

#[test]
fn a_publish_that_is_cut_short_leaves_nothing_half_there() {
    let mut market = Market::start("");
    // Two publishers of one version: one wins, and what is there is whole.
    let contend = |market: &Market, version: &str| {
        let statuses: Vec<u16> = thread::scope(|scope| {
            let publish =
                |bytes: &'static [u8]| scope.spawn(move || market.manifest("a", version, bytes, &json!({})).status);
            let both = [publish(b"left"), publish(b"right")];
            both.into_iter().map(|publisher| publisher.join().unwrap()).collect()
        });
        assert!(statuses.contains(&201) && statuses.contains(&403), "{statuses:?}");
    };
    (0..5).for_each(|n| contend(&market, &format!("0.0.{n}")));
    for round in 0..3 {
        let address = market.address.clone();
        let publisher = thread::spawn(move || {
            for n in 0.. {
                let bytes = format!("{round}.{n}").repeat(5_000).into_bytes();
                let digest = Digest::of(&bytes);
                let publish = |method: &str, path: &str, body: &[u8]| {
                    let headers = [("content-type", MANIFEST)];
                    try_ask(&address, PUBLISHER, method, path, &headers, body).is_ok_and(|reply| reply.status == 201)
                };
                let done = publish("POST", &format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"{}")), b"{}")
                    && publish("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), &bytes)
                    && publish("PUT", &format!("/v2/a/manifests/1.{round}.{n}"), &manifest(&bytes, &json!({})));
                if !done {
                    return n;
                }
            }
            0
        });
        wait_for("some versions", || {
            let tags = market.get("/v2/a/tags/list").json();
            (tags["tags"].as_array().unwrap().len() >= 5 + 4 * (round + 1)).then_some(())
        });
        market = market.killed();
        let published = publisher.join().unwrap();
        let tags = market.get("/v2/a/tags/list").json();
        let tags: Vec<&str> = tags["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap()).collect();
        let of_round = tags.iter().filter(|tag| tag.starts_with(&format!("1.{round}."))).count();
        assert!(of_round == published || of_round == published + 1, "{of_round} of {published} acknowledged versions");
        for tag in tags {
            let manifest = market.get(&format!("/v2/a/manifests/{tag}"));
            assert_eq!(manifest.status, 200, "{tag}");
            let layer = manifest.json()["layers"][0]["digest"].as_str().unwrap().to_owned();
            let blob = market.get(&format!("/v2/a/blobs/{layer}"));
            assert_eq!(Digest::of(&blob.body).to_string(), layer, "{tag}");
        }
        assert_eq!(fs::read_dir(market.data.join("marketplace/uploads")).unwrap().count(), 0);
    }
    // A byte that flipped on the disk is not passed on as if nothing were.
    let bytes = b"left".repeat(100_000);
    let digest = market.blob("a", &bytes);
    let file = market.data.join("marketplace/blobs").join(digest.hex());
    let mut damaged = bytes.clone();
    damaged[7] ^= 1;
    fs::write(&file, damaged).unwrap();
    assert!(market.get(&format!("/v2/a/blobs/{digest}")).body.len() < bytes.len(), "it breaks off");
    market.blob("a", &bytes);
    assert_eq!(market.get(&format!("/v2/a/blobs/{digest}")).body, bytes, "pushing it again repairs it");
    market.daemon.stop();
}

#[test]
fn what_nothing_names_goes_and_what_is_named_stays() {
    let market = Market::start("[marketplace.limits]\nupload_ms = 3000");
    market.manifest("a", "1.0.0", b"named", &json!({}));
    let (named, nameless) = (Digest::of(b"named"), market.blob("a", b"nameless"));
    let at = begin_at(&market, "a");
    let files = || fs::read_dir(market.data.join("marketplace/blobs")).unwrap().count();
    wait_for("the sweep", || (files() == 2).then_some(()));
    wait_for("the upload to be dropped", || (market.push("GET", &at, &[], b"").status == 404).then_some(()));
    assert_eq!(market.get(&format!("/v2/a/blobs/{nameless}")).status, 404);
    assert_eq!(market.get(&format!("/v2/a/blobs/{named}")).body, b"named");
    let admin = market.daemon.token();
    let manifest = market.ask(READER, "HEAD", "/v2/a/manifests/1.0.0", &[], b"");
    let digest = manifest.header("docker-content-digest").unwrap().to_owned();
    assert_eq!(market.ask(&admin, "DELETE", &format!("/v2/a/manifests/{digest}"), &[], b"").status, 202);
    wait_for("the sweep", || (files() == 0).then_some(()));
    // Without the setting there is nothing at this place.
    let (_root, data) = place();
    let without = Daemon::start(&data);
    assert_eq!(ask(&without.address().unwrap(), &without.token(), "GET", "/v2/", &[], b"").status, 404);
    without.stop();
    market.daemon.stop();
}

#[test]
fn daemons_of_one_storage_have_one_registry() {
    let server = NatsServer::alone();
    let (root, _data) = place();
    let start = |name: &str| {
        let data = root.path().join(name);
        fs::create_dir_all(&data).unwrap();
        let settings = "[marketplace]\nenabled = true\nlimits.upload_ms = 3000\n";
        fs::write(data.join("platform.toml"), settings).unwrap();
        Daemon::start_with(&data, &["--server-address", "127.0.0.1:0", "--storage", &server.url()])
    };
    let (one, other) = (start("one"), start("other"));
    let asked = |daemon: &Daemon, method: &str, path: &str, body: &[u8]| {
        ask(&daemon.address().unwrap(), &daemon.token(), method, path, &[("content-type", MANIFEST)], body)
    };
    let bytes = b"layer".repeat(100_000);
    for part in [&b"{}"[..], &bytes] {
        let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(part));
        assert_eq!(asked(&one, "POST", &path, part).status, 201);
    }
    let put =
        |daemon: &Daemon, bytes: &[u8]| asked(daemon, "PUT", "/v2/a/manifests/1.0.0", &manifest(bytes, &json!({})));
    assert_eq!(put(&one, &bytes).status, 201);
    assert_eq!(asked(&other, "GET", "/v2/a/manifests/1.0.0", b"").body, manifest(&bytes, &json!({})));
    assert_eq!(asked(&other, "GET", &format!("/v2/a/blobs/{}", Digest::of(&bytes)), b"").body, bytes);
    assert_eq!(put(&other, b"{}").refusal(), (403, "DENIED".to_owned()));
    // What one daemon deletes goes on both, and what the other one pushes meanwhile stays.
    let kept = b"kept".repeat(1000);
    let path = format!("/v2/a/manifests/{}", Digest::of(&manifest(&bytes, &json!({}))));
    assert_eq!(asked(&other, "DELETE", &path, b"").status, 202);
    wait_for("the sweep of either daemon", || {
        (asked(&one, "GET", &format!("/v2/a/blobs/{}", Digest::of(&bytes)), b"").status == 404).then_some(())
    });
    for part in [&b"{}"[..], &kept] {
        let path = format!("/v2/b/blobs/uploads/?digest={}", Digest::of(part));
        assert_eq!(asked(&other, "POST", &path, part).status, 201);
    }
    let pushed = asked(&other, "PUT", "/v2/b/manifests/latest", &manifest(&kept, &json!({})));
    assert_eq!(pushed.status, 201, "{}", pushed.head);
    assert_eq!(asked(&one, "GET", &format!("/v2/b/blobs/{}", Digest::of(&kept)), b"").body, kept);
    one.stop();
    other.stop();
}
