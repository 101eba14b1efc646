//! Where values come from: flag before environment before file before default.
//!
//! Owns: the flags as clap sees them, the reading of the TOML file and of the environment, and for every setting the
//! place its value came from, so that an error names a line and `corecast check` can say who decided.
//! Touches: the file, once. Never: prints, exits.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use toml::de::{DeTable, DeValue};

use super::rules::{RulePlace, RulesRead, TOPICS};
use super::table::is_number;
use super::{Config, Host, Kind, LogFormat, SETTINGS, Setting};
use crate::io::check::StartError;

/// Environment variables that are ours but are no settings of an engine.
const OTHER_VARIABLES: [&str; 3] = ["CORECAST_CONFIG", "CORECAST_URL", "CORECAST_TOKEN"];

/// What the command line said of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The TOML file.
    pub file: Option<PathBuf>,
    /// Key and value of every setting that was given; several values are joined by commas.
    pub given: Vec<(&'static str, String)>,
}

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("TOML file with any of the settings below, by the same names; read again on SIGHUP, when those marked [reload] can \
                   change [env: CORECAST_CONFIG]");
        SETTINGS.iter().fold(command.arg(file), |command, setting| command.arg(flag(setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args(command)
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Flags, clap::Error> {
        let mut flags = Flags { file: matches.get_one::<PathBuf>("config").cloned(), given: Vec::new() };
        for setting in SETTINGS {
            if let Some(values) = matches.get_many::<String>(setting.key) {
                let values: Vec<_> = values.map(String::as_str).collect();
                flags.given.push((setting.key, values.join(",")));
            }
        }
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Flags::from_arg_matches(matches)?;
        Ok(())
    }
}

fn flag(setting: &'static Setting) -> Arg {
    let reload = if setting.reloads { " [reload]" } else { "" };
    let arg = Arg::new(setting.key)
        .long(setting.key)
        .value_name(setting.value)
        .help_heading(setting.heading)
        .help(format!("{} [default: {}]{reload}", setting.help, setting.default));
    match setting.kind {
        Kind::One => arg,
        Kind::Many => arg.action(ArgAction::Append),
        // `--echo` alone is on; `--echo=false` overrules a file.
        Kind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("BOOL"),
    }
}

/// Who decided on a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody.
    Default,
    /// A line of the file.
    File(PathBuf, usize),
    /// An environment variable, by name.
    Environment(String),
    /// A flag, by name.
    Flag(&'static str),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Environment(variable) => f.write_str(variable),
            Origin::Flag(key) => write!(f, "--{key}"),
        }
    }
}

/// A configuration with the place every value came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Who decided, one per row of the table.
    pub origins: Vec<Origin>,
    /// Where the rules stand, in the order of the file.
    pub rules: Vec<RulePlace>,
    /// Remarks worth a warning, such as an environment variable that looks misspelt.
    pub notes: Vec<String>,
}

/// Reads all sources and puts them together; `environment` is what `std::env::vars_os` gives.
///
/// # Errors
/// Everything that cannot be read, not only the first. What can be read may still make no sense together: see
/// [`Config::check`].
pub fn load(
    flags: &Flags,
    environment: impl Iterator<Item = (OsString, OsString)>,
    host: &Host,
) -> Result<Loaded, Vec<StartError>> {
    read(flags, environment, host).map_err(|(_, problems)| problems)
}

/// Says how log lines are to look, as far as the sources say so: they may be wrong otherwise, and that is to be told in the same form.
#[must_use]
pub fn log_format(flags: &Flags, environment: impl Iterator<Item = (OsString, OsString)>, host: &Host) -> LogFormat {
    match read(flags, environment, host) {
        Ok(loaded) => loaded.config.log_format,
        Err((config, _)) => config.log_format,
    }
}

