//! What `config-file` makes of what it finds.

use platform_sdk::config::Source as _;
use serde_json::json;

use super::*;

#[test]
fn every_format_says_the_same() {
    let expected = json!({"limits": {"requests": 5}, "on": true});
    assert_eq!(read(Format::Json, r#"{"limits": {"requests": 5}, "on": true}"#), Ok(expected.clone()));
    assert_eq!(read(Format::Toml, "on = true\n[limits]\nrequests = 5\n"), Ok(expected.clone()));
    assert_eq!(read(Format::Yaml, "limits:\n  requests: 5\non: true\n"), Ok(expected));
}

#[test]
fn files_are_named_like_configurations_and_others_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("shop.yaml", "a: 1");
    write("bank.json", "{}");
    write("README.md", "# not one");
    write(".hidden.json", "no");
    let mut source = Directory { directory: folder.path().to_owned() };
    let ids = |source: &mut Directory| -> Result<Vec<String>, String> {
        Ok(source.load()?.into_iter().map(|document| document.id).collect())
    };
    assert_eq!(ids(&mut source), Ok(vec!["bank".to_owned(), "shop".to_owned()]));
    write("half.json", "{\"a\": ");
    let why = ids(&mut source).unwrap_err();
    assert!(why.contains("half.json"), "{why}");
    fs::rename(folder.path().join("half.json"), folder.path().join("a b.json")).unwrap();
    let why = ids(&mut source).unwrap_err();
    assert!(why.contains("a b.json"), "{why}");
}

#[test]
fn a_directory_that_is_not_there_says_what_to_grant() {
    let why = Directory { directory: "/nowhere/at/all".into() }.load().unwrap_err();
    assert!(why.contains("`files:/nowhere/at/all`"), "{why}");
    assert!(Directory::configure(Directory { directory: "etc".into() }).is_err());
}
