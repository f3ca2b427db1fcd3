//! Manifests, tags, pages and referrers, as the protocol has them.

use platform_runtime::Digest;
use serde_json::{Value, json};

use super::{MANIFEST, Market, PUBLISHER, manifest};

#[test]
fn manifests_tags_and_referrers_hold_together() {
    let market = Market::start("anonymous_pull = true");
    let put = |reference: &str, bytes: &[u8]| market.manifest("team/a", reference, bytes, &json!({}));
    let missing =
        market.push("PUT", "/v2/team/a/manifests/1.0.0", &[("content-type", MANIFEST)], &manifest(b"one", &json!({})));
    assert_eq!(missing.refusal(), (404, "MANIFEST_BLOB_UNKNOWN".to_owned()));
    assert_eq!(market.get("/v2/team/a/tags/list").refusal(), (404, "NAME_UNKNOWN".to_owned()));
    let one = Digest::of(&manifest(b"one", &json!({})));
    let first = put("1.0.0", b"one");
    assert_eq!((first.status, first.header("docker-content-digest")), (201, Some(one.to_string().as_str())));
    assert_eq!(put("1.0.0", b"one").status, 201, "the same again changes nothing");

    // Versions never move, other tags do.
    let moved = put("1.0.0", b"two");
    assert_eq!(moved.refusal(), (403, "DENIED".to_owned()));
    let said = moved.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(
        said.contains("`1.0.0`") && said.contains(&one.to_string()) && said.contains("publish another version"),
        "{said}"
    );
    assert_eq!(
        (put("latest", b"one").status, put("latest", b"two").status, put("v1.1.0", b"two").status),
        (201, 201, 201)
    );
    let (wrong, right) = (Digest::of(b""), Digest::of(&manifest(b"three", &json!({}))));
    assert_eq!(put(&wrong.to_string(), b"three").refusal(), (400, "DIGEST_INVALID".to_owned()));
    assert_eq!(put(&right.to_string(), b"three").status, 201);

    // Without a token one may pull here, and nothing else.
    let open = |method: &str, path: &str| market.ask("", method, path, &[], b"");
    assert_eq!((open("GET", "/v2/").status, open("POST", "/v2/team/a/blobs/uploads/").status), (401, 401));
    let by_tag = open("GET", "/v2/team/a/manifests/1.0.0");
    assert_eq!((by_tag.body.clone(), by_tag.header("content-type")), (manifest(b"one", &json!({})), Some(MANIFEST)));
    let head = open("HEAD", &format!("/v2/team/a/manifests/{one}"));
    let length = by_tag.body.len().to_string();
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some(length.as_str()), 0));
    assert_eq!(open("HEAD", "/v2/team/a/manifests/none").status, 404);

    pages(&market);
    referrers(&market, one, by_tag.body.len());

    // What is deleted is gone; a version stays taken.
    let admin = market.daemon.token();
    let delete = |token: &str, reference: &str| {
        market.ask(token, "DELETE", &format!("/v2/team/a/manifests/{reference}"), &[], b"")
    };
    assert_eq!((delete(PUBLISHER, "1.0.0").status, delete(&admin, &one.to_string()).status), (403, 202));
    assert_eq!(open("GET", "/v2/team/a/manifests/1.0.0").refusal(), (404, "MANIFEST_UNKNOWN".to_owned()));
    assert_eq!(market.get("/v2/team/a/tags/list").json()["tags"], json!(["all", "latest", "v1.1.0"]));
    assert_eq!(put("1.0.0", b"two").refusal(), (403, "DENIED".to_owned()));
    assert_eq!(put("1.0.0", b"one").status, 201, "what it was it may be again");
    assert_eq!((delete(&admin, "latest").status, delete(&admin, "latest").status), (202, 404));
    let blob = format!("/v2/team/a/blobs/{}", Digest::of(b"one"));
    assert_eq!(market.ask(&admin, "DELETE", &blob, &[], b"").refusal(), (405, "UNSUPPORTED".to_owned()));
    market.daemon.stop();
}

/// Tags and repositories, page by page.
fn pages(market: &Market) {
    let page = |path: &str| {
        let reply = market.get(path);
        let next =
            reply.header("link").map(|link| link.split_once('<').unwrap().1.split_once('>').unwrap().0.to_owned());
        (reply.json(), next)
    };
    assert_eq!(page("/v2/team/a/tags/list").0, json!({"name": "team/a", "tags": ["1.0.0", "latest", "v1.1.0"]}));
    let (tags, next) = page("/v2/team/a/tags/list?n=2");
    assert_eq!(tags["tags"], json!(["1.0.0", "latest"]));
    assert_eq!(page(&next.unwrap()), (json!({"name": "team/a", "tags": ["v1.1.0"]}), None));
    assert_eq!(page("/v2/team/a/tags/list?n=0").0["tags"], json!([]));
    assert_eq!(market.get("/v2/team/a/tags/list?n=-1").status, 400);
    market.manifest("b", "latest", b"b", &json!({}));
    assert_eq!(page("/v2/_catalog").0, json!({"repositories": ["b", "team/a"]}));
    let (names, next) = page("/v2/_catalog?n=1");
    assert_eq!((names, page(&next.unwrap()).0), (json!({"repositories": ["b"]}), json!({"repositories": ["team/a"]})));
}

/// What refers to a manifest, and an index that names it.
fn referrers(market: &Market, one: Digest, size: usize) {
    let open = |path: &str| market.ask("", "GET", path, &[], b"");
    let subject = json!({"mediaType": MANIFEST, "digest": one, "size": 1});
    for (kind, bytes) in [("application/x.report", &b"report"[..]), ("application/x.bill", b"bill")] {
        let more = json!({"subject": subject, "artifactType": kind, "annotations": {"of": kind}});
        let digest = Digest::of(&manifest(bytes, &more));
        let put = market.manifest("team/a", &digest.to_string(), bytes, &more);
        assert_eq!((put.status, put.header("oci-subject")), (201, Some(one.to_string().as_str())));
    }
    let all = open(&format!("/v2/team/a/referrers/{one}"));
    assert_eq!(all.header("content-type"), Some("application/vnd.oci.image.index.v1+json"));
    assert_eq!(all.json()["manifests"].as_array().unwrap().len(), 2);
    let some = open(&format!("/v2/team/a/referrers/{one}?artifactType=application/x.bill"));
    assert_eq!(some.header("oci-filters-applied"), Some("artifactType"));
    let found = some.json()["manifests"].clone();
    assert_eq!((found.as_array().unwrap().len(), &found[0]["annotations"]["of"]), (1, &json!("application/x.bill")));
    assert_eq!(open(&format!("/v2/none/referrers/{one}")).json()["manifests"], json!([]));

    // An index names manifests that are there.
    let entry = |digest: Digest, size: usize| json!({"mediaType": MANIFEST, "digest": digest, "size": size});
    let index = |entry: Value| json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();
    let index_type = [("content-type", "application/vnd.oci.image.index.v1+json")];
    let put_index = |body: &[u8]| market.push("PUT", "/v2/team/a/manifests/all", &index_type, body);
    assert_eq!(put_index(&index(entry(one, size))).status, 201);
    assert_eq!(put_index(&index(entry(one, 1))).refusal(), (400, "SIZE_INVALID".to_owned()));
    assert_eq!(put_index(&index(entry(Digest::of(b""), 0))).refusal(), (404, "MANIFEST_BLOB_UNKNOWN".to_owned()));
}
