//! `corecast check`: says everything that is wrong with the configuration, or prints the effective one.
//!
//! What it prints is itself a configuration file, with the origin of every value behind it.

use std::io::{self, Write as _};

use corecast::config::{self, Flags, Loaded, SETTINGS};

use super::Outcome;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// Prints `docs/configuration.md`, made from the table of settings, instead.
    #[arg(long, hide = true)]
    document: bool,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let text = if arguments.document {
        config::document()
    } else {
        match super::configuration(&arguments.flags) {
            Ok(loaded) => effective(&loaded),
            Err(problems) => return Outcome::CannotStart(problems),
        }
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Outcome::Failed(format!("cannot write to stdout: {error}"))
        }
        _ => Outcome::Fine,
    }
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
    text
}
