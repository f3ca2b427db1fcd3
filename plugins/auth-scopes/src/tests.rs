//! Whole decisions: settings in, answers out.

use platform_sdk::{native::Facts, settings};

use super::*;

fn scopes(json: &str) -> Scopes {
    Scopes::configure(settings::parse(json).unwrap()).unwrap()
}

fn refused(json: &str) -> (String, String) {
    let problem = settings::parse(json).and_then(Scopes::configure).unwrap_err();
    (problem.message().to_owned(), problem.pointer().unwrap_or_default().to_owned())
}

fn ask(scopes: &Scopes, subject: &str, action: &str, target: &str) -> &'static str {
    ask_with(scopes, subject, action, target, &Facts::default())
}

fn ask_with(scopes: &Scopes, subject: &str, action: &str, target: &str, facts: &Facts) -> &'static str {
    match scopes.authorize(&Request::native(subject, action, target, facts)) {
        Decision::Allow(_) => "allow",
        Decision::Deny(_) => "deny",
        Decision::Abstain => "abstain",
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let scopes = scopes(
        r#"{"rules": [
            {"effect": "allow", "subjects": ["svc/*"], "methods": ["GET"], "paths": ["/orders/**"]},
            {"effect": "deny", "paths": ["/orders/**"]},
            {"effect": "allow", "roles": ["admin", "root"]}
        ]}"#,
    );
    assert_eq!(ask(&scopes, "svc/a", "GET", "/orders/1"), "allow");
    assert_eq!(ask(&scopes, "svc/a", "get", "/orders/1"), "allow");
    assert_eq!(ask(&scopes, "svc/a", "POST", "/orders/1"), "deny");
    assert_eq!(ask(&scopes, "", "GET", "/orders/1"), "deny");
    assert_eq!(ask(&scopes, "svc/a", "GET", "/other"), "abstain");
    assert_eq!(ask_with(&scopes, "eve", "GET", "/other", &Facts::default().role("root")), "allow");
}

#[test]
fn denials_come_first_when_they_override() {
    let rules = r#""rules": [
        {"effect": "allow", "resources": ["**"]},
        {"effect": "deny", "resources": ["/admin/**"]}
    ]"#;
    let first = scopes(&format!("{{{rules}}}"));
    let overrides = scopes(&format!(r#"{{"strategy": "deny-overrides", {rules}}}"#));
    assert_eq!(ask(&first, "a", "GET", "/admin/x"), "allow");
    assert_eq!(ask(&overrides, "a", "GET", "/admin/x"), "deny");
    assert_eq!(ask(&overrides, "a", "GET", "/x"), "allow");
}

#[test]
fn the_default_is_the_operators() {
    assert_eq!(ask(&scopes("{}"), "a", "GET", "/x"), "abstain");
    assert_eq!(ask(&scopes(r#"{"default": "deny"}"#), "a", "GET", "/x"), "deny");
}

#[test]
fn no_rule_sees_a_path_with_two_readings() {
    let scopes = scopes(r#"{"rules": [{"effect": "deny", "paths": ["/admin/**"]}, {"effect": "allow"}]}"#);
    for path in
        ["/x/../admin", "//admin", "/%61dmin", "/admin/", "/admin;a", "/x/%2e%2e/admin", "/admin%2f", "/x\\..\\admin"]
    {
        assert_eq!(ask(&scopes, "a", "GET", path), "deny", "{path}");
    }
    let facts = Facts::default();
    let Decision::Deny(deny) = scopes.authorize(&Request::native("a", "GET", "//admin", &facts)) else {
        unreachable!()
    };
    assert_eq!((deny.status, deny.reason.as_str()), (400, "the path has an empty segment"));
}

#[test]
fn nobody_is_no_subject_that_a_star_matches() {
    let scopes = scopes(r#"{"rules": [{"effect": "allow", "subjects": ["*"]}, {"effect": "deny", "subjects": [""]}]}"#);
    assert_eq!(ask(&scopes, "a", "GET", "/"), "allow");
    assert_eq!(ask(&scopes, "", "GET", "/"), "deny");
}

#[test]
fn says_why_and_sets_headers() {
    let scopes = scopes(
        r#"{"rules": [
            {"name": "own", "effect": "allow", "paths": ["/u/{subject}"], "set_headers": {"x-scope": "own"}},
            {"name": "rest", "effect": "deny", "reason": "not yours", "set_headers": {"x-why": "rest"}}
        ]}"#,
    );
    let facts = Facts::default();
    let Decision::Allow(allow) = scopes.authorize(&Request::native("al", "GET", "/u/al", &facts)) else {
        unreachable!()
    };
    assert_eq!(allow.reason, "allowed by the rule `own`");
    assert_eq!(allow.set_headers, [("x-scope".to_owned(), "own".to_owned())]);
    let Decision::Deny(deny) = scopes.authorize(&Request::native("al", "GET", "/u/bo", &facts)) else { unreachable!() };
    assert_eq!((deny.reason.as_str(), deny.status), ("not yours", 0));
    assert_eq!(deny.headers, [("x-why".to_owned(), "rest".to_owned())]);
}

#[test]
fn problems_point_to_the_setting() {
    for (json, pointer) in [
        (r#"{"rules": [{}]}"#, "/rules/0"),
        (r#"{"rules": [{"effect": "maybe"}]}"#, "/rules/0/effect"),
        (r#"{"rules": [{"effect": "allow"}, {"effect": "deny", "paths": ["/a", "/b//c"]}]}"#, "/rules/1/resources/1"),
        (r#"{"rules": [{"effect": "allow", "roles": []}]}"#, "/rules/0/roles"),
        (r#"{"rules": [{"effect": "allow", "set_headers": {"a b": "x"}}]}"#, "/rules/0/set_headers/a b"),
        (r#"{"rules": [{"effect": "allow", "set_headers": {"a": "x\r\ny: z"}}]}"#, "/rules/0/set_headers/a"),
        (r#"{"rules": [{"effect": "allow", "role": ["x"]}]}"#, "/rules/0/role"),
        (r#"{"defaults": "deny"}"#, "/defaults"),
    ] {
        let (message, at) = refused(json);
        assert_eq!(at, pointer, "{json}: {message}");
    }
}

#[test]
fn the_schema_is_json() {
    let schema: serde_json::Value = serde_json::from_str(include_str!("../settings.schema.json")).unwrap();
    assert_eq!(schema["properties"]["rules"]["items"]["required"][0], "effect");
}
