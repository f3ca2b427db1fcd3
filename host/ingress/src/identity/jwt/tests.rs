//! Tokens signed with real keys, and what attackers make of them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW_S: u64 = 1_800_000_000;

macro_rules! testdata {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/", $name))
    };
}

const ED25519: &str = testdata!("ed25519.pub.pem");
const P256: &str = testdata!("p256.pub.pem");
const RSA: &str = testdata!("rsa2048.pub.pem");

fn key(algorithm: Algorithm, pem: &str) -> Key {
    Key { id: None, algorithm, pem: Some(pem.to_owned()), pem_file: None, jwk: None }
}

fn issuer(keys: Vec<Key>) -> Issuer {
    let text = json!({"issuer": "https://id.example", "audiences": ["shop"], "keys": []});
    Issuer { keys, ..serde_json::from_value(text).unwrap() }
}

fn all_keys() -> Vec<Key> {
    vec![key(Algorithm::EdDSA, ED25519), key(Algorithm::ES256, P256), key(Algorithm::RS256, RSA)]
}

fn verifier() -> Verifier {
    Verifier::new(&[issuer(all_keys())]).unwrap()
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example", "aud": ["shop", "other"], "sub": "alice", "exp": NOW_S + 600, "nbf": NOW_S - 5,
        "roles": ["buyer"], "realm": {"roles": "clerk admin"},
    })
}

fn sign_with(algorithm: jsonwebtoken::Algorithm, header: impl FnOnce(&mut Header), claims: &Value) -> String {
    let key = match algorithm {
        jsonwebtoken::Algorithm::EdDSA => EncodingKey::from_ed_pem(testdata!("ed25519.pem").as_bytes()),
        jsonwebtoken::Algorithm::ES256 => EncodingKey::from_ec_pem(testdata!("p256.pem").as_bytes()),
        _ => EncodingKey::from_rsa_pem(testdata!("rsa2048.pem").as_bytes()),
    };
    let mut head = Header::new(algorithm);
    header(&mut head);
    jsonwebtoken::encode(&head, claims, &key.unwrap()).unwrap()
}

fn sign(claims: &Value) -> String {
    sign_with(jsonwebtoken::Algorithm::EdDSA, |_| {}, claims)
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

#[test]
fn each_algorithm_verifies() {
    for algorithm in [jsonwebtoken::Algorithm::EdDSA, jsonwebtoken::Algorithm::ES256, jsonwebtoken::Algorithm::RS256] {
        let identity = verifier().verify(&sign_with(algorithm, |_| {}, &claims()), NOW_S).unwrap();
        assert_eq!(identity.caller.subject, "alice");
        assert!(identity.caller.roles.contains("buyer"));
        assert_eq!(identity.caller.claims["realm"]["roles"], "clerk admin");
        assert_eq!(identity.access, Access::Check);
        assert_eq!(identity.expires_s, Some(NOW_S + 630));
    }
}

#[test]
fn a_key_is_good_for_its_algorithm_only() {
    // The classic confusion: the public key's text as the secret of an HMAC.
    for public in [RSA, ED25519, P256] {
        for algorithm in [jsonwebtoken::Algorithm::HS256, jsonwebtoken::Algorithm::HS512] {
            let secret = EncodingKey::from_secret(public.as_bytes());
            let token = jsonwebtoken::encode(&Header::new(algorithm), &claims(), &secret).unwrap();
            assert_eq!(verifier().verify(&token, NOW_S).unwrap_err(), TokenError::Signature);
        }
    }
    // A good signature of the right key under an algorithm that the key is not configured for.
    for algorithm in [jsonwebtoken::Algorithm::RS384, jsonwebtoken::Algorithm::PS256] {
        let token = sign_with(algorithm, |_| {}, &claims());
        assert_eq!(verifier().verify(&token, NOW_S).unwrap_err(), TokenError::Signature);
    }
}

#[test]
fn unsigned_tokens_prove_nothing() {
    let body = URL_SAFE_NO_PAD.encode(claims().to_string());
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": none, "typ": "JWT"}).to_string());
        for signature in ["", "AAAA"] {
            let error = verifier().verify(&format!("{header}.{body}.{signature}"), NOW_S).unwrap_err();
            assert_eq!(error, TokenError::Header, "{none}");
        }
    }
    let signed = sign(&claims());
    let (unsigned, _) = signed.rsplit_once('.').unwrap();
    assert_eq!(verifier().verify(&format!("{unsigned}."), NOW_S).unwrap_err(), TokenError::Signature);
}

