//! Who asked a proxy: `X-Forwarded-For` with `X-Forwarded-Proto`, or `Forwarded` (RFC 7239).
//!
//! Owns: how such lists are read. Each proxy writes the address it was asked from behind what it was given, so that only the end of a
//! list is worth something: what those wrote who are trusted. So it is read from its end, and the first address that is none of theirs is
//! the client; everything before it may be a lie, broken on purpose, and is not looked at.
//! Never: believes that a list is there because a proxy wrote it. Who sends it is for the caller to know; and which of the two headers
//! its proxies write, because the other one passes them as it came.

use core::net::{IpAddr, SocketAddr};

use super::field::{Field, trim};
use super::head::Known;

/// The header that proxies write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Header {
    /// `X-Forwarded-For`, and `X-Forwarded-Proto`.
    #[default]
    XForwardedFor,
    /// `Forwarded`.
    Forwarded,
}

/// Who asked, as far as proxies say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asker {
    /// Its address; port 0 if that was not said. None: nothing was said, or nothing that can be believed.
    pub address: Option<SocketAddr>,
    /// Whether it asked over TLS, if that was said.
    pub https: Option<bool>,
}

/// Finds the client in what proxies say of it.
pub fn asker(headers: &Known<'_>, header: Header, is_trusted: impl Fn(IpAddr) -> bool) -> Asker {
    match header {
        Header::XForwardedFor => {
            let last = last_member(headers.x_forwarded_for, is_trusted, |member| Some((node(member, true)?, None)));
            Asker { address: last.map(|(address, _)| address), https: scheme(headers.x_forwarded_proto) }
        }
        Header::Forwarded => {
            let last = last_member(headers.forwarded, is_trusted, element);
            last.map_or_else(Asker::default, |(address, https)| Asker { address: Some(address), https })
        }
    }
}

type Told = (SocketAddr, Option<bool>);

/// What the lines of a list have said so far.
enum Said {
    Nothing,
    /// All of them are trusted; the first is this.
    Trusted(Told),
    Client(Told),
    /// The last one that counts makes no sense.
    Nonsense,
}

/// Finds the last member that is not trusted; the first one, if all are.
fn last_member(
    list: Field<'_>,
    is_trusted: impl Fn(IpAddr) -> bool,
    read: impl Fn(&[u8]) -> Option<Told>,
) -> Option<Told> {
    let mut said = Said::Nothing;
    // Lines come in order, and the members of each from its end; a line with a member that decides makes those before it forgotten.
    for line in list.values() {
        let mut first = None;
        let mut rest = Some(line);
        let decides = loop {
            let Some(text) = rest else { break None };
            let member = match split_last(text) {
                Some((before, member)) => {
                    rest = before;
                    member
                }
                None => break Some(Said::Nonsense),
            };
            match read(trim(member)) {
                Some(told) if is_trusted(told.0.ip()) => first = Some(told),
                Some(told) => break Some(Said::Client(told)),
                None => break Some(Said::Nonsense),
            }
        };
        said = match (decides, said, first) {
            (Some(decides), ..) => decides,
            (None, Said::Nothing, Some(first)) => Said::Trusted(first),
            (None, said, _) => said,
        };
    }
    match said {
        Said::Trusted(told) | Said::Client(told) => Some(told),
        Said::Nothing | Said::Nonsense => None,
    }
}

/// Splits the last member off a list at a comma that no quotes enclose; none if that cannot be told. Seen from the end, quotes that
/// somebody left open further ahead enclose nothing.
fn split_last(text: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let mut quoted = false;
    for (at, byte) in text.iter().enumerate().rev() {
        match byte {
            // Quotes that are escaped do not occur in addresses, and from this end nobody knows what they are.
            b'\\' => return None,
            b'"' => quoted = !quoted,
            b',' if !quoted => return Some((Some(&text[..at]), &text[at + 1..])),
            _ => {}
        }
    }
    (!quoted).then_some((None, text))
}

/// Reads an element of `Forwarded`: pairs, one of which says for whom.
fn element(text: &[u8]) -> Option<Told> {
    let (mut address, mut https) = (None, None);
    for pair in super::field::split_unquoted(text, b';') {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (trim(&pair[..at]), trim(&pair[at + 1..]));
        let value = match value {
            [b'"', inner @ .., b'"'] => inner,
            plain => plain,
        };
        if name.eq_ignore_ascii_case(b"for") {
            if address.is_some() {
                return None;
            }
            address = Some(node(value, false)?);
        } else if name.eq_ignore_ascii_case(b"proto") {
            https = is_https(value);
        }
    }
    Some((address?, https))
}

/// Reads who is meant: an address, with a port or without; IPv6 in brackets (RFC 7239 section 6), or `bare`, as others write it.
fn node(text: &[u8], bare: bool) -> Option<SocketAddr> {
    let text = core::str::from_utf8(text).ok()?;
    let (ip, port): (IpAddr, &str) = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, port) = rest.split_once(']')?;
            (IpAddr::V6(ip.parse().ok()?), port)
        }
        None => match text.parse::<IpAddr>() {
            Ok(IpAddr::V6(_)) if !bare => return None,
            Ok(ip) => (ip, ""),
            Err(_) => {
                let at = text.find(':')?;
                (IpAddr::V4(text[..at].parse().ok()?), &text[at..])
            }
        },
    };
    let port = match port.strip_prefix(':') {
        // A name that the proxy made up for it (RFC 7239 section 6.3).
        Some(made_up) if made_up.starts_with('_') && made_up.len() > 1 => 0,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
        None if port.is_empty() => 0,
        None => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// Reads `X-Forwarded-Proto`: one word. Of several nobody knows whose they are.
fn scheme(list: Field<'_>) -> Option<bool> {
    let mut words = list.members();
    let word = words.next()?;
    if words.next().is_some() { None } else { is_https(word) }
}

fn is_https(word: &[u8]) -> Option<bool> {
    if word.eq_ignore_ascii_case(b"https") || word.eq_ignore_ascii_case(b"wss") {
        Some(true)
    } else if word.eq_ignore_ascii_case(b"http") || word.eq_ignore_ascii_case(b"ws") {
        Some(false)
    } else {
        None
    }
}
