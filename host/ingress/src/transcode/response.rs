//! From the answer of a method to an HTTP response.
//!
//! Owns JSON, newline-delimited JSON and server-sent events; must not know what the method does. Invariant: an error
//! before the first message has its HTTP status; one after it is the last thing in the stream, and says that it is one.

use bytes::{Buf, Bytes, BytesMut};
use futures::stream;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use platform_proto::json;
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage, SerializeOptions};
use tonic::{Status, body::Body};

use super::table::{Binding, Rpc};
use crate::fault::{self, Fault};

/// Bytes before each gRPC message: a flag and the length.
const PREFIX_BYTES: usize = 5;

/// Answers with the single message of `response`.
pub(crate) async fn unary(rpc: &Rpc, binding: &Binding, response: Response<Body>) -> Result<Response<Body>, Fault> {
    let mut messages = Messages::new(response)?;
    let message = messages.next().await?;
    let message = message.ok_or_else(|| Fault::from(Status::internal("the method answered nothing")))?;
    // The trailers may still hold an error.
    if messages.next().await?.is_some() {
        return Err(Status::internal("the method answered more than once").into());
    }
    let message = decode(rpc, message)?;
    let mut response = Response::default();
    let content_type = match &binding.response {
        Some(field) if binding.answers_raw() => {
            let value = message.get_field(field).as_bytes().cloned().unwrap_or_default();
            *response.body_mut() = fault::body(value);
            "application/octet-stream"
        }
        _ => {
            *response.body_mut() = fault::body(to_json(&message, rpc.answers_json)?);
            "application/json"
        }
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}

/// Answers with the messages of `response` as they come: server-sent events when `headers` ask for them, else one JSON
/// text on each line.
pub(crate) fn streaming(rpc: &Rpc, headers: &HeaderMap, response: Response<Body>) -> Result<Response<Body>, Fault> {
    let events =
        headers.get_all(header::ACCEPT).iter().any(|accept| accept.as_bytes().starts_with(b"text/event-stream"));
    let format = if events { Format::Events } else { Format::Lines };
    let (output, answers_json) = (rpc.output.clone(), rpc.answers_json);
    let messages = Some(Messages::new(response)?);
    let lines = stream::unfold(messages, move |messages| {
        let output = output.clone();
        async move {
            let mut messages = messages?;
            let line = match messages.next().await {
                Ok(Some(message)) => decode_as(&output, message).and_then(|message| to_json(&message, answers_json)),
                Ok(None) => return None,
                Err(fault) => Err(fault),
            };
            Some(match line {
                Ok(json) => (Ok::<_, Status>(Frame::data(format.message(&json))), Some(messages)),
                Err(fault) => (Ok(Frame::data(format.error(&fault))), None),
            })
        }
    });
    let mut response = Response::new(Body::new(StreamBody::new(lines)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Lines,
    Events,
}

impl Format {
    fn media_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
        }
    }

    fn message(self, json: &[u8]) -> Bytes {
        match self {
            Self::Lines => [json, b"\n"].concat().into(),
            Self::Events => [b"data: ", json, b"\n\n"].concat().into(),
        }
    }

    fn error(self, fault: &Fault) -> Bytes {
        let problem = serde_json::json!({ "error": fault.problem() }).to_string();
        match self {
            Self::Lines => format!("{problem}\n").into(),
            Self::Events => format!("event: error\ndata: {problem}\n\n").into(),
        }
    }
}

/// The messages in the body of a gRPC answer.
struct Messages {
    body: Body,
    buffer: BytesMut,
}

impl Messages {
    fn new(response: Response<Body>) -> Result<Self, Fault> {
        match Status::from_header_map(response.headers()) {
            Some(status) if status.code() != tonic::Code::Ok => Err(status.into()),
            _ => Ok(Self { body: response.into_body(), buffer: BytesMut::new() }),
        }
    }

    /// The next message, none at the end.
    ///
    /// # Errors
    /// What the trailers say, when it is not OK.
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            if let Some(message) = self.buffered() {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(Fault::from)?;
            match frame.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => {
                    let status = frame.trailers_ref().and_then(Status::from_header_map);
                    if let Some(status) = status.filter(|status| status.code() != tonic::Code::Ok) {
                        return Err(status.into());
                    }
                }
            }
        }
    }

    fn buffered(&mut self) -> Option<Bytes> {
        let mut prefix = self.buffer.get(..PREFIX_BYTES)?;
        prefix.advance(1);
        let length = prefix.get_u32() as usize;
        if self.buffer.len() < PREFIX_BYTES + length {
            return None;
        }
        self.buffer.advance(PREFIX_BYTES);
        Some(self.buffer.split_to(length).freeze())
    }
}

