//! What keeps the daemon from starting: one sentence, an exit code, and nothing damaged.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt};

use crate::support::{Daemon, place, plugins, refused, text};

#[test]
fn a_port_in_use() {
    let (_root, data) = place();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let complaint = refused(3, &["--data-dir", data.to_str().unwrap(), "--server-address", &address]);
    assert!(
        complaint.contains(&format!("`{address}`")) && complaint.contains("another process listens there"),
        "{complaint}"
    );
    assert!(!data.join("address").exists());
}

#[test]
fn an_address_that_is_none() {
    let (_root, data) = place();
    for address in ["localhost", "127.0.0.1", "127.0.0.1:99999", "", "http://127.0.0.1:0"] {
        let complaint = refused(2, &["--data-dir", data.to_str().unwrap(), &format!("--server-address={address}")]);
        assert!(complaint.contains("HOST:PORT"), "{address}: {complaint}");
    }
    let complaint = refused(3, &["--data-dir", data.to_str().unwrap(), "--server-address", "192.0.2.1:1"]);
    assert!(complaint.contains("this machine has no such address"), "{complaint}");
}

#[test]
fn a_data_directory_in_use() {
    let (_root, data) = place();
    let daemon = Daemon::start(&data);
    let address = daemon.address();
    let complaint = refused(4, &["--data-dir", data.to_str().unwrap(), "--server-address", "127.0.0.1:0"]);
    assert!(complaint.contains("in use by process"), "{complaint}");
    assert_eq!(daemon.address(), address, "the one that runs is still found");
    daemon.ok(&["kv", "put", "still", "here"]);
    daemon.stop();
}

#[test]
fn a_data_directory_that_can_not_be_one() {
    let (root, _) = place();
    let file = root.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let complaint = refused(4, &["--data-dir", file.to_str().unwrap()]);
    assert!(complaint.contains(&format!("`{}`", file.display())), "{complaint}");

    let sealed = root.path().join("sealed");
    fs::create_dir(&sealed).unwrap();
    fs::set_permissions(&sealed, fs::Permissions::from_mode(0o500)).unwrap();
    // The superuser may write anywhere.
    if fs::write(sealed.join("probe"), "").is_err() {
        let complaint = refused(4, &["--data-dir", sealed.to_str().unwrap()]);
        assert!(complaint.contains("may write to"), "{complaint}");
    }
}

#[test]
fn an_unknown_configuration_key() {
    let (_root, data) = place();
    fs::create_dir_all(&data).unwrap();
    let file = data.join("platform.toml");
    fs::write(&file, "[server]\nadress = \"127.0.0.1:0\"\n").unwrap();
    let complaint = refused(2, &["--data-dir", data.to_str().unwrap()]);
    let expected = format!("`{}` line 2 column 1: unknown key `adress`; did you mean `address`?", file.display());
    assert!(complaint.contains(&expected), "{complaint}");
    assert!(!data.join("storage").exists(), "nothing was started");

    let checked = crate::support::platform().args(["config", "check"]).arg(&file).output().unwrap();
    assert_eq!(checked.status.code(), Some(2));
    assert!(text(&checked.stderr).contains(&expected));
}

#[test]
fn certificates_that_can_not_be_used() {
    let (root, data) = place();
    let file = root.path().join("ca.pem");
    fs::write(&file, "no certificate").unwrap();
    let (data, file) = (data.to_str().unwrap(), file.to_str().unwrap());
    let complaint = refused(2, &["--data-dir", data, "--tls-ca-file", file]);
    assert!(complaint.contains("`tls.ca_files`") && complaint.contains(&format!("`{file}`")), "{complaint}");
    let port = ["--data-dir", data, "--server-address", "127.0.0.1:0", "--resp-address", "127.0.0.1:0"];
    let complaint = refused(2, &[&port[..], &["--resp-tls-certificate-file", file]].concat());
    assert!(complaint.contains("`tls_certificate_file` and `tls_key_file` go together"), "{complaint}");
    let both = ["--resp-tls-certificate-file", file, "--resp-tls-key-file", file];
    let complaint = refused(2, &[&port[..], &both].concat());
    assert!(complaint.contains(&format!("`{file}` can't be used")), "{complaint}");
}

