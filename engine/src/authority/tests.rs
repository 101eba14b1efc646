//! The authority as a shard sees it: questions in, verdicts out; with servers of others on loopback that are slow, down, or say nonsense.

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::others::{Server, answer, base64url, key_set};
use super::token::Algorithm;
use super::*;
use crate::grant::{Action, Visit};

/// What waits for a thread or a server gives up after this.
const DEADLINE: Duration = Duration::from_secs(20);

/// A file that is gone when the test is over.
struct Kept(std::path::PathBuf);

impl Kept {
    fn new(name: &str, text: impl AsRef<[u8]>) -> Kept {
        let path = std::env::temp_dir().join(format!("corecast-{name}-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Kept(path)
    }

    fn source(&self, kind: &str) -> KeySource {
        KeySource::read(&format!("{kind}:{}", self.0.display())).unwrap()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const SECRET: &str = "a secret of at least thirty-two bytes";

fn settings() -> Settings {
    Settings {
        claim: "corecast".to_owned(),
        leeway_s: 30,
        token_age_max_s: 86_400,
        hook_asks: Asks { connect: true, subscribe: true, publish: true },
        hook_timeout_ms: 5_000,
        hook_parallel: 4,
        hook_cache_ms: 10_000,
        plain_http: true,
        ..Settings::default()
    }
}

struct Asked {
    authority: Authority,
    bell: Doorbell,
}

impl Asked {
    fn with(settings: &Settings) -> Asked {
        let bell = Doorbell::new().unwrap();
        Asked { authority: Authority::new(Prepared::read(settings).unwrap(), &bell).unwrap(), bell }
    }

    /// Asks, and returns all verdicts when there are so many.
    fn ask(&mut self, asks: Vec<Ask>) -> Vec<Verdict> {
        let count = asks.len();
        for (word, ask) in asks.into_iter().enumerate() {
            self.authority.ask(3, Question { word: word as u64, ask });
        }
        self.verdicts(count)
    }

    fn verdicts(&mut self, count: usize) -> Vec<Verdict> {
        use std::os::fd::AsFd as _;
        let (mut verdicts, end) = (Vec::new(), Instant::now() + DEADLINE);
        while verdicts.len() < count {
            while let Some((from, verdict)) = self.authority.take() {
                assert_eq!(from, 3);
                verdicts.push(verdict);
            }
            if verdicts.len() < count {
                assert!(Instant::now() < end, "{} of {count} verdicts", verdicts.len());
                let waiting = [(self.bell.as_fd(), crate::io::poll::For::Reading)];
                if crate::io::poll::wait(&waiting, Some(Duration::from_millis(100))).unwrap() == [true] {
                    self.bell.hear();
                }
                self.authority.hear();
            }
        }
        verdicts.sort_by_key(|verdict| verdict.word);
        verdicts
    }

    fn token(&mut self, token: &str) -> Verdict {
        self.ask(vec![Ask::Token(token.into())]).remove(0)
    }
}

fn denied(verdict: &Verdict) -> String {
    match &verdict.said {
        Err(Denial::Invalid(why)) => format!("invalid: {why}"),
        Err(Denial::Forbidden(why)) => format!("forbidden: {why}"),
        Err(Denial::Unavailable(why)) => format!("unavailable: {why}"),
        Ok(grant) => format!("granted to {}", grant.subject),
    }
}

/// Claims that are fine, with some changed.
fn claims(change: &Value) -> Value {
    let now = unix_s();
    let mut claims = json!({
        "sub": "anna", "iat": now, "exp": now + 600, "jti": "7",
        "corecast": {"publish": ["rooms/{sub}"], "subscribe": ["#"]},
    });
    for (key, value) in change.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(key)),
            value => claims[key] = value.clone(),
        }
    }
    claims
}

fn signed(claims: &Value) -> String {
    token::sign(claims, Algorithm::named("HS256").unwrap(), SECRET.as_bytes(), None).unwrap()
}

/// Private and public PEM of one key for each algorithm that has such.
fn key_pairs() -> Vec<(&'static str, String, String)> {
    use rcgen::KeyPair;
    let pair = |names: &[&'static str], kind| {
        let pair = KeyPair::generate_for(kind).unwrap();
        let pem = |name: &&'static str| (*name, pair.serialize_pem(), pair.public_key_pem());
        names.iter().map(pem).collect::<Vec<_>>()
    };
    [
        pair(&["ES256"], &rcgen::PKCS_ECDSA_P256_SHA256),
        pair(&["ES384"], &rcgen::PKCS_ECDSA_P384_SHA384),
        pair(&["EdDSA"], &rcgen::PKCS_ED25519),
        pair(&["RS256", "PS256"], &rcgen::PKCS_RSA_SHA256),
    ]
    .concat()
}

/// A token of every algorithm is taken with its key, and with no other: neither one of its kind nor one of another, and least of all a
/// public key as a secret.
#[test]
fn every_algorithm_and_no_other_key() {
    let mut keys: Vec<(&str, Vec<u8>, token::Key)> = Vec::new();
    for (number, name) in ["HS256", "HS384", "HS512"].into_iter().enumerate() {
        let secret = format!("{SECRET}, number {number}");
        keys.push((name, secret.clone().into_bytes(), token::Key::from_secret(secret.as_bytes()).unwrap()));
    }
    let others = key_pairs();
    for (name, private, public) in others.iter().chain(&key_pairs()) {
        keys.push((name, private.clone().into_bytes(), token::Key::from_pem(public.as_bytes()).unwrap()));
    }
    let mut taken = 0;
    for (name, private, _) in &keys {
        let algorithm = Algorithm::named(name).unwrap();
        let token = token::sign(&claims(&json!({})), algorithm, private, Some("k")).unwrap();
        let head = token::head(&token).unwrap();
        assert_eq!((head.algorithm.name(), head.kid.as_deref()), (*name, Some("k")));
        for (other, other_private, key) in &keys {
            let is_right = private == other_private && (name[..2] == other[..2] || private.starts_with(b"-----"));
            let verified = token::verify(&token, key, algorithm);
            assert_eq!(verified.is_ok(), is_right, "{name} with a key for {other}");
            taken += usize::from(is_right);
        }
    }
    // Each with its own; RSA serves two algorithms.
    assert_eq!(taken, keys.len() + 4);
    // Whoever knows the public key signs with it as if it were the secret.
    let (_, _, public) = &others[3];
    let forged = token::sign(&claims(&json!({})), Algorithm::named("HS256").unwrap(), public.as_bytes(), None);
    assert!(forged.is_err(), "not even this program does");
    let header = base64url(br#"{"alg":"HS256","typ":"JWT"}"#);
    let message = format!("{header}.{}", base64url(claims(&json!({})).to_string().as_bytes()));
    let hmac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public.as_bytes());
    let forged = format!("{message}.{}", base64url(aws_lc_rs::hmac::sign(&hmac, message.as_bytes()).as_ref()));
    let file = Kept::new("public", public);
    let mut asked = Asked::with(&Settings { token_keys: vec![file.source("pem")], ..settings() });
    assert!(denied(&asked.token(&forged)).contains("not signed with a key"));
}

/// Each thing that can be wrong with a token has its own words, and none of them is a word of the token.
#[test]
fn bad_tokens_are_told_why() {
    let file = Kept::new("bad-tokens", format!("{SECRET}\n"));
    let settings = Settings {
        token_keys: vec![file.source("secret")],
        issuers: vec!["https://id.example".to_owned()],
        audiences: vec!["corecast".to_owned()],
        ..settings()
    };
    let mut asked = Asked::with(&settings);
    let now = unix_s();
    let ours = |change: Value| {
        let mut all = json!({"iss": "https://id.example", "aud": ["corecast", "others"]});
        all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        claims(&all)
    };
    let by_hand = |header: &str| {
        let token = signed(&ours(json!({})));
        let (_, rest) = token.split_once('.').unwrap();
        let message = format!("{}.{}", base64url(header.as_bytes()), rest.split_once('.').unwrap().0);
        let hmac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
        format!("{message}.{}", base64url(aws_lc_rs::hmac::sign(&hmac, message.as_bytes()).as_ref()))
    };
    assert_eq!(denied(&asked.token(&by_hand(r#"{"alg":"HS256"}"#))), "granted to anna");
    let good = signed(&ours(json!({})));
    let last = if good.ends_with('A') { 'B' } else { 'A' };
    let cases = [
        (String::new(), "the token is none"),
        ("a.b.c".to_owned(), "the token is none"),
        ("é".to_owned(), "the token is none"),
        (format!("{good}.x"), "the token is none"),
        ("a".repeat(8193), "longer than 8 KiB"),
        (by_hand(r#"{"alg":"none"}"#), "its algorithm is not one"),
        (by_hand(r#"{"alg":"RS512"}"#), "algorithm is not one"),
        (by_hand(r#"{"alg":"HS256","crit":["exp"]}"#), "crit"),
        (by_hand(r#"{"alg":"HS256","b64":false}"#), "not signed"),
        (by_hand(&format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(256))), "name of the token's key"),
        (
            format!(
                "{}{last}",
                &good[..good.len() - 1]
                    .rsplit_once('.')
                    .map(|(m, s)| format!("{m}.{}", s.replace('a', "b").replace('c', "d")))
                    .unwrap()
            ),
            "not signed",
        ),
        (format!("{}.", good.rsplit_once('.').unwrap().0), "not signed"),
        (signed(&ours(json!({"exp": now - 31}))), "has expired"),
        (signed(&ours(json!({"exp": null}))), "does not say when it ends"),
        (signed(&ours(json!({"exp": now + 86_402}))), "lives longer"),
        (signed(&ours(json!({"exp": now + 600, "iat": now - 86_400}))), "lives longer"),
        (signed(&ours(json!({"nbf": now + 60}))), "not valid yet"),
        (signed(&ours(json!({"iat": now + 60}))), "in the future"),
        (signed(&ours(json!({"iss": "https://evil.example"}))), "somebody else (iss)"),
        (signed(&ours(json!({"aud": "others"}))), "meant for others"),
        (signed(&ours(json!({"sub": 7}))), "`sub`"),
        (signed(&ours(json!({"sub": "a/b"}))), "{sub}"),
        (signed(&ours(json!({"corecast": {"subscribe": ["a#"]}}))), "a pattern is none"),
        (signed(&json!(["no", "object"])), "cannot be read"),
    ];
    for (token, expected) in cases {
        let verdict = asked.token(&token);
        let told = denied(&verdict);
        assert!(told.starts_with("invalid: ") && told.contains(expected), "{expected}: {told}");
        assert!((1_000..=5_000).contains(&verdict.holds_ms), "{told}: {}", verdict.holds_ms);
    }
    // Clocks may be apart.
    for change in
        [json!({"exp": now - 20}), json!({"nbf": now + 20}), json!({"iat": now + 20}), json!({"aud": "corecast"})]
    {
        assert_eq!(denied(&asked.token(&signed(&ours(change)))), "granted to anna");
    }
    let verdict = asked.token(&signed(&ours(json!({"exp": now + 100}))));
    let grant = verdict.said.unwrap();
    assert_eq!(grant.expires_s, now + 130);
    assert!((100_000..=130_000).contains(&verdict.holds_ms), "{}", verdict.holds_ms);
    assert!(grant.gives(Action::Publish, "rooms/anna") && !grant.gives(Action::Publish, "rooms/bert"));
}

/// Without a key no token is taken, with `optional` those that never end are, and they hold for a while all the same.
#[test]
fn no_keys_and_no_end() {
    let mut asked = Asked::with(&settings());
    assert!(denied(&asked.token(&signed(&claims(&json!({}))))).contains("there is no token-key"));
    let verdicts =
        asked.ask(vec![Ask::Key("k".into()), Ask::Certificate("c".into()), Ask::Connect(Box::new(visit("")))]);
    let told: Vec<String> = verdicts.iter().map(denied).collect();
    assert!(
        told[0].contains("not known") && told[1].starts_with("forbidden") && told[2].contains("auth-url is off"),
        "{told:?}"
    );
    let file = Kept::new("endless", SECRET);
    let mut asked = Asked::with(&Settings { token_keys: vec![file.source("secret")], endless: true, ..settings() });
    let verdict = asked.token(&signed(&claims(&json!({"exp": null}))));
    assert_eq!((verdict.said.unwrap().expires_s, verdict.holds_ms), (u64::MAX, YES_HOLDS_MS));
}

/// A key set is read for what fits; keys for something else, of unknown kinds, broken or twice do no harm.
#[test]
fn odd_key_sets() {
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"; // RFC 8037, appendix A.2.
    let ed = |more: Value| {
        let mut key = json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "one"});
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key
    };
    let secret = json!({"kty": "oct", "k": base64url(SECRET.as_bytes())});
    let set = json!({"keys": [
        ed(json!({})), ed(json!({})), ed(json!({"use": "sig", "alg": "EdDSA"})), ed(json!({"key_ops": ["verify"]})), secret,
        ed(json!({"use": "enc"})), ed(json!({"alg": "RS256"})), ed(json!({"alg": 5})), ed(json!({"key_ops": ["sign"]})),
        ed(json!({"x": "AAAA"})), ed(json!({"x": "!"})), ed(json!({"crv": "X25519"})), ed(json!({"kty": "new"})),
        {"kty": "oct", "k": "c2hvcnQ"}, {"kty": "RSA", "n": "AQAB", "e": "AQAB"}, {"kty": "EC", "crv": "P-256", "x": x, "y": "AA"},
        5, null, "key", {}, [],
    ]});
    let (keys, left_out) = token::Key::from_set(set.to_string().as_bytes(), true).unwrap();
    assert_eq!((keys.len(), left_out), (5, 16));
    let (keys, _) = token::Key::from_set(set.to_string().as_bytes(), false).unwrap();
    assert_eq!(keys.len(), 4, "what everybody can fetch is no secret");
    let many = json!({"keys": (0..100).map(|kid| ed(json!({"kid": kid.to_string()}))).collect::<Vec<_>>()});
    assert_eq!(token::Key::from_set(many.to_string().as_bytes(), true).unwrap().0.len(), token::SET_KEYS_MAX);
    for text in ["", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[]}", "<html>"] {
        assert!(token::Key::from_set(text.as_bytes(), true).is_err(), "{text}");
    }
}

/// A file that is another kind of thing than it is said to be is refused, with what it is.
#[test]
fn files_that_are_something_else() {
    let pairs = key_pairs();
    for (kind, text, expected) in [
        ("secret", "short", "at least 32 bytes"),
        ("secret", &*pairs[0].2, "pem:FILE or jwks:FILE"),
        ("secret", "{\"keys\":[]}", "pem:FILE or jwks:FILE"),
        ("pem", SECRET, "no public key"),
        ("pem", &pairs[0].1, "private key"),
        ("pem", "-----BEGIN CERTIFICATE-----", "certificate"),
        ("jwks", SECRET, "not JSON"),
    ] {
        let file = Kept::new("something-else", text);
        let settings = Settings { token_keys: vec![file.source(kind)], ..settings() };
        let problems = Prepared::read(&settings).unwrap_err();
        assert!(problems[0].cause.contains(expected) && !problems[0].cause.contains(SECRET), "{kind}: {}", problems[0]);
    }
    let nowhere = [KeySource::read("secret:/nowhere/a").unwrap(), KeySource::read("pem:/nowhere/b").unwrap()];
    let settings = Settings { token_keys: nowhere.to_vec(), api_keys: Some("/nowhere/c".into()), ..settings() };
    assert_eq!(Prepared::read(&settings).unwrap_err().len(), 3, "all problems are told");
}

fn signed_by(private: &str, kid: &str) -> String {
    token::sign(&claims(&json!({})), Algorithm::named("EdDSA").unwrap(), private.as_bytes(), Some(kid)).unwrap()
}

/// Tokens wait for the first fetch of their key set and are answered then; a flood of keys that nobody knows causes no further fetch, and
/// is told to come back rather than that the tokens are bad: a key may be new.
#[test]
fn key_sets_are_fetched() {
    let (private, set) = key_set("one");
    let server = Server::start(move |_, _| answer("200 OK", &set));
    let mut asked = Asked::with(&Settings { token_keys: vec![KeySource::Url(server.url.clone())], ..settings() });
    let tokens = vec![Ask::Token(signed_by(&private, "one").into()); 50];
    let verdicts = asked.ask(tokens);
    assert!(verdicts.iter().all(|verdict| denied(verdict) == "granted to anna"), "{:?}", verdicts[0]);
    assert_eq!(server.count(), 1);
    let flood = (0..500).map(|number| Ask::Token(signed_by(&private, &format!("kid-{number}")).into())).collect();
    for verdict in asked.ask(flood) {
        assert!(denied(&verdict).starts_with("unavailable: ") && verdict.holds_ms <= 1_000, "{verdict:?}");
    }
    assert_eq!(server.count(), 1, "within the cool-down");
    let forged = signed_by(&key_set("one").0, "one");
    assert!(denied(&asked.token(&forged)).contains("not signed with a key"));
    assert_eq!(server.count(), 1);
}

/// While a key set cannot be fetched, nobody is told that his token is bad.
#[test]
fn key_sets_that_are_down() {
    let (private, _) = key_set("one");
    for server in [
        Server::start(|_, _| None),
        Server::start(|_, _| answer("500 Oh No", "")),
        Server::start(|_, _| answer("200 OK", "<html>")),
        Server::start(|_, _| answer("200 OK", &"x".repeat(300 << 10))),
        Server::start(|_, _| answer("302 Found\r\nLocation: http://127.0.0.1:1/", "")),
    ] {
        let mut asked = Asked::with(&Settings { token_keys: vec![KeySource::Url(server.url.clone())], ..settings() });
        for _ in 0..3 {
            assert!(denied(&asked.token(&signed_by(&private, "one"))).contains("cannot be fetched"));
        }
        assert_eq!(server.count(), 1, "it is not asked by each token");
    }
}

/// Keys in files and rows that a reload takes away give nothing any more; a set that is known goes on without a fetch.
#[test]
fn a_reload_is_heeded() {
    let (private, set) = key_set("one");
    let server = Server::start(move |_, _| answer("200 OK", &set));
    let url = KeySource::Url(server.url.clone());
    let (secret, rows) =
        (Kept::new("reload", SECRET), Kept::new("reload-keys", "[[key]]\nname = \"b\"\nkey = \"sixteen-letters!\"\n"));
    let with = Settings {
        token_keys: vec![secret.source("secret"), url.clone()],
        api_keys: Some(rows.0.clone()),
        ..settings()
    };
    let mut asked = Asked::with(&with);
    let asks = || {
        vec![
            Ask::Token(signed(&claims(&json!({}))).into()),
            Ask::Token(signed_by(&private, "one").into()),
            Ask::Key("sixteen-letters!".into()),
        ]
    };
    let told: Vec<String> = asked.ask(asks()).iter().map(denied).collect();
    assert_eq!(told, ["granted to anna", "granted to anna", "granted to b"]);
    assert_eq!(asked.authority.set(Prepared::read(&with).unwrap()), []);
    let changed = asked.authority.set(Prepared::read(&Settings { token_keys: vec![url], ..settings() }).unwrap());
    assert_eq!(changed, [Revocation::Subject("b".into(), u64::MAX)]);
    let told: Vec<String> = asked.ask(asks()).iter().map(denied).collect();
    assert!(
        told[0].starts_with("invalid") && told[1] == "granted to anna" && told[2].starts_with("invalid"),
        "{told:?}"
    );
    assert_eq!(server.count(), 1);
}

/// What is revoked gives nothing any more, whatever it came by; who is issued a new token gets in again.
#[test]
fn revocations_are_heeded() {
    let (secret, rows) =
        (Kept::new("revoke", SECRET), Kept::new("revoke-keys", "[[key]]\nname = \"b\"\nkey = \"sixteen-letters!\"\n"));
    let file = Kept::new("revocations", "");
    let settings = Settings {
        token_keys: vec![secret.source("secret")],
        api_keys: Some(rows.0.clone()),
        revocations: Some(file.0.clone()),
        ..settings()
    };
    let mut asked = Asked::with(&settings);
    let now = unix_s();
    let token = |id: &str, issued_s: u64| signed(&claims(&json!({"jti": id, "iat": issued_s})));
    asked.authority.revoke(&Revocation::Token("7".into())).unwrap();
    asked.authority.revoke(&Revocation::Subject("anna".into(), now - 10)).unwrap();
    assert_eq!(asked.authority.revoke(&Revocation::Subject("b".into(), now)), Ok(3));
    for _ in 0..2 {
        let tokens = [token("7", now), token("8", now - 11), token("8", now - 10)];
        let told: Vec<String> = tokens.iter().map(|token| denied(&asked.token(token))).collect();
        assert_eq!(told, ["invalid: it is revoked", "invalid: it is revoked", "granted to anna"]);
        assert_eq!(denied(&asked.ask(vec![Ask::Key("sixteen-letters!".into())])[0]), "invalid: it is revoked");
        let list = asked.authority.revoked();
        assert_eq!(list.as_array().unwrap().len(), 3);
        assert_eq!(list[2]["until"], u64::MAX, "a key does not end, and nor does this: {list}");
        // Once more, after a restart.
        asked = Asked::with(&settings);
    }
}

fn visit(headers: &str) -> Visit {
    let (method, target) = ("GET".into(), "/topics/a?token=hidden".into());
    Visit { peer: "192.0.2.7:1000".parse().unwrap(), method, target, headers: headers.into() }
}

fn hooked(server: &Server) -> Settings {
    Settings { hook_url: Some(server.url.clone()), ..settings() }
}

fn topic(action: Action, topic: &str) -> Ask {
    let peer = "192.0.2.7:1000".parse().unwrap();
    Ask::Topic { name: "Anna".into(), subject: "anna".into(), action, topic: topic.into(), peer }
}

/// The hook is told who comes and with what, answers as a token's claims do, and is asked once for all who ask the same.
#[test]
fn the_hook_is_asked() {
    let server = Server::start(|_, request| match request {
        _ if request.contains("\"topic\":\"no\"") => answer("403 Forbidden", ""),
        _ if request.contains("\"action\":\"publish\"") => answer("200 OK", ""),
        _ if request.contains("bad=1") => answer("401 Unauthorized", "{}"),
        _ => answer(
            "200 OK",
            r#"{"sub": "anna", "subscribe": ["users/{sub}/#"], "ttl": 60, "limits": {"connections": 2}}"#,
        ),
    });
    let mut asked = Asked::with(&hooked(&server));
    let other_port =
        Visit { peer: "192.0.2.7:2000".parse().unwrap(), ..visit("Cookie: a=1\nCookie: b=2\nAuthorization: Bearer x") };
    let asks = vec![
        Ask::Connect(Box::new(visit("Cookie: a=1\nCookie: b=2\nAuthorization: Bearer x"))),
        Ask::Connect(Box::new(other_port)),
        Ask::Connect(Box::new(visit("cookie: bad=1"))),
        topic(Action::Publish, "yes"),
        topic(Action::Publish, "no"),
        Ask::Token("opaque".into()),
    ];
    let verdicts = asked.ask(asks.clone());
    let told: Vec<String> = verdicts.iter().map(denied).collect();
    let (invalid, forbidden) = ("invalid: who decides that says no", "forbidden: who decides that says no");
    assert_eq!(told, ["granted to anna", "granted to anna", invalid, "granted to anna", forbidden, "granted to anna"]);
    let grant = verdicts[0].said.as_ref().unwrap();
    assert!(grant.gives(Action::Subscribe, "users/anna/x") && grant.limits.connections == Some(2));
    assert!(
        (55..=61).contains(&grant.expires_s.saturating_sub(unix_s())) && (1..=10_000).contains(&verdicts[0].holds_ms)
    );
    let yes = verdicts[3].said.as_ref().unwrap();
    assert!(
        yes.gives(Action::Publish, "yes")
            && !yes.gives(Action::Subscribe, "yes")
            && !yes.gives(Action::Publish, "other")
    );
    assert_eq!(server.count(), 5, "two asked the same");
    let told_again: Vec<String> = asked.ask(asks).iter().map(denied).collect();
    assert_eq!((told_again, server.count()), (told, 5), "answers hold for a while");
    let requests = server.requests.lock().unwrap();
    let first = requests.iter().find(|request| request.contains("a=1")).unwrap();
    assert!(first.starts_with("POST /asked HTTP/1.1\r\n"), "{first}");
    let body: Value = serde_json::from_str(first.split_once("\r\n\r\n").unwrap().1).unwrap();
    let headers = json!({"cookie": "a=1; b=2", "authorization": "Bearer x"});
    let expected = json!({"action": "connect", "peer": "192.0.2.7:1000", "method": "GET", "target": "/topics/a?token=hidden", "headers": headers});
    assert_eq!(body, expected);
}

/// A private authority vouches for the hook and for key sets if it is named, and nobody else does then; what is no authority is refused at
/// the start, with the setting's name.
#[test]
fn a_private_authority_vouches() {
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let file = Kept::new("auth-ca", own.pem());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let secret = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let config = config.with_no_client_auth().with_single_cert(vec![own.der().clone()], secret).unwrap();
    let server = Server::start_tls(Arc::new(config), |_, _| answer("200 OK", r#"{"sub": "anna", "publish": ["a"]}"#));
    let unknown = hooked(&server);
    let known = Settings { ca: Some(file.0.clone()), ..unknown.clone() };
    for (settings, expected) in [(unknown, "unavailable: "), (known.clone(), "granted to anna")] {
        let mut asked = Asked::with(&settings);
        let said = denied(&asked.ask(vec![Ask::Connect(Box::new(visit("")))])[0]);
        assert!(said.starts_with(expected), "{said}");
    }
    for (text, why) in [
        ("no certificate", "there is no certificate in it"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "auth-ca"),
    ] {
        let file = Kept::new("auth-ca-wrong", text);
        let wrong = Prepared::read(&Settings { ca: Some(file.0.clone()), ..known.clone() }).unwrap_err();
        assert!(wrong.len() == 1 && wrong[0].cause.contains(why) && wrong[0].cure.contains("PEM"), "{wrong:?}");
    }
}

/// A yes about a topic holds for as long as it says, and for the question itself if it says for no time; settings that are loaded again
/// have the hook asked again, and what it said goes on if it is down then.
#[test]
fn yes_about_a_topic() {
    let server = Server::start(|number, request| match number {
        4.. => None,
        _ if request.contains("\"topic\":\"once\"") => answer("200 OK", "{\"ttl\":0}"),
        _ if request.contains("\"topic\":\"short\"") => answer("200 OK", "{\"ttl\":3}"),
        _ => answer("200 OK", "{}"),
    });
    let settings = Settings { hook_stale_ms: Some(60_000), ..hooked(&server) };
    let mut asked = Asked::with(&settings);
    let asks = || ["once", "short", "long"].map(|name| topic(Action::Publish, name)).to_vec();
    let verdicts = asked.ask(asks());
    assert!(verdicts.iter().all(|verdict| verdict.said.is_ok()), "{verdicts:?}");
    let holds = [&verdicts[0], &verdicts[1], &verdicts[2]].map(|verdict| verdict.holds_ms);
    assert!(holds[0] == 0 && (1_000..=3_000).contains(&holds[1]) && (9_000..=10_000).contains(&holds[2]), "{holds:?}");
    asked.ask(vec![topic(Action::Publish, "long")]);
    assert_eq!(server.count(), 3);
    assert_eq!(asked.authority.set(Prepared::read(&settings).unwrap()), []);
    for _ in 0..2 {
        assert!(asked.ask(vec![topic(Action::Publish, "long")])[0].said.is_ok());
    }
    assert_eq!(server.count(), 4);
    asked.authority.set(Prepared::read(&settings).unwrap());
    assert!(asked.ask(vec![topic(Action::Publish, "long")])[0].said.is_ok() && server.count() == 5);
}

/// A hook that is slow, down, sends elsewhere, or says nonsense or too much is a hook that is down: nobody gets in by it, nobody waits
/// longer than its time, and nobody is told that what he showed is bad.
#[test]
fn a_hook_that_is_down() {
    let target = Server::start(|_, _| answer("200 OK", r##"{"subscribe": ["#"]}"##));
    let location = format!("302 Found\r\nLocation: {}", target.url);
    let (never, wait) = crossbeam_channel::bounded::<()>(0);
    for server in [
        Server::start(move |_, _| wait.recv().err().and(None)),
        Server::start(|_, _| None),
        Server::start(|_, _| answer("500 Oh No", "{}")),
        Server::start(|_, _| answer("404 Not Found", "{}")),
        Server::start(|_, _| answer("204 No Content", "")),
        Server::start(|_, _| answer("200 OK", "")),
        Server::start(|_, _| answer("200 OK", "yes")),
        Server::start(|_, _| answer("200 OK", r#"["subscribe"]"#)),
        Server::start(|_, _| answer("200 OK", r##"{"subscribe": "#"}"##)),
        Server::start(|_, _| answer("200 OK", r##"{"sub": "#", "subscribe": ["{sub}"]}"##)),
        Server::start(|_, _| answer("200 OK", r##"{"subscribe": ["#"], "ttl": "long"}"##)),
        Server::start(|_, _| answer("200 OK", &format!("{{\"name\": \"{}\"}}", "x".repeat(300 << 10)))),
        Server::start(move |_, _| answer(&location, "")),
    ] {
        let mut asked = Asked::with(&Settings { hook_timeout_ms: 200, ..hooked(&server) });
        let asks = (0..8).map(|number| Ask::Connect(Box::new(visit(&format!("cookie: {number}"))))).collect();
        let begun = Instant::now();
        for verdict in asked.ask(asks) {
            assert_eq!(denied(&verdict), "unavailable: who decides that cannot be asked now");
            assert!(verdict.holds_ms <= 1_000);
        }
        assert!(begun.elapsed() < DEADLINE / 2, "two at a time, not one after the other");
    }
    assert_eq!(target.count(), 0, "redirects are not followed");
    drop(never);
}

/// While the hook is down, what it said before goes on for as long as the configuration says, and not without that.
#[test]
fn answers_go_on_while_the_hook_is_down() {
    for (stale_ms, expected) in
        [(Some(60_000), "granted to anna"), (None, "unavailable: who decides that cannot be asked now")]
    {
        let server = Server::start(|number, _| if number == 0 { answer("200 OK", r#"{"sub": "anna"}"#) } else { None });
        let mut asked = Asked::with(&Settings { hook_cache_ms: 0, hook_stale_ms: stale_ms, ..hooked(&server) });
        let mut ask = || denied(&asked.ask(vec![Ask::Connect(Box::new(visit("cookie: 1")))])[0]);
        assert_eq!((ask(), ask()), ("granted to anna".to_owned(), expected.to_owned()));
        let revoked = Revocation::Subject("anna".into(), unix_s() + 5);
        asked.authority.revoke(&revoked).unwrap();
        let told = denied(&asked.ask(vec![Ask::Connect(Box::new(visit("cookie: 1")))])[0]);
        assert!(told.starts_with("unavailable"), "what is revoked does not go on: {told}");
        assert!(server.count() >= 3);
    }
}

/// A hook that never answers makes no more wait than there is room for.
#[test]
fn questions_to_the_hook_are_bounded() {
    let (never, wait) = crossbeam_channel::bounded::<()>(0);
    let server = Server::start(move |_, _| wait.recv().err().and(None));
    let mut asked = Asked::with(&Settings { hook_parallel: 1, ..hooked(&server) });
    for word in 0..hook::WAITING_MAX as u64 + 100 {
        let ask = Ask::Connect(Box::new(visit(&format!("cookie: {}", word % 2))));
        asked.authority.ask(3, Question { word, ask });
    }
    for verdict in asked.verdicts(100) {
        assert!(verdict.word >= hook::WAITING_MAX as u64 && denied(&verdict).contains("too many"), "{verdict:?}");
    }
    drop(never);
}

/// Nothing of what peers show, and of no secret, is ever in a log line or a debug output.
#[test]
fn secrets_stay_secret() {
    use std::io;
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let (good, bad) = (signed(&claims(&json!({}))), "eyJhbGciOiJIUzI1NiJ9.e30.hidden-signature");
    let mut shown = String::new();
    tracing::subscriber::with_default(subscriber, || {
        let server = Server::start(|_, _| answer("500 Oh No", "hidden-answer"));
        let (secret, rows) = (
            Kept::new("shown", SECRET),
            Kept::new("shown-keys", "[[key]]\nname = \"b\"\nkey = \"hidden-api-key-1\"\n"),
        );
        let url = format!("{}?key=in-the-query", server.url);
        let sources = vec![secret.source("secret"), KeySource::Url(url)];
        let settings = Settings { token_keys: sources, api_keys: Some(rows.0.clone()), ..hooked(&server) };
        let prepared = Prepared::read(&settings).unwrap();
        shown += &format!("{prepared:?}");
        let mut asked = Asked::with(&settings);
        let verdicts = asked.ask(vec![
            Ask::Token(good.as_str().into()),
            Ask::Token(bad.into()),
            Ask::Key("hidden-api-key-1".into()),
            Ask::Key("hidden-api-key-2".into()),
            Ask::Connect(Box::new(visit("cookie: hidden-cookie"))),
        ]);
        shown += &format!("{verdicts:?} {:?}", asked.authority);
        let broken = Kept::new("shown-broken", "[[key]]\nname = \"b\"\nkey = \"hidden-api-key-1");
        shown += &format!("{:?}", Prepared::read(&Settings { api_keys: Some(broken.0.clone()), ..settings }));
    });
    let logged = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("auth-url") && logged.contains("cannot be fetched"), "something was logged: {logged}");
    assert!(!logged.contains("in-the-query"), "{logged}");
    for hidden in [SECRET, "hidden", &good, good.rsplit_once('.').unwrap().1, "eyJ"] {
        assert!(!logged.contains(hidden), "{hidden} in {logged}");
        assert!(!shown.contains(hidden), "{hidden} in {shown}");
    }
}
