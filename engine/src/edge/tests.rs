//! The edge between a real TLS client and a driver that takes as much as it is told to.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};

use super::files::FILES;
use super::*;
use crate::io::driver::{Driver, End, Interest, Lent};
use crate::io::memory::Memory;

const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);
const POOL_BYTES: u32 = 1 << 20;

/// A kernel with one socket: takes what it is told to, in all that is sent to it.
struct Socket {
    memory: Memory,
    sent: Vec<u8>,
    /// Bytes that it takes of each send; the last holds on.
    takes: VecDeque<usize>,
    /// Says this of what it does not take at all; that it has no room, if nothing else.
    refuses: Option<i32>,
    said: Vec<Completion>,
    came: Vec<Vec<u8>>,
    now_us: u64,
    finished: bool,
    closed: bool,
}

impl Socket {
    fn new() -> Socket {
        let memory = Memory::reserve((POOL_BYTES + SCRATCH_BYTES) as usize).unwrap();
        let takes = VecDeque::from([usize::MAX]);
        Socket {
            memory,
            sent: vec![],
            takes,
            refuses: None,
            said: vec![],
            came: vec![],
            now_us: 0,
            finished: false,
            closed: false,
        }
    }
}

impl Driver for Socket {
    fn now_us(&mut self) -> u64 {
        self.now_us
    }
    fn memory(&self) -> &Memory {
        &self.memory
    }
    fn memory_mut(&mut self) -> &mut Memory {
        &mut self.memory
    }
    fn slots_max(&self) -> u32 {
        1
    }
    fn room(&self) -> usize {
        100
    }
    fn accept(&mut self, _: u8) {}
    fn hold_accepting(&mut self, _: bool) {}
    fn stop_accepting(&mut self) {}
    fn receive(&mut self, _: Slot, _: u16, _: Interest) {}
    fn cancel_receive(&mut self, _: Slot, _: u16, _: Interest) {}
    fn send(&mut self, slot: Slot, bytes: Span) {
        let takes = if self.takes.len() > 1 { self.takes.pop_front().unwrap() } else { self.takes[0] };
        let taken = takes.min(bytes.len as usize);
        self.sent.extend_from_slice(self.memory.bytes(bytes.part(0, taken as u32)));
        if taken < bytes.len as usize {
            let sent = if taken == 0 { Err(self.refuses.unwrap_or(11)) } else { Ok(taken as u32) };
            self.said.push(Completion::Unsent { slot, asked: bytes.len, sent });
        }
    }
    fn send_parts(&mut self, _: Slot, _: &[Span]) {
        unreachable!("the edge sends one piece");
    }
    fn wait_writable(&mut self, _: Slot, _: u16) {}
    fn wait_for_memory(&mut self, _: Slot, _: u16) {}
    fn cancel_writable(&mut self, _: Slot, _: u16) {}
    fn finish_sending(&mut self, _: Slot) {
        self.finished = true;
    }
    fn close(&mut self, _: Slot) {
        self.closed = true;
    }
    fn received(&mut self, _: Slot, lent: Lent) -> &mut [u8] {
        &mut self.came[usize::from(lent.id)]
    }
    fn recycle(&mut self, _: Lent) {}
    fn submit(&mut self) {}
    fn reap(&mut self, into: &mut Vec<Completion>, _: usize) {
        into.append(&mut self.said);
    }
    fn wake(&mut self, _: usize) {}
}

/// One connection: client, socket, edge, and what a shard would see.
struct Link {
    client: ClientConnection,
    socket: Socket,
    edge: Edge,
    /// Text that the shard was told.
    heard: Vec<u8>,
    secured: Option<bool>,
    names: Option<Box<str>>,
    ended: bool,
    broken: Option<&'static str>,
    announced: Option<SocketAddr>,
    unsent: Option<(u32, Result<u32, i32>)>,
    rearmed: usize,
}