#[test]
fn files_that_are_not_there() {
    let (_root, data) = place();
    let data = data.to_str().unwrap();
    let complaint = refused(2, &["--data-dir", data, "--config", "/nowhere/platform.toml"]);
    assert!(complaint.contains("`/nowhere/platform.toml`"), "{complaint}");
    let complaint = refused(2, &["--data-dir", data, "--plugins-dir", "/nowhere/plugins"]);
    assert!(complaint.contains("`/nowhere/plugins`"), "{complaint}");
    let complaint = refused(2, &["--data-dir", data, "--log", "platform=loud"]);
    assert!(complaint.contains("`platform=loud`"), "{complaint}");
}

#[test]
fn a_client_without_a_daemon() {
    let (_root, data) = place();
    let run = |arguments: &[&str]| {
        let output = crate::support::platform().args(arguments).output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    let (code, complaint) = run(&["--data-dir", data.to_str().unwrap(), "kv", "get", "a"]);
    assert_eq!(code, Some(3));
    assert!(complaint.contains("platform server --data-dir"), "{complaint}");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (code, complaint) = run(&["--address", &closed, "kv", "get", "a"]);
    assert_eq!(code, Some(3));
    assert!(complaint.contains(&closed) && complaint.contains("connection refused"), "{complaint}");
    let (code, complaint) = run(&["--address", &closed, "--output", "json", "auth", "check", "GET", "/"]);
    assert_eq!(code, Some(2), "nobody decided");
    let error: serde_json::Value = serde_json::from_str(&complaint).unwrap();
    assert_eq!(error["error"]["reason"], "UNREACHABLE");
    let (code, _) = run(&["kv", "got", "a"]);
    assert_eq!(code, Some(2));
}

#[test]
fn a_token_that_is_none() {
    let (root, data) = place();
    let daemon = Daemon::start(&data);
    let wrong = root.path().join("wrong.token");
    fs::write(&wrong, "0123456789abcdef0123456789abcdef\n").unwrap();
    daemon.fails(4, &["--token-file", wrong.to_str().unwrap(), "kv", "get", "a"]);
    daemon.fails(4, &["--token-file", "/nowhere/token", "kv", "get", "a"]);
    let address = daemon.address().unwrap();
    let output = crate::support::platform().args(["--address", &address, "plugin", "list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    daemon.stop();
}

#[test]
fn what_is_no_component_leaves_nothing() {
    let (root, data) = place();
    let daemon = Daemon::start(&data);
    let before = daemon.json(&["plugin", "list"]);
    let good = fs::read(plugins().join("kv-memory.wasm")).unwrap();
    let cases: [(&str, &[u8]); 4] = [
        ("text", b"hello"),
        ("truncated", &good[..good.len() / 2]),
        ("zeros", &[0; 1 << 20]),
        ("core", b"\0asm\x01\0\0\0"),
    ];
    for (name, bytes) in cases {
        let file = root.path().join(name);
        fs::write(&file, bytes).unwrap();
        daemon.fails(2, &["plugin", "install", file.to_str().unwrap(), "--name", "bad", "--version", "1.0.0"]);
    }
    let empty = root.path().join("empty");
    fs::write(&empty, b"").unwrap();
    daemon.fails(2, &["plugin", "install", empty.to_str().unwrap()]);
    daemon.fails(
        2,
        &[
            "plugin",
            "install",
            plugins().join("kv-memory.wasm").to_str().unwrap(),
            "--name",
            "../x",
            "--version",
            "1.0.0",
        ],
    );
    assert_eq!(daemon.json(&["plugin", "list"]), before);
    daemon.stop();
}
