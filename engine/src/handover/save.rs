//! A snapshot's way out: pages as they come from shards, between a head and an end.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use corecast_protocol::snapshot::{self, Head};
use flate2::Crc;

use crate::shard::Page;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Topics.
    pub topics: u64,
    /// Messages.
    pub messages: u64,
    /// Bytes of all of it.
    pub bytes: u64,
}

/// A snapshot that is being written.
#[derive(Debug)]
pub struct Saving<W> {
    out: W,
    crc: Crc,
    count: Count,
}

impl<W: Write> Saving<W> {
    /// Writes the head.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn begin(out: W, is_last: bool) -> io::Result<Saving<W>> {
        let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let mut saving = Saving { out, crc: Crc::new(), count: Count::default() };
        saving.put(&snapshot::head(Head { is_last, wall_ms }))?;
        Ok(saving)
    }

    /// Writes a page.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn page(&mut self, page: &Page) -> io::Result<()> {
        self.count.topics += page.topics;
        self.count.messages += page.messages;
        self.put(&page.bytes)
    }

    /// Writes the end; returns what there is.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn end(mut self) -> io::Result<Count> {
        self.put(&snapshot::end_head(self.count.topics, self.count.messages))?;
        let checksum = self.crc.sum();
        self.put(&checksum.to_le_bytes())?;
        self.out.flush()?;
        Ok(self.count)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.count.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}
