//! `corecast token`: makes a token for trying, a secret, or an API key; and says what a token gives.
//!
//! Never: shows a secret that it was given; those that it makes are shown once.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corecast::authority::secret::{Digest, Secret};
use corecast::authority::token::{self, Algorithm};
use corecast::authority::{Authority, Prepared, grant_in};
use corecast::config::{Flags, duration_ms};
use corecast::grant::{Ask, Denial, Grant, Question};
use corecast::io::check::{StartError, fault};
use corecast::io::clock::unix_s;
use corecast::io::doorbell::Doorbell;
use corecast::io::poll::{self, For};
use serde_json::{Map, Value, json};

use super::Outcome;

const AFTER_HELP: &str = "\
Examples:
  corecast token --new-key ./secret
  corecast token --key ./secret --sub anna --publish 'rooms/+/{sub}' --subscribe 'rooms/#' --expires 1h
  corecast token --show - --token-key secret:./secret <token.txt
  corecast token --new-api-key billing --publish 'invoices/#'";

/// Bytes of a secret that is made: enough for each of HS256, HS384 and HS512.
const SECRET_BYTES: usize = 64;
/// Bytes of an API key.
const API_KEY_BYTES: usize = 24;
/// How long key sets are waited for.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Signs a token with the key in this file: a secret for HS256, HS384, HS512; a private key (PEM, PKCS 8) for the others.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// HS256, HS384, HS512, RS256, PS256, ES256, ES384 or EdDSA.
    #[arg(long, value_name = "NAME", default_value = "HS256")]
    algorithm: String,
    /// Name of the key (`kid`).
    #[arg(long, value_name = "NAME")]
    kid: Option<String>,
    /// Whose the token is (`sub`).
    #[arg(long, value_name = "NAME")]
    sub: Option<String>,
    /// A pattern of topics that it may publish to; may be given several times.
    #[arg(long, value_name = "PATTERN")]
    publish: Vec<String>,
    /// A pattern of topics that it may read; may be given several times.
    #[arg(long, value_name = "PATTERN")]
    subscribe: Vec<String>,
    /// When it ends, from now: 90s, 5m, 1h.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    expires: String,
    /// A further claim, as in aud=corecast; JSON if it is, else text. May be given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    claim: Vec<String>,
    /// Makes a random secret, and writes it into this file, which must not be there yet.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "show", "new_api_key"])]
    new_key: Option<PathBuf>,
    /// Makes an API key of this name, and the row for the file of `api-keys`; with --publish and --subscribe.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["key", "show"])]
    new_api_key: Option<String>,
    /// Says what a token says, and what it gives under the configuration; `-` reads it from stdin, where no other user sees it.
    #[arg(long, value_name = "TOKEN", conflicts_with = "key")]
    show: Option<String>,
    #[command(flatten)]
    flags: Flags,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let said = match arguments {
        Arguments { new_key: Some(path), .. } => new_key(path),
        Arguments { new_api_key: Some(name), .. } => new_api_key(name, arguments),
        Arguments { show: Some(token), .. } => show(token, arguments),
        Arguments { key: Some(path), .. } => sign(path, arguments),
        _ => Err(vec![wrong("nothing to do", "say --key FILE, --new-key FILE, --new-api-key NAME or --show TOKEN")]),
    };
    match said {
        Ok(text) => super::say(&text),
        Err(problems) => Outcome::CannotStart(problems),
    }
}

type Said = Result<String, Vec<StartError>>;

fn wrong(cause: impl Into<String>, cure: &str) -> StartError {
    StartError { cause: cause.into(), cure: cure.to_owned() }
}

fn new_key(path: &Path) -> Said {
    let secret = Secret::draw(SECRET_BYTES).map_err(|cause| vec![wrong(cause, "see the log of the kernel (dmesg)")])?;
    let made = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).and_then(|mut file| {
        file.write_all(secret.bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    });
    made.map_err(|error| {
        vec![wrong(format!("{}: {error}", path.display()), "name a file that is not there yet, in a folder that is")]
    })?;
    let path = path.display();
    Ok(format!(
        "{path} has a new secret. Give it to the engine with --token-key secret:{path}, and to who signs tokens.\n"
    ))
}

fn new_api_key(name: &str, arguments: &Arguments) -> Said {
    let key = Secret::draw(API_KEY_BYTES).map_err(|cause| vec![wrong(cause, "see the log of the kernel (dmesg)")])?;
    let list = |patterns: &[String]| Value::from(patterns.to_vec()).to_string();
    let row = format!(
        "[[key]]\nname = {}\nsha256 = \"{}\"\npublish = {}\nsubscribe = {}\n",
        Value::from(name),
        Digest::of(key.bytes()).text(),
        list(&arguments.publish),
        list(&arguments.subscribe)
    );
    let key = String::from_utf8_lossy(key.bytes());
    Ok(format!("# The key, which is shown once: {key}\n# The row for the file of api-keys:\n{row}"))
}

