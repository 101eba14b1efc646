//! Invariant 9: once everything has reached its size, nothing on the path of a message allocates.
//!
//! A production shard on a real ring, driven turn by turn on this thread, whose allocations are counted; publishers and
//! subscribers are plain sockets on other threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use corecast::edge::{Certificates, Door, Edge, Identity, SCRATCH_BYTES, Serving, Through};
use corecast::io::doorbell::Doorbell;
use corecast::io::driver::Driver as _;
use corecast::io::listen::listen;
use corecast::io::memory::Span;
use corecast::io::ring::{Ring, RingConfig};
use corecast::mesh;
use corecast::shard::{Limits, Quotas, Setup, Shard};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// The system's allocator, counting what this thread asks of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and does not take turns.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local number only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const SUBSCRIBERS: usize = 20;

/// Every fourth subscriber asks for compression.
fn is_compressed(subscriber: usize) -> bool {
    subscriber.is_multiple_of(4)
}

/// Long: the shards of these tests never rest, and may share two cores with others.
const DEADLINE: Duration = Duration::from_secs(120);

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the engine listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time-out can be set");
    stream
}

/// Opens a WebSocket on `path`, with further headers.
fn open(address: SocketAddr, path: &str, headers: &str) -> TcpStream {
    upgrade(connect(address), path, headers)
}

/// Makes a WebSocket of a connection.
fn upgrade<S: Read + Write>(mut stream: S, path: &str, headers: &str) -> S {
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).expect("the engine reads");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the engine answers");
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// Makes a client's text frame; a mask of zeroes is a mask.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend((text.len() as u16).to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}

/// Reads so many frames; none is long. Says whether the last one was compressed.
fn read_frames(stream: &mut impl Read, frames: usize) -> bool {
    let mut header = [0; 2];
    for _ in 0..frames {
        stream.read_exact(&mut header).expect("messages come");
        let mut len = usize::from(header[1]);
        if len == 126 {
            let mut bytes = [0; 2];
            stream.read_exact(&mut bytes).expect("messages come");
            len = u16::from_be_bytes(bytes).into();
        }
        let mut payload = vec![0; len];
        stream.read_exact(&mut payload).expect("messages come");
    }
    header[0] & 0x40 != 0
}

/// Publishes and receives so many messages in every way, one at a time and in bursts.
fn round<S: Read + Write>(streams: &mut [S], http: &mut S, messages: usize) {
    let (publisher, subscribers) = streams.split_first_mut().expect("there are several");
    let text = "x".repeat(300);
    let mut sent = 0;
    while sent < messages {
        let burst = if sent.is_multiple_of(3) { 1 } else { 16 };
        let frames: Vec<u8> = (0..burst).flat_map(|_| frame(&text)).collect();
        publisher.write_all(&frames).expect("the engine reads");
        http.write_all(b"POST /topics/t HTTP/1.1\r\nHost: x\r\nContent-Length: 300\r\n\r\n").expect("the engine reads");
        http.write_all(text.as_bytes()).expect("the engine reads");
        sent += burst;
        // The publisher is a subscriber too.
        assert!(!read_frames(publisher, burst + 1));
        for (place, stream) in subscribers.iter_mut().enumerate() {
            assert_eq!(read_frames(stream, burst + 1), is_compressed(place));
        }
        let mut answer = [0; 4096];
        assert_ne!(http.read(&mut answer).expect("an answer comes"), 0);
    }
}

/// Takes turns until the other side says that it is done; returns the allocations of this thread meanwhile.
fn turn_until_done(shard: &mut Shard, edge: &mut Edge, ring: &mut Ring, done: &Receiver<()>) -> u64 {
    let begin = Instant::now();
    let before = ALLOCATIONS.get();
    while done.try_recv().is_err() {
        shard.turn(&mut Through { edge, driver: ring });
        assert!(begin.elapsed() < DEADLINE, "the clients are not done in time");
    }
    ALLOCATIONS.get() - before
}

/// Bytes of block memory.
const POOL_BYTES: u64 = 32 << 20;

