//! Certificates: what a TLS listener shows, and whom it believes; read again without a connection noticing.
//!
//! ```text
//!   files ──load──▶ Serving (config of rustls, when it expires) ──replace──▶ Certificates ◀──one look a handshake── shards
//! ```
//!
//! Owns: the configuration that holds, behind a lock that is taken once for each handshake and for as long as a pointer is copied. Live
//! connections have their keys already, and never look here.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use ::aws_lc_rs::digest::{Context, SHA256};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::handshake::Catcher;
use crate::io::check::StartError;

/// Tickets for each new session: a browser opens several connections when it comes back.
const TICKETS: usize = 2;

/// What clients are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate.
    #[default]
    Off,
    /// One, if they have it.
    Optional,
    /// One.
    Required,
}

/// Where certificates are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// PEM files with a certificate and what stands between it and a root each; the first is shown to who asks for no known name.
    pub certificates: Vec<PathBuf>,
    /// PEM files with the private key of each, in the same order.
    pub keys: Vec<PathBuf>,
    /// A PEM file of the authorities that client certificates are believed from.
    pub client_ca: Option<PathBuf>,
    /// Whether clients are asked for one.
    pub client_auth: ClientAuth,
}

/// What was made of them.
#[derive(Clone, Debug)]
pub struct Serving {
    config: Arc<ServerConfig>,
    /// The files it was made from.
    identity: Identity,
    /// Tells what was in them from what is in others.
    digest: Vec<u8>,
    /// What the first of them says of itself.
    pub first: First,
    /// When the first of them expires, in seconds since 1970, and which that is.
    pub expires: (i64, PathBuf),
}

/// What the first certificate says of itself, for who has to connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct First {
    /// Names and addresses that it is for; wildcards are left out.
    pub names: Vec<String>,
    /// It is its own authority: clients have to be given it.
    pub signs_itself: bool,
}

/// The configuration that holds, for all shards.
#[derive(Clone, Debug)]
pub struct Certificates(Arc<RwLock<Arc<ServerConfig>>>);

impl Certificates {
    /// Makes it of what was loaded.
    #[must_use]
    pub fn new(serving: &Serving) -> Certificates {
        Certificates(Arc::new(RwLock::new(serving.config.clone())))
    }

    /// From now on handshakes begin with these.
    pub fn replace(&self, serving: &Serving) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = serving.config.clone();
    }

    /// Returns the configuration that holds now.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Serving {
    /// Says whether the files hold the same as those of another one did.
    #[must_use]
    pub fn is_as(&self, other: &Serving) -> bool {
        self.digest == other.digest && self.identity.client_auth == other.identity.client_auth
    }

    /// Reads certificates and keys. Tickets of `before` go on being taken, unless other clients are believed now.
    ///
    /// # Errors
    /// Everything that is wrong with them, each with file and cure.
    pub fn load(identity: &Identity, before: Option<&Serving>) -> Result<Serving, Vec<StartError>> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut problems = Vec::new();
        if identity.certificates.len() != identity.keys.len() {
            return Err(vec![StartError {
                cause: format!("{} TLS certificates and {} keys", identity.certificates.len(), identity.keys.len()),
                cure: "give a tls-key for each tls-cert, in the same order".to_owned(),
            }]);
        }
        let mut names = Names::default();
        let mut expires: Option<(i64, PathBuf)> = None;
        for (certificate, key) in identity.certificates.iter().zip(&identity.keys) {
            match pair(&provider, certificate, key) {
                Ok((pair, until_s)) => {
                    if expires.as_ref().is_none_or(|(first, _)| until_s < *first) {
                        expires = Some((until_s, certificate.clone()));
                    }
                    names.add(Arc::new(pair));
                }
                Err(problem) => problems.push(problem),
            }
        }
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| vec![broken("TLS", &error)])?;
        let builder = match clients(identity, &provider) {
            Ok(None) => builder.with_no_client_auth(),
            Ok(Some(verifier)) => builder.with_client_cert_verifier(verifier),
            Err(problem) => {
                problems.push(problem);
                builder.with_no_client_auth()
            }
        };
        let Some(expires) = expires.filter(|_| problems.is_empty()) else { return Err(problems) };
        let first = names.first.as_ref().and_then(|pair| pair.cert.first()).map(first).unwrap_or_default();
        let mut config = builder.with_cert_resolver(Arc::new(names));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.key_log = Arc::new(Catcher);
        config.enable_secret_extraction = true;
        config.ignore_client_order = false;
        config.send_tls13_tickets = TICKETS;
        // Sessions are in their tickets, which a storm of a million cannot push out of a table.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = tickets(identity, before).map_err(|error| vec![broken("tickets of TLS", &error)])?;
        let digest = digest(identity);
        Ok(Serving { config: Arc::new(config), identity: identity.clone(), digest, first, expires })
    }
}

