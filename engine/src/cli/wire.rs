//! One connection to an engine, with or without TLS, for HTTP and for WebSockets.
//!
//! Blocking, but never for long: a read that finds nothing within a [`TICK`] says so (`WouldBlock`), and can be repeated. So does, once,
//! the first read after all was given out that had come, before it looks for more: then it is time to show what was made of it.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};

use super::client::Client;

/// How long a read waits at most, and so how soon a signal is noticed.
const TICK: Duration = Duration::from_millis(200);
/// Bytes that are read and written at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct NoConnection {
    pub(super) cause: String,
    pub(super) cure: &'static str,
    /// Another attempt would end the same.
    pub(super) is_final: bool,
}

impl fmt::Display for NoConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl std::error::Error for NoConnection {}

impl From<io::Error> for NoConnection {
    fn from(error: io::Error) -> NoConnection {
        let (cure, is_final) = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            None => ("start the engine with `corecast`, or say where it is with --url", false),
            Some(rustls::Error::InvalidMessage(_)) => ("use http:// where there is no TLS", true),
            Some(rustls::Error::InvalidCertificate(error)) => (
                match error {
                    rustls::CertificateError::NotValidForName
                    | rustls::CertificateError::NotValidForNameContext { .. } => {
                        "use a name of its certificate in --url"
                    }
                    rustls::CertificateError::UnknownIssuer | rustls::CertificateError::BadSignature => {
                        "if the authority is one of your own, or the certificate signs itself, name its file with --ca"
                    }
                    _ => "look at the engine's certificate, and at the clocks of both hosts",
                },
                true,
            ),
            Some(_) => ("look at the engine's log, and at docs/tls.md", false),
        };
        NoConnection { cause: error.to_string(), cure, is_final }
    }
}

/// The connection.
#[derive(Debug)]
pub(super) enum Wire {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

/// What is below TLS.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    /// Something was given out, and nobody was told that it was all.
    is_told: bool,
    /// When something came.
    heard: Instant,
}

impl Client {
    /// Connects to the first of the host's addresses that answers, and verifies who that is.
    pub(super) fn connect(&self) -> Result<Wire, NoConnection> {
        let socket = self.dial()?;
        let Some(config) = &self.tls else { return Ok(Wire::Plain(socket)) };
        let name = ServerName::try_from(self.url.host().to_owned()).map_err(io::Error::other)?;
        let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, socket);
        let until = Instant::now() + self.timeout;
        while stream.conn.is_handshaking() {
            match stream.conn.complete_io(&mut stream.sock) {
                Ok(_) => {}
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error.into()),
                Err(_) if Instant::now() < until && !self.is_stopped() => {}
                Err(_) => return Err(io::Error::new(ErrorKind::TimedOut, "no TLS handshake in time").into()),
            }
        }
        Ok(Wire::Tls(Box::new(stream)))
    }

    fn dial(&self) -> io::Result<Socket> {
        let mut last = io::Error::other("the name has no address");
        for address in (self.url.host(), self.url.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, self.timeout) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(TICK))?;
                    stream.set_write_timeout(Some(self.timeout))?;
                    return Ok(Socket { stream, is_told: true, heard: Instant::now() });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !std::mem::replace(&mut self.is_told, true) {
            return Err(ErrorKind::WouldBlock.into());
        }
        loop {
            match self.stream.read(buf) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(length) => {
                    (self.is_told, self.heard) = (length == 0, Instant::now());
                    return Ok(length);
                }
                error => return error,
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.write(buf).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, "the engine does not take what is sent"),
            _ => error,
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Wire {
    fn socket(&self) -> &Socket {
        match self {
            Wire::Plain(socket) => socket,
            Wire::Tls(stream) => &stream.sock,
        }
    }

    /// Returns when something came last, be it a part of something.
    pub(super) fn heard(&self) -> Instant {
        self.socket().heard
    }

    /// Says whether it can take another request: the engine closes one that was idle for long.
    fn stands(&mut self) -> bool {
        let stream = &self.socket().stream;
        if stream.set_nonblocking(true).is_err() {
            return false;
        }
        // Once for what was not told. What TLS says to itself goes by; bytes that nobody asked for are as bad a sign as the end.
        let waits = (0..2).all(|_| self.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
        waits && self.socket().stream.set_nonblocking(false).is_ok()
    }
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.read(buf),
            Wire::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(socket) => socket.write(buf),
            Wire::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(socket) => socket.flush(),
            Wire::Tls(stream) => stream.flush(),
        }
    }
}

/// Gives the library that speaks HTTP its connections.
#[derive(Debug)]
pub(super) struct Dialer {
    client: Arc<Client>,
    ready: Mutex<Option<Wire>>,
}

impl Dialer {
    pub(super) fn new(client: Arc<Client>, ready: Option<Wire>) -> Dialer {
        Dialer { client, ready: Mutex::new(ready) }
    }
}

impl Connector for Dialer {
    type Out = Exchange;

    fn connect(&self, _: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Exchange>, ureq::Error> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take();
        let wire = match ready.and_then(|mut wire| wire.stands().then_some(wire)) {
            Some(wire) => wire,
            None => self.client.connect().map_err(|error| ureq::Error::Other(Box::new(error)))?,
        };
        let buffers = LazyBuffers::new(BUFFER_BYTES, BUFFER_BYTES);
        Ok(Some(Exchange { wire, buffers, client: self.client.clone(), is_cut: false }))
    }
}

/// Names are resolved when a connection is made.
#[derive(Debug)]
pub(super) struct Nowhere;

impl Resolver for Nowhere {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}

/// A connection that requests and answers pass through one after the other.
#[derive(Debug)]
pub(super) struct Exchange {
    wire: Wire,
    buffers: LazyBuffers,
    client: Arc<Client>,
    /// The engine takes no more.
    is_cut: bool,
}

impl Transport for Exchange {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let sent = match self.is_cut {
            true => return Ok(()),
            false => self.wire.write_all(&self.buffers.output()[..amount]).and_then(|()| self.wire.flush()),
        };
        match sent {
            // One that refuses a large body answers before it has read all of it, and its answer explains the failure.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                self.is_cut = true;
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// Where the time is limited it waits that long, and ends when somebody wants that; else it says at each tick that nothing came.
    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let until = (!timeout.after.is_not_happening()).then(|| Instant::now() + *timeout.after);
        loop {
            match (self.wire.read(self.buffers.input_append_buf()), until) {
                (Ok(length), _) => {
                    self.buffers.input_appended(length);
                    return Ok(length > 0);
                }
                (Err(error), Some(until)) if error.kind() == ErrorKind::WouldBlock && !self.client.is_stopped() => {
                    if Instant::now() >= until {
                        return Err(ureq::Error::Timeout(timeout.reason));
                    }
                }
                (Err(error), _) => return Err(error.into()),
            }
        }
    }

    fn is_open(&mut self) -> bool {
        !self.is_cut && self.wire.stands()
    }

    fn is_tls(&self) -> bool {
        matches!(self.wire, Wire::Tls(_))
    }
}
