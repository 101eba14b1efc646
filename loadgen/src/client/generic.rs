//! Another server's WebSocket: a conversation from templates, and messages that are found inside whatever is around them.

use corecast_protocol::ws::frame::Opcode;

use super::{Client, Ears, Fault, Purpose, State, append_control};
use crate::payload::{self, STAMP_BYTES};
use crate::plan::{Filling, Generic, Script, Step, Template};

/// Numbers of publishing connections begin here, so that no subscriber has the same.
const PUBLISHER_IDS: u32 = 90_000_000;

/// How to talk to another server, read.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) script: Script,
    pub(crate) subprotocol: Option<String>,
    binary: bool,
}

impl Talk {
    pub(crate) fn new(generic: &Generic) -> Talk {
        Talk {
            script: generic.script().expect("a plan's templates are checked before"),
            subprotocol: generic.subprotocol.clone(),
            binary: generic.binary,
        }
    }

    /// Returns the kind of frame that something is said in.
    pub(crate) fn opcode(&self, template: &Template) -> Opcode {
        if self.binary || !template.is_text() { Opcode::Binary } else { Opcode::Text }
    }
}

impl Client {
    /// Returns the path of the WebSocket.
    pub(super) fn generic_path(&self, topic: &str, talk: &Talk) -> String {
        let mut path = Vec::new();
        talk.script.path.before(&Filling { topic, id: self.id(), bytes: 0 }, &mut path);
        String::from_utf8_lossy(&path).into_owned()
    }

    fn id(&self) -> u32 {
        match self.purpose {
            Purpose::Subscribe(own) => own,
            Purpose::Publish(number) | Purpose::Post(number) => PUBLISHER_IDS + number,
        }
    }

    fn say(&self, template: &Template, ears: &mut Ears<'_>) {
        let plan = &ears.rules.plan;
        let topic = match self.purpose {
            Purpose::Subscribe(own) => plan.topic_name(plan.topic_of(plan.subscribe[0], own)),
            Purpose::Publish(_) | Purpose::Post(_) => String::new(),
        };
        let Some(talk) = &ears.rules.talk else {
            return;
        };
        let mut text = Vec::new();
        template.before(&Filling { topic: &topic, id: self.id(), bytes: 0 }, &mut text);
        append_control(talk.opcode(template), &text, ears.say);
    }

    /// Says what is next to be said, until something has to be waited for; then the connection is ready.
    pub(super) fn talk_on(&mut self, step: u16, ears: &mut Ears<'_>) {
        let Some(talk) = &ears.rules.talk else {
            return;
        };
        let steps = match self.purpose {
            Purpose::Subscribe(_) => &talk.script.steps[..],
            Purpose::Publish(_) | Purpose::Post(_) => &talk.script.steps[..talk.script.publisher_steps],
        };
        let mut at = usize::from(step);
        while let Some(Step::Say(template)) = steps.get(at) {
            self.say(template, ears);
            at += 1;
        }
        if at < steps.len() {
            self.state = State::Joining(at as u16);
            return;
        }
        self.state = State::Ready;
        if !ears.subscriptions.is_empty() {
            self.subscribed(0, ears);
        }
    }

    /// Takes a message of the server's.
    pub(super) fn generic(&mut self, message: &[u8], ears: &mut Ears<'_>) -> Result<(), Fault> {
        let Some(talk) = &ears.rules.talk else {
            return Ok(());
        };
        let mut rest = message;
        while let State::Joining(step) = self.state {
            let Some(Step::Hear(text)) = talk.script.steps.get(usize::from(step)) else {
                break;
            };
            match find(rest, text) {
                Some(at) => rest = &rest[at + text.len()..],
                None => return self.answer(message, talk, ears),
            }
            self.talk_on(step + 1, ears);
        }
        if matches!(self.purpose, Purpose::Subscribe(_)) && self.state == State::Ready {
            self.find_payloads(rest, ears);
        }
        self.answer(message, talk, ears)
    }

    fn answer(&self, message: &[u8], talk: &Talk, ears: &mut Ears<'_>) -> Result<(), Fault> {
        for (heard, say) in &talk.script.answers {
            if heard.is_in(message) {
                self.say(say, ears);
            }
        }
        Ok(())
    }

    /// Takes every payload in a message. One whose end has not come is kept.
    fn find_payloads(&mut self, message: &[u8], ears: &mut Ears<'_>) {
        let carried = self.cut.as_mut().map(|cut| std::mem::take(&mut cut.message)).unwrap_or_default();
        if !carried.is_empty() {
            return self.find_payloads(&[&carried[..], message].concat(), ears);
        }
        let mut at = 0;
        while let Some(run) = payload::run(message, at) {
            at = run.end;
            let mut rest = &message[run.clone()];
            let mut found = false;
            while let Some(payload) = payload::find(rest) {
                found = true;
                self.delivery(&rest[payload.clone()], ears);
                rest = &rest[payload.end..];
            }
            let cut = run.end == message.len() && !rest.is_empty() && rest.len() < ears.rules.payload_bytes_max;
            if cut {
                self.cut.get_or_insert_default().message.extend_from_slice(rest);
            } else if !found && run.len() >= STAMP_BYTES {
                ears.account.counts.corrupted += 1;
            }
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len().max(1)).position(|window| window.starts_with(needle))
}
