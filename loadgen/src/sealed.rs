//! TLS of a lane's connections, by rustls: one configuration for all, whose tickets go to the first of those who come back.
//!
//! Owns: a session for each connection, some 8 KiB while it stands (a plain one costs a hundred bytes), and half as much again while
//! it begins. Touches no socket: it is given bytes, and says what to send.

use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::Arc;

use corecast::io::driver::Slot;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::client::Fault;

/// What all connections of a run have in common.
#[derive(Clone, Debug)]
pub(crate) struct Seal {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Sealed {
    seal: Seal,
    sessions: Vec<Option<Box<ClientConnection>>>,
    /// What was opened last.
    pub(crate) text: Vec<u8>,
    /// What is to be sent.
    pub(crate) wire: Vec<u8>,
}

impl Sealed {
    pub(crate) fn new(seal: Seal, slots: u32) -> Sealed {
        let sessions = (0..slots).map(|_| None).collect();
        Sealed { seal, sessions, text: Vec::new(), wire: Vec::new() }
    }

    /// Begins the session of a connection that stands now.
    pub(crate) fn begin(&mut self, slot: Slot) {
        let session = ClientConnection::new(self.seal.config.clone(), self.seal.name.clone());
        let mut session = session.expect("the configuration was checked with the name");
        // What is said during the handshake waits here; the plan bounds it.
        session.set_buffer_limit(None);
        self.sessions[slot as usize] = Some(Box::new(session));
    }

    /// Forgets the session of a connection that ends.
    pub(crate) fn end(&mut self, slot: Slot) {
        self.sessions[slot as usize] = None;
    }

    /// Makes what to send of a text; nothing while the handshake goes on, which the text waits for.
    pub(crate) fn seal(&mut self, slot: Slot, text: &[u8]) -> &[u8] {
        self.wire.clear();
        if let Some(session) = &mut self.sessions[slot as usize] {
            session.writer().write_all(text).expect("there is no limit");
            pour(session, &mut self.wire);
        }
        &self.wire
    }

    /// Opens what came: afterwards `text` is what the server says, and `wire` what to send for its handshake.
    ///
    /// # Errors
    /// What the server did that makes this connection useless.
    pub(crate) fn open(&mut self, slot: Slot, mut bytes: &[u8]) -> Result<(), Fault> {
        self.text.clear();
        self.wire.clear();
        let Some(session) = &mut self.sessions[slot as usize] else { return Ok(()) };
        let fault = |error: &dyn std::fmt::Display| format!("TLS: {error}");
        while !bytes.is_empty() {
            session.read_tls(&mut bytes).map_err(|error| fault(&error))?;
            session.process_new_packets().map_err(|error| fault(&error))?;
            match session.reader().read_to_end(&mut self.text) {
                // The server has said that it sends no more; its connection's end says so, too.
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(fault(&error)),
            }
        }
        pour(session, &mut self.wire);
        Ok(())
    }
}

fn pour(session: &mut ClientConnection, wire: &mut Vec<u8>) {
    while session.wants_write() {
        session.write_tls(wire).expect("a vector takes everything");
    }
}
