//! Rules of the file: `[[topics]]` tables, the keys they may have, and what holds for one topic and why.
//!
//! Owns: where each value stands; the keys are [`RULE_KEYS`]. Touches: text. Never: says what holds for a topic by itself, that is [`Rules`]'.

use std::fmt::Write as _;

use corecast_protocol::{pattern, topic};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::rule_keys::{NO_KEY, NO_RULE, RULE_KEYS, RuleKey, UNSAID};
use super::sources::{Loaded, Origin, nearest, plain};
use super::{Config, SETTINGS, units};
use crate::shard::{RULES_MAX, Rule, Rules, Terms};

/// What the list of rules is called in the file.
pub(super) const TOPICS: &str = "topics";
/// The key that says which topics a rule is about.
const MATCH: &str = "match";

/// Where a rule stands, and each of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulePlace {
    /// Its pattern.
    pub pattern: Box<str>,
    /// Where it begins.
    pub origin: Origin,
    /// Its keys, as far as it has them, and where they stand.
    pub keys: Vec<(&'static str, Origin)>,
}

/// The rules of a file, as they are read.
#[derive(Debug, Default)]
pub(super) struct RulesRead {
    rules: Vec<Rule>,
    places: Vec<RulePlace>,
}

/// What is wrong: a cause, and a cure.
type Wrong<'w> = &'w mut dyn FnMut(String, String);

impl RulesRead {
    /// Reads the value of `topics`; everything that is wrong is told.
    pub(super) fn read(
        value: &DeValue<'_>,
        place: &Origin,
        at: &dyn Fn(usize) -> Origin,
        wrong: Wrong<'_>,
    ) -> RulesRead {
        let mut read = RulesRead::default();
        let DeValue::Array(list) = value else {
            wrong(format!("{place}: {TOPICS} is a list of rules"), EXAMPLE.to_owned());
            return read;
        };
        for rule in list {
            let begin = at(rule.span().start);
            let DeValue::Table(table) = rule.get_ref() else {
                wrong(format!("{begin}: a rule is a table"), EXAMPLE.to_owned());
                continue;
            };
            if read.rules.len() == RULES_MAX {
                wrong(
                    format!("{begin}: there are more than {RULES_MAX} rules"),
                    "let + and # match several topics".to_owned(),
                );
                break;
            }
            read.read_rule(table, begin, at, wrong);
        }
        read
    }

    fn read_rule(&mut self, table: &DeTable<'_>, begin: Origin, at: &dyn Fn(usize) -> Origin, wrong: Wrong<'_>) {
        let mut place = RulePlace { pattern: Box::default(), origin: begin, keys: Vec::new() };
        let mut terms = Terms::default();
        let mut matches = None;
        let mut entries: Vec<(&Spanned<_>, &Spanned<DeValue<'_>>)> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let (origin, name): (_, &str) = (at(key.span().start), key.get_ref().as_ref());
            if name == MATCH {
                matches = Some((origin, value.get_ref()));
                continue;
            }
            let Some(key) = RULE_KEYS.iter().find(|key| key.key == name) else {
                let names = [MATCH].into_iter().chain(RULE_KEYS.iter().map(|key| key.key));
                let cure = match nearest(name, names.clone()) {
                    // A file has no way back out of a table.
                    _ if SETTINGS.iter().any(|setting| setting.key == name) => {
                        format!("a rule has no `{name}`; settings stand above the first [[{TOPICS}]]")
                    }
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("a rule may have {}", names.collect::<Vec<_>>().join(", ")),
                };
                wrong(format!("{origin}: unknown key `{name}` of a rule"), cure);
                continue;
            };
            match plain(value.get_ref(), key.kind).map(|text| (key.set)(&mut terms, &text)) {
                Some(Ok(())) => place.keys.push((key.key, origin)),
                Some(Err(error)) => wrong(format!("{origin}: {name}: {error}"), format!("{name} is: {}", key.help)),
                None => wrong(
                    format!("{origin}: {name}: {} does not fit here", value.get_ref().type_str()),
                    format!("write it as in `{name} = {}`", key.example),
                ),
            }
        }
        match matches {
            None => wrong(format!("{}: this rule has no `{MATCH}`", place.origin), EXAMPLE.to_owned()),
            Some((origin, DeValue::String(text))) => {
                if let Err(error) = pattern::validate(text) {
                    wrong(format!("{origin}: {MATCH}: `{text}`: {error}"), PATTERNS.to_owned());
                } else if let Some(other) = self.places.iter().find(|other| *other.pattern == **text) {
                    wrong(
                        format!("{origin}: {MATCH}: `{text}` has a rule already, at {}", other.origin),
                        "write one rule with all its values".to_owned(),
                    );
                } else {
                    place.pattern = (&**text).into();
                    self.rules.push(Rule { pattern: place.pattern.clone(), terms });
                    self.places.push(place);
                }
            }
            Some((origin, other)) => {
                wrong(format!("{origin}: {MATCH}: {} does not fit here", other.type_str()), EXAMPLE.to_owned());
            }
        }
    }

