//! Who may do what, from the outside: a running engine with keys of its own, `corecast token`, the examples that sign, revocations.

// A test that cannot go on has failed; clippy knows that only of functions marked as tests.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(20);

/// A folder that is gone when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("corecast-authority-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn corecast(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corecast"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CORECAST_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs it, and returns its status and all it said.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = corecast(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A running engine.
struct Engine {
    child: Child,
    public: SocketAddr,
    admin: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Engine {
    fn start(flags: &[&str]) -> Engine {
        let mut command =
            corecast(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "2", "--memory", "64M"]);
        command.args(flags).args(["--log-level", "trace"]).stdout(Stdio::piped()).stderr(Stdio::piped());
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
            line.unwrap_or_else(|| panic!("{}", log.lock().unwrap())).split(' ').next().unwrap().parse().unwrap()
        };
        let (public, admin) = (address("listening on http://"), address("admin on http://"));
        Engine { child, public, admin, log }
    }

    /// Publishes with a line of credentials in the head; returns the status.
    fn publish(&self, topic: &str, credential: &str) -> u16 {
        let line = if credential.is_empty() { String::new() } else { format!("{credential}\r\n") };
        ask(self.public, &format!("POST /topics/{topic} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{line}Content-Length: 2\r\n\r\nhi")).0
    }

    /// Waits until the log says something.
    fn says(&self, what: &str) {
        let start = Instant::now();
        while !self.log.lock().unwrap().contains(what) {
            assert!(start.elapsed() < DEADLINE, "{}", self.log.lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn admin(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let length = body.len();
        ask(
            self.admin,
            &format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            ),
        )
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {}", token.trim())
}

/// An operator makes a secret, signs a token for trying, sees what it gives, and the engine holds to that; a revoked token gives nothing,
/// also after a restart; and neither log nor lists ever have a token or a key.
#[test]
fn the_first_minutes_of_an_operator() {
    let folder = Folder::new("operator");
    let secret = folder.path("secret");
    let (status, said, _) = run(&["token", "--new-key", &secret]);
    assert!(status == 0 && said.contains(&format!("--token-key secret:{secret}")), "{said}");
    let text = std::fs::read_to_string(&secret).unwrap();
    assert_eq!(text.trim().len(), 128);
    assert!(!said.contains(text.trim()), "it is in the file only");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&secret).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let (status, _, errors) = run(&["token", "--new-key", &secret]);
    assert!(status == 2 && errors.contains("cure: name a file that is not there"), "{errors}");

    let sign = |more: &[&str]| {
        let all =
            [&["token", "--key", &secret, "--sub", "anna", "--publish", "rooms/{sub}/#", "--subscribe", "#"], more]
                .concat();
        let (status, token, errors) = run(&all);
        assert_eq!((status, errors.as_str()), (0, ""));
        token.trim().to_owned()
    };
    let (token, other) = (sign(&["--claim", "jti=first"]), sign(&["--claim", "jti=second"]));
    let source = format!("secret:{secret}");
    let (status, shown, _) = run(&["token", "--show", &token, "--token-key", &source]);
    let gives = "it gives \"anna\": publish rooms/anna/#; subscribe #; ends in 36";
    assert!(status == 0 && shown.contains(gives) && shown.contains("algorithm: HS256"), "{shown}");
    let (_, shown, _) = run(&["token", "--show", &token]);
    assert!(shown.contains("signature: not looked at") && shown.contains("it would give \"anna\""), "{shown}");
    let (_, shown, _) = run(&["token", "--show", &sign(&["--claim", "aud=others"]), "--token-key", &source]);
    assert!(shown.contains("it is refused: the token is meant for others"), "{shown}");

    let (status, row, _) = run(&["token", "--new-api-key", "billing", "--publish", "invoices/#"]);
    assert_eq!(status, 0);
    let key = row.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
    let rows = folder.write("keys.toml", &row);
    assert!(!row.split_once("[[key]]").unwrap().1.contains(&key), "the row has its hash only");

    let revocations = folder.path("revoked");
    let flags = ["--token-key", &source, "--api-keys", &rows, "--revocations", &revocations];
    let engine = Engine::start(&flags);
    assert_eq!(engine.publish("rooms/anna/1", &bearer(&token)), 200);
    assert_eq!(engine.publish("rooms/bert/1", &bearer(&token)), 403);
    assert_eq!(
        engine.publish("rooms/anna/1", ""),
        401,
        "there is a way to say who one is, so nobody else may anything"
    );
    assert_eq!(engine.publish("rooms/anna/1", &bearer(&format!("{token}x"))), 401);
    assert_eq!(engine.publish("invoices/1", &format!("Authorization: ApiKey {key}")), 200);
    assert_eq!(engine.publish("rooms/anna/1", &format!("Authorization: ApiKey {key}")), 403);
    let (status, body) = engine.admin("POST", "/revoke", "{\"jti\":\"first\"}");
    assert!(status == 200 && body["ended"] == 0, "{body}");
    assert_eq!(engine.publish("rooms/anna/1", &bearer(&token)), 401);
    assert_eq!(engine.publish("rooms/anna/1", &bearer(&other)), 200);
    for (body, expected) in [("", 400), ("{}", 400), ("{\"jti\":5}", 400), (&*"x".repeat(5000), 413)] {
        assert_eq!(engine.admin("POST", "/revoke", body).0, expected, "{body}");
    }
    assert_eq!(engine.admin("GET", "/revoke", "").0, 405);
    let (status, list) = engine.admin("GET", "/revoked", "");
    assert_eq!((status, &list[0]["jti"]), (200, &json!("first")));

    let log = engine.log.lock().unwrap().clone();
    for hidden in [token.rsplit_once('.').unwrap().1, &key, text.trim()] {
        assert!(!log.contains(hidden) && !list.to_string().contains(hidden), "{log}");
    }
    drop(engine);
    let engine = Engine::start(&flags);
    assert_eq!(engine.publish("rooms/anna/1", &bearer(&token)), 401);
    assert_eq!(engine.publish("rooms/anna/1", &bearer(&other)), 200);
    let (status, body) = engine.admin("POST", "/revoke", "{\"sub\":\"anna\"}");
    assert_eq!(status, 200, "{body}");
    assert_eq!(engine.publish("rooms/anna/1", &bearer(&other)), 401);
    // Without a configuration file a reload still reads the rows again.
    folder.write("keys.toml", "");
    assert_eq!(engine.admin("POST", "/reload", "").0, 200);
    folder.write("keys.toml", "[[key]]\nname = 5\n");
    let (status, body) = engine.admin("POST", "/reload", "");
    assert!(status == 422 && body["errors"][0]["cause"].as_str().unwrap().contains("keys.toml:2"), "{body}");
}

/// What cannot be read is said at start, before anything is listened on, and by `corecast check`.
#[test]
fn files_that_cannot_be_read() {
    let folder = Folder::new("unread");
    let short = format!("secret:{}", folder.write("short", "too short"));
    let rows = folder.write("rows.toml", "[[key]]\nname = \"a\"\n");
    for word in ["serve", "check"] {
        let (status, _, errors) = run(&[word, "--token-key", &short, "--api-keys", &rows, "--shards", "1"]);
        assert_eq!(status, 2, "{errors}");
        assert!(errors.contains("at least 32 bytes") && errors.contains("rows.toml:1: a has no sha256"), "{errors}");
    }
}

/// The examples of the manual sign tokens that the engine takes.
#[test]
fn the_examples_sign() {
    let folder = Folder::new("examples");
    let secret = folder.path("secret");
    assert_eq!(run(&["token", "--new-key", &secret]).0, 0);
    let engine = Engine::start(&["--token-key", &format!("secret:{secret}")]);
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    let mut signed = 0;
    for (program, file, arguments) in [
        ("python3", "sign-token.py", ["anna", "--publish", "rooms/{sub}"]),
        ("sh", "sign-token.sh", ["anna", "rooms/{sub}", "#"]),
        ("node", "sign-token.mjs", ["anna", "rooms/{sub}", "#"]),
    ] {
        let output = Command::new(program).arg(examples.join(file)).arg(&secret).args(arguments).output();
        // Node is not everywhere; the other two are needed for tests of clients as well.
        let Ok(output) = output else {
            assert_eq!(program, "node");
            continue;
        };
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program}: {errors}");
        let token = bearer(&String::from_utf8(output.stdout).unwrap());
        assert_eq!(engine.publish("rooms/anna", &token), 200, "{program}");
        assert_eq!(engine.publish("rooms/bert", &token), 403, "{program}");
        signed += 1;
    }
    assert!(signed >= 2);
}

