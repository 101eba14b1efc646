//! What an engine has of the one before it, and leaves to the next: histories, listening sockets, and the files of these.
//!
//! Owns: the order of it. What can be wanting is looked for before the other engine is told that this one is ready; nobody is let in before it
//! has said that everything is ours.

use std::os::unix::net::UnixListener;
use std::path::Path;

use corecast::admin;
use corecast::bound::Bound;
use corecast::config::{Config, Listen};
use corecast::handover::give::Sockets;
use corecast::handover::take::{self, Taking, Unsettled, Wish};
use corecast::handover::{Role, Shared, find};
use corecast::io::check::{StartError, fault};
use corecast::io::doorbell::Doorbell;
use corecast::io::unix::{self, SocketFile, UnixAccess};
use corecast::shard::Restored;
use crossbeam_channel::Sender;
use std::sync::PoisonError;
use std::time::Instant;

use super::engine::Engine;
use super::serve::Stop;

/// Only the engine's user, and root, who is let in anyway.
const PRIVATE: UnixAccess = UnixAccess { mode: 0o600, user: None, group: None };

/// What an engine begins with.
pub(super) struct Inheritance {
    /// Where clients come.
    pub(super) bound: Bound,
    /// Where operators come.
    pub(super) admin: Option<admin::Listener>,
    /// Where the next engine comes, and the file of that, if it is there.
    pub(super) handover: Option<(UnixListener, Option<SocketFile>)>,
    /// Duplicates of all of these, for the next engine; none if there is no way to it.
    pub(super) sockets: Vec<Shared>,
    /// All of it was another engine's, which ends.
    pub(super) taken_over: bool,
}

impl Inheritance {
    /// Listens, and restores histories; takes both from an engine that waits for that, if there is one.
    pub(super) fn take(config: &Config, engine: &mut Engine) -> Result<Inheritance, StartError> {
        let path = config.take_over.as_deref();
        let mut taking = match path {
            Some(path) => Taking::begin(path, Wish::TakeOver).map_err(|cause| untaken(path, &cause))?,
            None => None,
        };
        let result = Inheritance::take_from(config, engine, taking.as_mut());
        if let (Err(problem), Some(taking)) = (&result, &taking) {
            taking.refuse(&problem.cause);
        }
        result
    }

    fn take_from(
        config: &Config,
        engine: &mut Engine,
        mut taking: Option<&mut Taking>,
    ) -> Result<Inheritance, StartError> {
        let mut handed = taking.as_mut().map_or_else(Vec::new, |taking| std::mem::take(&mut taking.sockets));
        let bound = engine.bind(config, &mut handed)?;
        let mut admin = (!config.admin.is_empty())
            .then(|| admin::Listener::bind(&config.admin, config.unix, &mut handed))
            .transpose()?;
        let path = config.take_over.as_deref();
        let own = path.map(|path| handover_socket(path, &mut handed)).transpose()?;
        // What is not listened on any more: who waits there is sent away by the kernel, as nobody is to come there.
        for Shared { address, .. } in handed.drain(..) {
            tracing::warn!(%address, "the engine before this one listened there, and this one does not");
        }
        let mut sockets = Vec::new();
        if let (Some(path), Some((listener, _))) = (path, &own) {
            let duplicates = bound.duplicates().and_then(|mut all| {
                let sockets = vec![listener.try_clone()?.into()];
                all.push(Shared { role: Role::Handover, address: Listen::Unix(path.to_owned()), sockets });
                Ok(all)
            });
            sockets = duplicates.map_err(|error| fault("duplicate sockets", &error))?;
            sockets.extend(admin.as_mut().map_or_else(Vec::new, admin::Listener::duplicates));
        }
        let taken_over = taking.is_some();
        match (taking, path) {
            (Some(taking), Some(path)) => {
                take_over(engine, taking).map_err(|cause| untaken(path, &cause))?;
            }
            _ => restore(config, engine)?,
        }
        // Nothing may fail from here on: the other engine ends.
        let handover = own
            .map(|(listener, file)| (listener, file.or_else(|| path.and_then(|path| SocketFile::handed(path).ok()))));
        Ok(Inheritance { bound, admin, handover, sockets, taken_over })
    }
}

