//! What `config-env` makes of what it finds.

use serde_json::json;

use super::*;

fn document(variables: &[(&str, &str)]) -> Result<Value, String> {
    let source = Variables { id: "shop".into(), prefix: "SHOP_".into(), separator: separator() };
    source.document(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

#[test]
fn names_become_places_and_values_what_they_are() {
    let variables = [
        ("SHOP_DATABASE__HOST", "db1"),
        ("SHOP_DATABASE__PORT", "5432"),
        ("SHOP_OPEN", "true"),
        ("SHOP_LIST", "[1, 2]"),
        ("SHOP_NAME", "the \"shop\""),
        ("OTHER", "1"),
    ];
    let expected = json!({
        "database": {"host": "db1", "port": 5432}, "open": true, "list": [1, 2], "name": "the \"shop\"",
    });
    assert_eq!(document(&variables), Ok(expected));
    assert_eq!(document(&[]), Ok(json!({})));
}

#[test]
fn a_value_is_no_place_for_others() {
    let why = document(&[("SHOP_A", "1"), ("SHOP_A__B", "2")]).unwrap_err();
    assert!(why.contains("`SHOP_A__B`"), "{why}");
    let why = document(&[("SHOP_a", "1"), ("SHOP_A", "2")]).unwrap_err();
    assert!(why.contains("`SHOP_a`"), "{why}");
}
