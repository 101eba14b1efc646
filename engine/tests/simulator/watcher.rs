//! Somebody in a world who reads how many read a topic, and is told the truth in the end.
//!
//! Owns: a stream, and what came of it. It is no client of the oracle's: nobody publishes what it reads. It begins anew when its stream ends.

use crate::net::{ConnId, Found, Net};

/// Room for what it is sent.
const ROOM: usize = 1 << 16;

#[derive(Debug)]
pub(crate) struct Watcher {
    topic: String,
    shard: usize,
    conn: Option<ConnId>,
    /// What is still to be written.
    says: Vec<u8>,
    heard: Vec<u8>,
    /// The newest number.
    pub(crate) told: Option<u64>,
}

impl Watcher {
    pub(crate) fn new(shard: usize, topic: &str) -> Watcher {
        Watcher { topic: topic.to_owned(), shard, conn: None, says: Vec::new(), heard: Vec::new(), told: None }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Reads what there is, and comes back if its stream has ended; says whether it did anything.
    pub(crate) fn act(&mut self, net: &mut Net, comes_back: bool) -> bool {
        let Some(conn) = self.conn else {
            if comes_back {
                let topic: String = self.topic.bytes().map(|byte| format!("%{byte:02x}")).collect();
                self.says =
                    format!("GET /topics/%24sys/occupancy/{topic}?transport=stream HTTP/1.1\r\nHost: sim\r\n\r\n")
                        .into();
                self.heard.clear();
                self.conn = Some(net.connect(self.shard, ROOM, ROOM));
            }
            return comes_back;
        };
        let mut acted = false;
        if !self.says.is_empty() && net.client_has_room(conn) {
            match net.client_write(conn, &self.says) {
                Ok(count) => drop(self.says.drain(..count)),
                Err(()) => self.says.clear(),
            }
            acted = true;
        }
        if net.client_has_news(conn) {
            acted = true;
            let found = net.client_read(conn, usize::MAX, &mut self.heard);
            self.understand();
            if matches!(found, Found::Eof | Found::Reset) {
                net.client_close(conn);
                self.conn = None;
            }
        }
        acted
    }

    /// Finds the newest number.
    fn understand(&mut self) {
        let text = String::from_utf8_lossy(&self.heard).replace('\\', "");
        let whole = text.rsplit_once('}').map_or("", |(whole, _)| whole);
        if let Some((_, number)) = whole.rsplit_once("{\"readers\":") {
            let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
            self.told = Some(digits.parse().expect("a number"));
        }
    }
}
