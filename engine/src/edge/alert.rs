//! Alerts: what a TLS peer is told when its connection ends, and why (RFC 8446 section 6).

/// Why a connection ends before its session says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// What came is no record.
    NotTls,
    /// A record is longer than records may be.
    RecordOverflow,
    /// A record was forged or damaged, or comes in the wrong order.
    BadRecord,
    /// A message that has no place here.
    Unexpected,
    /// The handshake failed: rustls has said so to the peer.
    Handshake,
    /// Its handshake was one of too many that were begun and not ended.
    Crowded,
    /// The peer said that it failed.
    TheirAlert,
    /// The PROXY header makes no sense.
    Header,
    /// Too many long records are begun, and this is one of them.
    TooMuchUnfinished,
    /// No more can be sealed with these keys, and there are no others (TLS 1.2).
    Exhausted,
}

/// Kinds of alerts that have a meaning here.
pub(super) const CLOSE_NOTIFY: u8 = 0;
pub(super) const USER_CANCELED: u8 = 90;

/// Levels.
pub(super) const WARNING: u8 = 1;
pub(super) const FATAL: u8 = 2;

impl Fault {
    /// Returns what the peer is told by its number; `None`: nothing.
    pub(super) const fn alert(self) -> Option<u8> {
        match self {
            Fault::RecordOverflow => Some(22),
            Fault::BadRecord => Some(20),
            Fault::Unexpected => Some(10),
            Fault::Exhausted | Fault::TooMuchUnfinished => Some(80),
            Fault::NotTls | Fault::Handshake | Fault::Crowded | Fault::TheirAlert | Fault::Header => None,
        }
    }

    /// Returns what happened, for people.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Fault::NotTls => "what came is not TLS",
            Fault::RecordOverflow => "a TLS record is too long",
            Fault::BadRecord => "a TLS record is forged or damaged",
            Fault::Unexpected => "a TLS message has no place here",
            Fault::Handshake => "the TLS handshake failed",
            Fault::Crowded => "too many TLS handshakes were begun and not ended",
            Fault::TheirAlert => "the peer ended TLS with an alert",
            Fault::Header => "the PROXY header makes no sense",
            Fault::TooMuchUnfinished => "too many long TLS records are begun and not ended",
            Fault::Exhausted => "the TLS keys are used up",
        }
    }
}
