//! The dependency rule: a crate uses only crates of lower layers, and a few foreign crates stay where they belong.
//!
//! What tests use is exempt: a test may look at anything.

use super::Finding;
use crate::workspace::{Package, Workspace};

/// The crates of the host, lowest first: each may use those before it.
const HOST: [&str; 17] = [
    "platform-author",
    "platform-base",
    "platform-document",
    "platform-storage",
    "platform-runtime",
    "platform-capability",
    "platform-dataplane",
    "platform-conformance",
    "platform-signing",
    "platform-control",
    "platform-webhook",
    "platform-registry",
    "platform-marketplace",
    "platform-proto",
    "platform-ingress",
    "platform-testkit",
    "platform-daemon",
];

/// Foreign crates that only some of ours may use, and why.
const CONFINED: [(&str, &[&str], &str); 4] = [
    (
        "anyhow",
        &["platform-daemon", "xtask", "platform-benches", "live-swap"],
        "libraries have typed errors; only programs may use it",
    ),
    ("fjall", &["platform-storage"], "storage engines stay behind the storage trait"),
    ("async-nats", &["platform-storage", "platform-benches"], "storage engines stay behind the storage trait"),
    ("axum", &["platform-ingress", "platform-daemon"], "only the front doors speak HTTP"),
];

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &workspace.packages {
        let place = format!("{}/Cargo.toml", package.folder);
        for used in package.uses.iter().filter(|used| workspace.package(used).is_some()) {
            if let Err(reason) = may_use(package, used) {
                findings.push(Finding::new(&place, format!("`{}` must not use `{used}`: {reason}", package.name)));
            }
        }
        for (foreign, allowed, reason) in CONFINED {
            if package.foreign.iter().any(|used| used == foreign) && !allowed.contains(&package.name.as_str()) {
                findings.push(Finding::new(&place, format!("`{}` must not use `{foreign}`: {reason}", package.name)));
            }
        }
        if package.folder.starts_with("host/") && package.platform.is_null() && layer(&package.name).is_none() {
            let message = format!("`{}` has no layer; give it its place in xtask/src/tidy/layers.rs", package.name);
            findings.push(Finding::new(&place, message));
        }
    }
    findings
}

fn layer(name: &str) -> Option<usize> {
    HOST.iter().position(|host| *host == name)
}

fn may_use(package: &Package, used: &str) -> Result<(), String> {
    if !package.platform.is_null() {
        let allowed = used == "platform-sdk";
        return if allowed { Ok(()) } else { Err("a guest knows the SDK alone".to_owned()) };
    }
    match (layer(&package.name), layer(used)) {
        (Some(own), Some(other)) if other < own => Ok(()),
        (Some(_), Some(_)) => Err("dependencies point to lower layers only".to_owned()),
        (Some(_), None) => Err("the host knows no crate outside of it".to_owned()),
        // Components are made alike here and at their authors'.
        (None, _) if package.name == "xtask" && used == "platform-author" => Ok(()),
        (None, _) if matches!(package.name.as_str(), "xtask" | "platform-sdk") => {
            Err("it knows no other crate of ours".to_owned())
        }
        (None, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::may_use;
    use crate::workspace::Package;

    fn package(name: &str, platform: serde_json::Value) -> Package {
        Package {
            id: String::new(),
            name: name.to_owned(),
            folder: String::new(),
            uses: Vec::new(),
            foreign: Vec::new(),
            platform,
        }
    }

    #[test]
    fn dependencies_point_down() {
        let runtime = package("platform-runtime", serde_json::Value::Null);
        assert!(may_use(&runtime, "platform-base").is_ok());
        assert!(may_use(&runtime, "platform-dataplane").is_err());
        assert!(may_use(&runtime, "platform-runtime").is_err());
        assert!(may_use(&runtime, "platform-sdk").is_err());
        let guest = package("kv-storage", serde_json::json!({ "target": "wasm32-unknown-unknown" }));
        assert!(may_use(&guest, "platform-sdk").is_ok());
        assert!(may_use(&guest, "platform-base").is_err());
        let example = package("live-swap", serde_json::Value::Null);
        assert!(may_use(&example, "platform-proto").is_ok());
    }
}
