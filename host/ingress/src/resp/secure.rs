//! The certificate of the port, for clients that speak TLS.
//!
//! Owns how it is read; must not know connections. Invariant: a port with a certificate speaks nothing but TLS.

use std::{path::Path, sync::Arc};

use tokio_rustls::rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::RespError;

/// How connections are encrypted with the certificates and the key of two files in PEM; not at all without them.
pub(super) fn config(certificate: Option<&Path>, key: Option<&Path>) -> Result<Option<Arc<ServerConfig>>, RespError> {
    let (certificate, key) = match (certificate, key) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (certificate, key),
        _ => return Err(RespError::Half),
    };
    let wrong =
        |file: &Path, why: &dyn std::fmt::Display| RespError::Certificate { file: file.into(), why: why.to_string() };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.map_err(|error| wrong(certificate, &error))?;
    if chain.is_empty() {
        return Err(wrong(certificate, &"it holds no certificate"));
    }
    let own = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(certificate, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, own)
        .map_err(|error| wrong(certificate, &error))?;
    Ok(Some(Arc::new(config)))
}