/// A production shard on a real ring, and where it listens. To be made on the thread that gives it its turns.
fn engine() -> (Shard, Ring, SocketAddr) {
    let listeners = listen("127.0.0.1:0".parse().expect("an address"), 1).expect("loopback can be bound");
    let address = listeners[0].address();
    let config = RingConfig {
        slots: 256,
        buffers: 256,
        memory_bytes: POOL_BYTES as usize + SCRATCH_BYTES as usize,
        ..RingConfig::default()
    };
    let doorbells = Doorbell::several(1).expect("an eventfd");
    let mut ring = Ring::new(&config, 0, doorbells, listeners).expect("an io_uring");
    // Nobody here meets these, but all of them are looked at.
    let quotas = Quotas {
        connections_in_all: 1_000,
        connections_per_address: 1_000,
        connections_per_subject: 1_000,
        subscriptions_in_all: 10_000,
        subscriptions_per_address: 10_000,
        subscriptions_per_subject: 10_000,
        connects: 10_000,
        connects_per_address: 10_000,
        publishes: 10_000_000,
        publishes_per_address: 10_000_000,
        publishes_per_subject: 10_000_000,
        publishes_in_all: 10_000_000,
        bytes: 1 << 40,
        bytes_per_address: 1 << 40,
        bytes_per_subject: 1 << 40,
        bytes_in_all: 1 << 40,
        topics: 10_000_000,
        topics_per_address: 10_000_000,
        topics_per_subject: 10_000_000,
        topics_in_all: 10_000_000,
        loopback: true,
    };
    let limits =
        Limits { memory_bytes: POOL_BYTES, compress_from: Some(100), jsonp: true, quotas, ..Limits::default() };
    let links = mesh::join(1, 1, limits.ring_bytes(1)).pop().expect("one was made");
    let shard = Shard::new(Setup { index: 0, limits, links, seed: 1, slots_max: 256, hash_key: 2, wall_offset_us: 0 });
    ring.enable().expect("a ring starts on its thread");
    ring.accept(0);
    (shard, ring, address)
}

/// Lets clients do their rounds: the first ones are the warm-up; returns the allocations of the shard's thread in the last one.
fn allocations_of_the_last_round(
    rounds: usize,
    doors: Vec<Door>,
    clients: impl FnOnce(SocketAddr, &mut dyn FnMut()) + Send + 'static,
) -> u64 {
    let (mut shard, mut ring, address) = engine();
    let mut edge = Edge::new(Span { start: POOL_BYTES, len: SCRATCH_BYTES });
    edge.stands_before(doors);
    let (tell, done) = channel();
    let (go_on, next) = channel::<()>();
    let clients = std::thread::spawn(move || {
        clients(address, &mut || {
            tell.send(()).expect("somebody waits");
            next.recv().expect("somebody says go");
        });
    });
    let mut allocations = 0;
    for round in 0..rounds {
        allocations = turn_until_done(&mut shard, &mut edge, &mut ring, &done);
        assert!(round > 0 || allocations > 0, "the counter counts");
        go_on.send(()).expect("the clients wait");
    }
    clients.join().expect("the clients saw every message");
    allocations
}

/// After a warm-up, publishing over WebSocket and HTTP to 21 subscribers, some of them compressed, allocates nothing on the
/// shard's thread.
#[test]
fn no_allocation_per_message() {
    let allocations = allocations_of_the_last_round(2, Vec::new(), |address, round_is_over| {
        let mut streams = vec![open(address, "/topics/t?since=live", "")];
        streams.extend((0..SUBSCRIBERS).map(|place| {
            let headers = if is_compressed(place) { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
            open(address, "/topics/t?since=live", headers)
        }));
        let mut http = Client::connect(address);
        for messages in [400, 400] {
            round(&mut streams, &mut http.stream, messages);
            round_is_over();
        }
    });
    assert_eq!(allocations, 0, "allocations on the path of a message");
}

/// What a TLS listener shows, and what its clients believe.
fn trust() -> (Door, Arc<ClientConfig>) {
    let folder = tempfile::tempdir().expect("a folder");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let (chain, secret) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&chain, certificate.pem()).expect("a file");
    std::fs::write(&secret, key.serialize_pem()).expect("a file");
    let identity = Identity { certificates: vec![chain], keys: vec![secret], ..Identity::default() };
    let serving = Serving::load(&identity, None).expect("files that fit together");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate.der().to_vec())).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
    (Door { tls: Some(Certificates::new(&serving)), proxy: false }, Arc::new(config))
}

