//! The Monoplane binary: flags, supervision, and how the roles are put together. The only crate that reads flags, the
//! environment and files that people edit.
//!
//! Begin with [`flags`] for what can be asked of it, `up` for the supervisor, and `role` for what each process is made of.

mod backup;
mod check;
mod clean;
mod demo;
mod encryption;
mod flags;
mod hello;
mod image;
mod layout;
mod notify;
mod ranges;
mod role;
mod say;
mod status;
mod token;
mod up;
mod verbs;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use flags::{Arguments, Command};
use layout::Layout;

/// Objects are made on one thread and freed on another all the time, for which the C library's allocator takes a lock each; see
/// docs/decisions/0019-allocator.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        // Children that must stay small and single-threaded: they go their own way before anything else is started.
        Command::Shim { ref words } => return role::shim(words),
        Command::CompileComponent { .. } => return wasm::compile_child_main(),
        _ => {}
    }
    match start_log(&arguments.log).and_then(|()| run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::note(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn start_log(filter: &str) -> Result<()> {
    let filter =
        tracing_subscriber::EnvFilter::try_new(filter).with_context(|| format!("--log {filter:?}"))?;
    // Every broken connection is an error to this library; whoever made the request says what it means.
    let filter = filter.add_directive("kube_client=off".parse()?);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A line that cannot be written, because the disk is full, is lost. To tell of it would panic: it is told to the same file.
    log.log_internal_errors(false).init();
    Ok(())
}

fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Up(flags) => up::run(&flags, &arguments.log),
        Command::Server(flags) => role::server::run(&flags),
        Command::Controllers(flags) => role::apart::controllers(arguments.kubeconfig, &flags),
        Command::Scheduler(flags) => role::apart::scheduler(arguments.kubeconfig, &flags),
        Command::Node(flags) => role::node::run(&flags),
        Command::Edge(flags) => role::edge::run(&flags),
        Command::Check(flags) => check::run(flags.json),
        Command::Status(at) => verbs::block_on(status::run(&Layout::new(&at)?)),
        Command::Kubeconfig(at) => {
            say::line(Layout::new(&at)?.read_endpoints()?.kubeconfig.display());
            Ok(())
        }
        Command::Token(verb) => token::run(&verb, arguments.kubeconfig),
        Command::Image(verb) => image::run(&verb),
        Command::Clean(flags) => clean::run(&flags),
        Command::Encryption(verb) => encryption::run(&verb),
        Command::Backup(flags) => backup::back_up(&flags),
        Command::Restore(flags) => backup::restore(&flags),
        Command::Demo(flags) => demo::run(&flags),
        Command::Apply(verb) => verbs::run(arguments.kubeconfig, async |c, out| verb.run(c, out).await),
        Command::Get(verb) => verbs::run(arguments.kubeconfig, async |c, out| verb.run(c, out).await),
        Command::Logs(verb) => verbs::run(arguments.kubeconfig, async |c, out| verb.run(c, out).await),
        Command::Delete(verb) => verbs::run(arguments.kubeconfig, async |c, out| verb.run(c, out).await),
        Command::Shim { .. } | Command::CompileComponent { .. } => Ok(()),
    }
}

/// The release of Kubernetes that the plane speaks, and its own: what nodes report.
const VERSION: &str = concat!("v1.36.0+monoplane.", env!("CARGO_PKG_VERSION"));
