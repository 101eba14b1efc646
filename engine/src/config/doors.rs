//! The rows of the table of settings about what stands before a connection: TLS, proxies, files.

use std::path::PathBuf;

use corecast_protocol::http::forwarded;
use corecast_protocol::network::Network;

use super::address::Listen;
use super::table::{Kind, Setting, each, joined, one_of};
use super::unix;
use crate::edge::ClientAuth;
use crate::grant::UnixGrants;

const TLS: &str = "TLS and proxies";
const UNIX: &str = "Unix sockets";
const UPGRADES: &str = "Upgrades and restarts";

fn path(text: &str) -> Result<PathBuf, String> {
    if text.contains(char::is_alphanumeric) {
        Ok(PathBuf::from(text))
    } else {
        Err(format!("`{text}` is not a file: expected a path, as in /etc/corecast/cert.pem"))
    }
}

fn path_or_off(text: &str) -> Result<Option<PathBuf>, String> {
    if text == "off" { Ok(None) } else { path(text).map(Some) }
}

fn path_text(path: Option<&PathBuf>) -> String {
    path.map_or_else(|| "off".to_owned(), |path| path.display().to_string())
}

fn joined_paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(",")
}

const CLIENT_AUTH: &[(&str, ClientAuth)] =
    &[("off", ClientAuth::Off), ("optional", ClientAuth::Optional), ("required", ClientAuth::Required)];

const FORWARDED: &[(&str, forwarded::Header)] =
    &[("x-forwarded-for", forwarded::Header::XForwardedFor), ("forwarded", forwarded::Header::Forwarded)];

fn network(text: &str) -> Result<Network, String> {
    Network::parse(text).ok_or_else(|| {
        format!(
            "`{text}` is not a network: expected an address, or its first one and how many bits count, as in 10.0.0.0/8"
        )
    })
}

