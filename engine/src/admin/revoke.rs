//! `POST /revoke` and `GET /revoked`: what the authority is not to believe any more.

use super::answer::{Asked, Reply, Said};
use crate::authority::{Desk, revocation_in};
use crate::control;
use crate::io::clock::unix_s;

/// Revokes what the body says: `{"jti": "..."}`, or `{"sub": "...", "before": seconds}`.
pub(super) fn revoke(asked: &Asked<'_>) -> Said {
    let said = serde_json::from_slice(asked.body)
        .map_err(|_| "the body is no JSON, as in {\"jti\": \"...\"} or {\"sub\": \"...\"}");
    match said.and_then(|value| revocation_in(&value, Some(unix_s()))) {
        Ok(revocation) => ask(asked, |desk, reply| desk.revoke(revocation, reply)),
        Err(cause) => Reply::text(400, cause).into(),
    }
}

/// Lists what is revoked.
pub(super) fn list(asked: &Asked<'_>) -> Said {
    ask(asked, Desk::list)
}

fn ask(asked: &Asked<'_>, question: impl FnOnce(&Desk, control::Reply) -> bool) -> Said {
    asked.later(|reply| asked.watched.authority.as_ref().is_some_and(|desk| question(desk, reply)))
}
