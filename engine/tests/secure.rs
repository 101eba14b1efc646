//! `corecast pub` and `corecast sub` against a real engine that speaks TLS and wants to know who they are.

// A test that cannot go on has failed; clippy knows that only of functions marked as tests.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

const TRANSPORTS: [&str; 8] =
    ["websocket", "sse", "stream", "multipart", "forever-frame", "long-poll", "poll", "jsonp"];

/// A folder, in which certificates and keys are.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Makes a certificate that signs itself, as `openssl req -x509` does: it is an authority, too.
    fn own(&self, change: impl Fn(&mut CertificateParams)) -> [PathBuf; 2] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        [self.write("own.pem", &certificate.pem()), self.write("own.key", &key.serialize_pem())]
    }

    /// Makes an authority, and a certificate of it.
    fn signed(&self) -> [PathBuf; 3] {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let ca = self.write("ca.pem", &issuer.pem());
        [ca, self.write("cert.pem", &certificate.pem()), self.write("cert.key", &key.serialize_pem())]
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

fn run(arguments: &[&str]) -> (i32, String, String) {
    of(&mut corecast(arguments))
}

fn of(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().expect("not killed"), text(output.stdout), text(output.stderr))
}

/// An engine of one shard, on a free port of loopback; it ends with this.
struct Engine {
    child: Child,
    /// Where it listens.
    url: String,
    /// What it says at start that one can try, without `corecast`.
    tries: Vec<Vec<String>>,
}

impl Engine {
    fn start(listen: &str, arguments: &[&str]) -> Engine {
        let fixed = ["serve", "--listen", listen, "--admin", "off", "--shards", "1", "--memory", "64M"];
        let mut command = corecast(&fixed);
        let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (mut url, mut tries) = (None, Vec::new());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while tries.len() < 2 {
            let line = lines.next().expect("it starts").unwrap();
            if let Some(address) = line.strip_prefix("listening on ") {
                url = Some(address.replace("127.0.0.1", "localhost"));
            }
            if line.contains(" serves with ") {
                continue;
            } else if let Some(words) = line.trim_start_matches("try:").trim().strip_prefix("corecast ") {
                tries.push(words.split(' ').map(str::to_owned).collect());
            } else if line.contains("curl") {
                tries.push(Vec::new());
            }
        }
        Engine { child, url: url.unwrap(), tries }
    }

