//! `POST /revoke` and `GET /revoked`: what the authority is not to believe any more.

use corecast_protocol::http::head::{Method, Request};
use crossbeam_channel::bounded;

use super::{Reply, Said, Watched};
use crate::authority::{Desk, revocation_in};
use crate::control;
use crate::io::clock::unix_s;
use crate::io::doorbell::Doorbell;

/// Revokes what the body says: `{"jti": "..."}`, or `{"sub": "...", "before": seconds}`.
pub(super) fn revoke(body: &[u8], watched: &Watched, bell: &Doorbell) -> Said {
    let said =
        serde_json::from_slice(body).map_err(|_| "the body is no JSON, as in {\"jti\": \"...\"} or {\"sub\": \"...\"}");
    match said.and_then(|value| revocation_in(&value, Some(unix_s()))) {
        Ok(revocation) => ask(watched, bell, false, |desk, reply| desk.revoke(revocation, reply)),
        Err(cause) => Reply::text(400, cause).into(),
    }
}

/// Lists what is revoked.
pub(super) fn list(request: &Request<'_>, watched: &Watched, bell: &Doorbell) -> Said {
    match request.method {
        Method::Get | Method::Head => ask(watched, bell, request.method == Method::Head, Desk::list),
        _ => Reply::not_allowed("GET, HEAD").into(),
    }
}

fn ask(
    watched: &Watched,
    bell: &Doorbell,
    head_only: bool,
    question: impl FnOnce(&Desk, control::Reply) -> bool,
) -> Said {
    let (to, outcome) = bounded(1);
    let reply = control::Reply { to, bell: bell.clone() };
    match &watched.authority {
        Some(desk) if question(desk, reply) => Said::Later { outcome, head_only },
        _ => Reply::text(503, "too much is asked already").into(),
    }
}