/// As [`no_allocation_per_message`], with TLS: neither does a record.
#[test]
fn no_allocation_per_record() {
    let (door, config) = trust();
    let allocations = allocations_of_the_last_round(2, vec![door], move |address, round_is_over| {
        let secured = || {
            let client = ClientConnection::new(config.clone(), "localhost".try_into().expect("a name"));
            StreamOwned::new(client.expect("a client"), connect(address))
        };
        let mut streams = vec![upgrade(secured(), "/topics/t?since=live", "")];
        streams.extend((0..SUBSCRIBERS).map(|place| {
            let headers = if is_compressed(place) { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
            upgrade(secured(), "/topics/t?since=live", headers)
        }));
        let mut http = secured();
        for messages in [400, 400] {
            round(&mut streams, &mut http, messages);
            round_is_over();
        }
    });
    assert_eq!(allocations, 0, "allocations on the path of a record");
}

/// A client that keeps its connection.
struct Client {
    stream: TcpStream,
}

/// An answer: its status, the cursor that it names, its entity tag, and its body.
struct Answered {
    status: String,
    cursor: String,
    etag: String,
    body: String,
}

impl Client {
    fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the engine listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out can be set");
        Client { stream }
    }

    fn send(&mut self, method_and_path: &str, headers: &str, body: &str) {
        let len = body.len();
        let head = format!("{method_and_path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len}\r\n\r\n{body}");
        self.stream.write_all(head.as_bytes()).expect("the engine reads");
    }

    fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("the engine answers");
            head.push(byte[0]);
        }
        String::from_utf8(head).expect("heads are text")
    }

    fn receive(&mut self) -> Answered {
        let head = self.read_head();
        let of = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
        let mut body = vec![0; of("Content-Length: ").parse().unwrap_or(0)];
        self.stream.read_exact(&mut body).expect("the body comes");
        Answered {
            status: head.split(' ').nth(1).unwrap_or_default().to_owned(),
            cursor: of("Corecast-Cursor: "),
            etag: of("ETag: "),
            body: String::from_utf8(body).expect("bodies are text here"),
        }
    }

    fn ask(&mut self, method_and_path: &str, headers: &str, body: &str) -> Answered {
        self.send(method_and_path, headers, body);
        self.receive()
    }
}

/// Reads the data of a body in chunks.
struct Chunks {
    client: Client,
    left: usize,
}

impl std::io::Read for Chunks {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            let mut line = String::new();
            while !line.ends_with("\r\n") || line == "\r\n" {
                if line == "\r\n" {
                    line.clear(); // The end of the last chunk.
                }
                let mut byte = [0];
                self.client.stream.read_exact(&mut byte)?;
                line.push(byte[0].into());
            }
            self.left = usize::from_str_radix(line.trim_end(), 16).expect("a chunk begins with its length");
        }
        let len = out.len().min(self.left);
        let read = self.client.stream.read(&mut out[..len])?;
        self.left -= read;
        Ok(read)
    }
}

/// A stream over HTTP that is read to the last message published.
struct Reader {
    bytes: Box<dyn std::io::Read>,
    read: Vec<u8>,
}

impl Reader {
    fn open(address: SocketAddr, path: &str, gzip: bool) -> Reader {
        let mut client = Client::connect(address);
        client.send(&format!("GET {path}"), if gzip { "Accept-Encoding: gzip\r\n" } else { "" }, "");
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("Transfer-Encoding: chunked"), "{head}");
        assert_eq!(head.contains("Content-Encoding: gzip"), gzip, "{head}");
        let chunks = Chunks { client, left: 0 };
        let bytes: Box<dyn std::io::Read> =
            if gzip { Box::new(flate2::read::GzDecoder::new(chunks)) } else { Box::new(chunks) };
        Reader { bytes, read: Vec::new() }
    }

    /// Reads on until `text` has come; forgets what was before it.
    fn read_to(&mut self, text: &str) {
        loop {
            if let Some(at) = self.read.windows(text.len()).position(|window| window == text.as_bytes()) {
                self.read.drain(..at + text.len());
                return;
            }
            let mut more = [0; 16 << 10];
            let len = self.bytes.read(&mut more).expect("messages come");
            assert_ne!(len, 0, "a stream goes on");
            self.read.extend_from_slice(&more[..len]);
        }
    }
}

