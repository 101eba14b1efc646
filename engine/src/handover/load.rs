//! A snapshot's way in: each topic to the shard that is its home here, and none of it believed before its end.
//!
//! ```text
//!   bytes ──▶ parts ──▶ a piece for each shard, some hundred kilobytes ──▶ its gate
//! ```
//!
//! Owns: the bytes of parts that have not come whole, and pieces that are being filled. Whoever is given pieces holds them back from everybody
//! until [`load`] has said that all is well: what is wrong with a snapshot may be known at its end only.

use std::fmt;
use std::io::{self, Read};

use corecast_protocol::snapshot::{self, CHECKSUM_BYTES, Head, Reader, Record, Wrong};
use flate2::Crc;

use super::save::Count;
use crate::shard::home_shard;

/// What is read at once.
const READ_BYTES: usize = 256 << 10;
/// A piece is passed on when it has so many bytes.
const PIECE_BYTES: usize = 256 << 10;

/// Why a snapshot was not loaded.
#[derive(Debug)]
pub enum Failure {
    /// It could not be read.
    Unread(io::Error),
    /// It is not right.
    Wrong(Wrong),
    /// Whoever was to have it is gone.
    Gone,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unread(error) => write!(f, "the snapshot cannot be read: {error}"),
            Failure::Wrong(wrong) => wrong.fmt(f),
            Failure::Gone => f.write_str("a shard ended while histories were restored"),
        }
    }
}

/// Where pieces go.
pub trait Sink {
    /// The head was read: this comes first.
    fn begin(&mut self, head: Head);
    /// Takes a piece for a shard; says false if that is gone.
    fn give(&mut self, shard: usize, piece: Vec<u8>) -> bool;
}

/// The homes of topics: the key of their hash, and the number of shards.
#[derive(Clone, Copy, Debug)]
pub struct Homes {
    /// The key that all shards have.
    pub hash_key: u64,
    /// How many shards there are.
    pub shards: usize,
}

/// Reads a snapshot to its end, and gives each shard its pieces; returns what it was. It reads no further than to the end, if what is read from has no
/// more at hand.
///
/// # Errors
/// It cannot be read, or is wrong; then what was given is to be thrown away.
pub fn load(from: &mut impl Read, homes: Homes, sink: &mut impl Sink) -> Result<Count, Failure> {
    let mut buf = vec![0; READ_BYTES];
    let (mut len, mut at) = (0, 0);
    let mut reader = Reader::default();
    let (mut crc, mut count) = (Crc::new(), Count::default());
    let mut pieces: Vec<Vec<u8>> = vec![Vec::new(); homes.shards];
    // The shard of the topic at hand.
    let mut shard = 0;
    let mut begun = false;
    loop {
        if !begun && let Some((head, bytes)) = reader.head(&buf[..len]).map_err(Failure::Wrong)? {
            crc.update(&buf[..bytes]);
            (begun, at) = (true, bytes);
            count.bytes += bytes as u64;
            sink.begin(head);
        }
        while begun && let Some((record, bytes)) = reader.record(&buf[at..len]).map_err(Failure::Wrong)? {
            let part = &buf[at..at + bytes];
            at += bytes;
            count.bytes += bytes as u64;
            match record {
                Record::Topic(topic) => {
                    if !topic.goes_on {
                        shard = home_shard(homes.hash_key, homes.shards, topic.name);
                    }
                    count.topics += u64::from(!topic.goes_on);
                }
                Record::Message(_) => count.messages += 1,
                Record::End(end) => {
                    crc.update(&part[..bytes - CHECKSUM_BYTES]);
                    if crc.sum() != end.checksum {
                        return Err(Failure::Wrong(Wrong::Changed));
                    }
                    if at != len {
                        return Err(Failure::Wrong(Wrong::Longer));
                    }
                    for (shard, piece) in pieces.into_iter().enumerate().filter(|(_, piece)| !piece.is_empty()) {
                        give(sink, shard, piece)?;
                    }
                    return Ok(count);
                }
            }
            crc.update(part);
            pieces[shard].extend_from_slice(part);
            if pieces[shard].len() >= PIECE_BYTES {
                give(sink, shard, std::mem::take(&mut pieces[shard]))?;
            }
        }
        // What has not come whole goes to the front, and there is room behind it.
        buf.copy_within(at..len, 0);
        (len, at) = (len - at, 0);
        if buf.len() - len < READ_BYTES / 2 {
            let most = snapshot::RECORD_BYTES_MAX + READ_BYTES;
            buf.resize((2 * buf.len()).min(most), 0);
        }
        let came = loop {
            match from.read(&mut buf[len..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result.map_err(Failure::Unread)?,
            }
        };
        if came == 0 {
            return Err(Failure::Wrong(Wrong::CutShort));
        }
        len += came;
    }
}

fn give(sink: &mut impl Sink, shard: usize, piece: Vec<u8>) -> Result<(), Failure> {
    if sink.give(shard, piece) { Ok(()) } else { Err(Failure::Gone) }
}
