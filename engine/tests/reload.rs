//! The control plane from the outside: a running engine, its configuration file, SIGHUP, and the admin listener.

// A test that cannot go on has failed; clippy knows that only of functions marked as tests.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(20);

/// A running engine with a configuration file of its own.
struct Engine {
    child: Child,
    file: PathBuf,
    public: SocketAddr,
    admin: SocketAddr,
    /// What it has logged.
    log: Arc<Mutex<String>>,
}

impl Engine {
    /// Starts it; `config` is what its file says.
    fn start(name: &str, config: &str, flags: &[&str]) -> Engine {
        let file = std::env::temp_dir().join(format!("corecast-{name}-{}.toml", std::process::id()));
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_corecast"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CORECAST_")) {
            command.env_remove(name);
        }
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "2", "--memory", "64M"]);
        if !config.is_empty() {
            command.arg("--config").arg(&file);
        }
        command.args(flags).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (errors, said) = (BufReader::new(child.stderr.take().unwrap()), log.clone());
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                *said.lock().unwrap() += &(line + "\n");
            }
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = |prefix: &str| -> SocketAddr {
            let line = lines.by_ref().map(Result::unwrap).find_map(|line| Some(line.strip_prefix(prefix)?.to_owned()));
            line.unwrap().split(' ').next().unwrap().parse().unwrap()
        };
        let (public, admin) = (address("listening on http://"), address("admin on http://"));
        Engine { child, file, public, admin, log }
    }

    fn write(&self, config: &str) {
        std::fs::write(&self.file, config).unwrap();
    }

    fn hang_up(&self) {
        let kill = Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }

    /// Waits until it has logged all of these words in one line.
    fn has_logged(&self, words: &[&str]) {
        let end = Instant::now() + DEADLINE;
        while !self.log.lock().unwrap().lines().any(|line| words.iter().all(|word| line.contains(word))) {
            assert!(Instant::now() < end, "{words:?} in {}", self.log.lock().unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn get(&self, path: &str) -> (u16, Value) {
        ask(self.admin, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    fn reload(&self, lines: &str) -> (u16, Value) {
        let head = format!("POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{lines}\r\n");
        ask(self.admin, &head)
    }

    fn publish(&self, topic: &str, message: &str) -> u16 {
        let length = message.len();
        let head = format!("POST /topics/{topic} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        ask(self.public, &format!("{head}Content-Length: {length}\r\n\r\n{message}")).0
    }

    /// Returns how many messages a topic remembers.
    fn remembered(&self, topic: &str) -> u64 {
        let (status, topics) = self.get("/topics");
        assert_eq!(status, 200);
        let row = topics.as_array().unwrap().iter().find(|row| row["topic"] == topic).cloned();
        row.unwrap()["messages"].as_u64().unwrap()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Sends bytes, and returns status and body of the answer; what is no JSON is a string.
fn ask(address: SocketAddr, request: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let body = serde_json::from_str(body).unwrap_or_else(|_| body.into());
    (head[9..12].parse().unwrap(), body)
}

/// SIGHUP reads the file again, as often as it is said, and what it changes holds on the shards; the process goes on.
#[test]
fn a_hangup_reads_the_configuration_again() {
    let engine = Engine::start("hangup", "history-messages = 3\n", &[]);
    let fill = || (0..10).for_each(|n| assert_eq!(engine.publish("t", &n.to_string()), 200));
    fill();
    assert_eq!(engine.remembered("t"), 3);
    for (n, said) in [(5, "5"), (2, "2")] {
        engine.write(&format!("history-messages = {said}\n"));
        let before = engine.log.lock().unwrap().matches("was loaded").count();
        engine.hang_up();
        let end = Instant::now() + DEADLINE;
        while engine.log.lock().unwrap().matches("was loaded").count() == before {
            assert!(Instant::now() < end, "{}", engine.log.lock().unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
        engine.has_logged(&["INFO", "the configuration was loaded", "history-messages"]);
        fill();
        assert_eq!(engine.remembered("t"), n);
    }
    engine.hang_up();
    engine.has_logged(&["read again, and is as before"]);
}

/// Rules are read again, too, named as a whole, and hold for topics that are there; a wrong one changes nothing.
#[test]
fn rules_are_read_again() {
    let engine =
        Engine::start("rules", "history-messages = 9\n[[topics]]\nmatch = \"a/#\"\nhistory-messages = 3\n", &[]);
    let fill = || (0..10).for_each(|n| assert_eq!(engine.publish("a/b", &n.to_string()), 200));
    fill();
    assert_eq!(engine.remembered("a/b"), 3);
    engine.write("history-messages = 9\n[[topics]]\nmatch = \"a/+\"\nhistory-messages = 2\nmax-message = \"4\"\n");
    assert_eq!(engine.reload(""), (200, json!({ "changed": ["topics"] })));
    assert_eq!(engine.remembered("a/b"), 3, "until the next message");
    assert_eq!(engine.publish("a/b", "12345"), 413);
    fill();
    assert_eq!(engine.remembered("a/b"), 2);
    engine.write("history-messages = 9\n[[topics]]\nmatch = \"a/+\"\nlag = \"never\"\n");
    let (status, body) = engine.reload("");
    assert_eq!(status, 422, "{body}");
    assert!(body["errors"][0]["cause"].as_str().unwrap().contains(":4: lag: `never`"), "{body}");
    engine.write("history-messages = 9\n");
    assert_eq!(engine.reload(""), (200, json!({ "changed": ["topics"] })));
    assert_eq!(engine.publish("a/b", "12345"), 200);
    fill();
    assert_eq!(engine.remembered("a/b"), 9);
}

/// The level of the log changes too, on the threads of the shards.
#[test]
fn the_log_level_changes() {
    let engine = Engine::start("level", "log-level = \"error\"\n", &[]);
    let nonsense = || (0..4).for_each(|_| assert_eq!(ask(engine.public, "nonsense\r\n\r\n").0, 400));
    nonsense();
    engine.write("log-level = \"debug\"\n");
    assert_eq!(engine.reload(""), (200, json!({ "changed": ["log-level"] })));
    assert!(!engine.log.lock().unwrap().contains("violation"));
    nonsense();
    engine.has_logged(&["DEBUG", "violation"]);
}

/// Without a file there is nothing to read, which is said; the process goes on.
#[test]
fn a_hangup_without_a_file() {
    let engine = Engine::start("bare", "", &[]);
    engine.hang_up();
    engine.has_logged(&["INFO", "no configuration file to read again"]);
    assert_eq!(engine.publish("t", "still here"), 200);
}

/// One setting that is fixed at start keeps all others from being changed, and is named: to the log, and to who asked.
#[test]
fn all_or_nothing() {
    let engine = Engine::start("fixed", "history-messages = 3\n", &[]);
    engine.write("history-messages = 5\nmax-message = \"1k\"\nlog-format = \"json\"\n");
    let (status, body) = engine.reload("");
    assert_eq!((status, &body["refused"]), (409, &json!(["max-message", "log-format"])), "{body}");
    assert!(body["reason"].as_str().unwrap().contains("at start only"), "{body}");
    engine.hang_up();
    engine.has_logged(&["ERROR", "not loaded", "refused=\"max-message log-format\""]);
    (0..10).for_each(|n| assert_eq!(engine.publish("t", &n.to_string()), 200));
    assert_eq!(engine.remembered("t"), 3);
    // A flag beats the file, as at start: what the file says of it is no change.
    engine.write("history-messages = 4\nshards = 7\n");
    assert_eq!(engine.reload(""), (200, json!({ "changed": ["history-messages"] })));
}

/// A wrong file is refused with its line, cause and cure, and the old configuration goes on; so are values that make no sense
/// together.
#[test]
fn a_wrong_file_changes_nothing() {
    let engine = Engine::start("wrong", "history-messages = 3\n", &[]);
    for (config, cause) in [
        ("history-messages = 5\nlag = \"sometimes\"\n", ":2: lag: "),
        ("history-messages = \n", ":1: "),
        ("history-messages = 5\ndead-after = \"2s\"\n", "comes before the first ping"),
    ] {
        engine.write(config);
        let (status, body) = engine.reload("");
        assert_eq!(status, 422, "{body}");
        assert!(body["errors"][0]["cause"].as_str().unwrap().contains(cause), "{body}");
        assert!(!body["errors"][0]["cure"].as_str().unwrap().is_empty(), "{body}");
    }
    engine.hang_up();
    engine.has_logged(&["ERROR", "not loaded", "comes before the first ping"]);
    (0..10).for_each(|n| assert_eq!(engine.publish("t", &n.to_string()), 200));
    assert_eq!(engine.remembered("t"), 3);
}

/// `POST /reload` answers when all shards hold to what has changed; a page of another origin cannot have it done. Names and origins
/// that are listed anew are heard at once, by the admin listener too.
#[test]
fn reload_on_the_admin_listener() {
    let engine = Engine::start("post", "jsonp = true\n", &[]);
    engine.write("jsonp = false\norigins = [\"https://a.example\"]\nallowed-hosts = [\"stats.example\"]\n");
    assert_eq!(engine.reload("Origin: https://evil.example\r\n").0, 403);
    let port = engine.admin.port();
    let of_name = format!("GET /healthz HTTP/1.1\r\nHost: stats.example:{port}\r\n\r\n");
    assert_eq!(ask(engine.admin, &of_name).0, 421, "nothing was changed");
    let (status, body) = engine.reload("Origin: http://localhost\r\n");
    assert_eq!((status, &body["changed"]), (200, &json!(["origins", "allowed-hosts", "jsonp"])), "{body}");
    assert_eq!(ask(engine.admin, &of_name).0, 200);
    // Each connection may be of either shard.
    for _ in 0..8 {
        let head = "POST /topics/t HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n";
        assert_eq!(ask(engine.public, &format!("{head}Origin: https://a.example\r\n\r\n")).0, 200);
        let head = "GET /topics/t?transport=jsonp&callback=f HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        assert_ne!(ask(engine.public, head).0, 200);
    }
    assert_eq!(engine.reload(""), (200, json!({ "changed": [] })));
}

/// The three questions are answered by all shards, with what is there.
#[test]
fn questions_are_answered() {
    let engine = Engine::start("questions", "history-messages = 100\n", &[]);
    let mut streams = Vec::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(engine.public).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(b"GET /topics/t?transport=sse HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 15]).unwrap();
        streams.push(stream);
    }
    let (status, rows) = engine.get("/connections");
    let rows = rows.as_array().unwrap();
    assert_eq!(status, 200);
    for stream in &streams {
        let peer = stream.local_addr().unwrap().to_string();
        let row = rows.iter().find(|row| row["peer"] == peer).unwrap();
        assert_eq!((&row["kind"], &row["subscriptions"]), (&json!("sse"), &json!(1)), "{row}");
        assert!(row["shard"].as_u64().unwrap() < 2 && row["heard_seconds_ago"].as_f64().unwrap() < 20.0, "{row}");
    }
    assert_eq!(engine.get("/connections?limit=3").1.as_array().unwrap().len(), 3);

    // Nobody reads them: the socket's buffers are full at some time.
    let large = "x".repeat(60_000);
    let end = Instant::now() + DEADLINE;
    let slow = loop {
        assert_eq!(engine.publish("t", &large), 200);
        let (status, rows) = engine.get("/slow?limit=5");
        assert_eq!(status, 200);
        if rows.as_array().unwrap().len() == 5 {
            break rows;
        }
        assert!(Instant::now() < end, "{rows}");
    };
    assert!(slow[0]["topic"] == "t" && slow[0]["behind"].as_u64() >= slow[4]["behind"].as_u64(), "{slow}");

    assert_eq!(engine.publish("small", "x"), 200);
    let (status, topics) = engine.get("/topics?limit=2");
    let topics = topics.as_array().unwrap();
    assert_eq!((status, topics.len()), (200, 2));
    assert!(topics[0]["topic"] == "t" && topics[0]["bytes"].as_u64().unwrap() >= 60_000, "{topics:?}");
    assert_eq!(
        (&topics[1]["topic"], &topics[1]["messages"], &topics[1]["head"]),
        (&json!("small"), &json!(1), &json!(1))
    );
    assert_eq!(topics[1]["epoch"].as_str().unwrap().len(), 8, "{topics:?}");
}
