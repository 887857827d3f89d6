//! The one program `ogniwo`, thin over the other crates. Its library founds federations ([`found`]) and runs them
//! ([`federation`]), for the demo and the tests.

pub mod args;
pub mod exit;
pub mod federation;
pub mod found;
pub mod idp;
pub mod inside;
pub mod process;
pub mod report;
pub mod wire;

mod agreement_command;
mod ask_command;
mod audit_command;
mod audit_filter;
mod audit_findings;
mod audit_keys;
mod audit_report;
mod certs_command;
mod consent_command;
mod demo;
mod desk_command;
mod files;
mod keyholder_command;
mod manifest_next;
mod node_command;
mod output;
mod policy_command;
mod prompt;
mod registry_command;
mod resident_command;

use args::{Cli, Command};
use exit::Failure;
use output::Output;
use rustix::process::DumpableBehavior;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Sets up tracing: JSON lines on standard error, as much as `OGNIWO_LOG` says (default `info` of this program).
pub fn trace() {
    let filter = EnvFilter::try_from_env("OGNIWO_LOG")
        .unwrap_or_else(|_| EnvFilter::new("warn,audit=info,node=info,registry=info,transport=info,cli=info"));
    let format =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).json().flatten_event(true);
    // A second set-up in one process keeps the first.
    let _first_stays = format.try_init();
}

/// The running program as it is called again: by its name where the shell finds it under that, else by its path.
pub(crate) fn program() -> String {
    let by_name = "ogniwo".to_owned();
    let Ok(running) = std::env::current_exe() else { return by_name };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let same = |dir: std::path::PathBuf| dir.join("ogniwo").canonicalize().is_ok_and(|found| found == running);
    if std::env::split_paths(&path).any(same) { by_name } else { running.display().to_string() }
}

/// Runs a command; how the program ends.
#[must_use]
pub fn run(arguments: Cli) -> ExitCode {
    let output = Output::new(arguments.json);
    // Neither a core file nor a debugger of the same user reads keys and records.
    let _as_far_as_the_kernel_lets = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let done = transport::install()
        .map_err(|e| Failure::new("internal", exit::chain(&e)))
        .and_then(|()| tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::from))
        .and_then(|runtime| runtime.block_on(dispatch(arguments.command, &output)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            failure.exit().into()
        }
    }
}

async fn dispatch(command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Node(command) => node_command::run(command, output).await,
        Command::Registry(command) => registry_command::run(command, output).await,
        Command::Certs(command) => certs_command::run(command, output),
        Command::Policy(command) => policy_command::run(command, output).await,
        Command::Audit(command) => audit_command::run(command, output).await,
        Command::Agreement(command) => agreement_command::run(command, output).await,
        Command::Consent(command) => consent_command::run(command, output).await,
        Command::Approve(command) => desk_command::approve(command, output).await,
        Command::Flag(command) => desk_command::flag(command, output).await,
        Command::Emergency(command) => desk_command::emergency(command, output).await,
        Command::Demo(arguments) => demo::run(arguments, output).await,
        Command::Completions { shell } => {
            use clap::CommandFactory as _;
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "ogniwo", &mut script);
            output.print(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
    }
}
