//! Registries that mean ill, or are broken: each a small server in this process.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use platform_base::clock;
use serde_json::json;

use super::{component, refused};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";
const ZEROS: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// Answers each request with what a function writes, one request a connection.
struct Hostile {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Hostile {
    fn start(mut behave: impl FnMut(&str, &mut TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        // It ends with the process of the test.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let first = head.next().unwrap_or_default();
                let rest: Vec<_> = head.take_while(|line| !line.is_empty()).collect();
                seen.lock().unwrap().push(format!("{first}\n{}", rest.join("\n")));
                behave(first.split(' ').nth(1).unwrap_or_default(), &mut stream);
            }
        });
        Self { address, asked }
    }

    /// One that always gives the same answer.
    fn saying(status: &'static str, headers: String, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self::start(move |_, stream| say(stream, status, &headers, &body))
    }

    /// One that gives this manifest, and `then` for all else.
    fn serving(manifest: String, mut then: impl FnMut(&str, &mut TcpStream) + Send + 'static) -> Self {
        Self::start(move |path, stream| match path.contains("/manifests/") {
            true => say(stream, "200 OK", &format!("content-type: {MANIFEST}\r\n"), manifest.as_bytes()),
            false => then(path, stream),
        })
    }

    fn at(&self, rest: &str) -> String {
        format!("{}/store{rest}", self.address)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn say(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let length = body.len();
    let _ = write!(stream, "HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n");
    let _ = stream.write_all(body);
}

fn manifest(size: u64) -> String {
    let part = |kind: &str, size: u64| json!({"mediaType": kind, "digest": ZEROS, "size": size});
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": part(CONFIG, 2), "layers": [part(LAYER, size)]})
        .to_string()
}

/// Pulls, is refused, and nothing is written.
fn pull(code: i32, reference: &str, options: &[&str]) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pulled.wasm");
    let refused =
        refused(folder.path(), code, &[&["pull", reference, "--file", file.to_str().unwrap()][..], options].concat());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
    let name = reference.split(['@', '?']).next().unwrap();
    assert!(refused.1.contains(name), "the reference is named: {}", refused.1);
    refused
}

#[test]
fn one_that_hangs_is_left() {
    let silent = Hostile::start({
        let mut kept = Vec::new();
        move |_, stream| kept.push(stream.try_clone())
    });
    let begun = clock::now();
    let (reason, said) = pull(3, &silent.at(":1"), &["--timeout", "500ms"]);
    assert!(reason == "DEADLINE_EXCEEDED" && said.contains("--timeout"), "{said}");
    // One that begins and then stops is no better.
    let drip = Hostile::serving(manifest(1 << 20), {
        let mut kept = Vec::new();
        move |_, stream| {
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\nab", 1 << 20);
            kept.push(stream.try_clone());
        }
    });
    let (reason, _) = pull(3, &drip.at(":1"), &["--timeout", "500ms"]);
    assert_eq!(reason, "DEADLINE_EXCEEDED");
    assert!(clock::now().saturating_duration_since(begun).as_secs() < 30);
    let (reason, said) = pull(3, "127.0.0.1:1/store:1", &[]);
    assert!(reason == "REGISTRY_UNREACHABLE" && said.contains("127.0.0.1:1"), "{said}");
    let (reason, said) = pull(3, "registry.invalid/store:1", &[]);
    assert!(reason == "REGISTRY_UNREACHABLE" && said.contains("the name is not known"), "{said}");
}

