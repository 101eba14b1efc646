//! A reader of `multipart/x-mixed-replace`: a boundary, headers, a body of the length they say, a boundary.

use crate::base64::unbase64;
use crate::item::{Item, Loss, Message, gap, refusal};
use crate::oracle::Cursor;

pub(crate) const BOUNDARY: &str = "corecast-part-7f3e9a51c2d84b06";

/// Reads one body.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    begun: bool,
    /// Headers of the part that is arriving.
    headers: Vec<(String, String)>,
    /// The closing boundary has come.
    pub(crate) ended: bool,
}

impl Parts {
    /// Takes the next header that is a sign of life, or the rest of the next part, off `bytes`, once it is whole.
    pub(crate) fn take(&mut self, bytes: &mut Vec<u8>) -> Option<Item> {
        if self.ended {
            assert!(bytes.is_empty(), "bytes after the closing boundary");
            return None;
        }
        if !self.begun {
            expect(bytes, format!("--{BOUNDARY}\r\n").as_bytes())?;
            self.begun = true;
            return Some(Item::Life);
        }
        let line_len = bytes.windows(2).position(|two| two == b"\r\n")?;
        if bytes.starts_with(b"Corecast-Heartbeat: 1\r\n") {
            bytes.drain(..line_len + 2);
            return Some(Item::Life);
        }
        if line_len == 0 {
            // A last part that is empty, and without any header but signs of life.
            expect(bytes, format!("\r\n--{BOUNDARY}--\r\n").as_bytes())?;
            self.ended = true;
            return Some(Item::Life);
        }
        let head_len = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&bytes[..head_len]).expect("headers are text");
        self.headers = head.split_terminator("\r\n").filter(|line| !line.is_empty()).map(pair).collect();
        let len: usize = self.header("Content-Length").expect("a length").parse().expect("a length is a number");
        let end = format!("\r\n--{BOUNDARY}\r\n");
        let whole_len = head_len + len + end.len();
        if bytes.len() < whole_len {
            return None;
        }
        assert_eq!(&bytes[head_len + len..whole_len], end.as_bytes(), "the boundary behind the part");
        let data = bytes[head_len..head_len + len].to_vec();
        bytes.drain(..whole_len);
        Some(self.part(data))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.0 == name).map(|header| header.1.as_str())
    }

    fn part(&self, data: Vec<u8>) -> Item {
        if self.header("Corecast-Refused").is_some() {
            let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["Content-Type", "Corecast-Refused", "Content-Length"], "no topic, no cursor");
            assert_eq!(self.header("Content-Type"), Some("application/json"));
            return Item::Refused(refusal(&serde_json::from_slice(&data).expect("the body of a refusal is an object")));
        }
        let cursor = Cursor::parse(self.header("Corecast-Cursor").expect("a cursor"));
        let topic = unescape_url(self.header("Corecast-Topic").expect("a topic"));
        if self.header("Corecast-Gap").is_some() {
            assert_eq!(self.header("Content-Type"), Some("application/json"));
            let told = gap(&serde_json::from_slice(&data).expect("the body of a gap is an object"));
            assert_eq!((told.to.as_str(), &told.topic), (cursor.to_string().as_str(), &topic), "its end, its topic");
            return Item::Gap(told);
        }
        let encoded = self.header("Content-Transfer-Encoding").is_some();
        let bytes = if encoded { unbase64(std::str::from_utf8(&data).expect("base64 is text")) } else { data };
        let holds_boundary = bytes.windows(BOUNDARY.len()).any(|window| window == BOUNDARY.as_bytes());
        assert_eq!(encoded, holds_boundary, "base64 exactly for what holds the boundary");
        let text = self.header("Content-Type").expect("a type") == "text/plain; charset=utf-8";
        assert_eq!(text, std::str::from_utf8(&bytes).is_ok(), "what is UTF-8 is text");
        let event = self.header("Corecast-Event").map(str::to_string);
        Item::Message(Message { topic: Some(topic), cursor: Some(cursor), event, bytes, loss: Loss::Nothing })
    }
}

/// Takes what must come next; `None` while it has not come whole.
fn expect(bytes: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let len = bytes.len().min(text.len());
    assert_eq!(&bytes[..len], &text[..len], "what must come here");
    (len == text.len()).then(|| drop(bytes.drain(..len)))
}

fn pair(line: &str) -> (String, String) {
    let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("a header, not {line:?}"));
    (name.to_string(), value.to_string())
}

/// Undoes percent-encoding.
fn unescape_url(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().expect("two digits"), rest.next().expect("two digits")];
            let digits = std::str::from_utf8(&digits).expect("digits are text").to_string();
            bytes.push(u8::from_str_radix(&digits, 16).expect("hexadecimal digits"));
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).expect("a topic is UTF-8")
}

/// Signs of life between parts, a part that looks like its own end, a gap and the end are told from each other.
#[test]
fn parts_are_read() {
    let body = "x\r\n--corecast-part";
    let text = format!(
        "--{BOUNDARY}\r\nCorecast-Heartbeat: 1\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Corecast-Cursor: 0000abcd-1\r\nCorecast-Topic: a%20b\r\n\r\n{body}\r\n--{BOUNDARY}\r\nCorecast-Heartbeat: 1\r\n\
         \r\n--{BOUNDARY}--\r\n",
        body.len()
    );
    let mut bytes = text.into_bytes();
    let mut parts = Parts::default();
    let items: Vec<Item> = std::iter::from_fn(|| parts.take(&mut bytes)).filter(|item| *item != Item::Life).collect();
    assert_eq!(
        items,
        [Item::Message(Message {
            topic: Some("a b".to_string()),
            cursor: Some(Cursor { epoch: 0xABCD, seq: 1 }),
            event: None,
            bytes: body.as_bytes().to_vec(),
            loss: Loss::Nothing,
        })]
    );
    assert!(parts.ended && bytes.is_empty());
}