    /// Starts one that speaks TLS.
    fn secure([certificate, key]: [&Path; 2], arguments: &[&str]) -> Engine {
        let files = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
        Engine::start("tls://127.0.0.1:0", &[&files, arguments].concat())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an engine says at start that one can try works as it stands there, with a certificate that signs itself.
#[test]
fn what_is_to_be_tried_works() {
    let files = Files::new();
    let [certificate, key] = files.own(|_| {});
    let engine = Engine::secure([&certificate, &key], &[]);
    let words = |n: usize| engine.tries[n].iter().map(String::as_str).collect::<Vec<_>>();
    let (status, cursor, errors) = run(&words(1));
    assert_eq!(status, 0, "{:?}: {errors}", words(1));
    let sub = [&words(0)[..], &["--since", "earliest", "--count", "1"]].concat();
    assert_eq!(run(&sub), (0, format!("news {} hello\n", cursor.trim()), String::new()), "{sub:?}");
}

/// Over TLS every transport prints what was published, with the certificate of an authority of one's own.
#[test]
fn every_transport_over_tls() {
    let files = Files::new();
    let [ca, certificate, key] = files.signed();
    let engine = Engine::secure([&certificate, &key], &[]);
    let reach = ["--url", &engine.url, "--ca", ca.to_str().unwrap()];
    let mut lines = corecast(&["pub", "t", "--lines"]);
    let mut child =
        lines.args(reach).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    // One is longer than a record of TLS.
    let long = "x".repeat(50_000);
    write!(child.stdin.take().unwrap(), "one\ntwo\n{long}\n").unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    for transport in TRANSPORTS {
        let how = ["--since", "earliest", "--count", "3", "--raw", "--transport", transport];
        let (status, out, errors) = run(&[&["sub", "t"], &reach[..], &how].concat());
        assert_eq!((status, &*errors), (0, ""), "{transport}");
        assert_eq!(out, format!("one\ntwo\n{long}\n"), "{transport}");
    }
}

/// A certificate that is not to be believed ends it at once with status 2, and says why and what to do; nothing is sent.
#[test]
fn certificates_are_verified() {
    let files = Files::new();
    let others = Files::new();
    let [ca, certificate, key] = files.signed();
    let [other, ..] = others.signed();
    let engine = Engine::secure([&certificate, &key], &[]);
    let (ca, other) = (ca.to_str().unwrap(), other.to_str().unwrap());
    let by_number = engine.url.replace("localhost", "127.0.0.1");
    let plain = engine.url.replace("https", "http");
    let no_tls = Engine::start("127.0.0.1:0", &[]);
    let over = no_tls.url.replace("http", "https");
    let dated = Files::new();
    let [old, old_key] = dated.own(|params| params.not_after = date_time_ymd(2020, 1, 1));
    let expired = Engine::secure([&old, &old_key], &[]);
    for (url, extra, cause, cure) in [
        (&engine.url, &[] as &[&str], "UnknownIssuer", "name its file with --ca"),
        (&engine.url, &["--ca", other], "invalid peer certificate", "name its file with --ca"),
        (&by_number, &["--ca", ca], "not valid for name", "use a name of its certificate"),
        (&expired.url, &["--ca", old.to_str().unwrap()], "xpired", "at the clocks of both hosts"),
        (&over, &["--ca", ca], "corrupt message", "use http:// where there is no TLS"),
    ] {
        for word in [&["pub", "t", "x"] as &[&str], &["sub", "t"], &["sub", "t", "--transport", "sse"]] {
            let arguments = [word, &["--url", url], extra].concat();
            let (status, out, errors) = run(&arguments);
            assert_eq!((status, &*out), (2, ""), "{arguments:?}: {errors}");
            assert!(errors.contains(cause) && errors.contains(cure), "{arguments:?}: {errors}");
        }
    }
    // Plain words to a port that speaks TLS.
    for word in [&["pub", "t", "x"] as &[&str], &["sub", "t"], &["sub", "t", "--transport", "sse"]] {
        let arguments = [word, &["--url", &plain]].concat();
        let (status, _, errors) = run(&arguments);
        assert_eq!(status, 1, "{arguments:?}: {errors}");
        assert!(errors.contains("400") && errors.contains("https://"), "{arguments:?}: {errors}");
    }
}

/// A token is shown from an argument, the variable or a file; without one, or where it gives no right, it ends with status 1 and the
/// reason on every transport, and does not come back.
#[test]
fn tokens_are_shown() {
    let files = Files::new();
    let secret = files.0.path().join("secret");
    let secret = secret.to_str().unwrap();
    assert_eq!(run(&["token", "--new-key", secret]).0, 0);
    let (_, token, _) = run(&["token", "--key", secret, "--sub", "anna", "--publish", "a/#", "--subscribe", "a/#"]);
    let token = token.trim();
    let file = files.write("token", &format!("{token}\n"));
    let at_file = format!("@{}", file.display());
    let header = format!("Authorization: Bearer {token}");
    let headers = format!("@{}", files.write("headers", &header).display());
    let engine = Engine::start("127.0.0.1:0", &["--token-key", &format!("secret:{secret}")]);
    let url = ["--url", &*engine.url];
    for shown in [["--token", token], ["--token", &at_file], ["--header", &header], ["--header", &headers]] {
        let (status, _, errors) = run(&[&["pub", "a/b", "hello"], &url[..], &shown].concat());
        assert_eq!(status, 0, "{errors}");
    }
    let published = of(corecast(&["pub", "a/b", "hello", "--url", &engine.url]).env("CORECAST_TOKEN", token));
    assert_eq!(published.0, 0, "{}", published.2);
    let (status, _, errors) = run(&[&["pub", "a/b", "hello"], &url[..]].concat());
    assert!(status == 1 && errors.contains("status 401"), "{errors}");
    for transport in TRANSPORTS {
        let sub = |topic, shown: &[&str]| {
            let (status, out, errors) = run(&[
                &["sub", topic, "--since", "-1", "--count", "1", "--raw", "--transport", transport],
                &url[..],
                shown,
            ]
            .concat());
            assert!(!errors.contains("trying again") && !errors.contains(token), "{transport}: {errors}");
            (status, out, errors)
        };
        assert_eq!(sub("a/b", &["--token", &at_file]), (0, "hello\n".to_owned(), String::new()), "{transport}");
        let (status, _, errors) = sub("a/b", &[]);
        assert!(status == 1 && (errors.contains("401") || errors.contains("unauthorized")), "{transport}: {errors}");
        let (status, _, errors) = sub("c", &["--token", &at_file]);
        assert!(status == 1 && (errors.contains("403") || errors.contains("forbidden")), "{transport}: {errors}");
    }
}

/// A token that ends ends its subscription, which comes back if its file has another one by then, and else ends with status 1.
#[test]
fn a_fresh_token_goes_on() {
    let files = Files::new();
    let secret = files.0.path().join("secret");
    let secret = secret.to_str().unwrap();
    assert_eq!(run(&["token", "--new-key", secret]).0, 0);
    let token = |expires: &str| {
        let rights = ["--publish", "#", "--subscribe", "#", "--expires", expires];
        run(&[&["token", "--key", secret], &rights[..]].concat()).1
    };
    let keys = format!("secret:{secret}");
    let engine = Engine::start("127.0.0.1:0", &["--token-key", &keys, "--token-leeway", "0s"]);
    let long = token("1h");
    let (engine, long, files) = (&engine, long.trim(), &files);
    // Long enough for who has to begin by then on a busy host.
    let short = &token("6s");
    std::thread::scope(|scope| {
        for transport in ["websocket", "sse", "stream", "long-poll"] {
            scope.spawn(move || {
                let start = |name: &str| {
                    let file = files.write(&format!("{name}-{transport}"), short);
                    let shown = format!("@{}", file.display());
                    let mut sub =
                        corecast(&["sub", transport, "--transport", transport, "--raw", "--url", &engine.url]);
                    sub.args(["--token", &shown, "--since", "earliest"]).stdout(Stdio::piped()).stderr(Stdio::piped());
                    let mut child = sub.spawn().unwrap();
                    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
                    (file, child, lines.map(Result::unwrap))
                };
                let publish = |text| {
                    let url = ["--url", &engine.url];
                    let done =
                        of(corecast(&[&["pub", transport, text], &url[..]].concat()).env("CORECAST_TOKEN", long));
                    assert_eq!(done.0, 0, "{}", done.2);
                };
                let ((file, mut fresh, mut out), (_, mut stale, mut stale_out)) = (start("fresh"), start("stale"));
                publish("one");
                assert_eq!(
                    (out.next(), stale_out.next()),
                    (Some("one".to_owned()), Some("one".to_owned())),
                    "{transport}"
                );
                std::fs::write(&file, long).unwrap();
                let mut last = String::new();
                stale.stderr.take().unwrap().read_to_string(&mut last).unwrap();
                assert_eq!((stale_out.next(), stale.wait().unwrap().code()), (None, Some(1)), "{transport}: {last}");
                assert!(last.contains("error: ") && last.contains("expired"), "{transport}: {last}");
                assert!(!last.contains("trying again"), "{transport}: {last}");
                // By now the other's token is over, too, which was the same.
                publish("two");
                assert_eq!(out.next().as_deref(), Some("two"), "{transport}");
                fresh.kill().unwrap();
                fresh.wait().unwrap();
            });
        }
    });
}
