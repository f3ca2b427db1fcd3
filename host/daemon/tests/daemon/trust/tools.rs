//! Keys and signatures of cosign and openssl, which have to count here, and ours, which have to count there.

use std::{
    fs,
    process::{Command, Output},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use platform_testkit::{Protection, Registry, tool};
use serde_json::Value;

use super::{Bench, denied, install};
use crate::{
    registry::found,
    support::{Daemon, text},
};

impl Bench {
    fn cosign_run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(tool("cosign"));
        command.env("HOME", self.root.path()).env("DOCKER_CONFIG", self.root.path());
        command.env("COSIGN_PASSWORD", "open sesame").current_dir(self.root.path());
        command.args(arguments).output().unwrap()
    }

    fn cosign(&self, arguments: &[&str]) {
        let output = self.cosign_run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    }

    fn cosign_sign(&self, key: &str, reference: &str) {
        let offline = ["--tlog-upload=false", "--use-signing-config=false", "--new-bundle-format=false"];
        self.cosign(&[&["sign", "--yes", "--allow-http-registry", "--key", key][..], &offline, &[reference]].concat());
    }

    fn cosign_verifies(&self, key: &str, reference: &str) -> bool {
        let offline = ["--insecure-ignore-tlog=true", "--new-bundle-format=false", "--allow-http-registry"];
        self.cosign_run(&[&["verify", "--key", key][..], &offline, &[reference]].concat()).status.success()
    }

    fn openssl(&self, arguments: &[&str]) -> bool {
        Command::new("openssl").args(arguments).current_dir(self.root.path()).output().unwrap().status.success()
    }
}

/// A registry with a component under this tag; `HOST/NAME@DIGEST` and the component's file.
fn pushed(bench: &Bench, registry: &Registry, name: &str) -> (String, String) {
    let file = bench.component(name);
    let at = format!("{}/acme/{name}", registry.address());
    let pushed = bench.ok(&["push", &file, &format!("{at}:1.0.0")]);
    (format!("{at}@{}", pushed["digest"].as_str().unwrap()), file)
}

fn registry() -> Option<Registry> {
    let started = || tokio::runtime::Runtime::new().unwrap().block_on(Registry::protected(&Protection::default()));
    (found("docker-registry") && found("cosign")).then(started)
}

#[test]
fn cosign_verifies_what_is_signed_here() {
    let Some(registry) = registry() else { return };
    let bench = Bench::new();
    let (ours, our_key) = bench.keys("ours");
    bench.ok(&["keygen", &bench.path("modern"), "--algorithm", "ed25519"]);
    let (modern, modern_key) = (bench.path("modern.key"), bench.path("modern.pub"));
    bench.cosign(&["generate-key-pair", "--output-key-prefix", "theirs"]);
    let (theirs, their_key) = (bench.path("theirs.key"), bench.path("theirs.pub"));
    let (reference, file) = pushed(&bench, &registry, "store");
    let url = format!("oci://{reference}");
    for (secret, public) in [(&ours, &our_key), (&modern, &modern_key), (&theirs, &their_key)] {
        assert!(!bench.cosign_verifies(public, &reference), "{public}");
        assert_eq!(bench.ok(&["sign", &url, "--key", secret])["existed"], false);
        assert!(bench.cosign_verifies(public, &reference), "{public}");
        assert_eq!(bench.ok(&["sign", &url, "--key", secret])["existed"], true);
        assert_eq!(bench.ok(&["verify-signature", &url, "--key", public])["signed"], true);

        bench.ok(&["sign", &file, "--key", secret]);
        let bundle = format!("{file}.sigstore.json");
        bench.cosign(&["verify-blob", "--key", public, "--bundle", &bundle, "--insecure-ignore-tlog=true", &file]);
    }
    let listed = bench.ok(&["verify-signature", &url, "--key", &our_key]);
    assert_eq!(listed["signatures"], 3, "each is kept beside the others");
}

