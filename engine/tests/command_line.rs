//! The command line from the outside: the binary, its output and its exit status.

// A test that cannot go on has failed; clippy knows that only of functions marked as tests.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use corecast::config::{self, SETTINGS};

fn corecast(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corecast"));
    // What the machine that runs the tests has set must not count.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CORECAST_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    split(corecast(arguments).output().unwrap())
}

fn split(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().expect("not killed"), text(output.stdout), text(output.stderr))
}

/// The document says what the table says; `corecast check --document` writes it.
#[test]
fn the_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let written = std::fs::read_to_string(path).unwrap();
    let same = written == config::document();
    assert!(same, "run `cargo run -- check --document > docs/configuration.md`");
}

/// Every setting is in the help of `serve`, works as a flag with and without the word, and as a variable.
#[test]
fn every_setting_is_a_flag_and_a_variable() {
    let (status, help, _) = run(&["serve", "--help"]);
    assert_eq!(status, 0);
    for setting in SETTINGS {
        let key = setting.key;
        assert!(help.contains(&format!("--{key}")), "--{key} in the help");
        // A value that no setting takes is refused with the name of its source: so it was read.
        let flag = format!("--{key}=?");
        let (status, _, errors) = run(&[&flag]);
        assert_eq!(status, 2, "corecast {flag}");
        assert!(errors.contains(&format!("error: --{key}: ")), "corecast {flag}: {errors}");
        let (status, _, errors) = run(&["serve", &flag]);
        assert_eq!((status, errors.contains(&format!("--{key}: "))), (2, true), "corecast serve {flag}: {errors}");
        let variable = setting.variable();
        let (status, _, errors) = split(corecast(&["check"]).env(&variable, "?").output().unwrap());
        assert_eq!((status, errors.contains(&format!("error: {variable}: "))), (2, true), "{variable}: {errors}");
    }
}

/// What `check` prints is a configuration file that means the same.
#[test]
fn the_effective_configuration_is_a_file() {
    let (status, first, _) =
        run(&["check", "--shards", "3", "--listen", "127.0.0.1:1", "--listen", "[::1]:1", "--echo"]);
    assert_eq!(status, 0);
    assert!(first.contains("shards = 3 ") && first.contains("listen = [\"127.0.0.1:1\", \"[::1]:1\"] "), "{first}");
    assert!(first.contains("# --echo\n") && first.contains("# default\n"), "{first}");
    let path = std::env::temp_dir().join(format!("corecast-effective-{}.toml", std::process::id()));
    std::fs::write(&path, &first).unwrap();
    let (status, second, errors) = run(&["check", "--config", path.to_str().unwrap()]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(status, 0, "{errors}");
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split('#').next().unwrap().trim().to_owned()).collect()
    };
    assert_eq!(values(&first), values(&second));
    assert!(second.contains(&format!("# {}:", path.display())), "{second}");
}

/// What `check` prints of rules is a file with the same rules, and `--topic` says which of them gives each value.
#[test]
fn rules_are_printed_and_explained() {
    let path = std::env::temp_dir().join(format!("corecast-rules-{}.toml", std::process::id()));
    let rules = "[[topics]]\nmatch = \"prices/#\"\nlag = \"close\"\nevery = 100\n[[topics]]\nmatch = \"prices/eur\"\nevery = 0\n";
    std::fs::write(&path, format!("history-messages = 7\n{rules}")).unwrap();
    let file = path.to_str().unwrap();
    let (status, printed, errors) = run(&["check", "--config", file]);
    assert_eq!(status, 0, "{errors}");
    let explain = || run(&["check", "--config", file, "--topic", "prices/eur", "--topic", "news", "--shards", "1"]);
    let (status, said, errors) = explain();
    assert_eq!(status, 0, "{errors}");
    let words: Vec<String> = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for expected in [
        "# topic prices/eur".to_owned(),
        format!("every = 0 # match = \"prices/eur\", {file}:8"),
        format!("lag = \"close\" # match = \"prices/#\", {file}:4"),
        format!("history-messages = 7 # no rule; the setting, {file}:1"),
        "# topic news".to_owned(),
        "lag = \"replay\" # no rule; the setting, default".to_owned(),
    ] {
        assert!(words.contains(&expected), "{expected} in {said}");
    }
    // What was printed, as a file, means the same.
    std::fs::write(&path, &printed).unwrap();
    let (status, again, errors) = explain();
    let (_, wrong, _) = run(&["check", "--topic", "a//b"]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(status, 0, "{errors}");
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split('#').next().unwrap().trim().to_owned()).collect()
    };
    assert_eq!(values(&said), values(&again));
    assert_eq!(wrong, "", "what is no topic is not explained");
}

