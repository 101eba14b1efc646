//! TLS handshakes: done by rustls, which is dropped when it is over; its secrets are taken out, and records are ours from then on.
//!
//! ```text
//!   records that came ─▶ one more record at a time ─▶ rustls ─▶ what to send
//!                                                        └─▶ over: keys, names of the client's certificate
//! ```
//!
//! Owns: what is half done, some 5 KB each. A record at a time, so that nothing behind the peer's last handshake message is ever
//! seen by rustls: it may be the first request. Never: touches a socket.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData};
use rustls::{ConnectionTrafficSecrets, HandshakeKind, KeyLog, ProtocolVersion, ServerConfig};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::alert::Fault;
use super::record::{self, Half, Keys, Secret, Version};
use crate::io::aead::Cipher;

/// Bytes of a handshake that wait to be understood, at most: a chain of client certificates has some, a post-quantum hello 1,800.
const WAITING_BYTES_MAX: usize = 32 << 10;

/// Room for what rustls has to say at once: most of it is shorter, a chain of RSA certificates longer.
const ENCODED_BYTES: usize = 4 << 10;

thread_local! {
    /// The traffic secrets that rustls has made since they were last taken: of client and server.
    static CAUGHT: RefCell<[Option<Secret>; 2]> = const { RefCell::new([None; 2]) };
}

/// Catches the traffic secrets, which rustls tells only a key log: new keys are made from them long after it is dropped.
#[derive(Debug)]
pub(super) struct Catcher;

const LABELS: [&str; 2] = ["CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"];

impl KeyLog for Catcher {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        let Some(which) = LABELS.iter().position(|known| *known == label) else { return };
        let mut kept = [0; 48];
        if let Some(place) = kept.get_mut(..secret.len()) {
            place.copy_from_slice(secret);
            CAUGHT.with_borrow_mut(|caught| caught[which] = Some(kept));
        }
    }

    fn will_log(&self, label: &str) -> bool {
        LABELS.contains(&label)
    }
}

/// A handshake that is under way.
pub(super) struct Handshake {
    /// None: it is over.
    rustls: Option<Box<UnbufferedServerConnection>>,
    /// What came and was not understood yet.
    pub(super) waiting: Vec<u8>,
    /// Of these, what rustls has seen: whole records.
    seen: usize,
    secrets: [Option<Secret>; 2],
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

/// How far a handshake is.
#[derive(Debug)]
pub(super) enum Step {
    /// More bytes are needed.
    Waits,
    /// It is over; what waits behind it is of the connection.
    Over(Box<Over>),
}

/// What a handshake came to.
#[derive(Debug)]
pub(super) struct Over {
    pub(super) keys: Keys,
    /// Names of the client's certificate, a line each, if it has shown one.
    pub(super) names: Option<Box<str>>,
    /// An earlier session went on.
    pub(super) resumed: bool,
    /// What came behind the handshake.
    pub(super) rest: Vec<u8>,
}

impl Handshake {
    /// Begins one.
    pub(super) fn begin(config: &Arc<ServerConfig>) -> Option<Handshake> {
        let rustls = Box::new(UnbufferedServerConnection::new(config.clone()).ok()?);
        Some(Handshake { rustls: Some(rustls), waiting: Vec::new(), seen: 0, secrets: [None; 2] })
    }

    /// Goes on with it as far as the bytes go that have come; puts what is to be sent into `out`, also if it fails.
    ///
    /// # Errors
    /// It failed, or what came is no handshake.
    pub(super) fn go_on(&mut self, out: &mut Vec<u8>) -> Result<Step, Fault> {
        loop {
            match record::frame(&self.waiting[self.seen..], None)? {
                Some(len) => self.seen += len,
                None if self.waiting.len() > WAITING_BYTES_MAX => return Err(Fault::RecordOverflow),
                None => return Ok(Step::Waits),
            }
            if self.understand(out)? {
                return self.end().map(|over| Step::Over(Box::new(over)));
            }
        }
    }