/// The settings of this heading.
pub(super) const ROWS: &[Setting] = &[
    Setting {
        heading: TLS,
        key: "tls-cert",
        value: "FILE",
        default: "none",
        help: "PEM file with a certificate and what stands between it and its root, for listeners tls://ADDR. Of several, each \
               client gets the one for the name it asks for (SNI), or the first",
        kind: Kind::Many,
        reloads: true,
        set: |c, text, _| {
            c.tls_certificates = if text == "none" { Vec::new() } else { each(text, path)? };
            Ok(())
        },
        show: |c| {
            if c.tls_certificates.is_empty() { "none".to_owned() } else { joined_paths(&c.tls_certificates) }
        },
    },
    Setting {
        heading: TLS,
        key: "tls-key",
        value: "FILE",
        default: "none",
        help: "PEM file with the private key of each tls-cert, in the same order, without a password",
        kind: Kind::Many,
        reloads: true,
        set: |c, text, _| {
            c.tls_keys = if text == "none" { Vec::new() } else { each(text, path)? };
            Ok(())
        },
        show: |c| if c.tls_keys.is_empty() { "none".to_owned() } else { joined_paths(&c.tls_keys) },
    },
    Setting {
        heading: TLS,
        key: "tls-client-ca",
        value: "FILE",
        default: "none",
        help: "PEM file with the authorities that certificates of clients are believed from",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| {
            c.tls_client_ca = if text == "none" { None } else { Some(path(text)?) };
            Ok(())
        },
        show: |c| c.tls_client_ca.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string()),
    },
    Setting {
        heading: TLS,
        key: "tls-client-auth",
        value: "WHEN",
        default: "off",
        help: "Whether clients are asked for a certificate: `off`, `optional`, or `required`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| one_of(text, CLIENT_AUTH).map(|v| c.tls_client_auth = v),
        show: |c| {
            let named = CLIENT_AUTH.iter().find(|(_, auth)| *auth == c.tls_client_auth);
            named.map_or("off", |(name, _)| *name).to_owned()
        },
    },
    Setting {
        heading: TLS,
        key: "proxy-protocol",
        value: "ADDR",
        default: "none",
        help: "Listeners, as `listen` has them, where each connection begins with a PROXY header, version 1 or 2, that says who the \
               client is. Only a proxy may reach such a listener",
        kind: Kind::Many,
        reloads: false,
        set: |c, text, _| {
            c.proxy_protocol = if text == "none" { Vec::new() } else { each(text, Listen::read)? };
            Ok(())
        },
        show: |c| if c.proxy_protocol.is_empty() { "none".to_owned() } else { joined(&c.proxy_protocol) },
    },
    Setting {
        heading: TLS,
        key: "trusted-proxies",
        value: "NET",
        default: "none",
        help: "Addresses of proxies, as in 127.0.0.1 or 10.0.0.0/8, that are believed when they say who asks, and over what: the last \
               address that is none of these is the client, in lists, logs and limits",
        kind: Kind::Many,
        reloads: true,
        set: |c, text, _| {
            c.trusted_proxies = if text == "none" { Vec::new() } else { each(text, network)? };
            Ok(())
        },
        show: |c| if c.trusted_proxies.is_empty() { "none".to_owned() } else { joined(&c.trusted_proxies) },
    },
    Setting {
        heading: TLS,
        key: "forwarded-header",
        value: "HEADER",
        default: "x-forwarded-for",
        help: "Header in which trusted proxies say so: `x-forwarded-for` (with X-Forwarded-Proto), or `forwarded` (RFC 7239). The other \
               one is not read: they may pass it as a client has sent it",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| one_of(text, FORWARDED).map(|v| c.forwarded_header = v),
        show: |c| {
            let named = FORWARDED.iter().find(|(_, header)| *header == c.forwarded_header);
            named.map_or("x-forwarded-for", |(name, _)| *name).to_owned()
        },
    },
    Setting {
        heading: UNIX,
        key: "unix-mode",
        value: "MODE",
        default: "0660",
        help: "Permissions of the files of Unix sockets, in octal digits: who may write to one may connect",
        kind: Kind::One,
        reloads: false,
        set: |c, text, _| unix::mode(text).map(|v| c.unix.mode = v),
        show: |c| format!("{:04o}", c.unix.mode),
    },
    Setting {
        heading: UNIX,
        key: "unix-owner",
        value: "OWNER",
        default: "auto",
        help: "Owner of these files: USER, USER:GROUP or :GROUP. `auto`: those of the engine",
        kind: Kind::One,
        reloads: false,
        set: |c, text, _| {
            (c.unix.user, c.unix.group) = if text == "auto" { (None, None) } else { unix::owner(text)? };
            Ok(())
        },
        show: |c| {
            let owner = (c.unix.user, c.unix.group);
            if owner == (None, None) { "auto".to_owned() } else { unix::owner_text(owner) }
        },
    },
    Setting {
        heading: UNIX,
        key: "unix-grants",
        value: "GRANT",
        default: "auto",
        help: "What clients of Unix sockets may do, by who they are: `uid:N`, `user:NAME`, `gid:N` or `group:NAME` may everything, or what \
               stands behind it, as in `group:web publish:prices/# subscribe:#`. `auto`: root and the user of the engine may everything",
        kind: Kind::Many,
        reloads: true,
        set: |c, text, _| UnixGrants::read(text).map(|v| c.unix_grants = v),
        show: |c| c.unix_grants.to_string(),
    },
    Setting {
        heading: UPGRADES,
        key: "take-over",
        value: "PATH",
        default: "off",
        help: "Path of a Unix socket for upgrades, or `off`: an engine that starts takes histories and listening sockets over from one that \
               waits there, and then waits there itself. Only root and the user of the engine are served",
        kind: Kind::One,
        reloads: false,
        set: |c, text, _| path_or_off(text).map(|v| c.take_over = v),
        show: |c| path_text(c.take_over.as_ref()),
    },
    Setting {
        heading: UPGRADES,
        key: "snapshot",
        value: "FILE",
        default: "off",
        help: "File that histories are restored from at start, as `corecast snapshot save` wrote it, or `off`; if it is not there, the engine \
               starts without",
        kind: Kind::One,
        reloads: false,
        set: |c, text, _| path_or_off(text).map(|v| c.snapshot = v),
        show: |c| path_text(c.snapshot.as_ref()),
    },
];