/// Wrong usage and configurations that make no sense end with status 2, the cause and the cure on stderr.
#[test]
fn wrong_usage_is_status_2() {
    for (arguments, expected) in [
        (&["--shard", "3"] as &[&str], "--shards"),
        (&["serv"], "serve"),
        (&["--listen", "0.0.0.0:8080"], "--insecure"),
        (&["--listen", "127.0.0.1:8081"], "takes the same port as"),
        (&["--config", "/nowhere.toml"], "cannot read the configuration file /nowhere.toml"),
        (&["--dead-after", "2s"], "ping-interval"),
        (&["check", "--topic", "a//b"], "`a//b`: the topic has an empty segment"),
        (&["--memory", "2T", "--shards", "1"], "one manages less than 1T"),
        (&["--max-message", "16M", "--memory", "120M", "--shards", "1"], "takes blocks of 32M"),
        (&["--history-bytes", "1G", "--memory", "1G", "--shards", "1"], "history-bytes 1G cannot be kept"),
        (&["--log-bytes", "1G", "--memory", "1G", "--shards", "1"], "smaller max-message and log-bytes"),
        (&["--shards", "1", "--shards", "2"], "--shards"),
        (&["pub"], "<TOPIC>"),
        (&["pub", "a//b", "x"], "`a//b` is not a topic"),
        (&["pub", "a", "x", "--event", "two words"], "an event name is 1 to 64 visible ASCII"),
        (&["pub", "a", "x", "--event", "corecast-gap"], "belong to the engine"),
        (
            &["pub", "news", "x", "--url", "http://a/topics/news"],
            "give http://a:80, and the topic as a word of its own",
        ),
        (&["sub", "a", "--url", "gopher://a"], "use http:// or https://"),
        (&["sub", "a", "--ca", "/nowhere/ca.pem", "--url", "https://a"], "/nowhere/ca.pem: "),
        (&["sub", "a", "--ca", "/nowhere/ca.pem"], "speaks no TLS"),
        (&["sub", "a", "--token", "@/nowhere/token"], "/nowhere/token: No such file"),
        (&["pub", "a", "x", "--token", "two words"], "that is no token"),
        (&["sub", "a", "--header", "Host: a"], "`host` says how the request is sent"),
        (&["pub", "a", "x", "--timeout", "0"], "--timeout"),
        (&["pub", "a", "x", "--lines"], "--lines"),
        (&["sub"], "<TOPIC>"),
        (&["sub", "+"], "`+` is not a topic"),
        (&["sub", "a", "--since", "yesterday"], "--since `yesterday`"),
        (&["sub", "a", "--count", "0"], "--count"),
        (&["sub", "a", "--json", "--raw"], "--raw"),
    ] {
        let (status, out, errors) = run(arguments);
        assert_eq!((status, out.as_str()), (2, ""), "{arguments:?}: {errors}");
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
    }
}

/// `check` refuses what `serve` refuses, in the same words.
#[test]
fn check_refuses_what_serve_refuses() {
    for arguments in [
        &["--memory", "2T", "--shards", "1"] as &[&str],
        &["--max-message", "16M", "--memory", "120M", "--shards", "1"],
        &["--history-bytes", "1G", "--memory", "1G", "--shards", "1"],
        &["--origins", "https://a/b"],
        &["--allowed-hosts", "http://a"],
    ] {
        let (status, out, errors) = run(&[&["check"], arguments].concat());
        assert_eq!((status, out.as_str()), (2, ""), "{arguments:?}: {errors}");
        assert_eq!(run(&[&["serve"], arguments].concat()), (2, String::new(), errors), "{arguments:?}");
    }
}

