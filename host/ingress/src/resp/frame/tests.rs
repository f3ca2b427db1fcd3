//! Requests of any shape, cut in any way.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { arguments: 100, bytes: 1000 };

fn all(parser: &mut Parser, buffer: &mut BytesMut) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    while let Some(request) = parser.next(buffer, LIMITS)? {
        requests.push(request);
    }
    Ok(requests)
}

fn parse(bytes: &[u8]) -> Result<Vec<Request>> {
    all(&mut Parser::default(), &mut BytesMut::from(bytes))
}

fn text(requests: &[Request]) -> Vec<Vec<String>> {
    let word = |word: &Bytes| String::from_utf8_lossy(word).into_owned();
    requests.iter().map(|request| request.iter().map(word).collect()).collect()
}

#[test]
fn arrays_and_lines() {
    let requests =
        parse(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n\r\n*0\r\n*-1\r\n*1\r\n$0\r\n\r\nSET k  'a b'\n").unwrap();
    assert_eq!(text(&requests), [&["GET", "a"][..], &["PING"], &[""], &["SET", "k", "a b"]]);
    assert_eq!(parse(b"*1\r\n$4\r\nPIN"), Ok(vec![]));
    let quoted = parse(b"ECHO \"\\x41\\n\\\"\\q\" 'it\\'s' \"\"\r\n").unwrap();
    assert_eq!(text(&quoted), [["ECHO", "A\n\"q", "it's", ""]]);
}

#[test]
fn what_is_no_request_is_named() {
    for (bytes, malformed) in [
        (&b"*x\r\n"[..], Malformed::ArrayLength),
        (b"*+1\r\n", Malformed::ArrayLength),
        (b"*1\n", Malformed::ArrayLength),
        (b"*\r\n", Malformed::ArrayLength),
        (b"*101\r\n", Malformed::ArrayLength),
        (b"*99999999999999999999\r\n", Malformed::ArrayLength),
        (b"*1\r\n*1\r\n", Malformed::NotBulk(b'*')),
        (b"*1\r\n:1\r\n", Malformed::NotBulk(b':')),
        (b"*1\r\n$-1\r\n", Malformed::BulkLength),
        (b"*1\r\n$x\r\n", Malformed::BulkLength),
        (b"*1\r\n$1001\r\n", Malformed::Bytes(1000)),
        (b"*2\r\n$1\r\na\r\n$1000\r\n", Malformed::Bytes(1000)),
        (b"*1\r\n$1\r\nabc", Malformed::BulkEnd),
        (b"GET \"a\r\n", Malformed::Quotes),
        (b"GET 'a'b\r\n", Malformed::Quotes),
        (b"GET a\"b\"\r\n", Malformed::Quotes),
    ] {
        assert_eq!(parse(bytes), Err(malformed), "{}", bytes.escape_ascii());
    }
    assert_eq!(parse(&[b"*", &[b'1'; HEAD_BYTES][..]].concat()), Err(Malformed::Head));
    assert_eq!(parse(&vec![b'x'; INLINE_BYTES]), Err(Malformed::Inline));
}

#[test]
fn strangers_send_little() {
    let mut parser = Parser::default();
    let next = |parser: &mut Parser, bytes: &[u8]| parser.next(&mut BytesMut::from(bytes), Limits::STRANGER);
    assert_eq!(next(&mut parser, b"*11\r\n"), Err(Malformed::Stranger));
    assert_eq!(next(&mut parser, b"*1\r\n$16385\r\n"), Err(Malformed::Stranger));
}

#[test]
fn announced_bytes_are_told() {
    let mut parser = Parser::default();
    let mut buffer = BytesMut::from(&b"*2\r\n$3\r\nSET\r\n$900\r\nxx"[..]);
    assert_eq!(parser.next(&mut buffer, LIMITS), Ok(None));
    assert_eq!((parser.announced(), parser.is_within()), (903, true));
}

fn request() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..6)
}

fn encode(requests: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for request in requests {
        bytes.extend_from_slice(format!("*{}\r\n", request.len()).as_bytes());
        for argument in request {
            bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            bytes.extend_from_slice(argument);
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes
}

/// Parses bytes that arrive in pieces of these sizes, again and again.
fn in_pieces(bytes: &[u8], sizes: &[usize]) -> (Vec<Request>, Option<Malformed>) {
    let (mut parser, mut buffer, mut requests) = (Parser::default(), BytesMut::new(), Vec::new());
    let mut rest = bytes;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((*sizes.next().unwrap()).clamp(1, rest.len()));
        buffer.extend_from_slice(piece);
        rest = after;
        loop {
            match parser.next(&mut buffer, LIMITS) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(malformed) => return (requests, Some(malformed)),
            }
        }
    }
    (requests, None)
}

proptest! {
    #[test]
    fn requests_survive_any_cut(
        requests in prop::collection::vec(request(), 0..5), sizes in prop::collection::vec(1_usize..40, 1..8),
    ) {
        let (parsed, malformed) = in_pieces(&encode(&requests), &sizes);
        prop_assert_eq!(malformed, None);
        prop_assert_eq!(parsed, requests);
    }

    #[test]
    fn garbage_is_the_same_however_it_is_cut(
        bytes in "([*$][0-9-]{0,3}(\r\n)?|[a-z'\" ]{0,5}(\r\n)?|\\PC{0,4}){0,12}", sizes in prop::collection::vec(1_usize..9, 1..8),
    ) {
        let bytes = bytes.as_bytes();
        prop_assert_eq!(in_pieces(bytes, &sizes), in_pieces(bytes, &[bytes.len().max(1)]));
    }

    #[test]
    fn garbage_never_panics(bytes: Vec<u8>, sizes in prop::collection::vec(1_usize..9, 1..8)) {
        let _ = in_pieces(&bytes, &sizes);
    }
}