    /// Compiles what was read into a configuration whose settings are read; returns where it stands.
    pub(super) fn compile(self, config: &mut Config, wrong: Wrong<'_>) -> Vec<RulePlace> {
        let RulesRead { rules, places } = self;
        for (rule, place) in rules.iter().zip(&places) {
            let key = "max-message";
            let most = config.message_bytes_max;
            if let Some(bytes) = rule.terms.message_bytes_max.filter(|bytes| *bytes > most) {
                let (bytes, most) = (units::size_text(bytes.into()), units::size_text(most.into()));
                wrong(
                    format!("{}: {key}: {bytes} is more than the setting {key} allows, {most}", place.origin_of(key)),
                    format!("raise the setting {key}, or lower this"),
                );
            }
        }
        match Rules::new(rules) {
            Ok(rules) => config.rules = rules,
            Err(error) => {
                let origin = places.first().map_or(Origin::Default, |place| place.origin.clone());
                wrong(format!("{origin}: {error}"), PATTERNS.to_owned());
            }
        }
        places
    }
}

const EXAMPLE: &str = "write each as `[[topics]]`, below it `match = \"prices/#\"` and what holds for these topics";
const PATTERNS: &str =
    "a pattern is a topic with + for one segment, or # at its end for the rest, as in prices/+/raw or prices/#";

impl RulePlace {
    /// Returns where a value of it stands.
    fn origin_of(&self, key: &str) -> &Origin {
        self.keys.iter().find(|(name, _)| *name == key).map_or(&self.origin, |(_, origin)| origin)
    }
}

/// Writes the rules as a TOML file has them, the most specific first, each value with the place it came from.
#[must_use]
pub fn rules_text(loaded: &Loaded) -> String {
    let mut text = String::new();
    for rule in loaded.config.rules.written() {
        let Some(place) = loaded.rules.iter().find(|place| place.pattern == rule.pattern) else { continue };
        let line = format!("{MATCH} = {}", quoted(&rule.pattern));
        write!(text, "\n[[{TOPICS}]]\n{line:<48} # {}\n", place.origin).expect("writing to a String cannot fail");
        for key in RULE_KEYS {
            if let Some(value) = (key.show)(&rule.terms) {
                let line = format!("{} = {}", key.key, key.toml(&value));
                writeln!(text, "{line:<48} # {}", place.origin_of(key.key)).expect("writing to a String cannot fail");
            }
        }
    }
    text
}

