//! `platform.auth.v1.Auth`.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use platform_capability::{Call, CallContext, auth::Facts};
use platform_dataplane::{Plane, Verdict};
use platform_proto::auth::v1::{self as proto, auth_server::Auth};
use tonic::{Request, Response, Status};

use super::{Shared, admitted};
use crate::{check::denial, fault::Fault, identity::Authenticator};

/// Decisions of the slot `auth.policy`.
#[derive(Debug, Clone)]
pub(crate) struct AuthService {
    pub(crate) shared: Shared,
    pub(crate) authenticator: Arc<Authenticator>,
}

/// What the asker told of the request.
#[derive(Debug)]
struct ToldFacts {
    headers: BTreeMap<String, String>,
    attributes: BTreeMap<String, String>,
}

impl Facts for ToldFacts {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.headers.get(name).map(|value| Cow::Borrowed(value.as_str()))
    }

    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        self.attributes.get(name).map(|value| Cow::Borrowed(value.as_str()))
    }

    fn headers(&self) -> BTreeMap<String, String> {
        self.headers.clone()
    }

    fn attributes(&self) -> BTreeMap<String, String> {
        self.attributes.clone()
    }
}

#[tonic::async_trait]
impl Auth for AuthService {
    async fn check(&self, request: Request<proto::CheckRequest>) -> Result<Response<proto::CheckResponse>, Status> {
        let call = Arc::clone(&admitted(&request)?.call);
        let check = request.into_inner();
        let call = match (check.token.as_str(), check.as_caller) {
            ("", true) => call,
            ("", false) => Arc::new(CallContext { caller: None, ..CallContext::clone(&call) }),
            (_, true) => {
                let message = "`token` and `as_caller` exclude each other";
                return Err(Fault::invalid("INVALID_ARGUMENT", message).into());
            }
            (token, false) => match self.authenticator.verify(token) {
                Ok(identity) => {
                    let caller = Some(Arc::clone(&identity.caller));
                    Arc::new(CallContext { caller, ..CallContext::clone(&call) })
                }
                Err(error) => return Ok(Response::new(answer(denial(401, error.to_string()), &call))),
            },
        };
        let verdict = ask(&self.shared.plane, &call, check).await;
        Ok(Response::new(answer(verdict, &call)))
    }
}

async fn ask(plane: &Plane, call: &Call, check: proto::CheckRequest) -> Verdict {
    let proto::CheckRequest { action, target, headers, attributes, policy, .. } = check;
    let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    let facts = Arc::new(ToldFacts { headers, attributes });
    let policy = Some(policy.as_str()).filter(|policy| !policy.is_empty());
    plane.auth().check(call, policy, &action, &target, facts).await
}

fn answer(verdict: Verdict, call: &Call) -> proto::CheckResponse {
    let decision = if verdict.allowed { proto::Decision::Allow } else { proto::Decision::Deny };
    let header = |(name, value): (String, String)| proto::Header { name: name.to_ascii_lowercase(), value };
    proto::CheckResponse {
        decision: decision.into(),
        reason: verdict.reason,
        policy: verdict.decided_by.map(|policy| policy.to_string()).unwrap_or_default(),
        generation: verdict.generation,
        status: verdict.status.into(),
        set_headers: verdict.set_headers.into_iter().map(header).collect(),
        remove_headers: verdict.remove_headers,
        response_headers: verdict.response_headers.into_iter().map(header).collect(),
        subject: call.caller.as_ref().map(|caller| caller.subject.clone()).unwrap_or_default(),
    }
}
