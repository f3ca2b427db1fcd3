//! Whom connections over TLS trust: the authorities of this machine, and those that the configuration adds.
//!
//! Owns how a server's certificate is judged, for guests (`wasi:tls`) and for the host's own connections; must not know who
//! connects to what, and why. Invariant: every certificate is checked, the name in it too. Nothing turns that off.

use std::{io, path::PathBuf, pin::Pin, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        CertificateError, ClientConfig, Error as Refusal, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use wasmtime_wasi_tls::{TlsProvider, TlsTransport};

/// Settings of connections over TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrustConfig {
    /// Certificates of authorities that are trusted besides those of the machine, PEM.
    pub ca_files: Vec<PathBuf>,
}

/// A file of certificates that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// It can't be read, or what is in it is no certificate.
    #[error("`{}` can't be read: {why}; it has to hold certificates in PEM", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There is nothing in it.
    #[error("`{}` holds no certificate; it has to hold those of authorities, in PEM", .0.display())]
    Empty(PathBuf),
}

/// Why a connection is not encrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// No certificate can have such a name.
    #[error("`{0}` is no name that a certificate can have")]
    Name(String),
    /// The certificate's authority is not known.
    #[error(
        "nobody who is trusted here signed the certificate of `{0}`; add the certificate of who did to `tls.ca_files` of the \
         platform"
    )]
    Untrusted(String),
    /// The certificate is another one's.
    #[error("`{host}` has another's certificate: {why}; connect by a name that is in it")]
    OtherName {
        /// The host.
        host: String,
        /// Whose it is.
        why: String,
    },
    /// Something else is wrong with the certificate.
    #[error("the certificate of `{host}` is not accepted: {why}; give the server a new one")]
    Certificate {
        /// The host.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// The server said something else.
    #[error("`{0}` does not speak TLS on that port")]
    Plain(String),
    /// The two can't agree.
    #[error("no TLS with `{host}`: {why}")]
    Refused {
        /// The host.
        host: String,
        /// Why not.
        why: String,
    },
    /// The connection ended too early.
    #[error("the connection to `{host}` broke in the TLS handshake: {why}")]
    Broken {
        /// The host.
        host: String,
        /// How.
        why: String,
    },
}

impl TlsError {
    fn of(host: &str, error: &io::Error) -> Self {
        let host = host.to_owned();
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            None => Self::Broken { host, why: error.to_string() },
            // An authority that is only called like a trusted one has another key.
            Some(Refusal::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
                Self::Untrusted(host)
            }
            Some(Refusal::InvalidCertificate(
                why @ (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }),
            )) => Self::OtherName { host, why: why.to_string() },
            Some(Refusal::InvalidCertificate(why)) => Self::Certificate { host, why: why.to_string() },
            Some(Refusal::InvalidMessage(_)) => Self::Plain(host),
            Some(why) => Self::Refused { host, why: why.to_string() },
        }
    }
}

impl TrustConfig {
    /// Reads the certificates of the machine and of the files. Of the machine's those that can't be used are left out.
    ///
    /// # Errors
    /// See [`TrustError`].
    pub fn build(&self) -> Result<Trust, TrustError> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (_, ignored) = roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            tracing::warn!(
                ignored,
                "this machine has no root certificates: name those to be trusted in `tls.ca_files`"
            );
        }
        for file in &self.ca_files {
            let unreadable =
                |why: &dyn std::fmt::Display| TrustError::Unreadable { file: file.clone(), why: why.to_string() };
            let mut is_empty = true;
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
                let certificate = certificate.map_err(|error| unreadable(&error))?;
                roots.add(certificate).map_err(|error| unreadable(&error))?;
                is_empty = false;
            }
            if is_empty {
                return Err(TrustError::Empty(file.clone()));
            }
        }
        // The versions that come with the provider are those that it speaks.
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions();
        let config = builder.map(|builder| builder.with_root_certificates(roots).with_no_client_auth());
        let config = config.unwrap_or_else(|_no_version| {
            ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth()
        });
        Ok(Trust(Arc::new(config)))
    }
}

/// Makes connections to servers that can be trusted.
#[derive(Debug, Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// Encrypts a connection to `host`, a name or an address, once its certificate was found to be that host's.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub async fn connect<T: AsyncRead + AsyncWrite + Unpin>(
        &self, host: &str, transport: T,
    ) -> Result<TlsStream<T>, TlsError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_no_name| TlsError::Name(host.to_owned()))?;
        let connected = TlsConnector::from(Arc::clone(&self.0)).connect(name, transport).await;
        connected.map_err(|error| TlsError::of(host, &error))
    }
}

type Connecting =
    Pin<Box<dyn Future<Output = Result<Box<dyn wasmtime_wasi_tls::TlsStream>, wasmtime_wasi_tls::Error>> + Send>>;

impl TlsProvider for Trust {
    fn connect(&self, server_name: String, transport: Box<dyn TlsTransport>) -> Connecting {
        let trust = self.clone();
        Box::pin(async move {
            let stream = Self::connect(&trust, &server_name, transport).await.map_err(wasmtime_wasi_tls::Error::msg)?;
            Ok(Box::new(stream) as Box<dyn wasmtime_wasi_tls::TlsStream>)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_hold_no_certificates_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let build = || TrustConfig { ca_files: vec![file.clone()] }.build().map(drop).unwrap_err().to_string();
        assert!(build().contains("can't be read"), "{}", build());
        for (content, why) in [
            ("", "holds no certificate"),
            ("no PEM at all", "holds no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "can't be read"),
            ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "can't be read"),
        ] {
            std::fs::write(&file, content).unwrap();
            let told = build();
            assert!(told.contains(why) && told.contains("ca.pem"), "{told}");
        }
    }

    #[tokio::test]
    async fn a_server_that_says_something_else_or_nothing_is_told() {
        let trust = TrustConfig::default().build().unwrap();
        for (said, expected) in [
            (&b"-ERR unknown command\r\n"[..], TlsError::Plain("db.internal".to_owned())),
            (&b""[..], TlsError::Broken { host: "db.internal".to_owned(), why: "tls handshake eof".to_owned() }),
        ] {
            let transport = tokio::io::join(said, tokio::io::sink());
            assert_eq!(trust.connect("db.internal", transport).await.err(), Some(expected));
        }
        let nowhere = tokio::io::join(&b""[..], tokio::io::sink());
        let refused = trust.connect("no name", nowhere).await.err();
        assert_eq!(refused, Some(TlsError::Name("no name".to_owned())));
    }
}
