//! One shard and its clients at a table: requests go in as bytes, answers come out, and the clock moves when the test says so.

use std::net::IpAddr;

use corecast::io::driver::Driver as _;
use corecast::mesh::{self, Ends, Questions};
use corecast::shard::{Limits, Setup, Shard};

use crate::authority::{Authority, Says};
use crate::faults::Faults;
use crate::kernel::FakeKernel;
use crate::net::{ConnId, Found, Net, SharedNet};
use crate::rng::Rng;
use crate::seat::Sizes;

/// How far the clock moves between two turns, in microseconds.
const STEP_US: u64 = 1_000;

/// Turns without news after which nothing more is expected: a receive and an answer across the mesh take a few.
const QUIET_TURNS: usize = 12;

/// Reads until a publication is answered, at most.
const READS_MAX: usize = 100;

pub(crate) struct Table {
    net: SharedNet,
    kernel: FakeKernel,
    shard: Shard,
    /// Who says who may what; none: questions have no verdicts.
    pub(crate) authority: Option<Authority>,
}

/// What a client has got: its bytes, and whether the server has ended its direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ended: bool,
}

impl Got {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Returns the statuses of all answers.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        let text = self.text();
        let lines = text.match_indices("HTTP/1.1 ").map(|(at, found)| &text[at + found.len()..]);
        lines.filter_map(|line| line.get(..3)?.parse().ok()).collect()
    }

    /// Returns the values of a header of the first answer, a line each.
    pub(crate) fn header(&self, name: &str) -> Vec<String> {
        let text = self.text();
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_string()).collect()
    }

    /// Returns what stands behind the head of the first answer.
    pub(crate) fn body(&self) -> String {
        self.text().split_once("\r\n\r\n").map(|(_, body)| body.to_string()).unwrap_or_default()
    }

    pub(crate) fn says_close(&self) -> bool {
        self.header("connection").iter().any(|value| value == "close")
    }
}

impl Table {
    fn with_questions(limits: Limits) -> (Table, Questions) {
        let sizes = Sizes { memory_bytes: 64 << 20, slots: 256, buffers: 256, buffer_bytes: 16 << 10, orders: 4096 };
        let net = Net::shared(1);
        let mut kernel =
            FakeKernel::new(0, net.clone(), Rng::new(1), Faults { delay_us_max: 1, ..Faults::NONE }, sizes);
        let limits = Limits { memory_bytes: 64 << 20, ..limits };
        let Ends { mut links, questions, .. } = mesh::join_all(1, 1, limits.ring_bytes(1));
        let links = links.pop().expect("one was made");
        let setup = Setup { index: 0, limits, links, seed: 1, slots_max: sizes.slots, hash_key: 1, wall_offset_us: 0 };
        kernel.accept(0);
        (Table { net, kernel, shard: Shard::new(setup), authority: None }, questions)
    }

    pub(crate) fn new(limits: Limits) -> Table {
        Table::with_questions(limits).0
    }

    /// Makes one with an authority.
    pub(crate) fn with_authority(limits: Limits, says: Says) -> Table {
        let (mut table, questions) = Table::with_questions(limits);
        table.authority = Some(Authority::new(questions, table.net.clone(), says));
        table
    }

    pub(crate) fn authority(&mut self) -> &mut Authority {
        self.authority.as_mut().expect("it has one")
    }

    pub(crate) fn shard(&mut self) -> &mut Shard {
        &mut self.shard
    }

    /// Whoever connects from now on comes from this address.
    pub(crate) fn all_come_from(&mut self, address: IpAddr) {
        self.net.borrow_mut().origin = Some(address);
    }

    pub(crate) fn connect(&mut self) -> ConnId {
        self.net.borrow_mut().connect(0, 4 << 20, 1 << 16)
    }

    /// Connects with a certificate that has these names.
    pub(crate) fn connect_as(&mut self, names: &str) -> ConnId {
        let conn = self.connect();
        self.net.borrow_mut().names.insert(conn, names.into());
        conn
    }

    pub(crate) fn send(&mut self, conn: ConnId, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let sent = self.net.borrow_mut().client_write(conn, bytes);
        assert_eq!(sent, Ok(bytes.len()), "the server takes what is sent");
    }

    /// Ends a client's direction.
    pub(crate) fn end(&mut self, conn: ConnId) {
        self.net.borrow_mut().client_end(conn);
    }

    /// Takes a client away.
    pub(crate) fn reset(&mut self, conn: ConnId) {
        self.net.borrow_mut().client_reset(conn, true);
    }

    pub(crate) fn drain(&mut self) {
        self.drain_within_us(0);
    }

    /// Has the shard finish, and tell its connections within so many microseconds.
    pub(crate) fn drain_within_us(&mut self, within_us: u64) {
        self.shard.drain(&mut self.kernel, within_us);
    }

    fn turn(&mut self, step_us: u64) {
        self.shard.turn(&mut self.kernel);
        self.shard.check();
        if let Some(authority) = &mut self.authority {
            authority.act();
        }
        self.net.borrow_mut().advance_us(step_us);
    }

    /// Lets time pass.
    pub(crate) fn pass_ms(&mut self, ms: u64) {
        for _ in 0..ms {
            self.turn(1_000);
        }
    }

    /// Reads what there is, at most `max` bytes.
    pub(crate) fn read_some(&mut self, conn: ConnId, max: usize) -> Got {
        let mut bytes = Vec::new();
        let mut ended = false;
        while bytes.len() < max {
            match self.net.borrow_mut().client_read(conn, max - bytes.len(), &mut bytes) {
                Found::Bytes(_) => {}
                Found::Eof | Found::Reset => {
                    ended = true;
                    break;
                }
                Found::Nothing => break,
            }
        }
        Got { bytes, ended }
    }

    /// Reads until nothing more comes.
    pub(crate) fn read(&mut self, conn: ConnId) -> Got {
        let mut got = Got { bytes: Vec::new(), ended: false };
        let mut quiet = 0;
        while quiet < QUIET_TURNS && !got.ended {
            self.turn(STEP_US);
            let some = self.read_some(conn, usize::MAX);
            quiet = if some.bytes.is_empty() { quiet + 1 } else { 0 };
            got.bytes.extend(some.bytes);
            got.ended |= some.ended;
        }
        got
    }

    /// Sends bytes on a connection and reads what comes.
    pub(crate) fn say(&mut self, conn: ConnId, bytes: impl AsRef<[u8]>) -> Got {
        self.send(conn, bytes);
        self.read(conn)
    }

    /// Sends bytes on a new connection and reads what comes.
    pub(crate) fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Got {
        let conn = self.connect();
        self.say(conn, bytes)
    }

    /// Asks with a method, a target and further lines, without a body.
    pub(crate) fn get(&mut self, words: &str, lines: &str) -> Got {
        self.ask(format!("{words} HTTP/1.1\r\nHost: h\r\n{lines}\r\n"))
    }

    /// Publishes a message, and returns its cursor.
    pub(crate) fn publish(&mut self, topic: &str, payload: &str) -> String {
        let length = payload.len();
        let conn = self.connect();
        self.send(
            conn,
            format!("POST /topics/{topic} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{payload}"),
        );
        // What is long takes many turns to arrive.
        let reads = std::iter::repeat_with(|| self.read(conn)).take(READS_MAX);
        let got = reads.into_iter().find(|got| !got.bytes.is_empty()).expect("a publication is answered");
        assert_eq!(got.statuses(), [200], "{}", got.text());
        got.body().split('"').nth(7).expect("an answer has a cursor").to_string()
    }
}
