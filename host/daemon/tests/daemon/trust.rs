//! Whose components a daemon takes: signatures that names need, with keys and signatures of cosign and openssl too, and advisories.

mod advisories;
mod tools;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;

use crate::support::{Daemon, http_body, place, platform, plugins, text, wait_for};

/// A folder with keys, components and the data of a daemon.
struct Bench {
    root: tempfile::TempDir,
    data: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let (root, data) = place();
        fs::create_dir_all(&data).unwrap();
        Self { root, data }
    }

    fn path(&self, name: &str) -> String {
        self.root.path().join(name).to_str().unwrap().to_owned()
    }

    /// Runs a command that needs no daemon.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = platform();
        command.env("DOCKER_CONFIG", self.root.path()).env("COSIGN_PASSWORD", "open sesame");
        command.arg("plugin").args(arguments).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--output", "json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs a command that has to be refused; the reason and the words.
    fn refused(&self, arguments: &[&str]) -> (String, String) {
        let output = self.run(&[arguments, &["--output", "json"]].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stdout));
        complaint(&output)
    }

    /// A pair of keys; the files of the secret and the public one.
    fn keys(&self, name: &str) -> (String, String) {
        self.ok(&["keygen", &self.path(name)]);
        (self.path(&format!("{name}.key")), self.path(&format!("{name}.pub")))
    }

    /// A component that differs from others of the kind in what it says of itself.
    fn component(&self, name: &str) -> String {
        let mut bytes = fs::read(plugins().join("kv-memory.wasm")).unwrap();
        let at = description(&bytes);
        bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
        let file = self.path(&format!("{name}.wasm"));
        fs::write(&file, bytes).unwrap();
        file
    }

    /// Writes the configuration file: who signs `acme-*`, and what else there is to say.
    fn configure(&self, key: &str, more: &str) {
        let rule = format!("[[trust]]\nnames = [\"acme-*\"]\nkeys = [\"{key}\"]\n");
        fs::write(self.data.join("platform.toml"), format!("{rule}{more}")).unwrap();
    }
}

/// The place of the description's first letter in a component.
fn description(bytes: &[u8]) -> usize {
    let start = b"\"description\":\"";
    let at = bytes.windows(start.len()).rposition(|window| window == start).expect("the manifest has a description");
    at + start.len()
}

fn complaint(output: &Output) -> (String, String) {
    let said = text(&output.stderr);
    let error: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    let member = |name: &str| error["error"][name].as_str().unwrap().to_owned();
    (member("reason"), member("message"))
}

/// Runs a command that the daemon has to refuse; the reason and the words.
fn denied(daemon: &Daemon, arguments: &[&str]) -> (String, String) {
    let output = daemon.run(&[arguments, &["--output", "json"]].concat());
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    complaint(&output)
}

fn install<'a>(file: &'a str, name: &'a str) -> Vec<&'a str> {
    vec!["plugin", "install", file, "--name", name, "--version", "1.0.0"]
}

#[test]
fn a_name_is_for_those_who_sign_with_its_key() {
    let bench = Bench::new();
    let ((ours, our_key), (theirs, _)) = (bench.keys("ours"), bench.keys("theirs"));
    bench.configure(&our_key, "");
    let daemon = Daemon::start(&bench.data);
    let file = bench.component("store");

    let (reason, said) = denied(&daemon, &install(&file, "acme-store"));
    assert!(reason == "SIGNATURE_MISSING" && said.contains("`acme-*`") && said.contains("none came with it"), "{said}");
    bench.ok(&["sign", &file, "--key", &theirs]);
    for name in ["acme-store", "ACME_store"] {
        let (reason, said) = denied(&daemon, &install(&file, name));
        assert!(reason == "SIGNATURE_MISSING" && said.contains("by another key"), "{said}");
    }
    let (reason, _) = denied(&daemon, &[&install(&file, "acme-store")[..], &["--dry-run"]].concat());
    assert_eq!(reason, "SIGNATURE_MISSING");
    assert!(!daemon.ok(&["plugin", "list"]).to_lowercase().contains("acme"), "nothing is kept");
    daemon.ok(&install(&file, "other-store"));

    let signed = bench.ok(&["sign", &file, "--key", &ours]);
    let installed = daemon.json(&install(&file, "acme-store"));
    assert_eq!(
        (&installed["plugin"]["signer"], &installed["plugin"]["digest"]),
        (&signed["key"], &signed["component"])
    );
    let again = daemon.json(&install(&file, "acme-store"));
    assert_eq!((&again["existed"], &again["plugin"]["signatures"]), (&true.into(), &1.into()));

    // One byte more or less, and the signature is over something else.
    let mut bytes = fs::read(&file).unwrap();
    let at = description(&bytes) + 1;
    bytes[at] ^= 1;
    let flipped = bench.path("flipped.wasm");
    fs::write(&flipped, bytes).unwrap();
    let bundle = format!("{file}.sigstore.json");
    let arguments =
        ["plugin", "install", &flipped, "--name", "acme-flipped", "--version", "1.0.0", "--signature", &bundle];
    let (reason, said) = denied(&daemon, &arguments);
    assert!(reason == "SIGNATURE_MISSING" && said.contains("over other bytes"), "{said}");
    fs::write(&bundle, "{\"mediaType\": \"text/plain\"}").unwrap();
    assert_eq!(denied(&daemon, &install(&file, "acme-store")).0, "SIGNATURE_INVALID");

    let audit = daemon.ok(&["plugin", "audit", "--about", "acme-store"]);
    assert!(audit.contains("needs a signature"), "{audit}");
    daemon.stop();
}