#[test]
fn one_that_leads_astray_is_not_followed() {
    let secret = Hostile::saying("200 OK", String::new(), "secret");
    for to in [
        format!("http://{}/latest/meta-data", secret.address),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "http://registry.example.com/v2/store/manifests/1".to_owned(),
        "file:///etc/passwd".to_owned(),
        "https://user:word@127.0.0.1/".to_owned(),
    ] {
        for what in ["/manifests/", "/blobs/", "/tags/"] {
            let to = to.clone();
            let leading = Hostile::start(move |path, stream| match path.contains(what) {
                true => say(stream, "307 Temporary Redirect", &format!("location: {to}\r\n"), b""),
                false => say(stream, "200 OK", &format!("content-type: {MANIFEST}\r\n"), manifest(10).as_bytes()),
            });
            let (reason, said) = pull(2, &leading.at(if what == "/tags/" { "@^1" } else { ":1" }), &[]);
            assert!(matches!(reason.as_str(), "REGISTRY_REDIRECT" | "REGISTRY_ANSWER"), "{reason}: {said}");
            assert!(!said.contains("word"), "{said}");
        }
    }
    // The place where tokens are to be had is a place to be led to as well, and so is that of an upload.
    let to = secret.address.clone();
    let header = format!("www-authenticate: Bearer realm=\"http://{to}/token\",service=\"x\"\r\n");
    let asking = Hostile::saying("401 Unauthorized", header, "");
    assert_eq!(pull(2, &asking.at(":1"), &[]).0, "REGISTRY_REDIRECT");
    let taking = Hostile::start(move |path, stream| match path.contains("/uploads/") {
        true => say(stream, "202 Accepted", &format!("location: http://{to}/upload\r\n"), b""),
        false => say(stream, "404 Not Found", "", b""),
    });
    let folder = tempfile::tempdir().unwrap();
    let (reason, _) = refused(folder.path(), 2, &["push", &component("kv-memory"), &taking.at(":1")]);
    assert_eq!(reason, "REGISTRY_REDIRECT");
    assert_eq!(secret.asked(), Vec::<String>::new(), "nobody went there");

    let around = Hostile::saying("302 Found", "location: /v2/store/manifests/1\r\n".to_owned(), "");
    assert_eq!(pull(2, &around.at(":1"), &[]).0, "REGISTRY_REDIRECT");
    assert!(around.asked().len() < 10);
}

#[test]
fn one_that_serves_other_bytes_is_refused() {
    let other = Hostile::serving(manifest(9), |_, stream| say(stream, "200 OK", "", b"malicious"));
    let (reason, said) = pull(2, &other.at(":1"), &[]);
    assert!(reason == "DIGEST_MISMATCH" && said.contains(ZEROS), "{said}");
    assert_eq!(pull(2, &other.at(&format!("@{ZEROS}")), &[]).0, "DIGEST_MISMATCH", "the manifest is another");
    let said = format!("content-type: {MANIFEST}\r\ndocker-content-digest: {ZEROS}\r\n");
    let lying = Hostile::saying("200 OK", said, manifest(9));
    assert_eq!(pull(2, &lying.at(":1"), &[]).0, "DIGEST_MISMATCH");
    let short = Hostile::serving(manifest(10), |_, stream| say(stream, "200 OK", "", b"malicious"));
    assert_eq!(pull(2, &short.at(":1"), &[]).0, "DIGEST_MISMATCH");
}

#[test]
fn one_that_gives_too_much_is_cut_off() {
    const HUGE: u64 = 5 << 30;
    // It says so in its manifest, in the answer, or not at all.
    let honest = Hostile::serving(manifest(HUGE), |_, stream| say(stream, "200 OK", "", b""));
    assert_eq!(pull(2, &honest.at(":1"), &[]).0, "ARTIFACT_TOO_LARGE");
    assert_eq!(honest.asked().len(), 1, "the component was not asked for");
    let announcing = Hostile::serving(manifest(10), |_, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {HUGE}\r\n\r\n");
    });
    assert_eq!(pull(2, &announcing.at(":1"), &[]).0, "ARTIFACT_TOO_LARGE");
    let endless = |stream: &mut TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
        let piece = vec![b' '; 1 << 20];
        (0..HUGE >> 20).take_while(|_| stream.write_all(&piece).is_ok()).count() as u64
    };
    let sent = Arc::new(Mutex::new(0));
    let count = Arc::clone(&sent);
    let silent = Hostile::serving(manifest(10), move |_, stream| *count.lock().unwrap() = endless(stream));
    assert_eq!(pull(2, &silent.at(":1"), &[]).0, "ARTIFACT_TOO_LARGE");
    crate::support::wait_for("the writer to be cut off", || (*sent.lock().unwrap() > 0).then_some(()));
    assert!(*sent.lock().unwrap() < 200, "it was read no further than allowed");
    let manifests = Hostile::start(move |_, stream| {
        endless(stream);
    });
    assert_eq!(pull(2, &manifests.at(":1"), &[]).0, "ARTIFACT_TOO_LARGE");
    assert_eq!(pull(2, &manifests.at("@^1"), &[]).0, "ARTIFACT_TOO_LARGE");
    let pages = Hostile::saying(
        "200 OK",
        "link: </v2/store/tags/list?n=1>; rel=\"next\"\r\n".to_owned(),
        "{\"tags\":[\"1.0.0\"]}",
    );
    let (reason, said) = pull(2, &pages.at("@^1"), &[]);
    assert!(reason == "REGISTRY_ANSWER" && said.contains("no end"), "{said}");
}

