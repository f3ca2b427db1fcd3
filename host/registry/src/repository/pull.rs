//! Pulling a component.
//!
//! Owns what is checked on the way in. Invariant: what is returned has the digest and the size of the manifest, and nothing larger than was
//! allowed was ever held.

use http::Method;
use platform_runtime::Digest;

use super::{Repository, Resolved};
use crate::{
    artifact::{Descriptor, LAYER},
    error::{Error, Fault},
};

impl Repository {
    /// The component of an artifact, if it is no larger than `bytes_max`; `progress` hears how many bytes came.
    ///
    /// # Errors
    /// It does not come, is too large, or is not the one that the manifest speaks of.
    pub async fn pull(
        &self, resolved: &Resolved, bytes_max: u64, progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Vec<u8>, Error> {
        let layer = Descriptor { media_type: LAYER.to_owned(), digest: resolved.component, size: resolved.size };
        self.told(self.verified(&layer, bytes_max, "component", progress).await)
    }

    /// The bytes of a descriptor.
    pub(super) async fn verified(
        &self, described: &Descriptor, bytes_max: u64, what: &'static str, progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Vec<u8>, Fault> {
        let (digest, expected) = (described.digest, described.size);
        if expected > bytes_max {
            return Err(Fault::TooLarge { what, bytes_max });
        }
        let response = self.http.send(&self.ask(Method::GET, &format!("blobs/{digest}"), what)?).await?;
        let bytes = self.http.read(response, bytes_max, what, progress).await?;
        if bytes.len() as u64 != expected {
            return Err(Fault::WrongSize { what, expected, got: bytes.len() as u64 });
        }
        let got = Digest::of(&bytes);
        if got != digest {
            return Err(Fault::WrongDigest { what, expected: digest, got });
        }
        Ok(bytes)
    }
}