    /// Lets rustls look at what it may see; says whether the handshake is over.
    fn understand(&mut self, out: &mut Vec<u8>) -> Result<bool, Fault> {
        let Some(mut rustls) = self.rustls.take() else { return Err(Fault::Unexpected) };
        loop {
            let status = rustls.process_tls_records(&mut self.waiting[..self.seen]);
            let discard = status.discard;
            let (over, again) = match status.state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, out);
                    (false, true)
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    (false, true)
                }
                Ok(ConnectionState::BlockedHandshake) => (false, false),
                Ok(ConnectionState::WriteTraffic(_)) => (true, false),
                Ok(_) => return Err(Fault::Unexpected), // The peer ended it, or sends data before its time.
                Err(_) => {
                    self.waiting.drain(..discard);
                    self.seen -= discard;
                    self.say_why_not(&mut rustls, out);
                    return Err(Fault::Handshake);
                }
            };
            self.catch();
            self.waiting.drain(..discard);
            self.seen -= discard;
            if !again {
                self.rustls = Some(rustls);
                return Ok(over);
            }
        }
    }

    /// Takes the secrets that were made: in the same call, so that they are of no other connection.
    fn catch(&mut self) {
        CAUGHT.with_borrow_mut(|caught| {
            for (kept, new) in self.secrets.iter_mut().zip(caught) {
                if let Some(new) = new.take() {
                    *kept = Some(new);
                }
            }
        });
    }

    /// It failed: rustls has an alert for the peer, behind what else there is to say. Nothing more is asked of it: it would look at the
    /// same bytes once more, and fail once more.
    fn say_why_not(&mut self, rustls: &mut UnbufferedServerConnection, out: &mut Vec<u8>) {
        CAUGHT.with_borrow_mut(|caught| *caught = [None; 2]);
        while rustls.wants_write() {
            // It remembers places in these bytes: they have to be there, whatever they are.
            let status = rustls.process_tls_records(&mut self.waiting[..self.seen]);
            match status.state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, out),
                _ => return,
            }
        }
    }

    fn end(&mut self) -> Result<Over, Fault> {
        let rustls = *self.rustls.take().ok_or(Fault::Handshake)?;
        let names = rustls.peer_certificates().and_then(|chain| chain.first()).map(|leaf| names(leaf));
        let resumed = rustls.handshake_kind() == Some(HandshakeKind::Resumed);
        let version = match rustls.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => Version::Tls13,
            Some(ProtocolVersion::TLSv1_2) => Version::Tls12,
            _ => return Err(Fault::Handshake),
        };
        let (secrets, _) = rustls.dangerous_into_kernel_connection().map_err(|_| Fault::Handshake)?;
        let (cipher, sending) = half(secrets.tx).ok_or(Fault::Handshake)?;
        let (_, receiving) = half(secrets.rx).ok_or(Fault::Handshake)?;
        let [receiving_secret, sending_secret] = match (version, self.secrets) {
            (Version::Tls13, [Some(client), Some(server)]) => [client, server],
            (Version::Tls13, _) => return Err(Fault::Handshake),
            (Version::Tls12, _) => [[0; 48]; 2],
        };
        let keys = Keys { version, cipher, sending, receiving, sending_secret, receiving_secret };
        let rest = self.waiting.split_off(self.seen);
        Ok(Over { keys, names, resumed, rest })
    }
}

/// Puts what rustls has for the peer behind what is to be sent.
fn encode(data: &mut EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) {
    let start = out.len();
    let mut room = ENCODED_BYTES;
    loop {
        out.resize(start + room, 0);
        match data.encode(&mut out[start..]) {
            Ok(len) => return out.truncate(start + len),
            Err(EncodeError::InsufficientSize(short)) if room < short.required_size => room = short.required_size,
            Err(_) => return out.truncate(start),
        }
    }
}

/// Takes the keys of one direction, as far as they are of a cipher that is known.
fn half((seq, secrets): (u64, ConnectionTrafficSecrets)) -> Option<(Cipher, Half)> {
    let (cipher, key, iv) = match &secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Cipher::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Cipher::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Cipher::ChaCha20Poly1305, key, iv),
        _ => return None,
    };
    let mut half = Half { key: [0; 32], iv: [0; 12], seq };
    half.key.get_mut(..key.as_ref().len())?.copy_from_slice(key.as_ref());
    half.iv.copy_from_slice(iv.as_ref().get(..12)?);
    Some((cipher, half))
}

/// Returns the names of a certificate that was verified: a line each, `CN=...` first, then `DNS:`, `email:` and `URI:` as openssl
/// writes them.
fn names(leaf: &[u8]) -> Box<str> {
    let mut lines = Vec::new();
    if let Ok((_, certificate)) = X509Certificate::from_der(leaf) {
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        lines.extend(common.map(|name| format!("CN={name}")));
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        for name in alternatives.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => lines.push(format!("DNS:{name}")),
                GeneralName::RFC822Name(name) => lines.push(format!("email:{name}")),
                GeneralName::URI(name) => lines.push(format!("URI:{name}")),
                _ => {}
            }
        }
    }
    // A name with a line break in it would be two.
    lines.retain(|line| !line.chars().any(char::is_control));
    lines.join("\n").into()
}