/// A hook of an operator's: says 403 to topics with `no` in their name, 401 to those with `bad`, 200 to others, and notes what it is asked.
struct Hook {
    url: String,
    asked: Arc<Mutex<Vec<Value>>>,
    is_down: Arc<Mutex<bool>>,
}

impl Hook {
    fn start() -> Hook {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/may", socket.local_addr().unwrap());
        let (asked, is_down): (Arc<Mutex<Vec<Value>>>, Arc<Mutex<bool>>) = Default::default();
        let (noted, down) = (asked.clone(), is_down.clone());
        std::thread::spawn(move || {
            for stream in socket.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream);
                let mut length = 0;
                let head = (&mut reader).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
                for line in head {
                    if let Some((name, value)) = line.split_once(": ")
                        && name.eq_ignore_ascii_case("content-length")
                    {
                        length = value.parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let question: Value = serde_json::from_slice(&body).unwrap();
                let topic = question["topic"].as_str().unwrap_or_default().to_owned();
                noted.lock().unwrap().push(question);
                let status = match &*topic {
                    _ if *down.lock().unwrap() => "500 Down",
                    topic if topic.contains("no") => "403 Forbidden",
                    topic if topic.contains("bad") => "401 Unauthorized",
                    _ => "200 OK",
                };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                let _ = reader.into_inner().write_all(answer.as_bytes());
            }
        });
        Hook { url, asked, is_down }
    }
}

