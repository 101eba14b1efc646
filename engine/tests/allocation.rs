//! Invariant 9: once everything has reached its size, nothing on the path of a message allocates.
//!
//! A production shard on a real ring, driven turn by turn on this thread, whose allocations are counted; publishers and
//! subscribers are plain sockets on other threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use corecast::io::doorbell::Doorbell;
use corecast::io::driver::Driver as _;
use corecast::io::listen::listen;
use corecast::io::ring::{Ring, RingConfig};
use corecast::mesh;
use corecast::shard::{Limits, Setup, Shard};

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

const DEADLINE: Duration = Duration::from_secs(30);

/// Opens a WebSocket on `path`, with further headers.
fn open(address: SocketAddr, path: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the engine listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time-out can be set");
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
fn read_frames(stream: &mut TcpStream, frames: usize) -> bool {
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
fn round(streams: &mut [TcpStream], http: &mut TcpStream, messages: usize) {
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
fn turn_until_done(shard: &mut Shard, ring: &mut Ring, done: &Receiver<()>) -> u64 {
    let begin = Instant::now();
    let before = ALLOCATIONS.get();
    while done.try_recv().is_err() {
        shard.turn(ring);
        assert!(begin.elapsed() < DEADLINE, "the clients are not done in time");
    }
    ALLOCATIONS.get() - before
}

/// After a warm-up, publishing over WebSocket and HTTP to 21 subscribers, some of them compressed, allocates nothing on the
/// shard's thread.
#[test]
fn no_allocation_per_message() {
    let listeners = listen("127.0.0.1:0".parse().expect("an address"), 1).expect("loopback can be bound");
    let address = listeners[0].address();
    let config = RingConfig { slots: 256, buffers: 256, memory_bytes: 32 << 20, ..RingConfig::default() };
    let doorbells = Doorbell::several(1).expect("an eventfd");
    let mut ring = Ring::new(&config, 0, doorbells, listeners).expect("an io_uring");
    let limits = Limits { memory_bytes: 32 << 20, compress_from: Some(100), ..Limits::default() };
    let links = mesh::join(1, 1, limits.ring_bytes(1)).pop().expect("one was made");
    let mut shard =
        Shard::new(Setup { index: 0, limits, links, seed: 1, slots_max: 256, hash_key: 2, wall_offset_us: 0 });
    ring.enable().expect("a ring starts on its thread");
    ring.accept(0);

    let (tell, done) = channel();
    let (go_on, next) = channel::<()>();
    let clients = std::thread::spawn(move || {
        let mut streams = vec![open(address, "/topics/t?since=live", "")];
        streams.extend((0..SUBSCRIBERS).map(|place| {
            let headers = if is_compressed(place) { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
            open(address, "/topics/t?since=live", headers)
        }));
        let mut http = TcpStream::connect(address).expect("the engine listens");
        http.set_read_timeout(Some(DEADLINE)).expect("a time-out can be set");
        for messages in [400, 400] {
            round(&mut streams, &mut http, messages);
            tell.send(()).expect("somebody waits");
            next.recv().expect("somebody says go");
        }
    });
    let warming = turn_until_done(&mut shard, &mut ring, &done);
    assert!(warming > 0, "the counter counts");
    go_on.send(()).expect("the clients wait");
    let allocations = turn_until_done(&mut shard, &mut ring, &done);
    go_on.send(()).expect("the clients wait");
    clients.join().expect("the clients saw every message");
    assert_eq!(allocations, 0, "allocations on the path of a message");
}
