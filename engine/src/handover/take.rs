//! The taking end: a process that comes for the histories of the engine that runs, and perhaps for its place.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corecast_protocol::snapshot::{Head, Wrong};

use super::Shared;
use super::load::{Failure, Homes, Sink, load};
use super::save::Count;
pub use super::words::Wish;
use super::words::{Line, VERSION, Word, why};

/// Time that the engine has to stop what changes histories, and to begin with its snapshot.
const FREEZE: Duration = Duration::from_secs(30);

/// Why everything is not ours, though it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsettled {
    /// The engine goes on, because of that.
    GoesOn(String),
    /// It may, or may have ended.
    Unknown(String),
}

impl Unsettled {
    /// Returns why.
    #[must_use]
    pub fn cause(self) -> String {
        match self {
            Unsettled::GoesOn(cause) | Unsettled::Unknown(cause) => cause,
        }
    }
}

/// A conversation with the engine that runs.
#[derive(Debug)]
pub struct Taking {
    line: Line,
    /// Its sockets.
    pub sockets: Vec<Shared>,
    /// Its version.
    pub version: String,
}

impl Taking {
    /// Begins one with the engine that waits at a path; none: nobody does.
    ///
    /// # Errors
    /// Why it does not give that.
    pub fn begin(path: &Path, wish: Wish) -> Result<Option<Taking>, String> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error.to_string()),
        };
        let line = Line::new(stream).map_err(|error| why(&error))?;
        line.say(&Word::Wish(VERSION, wish)).map_err(|error| why(&error))?;
        let mut sockets: Vec<Shared> = Vec::new();
        loop {
            match line.hear().map_err(|error| why(&error))? {
                Word::Sockets(some) => {
                    match sockets.iter_mut().find(|of| (of.role, &of.address) == (some.role, &some.address)) {
                        Some(known) => known.sockets.extend(some.sockets),
                        None => sockets.push(some),
                    }
                }
                Word::Hello(version) => return Ok(Some(Taking { line, sockets, version })),
                Word::No(cause) => return Err(cause),
                _ => return Err("it says something else than what it has".to_owned()),
            }
        }
    }

    /// Says that all is ready, and restores what comes; returns what it was.
    ///
    /// # Errors
    /// It did not come, or not whole; then nothing of it may be used.
    pub fn load(&self, homes: Homes, sink: &mut impl Sink) -> Result<Count, String> {
        self.ready()?;
        let result = load(&mut self.line.stream(), homes, sink);
        result.map_err(|failure| self.refuse(&failure_text(&failure)))
    }

    /// Says that all is ready, and writes the snapshot that comes to a file; returns what it was. The file is there whole, or not at all.
    ///
    /// # Errors
    /// It did not come whole, or could not be written.
    pub fn save(&self, path: &Path) -> Result<Count, String> {
        self.ready()?;
        let beside = beside(path, "part");
        let unwritten = |error: io::Error| format!("cannot write {}: {error}", beside.display());
        let result = (|| {
            let file = File::create(&beside).map_err(unwritten)?;
            let mut copy = Copy { from: self.line.stream(), to: BufWriter::new(file), failed: None };
            // Read as it would be by who loads it: so what is saved is known to be right.
            let count = inspect(&mut copy).map(|(count, _)| count);
            if let Some(error) = copy.failed.take() {
                return Err(unwritten(error));
            }
            let count = count.map_err(|failure| failure_text(&failure))?;
            let file = copy.to.into_inner().map_err(|error| unwritten(error.into_error()))?;
            file.sync_all().map_err(unwritten)?;
            fs::rename(&beside, path).map_err(unwritten)?;
            Ok(count)
        })();
        if result.is_err() {
            let _ = fs::remove_file(&beside);
        }
        result.map_err(|cause| self.refuse(&cause))
    }

    /// Says that everything is here.
    ///
    /// # Errors
    /// The engine is gone.
    pub fn have_all(&self) -> Result<(), String> {
        self.line.say(&Word::HaveAll).map_err(|error| why(&error))
    }

    /// Waits for the word that it is ours now.
    ///
    /// # Errors
    /// It is not, or that is not known.
    pub fn is_ours(&self) -> Result<(), Unsettled> {
        match self.line.hear() {
            Ok(Word::Yours) => Ok(()),
            Ok(Word::No(cause)) => Err(Unsettled::GoesOn(cause)),
            Ok(_) => Err(Unsettled::Unknown("it does not say whether it has handed over".to_owned())),
            Err(error) => Err(Unsettled::Unknown(why(&error))),
        }
    }

    /// Says that it cannot be; returns why.
    pub fn refuse(&self, cause: &str) -> String {
        let _ = self.line.say(&Word::No(cause.to_owned()));
        cause.to_owned()
    }

    fn ready(&self) -> Result<(), String> {
        self.line.say(&Word::Ready).map_err(|error| why(&error))?;
        self.line.wait_for(FREEZE).map_err(|error| why(&error))
    }
}

/// What went wrong between the two, in words.
fn failure_text(failure: &Failure) -> String {
    match failure {
        Failure::Unread(error) => why(error),
        other => other.to_string(),
    }
}

/// Reads, and writes what was read.
struct Copy<'s, W> {
    from: &'s UnixStream,
    to: W,
    failed: Option<io::Error>,
}

impl<W: Write> Read for Copy<'_, W> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buf)?;
        if let Err(error) = self.to.write_all(&buf[..count]) {
            self.failed = Some(error);
            return Ok(0);
        }
        Ok(count)
    }
}

/// Restores nothing.
#[derive(Default)]
struct Nobody(Option<Head>);

impl Sink for Nobody {
    fn begin(&mut self, head: Head) {
        self.0 = Some(head);
    }

    fn give(&mut self, _: usize, _: Vec<u8>) -> bool {
        true
    }
}

/// Reads a snapshot as who loads it would; returns what it is.
///
/// # Errors
/// What is wrong with it.
pub fn inspect(from: &mut impl Read) -> Result<(Count, Head), Failure> {
    let mut nobody = Nobody::default();
    let count = load(from, Homes { hash_key: 0, shards: 1 }, &mut nobody)?;
    nobody.0.map(|head| (count, head)).ok_or(Failure::Wrong(Wrong::CutShort))
}

/// Loads a snapshot from a file; returns what it was, and whether it is the last word.
///
/// # Errors
/// What is wrong with it; then nothing of it may be used.
pub fn load_file(path: &Path, homes: Homes, sink: &mut impl Sink) -> Result<(Count, bool), String> {
    let mut file = File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let mut noting = Noting { sink, is_last: false };
    let count = load(&mut file, homes, &mut noting).map_err(|failure| format!("{}: {failure}", path.display()))?;
    let is_last = noting.is_last;
    match file.read(&mut [0]) {
        Ok(0) => Ok((count, is_last)),
        Ok(_) => Err(format!("{}: {}", path.display(), Wrong::Longer)),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

/// Passes on, and notes the head.
struct Noting<'s, S> {
    sink: &'s mut S,
    is_last: bool,
}

impl<S: Sink> Sink for Noting<'_, S> {
    fn begin(&mut self, head: Head) {
        self.is_last = head.is_last;
        self.sink.begin(head);
    }

    fn give(&mut self, shard: usize, piece: Vec<u8>) -> bool {
        self.sink.give(shard, piece)
    }
}

/// Renames a snapshot that was the last word, and is so no more; returns its new name.
///
/// # Errors
/// It cannot be: it must not be loaded then.
pub fn use_up(path: &Path) -> io::Result<PathBuf> {
    let used = beside(path, "loaded");
    fs::rename(path, &used)?;
    Ok(used)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}
