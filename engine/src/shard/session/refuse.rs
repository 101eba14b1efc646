//! Saying no: each refusal in the form that whoever is refused can read, as its [row](crate::shard::refusal) has it.
//!
//! Every refusal goes through here, and is counted here, once. Who may come back is told when: each at a time of its own.

use corecast_protocol::json;
use corecast_protocol::topic::TOPIC_BYTES_MAX;
use corecast_protocol::write::Writer;

use crate::io::driver::{Driver, Slot};
use crate::mesh::Reason;
use crate::shard::Shard;
use crate::shard::random::random;
use crate::shard::refusal::{COME_BACK, COME_BACK_S_MAX, Refusal};
use crate::shard::session::request::answer::{Answer, JSON};
use crate::shard::session::traits::Session;
use crate::shard::slot::connection::Life;

/// Bytes of a text with the words for when to come back: a close frame has no room for more.
pub(in crate::shard) const WORDS_BYTES_MAX: usize = 123;

impl Shard {
    /// Whoever is refused next may come back in so many nanoseconds: that is known, and not drawn.
    pub(in crate::shard) fn comes_back_in_ns(&mut self, ns: u64) {
        self.comes_back_s = Some(u32::try_from(ns.div_ceil(1_000_000_000)).unwrap_or(u32::MAX));
    }

    /// Whoever is refused next has come here while the engine drains, and would find it so again: he comes when that is over.
    pub(in crate::shard) fn comes_back_after_the_drain(&mut self) {
        let left_s = self.drain.map_or(0, |drain| drain.left_s(self.clock.now_us));
        let drawn_s = self.come_back_s(Refusal::Draining).unwrap_or(0);
        self.comes_back_s = Some(left_s.saturating_add(drawn_s));
    }

    /// Returns after how many seconds who is refused may come back, if that is all it takes.
    pub(in crate::shard) fn come_back_s(&mut self, refusal: Refusal) -> Option<u32> {
        let known_s = self.comes_back_s.take();
        let (least_s, most_s) = refusal.row().comes_back_s?;
        let most_s = match self.drain {
            // When very many have to go, they do not come back faster than they can be taken.
            Some(drain) if refusal == Refusal::Draining => {
                drain.comes_back_s_max(most_s.max(self.governor.spread_s(drain.connections())))
            }
            _ => most_s,
        };
        let drawn_s = least_s + (random(&mut self.comes_back_random) % u64::from(most_s - least_s + 1)) as u32;
        Some(known_s.unwrap_or(drawn_s).clamp(1, COME_BACK_S_MAX))
    }

    /// Counts a refusal. Who may not be told of it, or was told already, is the caller's business.
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
        self.notice_request(driver, slot, refusal, text);
        self.refuse_request_with(driver, slot, refusal, &body[..len], ends);
    }

    /// Answers a request with what a home says; a number that is not the next one with that, too.
    pub(in crate::shard) fn refuse_order<D: Driver>(&mut self, driver: &mut D, slot: Slot, reason: Reason) {
        let (refusal, mut words) = (reason.into(), [0; WORDS_BYTES_MAX]);
        let text = words_of(reason, &mut words);
        let Reason::OutOfOrder(number) = reason else {
            return self.refuse_request_because(driver, slot, refusal, text, false);
        };
        let mut body = [0; 256];
        let mut w = Writer::new(&mut body);
        w.text("{\"error\":");
        json::string(&mut w, text);
        w.text(",\"expected\":");
        w.decimal(number);
        w.byte(b'}');
        let len = w.finish().expect("reasons are short");
        self.notice_request(driver, slot, refusal, text);
        self.refuse_request_with(driver, slot, refusal, &body[..len], false);
    }

    fn notice_request<D: Driver>(&mut self, driver: &D, slot: Slot, refusal: Refusal, text: &str) {
        let Some(left_out) = self.notices.may_tell(refusal, self.clock.now_us) else { return };
        let topic = self.exchange_if_any(slot).map(|exchange| exchange.words.topic(driver.memory()));
        self.write_notice(slot, refusal, topic.as_ref().map_or("", |topic| topic.text()), text, left_out);
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
        self.notice(slot, refusal, topic, refusal.row().text);
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
        let mut number = [0; 20];
        let mut w = Writer::new(&mut number);
        let after = self.come_back_s(refusal).map(|after_s| w.decimal(after_s.into()));
        let len = w.finish().expect("a number fits");
        let after = after.map(|()| ("Retry-After", std::str::from_utf8(&number[..len]).expect("digits are text")));
        let mut extra = [("", ""); HEADERS_MAX];
        let headers = row.headers.iter().copied().chain(after);
        let count = extra.iter_mut().zip(headers).map(|(to, header)| *to = header).count();
        self.answer(driver, slot, Answer { status, content_type: Some(JSON), extra: &extra[..count] }, body);
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
        topic: &str,
    ) {
        self.refuse_command_because(driver, slot, token, refusal, topic, refusal.row().text);
    }

    /// Answers a command with a refusal in words of the occasion.
    pub(in crate::shard) fn refuse_command_because<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        token: Option<&str>,
        refusal: Refusal,
        topic: &str,
        text: &str,
    ) {
        match refusal.row().err {
            Some(code) => {
                self.refused(refusal);
                self.notice(slot, refusal, topic, text);
                let after_s = self.come_back_s(refusal);
                let mut words = [0; WORDS_BYTES_MAX];
                self.tell_err(driver, slot, token, code, with_words(&mut words, text, after_s));
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
            Session::Request => return self.refuse_request_because(driver, slot, refusal, text, true),
            Session::Poll => return self.refuse_poll(driver, slot, refusal, text),
            _ => {}
        }
        self.notice(slot, refusal, "", text);
        let after_s = self.come_back_s(refusal);
        let mut words = [0; WORDS_BYTES_MAX];
        let text = with_words(&mut words, text, after_s);
        match self.slots.connections[slot as usize].session {
            Session::Stream => {
                self.refused(refusal);
                self.refuse_stream(driver, slot, refusal, text, after_s);
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

/// Returns the words in which a home's no is told.
pub(in crate::shard) fn words_of(reason: Reason, words: &mut [u8; WORDS_BYTES_MAX]) -> &str {
    match reason {
        Reason::OutOfOrder(number) => {
            let mut w = Writer::new(words);
            w.decimal(number);
            w.text(" is next: the numbers of a producer in a topic grow by one, from 1 on");
            let len = w.finish().expect("a number and these words fit");
            std::str::from_utf8(&words[..len]).expect("it was made of text")
        }
        Reason::TooManyProducers => "the topic has as many producers as it may",
        reason => Refusal::from(reason).row().text,
    }
}

/// Headers of a refusal, at most: those of its row, and when to come back.
const HEADERS_MAX: usize = 2;

/// Returns a text with the words for when to come back behind it, if that is known and there is room.
fn with_words<'w>(words: &'w mut [u8; WORDS_BYTES_MAX], text: &'w str, after_s: Option<u32>) -> &'w str {
    let Some(after_s) = after_s else { return text };
    let mut w = Writer::new(words);
    w.text(text);
    w.text(COME_BACK);
    w.decimal(after_s.into());
    w.byte(b's');
    match w.finish() {
        Ok(len) => std::str::from_utf8(&words[..len]).expect("texts are text"),
        Err(_) => text,
    }
}