#[test]
fn times_have_leeway_and_no_more() {
    let verifier = verifier();
    for (claim, value, result) in [
        ("exp", json!(NOW_S - 29), Ok(())),
        ("exp", json!(NOW_S - 30), Err(TokenError::Expired)),
        ("exp", json!(NOW_S as f64 + 0.5), Ok(())),
        ("exp", json!("soon"), Err(TokenError::Claims)),
        ("exp", json!(-1), Err(TokenError::Claims)),
        ("exp", Value::Null, Err(TokenError::Claims)),
        ("exp", json!(1e300), Ok(())),
        ("nbf", json!(NOW_S + 30), Ok(())),
        ("nbf", json!(NOW_S + 31), Err(TokenError::NotYet)),
    ] {
        let outcome = verifier.verify(&sign(&with(claim, value.clone())), NOW_S).map(|_| ());
        assert_eq!(outcome, result, "{claim} {value}");
    }
    let mut endless = claims();
    endless.as_object_mut().unwrap().remove("exp");
    assert_eq!(verifier.verify(&sign(&endless), NOW_S).unwrap_err(), TokenError::Expired);
}

#[test]
fn issuer_audience_and_subject_have_to_fit() {
    let verifier = verifier();
    for (claim, value, error) in [
        ("iss", json!("https://evil.example"), TokenError::Issuer),
        ("iss", json!(["https://id.example"]), TokenError::Issuer),
        ("aud", json!("shop2"), TokenError::Audience),
        ("aud", json!("shop other"), TokenError::Audience),
        ("aud", json!({}), TokenError::Audience),
        ("sub", json!(""), TokenError::Claims),
        ("sub", json!(7), TokenError::Claims),
        ("roles", json!([7]), TokenError::Claims),
    ] {
        assert_eq!(verifier.verify(&sign(&with(claim, value)), NOW_S).unwrap_err(), error, "{claim}");
    }
    assert!(verifier.verify(&sign(&with("aud", json!("shop"))), NOW_S).is_ok());
}

#[test]
fn roles_and_namespaces_come_from_the_named_claims() {
    let issuer = Issuer {
        roles_claim: "realm.roles".into(),
        namespaces_claim: Some("spaces".into()),
        ..issuer(vec![key(Algorithm::EdDSA, ED25519)])
    };
    let verifier = Verifier::new(&[issuer]).unwrap();
    let identity = verifier.verify(&sign(&with("spaces", json!("dev staging"))), NOW_S).unwrap();
    assert!(identity.caller.roles.contains("clerk") && identity.caller.roles.contains("admin"));
    assert!(identity.namespaces.contains("staging") && !identity.namespaces.contains("default"));
    let identity = verifier.verify(&sign(&claims()), NOW_S).unwrap();
    assert!(identity.namespaces.contains("default") && !identity.namespaces.contains("staging"));
    assert_eq!(verifier.verify(&sign(&with("spaces", json!(["../a"]))), NOW_S).unwrap_err(), TokenError::Claims);
}

#[test]
fn headers_that_ask_for_more_are_refused() {
    let eddsa = jsonwebtoken::Algorithm::EdDSA;
    let critical = sign_with(eddsa, |header| header.crit = Some(vec!["exp".into()]), &claims());
    assert_eq!(verifier().verify(&critical, NOW_S).unwrap_err(), TokenError::Header);
    let logout = sign_with(eddsa, |header| header.typ = Some("logout+jwt".into()), &claims());
    assert_eq!(verifier().verify(&logout, NOW_S).unwrap_err(), TokenError::Header);
    let access = sign_with(eddsa, |header| header.typ = Some("at+JWT".into()), &claims());
    assert!(verifier().verify(&access, NOW_S).is_ok());
}

