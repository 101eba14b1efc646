//! Servers of others, for tests: on loopback, slow, down, or full of nonsense.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;

pub(super) fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    text
}

/// Reads a request with its body, unless the connection ends in it.
fn request(stream: &mut impl Read) -> Option<String> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lines = head.lines().map(str::to_ascii_lowercase);
            let length = lines.find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
}

/// A server of others on loopback: answers each request as it is told to, and counts.
pub(super) struct Server {
    pub(super) url: String,
    pub(super) requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` gets the number of the request and its bytes; without an answer the connection ends.
    pub(super) fn start(answer: impl Fn(usize, &str) -> Option<String> + Send + Sync + 'static) -> Server {
        Server::start_as("http", Some, answer)
    }

    /// The same over TLS.
    pub(super) fn start_tls(
        config: Arc<rustls::ServerConfig>,
        answer: impl Fn(usize, &str) -> Option<String> + Send + Sync + 'static,
    ) -> Server {
        let secure = move |stream| {
            let connection = rustls::ServerConnection::new(config.clone()).ok()?;
            Some(rustls::StreamOwned::new(connection, stream))
        };
        Server::start_as("https", secure, answer)
    }

    fn start_as<S: Read + Write>(
        scheme: &str,
        open: impl Fn(TcpStream) -> Option<S> + Send + Sync + 'static,
        answer: impl Fn(usize, &str) -> Option<String> + Send + Sync + 'static,
    ) -> Server {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{scheme}://{}/asked", socket.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (noted, answer, open) = (requests.clone(), Arc::new(answer), Arc::new(open));
        thread::spawn(move || {
            for stream in socket.incoming() {
                let Ok(stream) = stream else { return };
                let (noted, answer, open) = (noted.clone(), answer.clone(), open.clone());
                thread::spawn(move || {
                    let Some(mut stream) = open(stream) else { return };
                    let Some(request) = request(&mut stream) else { return };
                    let number = {
                        let mut noted = noted.lock().unwrap();
                        noted.push(request.clone());
                        noted.len() - 1
                    };
                    if let Some(answer) = answer(number, &request) {
                        let _ = stream.write_all(answer.as_bytes());
                    }
                });
            }
        });
        Server { url, requests }
    }

    pub(super) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

pub(super) fn answer(status: &str, body: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()))
}

/// A private key and the set that has its public one, under a name.
pub(super) fn key_set(kid: &str) -> (String, String) {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64url(pair.public_key_raw())}]});
    (pair.serialize_pem(), set.to_string())
}
