//! Publishing with POST: the answers to it.

use corecast_protocol::http::client::{ReplyBody, parse};

use super::{Ears, Fault, HEAD_BYTES_MAX};

/// Takes whole answers, and returns how many bytes they were.
pub(super) fn take(bytes: &[u8], ears: &mut Ears<'_>) -> Result<usize, Fault> {
    let mut at = 0;
    while let Some(used) = take_reply(&bytes[at..], ears)? {
        at += used;
    }
    Ok(at)
}

fn take_reply(bytes: &[u8], ears: &mut Ears<'_>) -> Result<Option<usize>, Fault> {
    let answer = parse(bytes, HEAD_BYTES_MAX)
        .map_err(|violation| format!("the answer to a POST is not HTTP: {}", violation.text()))?;
    let Some((reply, head_len)) = answer else {
        return Ok(None);
    };
    let body_len = match reply.body {
        ReplyBody::None => 0,
        ReplyBody::Sized(len) => len as usize,
        body => return Err(format!("the answer to a POST has no length: {body:?}")),
    };
    if bytes.len() < head_len + body_len {
        return Ok(None);
    }
    if reply.status != 200 {
        ears.account.refused += 1;
        let text = String::from_utf8_lossy(&bytes[head_len..head_len + body_len]);
        ears.account.fault(|| format!("a message was refused: {} {text}", reply.status));
    }
    Ok(Some(head_len + body_len))
}
