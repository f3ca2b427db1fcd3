//! What gateways ask, and what clients behind them try, against a real policy.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't be set up has failed"
)]

#[path = "support/server.rs"]
mod server;

use std::collections::HashMap;

use envoy_types::{
    ext_authz::v3::pb::{CheckRequest, CheckResponse, HttpResponse},
    pb::envoy::service::auth::v3::{
        AttributeContext,
        attribute_context::{self, HttpRequest},
        authorization_client::AuthorizationClient,
    },
};
use serde_json::json;
use server::{Answer, SERVICE, Server, USER, config, with};

/// Everybody may read `/public`, buyers may use `/orders`, nobody else anything.
async fn start() -> Server {
    let server = Server::start(config()).await;
    let rules = json!({"rules": [
        {"effect": "allow", "actions": ["GET"], "resources": ["/public/**"]},
        {"effect": "allow", "roles": ["buyer"], "resources": ["/orders/**"], "set_headers": {"x-tenant": "t1"}},
    ]});
    server.bind("auth.policy", "auth-scopes", rules).await;
    server
}

async fn nginx(server: &Server, method: &str, uri: &str, more: &[(&str, &str)], token: &str) -> Answer {
    let mut headers = vec![("x-original-method", method), ("x-original-uri", uri)];
    headers.extend_from_slice(more);
    server.http("GET", "/forward-auth?gateway=nginx", &headers, b"", token).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_gets_200_401_and_403() {
    let server = start().await;
    assert_eq!(nginx(&server, "GET", "/public/a?b=c", &[], "").await.status, 200);
    let anonymous = nginx(&server, "GET", "/orders/7", &[], "").await;
    assert_eq!((anonymous.status, anonymous.header("www-authenticate")), (401, Some("Bearer")));
    let allowed = nginx(&server, "POST", "/orders/7", &[], USER).await;
    assert_eq!(allowed.status, 200, "{}", allowed.text());
    assert_eq!(allowed.header("x-platform-subject"), Some("alice"));
    assert_eq!(allowed.header("x-platform-roles"), Some("buyer"));
    assert_eq!(nginx(&server, "POST", "/orders/7", &[], SERVICE).await.status, 403);
    let forged = nginx(&server, "GET", "/public/a", &[], "forged").await;
    assert_eq!(forged.status, 401, "a token that does not verify is refused even where none is needed");
    assert!(forged.header("www-authenticate").unwrap().contains("invalid_token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_inject_nothing() {
    let server = start().await;
    // Identity that the client claims is overwritten with nothing.
    let claimed = nginx(&server, "GET", "/public/a", &[("x-platform-subject", "admin")], "").await;
    assert_eq!((claimed.status, claimed.header("x-platform-subject")), (200, Some("")));
    // Facts of another dialect do not count where the gateway is named, and are refused where it is not.
    let other = [("x-forwarded-uri", "/public/a"), ("x-forwarded-method", "GET")];
    assert_eq!(nginx(&server, "GET", "/orders/7", &other, "").await.status, 401);
    let both = [("x-original-method", "GET"), ("x-original-uri", "/orders/7"), other[0], other[1]];
    assert_eq!(server.http("GET", "/forward-auth", &both, b"", "").await.status, 403);
    for uri in [
        "/public/../orders/7",
        "/public/%2e%2e/orders/7",
        "/public//orders",
        "/public/%2Forders",
        "/public\\..\\orders",
    ] {
        assert_eq!(nginx(&server, "GET", uri, &[], "").await.status, 403, "{uri}");
    }
    assert_eq!(nginx(&server, "GET", "/%70ublic/a", &[], "").await.status, 200, "the same path, written differently");
    let twice = [("authorization", "Bearer x")];
    assert_eq!(nginx(&server, "GET", "/orders/7", &twice, USER).await.status, 401);
    let nothing = server.get("/forward-auth").await;
    assert_eq!((nothing.status, nothing.reason().as_str()), (400, "REQUEST_UNKNOWN"));
    assert!(nothing.text().contains("X-Original-URI"), "{}", nothing.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn traefik_and_envoy_over_http_are_understood() {
    let server = start().await;
    let traefik = [
        ("x-forwarded-method", "POST"),
        ("x-forwarded-uri", "/orders/7"),
        ("x-forwarded-host", "shop.example"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "10.0.0.9"),
    ];
    assert_eq!(server.http("GET", "/forward-auth", &traefik, b"", USER).await.status, 200);
    assert_eq!(server.http("GET", "/forward-auth", &traefik, b"", "").await.status, 401);
    assert_eq!(server.http("DELETE", "/ext-authz/-/orders/7", &[], b"", USER).await.status, 200);
    assert_eq!(server.http("DELETE", "/ext-authz/-/public/7", &[], b"", "").await.status, 401);
    assert_eq!(server.http("GET", "/ext-authz/-/public/7?gateway=nginx", &[], b"", "").await.status, 200);
    let unbound = server.http("GET", "/ext-authz/payments/public/7", &[], b"", "").await;
    assert_eq!(unbound.status, 403, "a policy that is named and not bound allows nothing");
    assert_eq!(server.http("GET", "/forward-auth/payments", &traefik, b"", USER).await.status, 403);
}

fn envoy(method: &str, path: &str, headers: &[(&str, &str)]) -> CheckRequest {
    let headers: HashMap<_, _> = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let http = HttpRequest { method: method.into(), path: path.into(), headers, ..Default::default() };
    let request = attribute_context::Request { http: Some(http), ..Default::default() };
    CheckRequest { attributes: Some(AttributeContext { request: Some(request), ..Default::default() }) }
}

fn told(response: CheckResponse) -> (i32, u16, Vec<(String, String)>, Vec<String>) {
    let code = response.status.unwrap().code;
    match response.http_response.unwrap() {
        HttpResponse::OkResponse(ok) => {
            let pair = |option: envoy_types::ext_authz::v3::pb::HeaderValueOption| {
                let header = option.header.unwrap();
                (header.key, header.value)
            };
            (code, 200, ok.headers.into_iter().map(pair).collect(), ok.headers_to_remove)
        }
        HttpResponse::DeniedResponse(denied) => {
            (code, u16::try_from(denied.status.unwrap().code).unwrap(), Vec::new(), Vec::new())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_over_grpc_gets_decisions_and_identity() {
    let server = start().await;
    let mut client = AuthorizationClient::new(server.channel().await);
    let bearer = format!("Bearer {USER}");
    let (code, status, set, removed) =
        told(client.check(envoy("POST", "/orders/7?x=1", &[("authorization", &bearer)])).await.unwrap().into_inner());
    assert_eq!((code, status), (0, 200));
    for header in [("x-platform-subject", "alice"), ("x-platform-roles", "buyer"), ("x-tenant", "t1")] {
        assert!(set.contains(&(header.0.into(), header.1.into())), "{header:?} in {set:?}");
    }
    assert!(removed.is_empty());
    let (code, status, set, removed) =
        told(client.check(envoy("GET", "/public/a", &[("x-platform-subject", "admin")])).await.unwrap().into_inner());
    assert_eq!((code, status, set.len()), (0, 200, 0));
    assert!(removed.contains(&"x-platform-subject".into()) && removed.contains(&"x-platform-roles".into()));
    for (method, path, headers, expected) in [
        ("POST", "/public/a", &[][..], 401),
        ("GET", "/orders/7", &[("authorization", "Bearer forged")], 401),
        ("GET", "/public/../orders", &[], 400),
        ("GET", "", &[], 400),
    ] {
        let (code, status, ..) = told(client.check(envoy(method, path, headers)).await.unwrap().into_inner());
        assert_eq!((code, status), (7, expected), "{method} {path}");
    }
    let (code, status, ..) = told(client.check(CheckRequest::default()).await.unwrap().into_inner());
    assert_eq!((code, status), (7, 400));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_policy_everything_is_denied_and_a_gateway_may_need_a_token() {
    let mut config = config();
    config.check.require_token = true;
    let server = Server::start(config).await;
    let asked = [("x-original-method", "GET"), ("x-original-uri", "/"), ("x-platform-token", SERVICE)];
    assert_eq!(server.http("GET", "/forward-auth", &asked[..2], b"", "").await.reason(), "GATEWAY_TOKEN_REQUIRED");
    assert_eq!(server.http("GET", "/forward-auth", &asked, b"", "").await.status, 403);
    let mut client = AuthorizationClient::new(server.channel().await);
    let status = client.check(envoy("GET", "/", &[])).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    let (code, ..) = told(client.check(with(SERVICE, envoy("GET", "/", &[]))).await.unwrap().into_inner());
    assert_eq!(code, 7);
}
