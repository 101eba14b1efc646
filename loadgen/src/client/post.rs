//! Publishing with POST: the answers to it.

use corecast_protocol::http::body::Chunked;
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
        ReplyBody::Chunked => match chunked_len(&bytes[head_len..])? {
            Some(len) => len,
            None => return Ok(None),
        },
        ReplyBody::UntilClose => return Err("the answer to a POST has no end but that of the connection".to_owned()),
    };
    if bytes.len() < head_len + body_len {
        return Ok(None);
    }
    if !(200..300).contains(&reply.status) {
        ears.account.refused += 1;
        let text = String::from_utf8_lossy(&bytes[head_len..head_len + body_len]);
        ears.account.fault(|| format!("a message was refused: {} {text}", reply.status));
    }
    Ok(Some(head_len + body_len))
}

/// Returns how many bytes a chunked body takes, if all of it is there.
fn chunked_len(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let (mut chunked, mut at) = (Chunked::default(), 0);
    while at < bytes.len() {
        let piece = chunked.next(&bytes[at..]).map_err(|violation| {
            format!("the answer to a POST is not chunked as it should be: {}", violation.text())
        })?;
        at += piece.consumed;
        if piece.done {
            return Ok(Some(at));
        }
    }
    Ok(None)
}