/// The same as [`load`]; what is wrong comes with what could be read.
fn read(
    flags: &Flags,
    environment: impl Iterator<Item = (OsString, OsString)>,
    host: &Host,
) -> Result<Loaded, (Box<Config>, Vec<StartError>)> {
    let mut problems = Vec::new();
    // An empty variable counts as absent: that is how shells and container files say "not set".
    let environment: HashMap<String, OsString> = environment
        .filter(|(_, value)| !value.is_empty())
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with("CORECAST_"))
        .collect();
    let notes = misspelt(&environment);

    let file = flags.file.clone().or_else(|| environment.get("CORECAST_CONFIG").map(PathBuf::from));
    let (from_file, rules) = file.map(|path| read_file(&path, &mut problems)).unwrap_or_default();

    let mut config = Config::unset();
    let mut origins = Vec::with_capacity(SETTINGS.len());
    for setting in SETTINGS {
        let variable = setting.variable();
        let said = flags.given.iter().find(|(key, _)| *key == setting.key);
        let (text, origin) = if let Some((key, text)) = said {
            (text.clone(), Origin::Flag(key))
        } else if let Some(value) = environment.get(&variable) {
            (value.to_string_lossy().into_owned(), Origin::Environment(variable))
        } else if let Some((text, origin)) = from_file.get(setting.key) {
            (text.clone(), origin.clone())
        } else {
            (setting.default.to_owned(), Origin::Default)
        };
        if let Err(error) = (setting.set)(&mut config, &text, host) {
            problems.push(StartError {
                cause: match &origin {
                    Origin::File(..) => format!("{origin}: {}: {error}", setting.key),
                    _ => format!("{origin}: {error}"),
                },
                cure: format!("{} is: {}", setting.key, setting.help),
            });
        }
        origins.push(origin);
    }
    // What a rule may say depends on the settings.
    let mut places = Vec::new();
    if problems.is_empty() {
        places = rules.compile(&mut config, &mut |cause, cure| problems.push(StartError { cause, cure }));
    }
    if problems.is_empty() {
        Ok(Loaded { config, origins, rules: places, notes })
    } else {
        Err((Box::new(config), problems))
    }
}

/// What a file says: key -> (text, place), and its rules.
type FileRead = (HashMap<&'static str, (String, Origin)>, RulesRead);

/// Reads the file. Everything wrong in it becomes a problem with its line.
fn read_file(path: &Path, problems: &mut Vec<StartError>) -> FileRead {
    let mut wrong = |cause: String, cure: String| problems.push(StartError { cause, cure });
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let cause = format!("cannot read the configuration file {}: {error}", path.display());
            wrong(cause, "check the path given with --config or CORECAST_CONFIG".to_owned());
            return FileRead::default();
        }
    };
    let line = |offset: usize| 1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count();
    let table = match DeTable::parse(&text) {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(1, |span| line(span.start));
            let cause = format!("{}:{line}: {}", path.display(), error.message().trim_end());
            wrong(cause, "write one `key = value` a line, text in quotes (toml.io)".to_owned());
            return FileRead::default();
        }
    };
    let at = |offset: usize| Origin::File(path.to_owned(), line(offset));
    let (mut found, mut rules) = FileRead::default();
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let place = at(key.span().start);
        let name = key.get_ref().as_ref();
        if name == TOPICS {
            rules = RulesRead::read(value.get_ref(), &place, &at, &mut wrong);
            continue;
        }
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == name) else {
            let cure = match nearest(name, SETTINGS.iter().map(|setting| setting.key).chain([TOPICS])) {
                Some(key) => format!("did you mean `{key}`?"),
                None => "see `corecast serve --help` for the keys there are".to_owned(),
            };
            wrong(format!("{place}: unknown key `{name}`"), cure);
            continue;
        };
        match plain(value.get_ref(), setting.kind) {
            Some(text) => {
                found.insert(setting.key, (text, place));
            }
            None => {
                let cause = format!("{place}: {name}: {} does not fit here", value.get_ref().type_str());
                wrong(cause, format!("write it as in `{name} = {}`", example(setting)));
            }
        }
    }
    (found, rules)
}

/// Returns a TOML value as the text a flag would have, or nothing if its type does not fit.
pub(super) fn plain(value: &DeValue<'_>, kind: Kind) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(integer) if kind != Kind::Switch && integer.radix() == 10 => Some(integer.as_str().to_owned()),
        DeValue::Boolean(on) if kind == Kind::Switch => Some(on.to_string()),
        DeValue::Array(list) if kind == Kind::Many && !list.is_empty() => {
            let parts = list.iter().map(|part| part.get_ref().as_str());
            parts.collect::<Option<Vec<_>>>().map(|parts| parts.join(","))
        }
        _ => None,
    }
}

fn example(setting: &Setting) -> String {
    match setting.kind {
        Kind::Switch => "true".to_owned(),
        Kind::Many => format!("[\"{}\"]", setting.default),
        Kind::One if is_number(setting.default) => setting.default.to_owned(),
        Kind::One => format!("\"{}\"", setting.default),
    }
}

