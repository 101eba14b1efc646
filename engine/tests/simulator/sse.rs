//! A reader of event streams, as naive as the WHATWG's text allows and stricter than it: fields in one order, one space.

use crate::base64::unbase64;
use crate::item::{Gap, Item, Loss, Message, gap, object, refusal};
use crate::oracle::Cursor;

/// Reads one stream. A request for several topics gets events without an id, and blocks with nothing else.
#[derive(Debug)]
pub(crate) struct EventStream {
    shared: bool,
    /// The data of an event is an object that says everything.
    enveloped: bool,
    blocks: usize,
}

impl EventStream {
    pub(crate) fn new(shared: bool, enveloped: bool) -> EventStream {
        EventStream { shared, enveloped, blocks: 0 }
    }

    /// Takes the next block off `bytes`, once it is whole.
    pub(crate) fn take(&mut self, bytes: &mut Vec<u8>) -> Option<Item> {
        let end = bytes.windows(2).position(|two| two == b"\n\n")?;
        let block = std::str::from_utf8(&bytes[..end]).expect("an event stream is UTF-8").to_string();
        bytes.drain(..end + 2);
        self.blocks += 1;
        assert!(!block.contains('\r'), "one kind of line end: {block:?}");
        match self.blocks {
            1 => {
                let retry_ms = block.strip_prefix("retry: ").and_then(|ms| ms.parse().ok());
                assert!(retry_ms.is_some_and(|ms: u32| (1_500..4_500).contains(&ms)), "the first block: {block:?}");
                return Some(Item::Life);
            }
            2 => {
                let blank = block.strip_prefix(':').is_some_and(|rest| rest.bytes().all(|byte| byte == b' '));
                assert!(blank && block.len() + 2 == 2_048, "2 KiB of padding, not {block:?}");
                return Some(Item::Life);
            }
            _ if block == ":" => return Some(Item::Life),
            _ => {}
        }
        Some(self.event(&block))
    }

    fn event(&self, block: &str) -> Item {
        let mut lines = block.split('\n').peekable();
        if let Some(ms) = block.strip_prefix("retry: ") {
            // Who is refused is told when to come back.
            assert!(ms.parse::<u32>().is_ok_and(|ms| ms >= 1_000), "{block:?}");
            return Item::Life;
        }
        let mut field =
            |name: &str| lines.next_if(|line| line.starts_with(name)).map(|line| line[name.len()..].to_string());
        let id = field("id: ");
        let topic = field("topic: ");
        let event = field("event: ");
        let data: Vec<String> = std::iter::from_fn(|| field("data: ")).collect();
        assert_eq!(lines.next(), None, "a field that does not belong there: {block:?}");
        if data.is_empty() {
            assert!(self.shared && topic.is_none() && event.is_none(), "an event without data: {block:?}");
            return Item::Cursors(id.unwrap_or_else(|| panic!("a block of nothing: {block:?}")));
        }
        let data = data.join("\n");
        if event.as_deref() == Some("corecast-gap") {
            assert_eq!(topic, None, "a gap says its topic inside: {block:?}");
            let told: Gap = gap(&serde_json::from_str(&data).expect("the data of a gap is an object"));
            assert_eq!(id, (!self.shared).then(|| told.to.clone()), "the id of a gap is its end: {block:?}");
            return Item::Gap(told);
        }
        if event.as_deref() == Some("corecast-refused") {
            assert_eq!((id, topic), (None, None), "a refusal moves no cursor: {block:?}");
            return Item::Refused(refusal(&serde_json::from_str(&data).expect("the data of a refusal is an object")));
        }
        if self.enveloped {
            assert_eq!((id.is_some(), topic, event), (!self.shared, None, None), "all is in the envelope: {block:?}");
            let item = object(&serde_json::from_str(&data).expect("an envelope is an object"));
            let Item::Message(message) = &item else { panic!("a gap has no envelope: {block:?}") };
            let cursor = message.cursor.map(|cursor| cursor.to_string());
            assert!(self.shared || id == cursor, "the id is the cursor: {block:?}");
            return item;
        }
        assert_eq!((id.is_some(), topic.is_some()), (!self.shared, self.shared), "an id or a topic: {block:?}");
        let cursor = id.as_deref().map(Cursor::parse);
        if event.as_deref() == Some("corecast-base64") {
            let bytes = unbase64(&data);
            assert!(std::str::from_utf8(&bytes).is_err(), "what is text goes as text: {block:?}");
            return Item::Message(Message { topic, cursor, event: None, bytes, loss: Loss::EventName });
        }
        Item::Message(Message { topic, cursor, event, bytes: data.into_bytes(), loss: Loss::LineEnds })
    }
}

/// The examples of the protocol's description: events with and without name, a payload of several lines, base64, a gap.
#[test]
fn event_streams_are_read() {
    let text = format!(
        "retry: 3000\n\n:{}\n\nid: 0000abcd-1\ndata: one\n\nid: 0000abcd-2\nevent: tick\ndata: a\ndata: \n\n:\n\n\
         id: 0000abcd-3\nevent: corecast-base64\ndata: //4=\n\nid: 0000abcd-9\nevent: corecast-gap\n\
         data: {{\"topic\":\"t\",\"from\":\"0000abcd-3\",\"to\":\"0000abcd-9\",\"count\":6,\"reason\":\"overflow\"}}\n\nid: 0",
        " ".repeat(2_045)
    );
    let mut bytes = text.into_bytes();
    let mut stream = EventStream::new(false, false);
    let items: Vec<Item> = std::iter::from_fn(|| stream.take(&mut bytes)).filter(|item| *item != Item::Life).collect();
    let message = |seq, event: Option<&str>, bytes: &[u8], loss| {
        let cursor = Some(Cursor { epoch: 0xABCD, seq });
        Item::Message(Message { topic: None, cursor, event: event.map(str::to_string), bytes: bytes.to_vec(), loss })
    };
    assert_eq!(items[0], message(1, None, b"one", Loss::LineEnds));
    assert_eq!(items[1], message(2, Some("tick"), b"a\n", Loss::LineEnds));
    assert_eq!(items[2], message(3, None, b"\xFF\xFE", Loss::EventName));
    assert!(matches!(&items[3], Item::Gap(gap) if gap.count == 6));
    assert_eq!((items.len(), bytes.as_slice()), (4, &b"id: 0"[..]));
}