/// Listens for the next engine; the file of a socket that was handed over is not ours yet.
fn handover_socket(path: &Path, handed: &mut Vec<Shared>) -> Result<(UnixListener, Option<SocketFile>), StartError> {
    let shared = find(handed, Role::Handover, &Listen::Unix(path.to_owned()));
    if let Some(socket) = shared.and_then(|shared| shared.sockets.into_iter().next()) {
        return Ok((UnixListener::from(socket), None));
    }
    let opened = unix::listen_at(path, PRIVATE).map_err(|error| StartError {
        cause: format!("cannot wait at {}: {error}", path.display()),
        cure: "choose another path with --take-over, in a folder that is there and may be written to".to_owned(),
    });
    opened.map(|(socket, file)| (UnixListener::from(socket), Some(file)))
}

fn untaken(path: &Path, cause: &str) -> StartError {
    StartError {
        cause: format!("nothing was taken over from the engine at {}, which goes on: {cause}", path.display()),
        cure: "see its log; or stop it, and start without what it remembers".to_owned(),
    }
}

/// Takes histories over; once this returns, the other engine ends.
fn take_over(engine: &mut Engine, taking: &Taking) -> Result<(), String> {
    let begun = Instant::now();
    let homes = engine.node().homes();
    let count = taking.load(homes, engine.node())?;
    let restored = engine.node().restored().ok_or("a shard ended while histories were restored")?;
    taking.have_all()?;
    taking.is_ours().map_err(Unsettled::cause)?;
    say(&restored);
    let took_ms = begun.elapsed().as_millis() as u64;
    let (from, bytes) = (taking.version.as_str(), count.bytes);
    tracing::info!(from, topics = restored.topics, messages = restored.messages, bytes, took_ms, "taken over");
    Ok(())
}

/// Restores histories from a file, if there is one.
fn restore(config: &Config, engine: &mut Engine) -> Result<(), StartError> {
    let Some(path) = config.snapshot.as_deref() else { return Ok(()) };
    if !path.exists() {
        tracing::warn!(path = %path.display(), "there is no snapshot, starting without");
        return Ok(());
    }
    let wrong = |cause: String| StartError {
        cause,
        cure: "start with another file, or without one (--snapshot off): histories are lost then".to_owned(),
    };
    let homes = engine.node().homes();
    let (count, is_last) = take::load_file(path, homes, engine.node()).map_err(wrong)?;
    let restored = engine.node().restored().ok_or_else(|| wrong("a shard ended".to_owned()))?;
    if is_last {
        // Loaded again later, it would give numbers a second time.
        let used = take::use_up(path).map_err(|error| {
            wrong(format!("{} is the last word of an engine, and cannot be renamed: {error}", path.display()))
        })?;
        tracing::info!(path = %used.display(), "the snapshot was renamed: it is the last word only once");
    }
    say(&restored);
    let Restored { topics, messages, .. } = restored;
    tracing::info!(path = %path.display(), topics, messages, bytes = count.bytes, is_last, "histories were restored");
    Ok(())
}

/// Says what was left out.
fn say(restored: &Restored) {
    let Restored { topics_left_out, messages_left_out, .. } = *restored;
    if topics_left_out + messages_left_out > 0 {
        tracing::warn!(topics_left_out, messages_left_out, "there was no room for all that was to be restored");
    }
}

/// What goes to the next engine when this one ends.
pub(super) struct Succession {
    /// Files of Unix sockets besides those of clients.
    pub(super) files: Vec<SocketFile>,
    /// Duplicates that nobody is given any more.
    pub(super) sockets: Sockets,
    /// Tells the thread that gives them that it is over.
    pub(super) over: Doorbell,
    /// Retires the admin listener.
    pub(super) retire: Sender<()>,
    /// And rings for it.
    pub(super) bell: Option<Doorbell>,
}

impl Succession {
    /// Lets go of what is the next engine's, or nobody's; returns the files that go when this one has ended.
    pub(super) fn pass_on(self, why: Stop, engine: &mut Engine) -> Vec<SocketFile> {
        let Succession { files, sockets, over, retire, bell } = self;
        // As long as there is a duplicate, connections that nobody accepts would wait instead of being refused.
        drop(sockets.lock().unwrap_or_else(PoisonError::into_inner).take());
        over.ring();
        if why != Stop::Given(Wish::TakeOver) {
            return files;
        }
        engine.leave_files();
        files.into_iter().for_each(SocketFile::leave);
        let _ = retire.try_send(());
        bell.iter().for_each(Doorbell::ring);
        Vec::new()
    }
}