/// Finds variables that are nearly one of ours. Unknown ones alone are no error: an orchestrator that runs a service
/// called corecast invents `CORECAST_SERVICE_HOST` and its like.
fn misspelt(environment: &HashMap<String, OsString>) -> Vec<String> {
    // The prefix is no part of the comparison: it would make every short name look alike.
    let known: Vec<String> = SETTINGS.iter().map(Setting::variable).chain(OTHER_VARIABLES.map(str::to_owned)).collect();
    let stem = |name: &str| name.trim_start_matches("CORECAST_").to_owned();
    let stems: Vec<String> = known.iter().map(|name| stem(name)).collect();
    let mut notes: Vec<String> = environment
        .keys()
        .filter(|name| !known.contains(name))
        .filter_map(|name| {
            let near = nearest(&stem(name), stems.iter().map(String::as_str))?;
            Some(format!("the environment variable {name} is not used; did you mean CORECAST_{near}?"))
        })
        .collect();
    notes.sort();
    notes
}

/// Returns the candidate that `name` was probably meant to be, if one is near enough.
pub(super) fn nearest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let tidy = |text: &str| text.replace('_', "-").to_ascii_lowercase();
    let name = tidy(name);
    // A third of the letters may be wrong, but at least one and at most three.
    let allowed = (name.len() / 3).clamp(1, 3);
    candidates
        .map(|candidate| (distance(&name, &tidy(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Counts the letters to insert, delete, replace or swap to get from `a` to `b` (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::tests::host;
    use super::*;

    fn flags(given: &[(&'static str, &str)], file: Option<&Path>) -> Flags {
        Flags {
            file: file.map(Path::to_owned),
            given: given.iter().map(|(key, text)| (*key, (*text).to_owned())).collect(),
        }
    }

    fn env(pairs: &[(&str, &str)]) -> std::vec::IntoIter<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect::<Vec<_>>().into_iter()
    }

    /// A file that lives as long as the test.
    struct File(PathBuf);
    impl File {
        fn new(name: &str, text: &str) -> File {
            let path = std::env::temp_dir().join(format!("corecast-{}-{name}.toml", std::process::id()));
            fs::write(&path, text).unwrap();
            File(path)
        }
    }
    impl Drop for File {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    /// Every setting can be given by flag, environment and file, and each beats the next.
    #[test]
    fn precedence_holds_for_every_setting() {
        let host = host();
        for setting in SETTINGS {
            let mut values = match setting.key {
                "listen" | "admin" => ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"],
                "origins" => ["https://a", "https://b", "https://c"],
                "cores" => ["1", "2", "3"],
                "tls-cert" | "tls-key" | "tls-client-ca" | "take-over" | "snapshot" => ["/a", "b", "c/d"],
                "tls-client-auth" => ["optional", "required", "off"],
                "proxy-protocol" => ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"],
                "trusted-proxies" => ["10.0.0.0/8", "::1", "fd00::/8"],
                "unix-mode" => ["0600", "0666", "0640"],
                "unix-owner" => ["1", "2:3", ":4"],
                "unix-grants" => ["uid:1", "gid:2 publish:a", "uid:3 subscribe:#"],
                "forwarded-header" => ["forwarded", "x-forwarded-for", "forwarded"],
                "lag" => ["replay", "close", "replay"],
                "log-format" => ["human", "json", "human"],
                "log-level" => ["warn", "error", "debug"],
                "access-log" => ["all", "sampled", "off"],
                _ if setting.kind == Kind::Switch => ["true", "false", "true"],
                "token-cookie" => ["a", "b", "c"],
                "token-key" => ["secret:/a", "pem:/b", "https://c"],
                "api-keys" | "auth-ca" | "certificate-grants" | "revocations" | "admin-token" => ["/a", "./b", "/c/d"],
                "token-expiry" => ["optional", "required", "optional"],
                "token-leeway" | "token-max-age" | "auth-cache" | "auth-down" => ["2m", "3m", "4m"],
                "auth-url" => ["https://a", "https://b/c", "http://127.0.0.1"],
                "auth-ask" => ["connect", "publish", "connect,subscribe"],
                "auth-headers" => ["cookie", "host", "origin"],
                "stream-seconds" | "drain-time" => ["11s", "12s", "13s"],
                key if key.ends_with("timeout") || key.ends_with("interval") || key.ends_with("after") => {
                    ["11s", "12s", "13s"]
                }
                "memory" | "log-bytes" | "stream-bytes" => ["1M", "2M", "3M"],
                "max-message" | "history-bytes" | "compress-from" => ["3k", "2k", "4k"],
                key if key.starts_with("publish-bytes") => ["3k", "2k", "4k"],
                _ => ["11", "12", "13"],
            }
            .into_iter();
            let mut next = || values.next().unwrap();
            let (flag, variable, key) = (next(), next(), next());
            let quoted = if setting.kind == Kind::Switch { key.to_owned() } else { format!("\"{key}\"") };
            let file = File::new(setting.key, &format!("{} = {quoted}\n", setting.key));
            let name = setting.variable();
            let shown = |flags: &Flags, env: std::vec::IntoIter<(OsString, OsString)>| {
                let loaded = load(flags, env, &host).unwrap();
                (setting.show)(&loaded.config)
            };
            let said = [(setting.key, flag)];
            assert_eq!(shown(&flags(&said, Some(&file.0)), env(&[(&name, variable)])), flag);
            assert_eq!(shown(&flags(&[], Some(&file.0)), env(&[(&name, variable)])), variable);
            assert_eq!(shown(&flags(&[], Some(&file.0)), env(&[(&name, "")])), key, "an empty variable is none");
            let path = file.0.to_str().unwrap();
            assert_eq!(shown(&flags(&[], None), env(&[("CORECAST_CONFIG", path)])), key);
        }
    }

    /// Mistakes in the file are told with their line, all at once, and near misses with what was probably meant.
    #[test]
    fn mistakes_in_the_file_have_a_line() {
        let text = "# comment\nhistroy-messages = 3\nshards = 0\nlisten = [1, 2]\nwhatever-it-is = 1\n\n[limits]\na = 1\n\
                    history_bytes = 2\n";
        let file = File::new("mistakes", text);
        let problems = load(&flags(&[], Some(&file.0)), env(&[]), &host()).unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let path = file.0.display();
        for (problem, expected) in told.iter().zip([
            (2, "unknown key `histroy-messages`", "did you mean `history-messages`?"),
            (4, "listen: array does not fit here", "listen = [\"127.0.0.1:8080\"]"),
            (5, "unknown key `whatever-it-is`", "serve --help"),
            (7, "unknown key `limits`", "serve --help"),
            (3, "shards: `0` is out of range: 1 to 256", "Number of shards"),
        ]) {
            assert!(problem.starts_with(&format!("{path}:{}: {}", expected.0, expected.1)), "{problem}");
            assert!(problem.contains(expected.2), "{problem}");
        }
        assert_eq!(told.len(), 5, "{told:?}");
    }

    /// A file that is not TOML, or not there, is one problem that says where to look.
    #[test]
    fn files_that_cannot_be_read() {
        let file = File::new("broken", "echo = true\nshards = = 3\n");
        let problems = load(&flags(&[], Some(&file.0)), env(&[]), &host()).unwrap_err();
        assert!(problems[0].cause.starts_with(&format!("{}:2: ", file.0.display())), "{problems:?}");
        let twice = File::new("twice", "shards = 1\nshards = 2\n");
        let problems = load(&flags(&[], Some(&twice.0)), env(&[]), &host()).unwrap_err();
        assert!(problems[0].cause.contains(":2: duplicate key"), "{problems:?}");
        let problems = load(&flags(&[], Some(Path::new("/nowhere/at.toml"))), env(&[]), &host()).unwrap_err();
        assert!(problems[0].cause.contains("cannot read the configuration file /nowhere/at.toml"), "{problems:?}");
    }

    /// A bad value in a flag or a variable names it.
    #[test]
    fn mistakes_elsewhere_are_named() {
        let problems = load(&flags(&[("shards", "many")], None), env(&[("CORECAST_LAG", "x")]), &host()).unwrap_err();
        assert!(problems[0].cause.starts_with("--shards: `many` is not a whole number"), "{problems:?}");
        assert!(problems[1].cause.starts_with("CORECAST_LAG: `x` is not one of"), "{problems:?}");
    }

    /// A variable that looks misspelt is remarked; one that an orchestrator makes up is not.
    #[test]
    fn misspelt_variables_are_remarked() {
        let vars = [
            ("CORECAST_SHARD", "2"),
            ("CORECAST_SERVICE_HOST", "10.0.0.1"),
            ("CORECAST_PORT", "tcp://10.0.0.1:80"),
            ("CORECAST_URL", "http://x"),
            ("CORECAST_TOKEN", "x"),
            ("OTHER", "1"),
        ];
        let loaded = load(&flags(&[], None), env(&vars), &host()).unwrap();
        assert_eq!(
            loaded.notes,
            ["the environment variable CORECAST_SHARD is not used; did you mean CORECAST_SHARDS?"]
        );
    }

    /// The distance counts each of its four operations as one.
    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "ac", 1),
            ("abc", "abxc", 1),
            ("abc", "axc", 1),
            ("abc", "acb", 1),
            ("", "abc", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }
}
