//! The one program.

use clap::Parser as _;
use cli::args::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Cli::parse();
    cli::trace();
    cli::run(arguments)
}
