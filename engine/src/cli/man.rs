//! `corecast man`: prints the manual page of `corecast`, or writes those of all its words into a folder.
//!
//! They are made from the command line itself, so that they say what `--help` says.

use std::fs;
use std::path::PathBuf;

use clap_mangen::Man;
use corecast::io::check::fault;

use super::Outcome;

const AFTER_HELP: &str = "\
Examples:
  corecast man | man -l -
  corecast man --dir /usr/local/share/man/man1";

#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Writes the pages of all words into this folder, which it makes: corecast.1, corecast-serve.1, ...
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let mut pages = Vec::new();
    // The first page lists the words: the flags of `serve`, which it takes too, stand in that one's.
    let mut command = super::command().mut_args(|arg| arg.hide(true)).disable_help_subcommand(true);
    command.build();
    if let Err(error) = collect(&command, &mut pages) {
        return Outcome::Failed(format!("cannot make the manual: {error}"));
    }
    let Some(folder) = &arguments.dir else {
        return super::say(pages.last().map_or("", |(_, text)| text));
    };
    let written = fs::create_dir_all(folder)
        .and_then(|()| pages.iter().try_for_each(|(name, text)| fs::write(folder.join(name), text)));
    match written {
        Ok(()) => Outcome::Fine,
        Err(error) => Outcome::CannotStart(vec![fault(&format!("write into {}", folder.display()), &error)]),
    }
}

/// Adds the pages of a command's words and then its own, each with the name of its file.
fn collect(command: &clap::Command, pages: &mut Vec<(String, String)>) -> std::io::Result<()> {
    for word in command.get_subcommands().filter(|word| !word.is_hide_set()) {
        collect(word, pages)?;
    }
    let man = Man::new(command.clone())
        .date(env!("CORECAST_DAY"))
        .source(concat!("corecast ", env!("CARGO_PKG_VERSION")))
        .manual("corecast");
    let mut text = Vec::new();
    man.render(&mut text)?;
    pages.push((man.get_filename(), String::from_utf8_lossy(&text).into_owned()));
    Ok(())
}
