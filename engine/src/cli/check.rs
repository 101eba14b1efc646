//! `corecast check`: says everything that is wrong with the configuration, or what is wrong with this host, or prints
//! the effective configuration.
//!
//! What it prints is itself a configuration file, with the origin of every value behind it.

use corecast::admin::guard::Tokens;
use corecast::authority::Prepared;
use corecast::config::{self, Flags, Loaded, SETTINGS};
use corecast::edge::Serving;
use corecast::io::check::{self as host, StartError};
use corecast::node::check_bookkeeping;

use super::Outcome;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// Says what holds for this topic, and which rule or setting says so, instead. May be given several times
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Prints a configuration file that holds every setting as a comment, at its default, instead.
    #[arg(long)]
    sample: bool,
    /// Prints `docs/configuration.md`, made from the table of settings, instead.
    #[arg(long, hide = true)]
    document: bool,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let text = if arguments.document {
        config::document()
    } else if arguments.sample {
        config::sample()
    } else {
        match super::configuration(&arguments.flags) {
            Ok(loaded) => {
                let certificates = loaded.config.identity().map(|identity| Serving::load(&identity, None));
                if let Some(Err(problems)) = certificates {
                    return Outcome::CannotStart(problems);
                }
                if let Err(problem) = judge_host(&loaded) {
                    return Outcome::CannotStart(vec![problem]);
                }
                if let Err(problems) = judge_files(&loaded) {
                    return Outcome::CannotStart(problems);
                }
                match explained(&loaded, &arguments.topic) {
                    Ok(text) if text.is_empty() => effective(&loaded),
                    Ok(text) => text,
                    Err(problem) => return Outcome::CannotStart(vec![problem]),
                }
            }
            Err(problems) => return Outcome::CannotStart(problems),
        }
    };
    super::say(&text)
}

/// Says what holds for topics.
fn explained(loaded: &Loaded, topics: &[String]) -> Result<String, StartError> {
    let said: Result<String, String> = topics.iter().map(|topic| config::explain(loaded, topic)).collect();
    let cure = "a topic is 1 to 255 bytes, segments joined by /, as in prices/eur";
    said.map_err(|cause| StartError { cause, cure: cure.to_owned() })
}

/// Judges whether this host can run the configuration.
fn judge_host(loaded: &Loaded) -> Result<(), StartError> {
    let looked = host::raise_file_limit().and_then(|_| host::gather(loaded.config.shards, 0));
    host::judge(&looked.map_err(|error| host::fault("look at this host", &error))?)?;
    host::judge_threads(super::serve::threads(&loaded.config))?;
    let shards = loaded.config.shards as usize;
    check_bookkeeping(loaded.config.memory_bytes / shards as u64, shards)
}

/// Judges whether the files of keys and rows can be read.
fn judge_files(loaded: &Loaded) -> Result<(), Vec<StartError>> {
    Tokens::read(loaded.config.admin_token.as_deref()).map_err(|problem| vec![problem])?;
    Prepared::read(&loaded.config.authority).map(|_| ())
}

/// Writes the configuration as a TOML file.
fn effective(loaded: &Loaded) -> String {
    let mut text = String::new();
    for note in &loaded.notes {
        text += &format!("# warning: {note}\n");
    }
    for (setting, origin) in SETTINGS.iter().zip(&loaded.origins) {
        let line = format!("{} = {}", setting.key, setting.toml(&loaded.config));
        text += &format!("{line:<48} # {origin}\n");
    }
    text + &config::rules_text(loaded)
}
