//! [`Subject`]: what a check works with.

use std::{sync::Arc, time::Duration};

use platform_capability::{Call, CallContext, Caller, Name};
use platform_dataplane::{Kv, Plane};

use crate::Failure;

/// Time that each call of a check has.
const CALL_TIME: Duration = Duration::from_secs(10);

/// The host in which the component is bound, and a namespace of the check's own.
#[derive(Debug, Clone)]
pub struct Subject {
    plane: Arc<Plane>,
    namespace: Name,
}

impl Subject {
    /// What is bound in `plane`, seen from a namespace that nobody else uses.
    #[must_use]
    pub fn new(plane: Arc<Plane>, namespace: Name) -> Self {
        Self { plane, namespace }
    }

    pub(crate) fn plane(&self) -> &Arc<Plane> {
        &self.plane
    }

    pub(crate) fn kv(&self) -> &Kv {
        self.plane.kv()
    }

    /// A call without a caller.
    pub(crate) fn call(&self) -> Call {
        Arc::new(CallContext::new(None, &self.namespace, CALL_TIME))
    }

    /// A call of `subject` with `roles`.
    pub(crate) fn call_of(&self, subject: &str, roles: &[&str]) -> Call {
        let caller = Caller {
            subject: subject.to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            claims: serde_json::Map::new(),
        };
        Arc::new(CallContext::new(Some(Arc::new(caller)), &self.namespace, CALL_TIME))
    }

    /// The same host, seen from another namespace of the check.
    pub(crate) fn beside(&self) -> Result<Self, Failure> {
        let name = format!("{}-beside", self.namespace);
        let namespace =
            name.parse().map_err(|error| Failure::new(format!("`{name}` can't be a namespace: {error}")))?;
        Ok(Self { plane: Arc::clone(&self.plane), namespace })
    }
}

/// Asks again until the answer is yes.
pub(crate) async fn until(
    what: &str, within: Duration, mut is_so: impl AsyncFnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let asked = async {
        while !is_so().await? {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    };
    match tokio::time::timeout(within, asked).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::new(format!("{what} did not come within {} ms", within.as_millis()))),
    }
}
