//! The front door: reads arguments and configuration, starts logs, runs one command, ends with its exit code.
#![forbid(unsafe_code)]

mod check;
mod cli;
#[cfg(feature = "control")]
mod client;
mod config;
#[cfg(feature = "transcode")]
mod confine;
#[cfg(feature = "control")]
mod control;
#[cfg(feature = "control")]
mod dev;
#[cfg(feature = "transcode")]
mod encoders;
mod grant;
mod import;
mod inspect;
mod keys;
mod library;
#[cfg(feature = "control")]
mod licences;
#[cfg(feature = "control")]
mod listener;
mod package;
#[cfg(feature = "control")]
mod remote;
mod serve;
mod service;
mod shutdown;
mod sources;
mod telemetry;
mod thumbnails;
#[cfg(feature = "transcode")]
mod transcode;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = telemetry::start(cli.log_format) {
        eprintln!("headwater: {error:#}");
        return ExitCode::FAILURE;
    }
    let done = match cli.command {
        Command::Origin(arguments) => serve::run(arguments),
        #[cfg(feature = "control")]
        Command::Control(arguments) => control::run(arguments),
        #[cfg(feature = "control")]
        Command::Api(arguments) => client::run(arguments),
        #[cfg(feature = "control")]
        Command::Admin(arguments) => control::admin(arguments),
        #[cfg(feature = "control")]
        Command::Dev(arguments) => dev::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Package(arguments) => package::run(arguments),
        Command::Import(arguments) => import::run(arguments),
        #[cfg(feature = "transcode")]
        Command::Transcode(arguments) => transcode::run(arguments),
        #[cfg(feature = "transcode")]
        Command::Encoders(arguments) => encoders::run(arguments),
        Command::Library(arguments) => library::run(arguments),
        Command::Grant(arguments) => grant::run(arguments),
        Command::Keys(arguments) => keys::run(arguments),
        #[cfg(feature = "control")]
        Command::Licences(arguments) => licences::run(arguments),
        Command::CheckConfig(arguments) => check::run(arguments),
        Command::Worker(arguments) => worker::run(arguments),
    };
    match done {
        Ok(code) => code,
        // Whoever read our output has seen enough (`headwater inspect … | head`).
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("headwater: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes. Some say what their causes say already.
fn with_causes(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !line.ends_with(&cause) {
            let separator = if line.is_empty() { "" } else { ": " };
            line = line + separator + &cause;
        }
    }
    line
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}