#[test]
fn what_is_no_component_is_told() {
    let part = |kind: &str| json!({"mediaType": kind, "digest": ZEROS, "size": 2});
    let with = |config: &str, layers: serde_json::Value| {
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": part(config), "layers": layers}).to_string()
    };
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let index = "application/vnd.oci.image.index.v1+json";
    for (manifest, reason, words) in [
        (json!({"schemaVersion": 2, "mediaType": index, "manifests": []}).to_string(), "NOT_A_COMPONENT", "index"),
        (with(CONFIG, json!([])), "NOT_A_COMPONENT", "0 layers"),
        (with(CONFIG, json!([part(LAYER), part(LAYER)])), "NOT_A_COMPONENT", "2 layers"),
        (with(CONFIG, json!([part(gzip)])), "NOT_A_COMPONENT", gzip),
        (with("application/vnd.oci.image.config.v1+json", json!([part(LAYER)])), "NOT_A_COMPONENT", "configuration"),
        ("<html>welcome</html>".to_owned(), "REGISTRY_ANSWER", "can't be read"),
        ("[".repeat(100_000), "REGISTRY_ANSWER", "can't be read"),
    ] {
        let server = Hostile::serving(manifest, |_, stream| say(stream, "200 OK", "", b""));
        let (found, said) = pull(2, &server.at(":1"), &[]);
        assert!(found == reason && said.contains(words), "{found}: {said}");
    }
    let broken = Hostile::saying(
        "500 Internal Server Error",
        String::new(),
        "{\"errors\":[{\"code\":\"A\\u001b[2J\",\"message\":\"b\"}]}",
    );
    let (reason, said) = pull(3, &broken.at(":1"), &[]);
    assert!(reason == "REGISTRY_ANSWER" && said.contains("500") && !said.contains('\u{1b}'), "{said}");
}

#[test]
fn references_that_are_none_never_leave_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    for reference in
        ["../../x", "127.0.0.1:1/../../x", "oci://127.0.0.1:1/a/..", "store", "127.0.0.1:1/a:../../x", "https://a.io/b"]
    {
        let (reason, said) = refused(folder.path(), 2, &["pull", reference]);
        assert!(reason == "INVALID_ARGUMENT" && said.contains("is no reference"), "{reference}: {said}");
    }
    let (reason, said) = refused(folder.path(), 2, &["push", &component("kv-memory"), "127.0.0.1:1/a@^1"]);
    assert!(reason == "INVALID_ARGUMENT" && said.contains("only a tag"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn tokens_go_to_the_registry_alone() {
    let server = Hostile::start(move |path, stream| {
        if path.starts_with("/token") {
            return say(stream, "200 OK", "", b"{\"token\":\"once-only\"}");
        }
        let host = stream.local_addr().unwrap();
        let header = format!("www-authenticate: Bearer realm=\"http://{host}/token\",service=\"a b\"\r\n");
        say(stream, "401 Unauthorized", &header, b"");
    });
    let (reason, _) = pull(4, &server.at(":1"), &[]);
    assert_eq!(reason, "REGISTRY_UNAUTHORIZED");
    let asked = server.asked();
    assert_eq!(asked.len(), 3, "asked, got a token, asked with it, and no more: {asked:?}");
    assert!(asked[1].starts_with("GET /token?scope=repository%3Astore%3Apull&service=a%20b "), "{}", asked[1]);
    assert!(!asked[0].contains("authorization") && asked[2].contains("authorization: Bearer once-only"), "{asked:?}");
}