#[test]
fn what_cosign_signs_is_let_in() {
    let Some(registry) = registry() else { return };
    let bench = Bench::new();
    bench.cosign(&["generate-key-pair", "--output-key-prefix", "theirs"]);
    let key = bench.path("theirs.key");
    bench.configure(&bench.path("theirs.pub"), "");
    let daemon = Daemon::start(&bench.data);
    let (reference, file) = pushed(&bench, &registry, "store");
    let url = format!("oci://{reference}");
    let (reason, said) = denied(&daemon, &install(&url, "acme-store"));
    assert!(reason == "SIGNATURE_MISSING" && said.contains("none came with it"), "{said}");

    // The signature of another artifact is of no use for this one.
    let (other, _) = pushed(&bench, &registry, "other");
    bench.cosign_sign(&key, &other);
    let tag = |reference: &str| {
        let (name, digest) = reference.split_once('@').unwrap();
        format!("{name}:{}.sig", digest.replace(':', "-"))
    };
    if found("oras") {
        let mut copy = Command::new(tool("oras"));
        copy.env("HOME", bench.root.path()).args(["copy", "--from-plain-http", "--to-plain-http"]);
        let copied = copy.args([tag(&other), tag(&reference)]).output().unwrap();
        assert!(copied.status.success(), "{}", text(&copied.stderr));
        let (reason, said) = denied(&daemon, &install(&url, "acme-store"));
        assert!(reason == "SIGNATURE_MISSING" && said.contains("over other bytes"), "{said}");
    }
    bench.cosign_sign(&key, &reference);
    let installed = daemon.json(&install(&url, "acme-store"));
    assert!(installed["plugin"]["signer"].as_str().unwrap().starts_with("sha256:"), "{installed}");
    daemon.ok(&["plugin", "bind", "kv.store", "acme-store@1.0.0"]);
    daemon.stop();
    let daemon = Daemon::start(&bench.data);
    assert_eq!(daemon.bound("kv.store"), ["acme-store"]);

    // What cosign makes by default today: a statement that refers to the artifact.
    let (reference, _) = pushed(&bench, &registry, "stated");
    let offline = ["--tlog-upload=false", "--use-signing-config=false", "--allow-http-registry"];
    bench.cosign(&[&["sign", "--yes", "--key", &key][..], &offline, &[&reference]].concat());
    daemon.ok(&install(&format!("oci://{reference}"), "acme-stated"));

    // Files, with a bundle beside them and with a bare signature.
    let blob = ["sign-blob", "--yes", "--key", &key, "--tlog-upload=false", "--use-signing-config=false"];
    bench.cosign(&[&blob[..], &["--bundle", &format!("{file}.sigstore.json"), &file]].concat());
    daemon.ok(&install(&file, "acme-file"));
    let bare = bench.component("bare");
    bench.cosign(&[&blob[..], &["--new-bundle-format=false", "--output-signature", "bare.sig", &bare]].concat());
    let signature = bench.path("bare.sig");
    daemon.ok(&[&install(&bare, "acme-bare")[..], &["--signature", &signature]].concat());

    // Ed25519 as cosign signs it: over a digest of what is signed.
    assert!(bench.openssl(&["genpkey", "-algorithm", "ed25519", "-out", "plain.pem"]));
    bench.cosign(&["import-key-pair", "--yes", "--key", "plain.pem", "--output-key-prefix", "modern"]);
    bench.cosign_sign("modern.key", &other);
    let url = format!("oci://{other}");
    assert_eq!(bench.ok(&["verify-signature", &url, "--key", &bench.path("modern.pub")])["signed"], true);
    daemon.stop();
}

#[test]
fn openssl_agrees() {
    if !found("openssl") {
        return;
    }
    let bench = Bench::new();
    let file = bench.component("store");
    let bundle = format!("{file}.sigstore.json");
    for (name, make) in [
        ("curve", &["ecparam", "-name", "prime256v1", "-genkey", "-out", "curve.pem"][..]),
        ("pkcs8", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "pkcs8.pem"]),
        ("modern", &["genpkey", "-algorithm", "ed25519", "-out", "modern.pem"]),
    ] {
        let (secret, public) = (bench.path(&format!("{name}.pem")), bench.path(&format!("{name}.pub")));
        assert!(bench.openssl(make));
        assert!(bench.openssl(&["pkey", "-in", &secret, "-pubout", "-out", &public]));
        // Ours is good there.
        bench.ok(&["sign", &file, "--key", &secret]);
        let signed: Value = serde_json::from_slice(&fs::read(&bundle).unwrap()).unwrap();
        let signature = STANDARD.decode(signed["messageSignature"]["signature"].as_str().unwrap()).unwrap();
        fs::write(bench.path("signature"), signature).unwrap();
        let verify = |of: &str| match name {
            "modern" => bench.openssl(&[
                "pkeyutl",
                "-verify",
                "-pubin",
                "-inkey",
                &public,
                "-rawin",
                "-in",
                of,
                "-sigfile",
                "signature",
            ]),
            _ => bench.openssl(&["dgst", "-sha256", "-verify", &public, "-signature", "signature", of]),
        };
        assert!(verify(&file) && !verify("curve.pem"), "{name}");
        fs::remove_file(&bundle).unwrap();
        // Theirs is good here.
        let sign = match name {
            "modern" => {
                bench.openssl(&["pkeyutl", "-sign", "-inkey", &secret, "-rawin", "-in", &file, "-out", "theirs"])
            }
            _ => bench.openssl(&["dgst", "-sha256", "-sign", &secret, "-out", "theirs", &file]),
        };
        assert!(sign, "{name}");
        fs::write(bench.path("theirs.sig"), STANDARD.encode(fs::read(bench.path("theirs")).unwrap())).unwrap();
        let verified =
            bench.ok(&["verify-signature", &file, "--key", &public, "--signature", &bench.path("theirs.sig")]);
        assert_eq!(verified["signed"], true, "{name}");
    }
    assert!(bench.openssl(&["genpkey", "-algorithm", "RSA", "-out", "rsa.pem"]));
    assert_eq!(bench.refused(&["sign", &file, "--key", &bench.path("rsa.pem")]).0, "KEY_INVALID");
    assert!(bench.openssl(&["pkey", "-in", "pkcs8.pem", "-aes256", "-passout", "pass:x", "-out", "protected.pem"]));
    let (_, said) = bench.refused(&["sign", &file, "--key", &bench.path("protected.pem")]);
    assert!(said.contains("openssl pkey"), "{said}");
}
