//! Saying no: each refusal in the form that whoever is refused can read, as its [row](crate::shard::refusal) has it.
//!
//! Every refusal goes through here, and is counted here, once.

use corecast_protocol::json;
use corecast_protocol::topic::TOPIC_BYTES_MAX;
use corecast_protocol::write::Writer;

use crate::io::driver::{Driver, Slot};
use crate::shard::Shard;
use crate::shard::refusal::Refusal;
use crate::shard::session::request::answer::{Answer, JSON};
use crate::shard::session::traits::Session;
use crate::shard::slot::connection::Life;

impl Shard {
    /// Counts a refusal that nobody can be told, or that was told in part already.
    pub(in crate::shard) fn refused(&mut self, refusal: Refusal) {
        refusal.count(&mut self.stats);
    }

    /// Answers a request with a refusal, and with `ends` closes the connection afterwards.
    pub(in crate::shard) fn refuse_request<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        refusal: Refusal,
        ends: bool,
    ) {
        self.refuse_request_because(driver, slot, refusal, refusal.row().text, ends);
    }

    /// Answers a request with a refusal in words of the occasion.
    pub(in crate::shard) fn refuse_request_because<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        refusal: Refusal,
        text: &str,
        ends: bool,
    ) {
        let mut body = [0; 512];
        let mut w = Writer::new(&mut body);
        json::error(&mut w, text);
        let len = w.finish().expect("reasons are short");
        self.refuse_request_with(driver, slot, refusal, &body[..len], ends);
    }

    /// Answers a request of several topics with the refusal of one of them, which is named.
    pub(in crate::shard) fn refuse_topic<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        refusal: Refusal,
        topic: &str,
        ends: bool,
    ) {
        // Escaping makes a topic at most six times as long.
        let mut body = [0; 6 * TOPIC_BYTES_MAX + 256];
        let mut w = Writer::new(&mut body);
        w.text("{\"error\":");
        json::string(&mut w, refusal.row().text);
        w.text(",\"topic\":");
        json::string(&mut w, topic);
        w.byte(b'}');
        let len = w.finish().expect("room for the longest topic was made");
        self.refuse_request_with(driver, slot, refusal, &body[..len], ends);
    }

    /// Answers a request with a refusal and a body that says more than that.
    pub(in crate::shard) fn refuse_request_with<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        refusal: Refusal,
        body: &[u8],
        ends: bool,
    ) {
        self.refused(refusal);
        let row = refusal.row();
        let status = row.status.expect("what refuses requests has a status");
        if ends {
            self.exchange(slot).pending.keep_alive = false;
        }
        self.answer(driver, slot, Answer { status, content_type: Some(JSON), extra: row.headers }, body);
        if ends {
            self.end_after_answer(slot);
        }
    }

    /// Answers a command of the line protocol with a refusal; one that no command can go on after closes the connection.
    pub(in crate::shard) fn refuse_command<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        token: Option<&str>,
        refusal: Refusal,
    ) {
        let row = refusal.row();
        match row.err {
            Some(code) => {
                self.refused(refusal);
                self.tell_err(driver, slot, token, code, row.text);
            }
            None => self.refuse_connection(driver, slot, refusal),
        }
    }

    /// Ends an open connection with a refusal: a WebSocket with its close code, a stream in order, behind an
    /// event that says why; a request and a poll are answered.
    pub(in crate::shard) fn refuse_connection<D: Driver>(&mut self, driver: &mut D, slot: Slot, refusal: Refusal) {
        self.refuse_connection_because(driver, slot, refusal, refusal.row().text);
    }

    /// Ends an open connection with a refusal in words of the occasion.
    pub(in crate::shard) fn refuse_connection_because<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        refusal: Refusal,
        text: &str,
    ) {
        if self.slots.connections[slot as usize].life != Life::Open || self.slots.is_closing(slot) {
            return; // It has had its last word.
        }
        match self.slots.connections[slot as usize].session {
            Session::Request => self.refuse_request_because(driver, slot, refusal, text, true),
            Session::Poll => self.refuse_poll(driver, slot, refusal, text),
            Session::Stream => {
                self.refused(refusal);
                self.refuse_stream(driver, slot, refusal, text);
            }
            #[cfg(feature = "telnet")]
            Session::Telnet => {
                self.refused(refusal);
                self.end_telnet(driver, slot, text);
            }
            _ => {
                self.refused(refusal);
                let code = refusal.row().close.expect("what ends connections has a close code");
                self.close_websocket(driver, slot, code, text);
            }
        }
    }
}
