//! `corecast completions`: prints what a shell has to know to complete the words and flags of `corecast`.

use clap_complete::Shell;

use super::Outcome;

const AFTER_HELP: &str = "\
Examples:
  corecast completions bash >/usr/share/bash-completion/completions/corecast
  corecast completions zsh >/usr/local/share/zsh/site-functions/_corecast
  corecast completions fish >~/.config/fish/completions/corecast.fish";

#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The shell that is to know them.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::command(), "corecast", &mut script);
    super::say(&String::from_utf8_lossy(&script))
}
