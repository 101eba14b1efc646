//! Close codes (RFC 6455 section 7.4).

/// The purpose is fulfilled.
pub const NORMAL: u16 = 1000;
/// The server goes down, or the page is left.
pub const GOING_AWAY: u16 = 1001;
/// The peer broke the protocol.
pub const PROTOCOL: u16 = 1002;
/// The peer sent a kind of data that is not accepted.
pub const UNSUPPORTED: u16 = 1003;
/// The peer sent text that is not UTF-8.
pub const INVALID: u16 = 1007;
/// The peer broke a rule of ours.
pub const POLICY: u16 = 1008;
/// The peer sent a message that is too large.
pub const TOO_BIG: u16 = 1009;
/// The server met something it did not expect.
pub const INTERNAL: u16 = 1011;
/// The server goes on elsewhere, or anew: the client may connect again at once (IANA registry, 1012).
pub const SERVICE_RESTART: u16 = 1012;
/// The server is full; the client may try again later (IANA registry, 1013).
pub const TRY_AGAIN: u16 = 1013;

/// Says whether a peer may send `code` in a close frame: 1000 to 1003, 1007 to 1014, 3000 to 4999 (RFC 6455 section 7.4 and
/// the IANA registry). 1004 to 1006 and 1015 are never sent.
pub const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