#[test]
fn a_key_with_an_id_signs_tokens_with_that_id() {
    let named = Key { id: Some("k1".into()), ..key(Algorithm::EdDSA, ED25519) };
    let verifier = Verifier::new(&[issuer(vec![named])]).unwrap();
    let eddsa = jsonwebtoken::Algorithm::EdDSA;
    assert!(verifier.verify(&sign_with(eddsa, |header| header.kid = Some("k1".into()), &claims()), NOW_S).is_ok());
    let other = sign_with(eddsa, |header| header.kid = Some("k2".into()), &claims());
    assert_eq!(verifier.verify(&other, NOW_S).unwrap_err(), TokenError::Signature);
}

#[test]
fn two_issuers_are_told_apart() {
    let other = Issuer { issuer: "https://other.example".into(), ..issuer(vec![key(Algorithm::EdDSA, ED25519)]) };
    let other = Issuer { access: Access::Data, ..other };
    let verifier = Verifier::new(&[issuer(all_keys()), other]).unwrap();
    assert_eq!(verifier.verify(&sign(&claims()), NOW_S).unwrap().access, Access::Check);
    let theirs = sign(&with("iss", json!("https://other.example")));
    assert_eq!(verifier.verify(&theirs, NOW_S).unwrap().access, Access::Data);
}

#[test]
fn json_web_keys_are_read() {
    let x = URL_SAFE_NO_PAD.encode(DecodingKey::from_ed_pem(ED25519.as_bytes()).unwrap().try_get_as_bytes().unwrap());
    let jwk = |value: Value| Key { pem: None, jwk: value.as_object().cloned(), ..key(Algorithm::EdDSA, "") };
    let good = jwk(json!({"kty": "OKP", "crv": "Ed25519", "x": x, "use": "sig"}));
    assert!(Verifier::new(&[issuer(vec![good])]).unwrap().verify(&sign(&claims()), NOW_S).is_ok());
    for bad in [
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "d": x}),
        json!({"kty": "oct", "k": x}),
        json!({"kty": "EC", "crv": "P-256", "x": x, "y": x}),
        json!({}),
    ] {
        let error = Verifier::new(&[issuer(vec![jwk(bad.clone())])]).unwrap_err();
        assert!(matches!(error, IssuerError::Key { .. }), "{bad}: {error}");
    }
}

#[test]
fn keys_that_do_not_fit_are_refused_at_start() {
    for (algorithm, pem, problem) in [
        (Algorithm::EdDSA, P256, ""),
        (Algorithm::ES256, ED25519, ""),
        (Algorithm::ES256, testdata!("p384.pub.pem"), "P-256"),
        (Algorithm::RS256, testdata!("rsa1024.pub.pem"), "2048"),
        (Algorithm::RS256, P256, ""),
        (Algorithm::EdDSA, testdata!("ed25519.pem"), "private"),
        (Algorithm::EdDSA, "no key", ""),
        (Algorithm::EdDSA, "", ""),
    ] {
        let error = Verifier::new(&[issuer(vec![key(algorithm, pem)])]).unwrap_err().to_string();
        assert!(error.contains(problem), "{algorithm:?}: {error}");
    }
    assert!(matches!(Verifier::new(&[issuer(vec![])]).unwrap_err(), IssuerError::NoKeys { .. }));
    let two = Key { pem_file: Some("x".into()), ..key(Algorithm::EdDSA, ED25519) };
    assert!(matches!(Verifier::new(&[issuer(vec![two])]).unwrap_err(), IssuerError::Place { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_changed_byte_goes_unnoticed(position in any::<prop::sample::Index>(), byte in 0_u8..128) {
        let token = sign(&claims());
        let mut changed = token.clone().into_bytes();
        let position = position.index(changed.len());
        changed[position] = byte;
        let changed = String::from_utf8(changed).unwrap();
        // The last character of a part carries spare bits; what decodes to the same bytes is the same token.
        let parts = |token: &str| token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).ok()).collect::<Vec<_>>();
        if changed != token && parts(&changed) != parts(&token) {
            prop_assert!(verifier().verify(&changed, NOW_S).is_err());
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = verifier().verify(&text, NOW_S);
        let _ = verifier().verify(&format!("{text}.{text}.{text}"), NOW_S);
    }
}
