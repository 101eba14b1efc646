//! The giving end: a thread of the engine that runs, which waits at a path for whoever comes for its histories.
//!
//! Owns: the freeze, from the word "ready" to the word "yours", or to the thaw. One peer is served at a time; there is no hurry. Never: trusts
//! anybody but its own user and root, or leaves shards frozen.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Shared;
use super::save::{Count, Saving};
use super::words::{Line, VERSION, Wish, Word, why};
use crate::control::{Asker, Demand, PATIENCE, Pages, Reply};
use crate::io::check::{StartError, fault, no_thread};
use crate::io::doorbell::Doorbell;
use crate::io::poll::{self, For};
use crate::io::unix::credentials;
use crate::shard::{DumpPlace, Page};

/// Bytes of a page.
const PAGE_BYTES: usize = 512 << 10;
/// What shards may take to do what they are told: they have [`PATIENCE`], and may be told later by as much.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest freeze: who has not taken all by then does not get it.
const FREEZE_MAX: Duration = Duration::from_secs(60);
/// Time between two attempts to thaw, and to accept.
const PAUSE: Duration = Duration::from_millis(100);

/// The sockets that would go with the histories; none once the engine ends.
pub type Sockets = Arc<Mutex<Option<Vec<Shared>>>>;

/// What the thread needs.
#[derive(Debug)]
pub struct Giver {
    /// Asks the shards.
    pub control: Asker,
    /// How many there are.
    pub shards: usize,
    /// What goes with the histories.
    pub sockets: Sockets,
    /// Is rung when there is nothing any more.
    pub bell: Doorbell,
    /// Is told when the engine is to end, as everything is somebody else's, or in a file.
    pub given: Sender<Wish>,
}

/// Starts the thread; it lives as long as the process.
///
/// # Errors
/// It cannot be started.
pub fn start(listener: UnixListener, giver: Giver) -> Result<(), StartError> {
    let bell = Doorbell::new().map_err(|error| fault("make doorbells", &error))?;
    listener.set_nonblocking(true).map_err(|error| fault("wait for the next engine", &error))?;
    let run = move || {
        // It may be the other process's as well: who comes once this engine ends is to find that one, or nobody.
        while !giver.is_over() {
            let waiting = [(listener.as_fd(), For::Reading), (giver.bell.as_fd(), For::Reading)];
            if poll::wait(&waiting, None).is_err() {
                thread::sleep(PAUSE); // The kernel is out of memory.
            }
            match listener.accept() {
                _ if giver.is_over() => {}
                Ok((stream, _)) => {
                    if let Err(cause) = giver.serve(stream, &bell) {
                        tracing::warn!(cause, "nothing was handed over, and this engine goes on");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => thread::sleep(PAUSE),
            }
        }
    };
    let spawned = thread::Builder::new().name("handover".to_owned()).spawn(run);
    spawned.map(drop).map_err(|error| no_thread("handover", &error))
}

/// Shards that are frozen, until they are told otherwise.
struct Frozen<'g> {
    giver: &'g Giver,
    bell: &'g Doorbell,
    since: Instant,
    for_good: bool,
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        // However long it takes: frozen shards would refuse every message for ever.
        while !self.for_good && !self.giver.is_over() && self.giver.tell(Demand::Freeze(false), self.bell).is_err() {
            thread::sleep(PAUSE);
        }
    }
}

