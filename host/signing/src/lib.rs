//! Signatures: whose a component is, and whose it has to be.
//!
//! Owns keys, what a signature is made over, and the policy that says whose signatures a plugin of a name needs. All of it is offline and
//! with keys that somebody keeps: no transparency log, no certificates. Forms are those of cosign, so that either makes what the other
//! verifies. Must not know registries, installed plugins and who asks. Invariant: nothing counts as signed but bytes that a signature
//! covers, directly or by a chain of digests.
//!
//! In reading order: [`PublicKey`] (what verifies), [`SecretKey`] (what signs), [`Evidence`] (a signature with what it is over),
//! [`Policy`] (whose signatures are needed).

mod key;
mod sealed;
mod secret;

mod artifact;
mod evidence;

mod policy;

pub use artifact::payload;
pub use evidence::{Evidence, InvalidEvidence, bundle};
pub use key::{InvalidKey, PublicKey};
pub use policy::{InvalidPolicy, Policy, TrustRule, Untrusted, Verdict};
pub use secret::{Algorithm, SecretKey};
