//! The client's end of TLS: between what a client says and hears, and the bytes of its connection.
//!
//! Owns: the authority and the certificate of all worlds. Lengths are the same in every run, whatever the keys are: Ed25519 signs in 64
//! bytes, always.

use std::io::{Read as _, Write as _};
use std::sync::{Arc, LazyLock};

use corecast::edge::{Certificates, Door, Edge, Identity, SCRATCH_BYTES, Serving};
use corecast::io::memory::Span;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::pki_types::CertificateDer;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, RootCertStore, SupportedProtocolVersion, version,
};

/// Bytes of text that a client hands to TLS at once.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// What servers show, and what clients believe.
struct Trust {
    certificates: Certificates,
    config: [Arc<ClientConfig>; 2],
}

static TRUST: LazyLock<Trust> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder for certificates");
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let (chain, secret) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&chain, certificate.pem()).expect("a file");
    std::fs::write(&secret, key.serialize_pem()).expect("a file");
    let identity = Identity { certificates: vec![chain], keys: vec![secret], ..Identity::default() };
    let serving = Serving::load(&identity, None).expect("files that fit together");
    let config = |versions: &'static SupportedProtocolVersion| {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(certificate.der().to_vec())).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[versions]);
        let mut config = builder.expect("a version").with_root_certificates(roots).with_no_client_auth();
        // Whether a session goes on depends on who came first: the same worlds shall be the same each time.
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    };
    Trust { certificates: Certificates::new(&serving), config: [config(&version::TLS13), config(&version::TLS12)] }
});

/// Makes what stands before a shard whose pool has so many bytes.
pub(crate) fn edge(pool_bytes: u64, secured: bool) -> Edge {
    let mut edge = Edge::new(Span { start: pool_bytes, len: SCRATCH_BYTES });
    if secured {
        edge.stands_before(vec![Door { tls: Some(TRUST.certificates.clone()), proxy: false }]);
    }
    edge
}

/// One client's end.
pub(crate) struct Secured {
    client: ClientConnection,
    /// Text that came and was not read.
    text: Vec<u8>,
    /// It is to end its direction when all is written.
    pub(crate) ending: bool,
    /// The server has said why it ends, in words of TLS: memory was short.
    pub(crate) told: bool,
}

impl std::fmt::Debug for Secured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Secured { client, text, ending, told } = self;
        let (shakes, writes) = (client.is_handshaking(), client.wants_write());
        write!(f, "TLS: handshaking {shakes}, to write {writes}, text {}, ending {ending}, told {told}", text.len())
    }
}

impl Secured {
    /// Begins one; every third speaks TLS 1.2.
    pub(crate) fn begin(number: usize) -> Secured {
        let config = TRUST.config[usize::from(number.is_multiple_of(3))].clone();
        let name = "localhost".try_into().expect("a name");
        let client = ClientConnection::new(config, name).expect("a client");
        Secured { client, text: Vec::new(), ending: false, told: false }
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.client.is_handshaking()
    }

    pub(crate) fn wants_write(&self) -> bool {
        self.client.wants_write()
    }

    pub(crate) fn has_text(&self) -> bool {
        !self.text.is_empty()
    }

    /// Takes text to be written; returns how much.
    pub(crate) fn take(&mut self, text: &[u8]) -> usize {
        let count = text.len().min(TEXT_BYTES_MAX);
        self.client.writer().write_all(&text[..count]).expect("there is room for it");
        count
    }

    /// Says that nothing more will be written.
    pub(crate) fn end(&mut self) {
        self.client.send_close_notify();
        self.ending = true;
    }

    /// Returns at most `max` bytes that are to be written.
    pub(crate) fn written(&mut self, max: usize) -> Vec<u8> {
        /// Takes no more than it may.
        struct Bounded(Vec<u8>, usize);
        impl std::io::Write for Bounded {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                let count = bytes.len().min(self.1 - self.0.len());
                self.0.extend_from_slice(&bytes[..count]);
                Ok(count)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut out = Bounded(Vec::new(), max);
        while self.client.wants_write() && out.0.len() < max {
            self.client.write_tls(&mut out).expect("memory takes everything");
        }
        out.0
    }

    /// Hears bytes that came.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        let mut left = bytes;
        while !left.is_empty() {
            self.client.read_tls(&mut left).expect("memory gives everything");
            match self.client.process_new_packets() {
                Ok(_) => {}
                // Where memory is short, long records that are begun have to end; whoever may not be closed will notice.
                Err(Error::AlertReceived(AlertDescription::InternalError)) => {
                    self.told = true;
                    return;
                }
                Err(error) => panic!("TLS broke: {error}"),
            }
            let mut plain = [0; 4096];
            while let Ok(count @ 1..) = self.client.reader().read(&mut plain) {
                self.text.extend_from_slice(&plain[..count]);
            }
        }
    }

    /// Appends at most `max` bytes of text to `into`; returns how many.
    pub(crate) fn read(&mut self, max: usize, into: &mut Vec<u8>) -> usize {
        let count = max.min(self.text.len());
        into.extend(self.text.drain(..count));
        count
    }
}
