//! The command line `corecast`. What each word does stands in its own file under `cli/`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
