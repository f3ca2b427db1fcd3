//! What the filter lets pass, drops and masks.

use platform_sdk::{
    event::{Candidate, Filter, Outcome},
    native,
};

use super::Discreet;

fn ask(kind: &str, data: &str, roles: &[&str]) -> Outcome {
    let filter = Discreet { types: vec!["order.*".to_owned()], ..Discreet::default() };
    let candidate = native::Candidate {
        content_type: "application/json".to_owned(),
        data: data.as_bytes().to_vec(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        ..native::Candidate::default()
    };
    filter.filter(&Candidate::native(kind, &candidate))
}

#[test]
fn drops_what_has_no_business_here() {
    assert!(matches!(ask("user.left", "{}", &[]), Outcome::Drop(why) if why == "`user.left` is no type of `orders`"));
    assert_eq!(ask("user.left", "{}", &["unfiltered"]), Outcome::Pass);
    assert!(matches!(ask("order.placed", "{", &[]), Outcome::Drop(_)));
}

#[test]
fn masks_members_wherever_they_are() {
    assert_eq!(ask("order.placed", r#"{"order":7}"#, &[]), Outcome::Pass);
    let Outcome::Transform(changed) = ask("order.placed", r#"{"to":[{"email":"a@b","name":"a"}]}"#, &[]) else {
        panic!("nothing was masked");
    };
    let (content_type, data) = changed.data.unwrap();
    assert_eq!(content_type, "application/json");
    assert_eq!(String::from_utf8(data).unwrap(), r#"{"to":[{"email":"***","name":"a"}]}"#);
    assert_eq!(changed.metadata, [("masked".to_owned(), Some("true".to_owned()))]);
}