fn decode(rpc: &Rpc, message: Bytes) -> Result<DynamicMessage, Fault> {
    decode_as(&rpc.output, message)
}

fn decode_as(output: &MessageDescriptor, message: Bytes) -> Result<DynamicMessage, Fault> {
    DynamicMessage::decode(output.clone(), message)
        .map_err(|error| Status::internal(format!("the answer does not decode: {error}")).into())
}

/// JSON with every field that has a value or no way to be absent, so that answers have one shape.
fn to_json(message: &DynamicMessage, answers_json: bool) -> Result<Vec<u8>, Fault> {
    let options = SerializeOptions::new().skip_default_fields(false);
    let no_form = |error| Fault::from(Status::internal(format!("the answer has no JSON form: {error}")));
    if answers_json {
        let form = message.serialize_with_options(serde_json::value::Serializer, &options);
        let mut form = form.map_err(no_form)?;
        json::embed(&mut form, &message.descriptor());
        return serde_json::to_vec(&form).map_err(no_form);
    }
    let mut serializer = serde_json::Serializer::new(Vec::with_capacity(128));
    message.serialize_with_options(&mut serializer, &options).map_err(no_form)?;
    Ok(serializer.into_inner())
}

/// A gRPC body with one message.
pub(crate) fn frame(message: &DynamicMessage) -> Result<Bytes, Fault> {
    use prost::Message;
    let length = message.encoded_len();
    let prefix = u32::try_from(length).map_err(|_too_large| {
        let name = message.descriptor().name().to_owned();
        Fault::invalid("REQUEST_TOO_LARGE", format!("the `{name}` is larger than 4 GiB"))
    })?;
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + length);
    bytes.extend_from_slice(&[0]);
    bytes.extend_from_slice(&prefix.to_be_bytes());
    message.encode_raw(&mut bytes);
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use prost_reflect::{DescriptorPool, Value};

    use super::*;

    fn chunked(chunks: Vec<Bytes>, status: &Status) -> Response<Body> {
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers).unwrap();
        let frames = chunks.into_iter().map(Frame::data).chain([Frame::trailers(trailers)]);
        Response::new(Body::new(StreamBody::new(stream::iter(frames).map(Ok::<_, Status>))))
    }

    fn rpc() -> Rpc {
        let pool = DescriptorPool::decode(platform_proto::FILE_DESCRIPTOR_SET).unwrap();
        let method = pool.get_service_by_name("platform.kv.v1.Kv").unwrap().methods().next().unwrap();
        Rpc {
            path: String::new(),
            input: method.input(),
            output: method.output(),
            answers_json: false,
            descriptor: method,
        }
    }

    fn entry(key: &str) -> Bytes {
        let mut message = DynamicMessage::new(rpc().output);
        message.set_field_by_name("key", Value::String(key.to_owned()));
        frame(&message).unwrap()
    }

    async fn text(response: Response<Body>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn messages_come_in_any_pieces() {
        let whole = [entry("a"), entry("bb")].concat();
        for size in 1..whole.len() {
            let chunks = whole.chunks(size).map(Bytes::copy_from_slice).collect();
            let response = streaming(&rpc(), &HeaderMap::new(), chunked(chunks, &Status::ok(""))).unwrap();
            let expected = "{\"key\":\"a\",\"value\":\"\",\"revision\":\"0\"}\n{\"key\":\"bb\",\"value\":\"\",\"revision\":\"0\"}\n";
            assert_eq!(text(response).await, expected, "pieces of {size} bytes");
        }
    }

    #[tokio::test]
    async fn an_error_ends_the_stream() {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("text/event-stream"))]);
        let answer = chunked(vec![entry("a")], &Status::out_of_range("gone"));
        let text = text(streaming(&rpc(), &headers, answer).unwrap()).await;
        let events: Vec<_> = text.split("\n\n").collect();
        assert!(events[0].starts_with("data: {\"key\":\"a\""), "{text}");
        assert!(events[1].starts_with("event: error\ndata: {\"error\":{"), "{text}");
        assert!(events[1].contains("OUT_OF_RANGE"), "{text}");
    }

    #[tokio::test]
    async fn an_error_before_the_first_message_is_an_error() {
        let response = Status::not_found("no").into_http();
        let binding = Binding { request: crate::transcode::table::RequestBody::None, response: None };
        let fault = unary(&rpc(), &binding, response).await.unwrap_err();
        assert_eq!(fault.http_status(), 404);
        let fault = unary(&rpc(), &binding, chunked(vec![], &Status::aborted("no"))).await.unwrap_err();
        assert_eq!(fault.http_status(), 409);
    }
}
