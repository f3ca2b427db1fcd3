//! One request over the host's HTTP (`wasi:http`).

use wasip2::{
    http::{
        outgoing_handler,
        types::{Fields, IncomingBody, IncomingResponse, Method, OutgoingRequest, RequestOptions, Scheme},
    },
    io::streams::StreamError,
};

use crate::{Answer, Settings, Target};

/// Largest answer, in bytes.
const BYTES_MAX: usize = 4 << 20;

pub(crate) fn get(target: &Target, settings: &Settings, tag: Option<&str>) -> Result<Answer, String> {
    let headers = Fields::new();
    let add = |name: &str, value: &str| {
        headers.append(name, value.as_bytes()).map_err(|error| format!("the header `{name}` can't be sent: {error}"))
    };
    add("accept", "application/json")?;
    for (name, value) in &settings.headers {
        add(name, value)?;
    }
    if let Some(tag) = tag {
        add("if-none-match", tag)?;
    }
    let request = OutgoingRequest::new(headers);
    let wrong = |()| "the URL makes no request".to_owned();
    request.set_method(&Method::Get).map_err(wrong)?;
    request.set_scheme(Some(&if target.is_secure { Scheme::Https } else { Scheme::Http })).map_err(wrong)?;
    request.set_authority(Some(&target.authority)).map_err(wrong)?;
    request.set_path_with_query(Some(&target.path)).map_err(wrong)?;
    let options = RequestOptions::new();
    let nanoseconds = settings.timeout_ms.saturating_mul(1_000_000);
    let untimed = |()| "a request can't be given a time".to_owned();
    options.set_connect_timeout(Some(nanoseconds)).map_err(untimed)?;
    options.set_first_byte_timeout(Some(nanoseconds)).map_err(untimed)?;
    options.set_between_bytes_timeout(Some(nanoseconds)).map_err(untimed)?;
    let failed = |error| format!("it can't be asked: {error}");
    let coming = outgoing_handler::handle(request, Some(options)).map_err(failed)?;
    coming.subscribe().block();
    match coming.get() {
        Some(Ok(Ok(response))) => read(&response),
        Some(Ok(Err(error))) => Err(failed(error)),
        _ => Err("no answer came".to_owned()),
    }
}

fn read(response: &IncomingResponse) -> Result<Answer, String> {
    let tag = response.headers().get("etag").into_iter().next().and_then(|tag| String::from_utf8(tag).ok());
    let status = response.status();
    let incoming: IncomingBody = response.consume().map_err(|()| "the answer has no body".to_owned())?;
    let stream = incoming.stream().map_err(|()| "the answer has no body".to_owned())?;
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(bytes) => body.extend(bytes),
            Err(StreamError::Closed) => return Ok(Answer { status, tag, body }),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(format!("the answer broke off: {}", error.to_debug_string()));
            }
        }
        if body.len() > BYTES_MAX {
            return Err(format!("the answer has more than {BYTES_MAX} bytes"));
        }
    }
}