/// Sizes that follow the largest message are shown as what they are, and grow with it.
#[test]
fn sizes_follow_max_message() {
    let (status, out, errors) = run(&["check", "--max-message", "1M"]);
    assert_eq!(status, 0, "{errors}");
    assert!(out.contains("log-bytes = \"4M\"") && out.contains("history-bytes = \"1M\""), "{out}");
}

/// A port that is taken keeps the engine from starting, with the cure.
#[test]
fn a_taken_admin_port_is_status_2() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, _, errors) = run(&["--listen", "127.0.0.1:0", "--admin", &address]);
    assert_eq!(status, 2, "{errors}");
    assert!(errors.contains(&format!("cannot listen on the admin address {address}")), "{errors}");
    assert!(errors.contains("cure: choose another with --admin"), "{errors}");
}

/// Nobody there: `pub` and `sub` say so, and how to change it.
#[test]
fn no_engine_is_status_2() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    for arguments in [["pub", "a", "x", "--url", &url], ["sub", "a", "--count=1", "--url", &url]] {
        let (status, _, errors) = run(&arguments);
        assert_eq!(status, 2, "{errors}");
        assert!(errors.contains("Connection refused") && errors.contains("cure: start the engine"), "{errors}");
    }
}

/// What cannot be written to stdout is told, and is status 1; it was lost in silence before.
#[test]
fn a_full_disk_is_status_1() {
    let url = server(|n, stream, request| {
        if request.starts_with("GET") {
            shake_hands(stream, request);
            send_text(stream, "MSG a 0000000a-1\nhello");
            // Until the client closes.
            let _ = stream.read(&mut [0; 64]);
        } else {
            let body = format!("{{\"cursor\":\"0000000a-{n}\"}}");
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    for arguments in [
        &["sub", "a", "--count", "1", "--url", &url] as &[&str],
        // It would go on for ever otherwise: what it prints is flushed when nothing comes for a moment.
        &["sub", "a", "--url", &url],
        &["pub", "a", "x", "--url", &url],
        &["check"],
        &["check", "--document"],
        &["tune", "explain"],
        &["plan", "--connections", "1k"],
        &["plan", "--connections", "1k", "--json"],
        &["--help"],
        &["--version"],
        &["sub", "--help"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let (status, _, errors) = split(corecast(arguments).stdout(full).output().unwrap());
        assert_eq!(status, 1, "{arguments:?}: {errors}");
        assert!(errors.contains("cannot write to stdout: No space left on device"), "{arguments:?}: {errors}");
    }
}

/// A reader that is gone is no failure: `corecast sub | head` ends in peace.
#[test]
fn a_reader_that_is_gone_is_no_failure() {
    let url = server(|_, stream, request| {
        shake_hands(stream, request);
        send_text(stream, "MSG a 0000000a-1\nhello");
        let _ = stream.read(&mut [0; 64]);
    });
    for arguments in [&["sub", "a", "--url", &url] as &[&str], &["check"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (status, _, errors) = split(corecast(arguments).stdout(writer).output().unwrap());
        assert_eq!((status, errors.as_str()), (0, ""), "{arguments:?}");
    }
}

/// A made-up server: takes one connection after the other and answers each as the closure says.
fn server(answer: impl Fn(usize, &mut TcpStream, &str) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            // One byte at a time: what comes behind the request is for the closure.
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
                request.push(byte[0]);
            }
            let head = String::from_utf8(request.clone()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            stream.read_exact(&mut body).unwrap();
            answer(n, &mut stream, &(head + std::str::from_utf8(&body).unwrap()));
        }
    });
    url
}

/// `pub` sends topic, event and payload as the contract says, and prints the cursor; stdin works, line by line too.
#[test]
fn pub_publishes() {
    let (saw, seen) = std::sync::mpsc::channel();
    let url = server(move |n, stream, request| {
        saw.send(request.to_owned()).unwrap();
        let body = format!("{{\"topic\":\"a\",\"cursor\":\"0000000a-{n}\"}}");
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).unwrap();
    });
    let (status, out, errors) = run(&["pub", "a b/ü", "hello", "--event", "tick", "--url", &url]);
    assert_eq!((status, out.as_str()), (0, "0000000a-0\n"), "{errors}");
    let request = seen.recv().unwrap();
    assert!(request.starts_with("POST /topics/a%20b/%C3%BC HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\r\ncorecast-event: tick\r\n") && request.ends_with("\r\n\r\nhello"), "{request}");

    let mut command = corecast(&["pub", "a", "--lines", "--url", &url]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"one\n\ntwo").unwrap();
    let (status, out, _) = split(child.wait_with_output().unwrap());
    assert_eq!((status, out.as_str()), (0, "0000000a-1\n0000000a-2\n0000000a-3\n"));
    let payload = |request: String| request.split_once("\r\n\r\n").unwrap().1.to_owned();
    let payloads: Vec<String> = (0..3).map(|_| payload(seen.recv().unwrap())).collect();
    assert_eq!(payloads, ["one", "", "two"]);
}

/// A connection that the engine closed while `pub` waited for the next line is made anew before the line is sent.
#[test]
fn pub_survives_an_idle_connection() {
    let (closed, is_closed) = std::sync::mpsc::channel();
    let url = server(move |n, stream, _| {
        let body = format!("{{\"cursor\":\"0000000a-{n}\"}}");
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        // Promised to be kept alive, but closed, as an idle connection is after a while.
        stream.shutdown(std::net::Shutdown::Both).unwrap();
        closed.send(()).unwrap();
    });
    let mut command = corecast(&["pub", "a", "--lines", "--url", &url]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"one\n").unwrap();
    is_closed.recv().unwrap();
    input.write_all(b"two\n").unwrap();
    drop(input);
    let (status, out, _) = split(child.wait_with_output().unwrap());
    assert_eq!((status, out.as_str()), (0, "0000000a-0\n0000000a-1\n"));
}

/// A refusal ends `pub` with status 1 and the server's reason, without its control characters.
#[test]
fn pub_tells_a_refusal() {
    let url = server(|_, stream, _| {
        let body = "{\"error\":\"too \\u001b[2J large\"}";
        write!(stream, "HTTP/1.1 413 Too Large\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    let (status, out, errors) = run(&["pub", "a", "x", "--url", &url]);
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(errors.contains("refused the message with status 413: too [2J large"), "{errors}");
}

/// A server that speaks something else is recognised as that.
#[test]
fn foreign_servers_are_recognised() {
    let url = server(|_, stream, _| stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n\r\n").unwrap());
    for arguments in [["pub", "a", "x", "--url", &url], ["sub", "a", "--count=1", "--url", &url]] {
        let (status, _, errors) = run(&arguments);
        assert_ne!(status, 0, "{arguments:?}");
        assert!(errors.contains("not an engine?"), "{arguments:?}: {errors}");
    }
    let url = server(|_, stream, _| {
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    });
    let (status, _, errors) = run(&["sub", "a", "--url", &url]);
    assert_eq!(status, 1, "{errors}");
    assert!(errors.contains("the answer was status 404 instead of a WebSocket"), "{errors}");
}

/// Shakes hands as a server, and returns the first command of the client.
fn shake_hands(stream: &mut TcpStream, request: &str) -> String {
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = corecast_protocol::ws::handshake::accept_key(key);
    let accept = std::str::from_utf8(&accept).unwrap();
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: corecast.v1\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A short masked text frame: two bytes of header, four of mask.
    let mut frame = [0; 6];
    stream.read_exact(&mut frame).unwrap();
    let mut payload = vec![0; usize::from(frame[1] & 0x7f)];
    stream.read_exact(&mut payload).unwrap();
    let plain = payload.iter().zip(frame[2..].iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    String::from_utf8(plain).unwrap()
}

fn send_text(stream: &mut TcpStream, text: &str) {
    stream.write_all(&[0x81, u8::try_from(text.len()).unwrap()]).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
}

/// `sub` prints what comes, tells gaps on stderr, and after a broken connection goes on behind the last message seen.
#[test]
fn sub_comes_back_with_its_cursor() {
    let (saw, seen) = std::sync::mpsc::channel();
    let url = server(move |n, stream, request| {
        saw.send(shake_hands(stream, request)).unwrap();
        send_text(stream, "HI corecast.v1 s1");
        if n == 0 {
            send_text(stream, "OK 0 0000000a-6");
            send_text(stream, "MSG a/b 0000000a-7 event=tick\nhello\nworld");
        } else {
            send_text(stream, "GAP a/b 0000000a-7 0000000a-8 1 expired");
            send_text(stream, "MSG a/b 0000000a-9\nagain");
        }
    });
    let (status, out, errors) = run(&["sub", "a/b", "--since", "live", "--count", "2", "--url", &url]);
    assert_eq!((status, out.as_str()), (0, "a/b 0000000a-7 hello\\nworld\na/b 0000000a-9 again\n"), "{errors}");
    assert!(errors.contains("gap: 1 messages of a/b are gone (expired)"), "{errors}");
    assert!(errors.contains("trying again in"), "{errors}");
    assert_eq!(seen.recv().unwrap(), "SUB a/b since=live id=0");
    assert_eq!(seen.recv().unwrap(), "SUB a/b since=0000000a-7 id=0");
}

/// Over a WebSocket, too, `sub` comes back when it is told to, and not where it may not.
#[test]
fn websockets_obey() {
    let url = server(|n, stream, request| {
        shake_hands(stream, request);
        match n {
            0 => send_text(stream, "ERR 0 rate too much; try again in 1s"),
            1 => {
                let reason = b"\x03\xf5the engine is full; try again in 2s";
                stream.write_all(&[0x88, u8::try_from(reason.len()).unwrap()]).unwrap();
                stream.write_all(reason).unwrap();
            }
            _ => {
                stream.write_all(b"\x88\x18\x03\xf0this is not allowed to").unwrap();
                let _ = stream.read(&mut [0; 64]);
            }
        }
    });
    let (status, out, errors) = run(&["sub", "a", "--url", &url]);
    assert_eq!((status, &*out), (1, ""), "{errors}");
    let waits: Vec<u64> = errors
        .lines()
        .filter_map(|line| line.split_once("trying again in ")?.1.split(' ').next()?.parse().ok())
        .collect();
    assert!(matches!(waits[..], [first, second] if first >= 1000 && second >= 2000), "{errors}");
    assert!(errors.ends_with("closed by the engine: 1008 this is not allowed to\n"), "{errors}");
}

/// SIGINT ends `sub` with status 0, and what it had received is printed.
#[test]
fn sub_ends_on_a_signal() {
    let url = server(|_, stream, request| {
        shake_hands(stream, request);
        send_text(stream, "MSG a 0000000a-1\nhello");
        // Until the client closes.
        let _ = stream.read(&mut [0; 64]);
    });
    let mut child = corecast(&["sub", "a", "--url", &url]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "a 0000000a-1 hello\n");
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Waits for a process to end, but not for ever.
fn status_of(mut child: Child) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() >= deadline {
            child.kill().unwrap();
            panic!("the process did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A panic of a thread is told on stderr, and does not wait for who reads that: the process has to end.
#[test]
fn a_panic_does_not_wait_for_stderr() {
    if std::env::var_os("PANICS_ON_PURPOSE").is_some() {
        // The process that is looked at below.
        corecast::log::start(&config::Config::default_on(&config::Host::read())).unwrap();
        let panicked = std::thread::spawn(|| panic!("on purpose")).join().is_err();
        std::process::exit(if panicked { 7 } else { 8 });
    }
    let panics = |stderr: Stdio| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_panic_does_not_wait_for_stderr", "--nocapture"]).env("PANICS_ON_PURPOSE", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap()
    };
    let mut told = panics(Stdio::piped());
    let mut errors = String::new();
    told.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(status_of(told), Some(7), "{errors}");
    assert!(errors.contains("on purpose") && errors.contains("command_line.rs:"), "{errors}");
    // Full, and nobody reads it.
    let (_reader, mut writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    while writer.write(&[0; 4096]).is_ok() {}
    writer.set_nonblocking(false).unwrap();
    assert_eq!(status_of(panics(OwnedFd::from(writer).into())), Some(7));
}
