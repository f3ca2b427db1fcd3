//! What every component for `web.page` promises.

use bytes::Bytes;
use http::{Method, Request, StatusCode};

use crate::{
    Check, Checked, Failure, Subject, checks,
    outcome::{holds, same},
};

pub(crate) const SUITE: &[Check] = checks! {
    "answers" "every request gets a whole answer, also one for what is not there" answers,
    "hostile" "what makes no sense is the caller's mistake, and answered" hostile,
    "repeatable" "looking at a page twice shows the same" repeatable,
};

/// Below which path the page is asked, and the name that it is asked by.
const NAME: &str = "conformance";

async fn ask(
    subject: &Subject, method: Method, target: &str, body: &'static [u8],
) -> Result<(StatusCode, Bytes), Failure> {
    let request = Request::builder()
        .method(&method)
        .uri(target)
        .header("host", "localhost")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Bytes::from_static(body));
    let request = request.map_err(|error| Failure::new(format!("`{target}` makes no request: {error}")))?;
    let answer = subject.plane().page(NAME, &subject.call(), &request, &None).await;
    let answer = answer.map_err(|error| Failure::new(format!("{method} of `{target}` has no answer: {error}")))?;
    Ok((answer.status(), answer.into_body()))
}

async fn answers(subject: Subject) -> Checked {
    for target in ["/conformance/", "/conformance/nothing/is/here", "/conformance/?q=a&b"] {
        let (status, _) = ask(&subject, Method::GET, target, b"").await?;
        holds(status.as_u16() >= 200, &format!("the status of `{target}` is {status}"))?;
    }
    Ok(())
}

async fn hostile(subject: Subject) -> Checked {
    let long: &'static [u8] = &[b'%'; 32 << 10];
    for (method, target, body) in [
        (Method::GET, "/conformance/%", &b""[..]),
        (Method::GET, "/conformance/%ff%00?%ff=%00&=&&%", b""),
        (Method::GET, "/conformance/..%2f..%2fetc/passwd", b""),
        (Method::POST, "/conformance/", b"\xff\x00=&=&%zz"),
        (Method::POST, "/conformance/", long),
        (Method::DELETE, "/conformance/", b""),
    ] {
        let (status, _) = ask(&subject, method.clone(), target, body).await?;
        let is_mine = status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE;
        holds(!is_mine, &format!("{method} of `{target}` has the status {status}"))?;
    }
    Ok(())
}

async fn repeatable(subject: Subject) -> Checked {
    let first = ask(&subject, Method::GET, "/conformance/", b"").await?;
    let second = ask(&subject, Method::GET, "/conformance/", b"").await?;
    same(&second, &first, "the second look at `/conformance/`")
}