#[test]
fn what_was_let_in_is_judged_again_when_it_is_loaded() {
    let bench = Bench::new();
    let ((ours, our_key), (_, their_key)) = (bench.keys("ours"), bench.keys("theirs"));
    bench.configure(&our_key, "");
    let file = bench.component("store");
    bench.ok(&["sign", &file, "--key", &ours]);
    let daemon = Daemon::start(&bench.data);
    daemon.ok(&install(&file, "acme-store"));
    daemon.ok(&["plugin", "bind", "kv.store", "acme-store@1.0.0"]);
    daemon.ok(&["kv", "put", "greeting", "hello"]);
    daemon.stop();

    let daemon = Daemon::start(&bench.data);
    assert_eq!(daemon.bound("kv.store"), ["acme-store"], "its signature was kept");
    daemon.stop();

    // The operator no longer trusts the key.
    bench.configure(&their_key, "");
    let daemon = Daemon::spawn(&bench.data, &["--server-address", "127.0.0.1:0"]);
    let problem = wait_for("the daemon to say that it is not ready", || {
        let (status, _) = http_body(&daemon.address()?, "/readyz")?;
        (status == 503).then(|| daemon.json(&["plugin", "slots", "kv.store"])["problem"].as_str().unwrap().to_owned())
    });
    assert!(problem.contains("`acme-store` needs a signature") && problem.contains("another key"), "{problem}");
    assert!(daemon.run(&["kv", "get", "greeting"]).status.code() != Some(0), "nothing of it runs");
    let (reason, _) = denied(&daemon, &["plugin", "bind", "kv.store/other", "acme-store@1.0.0"]);
    assert_eq!(reason, "SIGNATURE_MISSING");

    // And trusts it again, while the daemon runs.
    bench.configure(&our_key, "");
    wait_for("the rule to be as it was", || {
        (daemon.run(&["plugin", "bind", "kv.store", "acme-store@1.0.0"]).status.code() == Some(0)).then_some(())
    });
    assert!(daemon.is_ready());
    daemon.stop();
}

#[test]
fn rules_say_what_is_let_in_without_a_signature() {
    let bench = Bench::new();
    let (_, key) = bench.keys("ours");
    bench.configure(&key, &format!("[[trust]]\nnames = [\"lab-*\"]\nkeys = [\"{key}\"]\nrequired = false\n"));
    let daemon = Daemon::start(&bench.data);
    let file = bench.component("store");
    let installed = daemon.json(&install(&file, "lab-store"));
    let warnings = installed["warnings"].to_string();
    assert!(warnings.contains("`lab-store` needs a signature") && installed["plugin"]["signer"] == "", "{warnings}");
    daemon.ok(&["plugin", "bind", "kv.store/lab", "lab-store@1.0.0"]);

    // A file beside a declared component counts as well.
    let declared = bench.component("declared");
    let entry = |name: &str| format!("[[plugin]]\npath = \"{declared}\"\nname = \"{name}\"\n");
    bench.configure(&key, &entry("acme-declared"));
    wait_for("the refusal to be logged", || daemon.log().contains("acme-declared").then_some(()));
    daemon.fails(1, &["plugin", "inspect", "acme-declared"]);
    bench.ok(&["sign", &declared, "--key", &bench.path("ours.key")]);
    bench.configure(&key, &format!("{}# signed now\n", entry("acme-declared")));
    wait_for("the signed component to be installed", || {
        (daemon.run(&["plugin", "inspect", "acme-declared"]).status.code() == Some(0)).then_some(())
    });
    daemon.stop();

    for (text, named) in [
        ("[[trust]]\nnames = [\"acme/*\"]\nkeys = [\"a.pub\"]\n", "acme/*"),
        ("[[trust]]\nnames = [\"a\"]\nkeys = [\"missing.pub\"]\n", "missing.pub"),
        ("[[trust]]\nnames = [\"a\"]\n", "keys"),
        ("[advisories]\nrevoked = \"never\"\n", "never"),
    ] {
        fs::write(bench.data.join("platform.toml"), text).unwrap();
        let said = crate::support::refused(2, &["--data-dir", bench.data.to_str().unwrap()]);
        assert!(said.contains(named), "{said}");
    }
}