fn first(certificate: &CertificateDer<'static>) -> First {
    let Ok((_, leaf)) = X509Certificate::from_der(certificate) else { return First::default() };
    let alternatives = leaf.subject_alternative_name().ok().flatten();
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) if !name.starts_with('*') => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    };
    let names = alternatives.iter().flat_map(|names| &names.value.general_names).filter_map(name).collect();
    First { names, signs_itself: leaf.issuer() == leaf.subject() }
}

/// Hashes what the files hold.
fn digest(identity: &Identity) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    for path in identity.certificates.iter().chain(&identity.keys).chain(&identity.client_ca) {
        let bytes = fs::read(path).unwrap_or_default();
        context.update(&bytes.len().to_le_bytes());
        context.update(&bytes);
    }
    context.finish().as_ref().to_vec()
}

/// Returns what makes tickets: the same as before, so that a reload costs nobody a full handshake. A ticket says whom a client was
/// believed to be; so if other ones are believed now, no ticket from before is.
fn tickets(identity: &Identity, before: Option<&Serving>) -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    match before {
        Some(before)
            if before.identity.client_auth == identity.client_auth
                && before.identity.client_ca == identity.client_ca
                && identity.client_auth == ClientAuth::Off =>
        {
            Ok(before.config.ticketer.clone())
        }
        _ => aws_lc_rs::Ticketer::new(),
    }
}

/// Which certificate is shown for which name.
#[derive(Debug, Default)]
struct Names {
    /// Lower case; `*.example.com` stands for one label before it.
    by_name: HashMap<String, Arc<CertifiedKey>>,
    first: Option<Arc<CertifiedKey>>,
}

impl Names {
    fn add(&mut self, pair: Arc<CertifiedKey>) {
        let leaf = pair.cert.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
        let alternatives = leaf.as_ref().and_then(|(_, leaf)| leaf.subject_alternative_name().ok().flatten());
        for name in alternatives.iter().flat_map(|names| &names.value.general_names) {
            if let GeneralName::DNSName(name) = name {
                self.by_name.entry(name.to_ascii_lowercase()).or_insert_with(|| pair.clone());
            }
        }
        self.first.get_or_insert(pair);
    }

    fn of(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        self.by_name.get(&name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        })
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        hello.server_name().and_then(|name| self.of(name)).or(self.first.as_ref()).cloned()
    }
}

fn broken(what: &str, error: &dyn std::fmt::Display) -> StartError {
    StartError {
        cause: format!("cannot set up {what}: {error}"),
        cure: "look at the files that the tls settings name".to_owned(),
    }
}

fn wrong(path: &Path, what: &dyn std::fmt::Display, cure: &str) -> StartError {
    StartError { cause: format!("{}: {what}", path.display()), cure: cure.to_owned() }
}

fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    fs::read(path).map_err(|error| wrong(path, &error, "name a PEM file that this user may read"))
}

/// Reads a certificate and its key; returns when it expires, too.
fn pair(provider: &CryptoProvider, certificate: &Path, key: &Path) -> Result<(CertifiedKey, i64), StartError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(certificate)?).collect();
    let chain = chain.map_err(|error| wrong(certificate, &error, "tls-cert names a PEM file with certificates"))?;
    let Some(leaf) = chain.first() else {
        return Err(wrong(certificate, &"no certificate in it", "tls-cert names a PEM file with certificates"));
    };
    let (_, parsed) = X509Certificate::from_der(leaf)
        .map_err(|error| wrong(certificate, &error, "make the certificate anew: it cannot be read"))?;
    let until_s = parsed.validity().not_after.timestamp();
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|error| wrong(key, &error, "tls-key names a PEM file with a private key that has no password"))?;
    let pair = CertifiedKey::from_der(chain, secret, provider).map_err(|error| {
        let files = format!("{error}; the certificate is {}", certificate.display());
        wrong(key, &files, "give the key that the certificate was made for, in the same order as the certificates")
    })?;
    Ok((pair, until_s))
}

type Verifier = Arc<dyn rustls::server::danger::ClientCertVerifier>;

/// Makes what believes client certificates, if they are asked for.
fn clients(identity: &Identity, provider: &Arc<CryptoProvider>) -> Result<Option<Verifier>, StartError> {
    let path = match (&identity.client_ca, identity.client_auth) {
        (_, ClientAuth::Off) => return Ok(None),
        (None, _) => {
            return Err(StartError {
                cause: "clients are asked for certificates, and none can be believed".to_owned(),
                cure: "name the authorities with tls-client-ca".to_owned(),
            });
        }
        (Some(path), _) => path,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&read(path)?) {
        let added = certificate.map_err(|error| error.to_string());
        let added = added.and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
        added.map_err(|error| wrong(path, &error, "tls-client-ca names a PEM file of authorities"))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = match identity.client_auth {
        ClientAuth::Optional => builder.allow_unauthenticated(),
        ClientAuth::Off | ClientAuth::Required => builder,
    };
    let verifier = builder.build();
    verifier.map(Some).map_err(|error| wrong(path, &error, "tls-client-ca names a PEM file of authorities"))
}