/// Says what holds for a topic, and for each value which rule gave it, or that the setting does.
///
/// # Errors
/// It is no topic.
pub fn explain(loaded: &Loaded, name: &str) -> Result<String, String> {
    topic::validate_subscribe(name).map_err(|error| format!("`{name}`: {error}"))?;
    let rules = loaded.config.rules.with_own();
    let matching = || rules.iter().filter(|rule| pattern::matches(&rule.pattern, name));
    let mut text = format!("# topic {name}\n");
    for key in RULE_KEYS {
        let said = matching().find_map(|rule| Some((rule, (key.show)(&rule.terms)?)));
        let setting = SETTINGS.iter().zip(&loaded.origins).find(|(setting, _)| setting.key == key.key);
        let (value, why) = match (said, setting) {
            (Some((rule, value)), _) => {
                let place = loaded.rules.iter().find(|place| place.pattern == rule.pattern);
                let place = place.map_or(&Origin::Default, |place| place.origin_of(key.key));
                (key.toml(&value), format!("{MATCH} = {}, {place}", quoted(&rule.pattern)))
            }
            (None, Some((setting, origin))) => {
                (setting.toml(&loaded.config), format!("no rule; the setting, {origin}"))
            }
            (None, None) => match key.default {
                Some(UNSAID) | None => {
                    writeln!(text, "# {:<46} # {NO_RULE}", key.key).expect("writing to a String cannot fail");
                    continue;
                }
                Some(NO_KEY) => {
                    writeln!(text, "# {:<46} # no rule; {NO_KEY}", key.key).expect("writing to a String cannot fail");
                    continue;
                }
                Some(default) => (key.toml(default), "no rule; the default".to_owned()),
            },
        };
        let line = format!("{} = {value}", key.key);
        writeln!(text, "{line:<48} # {why}").expect("writing to a String cannot fail");
    }
    Ok(text)
}

/// Returns what holds for a topic: each key that has a value, that value as the file would have it without quotes, and the pattern of the
/// rule that says it, if it is not the setting or the default that does.
#[must_use]
pub fn terms(config: &Config, name: &str) -> Vec<(&'static str, String, Option<String>)> {
    let rules = config.rules.with_own();
    let matching = || rules.iter().filter(|rule| pattern::matches(&rule.pattern, name));
    let term = |key: &RuleKey| {
        let said = matching().find_map(|rule| Some(((key.show)(&rule.terms)?, Some(rule.pattern.to_string()))));
        let setting = || SETTINGS.iter().find(|setting| setting.key == key.key);
        let otherwise = || match (setting(), key.default) {
            (Some(setting), _) => Some(((setting.show)(config), None)),
            (None, Some(UNSAID) | None) => None,
            (None, Some(default)) => Some((default.to_owned(), None)),
        };
        said.or_else(otherwise).map(|(value, pattern)| (key.key, value, pattern))
    };
    RULE_KEYS.iter().filter_map(term).collect()
}