#[test]
fn grants_of_an_upgrade_are_told_and_given_on_demand() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    let component = |name: &str| plugins().join(name).with_extension("wasm").to_str().unwrap().to_owned();
    let install = |file: &str, version: &str, more: &[&str]| {
        daemon.json(&[&["plugin", "install", file, "--name", "store", "--version", version], more].concat())
    };
    let (needy, modest) = (component("kv-storage"), component("kv-memory"));
    let first = install(&needy, "1.0.0", &["--accept-grants"]);
    assert!(first["plugin"]["grants"].to_string().contains("storage") && first["previousVersion"] == "", "{first}");
    // What the version before has is no news, and is given to this one only when somebody says so.
    let second = install(&needy, "1.1.0", &[]);
    assert_eq!((&second["previousVersion"], &second["addedGrants"]), (&"1.0.0".into(), &Value::Array(Vec::new())));
    assert_eq!(second["plugin"]["grants"], Value::Array(Vec::new()));
    let third = install(&needy, "1.2.0", &["--dry-run"]);
    assert_eq!(third["addedGrants"], first["plugin"]["grants"], "1.1.0 has none");
    daemon.ok(&["plugin", "grant", "store@1.1.0", "requested"]);
    let fourth = install(&modest, "2.0.0", &[]);
    assert_eq!(fourth["droppedGrants"], first["plugin"]["grants"]);
    let told = daemon.ok(&["plugin", "install", &needy, "--name", "store", "--version", "3.0.0", "--dry-run"]);
    assert!(told.contains("2.0.0 has no storage, which this version asks for"), "{told}");
    daemon.stop();
}

#[test]
fn keys_are_made_once_and_kept_from_others() {
    use std::os::unix::fs::PermissionsExt as _;

    let bench = Bench::new();
    let (secret, public) = bench.keys("ours");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let before = (fs::read(&secret).unwrap(), fs::read(&public).unwrap());
    let (_, said) = bench.refused(&["keygen", &bench.path("ours")]);
    assert!(said.contains("is there already"), "{said}");
    fs::remove_file(&public).unwrap();
    assert!(bench.refused(&["keygen", &bench.path("ours")]).1.contains("ours.key"));
    assert!(!Path::new(&public).exists() && fs::read(&secret).unwrap() == before.0);

    let file = bench.component("store");
    let wrong = bench.path("password");
    fs::write(&wrong, "open barley\n").unwrap();
    let (reason, said) = bench.refused(&["sign", &file, "--key", &secret, "--key-password-file", &wrong]);
    assert!(reason == "KEY_INVALID" && said.contains("password") && !said.contains("barley"), "{said}");
    fs::write(&wrong, "open sesame\n").unwrap();
    bench.ok(&["sign", &file, "--key", &secret, "--key-password-file", &wrong]);
    fs::write(&public, &before.1).unwrap();
    assert_eq!(bench.refused(&["sign", &file, "--key", &public]).0, "KEY_INVALID");
    assert_eq!(bench.refused(&["verify-signature", &file, "--key", &secret]).0, "KEY_INVALID");
    assert_eq!(bench.ok(&["verify-signature", &file, "--key", &public])["signed"], true);
    let other = bench.keys("other").1;
    let output = bench.run(&["verify-signature", &file, "--key", &other]);
    assert!(
        output.status.code() == Some(1) && text(&output.stdout).contains("none of them"),
        "{}",
        text(&output.stdout)
    );
}