fn client(versions: &[&'static SupportedProtocolVersion], with_certificate: bool) -> ClientConnection {
    connect(&client_config(versions, with_certificate))
}

fn connect(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config.clone(), "localhost".try_into().unwrap()).unwrap()
}

fn client_config(versions: &[&'static SupportedProtocolVersion], with_certificate: bool) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(FILES.ca.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = if with_certificate {
        let chain = vec![CertificateDer::from_pem_slice(FILES.client.0.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(FILES.client.1.as_bytes()).unwrap();
        builder.with_client_auth_cert(chain, key).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    Arc::new(config)
}

impl Link {
    fn new(client: ClientConnection, identity: &Identity) -> Link {
        let mut edge = Edge::new(Span { start: POOL_BYTES.into(), len: SCRATCH_BYTES });
        let certificates = Certificates::new(&Serving::load(identity, None).unwrap());
        edge.stands_before(vec![Door { tls: Some(certificates), proxy: false }]);
        let mut socket = Socket::new();
        socket.said.push(Completion::Accepted { listener: 0, slot: 0, peer: PEER });
        Link {
            client,
            socket,
            edge,
            heard: vec![],
            secured: None,
            names: None,
            ended: false,
            broken: None,
            announced: None,
            unsent: None,
            rearmed: 0,
        }
    }

    /// One turn of a shard that sends nothing.
    fn turn(&mut self) {
        let mut said = Vec::new();
        for _ in 0..2 {
            let mut through = Through { edge: &mut self.edge, driver: &mut self.socket };
            through.reap(&mut said, usize::MAX);
            for completion in said.drain(..) {
                match completion {
                    Completion::Received { slot, lent, .. } => {
                        self.heard.extend_from_slice(through.received(slot, lent));
                        through.recycle(lent);
                    }
                    Completion::Secured { resumed, slot, .. } => {
                        self.secured = Some(resumed);
                        self.names = through.take_names(slot);
                    }
                    Completion::Announced { peer, .. } => self.announced = Some(peer),
                    Completion::PeerEnded { .. } => self.ended = true,
                    Completion::Broken { why, .. } => self.broken = Some(why),
                    Completion::Unsent { asked, sent, .. } => self.unsent = Some((asked, sent)),
                    Completion::ReceiveEnded { end: End::Rearm, .. } => self.rearmed += 1,
                    Completion::Accepted { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
            through.submit();
        }
    }

    /// Gives the server bytes, in pieces of this size.
    fn give(&mut self, bytes: &[u8], piece: usize) {
        for piece in bytes.chunks(piece) {
            self.socket.came.clear();
            self.socket.came.push(piece.to_vec());
            let lent = Lent { id: 0, len: piece.len() as u32 };
            self.socket.said.push(Completion::Received { slot: 0, generation: 1, lent, more: false });
            self.turn();
        }
    }

    /// Lets both ends say what they have to say, until they have no more; returns the text that the client got.
    fn talk(&mut self, piece: usize) -> Vec<u8> {
        let mut text = Vec::new();
        loop {
            let mut out = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut out).unwrap();
            }
            let quiet = out.is_empty() && self.socket.sent.is_empty();
            if quiet {
                return text;
            }
            self.give(&out, piece);
            self.turn();
            let sent = std::mem::take(&mut self.socket.sent);
            let mut left = &sent[..];
            while !left.is_empty() {
                self.client.read_tls(&mut left).unwrap();
                if self.client.process_new_packets().is_err() {
                    return text;
                }
                let mut plain = vec![0; 1 << 16];
                while let Ok(len @ 1..) = self.client.reader().read(&mut plain) {
                    text.extend_from_slice(&plain[..len]);
                }
            }
        }
    }

    /// Puts text where a frame log would have it, in parts.
    fn put(&mut self, text: &[u8], cuts: &[usize]) -> Vec<Span> {
        let mut parts = Vec::new();
        let (mut at, mut place) = (0, 0_u64);
        for end in cuts.iter().copied().chain([text.len()]) {
            let end = end.clamp(at, text.len());
            if end > at {
                let span = Span { start: place, len: (end - at) as u32 };
                self.socket.memory.bytes_mut(span).copy_from_slice(&text[at..end]);
                parts.push(span);
                place += u64::from(span.len) + 3;
            }
            at = end;
        }
        parts
    }

    /// Sends text as a shard does: what was not taken is sent again, with what is new behind it.
    fn send_all(&mut self, text: &[u8], cuts: &[usize]) -> Vec<u8> {
        let mut got = Vec::new();
        let mut at = 0;
        let mut tries = 0;
        while at < text.len() {
            tries += 1;
            assert!(tries < 10_000, "it comes to an end");
            let cuts: Vec<usize> = cuts.iter().filter_map(|cut| cut.checked_sub(at)).collect();
            let parts = self.put(&text[at..], &cuts);
            self.unsent = None;
            let mut through = Through { edge: &mut self.edge, driver: &mut self.socket };
            through.send_parts(0, &parts);
            through.submit();
            self.turn();
            let asked = (text.len() - at) as u32;
            match self.unsent.take() {
                None => at = text.len(),
                Some((told, sent)) => {
                    assert_eq!(told, asked, "what was asked for comes back");
                    let taken = sent.unwrap_or(0);
                    assert!(taken < asked, "what was sent in full is not told");
                    at += taken as usize;
                }
            }
            got.extend(self.talk(usize::MAX));
        }
        got
    }
}

const BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

/// A handshake comes to its end in either version, however its bytes are cut; the request behind it is heard once, also if it comes
/// with the last of them.
#[test]
fn handshakes_come_to_their_end() {
    for version in BOTH {
        for piece in [1, 7, 1000, usize::MAX] {
            let mut link = Link::new(client(&[version], false), &FILES.identity);
            link.client.writer().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            link.talk(piece);
            assert_eq!(link.secured, Some(false), "{piece}");
            assert_eq!(link.heard, b"GET / HTTP/1.1\r\n\r\n", "{piece}");
            assert_eq!(link.broken, None);
            assert!(link.rearmed > 0, "the shard is asked to receive on");
            assert_eq!(link.edge.handshakes.bytes(), 0, "rustls is gone");
        }
    }
}

/// What the edge has to say of a connection that the shard closes meanwhile is not said of the next one in its slot. Who came next was once
/// taken for somebody who had ended, and was cut off without a word.
#[test]
fn the_next_one_is_another() {
    for forged in [false, true] {
        let mut link = Link::new(client(&BOTH, false), &FILES.identity);
        link.talk(usize::MAX);
        let mut last = Vec::new();
        link.client.send_close_notify();
        link.client.write_tls(&mut last).unwrap();
        if forged {
            *last.last_mut().unwrap() ^= 1;
        }
        let lent = Lent { id: 0, len: last.len() as u32 };
        link.socket.came = vec![last];
        let mut said = vec![Completion::Received { slot: 0, generation: 1, lent, more: false }];
        let mut through = Through { edge: &mut link.edge, driver: &mut link.socket };
        assert!(through.received(0, lent).is_empty());
        through.close(0);
        through.submit();
        let next = [Completion::Closed { slot: 0 }, Completion::Accepted { listener: 0, slot: 0, peer: PEER }];
        through.driver.said.extend(next);
        said.clear();
        through.reap(&mut said, usize::MAX);
        assert_eq!(said, next, "forged {forged}");
    }
}

/// Text arrives whole and in order, in parts of any length and in records of every length.
#[test]
fn text_is_sealed() {
    for version in BOTH {
        let mut link = Link::new(client(&[version], false), &FILES.identity);
        link.talk(usize::MAX);
        for len in [1, 2, 100, 4095, 4096, 4097, 10_000, 100_000] {
            let text: Vec<u8> = (0..len).map(|n: usize| (n * 31) as u8).collect();
            for cuts in [&[][..], &[1], &[50, 51, 4000, 9000], &[4096, 8192]] {
                assert!(link.send_all(&text, cuts) == text, "{len} {cuts:?}");
            }
        }
    }
}

/// Wherever the kernel stops taking, and however often, nothing is lost or doubled.
#[test]
fn every_cut_of_a_send_is_made_good() {
    for version in BOTH {
        let mut link = Link::new(client(&[version], false), &FILES.identity);
        link.talk(usize::MAX);
        let text: Vec<u8> = (0..9000).map(|n: usize| (n * 7) as u8).collect();
        for first in (0..9100).step_by(37).chain([4095, 4113, 4118, 4119, 8236, 9066]) {
            for second in [0, 1, 5, 30, 5000] {
                link.socket.takes = VecDeque::from([first, second, usize::MAX]);
                assert!(link.send_all(&text, &[1000, 4500]) == text, "{first} {second}");
            }
        }
        link.socket.takes = VecDeque::from([3]);
        assert!(link.send_all(&text[..300], &[]) == text[..300], "three bytes at a time");
    }
}

/// More than there is scratch for goes out in several turns.
#[test]
fn long_sends_take_turns() {
    let mut link = Link::new(client(&BOTH, false), &FILES.identity);
    link.client.set_buffer_limit(None);
    link.talk(usize::MAX);
    let text: Vec<u8> = (0..POOL_BYTES as usize - 100).map(|n| (n * 13) as u8).collect();
    // What is left of the scratch is less than that.
    link.edge.flights = Flights::new(Span { start: POOL_BYTES.into(), len: 300_000 });
    assert!(link.send_all(&text, &[]) == text);
}

/// What a client sends is heard, in pieces of any size, and its close is told.
#[test]
fn what_comes_is_opened() {
    for version in BOTH {
        for piece in [1, 3, 100, usize::MAX] {
            let mut link = Link::new(client(&[version], false), &FILES.identity);
            link.talk(usize::MAX);
            let text: Vec<u8> = (0..20_000).map(|n: usize| (n * 3) as u8).collect();
            link.client.writer().write_all(&text).unwrap();
            link.talk(piece);
            assert!(link.heard == text);
            assert!(!link.ended);
            link.client.send_close_notify();
            link.talk(piece);
            assert!(link.ended && link.broken.is_none());
        }
    }
}

/// A client that wants new keys gets them, with what is sent next, as often as it wants; ours are replaced by themselves in time.
#[test]
fn keys_are_replaced() {
    let mut link = Link::new(client(&[&version::TLS13], false), &FILES.identity);
    link.talk(usize::MAX);
    for round in 0..5 {
        link.client.refresh_traffic_keys().unwrap();
        link.client.writer().write_all(b"ping").unwrap();
        link.talk(usize::MAX);
        link.socket.takes = VecDeque::from([round * 9, usize::MAX]);
        assert_eq!(link.send_all(b"pong", &[]), b"pong");
        link.socket.takes = VecDeque::from([usize::MAX]);
    }
    assert_eq!(link.heard, b"ping".repeat(5));
    let Some(Front::Sealed(sealed)) = link.edge.front(0) else { panic!("it stands") };
    assert!(!sealed.owes_update);
    // The client does not know that it was that many: the number has to be the same at both ends, so only the new key is looked at.
    let before = sealed.keys.sending.key;
    sealed.owes_update = true;
    assert_eq!(link.send_all(b"anew", &[]), b"anew");
    let Some(Front::Sealed(sealed)) = link.edge.front(0) else { panic!("it stands") };
    assert_ne!(sealed.keys.sending.key, before);
}

/// Forged, replayed and reordered records end the connection with an alert, and nothing of them is heard.
#[test]
fn forgeries_end_it() {
    for version in BOTH {
        for forge in 0..4 {
            let mut link = Link::new(client(&[version], false), &FILES.identity);
            link.talk(usize::MAX);
            let mut records = Vec::new();
            for text in [&b"one"[..], b"two"] {
                link.client.writer().write_all(text).unwrap();
                let mut record = Vec::new();
                link.client.write_tls(&mut record).unwrap();
                records.push(record);
            }
            let (bytes, heard): (Vec<u8>, &[u8]) = match forge {
                0 => {
                    let last = records[0].len() - 1;
                    records[0][last] ^= 1;
                    (records.concat(), b"")
                }
                1 => ([&records[0][..], &records[0]].concat(), b"one"),
                2 => ([&records[1][..], &records[0]].concat(), b""),
                _ => (vec![23, 3, 3, 0xFF, 0xFF], b""),
            };
            link.give(&bytes, usize::MAX);
            link.turn();
            assert!(link.broken.is_some(), "{forge}");
            assert_eq!(link.heard, heard, "{forge}");
            let mut sent = &link.socket.sent[..];
            link.client.read_tls(&mut sent).unwrap();
            assert!(link.client.process_new_packets().is_err(), "the client is told by an alert");
        }
    }
}

/// A peer is told that nothing more comes before its connection is closed, once, also if nothing was said to it in order; what the
/// kernel does not take of that concerns nobody, and behind the beginning of a record nothing is said.
#[test]
fn who_is_closed_is_told() {
    for version in BOTH {
        for (in_order, takes) in [(false, usize::MAX), (true, usize::MAX), (false, 0), (false, 3)] {
            let mut link = Link::new(client(&[version], false), &FILES.identity);
            link.talk(usize::MAX);
            link.socket.takes = VecDeque::from([takes]);
            let mut through = Through { edge: &mut link.edge, driver: &mut link.socket };
            if in_order {
                through.finish_sending(0);
                through.submit();
                through.reap(&mut Vec::new(), usize::MAX);
            }
            through.close(0);
            // A turn begins with what the kernel says: what is about to be said has to outlast that.
            through.reap(&mut Vec::new(), usize::MAX);
            assert!(in_order || through.has_more() && !through.driver.closed);
            through.submit();
            assert!(through.driver.closed && !through.has_more());
            let mut said = Vec::new();
            through.reap(&mut said, usize::MAX);
            assert_eq!(said, [], "the shard has closed it, and knows of nothing that was not sent");
            let mut sent = &link.socket.sent[..];
            while !sent.is_empty() {
                link.client.read_tls(&mut sent).unwrap();
            }
            let ends = link.client.process_new_packets().unwrap().peer_has_closed();
            assert_eq!(ends, takes == usize::MAX, "{takes}");
        }
        let mut link = Link::new(client(&[version], false), &FILES.identity);
        link.talk(usize::MAX);
        link.socket.takes = VecDeque::from([10, usize::MAX]);
        let parts = link.put(b"a record that is begun", &[]);
        let mut through = Through { edge: &mut link.edge, driver: &mut link.socket };
        through.send_parts(0, &parts);
        through.submit();
        through.reap(&mut Vec::new(), usize::MAX);
        through.close(0);
        through.submit();
        assert!(link.socket.closed && link.socket.sent.len() == 10, "{}", link.socket.sent.len());
    }
}

/// Who speaks HTTP to a port that speaks TLS is told so; who speaks nonsense is not answered, and both end.
#[test]
fn what_is_not_tls_ends() {
    for (bytes, answered) in [(&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], true), (b"\x80\x2e\x01\x03", false)] {
        let mut link = Link::new(client(&BOTH, false), &FILES.identity);
        link.turn();
        link.give(bytes, usize::MAX);
        link.turn();
        assert!(link.broken.is_some());
        assert_eq!(link.socket.sent.starts_with(b"HTTP/1.1 400"), answered);
        let text = String::from_utf8_lossy(&link.socket.sent).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{text}");
        }
    }
}

/// A peer that is gone when its handshake comes to its end is sent an answer all the same, if the shard has one: it has not heard of that
/// yet. Tickets that nobody takes were once taken for a send that is under way.
#[test]
fn who_is_gone_may_be_answered() {
    let mut link = Link::new(client(&[&version::TLS13], false), &FILES.identity);
    link.socket.takes = VecDeque::from([usize::MAX, 0]);
    link.socket.refuses = Some(104);
    link.talk(usize::MAX);
    assert_eq!(link.secured, Some(false));
    let parts = link.put(b"an answer", &[]);
    let mut through = Through { edge: &mut link.edge, driver: &mut link.socket };
    through.send_parts(0, &parts);
    through.submit();
    link.turn();
    assert_eq!(link.unsent, Some((9, Err(104))));
}

/// What makes no sense as a handshake ends it with an alert, said once: rustls is not asked again about bytes that it could not read.
#[test]
fn senseless_handshakes_end() {
    let mut hello = Vec::new();
    client(&BOTH, false).write_tls(&mut hello).unwrap();
    let empty = [22, 3, 3, 0, 0].repeat(100);
    let nonsense = [&[22, 3, 1, 0, 64][..], &[255; 64]].concat();
    for bytes in [empty, nonsense, [&hello[..], &hello].concat(), [&hello[..60], &vec![0; hello.len() - 60]].concat()] {
        let mut link = Link::new(client(&BOTH, false), &FILES.identity);
        link.turn();
        link.give(&bytes, usize::MAX);
        link.turn();
        assert!(link.broken.is_some(), "{bytes:?}");
        let alert = link.socket.sent.windows(3).filter(|window| *window == [21, 3, 3]).count();
        assert!(alert <= 1, "{:?}", link.socket.sent);
    }
}

/// A client without a certificate is refused where one is required; one with it is known by its names.
#[test]
fn client_certificates() {
    let required = Identity { client_auth: ClientAuth::Required, ..FILES.identity.clone() };
    let mut link = Link::new(client(&BOTH, false), &required);
    link.talk(usize::MAX);
    assert!(link.secured.is_none() && link.broken.is_some());
    for auth in [ClientAuth::Required, ClientAuth::Optional] {
        let identity = Identity { client_auth: auth, ..FILES.identity.clone() };
        let mut link = Link::new(client(&BOTH, true), &identity);
        link.talk(usize::MAX);
        assert_eq!(link.names.as_deref(), Some("CN=rcgen self signed cert\nDNS:a-client"));
    }
    let optional = Identity { client_auth: ClientAuth::Optional, ..FILES.identity.clone() };
    let mut link = Link::new(client(&BOTH, false), &optional);
    link.talk(usize::MAX);
    assert!(link.secured.is_some() && link.names.is_none());
}

/// A client that comes back goes on with its session, also after the certificates were read again.
#[test]
fn sessions_go_on() {
    for version in BOTH {
        let serving = Serving::load(&FILES.identity, None).unwrap();
        let certificates = Certificates::new(&serving);
        let config = client_config(&[version], false);
        let mut resumed = Vec::new();
        for _ in 0..3 {
            let mut link = Link::new(connect(&config), &FILES.identity);
            link.edge.stands_before(vec![Door { tls: Some(certificates.clone()), proxy: false }]);
            link.talk(usize::MAX);
            resumed.push(link.secured.unwrap());
            certificates.replace(&Serving::load(&FILES.identity, Some(&serving)).unwrap());
        }
        assert_eq!(resumed, [false, true, true]);
    }
}

/// A handshake whose bytes the kernel takes a few at a time comes to its end, too.
#[test]
fn handshakes_go_on_later() {
    for version in BOTH {
        let mut link = Link::new(client(&[version], false), &FILES.identity);
        link.client.writer().write_all(b"request").unwrap();
        link.socket.takes = VecDeque::from([0, 7, 0, 100, 0, 1, 0, 50, 300]);
        for _ in 0..60 {
            link.talk(usize::MAX);
            link.socket.now_us += sending::UNSAID_US;
            link.turn();
        }
        assert_eq!(link.heard, b"request");
        link.socket.takes = VecDeque::from([usize::MAX]);
        assert_eq!(link.send_all(b"answer", &[]), b"answer");
    }
}

/// A proxy's word is told before any byte of its client, whatever is spoken behind it; without sense it ends the connection.
#[test]
fn proxies_say_who_their_clients_are() {
    for tls in [false, true] {
        for piece in [1, 10, usize::MAX] {
            let mut link = Link::new(client(&BOTH, false), &FILES.identity);
            let door = link.edge.doors[0].clone();
            link.edge.stands_before(vec![Door { tls: door.tls.filter(|_| tls), proxy: true }]);
            link.turn();
            link.give(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", piece);
            if tls {
                link.client.writer().write_all(b"hello").unwrap();
                link.talk(piece);
            } else {
                link.give(b"hello", piece);
            }
            assert_eq!(link.heard, b"hello");
            assert_eq!(link.announced, Some("192.0.2.1:56324".parse().unwrap()));
            assert_eq!(link.edge.place(0) == NONE, !tls, "nothing stands there any more");
        }
        let mut link = Link::new(client(&BOTH, false), &FILES.identity);
        link.edge.stands_before(vec![Door { tls: None, proxy: true }]);
        link.turn();
        link.give(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\nhello", usize::MAX);
        assert_eq!(link.heard, b"hello", "what came with it");
        let mut link = Link::new(client(&BOTH, false), &FILES.identity);
        link.edge.stands_before(vec![Door { tls: None, proxy: true }]);
        link.turn();
        link.give(b"GET / HTTP/1.1\r\n\r\n", usize::MAX);
        link.turn();
        assert!(link.broken.is_some() && link.heard.is_empty());
    }
}

/// What is unfinished is counted, and forgotten when it is finished; of very much, long records have to end, and short ones go on.
#[test]
fn unfinished_records_are_bounded() {
    let mut link = Link::new(client(&BOTH, false), &FILES.identity);
    link.talk(usize::MAX);
    assert_eq!(link.edge.unfinished(), 0);
    for (max, len, ends) in [(usize::MAX, 9000, false), (0, 3000, false), (0, 9000, true)] {
        link.client.writer().write_all(&vec![7; len]).unwrap();
        let mut record = Vec::new();
        link.client.write_tls(&mut record).unwrap();
        let (first, rest) = record.split_at(len);
        link.edge.unfinished_bytes_max = max;
        link.give(&first[..100], usize::MAX);
        assert!(link.edge.unfinished() >= 100);
        link.give(&first[100..], usize::MAX);
        link.turn();
        assert_eq!(link.broken.is_some(), ends, "{len} of {max}");
        link.give(rest, usize::MAX);
        assert_eq!(link.edge.unfinished(), 0);
    }
}

/// Of too many handshakes that nobody ends, the oldest end.
#[test]
fn the_oldest_handshakes_end() {
    let mut edge = Edge::new(Span { start: POOL_BYTES.into(), len: SCRATCH_BYTES });
    let certificates = Certificates::new(&Serving::load(&FILES.identity, None).unwrap());
    edge.stands_before(vec![Door { tls: Some(certificates), proxy: false }]);
    let mut hello = Vec::new();
    client(&BOTH, false).write_tls(&mut hello).unwrap();
    let mut socket = Socket::new();
    let mut broken = Vec::new();
    let count = handshakes::UNDER_WAY_MAX as u32 + 3;
    for slot in 0..count {
        socket.said.push(Completion::Accepted { listener: 0, slot, peer: PEER });
        socket.came = vec![hello.clone()];
        let lent = Lent { id: 0, len: hello.len() as u32 };
        socket.said.push(Completion::Received { slot, generation: 1, lent, more: false });
        let mut said = Vec::new();
        let mut through = Through { edge: &mut edge, driver: &mut socket };
        through.reap(&mut said, usize::MAX);
        through.submit();
        through.reap(&mut said, usize::MAX);
        broken.extend(said.iter().filter_map(|completion| match completion {
            Completion::Broken { slot, .. } => Some(*slot),
            _ => None,
        }));
    }
    assert_eq!(broken, [0, 1, 2]);
}