/// Writes a pattern as a TOML string: what else would have to be escaped is in none.
fn quoted(pattern: &str) -> String {
    format!("\"{}\"", pattern.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::super::sources::{Flags, load};
    use super::super::tests::host;
    use super::*;
    use crate::grant::Who;
    use crate::shard::{LagPolicy, Mode};

    /// Loads a file of these lines; returns what is wrong with it, with the path left out.
    fn read(name: &str, text: &str) -> Result<Loaded, Vec<String>> {
        let path = std::env::temp_dir().join(format!("corecast-rules-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let loaded = load(&Flags { file: Some(path.clone()), given: Vec::new() }, std::iter::empty(), &host());
        std::fs::remove_file(&path).unwrap();
        let told =
            |problem: &crate::io::check::StartError| problem.to_string().replace(&path.display().to_string(), "FILE");
        loaded.map_err(|problems| problems.iter().map(told).collect())
    }

    const FILE: &str = "\
max-message = \"8k\"
history-messages = 5

[[topics]]
match = \"prices/#\"
history-messages = 10
history-bytes = \"1M\"
history-seconds = 60
lag = \"close\"
conflate = true
every = 100
max-message = \"4KiB\"
publish = \"granted\"
subscribe = \"anyone\"
occupancy = true
demand = true
presence = true
record = \"command\"
key = \"a.b\"
rows = 7
rows-bytes = \"2k\"
rate = \"8k\"

[[topics]]
match = \"prices/eur\"
lag = \"replay\"
history-messages = 0

[[topics]]
match = 'say \"+\"/\\x/+'
conflate = false
";

    /// Every key of a rule is read, each value of a topic is that of the most specific rule that gives it, and the rest is the settings'.
    #[test]
    fn rules_are_read() {
        let problems = read("quotes", FILE).unwrap_err();
        assert!(problems[0].starts_with("FILE:30: match: `say \"+\"/\\x/+`: + and # stand for whole"), "{problems:?}");
        let loaded = read("fine", &FILE.replace("\"+\"", "\"a\"")).unwrap();
        let rules = &loaded.config.rules;
        assert_eq!(rules.written().len(), 3);
        let all = Terms {
            history_messages: Some(10),
            history_bytes: Some(1 << 20),
            history_ms: Some(60_000),
            lag: Some(LagPolicy::Close),
            conflate: Some(true),
            every_ms: Some(100),
            message_bytes_max: Some(4096),
            publish: Some(Who::Granted),
            subscribe: Some(Who::Anyone),
            occupancy: Some(true),
            demand: Some(true),
            presence: Some(true),
            mode: Some(Mode::Command),
            key: Some("a.b".into()),
            rows: Some(7),
            row_bytes: Some(2048),
            rate: Some(8192),
        };
        assert_eq!(*rules.of("prices/usd"), all);
        let eur = Terms { lag: Some(LagPolicy::Replay), history_messages: Some(0), ..all.clone() };
        assert_eq!(*rules.of("prices/eur"), eur);
        assert_eq!(*rules.of("news"), Terms::default());
        assert_eq!(rules.of("say \"a\"/\\x/y").conflate, Some(false));
        assert_eq!(loaded.config.limits().rules, *rules);
        assert_eq!(loaded.config.check(), Ok(()));
    }

    /// What `corecast check` prints of rules is read as the same rules, with the line of each value behind it.
    #[test]
    fn what_is_printed_reads_back() {
        let first = read("first", &FILE.replace("\"+\"", "\"a\"")).unwrap();
        let text = rules_text(&first);
        let second = read("second", &format!("max-message = \"8k\"\n{text}")).unwrap();
        assert_eq!(first.config.rules, second.config.rules, "{text}");
        let line = text.lines().find(|line| line.starts_with("lag = \"close\"")).unwrap();
        assert!(line.ends_with(".toml:9"), "{line}");
        for key in RULE_KEYS {
            assert!(text.contains(&format!(
                "\n{} = {}",
                key.key,
                if key.key == "history-seconds" { "60" } else { "" }
            )));
        }
        let read_example = |key: &RuleKey| {
            read(
                &format!("example-{}", key.key),
                &format!("[[topics]]\nmatch = \"a\"\n{} = {}\n", key.key, key.example),
            )
        };
        for key in RULE_KEYS {
            let loaded = read_example(key).unwrap_or_else(|problems| panic!("{}: {problems:?}", key.key));
            assert!((key.show)(loaded.config.rules.of("a")).is_some(), "{} is read", key.key);
        }
    }

    /// Mistakes are told with their line, cause and cure, all at once; values that no setting would take are none of a rule either.
    #[test]
    fn mistakes_have_a_line() {
        let text = "\
[[topics]]
match = \"a//b\"

[[topics]]
match = \"ok\"
histroy-messages = 3
lag = \"sometimes\"
conflate = 1
max-message = \"17M\"
publish = \"everybody\"
echo = true
whatever = 1

[[topics]]
every = -1

[[topics]]
match = 3

[[topics]]
match = \"ok\"
";
        let problems = read("mistakes", text).unwrap_err();
        let expected = [
            ("FILE:2: match: `a//b`: a pattern has no empty segments", "prices/#"),
            ("FILE:6: unknown key `histroy-messages` of a rule", "did you mean `history-messages`?"),
            ("FILE:7: lag: `sometimes` is not one of: replay, close", "lag is: What happens"),
            ("FILE:8: conflate: integer does not fit here", "conflate = true"),
            ("FILE:9: max-message: `17M` is out of range: 1 to 16M", "Largest payload"),
            ("FILE:10: publish: `everybody` is not one of: nobody, granted", "Who may publish"),
            ("FILE:11: unknown key `echo` of a rule", "settings stand above the first [[topics]]"),
            ("FILE:12: unknown key `whatever` of a rule", "a rule may have match, history-messages"),
            ("FILE:15: every: `-1` is not a whole number", "every is: Subscriptions"),
            ("FILE:14: this rule has no `match`", "match = \"prices/#\""),
            ("FILE:18: match: integer does not fit here", "[[topics]]"),
            ("FILE:21: match: `ok` has a rule already, at FILE:4", "one rule with all its values"),
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (problem, (cause, cure)) in problems.iter().zip(expected) {
            assert!(problem.starts_with(cause) && problem.contains(cure), "{cause}: {problem}");
        }
        for (text, cause) in [
            ("topics = 3\n", "FILE:1: topics is a list of rules"),
            ("[topics]\nmatch = \"a\"\n", "FILE:1: topics is a list of rules"),
            ("topics = [1]\n", "FILE:1: a rule is a table"),
            ("[[topic]]\nmatch = \"a\"\n", "FILE:1: unknown key `topic`"),
            (
                "max-message = \"1k\"\n[[topics]]\nmatch = \"a\"\nmax-message = \"2k\"\n",
                "FILE:4: max-message: 2k is more than the setting max-message allows, 1k",
            ),
        ] {
            let problems = read("one", text).unwrap_err();
            assert!(problems.len() == 1 && problems[0].starts_with(cause), "{text}: {problems:?}");
        }
        let many: String = (0..=RULES_MAX).map(|n| format!("[[topics]]\nmatch = \"t{n}\"\n")).collect();
        let problems = read("many", &many).unwrap_err();
        assert!(
            problems.len() == 1 && problems[0].contains("FILE:2001: there are more than 1000 rules"),
            "{problems:?}"
        );
    }

    /// A rule that lets anyone do something is enough to listen beyond this host, and nobody else may anything then, here either; one
    /// that lets nobody is not.
    #[test]
    fn rules_can_open_an_engine() {
        let file =
            |who: &str| format!("listen = \"0.0.0.0:8080\"\n[[topics]]\nmatch = \"news/#\"\nsubscribe = \"{who}\"\n");
        let anyone = read("anyone", &file("anyone")).unwrap().config;
        assert_eq!((anyone.check(), anyone.limits().open), (Ok(()), vec![false]));
        for who in ["nobody", "granted", "authenticated"] {
            assert!(read(who, &file(who)).unwrap().config.check().is_err(), "{who}");
        }
        let here = read("here", &file("nobody").replace("0.0.0.0", "127.0.0.1")).unwrap().config;
        assert_eq!(here.limits().open, [true]);
    }

    /// A topic is explained value by value: by the rule that gives it, with its line, or by the setting.
    #[test]
    fn topics_are_explained() {
        let loaded = read("explain", &FILE.replace("\"+\"", "\"a\"")).unwrap();
        let said = explain(&loaded, "prices/eur").unwrap();
        let line = |key: &str| {
            let line = said.lines().find(|line| line.trim_start_matches("# ").starts_with(key));
            let words: Vec<&str> = line.unwrap_or_else(|| panic!("{key} in {said}")).split_whitespace().collect();
            words.join(" ")
        };
        assert!(line("lag").starts_with("lag = \"replay\" # match = \"prices/eur\", "), "{said}");
        assert!(line("lag").ends_with(":26") && line("history-messages").ends_with(":27"), "{said}");
        assert!(line("every").starts_with("every = 100 # match = \"prices/#\", "), "{said}");
        let short = terms(&loaded.config, "prices/eur");
        let of =
            |key: &str| short.iter().find(|(name, ..)| *name == key).map(|(_, value, by)| (&**value, by.as_deref()));
        assert_eq!(of("lag"), Some(("replay", Some("prices/eur"))), "{short:?}");
        assert_eq!(of("every"), Some(("100", Some("prices/#"))), "{short:?}");
        assert_eq!(terms(&loaded.config, "news").iter().find(|(key, ..)| *key == "publish"), None);
        let said = explain(&loaded, "$sys/occupancy/prices/eur").unwrap();
        assert!(
            said.contains("history-messages = 1 ") && said.contains("# match = \"$sys/occupancy/#\", default"),
            "{said}"
        );
        let said = explain(&loaded, "news").unwrap();
        for expected in ["history-messages = 5 ", "every = 0 ", "conflate = false ", "# publish "] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        assert!(
            said.contains("no rule; the setting, ") && said.contains(":2\n") && said.contains("setting, default\n"),
            "{said}"
        );
        assert!(explain(&loaded, "a//b").unwrap_err().contains("empty segment"));
    }
}