/// After a warm-up, streams in every shape, in chunks and compressed, of one topic and of two, are sent messages without an
/// allocation on the shard's thread.
#[test]
fn no_allocation_per_message_of_a_stream() {
    let allocations = allocations_of_the_last_round(2, Vec::new(), |address, round_is_over| {
        let shapes = ["sse", "sse&enveloped", "stream", "multipart", "forever-frame"];
        let paths = shapes.map(|shape| format!("/topics/t?since=live&transport={shape}"));
        let several = ["sse", "sse&enveloped"].map(|shape| format!("/topics?topic=t&topic=u&transport={shape}"));
        let mut readers: Vec<Reader> = paths
            .iter()
            .chain(&several)
            .flat_map(|path| [false, true].map(|gzip| Reader::open(address, path, gzip)))
            .collect();
        let mut publisher = Client::connect(address);
        let padding = "x".repeat(200);
        for round in 0..2 {
            for turn in 0..30 {
                // One at a time, and many at once.
                let messages = if turn % 3 == 0 { 16 } else { 1 };
                for message in 0..messages {
                    publisher.send("POST /topics/t", "", &format!("{padding}<{round}.{turn}.{message}>"));
                }
                (0..messages).for_each(|_| assert_eq!(publisher.receive().status, "200"));
                // A frame of a page holds no angle brackets.
                let last = format!("{round}.{turn}.{}", messages - 1);
                readers.iter_mut().for_each(|reader| reader.read_to(&last));
            }
            round_is_over();
        }
    });
    assert_eq!(allocations, 0, "allocations on the path of a message to a stream");
}

/// Times that each kind of request is made in a round.
const REQUESTS: usize = 40;

/// After a warm-up, polls and batches allocate nothing on the shard's thread: polls of one topic and of several, as they are and as
/// scripts, with news and without; long polls that are answered at once, and such that wait for a message. Logs that nobody else reads
/// begin and end with them.
#[test]
fn no_allocation_per_request() {
    let allocations = allocations_of_the_last_round(2, Vec::new(), |address, round_is_over| {
        // Somebody reads the topics all the time: what a topic costs, it costs once.
        let _subscribers = [Reader::open(address, "/topics?topic=t&topic=u&transport=stream", false)];
        let (mut client, mut waiting) = (Client::connect(address), Client::connect(address));
        let batch: String =
            (0..20).map(|n| format!("{{\"topic\":\"{}\",\"data\":\"x{n}\"}}\n", ["t", "u"][n % 2])).collect();
        for _ in 0..2 {
            for _ in 0..REQUESTS {
                let answer = client.ask("POST /topics", "Content-Type: application/x-ndjson\r\n", &batch);
                assert_eq!((answer.status.as_str(), answer.body.as_str()), ("200", "{\"published\":20}"));

                let poll = client.ask("GET /topics/t?since=-5&transport=poll", "", "");
                assert!(poll.status == "200" && poll.body.contains("\"x18\""), "{}", poll.body);
                let unchanged = format!("If-None-Match: {}\r\n", poll.etag);
                assert_eq!(client.ask("GET /topics/t?since=-5&transport=poll", &unchanged, "").status, "304");
                assert_eq!(client.ask("GET /topics/t?transport=value", "", "").body, "x18");

                let both = client.ask("GET /topics?topic=t&topic=u&since=-5&transport=poll", "", "");
                assert!(both.status == "200" && both.body.contains("\"x19\""), "{}", both.body);
                let unchanged = format!("If-None-Match: {}\r\n", both.etag);
                let again = client.ask("GET /topics?topic=t&topic=u&since=-5&transport=poll", &unchanged, "");
                assert_eq!(again.status, "304");
                let script = client.ask("GET /topics/t?since=-5&transport=jsonp&callback=f", "", "");
                assert!(script.status == "200" && script.body.contains("f(["), "{}", script.body);

                let at_once = client.ask("GET /topics/t?since=-5&transport=long-poll", "", "");
                assert!(at_once.status == "200" && at_once.body.contains("\"x18\""), "{}", at_once.body);
                waiting.send(&format!("GET /topics/t?since={}&transport=long-poll", at_once.cursor), "", "");
                // It was read before this is answered.
                assert_eq!(client.ask("GET /topics/t?transport=value", "", "").status, "200");
                assert_eq!(client.ask("POST /topics/t", "", "news").status, "200");
                let waited = waiting.receive();
                assert!(waited.status == "200" && waited.body.contains("\"news\""), "{}", waited.body);
            }
            round_is_over();
        }
    });
    // None each time; but a queue may still grow by chance, as the clients come when they come.
    assert!(allocations < REQUESTS as u64 / 8, "{allocations} allocations in {REQUESTS} times");
}