fn sign(path: &Path, arguments: &Arguments) -> Said {
    let one = |cause: String, cure: &str| vec![wrong(cause, cure)];
    let names: Vec<_> = Algorithm::ALL.iter().map(|(name, _)| *name).collect();
    let algorithm = Algorithm::named(&arguments.algorithm)
        .ok_or_else(|| one(format!("--algorithm: `{}` is none", arguments.algorithm), &names.join(", ")))?;
    let key = std::fs::read(path)
        .map_err(|error| one(format!("{}: {error}", path.display()), "name a file that can be read"))?;
    let expires_ms = duration_ms(&arguments.expires)
        .map_err(|cause| one(format!("--expires: {cause}"), "a whole number and s, m or h, as in 1h"))?;
    for pattern in arguments.publish.iter().chain(&arguments.subscribe) {
        let example = pattern.replace("{sub}", "a");
        corecast_protocol::pattern::validate(&example)
            .map_err(|error| one(format!("`{pattern}`: {error}"), "as in prices/+ or rooms/#"))?;
    }
    let now = unix_s();
    let mut claims = Map::new();
    if let Some(sub) = &arguments.sub {
        claims.insert("sub".to_owned(), sub.as_str().into());
    }
    claims.insert("iat".to_owned(), now.into());
    claims.insert("exp".to_owned(), (now + expires_ms / 1000).into());
    let claim = super::configuration(&arguments.flags)?.config.authority.claim;
    claims.insert(claim, json!({ "publish": arguments.publish, "subscribe": arguments.subscribe }));
    for claim in &arguments.claim {
        let (name, value) =
            claim.split_once('=').ok_or_else(|| one(format!("--claim: `{claim}` has no ="), "as in aud=corecast"))?;
        claims.insert(name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into()));
    }
    let signed = token::sign(&Value::Object(claims), algorithm, &key, arguments.kid.as_deref());
    signed.map(|token| token + "\n").map_err(|cause| one(format!("{}: {cause}", path.display()), "see --help"))
}

fn show(token: &str, arguments: &Arguments) -> Said {
    let mut text = token.to_owned();
    if token == "-" {
        text.clear();
        let read = std::io::stdin().lock().take(2 * token::TOKEN_BYTES_MAX as u64).read_to_string(&mut text);
        read.map_err(|error| vec![fault("read stdin", &error)])?;
    }
    let token = text.trim();
    let settings = super::configuration(&arguments.flags)?.config.authority;
    let mut shown = String::new();
    match token::head(token) {
        Ok(head) => {
            let kid = head.kid.map_or(String::new(), |kid| format!(", key {kid:?}"));
            shown += &format!("algorithm: {}{kid}\n", head.algorithm.name());
        }
        Err(cause) => return Err(vec![wrong(cause, "give a token as it is: three parts, joined by dots")]),
    }
    let claims = token::unverified(token).unwrap_or_default();
    shown += &format!("claims: {:#}\n", Value::Object(claims.clone()));
    if settings.token_keys.is_empty() {
        shown += "signature: not looked at, as the configuration has no token-key\n";
        shown += &match grant_in(&settings, &claims, unix_s()) {
            Ok(grant) => given("it would give", &grant),
            Err(cause) => format!("it would be refused: {cause}\n"),
        };
        return Ok(shown);
    }
    let verdict = judged(token, arguments)?;
    shown += &match &verdict {
        Ok(grant) => given("it gives", grant),
        Err(Denial::Invalid(cause) | Denial::Forbidden(cause)) => format!("it is refused: {cause}\n"),
        Err(Denial::Unavailable(cause)) => format!("nobody can say now: {cause}\n"),
    };
    Ok(shown)
}

/// Asks an authority as the engine has one, but for what it would share with a running one: revocations, the hook.
fn judged(token: &str, arguments: &Arguments) -> Result<Result<Box<Grant>, Denial>, Vec<StartError>> {
    let mut settings = super::configuration(&arguments.flags)?.config.authority;
    (settings.revocations, settings.hook_url) = (None, None);
    let bell = Doorbell::new().map_err(|error| vec![fault("make doorbells", &error)])?;
    let mut authority = Authority::new(Prepared::read(&settings)?, &bell).map_err(|problem| vec![problem])?;
    authority.ask(0, Question { word: 0, ask: Ask::Token(token.into()) });
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some((_, verdict)) = authority.take() {
            return Ok(verdict.said);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Err(Denial::Unavailable("the keys that verify tokens did not come")));
        }
        let rung = poll::wait(&[(bell.as_fd(), For::Reading)], Some(left.min(Duration::from_secs(1))));
        if rung.map_err(|error| vec![fault("wait", &error)])? == [true] {
            bell.hear();
        }
        authority.hear();
    }
}

fn given(how: &str, grant: &Grant) -> String {
    let list = |patterns: &mut dyn Iterator<Item = &str>| {
        let list: Vec<&str> = patterns.collect();
        if list.is_empty() { "nothing".to_owned() } else { list.join(" ") }
    };
    let end = match grant.expires_s {
        u64::MAX => "never ends".to_owned(),
        expires_s => format!("ends in {} s", expires_s.saturating_sub(unix_s())),
    };
    if grant.unlisted {
        return format!(
            "{how} {:?}: nothing, unless a hook is asked about single topics (auth-ask); {end}\n",
            &*grant.name
        );
    }
    format!(
        "{how} {:?}: publish {}; subscribe {}; {end}\n",
        &*grant.name,
        list(&mut grant.publish.iter()),
        list(&mut grant.subscribe.iter())
    )
}
