//! What is said about components that were made for other interfaces than the host's.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that can't go on has failed, and what it prints is for whoever looks into that"
)]

use platform_runtime::difference::{self, differences};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata, metadata};
use wit_parser::{ManglingAndAbi, Resolve};

const OURS: &str = "
    package platform:kv@0.1.0;
    interface types {
        record entry { value: list<u8>, revision: u64 }
        variant error { conflict(u64), quota(string), other(string) }
        enum level { low, high }
        resource request { header: func(name: string) -> option<string>; }
    }
    interface store {
        use types.{entry, error, level, request};
        get: func(key: string) -> result<option<entry>, error>;
        increment: func(key: string, by: s64) -> result<s64, error>;
        look: func(request: borrow<request>, level: level) -> bool;
    }
    world host { import types; import store; }
";

fn expected() -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("host.wit", OURS).unwrap();
    let world = resolve.select_world(&[package], Some("host")).unwrap();
    metadata::encode(&resolve, world, StringEncoding::UTF8, None, false).unwrap()
}

/// A component for the world `plugin` of `wit`; its functions trap.
fn component(wit: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("guest.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some("plugin")).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

/// Our own interfaces with `from` replaced, imported or exported.
fn changed(from: &str, to: &str, world: &str) -> Vec<String> {
    let wit = OURS.replace(from, to).replace("world host { import types; import store; }", world);
    assert!(from.is_empty() || wit != OURS.replace("world host { import types; import store; }", world), "{from}");
    sentences(&component(&wit))
}

fn sentences(guest: &[u8]) -> Vec<String> {
    differences(guest, &expected()).unwrap().iter().map(ToString::to_string).collect()
}

const EXPORT: &str = "world plugin { export store; }";
const IMPORT: &str = "world plugin { import store; export run: func(); }";

#[test]
fn equal_interfaces_have_no_differences() {
    assert_eq!(changed("", "", EXPORT), Vec::<String>::new());
    assert_eq!(changed("", "", IMPORT), Vec::<String>::new());
    assert_eq!(
        changed("kv@0.1.0", "kv@0.1.4", IMPORT),
        Vec::<String>::new(),
        "a compatible version is compared by type"
    );
}

#[test]
fn another_version_is_named_with_ours() {
    for (version, sentence) in [
        ("0.2.0", "`platform:kv/store@0.2.0` is newer than this platform, which offers 0.1.0"),
        ("0.0.9", "`platform:kv/store@0.0.9` is older than this platform, which offers 0.1.0"),
    ] {
        let found = changed("kv@0.1.0", &format!("kv@{version}"), EXPORT);
        assert!(found.iter().any(|found| found == sentence), "{found:?}");
    }
}

#[test]
fn functions_that_differ_are_named() {
    assert_eq!(
        changed("get: func(key: string)", "get: func(key: list<u8>)", EXPORT),
        ["function `get` of `platform:kv/store@0.1.0`: parameter `key` is `list<u8>`, expected `string`"]
    );
    assert_eq!(
        changed(
            "get: func(key: string) -> result<option<entry>, error>",
            "get: func(key: string) -> option<entry>",
            IMPORT
        ),
        [
            "function `get` of `platform:kv/store@0.1.0`: the result is `option<entry>`, expected `result<option<entry>, error>`"
        ]
    );
    assert_eq!(
        changed("by: s64)", ")", EXPORT),
        ["function `increment` of `platform:kv/store@0.1.0` takes 1 parameters, expected 2: `key: string`, `by: s64`"]
    );
    assert_eq!(
        changed("look: func(request:", "look: func(asked:", EXPORT),
        ["function `look` of `platform:kv/store@0.1.0`: a parameter is called `asked`, expected `request`"]
    );
}

#[test]
fn a_function_may_be_missing_from_imports_but_not_from_exports() {
    let increment = "increment: func(key: string, by: s64) -> result<s64, error>;";
    assert_eq!(changed(increment, "", EXPORT), ["`platform:kv/store@0.1.0` misses function `increment`"]);
    assert_eq!(changed(increment, "", IMPORT), Vec::<String>::new());
    let more = format!("{increment} swap: func();");
    assert_eq!(changed(increment, &more, EXPORT), Vec::<String>::new());
    assert_eq!(
        changed(increment, &more, IMPORT),
        ["it imports the function `swap` of `platform:kv/store@0.1.0`, which this platform does not offer"]
    );
}

#[test]
fn cases_and_fields_that_differ_are_named() {
    let lacks = "variant `error` of `platform:kv/types@0.1.0` lacks case `quota`";
    let found = changed("quota(string), ", "", IMPORT);
    assert!(found.iter().any(|found| found == lacks), "{found:?}");
    let found = changed("quota(string), ", "", EXPORT);
    assert!(found.iter().any(|found| found == lacks), "{found:?}");

    let found = changed("revision: u64", "revision: u32, ttl: u32", IMPORT);
    let has = "record `entry` of `platform:kv/types@0.1.0` has field `ttl`, which this platform does not know";
    assert!(found.iter().any(|found| found == has), "{found:?}");
    let found = changed("revision: u64", "revision: u32", IMPORT);
    let differs = "record `entry` of `platform:kv/types@0.1.0`: field `revision` is `u32`, expected `u64`";
    assert!(found.iter().any(|found| found == differs), "{found:?}");
    let found = changed("low, high", "high, low", IMPORT);
    let order = "enum `level` of `platform:kv/types@0.1.0` has its cases in another order, expected low, high";
    assert!(found.iter().any(|found| found == order), "{found:?}");
    let found = changed("enum level { low, high }", "type level = u32;", IMPORT);
    assert!(found.iter().any(|found| found.contains("`level`")), "{found:?}");
}

#[test]
fn methods_and_interfaces_unknown_to_the_host_are_named() {
    let found = changed("header: func(name: string) -> option<string>;", "body: func() -> list<u8>;", IMPORT);
    let method =
        "it imports the function `request.body` of `platform:kv/types@0.1.0`, which this platform does not offer";
    assert!(found.iter().any(|found| found == method), "{found:?}");
    let found = sentences(&component(
        "package platform:blob@0.1.0; interface store { put: func(); } world plugin { import store; }",
    ));
    assert_eq!(found, ["`platform:blob/store@0.1.0` is no interface of this platform"]);
    let found = sentences(&component(
        "package other:kv@0.1.0; interface store { put: func(); } world plugin { import store; }",
    ));
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn many_differences_are_cut() {
    let functions: String = (0..500).map(|number| format!("more-{number}: func();")).collect();
    let found = changed("interface store {", &format!("interface store {{ {functions}"), IMPORT);
    assert_eq!(found.len(), 24);
}

#[test]
fn broken_components_are_errors_and_never_panics() {
    let expected = expected();
    let component = component(&OURS.replace("world host { import types; import store; }", EXPORT));
    // A cut between two sections leaves a smaller component; every other one is an error.
    let refused = (0..component.len()).filter(|length| differences(&component[..*length], &expected).is_err()).count();
    assert!(refused > component.len() * 9 / 10, "{refused} of {}", component.len());
    for position in 0..component.len() {
        let mut flipped = component.clone();
        flipped[position] ^= 0x41;
        // Some flips leave a valid component; what matters is that each gets an answer.
        drop(differences(&flipped, &expected));
    }
    assert!(matches!(differences(&component, b"\0asm\x0d\0\x01\0"), Err(difference::Error::Expected)));
    assert!(matches!(differences(b"\0asm\x01\0\0\0", &expected), Err(difference::Error::Module)));
}
