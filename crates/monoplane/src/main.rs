//! The Monoplane binary: flags, supervision, and how the roles are put together. The only crate that reads flags, the
//! environment and files that people edit.
//!
//! Begin with [`flags`] for what can be asked of it, `up` for the supervisor, and `role` for what each process is made of.

mod check;
mod flags;
mod layout;
mod notify;
mod say;
mod up;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use flags::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start_log(&arguments.log).and_then(|()| run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::note(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn start_log(filter: &str) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).with_context(|| format!("--log {filter:?}"))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    Ok(())
}

fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Up(flags) => up::run(&flags, &arguments.log),
        Command::Check(flags) => check::run(flags.json),
        _ => anyhow::bail!("not wired yet"),
    }
}
