//! The marketplace's web page: who may do what through it, what hostile and unlucky callers are answered, and what a page that misbehaves costs.

mod beside;
mod browser;

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use serde_json::{Value, json};

use super::{Market, READER, Reply, ask};
use crate::support::{http, plugins};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
/// What a component says of itself when it means ill.
const EVIL: &str = "\"'><img src=x onerror=alert(1)>";

impl Reply {
    fn html(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

impl Market {
    /// Looks at a page, signed in with a cookie where there is one.
    fn look(&self, cookie: &str, path: &str) -> Reply {
        let reply = ask(&self.address, "", "GET", path, &[("cookie", cookie)], b"");
        check_head(&reply, path);
        reply
    }

    /// Sends a form of the page.
    fn send(&self, cookie: &str, path: &str, form: &str) -> Reply {
        let origin = format!("http://{}", self.address);
        let reply =
            ask(&self.address, "", "POST", path, &[FORM, ("origin", &origin), ("cookie", cookie)], form.as_bytes());
        check_head(&reply, path);
        reply
    }

    /// Signs in; the cookie.
    fn sign_in(&self, token: &str) -> String {
        let reply = self.send("", "/marketplace/sign-in", &format!("next=%2Fmarketplace%2F%3Fq%3Da&token={token}"));
        assert_eq!((reply.status, reply.header("location")), (303, Some("/marketplace/?q=a")), "{}", reply.head);
        let cookie = reply.header("set-cookie").unwrap();
        for attribute in ["; HttpOnly", "; SameSite=Strict", "; Path=/marketplace", "; Max-Age=3600"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        cookie.split(';').next().unwrap().to_owned()
    }

    /// Publishes what is made of `kv-memory` with another manifest.
    fn publish(&self, name: &str, tag: &str, manifest: &Value) {
        let bytes = remade(manifest);
        let reply = self.component(name, tag, &bytes);
        assert_eq!(reply.status, 201, "{}", reply.html());
    }

    /// Names and versions of installed plugins.
    fn installed(&self) -> Vec<String> {
        let list = self.daemon.json(&["plugin", "list"]);
        let plugins = list["plugins"].as_array().cloned().unwrap_or_default();
        plugins
            .iter()
            .map(|plugin| format!("{}@{}", plugin["name"].as_str().unwrap(), plugin["version"].as_str().unwrap()))
            .collect()
    }

    /// Binds the page that misbehaves on request.
    fn bind_acts(&self, text: &str) {
        let settings = json!({"text": text}).to_string();
        let slot = ["plugin", "bind", "web.page/marketplace", "web-acts", "--grant", "wasi", "--settings", &settings];
        self.daemon.ok(&[&slot[..], &["--deadline", "2s", "--memory", "16MiB"]].concat());
    }

    fn install_acts(&self) {
        let file = plugins().join("../testkit/web-acts.wasm");
        self.daemon.ok(&["plugin", "install", file.to_str().unwrap(), "--name", "web-acts"]);
    }
}

/// Every answer tells browsers what to refuse.
fn check_head(reply: &Reply, path: &str) {
    let policy = reply.header("content-security-policy").unwrap_or_else(|| panic!("{path}: {}", reply.head));
    for part in ["default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(part) && !policy.contains("unsafe"), "{path}: {policy}");
    }
    let told = [reply.header("x-content-type-options"), reply.header("referrer-policy"), reply.header("cache-control")];
    assert_eq!(told, [Some("nosniff"), Some("same-origin"), Some("no-store")], "{path}");
}

/// `kv-memory` that says something else of itself.
fn remade(manifest: &Value) -> Vec<u8> {
    let mut bytes = fs::read(plugins().join("kv-memory.wasm")).unwrap();
    let begin = bytes.windows(9).position(|window| window == b"{\"name\":\"").unwrap();
    let mut length = 0;
    for end in begin + 1..bytes.len() {
        if serde_json::from_slice::<Value>(&bytes[begin..=end]).is_ok() {
            length = end + 1 - begin;
            break;
        }
    }
    let (before, mut after) = (bytes[begin..begin + length].to_vec(), manifest.to_string().into_bytes());
    assert!(after.len() <= length, "there is room for {length} bytes: {manifest}");
    after.resize(length, b' ');
    while let Some(at) = bytes.windows(length).position(|window| window == before) {
        bytes[at..at + length].copy_from_slice(&after);
    }
    bytes
}

fn manifest(version: &str, grants: &[&str]) -> Value {
    json!({"name": "shop-store", "version": version, "description": "Keeps things", "slot": "kv.store", "grants": grants})
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn the_page_searches_shows_and_installs_with_the_rights_of_its_caller() {
    let market = Market::start("");
    market.publish("team/shop-store", "1.0.0", &manifest("1.0.0", &["kv"]));
    market.publish("team/shop-store", "1.1.0", &manifest("1.1.0", &["kv", "network:cache.internal:6379"]));

    assert_eq!((market.look("", "/marketplace").header("location")), Some("/marketplace/"));
    let closed = market.look("", "/marketplace/");
    assert!(
        closed.status == 401 && closed.html().contains("/marketplace/sign-in?next=/marketplace/"),
        "{}",
        closed.html()
    );
    sign_in(&market);
    let (reader, admin) = (market.sign_in(READER), market.sign_in(&market.daemon.token()));
    let found = market.look(&reader, "/marketplace/?q=things&slot=kv.store").html();
    assert!(
        found.contains("/marketplace/c/team/shop-store") && found.contains("Signed in as <strong>rea</strong>"),
        "{found}"
    );
    assert!(market.look(&reader, "/marketplace/?q=elephants").html().contains("Nothing is listed"));
    let listing = market.look(&reader, "/marketplace/c/team/shop-store").html();
    for told in ["Keeps things", "yes: its interfaces agree", "connect to port 6379 of cache.internal", "none by a key"]
    {
        assert!(listing.contains(told), "{told}: {listing}");
    }
    bad_requests(&market, &reader);
    rights(&market, &reader, &admin);
    installation(&market, &admin);

    assert_eq!(market.send(&admin, "/marketplace/sign-out", "").status, 303);
    assert_eq!(market.look(&admin, "/marketplace/").status, 401, "the session has ended, not only its cookie");
    market.daemon.stop();
}

fn sign_in(market: &Market) {
    let form = market.look("", "/marketplace/sign-in?next=/marketplace/c/x").html();
    assert!(form.contains("value=\"/marketplace/c/x\"") && form.contains("type=\"password\""), "{form}");
    for (token, status) in [("", 400), ("no-such-token-is-here", 401), ("%ff", 400)] {
        let reply = market.send("", "/marketplace/sign-in", &format!("next=//evil&token={token}"));
        assert!(reply.status == status && reply.html().contains("Not signed in"), "{token}: {}", reply.html());
        assert_eq!(reply.header("set-cookie"), None);
        assert!(reply.html().contains("value=\"/marketplace/\""), "nobody is led away");
    }
}

fn bad_requests(market: &Market, reader: &str) {
    for (path, status, told) in [
        ("/marketplace/nothing", 404, "no such page"),
        ("/marketplace/c/team/none", 404, "nothing is listed"),
        ("/marketplace/c/", 400, "Back to the search"),
        ("/marketplace/c/..%2f..%2fetc", 400, "Back to the search"),
        ("/marketplace/%ff", 400, "no UTF-8"),
        ("/marketplace/?q=%ff", 400, "no UTF-8"),
        ("/marketplace/?q=%zz%", 200, "%zz%"),
        ("/marketplace/?q=1+2+3+4+5+6+7+8+9", 400, "more than 8 words"),
        ("/marketplace/?slot=none", 200, "Nothing is listed"),
        ("/marketplace/install?name=team/shop-store", 400, "`version` is missing"),
        ("/marketplace/?q=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E", 200, "&lt;img src=x onerror=alert(1)&gt;"),
    ] {
        let reply = market.look(reader, path);
        assert!(reply.status == status && reply.html().contains(told), "{path}: {} {}", reply.status, reply.html());
        assert!(!reply.html().contains("<img"), "{path}");
    }
    let long = market.look(reader, &format!("/marketplace/?q={}", "a".repeat(10_000)));
    assert!(long.status == 400 && long.html().contains("longer than 256 bytes"), "{}", long.html());
    // More than any request's head may be: that is said before any door hears of it, in the words and with the headers of a page's own refusals.
    let long = market.look(reader, &format!("/marketplace/?q={}", "a".repeat(1 << 20)));
    assert!(long.status == 414 && long.html().contains("the address is too long"), "{} {}", long.head, long.html());
    assert!(long.html().contains("at most 65536 bytes"), "{}", long.html());
    let name = "a".repeat(1 << 20);
    let long = ask(&market.address, "", "GET", "/marketplace/", &[("x-long", &name)], b"");
    assert!(long.status == 431 && long.html().contains("the headers of this request are"), "{}", long.head);
    check_head(&long, "a long header");
    let large = market.send(reader, "/marketplace/install", &"a".repeat(70_000));
    assert_eq!(large.status, 413);
    let method = ask(&market.address, "", "DELETE", "/marketplace/", &[], b"");
    assert_eq!((method.status, method.header("allow")), (405, Some("GET, HEAD, POST")));
    let head = ask(&market.address, "", "HEAD", "/marketplace/sign-in", &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

fn rights(market: &Market, reader: &str, admin: &str) {
    let plan = "/marketplace/install?name=team/shop-store&version=1.0.0";
    let form = "name=team/shop-store&version=1.0.0&digest=x&grant=kv";
    assert_eq!((market.look("", plan).status, market.send("", "/marketplace/install", form).status), (401, 401));
    assert_eq!(
        (market.look(reader, plan).status, market.send(reader, "/marketplace/install", form).status),
        (403, 403)
    );
    assert!(market.look(reader, plan).html().contains("may look around, but not install"));
    // A token in the head is no sign-in, and another site's form is nobody's.
    let bearer = ask(&market.address, &market.daemon.token(), "GET", "/marketplace/", &[], b"");
    assert_eq!(bearer.status, 401);
    for headers in [
        vec![FORM, ("cookie", admin), ("origin", "https://evil.example")],
        vec![FORM, ("cookie", admin), ("origin", "null")],
        vec![FORM, ("cookie", admin)],
        vec![FORM, ("cookie", admin), ("sec-fetch-site", "cross-site")],
    ] {
        let reply = ask(&market.address, "", "POST", "/marketplace/install", &headers, form.as_bytes());
        assert!(reply.status == 403 && reply.html().contains("another site"), "{headers:?}: {}", reply.html());
    }
    assert_eq!(market.installed().iter().filter(|name| name.starts_with("shop-store")).count(), 0);
}

fn installation(market: &Market, admin: &str) {
    let review = |version: &str| {
        market.look(admin, &format!("/marketplace/install?name=team/shop-store&version={version}")).html()
    };
    let digest_in = |html: &str| {
        let from = html.find("name=\"digest\" value=\"").unwrap() + 21;
        html[from..from + 71].to_owned()
    };
    let send = |version: &str, digest: &str, grants: &[&str]| {
        let ticked: String = grants.iter().map(|grant| format!("&grant={}", encoded(grant))).collect();
        let form = format!("name=team%2Fshop-store&version={version}&digest={}{ticked}", encoded(digest));
        market.send(admin, "/marketplace/install", &form)
    };
    let first = review("1.0.0");
    assert!(
        first.contains("value=\"kv\"><label") && first.contains("It reaches no network") && first.contains("64 MiB"),
        "{first}"
    );
    let digest = digest_in(&first);
    let unticked = send("1.0.0", &digest, &[]);
    assert!(unticked.status == 409 && unticked.html().contains("missing: `kv`"), "{}", unticked.html());
    let other = send("1.0.0", &digest.replace(&digest[10..14], "0000"), &["kv"]);
    assert!(other.status == 409 && other.html().contains("another component"), "{}", other.html());
    assert!(!market.installed().contains(&"shop-store@1.0.0".to_owned()));
    let done = send("1.0.0", &digest, &["kv"]);
    assert!(
        done.status == 200 && done.html().contains("platform plugin bind kv.store shop-store@1.0.0"),
        "{}",
        done.html()
    );
    assert!(market.installed().contains(&"shop-store@1.0.0".to_owned()));
    assert!(send("1.0.0", &digest, &["kv"]).html().contains("installed already"));

    let upgrade = review("1.1.0");
    assert!(upgrade.contains("Beside version 1.0.0") && upgrade.contains("value=\"kv\" checked"), "{upgrade}");
    assert!(upgrade.contains("value=\"network:cache.internal:6379\"><label"), "what is new is not ticked: {upgrade}");
    let digest = digest_in(&upgrade);
    let unticked = send("1.1.0", &digest, &["kv"]);
    assert!(
        unticked.status == 409 && unticked.html().contains("missing: `network:cache.internal:6379`"),
        "{}",
        unticked.html()
    );
    assert_eq!(send("1.1.0", &digest, &["kv", "network:cache.internal:6379"]).status, 200);
    let audit = market.daemon.ok(&["plugin", "audit", "--about", "shop-store@1.1.0"]);
    assert!(audit.contains("install") && audit.contains("admin"), "{audit}");
}

#[test]
fn without_a_marketplace_there_is_no_page() {
    let (_root, data) = crate::support::place();
    let daemon = crate::support::Daemon::start(&data);
    let (status, ..) = http(&daemon.address().unwrap(), "GET", "/marketplace/", "", "").unwrap();
    assert_eq!(status, 404);
    assert!(daemon.run(&["plugin", "slots", "web.page/marketplace"]).status.code() != Some(0));
    daemon.stop();
}

#[test]
fn a_page_that_misbehaves_is_bounded() {
    let market = Market::start("");
    market.install_acts();
    market.bind_acts("fine");
    let shows = || {
        let reply = market.look("", "/marketplace/x");
        assert_eq!((reply.status, reply.html().trim_end()), (200, "fine"), "{}", reply.head);
    };
    for (path, status) in [
        ("trap", 502),
        ("loop", 504),
        ("late", 504),
        ("hoard", 502),
        ("endless", 502),
        ("gigabyte", 502),
        ("away", 502),
        ("status", 502),
    ] {
        shows();
        let reply = market.look("", &format!("/marketplace/{path}"));
        assert_eq!(reply.status, status, "{path}: {}", reply.html());
        assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"), "{path}");
        assert!(reply.body.len() < 300, "{path}: {}", reply.html());
    }
    shows();
    assert_eq!(market.look("", "/marketplace/mebibyte").body.len(), 1 << 20);
    let cookie = market.look("", "/marketplace/cookie");
    assert_eq!((cookie.status, cookie.header("set-cookie")), (200, None));
    // The page learns who is signed in, and nothing that says so.
    let admin = market.sign_in(&market.daemon.token());
    assert_eq!(market.look(&admin, "/marketplace/x").html(), "fine admin");
    let slot = market.daemon.json(&["plugin", "slots", "web.page/marketplace"]);
    assert!(slot.to_string().contains("web-acts"), "{slot}");
    let metrics = http(&market.address, "GET", "/metrics", "", "").unwrap().2;
    assert!(metrics.lines().any(|line| line.contains("web.page") && line.contains("deadline")), "{metrics}");
    market.daemon.stop();
}

#[test]
fn the_page_is_swapped_while_requests_run() {
    let market = Market::start("");
    market.install_acts();
    market.bind_acts("generation 0");
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let reply = market.look("", "/marketplace/busy");
                    assert!(
                        reply.status == 200 && reply.html().starts_with("generation "),
                        "{} {}",
                        reply.status,
                        reply.html()
                    );
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for generation in 1..=10 {
            let before = served.load(Ordering::Relaxed);
            market.bind_acts(&format!("generation {generation}"));
            crate::support::wait_for("requests on this generation", || {
                (served.load(Ordering::Relaxed) > before + 3).then_some(())
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(market.look("", "/marketplace/x").html().trim_end(), "generation 10");
    market.daemon.ok(&["plugin", "bind", "web.page/marketplace", "web-marketplace"]);
    assert_eq!(market.look("", "/marketplace/").status, 401, "the page that ships serves again");
    market.daemon.stop();
}
