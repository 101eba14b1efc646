//! The line protocol: subscribing, messages with a header line, and what else the server says.

use corecast_protocol::cursor::Cursor;
use corecast_protocol::line::{HEADER_BYTES_MAX, Pace, ServerLine, View, parse_server, sub};
use corecast_protocol::write::Writer;
use corecast_protocol::ws::frame::Opcode;

use super::{Client, Ears, Fault, Purpose, State, append_control};

impl Client {
    /// Asks for every topic of the connection, from where it would go on.
    pub(super) fn subscribe(&mut self, own: u32, ears: &mut Ears<'_>) {
        let plan = &ears.rules.plan;
        for (index, topic) in plan.topics_of_connection(own).enumerate() {
            let topic = plan.topic_name(topic);
            let since = ears.subscriptions[index].since();
            let mut out = [0; HEADER_BYTES_MAX];
            let mut writer = Writer::new(&mut out);
            let (view, pace, id) = (View::default(), Pace::default(), index.to_string());
            sub(&mut writer, &topic, Some(since), plan.conflate.then_some(true), None, view, pace, Some(&id));
            let len = writer.finish().expect("a topic's name is at most 255 bytes");
            append_control(Opcode::Text, &out[..len], ears.say);
        }
        self.state = State::Joining(plan.subscriptions() as u16);
    }

    #[inline]
    pub(super) fn line(&mut self, message: &mut [u8], ears: &mut Ears<'_>) -> Result<(), Fault> {
        if let ([b'M', b'S', b'G', b' ', rest @ ..], Purpose::Subscribe(_)) = (&*message, self.purpose) {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let (head, payload) = end.map_or((rest, &[][..]), |end| (&rest[..end], &rest[end + 1..]));
            if let (Some(index), true) = (self.delivery(payload, ears), ears.rules.keep_cursors) {
                let cursor =
                    cursor_of(head).ok_or_else(|| format!("no cursor in {}", String::from_utf8_lossy(head)))?;
                ears.subscriptions[index].set_cursor(cursor);
            }
            return Ok(());
        }
        self.other_line(message, ears)
    }

    #[cold]
    fn other_line(&mut self, message: &mut [u8], ears: &mut Ears<'_>) -> Result<(), Fault> {
        let text = String::from_utf8_lossy(message).into_owned();
        let publishes = matches!(self.purpose, Purpose::Publish(_));
        let line =
            parse_server(message).map_err(|violation| format!("the server said: {text} ({})", violation.text()))?;
        match line {
            ServerLine::Hi { .. } if publishes => self.state = State::Ready,
            ServerLine::Hi { .. }
            | ServerLine::Pong { .. }
            | ServerLine::Msg { .. }
            | ServerLine::Eos { .. }
            | ServerLine::Stat { .. } => {}
            ServerLine::Ok { token, cursor } => {
                let index = token.parse().ok().filter(|index| *index < ears.subscriptions.len());
                let (Some(index), State::Joining(left)) = (index, self.state) else {
                    return Err(format!("the server confirmed what was not asked for: {text}"));
                };
                self.subscribed(index, ears);
                let subscription = &mut ears.subscriptions[index];
                if let (None, Some(cursor)) = (subscription.cursor(), cursor) {
                    subscription.set_cursor(cursor);
                }
                self.state = if left > 1 { State::Joining(left - 1) } else { State::Ready };
            }
            ServerLine::Gap { topic, to, count, from, .. } => {
                let topic = ears.rules.plan.topic_named(topic);
                let index = match self.purpose {
                    Purpose::Subscribe(own) => topic.and_then(|topic| ears.rules.subscription_of(topic, own)),
                    Purpose::Publish(_) | Purpose::Post(_) => None,
                };
                let index = index.ok_or_else(|| format!("a gap in another's topic: {text}"))?;
                self.gap(index, from, to, count, ears);
            }
            ServerLine::Err { .. } if publishes => {
                ears.account.refused += 1;
                ears.account.fault(|| format!("a message was refused: {text}"));
            }
            // It is said again with the close that follows; a publisher's end is told by that, too.
            ServerLine::Bye { .. } => {}
            ServerLine::Err { .. } => return Err(format!("the server said: {text}")),
        }
        Ok(())
    }

    /// Takes note of messages that the server says it has skipped.
    pub(super) fn gap(&self, index: usize, from: Cursor, to: Cursor, count: u64, ears: &mut Ears<'_>) {
        let subscription = &mut ears.subscriptions[index];
        if from.epoch == to.epoch {
            subscription.seen.skip(count, &mut ears.account.counts);
        } else {
            // Nobody knows how much of the old epoch is gone.
            subscription.seen.skip_some();
        }
        subscription.set_cursor(to);
        ears.account.gaps_told += u64::from(count > 0);
    }
}

/// Returns the cursor of a message's header line, behind its topic.
#[inline]
fn cursor_of(head: &[u8]) -> Option<Cursor> {
    let mut words = head.split(|byte| *byte == b' ');
    let cursor = words.nth(1)?;
    Cursor::parse(std::str::from_utf8(cursor).ok()?).ok()
}
