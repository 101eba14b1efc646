//! Whose certificates our own clients believe: `corecast pub`, `corecast sub`, the load generator.
//!
//! Those of the authorities that browsers believe, or of those in a file and nobody else. Never: anybody's without a look.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::io::check::StartError;

/// Makes what all connections of a process share, which believe the authorities in a file, or those that browsers believe; sessions are
/// resumed.
///
/// # Errors
/// The file cannot be read, or is none of certificates.
///
/// # Panics
/// Never: the library knows the versions that it knows.
pub fn config(ca: Option<&Path>) -> Result<ClientConfig, StartError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.expect("the provider knows both versions");
    let mut roots = RootCertStore::empty();
    let mut config = match ca {
        None => {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        Some(path) => {
            let wrong = |error: &dyn std::fmt::Display| StartError {
                cause: format!("{}: {error}", path.display()),
                cure: "--ca names a PEM file of authorities, or of the engine's own certificate".to_owned(),
            };
            let known = certificates(path).map_err(|error| wrong(&error))?;
            for certificate in &known {
                roots.add(certificate.clone()).map_err(|error| wrong(&error))?;
            }
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
            let authorities = verifier.map_err(|_| wrong(&"no certificate in it"))?;
            let verifier = Arc::new(Verifier { authorities, known });
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Reads the certificates in a PEM file, of which there may be none.
///
/// # Errors
/// The file cannot be read, or a certificate in it is broken.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect)
}

/// Believes what these authorities have signed, and a certificate that is among them itself, as other clients do: `openssl req -x509`
/// makes one that is its own authority, which the library takes for nobody's.
#[derive(Debug)]
struct Verifier {
    authorities: Arc<WebPkiServerVerifier>,
    known: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let signed = self.authorities.verify_server_cert(certificate, between, name, ocsp, now);
        if signed.is_ok() || !self.known.iter().any(|known| known == certificate) {
            return signed;
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        match (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp()) {
            (from, _) if now < from => Err(CertificateError::NotValidYet.into()),
            (_, until) if now > until => Err(CertificateError::Expired.into()),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}
