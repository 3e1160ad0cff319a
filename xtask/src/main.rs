//! `cargo xtask`: builds, runs, tests and measures Xenolith. Start with `run.rs` for the way from
//! options to a booted guest; `session` follows a running machine to its verdict.

mod bench;
mod bootset;
mod build;
mod cli;
mod config;
mod control;
mod cpio;
mod emulator;
mod exec;
mod guests;
mod image;
mod media;
mod outcome;
mod paths;
mod plan;
mod run;
mod screen;
mod server;
mod session;
mod setup;
mod suite;
mod terminal;
mod tidy;

use clap::{CommandFactory, FromArgMatches};
use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let sub = matches.subcommand().map(|(_, sub)| sub.clone()).unwrap_or_default();
    match dispatch(&cli.command, &sub) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(if error.is::<run::Usage>() { 2 } else { 1 })
        }
    }
}

fn dispatch(command: &Command, matches: &clap::ArgMatches) -> anyhow::Result<u8> {
    match command {
        Command::Setup { bochs3, offline } => {
            setup::all(*offline)?;
            if *bochs3 {
                emulator::build_bochs::build(*offline)?;
            }
            Ok(0)
        }
        Command::Build { offline } => {
            let image = build::hypervisor(None, *offline)?;
            println!("{}", image.display());
            Ok(0)
        }
        Command::Run(args) => run::command(args, matches),
        Command::Test(args) if args.list => suite::list().map(|()| 0),
        Command::Test(args) => suite::command(args),
        Command::Image(args) => image::command(args).map(|()| 0),
        Command::Tidy => tidy::check().map(|()| 0),
        Command::Bench(args) => bench::command(args),
    }
}