impl Giver {
    /// Says whether the engine ends, so that there is nothing to hand over.
    fn is_over(&self) -> bool {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn serve(&self, stream: UnixStream, bell: &Doorbell) -> Result<(), String> {
        let peer = credentials(stream.as_fd()).map_err(|error| error.to_string())?;
        let own = own_user().map_err(|error| error.to_string())?;
        let line = Line::new(stream).map_err(|error| error.to_string())?;
        if peer.uid != own && peer.uid != 0 {
            let _ = line.say(&Word::No("only root and the user of the engine may have that".to_owned()));
            return Err(format!("user {} asked for it", peer.uid));
        }
        let wish = match line.hear().map_err(|error| why(&error))? {
            Word::Wish(VERSION, wish) => wish,
            Word::Wish(version, _) => {
                let cause = format!("it speaks version {version} of handing over, and this engine {VERSION}");
                let _ = line.say(&Word::No(cause.clone()));
                return Err(cause);
            }
            _ => return Err("it does not say what it wants".to_owned()),
        };
        let result = match wish {
            Wish::Snapshot => self.snapshot(&line),
            Wish::TakeOver | Wish::LastSnapshot => self.hand_over(&line, bell, wish),
        };
        if let Err(cause) = &result {
            // It may be what it says itself.
            let _ = line.say(&Word::No(cause.clone()));
        }
        result
    }

    /// Writes a snapshot while the engine goes on.
    fn snapshot(&self, line: &Line) -> Result<(), String> {
        self.greet(line, Vec::new())?;
        let begun = Instant::now();
        let count = self.dump(line.stream(), false, None)?;
        match line.hear().map_err(|error| why(&error))? {
            Word::HaveAll => {}
            Word::No(cause) => return Err(cause),
            _ => return Err("it does not say whether it has the snapshot".to_owned()),
        }
        let Count { topics, messages, bytes } = count;
        tracing::info!(topics, messages, bytes, took_ms = begun.elapsed().as_millis() as u64, "a snapshot was saved");
        Ok(())
    }

    /// Hands everything over, and has the engine end, or changes nothing.
    fn hand_over(&self, line: &Line, bell: &Doorbell, wish: Wish) -> Result<(), String> {
        let sockets = self.duplicates(wish)?;
        self.greet(line, sockets)?;
        let mut frozen = Frozen { giver: self, bell, since: Instant::now(), for_good: false };
        self.tell(Demand::Freeze(true), bell)?;
        self.tell(Demand::Settle, bell)?;
        let settled = frozen.since.elapsed();
        let count = self.dump(line.stream(), true, Some(frozen.since))?;
        match line.hear().map_err(|error| why(&error))? {
            Word::HaveAll => {}
            Word::No(cause) => return Err(cause),
            _ => return Err("it does not say whether it has everything".to_owned()),
        }
        // If this cannot be written, nobody has begun to serve; once it is, somebody may have.
        line.say(&Word::Yours).map_err(|error| why(&error))?;
        frozen.for_good = true;
        let frozen_ms = frozen.since.elapsed().as_millis() as u64;
        let Count { topics, messages, bytes } = count;
        let settled_ms = settled.as_millis() as u64;
        tracing::info!(topics, messages, bytes, frozen_ms, settled_ms, "everything was handed over, stopping");
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = self.given.send(wish);
        Ok(())
    }

    /// Returns what sockets go with what is wished for. The lock is not held while somebody is waited for.
    fn duplicates(&self, wish: Wish) -> Result<Vec<Shared>, String> {
        let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let sockets = sockets.as_deref().ok_or("this engine is about to end")?;
        let duplicate = |Shared { role, address, sockets }: &Shared| {
            let sockets = sockets.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
            Ok(Shared { role: *role, address: address.clone(), sockets })
        };
        let wanted = sockets.iter().filter(|_| wish == Wish::TakeOver);
        let duplicates: io::Result<Vec<Shared>> = wanted.map(duplicate).collect();
        duplicates.map_err(|error| format!("sockets cannot be handed over: {error}"))
    }

    /// Says what there is, and waits until the other end is ready.
    fn greet(&self, line: &Line, sockets: Vec<Shared>) -> Result<(), String> {
        for shared in sockets {
            line.say(&Word::Sockets(shared)).map_err(|error| why(&error))?;
        }
        line.say(&Word::Hello(env!("CARGO_PKG_VERSION").to_owned())).map_err(|error| why(&error))?;
        match line.hear().map_err(|error| why(&error))? {
            Word::Ready => Ok(()),
            Word::No(cause) => Err(cause),
            _ => Err("it does not say whether it is ready".to_owned()),
        }
    }

    /// Writes what all shards remember, one after the other; the next page is made while one is written.
    fn dump(&self, mut to: &UnixStream, is_last: bool, since: Option<Instant>) -> Result<Count, String> {
        let unwritten = |error: io::Error| why(&error);
        let mut saving = Saving::begin(&mut to, is_last).map_err(unwritten)?;
        for shard in 0..self.shards {
            let mut next = Some(self.ask(shard, DumpPlace::default())?);
            while let Some(asked) = next {
                let page = asked.recv_timeout(ANSWER).map_err(|_| format!("shard {shard} does not answer"))?;
                next = page.next.map(|place| self.ask(shard, place)).transpose()?;
                saving.page(&page).map_err(unwritten)?;
                if since.is_some_and(|since| since.elapsed() > FREEZE_MAX) {
                    return Err(format!("the other end has not taken everything within {FREEZE_MAX:?}"));
                }
            }
        }
        let count = saving.end().map_err(unwritten)?;
        to.flush().map_err(unwritten)?;
        Ok(count)
    }

    fn ask(&self, shard: usize, place: DumpPlace) -> Result<Receiver<Page>, String> {
        let (to, page) = bounded(1);
        let asked = self.control.ask(Demand::Dump(shard, place, PAGE_BYTES, Pages(to)), None);
        if asked { Ok(page) } else { Err("too much is asked of the shards already".to_owned()) }
    }

    /// Has all shards do something.
    fn tell(&self, demand: Demand, bell: &Doorbell) -> Result<(), String> {
        let (to, outcome) = bounded(1);
        if !self.control.ask(demand, Some(Reply { to, bell: bell.clone() })) {
            return Err("too much is asked of the shards already".to_owned());
        }
        match outcome.recv_timeout(ANSWER) {
            Ok(outcome) if outcome.status == 200 => Ok(()),
            Ok(outcome) => Err(format!("not all shards answer: {}", outcome.body)),
            Err(_) => Err(format!("the control plane does not answer within {ANSWER:?}")),
        }
    }
}

const _: () = assert!(ANSWER.as_secs() > 2 * PATIENCE.as_secs(), "a demand may wait, and then has to be answered");

/// Returns the effective user of this process.
fn own_user() -> io::Result<u32> {
    let (one, _other) = UnixStream::pair()?;
    credentials(one.as_fd()).map(|own| own.uid)
}
