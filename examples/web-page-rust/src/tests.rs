//! What the page shows, and to whom.

use platform_sdk::{context::Caller, native, settings, web::Body};

use super::*;

/// Status and text of what is answered.
fn ask(method: &str, path: &str) -> (u16, String) {
    let page = Greeter::configure(settings::parse(r#"{"greeting": "Good <day>"}"#).unwrap()).unwrap();
    let request = Request { method: method.to_owned(), path: path.to_owned(), ..Request::default() };
    let answer = page.answer(&request);
    let Body::Whole(body) = answer.body else { unreachable!() };
    (answer.status, String::from_utf8(body).unwrap())
}

#[test]
fn greets_whoever_looks_and_escapes_what_it_shows() {
    let (status, text) = ask("GET", "/hello/");
    assert!(status == 200 && text.contains("whoever you are"), "{text}");
    native::set_caller(Some(Caller { subject: "<b>alice</b>".to_owned(), roles: Vec::new() }));
    let (_, text) = ask("GET", "/hello/");
    assert!(text.contains("Good &lt;day&gt;, <strong>&lt;b&gt;alice&lt;/b&gt;</strong>!"), "{text}");
}

#[test]
fn what_is_not_there_is_told() {
    assert_eq!(ask("GET", "/hello/style.css").1, STYLE);
    assert_eq!(ask("GET", "/hello/elsewhere").0, 404);
    assert_eq!(ask("POST", "/hello/").0, 405);
    let Err(problem) = Greeter::configure(Greeter { greeting: " ".to_owned() }) else { unreachable!() };
    assert_eq!(problem.pointer(), Some("/greeting"));
}
