//! Batches: NDJSON bodies, a message a line. All lines are checked before any is published.

use corecast_protocol::json;
use corecast_protocol::write::Writer;

use super::Shard;
use super::answer::{Answer, JSON, RETRY, ok};
use super::connection::Waiting;
use super::subscribe::Outcome;
use super::websocket::is_utf8;
use crate::io::driver::{Driver, Slot};
use crate::mesh::{Content, Purpose};

/// Bodies of batches may be so many times as large as a message.
pub(super) const BATCH_MESSAGES: u64 = 16;

impl Shard {
    /// Checks every line of a batch, then begins to publish them.
    pub(super) fn begin_batch<D: Driver>(&mut self, driver: &mut D, slot: Slot, body: &[u8]) {
        let payload_bytes_max = self.limits.message_bytes_max as usize;
        let mut scratch = Vec::new();
        for (n, line) in lines(body).enumerate() {
            scratch.clear();
            scratch.extend_from_slice(line);
            let wrong = match json::publish_line(&mut scratch) {
                Ok(line) if line.data.len() <= payload_bytes_max => continue,
                Ok(_) => format!("line {}: the payload is too large", n + 1),
                Err(error) => format!("line {}: {error}", n + 1),
            };
            self.answer_error(driver, slot, 400, &wrong, false);
            self.request_ends(slot);
            return;
        }
        self.stash(driver, slot, false, body);
        if self.is_http(slot) && !self.is_closing(slot) {
            self.active(slot).complete = false;
            self.publish_batch(driver, slot);
        }
    }

    /// Publishes the lines of a checked batch, as far as the rings have room.
    pub(super) fn publish_batch<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let index = self.connections[slot as usize].active as usize;
        let span = self.actives[index].body.span();
        let body = driver.memory().bytes(span).to_vec();
        let offset = self.actives[index].batch.offset as usize;
        let mut scratch = Vec::new();
        for line in lines(&body).filter(|line| line.as_ptr() as usize - body.as_ptr() as usize >= offset) {
            scratch.clear();
            scratch.extend_from_slice(line);
            let Ok(message) = json::publish_line(&mut scratch) else { continue };
            let event = message.event.unwrap_or("");
            let content = Content { event, payload: message.data, text: is_utf8(message.data) };
            if let Outcome::NoRoom(home) = self.publish(slot, message.topic, content, Purpose::Batch, "") {
                self.park(slot, home);
                self.actives[index].complete = true;
                return;
            }
            let batch = &mut self.actives[index].batch;
            batch.sent += 1;
            batch.offset = (line.as_ptr() as usize - body.as_ptr() as usize + line.len()) as u32;
        }
        self.actives[index].batch.offset = body.len() as u32;
        self.actives[index].body.clear(&mut self.store);
        self.actives[index].waiting = Waiting::Answer;
        self.end_batch(driver, slot);
    }

    pub(super) fn answer_line_of_batch<D: Driver>(&mut self, driver: &mut D, slot: Slot, published: bool) {
        let Some(active) = self.active_if_any(slot) else { return };
        active.batch.answered += 1;
        active.batch.refused += u32::from(!published);
        self.end_batch(driver, slot);
    }

    /// Answers a batch, once all its lines are sent and answered.
    fn end_batch<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let Some(active) = self.active_if_any(slot) else { return };
        let batch = active.batch;
        if active.waiting != Waiting::Answer || batch.answered < batch.sent {
            return;
        }
        let mut body = [0; 128];
        let mut w = Writer::new(&mut body);
        let published = u64::from(batch.sent - batch.refused);
        let answer = if batch.refused == 0 {
            json::batch_answer(&mut w, published);
            ok(JSON)
        } else {
            w.text("{\"published\":");
            w.decimal(published);
            w.text(",\"error\":\"the engine is full\"}");
            Answer { status: 503, content_type: Some(JSON), extra: &RETRY }
        };
        let len = w.finish().expect("a number fits");
        self.answer(driver, slot, answer, &body[..len]);
        self.request_ends_and_goes_on(driver, slot);
    }
}

/// Non-empty lines.
fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.iter().all(u8::is_ascii_whitespace))
}
