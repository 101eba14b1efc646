//! `corecast snapshot`: histories into a file, and whether such a file is right.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use corecast::config::Flags;
use corecast::handover::save::Count;
use corecast::handover::take::{Taking, Unsettled, Wish, inspect};
use corecast::io::check::StartError;

use super::Outcome;

const AFTER_HELP: &str = "\
The engine is found by `take-over`, in its configuration (--config) or as a flag. Each topic stands in the snapshot as it is at a moment of its own, and
messages may follow that are not in it: so an engine that starts with it (`corecast serve --snapshot FILE`) serves what is in it as
another life of each topic. With --stop nothing can follow: the engine refuses messages, saves, and ends; cursors are good afterwards.";

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    word: Word,
}

#[derive(clap::Subcommand)]
enum Word {
    /// Saves what a running engine remembers.
    #[command(after_help = AFTER_HELP)]
    Save(Save),
    /// Reads a snapshot, and says what is in it, or what is wrong with it.
    Check {
        /// The snapshot.
        #[arg(value_name = "FILE")]
        path: PathBuf,
    },
}

#[derive(clap::Args)]
struct Save {
    /// The file to write; it is there whole, or as it was before.
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Has the engine end with that.
    #[arg(long)]
    stop: bool,
    #[command(flatten)]
    flags: Flags,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    match &arguments.word {
        Word::Save(save) => save_from(save),
        Word::Check { path } => match checked(path) {
            Ok(text) => super::say(&text),
            Err(cause) => Outcome::Failed(cause),
        },
    }
}

fn save_from(arguments: &Save) -> Outcome {
    let config = match super::configuration(&arguments.flags) {
        Ok(loaded) => loaded.config,
        Err(problems) => return Outcome::CannotStart(problems),
    };
    let Some(engine) = config.take_over else {
        let cause = "nothing says where the engine hands over".to_owned();
        let cure = "give the engine a path with take-over, and name it here, too: --take-over PATH, or --config FILE";
        return Outcome::CannotStart(vec![StartError { cause, cure: cure.to_owned() }]);
    };
    match saved(&engine, &arguments.path, arguments.stop) {
        Ok(count) => super::say(&sentence("saved", &count)),
        Err(cause) => Outcome::Failed(cause),
    }
}

fn saved(engine: &Path, path: &Path, stop: bool) -> Result<Count, String> {
    let wish = if stop { Wish::LastSnapshot } else { Wish::Snapshot };
    let failed = |cause: String| format!("nothing was saved from the engine at {}: {cause}", engine.display());
    let taking = Taking::begin(engine, wish).map_err(failed)?;
    let taking = taking.ok_or_else(|| failed("nobody is there".to_owned()))?;
    let count = taking.save(path).map_err(failed)?;
    taking.have_all().map_err(failed)?;
    if stop {
        taking.is_ours().map_err(|unsettled| match unsettled {
            // It would be taken for the last word, and is not.
            Unsettled::GoesOn(cause) => {
                let _ = fs::remove_file(path);
                failed(format!("it goes on, because {cause}"))
            }
            Unsettled::Unknown(cause) => {
                let path = path.display();
                format!("{path} was saved, but it is not known whether the engine has ended: {cause}. If it goes on, delete the file")
            }
        })?;
    }
    Ok(count)
}

fn checked(path: &Path) -> Result<String, String> {
    let unread = |error| format!("cannot read {}: {error}", path.display());
    let mut file = File::open(path).map_err(unread)?;
    let (count, head) = inspect(&mut file).map_err(|failure| format!("{}: {failure}", path.display()))?;
    if file.read(&mut [0]).map_err(unread)? != 0 {
        return Err(format!("{}: there is something behind its end", path.display()));
    }
    let last = if head.is_last { "the last word of an engine" } else { "of an engine that went on" };
    Ok(format!("{last}, saved {} s after 1970\n{}", head.wall_ms / 1000, sentence("it has", &count)))
}

fn sentence(verb: &str, count: &Count) -> String {
    let Count { topics, messages, bytes } = count;
    format!("{verb} {topics} topics, {messages} messages, {bytes} bytes\n")
}
