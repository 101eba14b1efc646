//! The one thread that writes the log, and the queue before it.
//!
//! Owns: the descriptor that is written to. Who logs never waits: a line that finds the queue full is dropped and counted,
//! whatever becomes of the reader of stderr. The thread alone waits, for as long as it takes; what was dropped meanwhile is
//! said as soon as something can be said again.
//! Never: holds a lock while it writes, the lock of Rust's stderr above all.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use super::ACCESS;
use crate::mesh::Tally;

/// Lines that may wait for the writer; a line is rarely longer than 200 bytes.
const LINES_MAX: usize = 1024;
/// Of these, so many may be lines of the access log: the others find room however many come.
const ACCESS_LINES_MAX: usize = LINES_MAX * 3 / 4;
/// Bytes written at once, when more than one line waits.
const BATCH_BYTES: usize = 32 << 10;
/// How often is looked whether there is something to say of lines that are missing.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long to wait for a descriptor that somebody else made non-blocking.
const PAUSE: Duration = Duration::from_millis(20);

/// What the thread is told.
#[derive(Debug)]
enum Order {
    /// To write this.
    Write(Vec<u8>),
    /// To say when all that was ordered before is written.
    Say(Sender<()>),
}

/// The way to the thread; clones lead to the same one.
#[derive(Clone, Debug)]
pub(super) struct Outlet {
    orders: Sender<Order>,
    lost: Arc<Tally>,
}

/// The other end, for a thread to run.
#[derive(Debug)]
pub(super) struct Writer {
    orders: Receiver<Order>,
    lost: Arc<Tally>,
}

/// Makes both ends.
pub(super) fn outlet() -> (Outlet, Writer) {
    let (to, orders) = bounded(LINES_MAX);
    let lost = Arc::new(Tally::default());
    (Outlet { orders: to, lost: lost.clone() }, Writer { orders, lost })
}

impl Outlet {
    /// Hands a line over, or drops it.
    fn put(&self, line: Vec<u8>, is_access: bool) {
        if is_access && self.orders.len() >= ACCESS_LINES_MAX {
            self.lost.add(1);
            return;
        }
        match self.orders.try_send(Order::Write(line)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.lost.add(1),
        }
    }

    /// Hands text over that must not be dropped, waits until it is written, and all before it; not longer than `patience`.
    pub(super) fn say_last(&self, text: &str, patience: Duration) {
        let deadline = Instant::now() + patience;
        if text.is_empty() || self.orders.send_deadline(Order::Write(text.as_bytes().to_vec()), deadline).is_ok() {
            let (done, written) = bounded(1);
            if self.orders.send_deadline(Order::Say(done), deadline).is_ok() {
                let _ = written.recv_deadline(deadline);
            }
        }
    }

    /// Returns how many lines were dropped.
    pub(super) fn lost(&self) -> u64 {
        self.lost.read()
    }
}

/// Where one line goes in.
#[derive(Debug)]
pub(super) struct Slit<'w> {
    outlet: &'w Outlet,
    is_access: bool,
}

impl<'w> MakeWriter<'w> for Outlet {
    type Writer = Slit<'w>;

    fn make_writer(&'w self) -> Slit<'w> {
        Slit { outlet: self, is_access: false }
    }

    fn make_writer_for(&'w self, metadata: &Metadata<'_>) -> Slit<'w> {
        Slit { outlet: self, is_access: metadata.target() == ACCESS }
    }
}

