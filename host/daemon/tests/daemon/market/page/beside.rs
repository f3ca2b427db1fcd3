//! What lies beside a version, as its listing shows it.

use std::fs;

use super::super::{Market, READER};
use crate::support::plugins;

#[test]
fn a_listing_shows_how_it_fared_and_its_readme() {
    let market = Market::start("require_conformance = true");
    market.log_in();
    let readme = market.root.path().join("README.md");
    fs::write(&readme, "# A store\nKeeps what it is given.\n<img src=x onerror=alert(1)>\n").unwrap();
    let component = plugins().join("kv-memory.wasm");
    let at = format!("{}/team/store:1.0.0", market.address);
    market.plugin(&["push", component.to_str().unwrap(), &at, "--readme", readme.to_str().unwrap()]);
    let report = market.tried("team/store")["report"].clone();

    let reader = market.sign_in(READER);
    let listing = market.look(&reader, "/marketplace/c/team/store").html();
    let kept = format!("it keeps {} promises of its slot", report["kept"].as_str().unwrap());
    for told in [
        "<h2>Conformance</h2>",
        &kept,
        "<h2>Benchmark</h2>",
        "kv-memory: half of ",
        "KiB of memory",
        "<h2>README</h2>",
        "# A store\nKeeps what it is given.",
        "&lt;img src=x onerror=alert(1)&gt;",
        "<h2>Attached</h2>",
        "readme (text/markdown): sha256:",
        "yes: its interfaces agree",
    ] {
        assert!(listing.contains(told), "no `{told}` in {listing}");
    }
    assert!(!listing.contains("<img"), "{listing}");
    assert_eq!(market.look(&reader, "/marketplace/c/team/store").html(), listing, "the second look shows the same");
    market.daemon.stop();
}
