//! Files of certificates for tests, and what is said of those that are wrong.

use std::sync::LazyLock;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{ClientAuth, Identity, Serving};

/// An authority, a certificate of it for a server and one for a client, as files.
pub(super) struct Files {
    _folder: tempfile::TempDir,
    pub(super) identity: Identity,
    pub(super) ca: CertificateDer<'static>,
    pub(super) client: (String, String),
}

pub(super) static FILES: LazyLock<Files> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let make = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (certificate, key) = make("localhost");
    let identity = Identity {
        certificates: vec![write("cert.pem", &certificate)],
        keys: vec![write("key.pem", &key)],
        client_ca: Some(write("ca.pem", &issuer.pem())),
        client_auth: ClientAuth::Off,
    };
    let ca = CertificateDer::from_pem_slice(issuer.pem().as_bytes()).unwrap();
    Files { identity, ca, client: make("a-client"), _folder: folder }
});

/// Files that do not fit together, are not there, or hold something else are named, each with its cure; all of them at once.
#[test]
fn wrong_files_are_named() {
    let files = &FILES.identity;
    let other = tempfile::tempdir().unwrap();
    let path = other.path().join("other.pem");
    std::fs::write(&path, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let missing = other.path().join("missing.pem");
    let cases = [
        (Identity { keys: vec![path.clone()], ..files.clone() }, "other.pem"),
        (Identity { keys: vec![missing.clone()], ..files.clone() }, "missing.pem"),
        (Identity { certificates: files.keys.clone(), ..files.clone() }, "no certificate"),
        (Identity { keys: files.certificates.clone(), ..files.clone() }, "cert.pem"),
        (Identity { keys: vec![], ..files.clone() }, "1 TLS certificates and 0 keys"),
        (Identity { client_ca: None, client_auth: ClientAuth::Required, ..files.clone() }, "none can be believed"),
    ];
    for (identity, named) in cases {
        let problems = Serving::load(&identity, None).unwrap_err();
        assert!(problems.iter().any(|problem| problem.cause.contains(named)), "{named}: {problems:?}");
    }
    let two = Identity {
        certificates: vec![missing.clone(), missing.clone()],
        keys: vec![path.clone(), path],
        ..files.clone()
    };
    assert_eq!(Serving::load(&two, None).unwrap_err().len(), 2);
}