impl Write for Slit<'_> {
    /// Takes a whole line, as the layer that formats writes it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outlet.put(bytes.to_vec(), self.is_access);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Writer {
    /// Writes until the last outlet is gone. Calls `missing` now and then, with the number of lines dropped since the last
    /// time, as long as lines came in the last `busy`; it may log.
    pub(super) fn run(self, mut out: impl Write, busy: Duration, missing: impl Fn(u64)) {
        let mut told = 0;
        let mut busy_until = Instant::now();
        loop {
            // An idle process is not woken to find nothing.
            let next = if Instant::now() < busy_until {
                self.orders.recv_timeout(LOOK_EVERY)
            } else {
                self.orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match next {
                Ok(order) => {
                    busy_until = Instant::now() + busy;
                    self.obey(&mut out, order);
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.orders.is_empty() {
                let lost = self.lost.read();
                missing(lost - told);
                told = lost;
            }
        }
    }

    /// Carries out an order, and with a line those that wait behind it.
    fn obey(&self, out: &mut impl Write, order: Order) {
        let mut text = Vec::new();
        let mut lines = 0;
        let mut next = Some(order);
        while let Some(Order::Write(line)) = next {
            text.extend_from_slice(&line);
            lines += 1;
            next = if text.len() < BATCH_BYTES { self.orders.try_recv().ok() } else { None };
        }
        if !write(out, &text) {
            self.lost.add(lines);
        }
        if let Some(Order::Say(done)) = next {
            // Nobody waits any more if it took too long.
            let _ = done.send(());
        }
    }
}

/// Writes all of it, however long that takes; says false if the other end is gone.
fn write(out: &mut impl Write, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return false,
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::net::UnixStream;

    /// Who logs does not wait for a reader that has stopped: lines are dropped, counted, and the count is said once he reads
    /// on. Shards stood still before, and with them every delivery.
    #[test]
    fn a_stalled_reader_stops_nobody() {
        let (outlet, writer) = outlet();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (say, said) = bounded(LINES_MAX);
        let thread = thread::spawn(move || {
            writer.run(ours, Duration::ZERO, |lost| {
                if lost > 0 {
                    say.send(lost).unwrap();
                }
            });
        });
        // Far more than the queue and the socket's buffer hold; this would never end if it waited.
        let line = [b"x".repeat(199), b"\n".to_vec()].concat();
        for _ in 0..20_000 {
            outlet.make_writer().write_all(&line).unwrap();
        }
        let lost = outlet.lost();
        assert!(lost > 10_000 && lost < 20_000, "{lost} lost");
        outlet.say_last("late\n", Duration::from_millis(1));
        drop(outlet);
        let mut read = 0;
        for line in BufReader::new(theirs).lines() {
            read += u64::from(line.unwrap().len() == 199);
        }
        thread.join().unwrap();
        assert_eq!(read + lost, 20_000, "what was not dropped is written");
        assert_eq!(said.iter().sum::<u64>(), lost);
    }

    /// Lines of the access log, however many, leave room for others.
    #[test]
    fn warnings_find_room() {
        let (outlet, writer) = outlet();
        (0..2 * LINES_MAX).for_each(|_| outlet.put(b"access\n".to_vec(), true));
        assert_eq!(outlet.lost(), (2 * LINES_MAX - ACCESS_LINES_MAX) as u64);
        outlet.put(b"warning\n".to_vec(), false);
        assert_eq!(writer.orders.len(), ACCESS_LINES_MAX + 1);
    }

    /// The last words are written before `say_last` returns, behind all that was said before.
    #[test]
    fn last_words_are_written() {
        #[derive(Clone, Default)]
        struct Kept(Arc<std::sync::Mutex<Vec<u8>>>);
        impl Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                // In pieces, as a pipe takes them.
                let count = bytes.len().min(3);
                self.0.lock().unwrap().extend_from_slice(&bytes[..count]);
                Ok(count)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (outlet, writer) = outlet();
        let kept = Kept::default();
        let out = kept.clone();
        let thread = thread::spawn(move || writer.run(out, Duration::ZERO, |_| {}));
        for n in 0..100 {
            writeln!(outlet.make_writer(), "{n}").unwrap();
        }
        outlet.say_last("end\n", Duration::from_secs(10));
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(text.starts_with('0') && text.ends_with("99\nend\n"), "{text}");
        drop(outlet);
        thread.join().unwrap();
    }
}
