//! The page in a real browser: by keyboard alone at the width of a phone, by the rules of accessibility, and with components that mean ill.

use std::{path::Path, process::Command};

use platform_testkit::tool;
use serde_json::json;

use super::{EVIL, manifest};
use crate::{market::Market, registry::found, support::text};

#[test]
fn the_page_works_by_keyboard_at_the_width_of_a_phone_and_runs_nothing() {
    if !["chromium", "playwright-library", "axe-library"].into_iter().all(found) {
        return;
    }
    let market = Market::start("anonymous_pull = true");
    market.publish("team/shop-store", "1.0.0", &manifest("1.0.0", &["kv", "network:cache.internal:6379"]));
    let evil = json!({
        "name": "evil", "version": "6.6.6", "slot": "kv.store", "description": EVIL, "license": EVIL,
        "source": "javascript:alert(1)", EVIL: 1, "grants": [],
    });
    market.publish("team/evil", "6.6.6", &evil);

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/market/page/browser.cjs");
    let library = std::fs::canonicalize(tool("axe-library")).unwrap();
    let modules = library.ancestors().find(|folder| folder.ends_with("node_modules")).unwrap();
    let output = Command::new("node")
        .arg(script)
        .env("NODE_PATH", modules)
        .env("CHROMIUM", tool("chromium"))
        .env("ADDRESS", &market.address)
        .env("TOKEN", market.daemon.token())
        .env("HOME", market.root.path())
        .output()
        .unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}\n{}", market.daemon.log());
    assert!(said.contains("all is well"), "{said}");
    let installed = market.installed();
    assert!(installed.contains(&"shop-store@1.0.0".to_owned()), "by keyboard: {installed:?}");
    market.daemon.stop();
}