/// The hook of an operator is asked about each topic that somebody with a token publishes to or reads, with whose token it is; what patterns
/// do not give it is not asked about, a token that names none leaves it to the hook, and when it is down nobody gets in.
#[test]
fn a_hook_for_topics() {
    let folder = Folder::new("hook");
    let secret = folder.path("secret");
    assert_eq!(run(&["token", "--new-key", &secret]).0, 0);
    let token = |more: &[&str]| {
        let (status, token, errors) = run(&[&["token", "--key", &secret, "--sub", "anna"], more].concat());
        assert_eq!(status, 0, "{errors}");
        bearer(&token)
    };
    let listed = token(&["--publish", "rooms/#", "--subscribe", "rooms/#"]);
    let hook = Hook::start();
    let source = format!("secret:{secret}");
    let flags = ["--token-key", &source, "--auth-url", &hook.url, "--auth-ask", "subscribe,publish"];
    let engine = Engine::start(&flags);
    for (topic, expected) in [("rooms/yes", 200), ("rooms/no", 403), ("rooms/bad", 401), ("other/yes", 403)] {
        for _ in 0..2 {
            assert_eq!(engine.publish(topic, &listed), expected, "{topic}");
        }
    }
    let read = |topic: &str, transport: &str| {
        let target = format!("/topics/{topic}?transport={transport}");
        ask(
            engine.public,
            &format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{listed}\r\n\r\n"),
        )
        .0
    };
    let statuses = ["rooms/yes", "rooms/no", "other/yes"].map(|topic| read(topic, "value"));
    assert_eq!(statuses, [200, 403, 403]);
    assert_eq!(read("rooms/no", "sse"), 403);
    let asked: Vec<Value> = hook.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 5, "each once, whichever shard asks: {asked:?}");
    let Value::Object(mut first) = asked[0].clone() else { panic!("{asked:?}") };
    assert!(first.remove("peer").unwrap().as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(
        Value::Object(first),
        json!({"action": "publish", "name": "anna", "subject": "anna", "topic": "rooms/yes"})
    );
    *hook.is_down.lock().unwrap() = true;
    assert_eq!(engine.publish("rooms/new", &listed), 503);
    assert_eq!(engine.publish("rooms/yes", &listed), 200, "what it said goes on for its time");
    engine.says("the hook cannot be asked who may do what");
}
