//! The front door: reads arguments and configuration, starts logs, runs one command, ends with its exit code.
#![forbid(unsafe_code)]
// They end the process where nobody takes what they print: `print` does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

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
mod print;
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

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = telemetry::start(cli.log_format) {
        print::remark(format_args!("headwater: {error:#}"));
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
    // Half a line that is not out yet would be lost silently.
    let printed = done.and_then(|code| Ok(print::out().flush().map(|()| code)?));
    match printed {
        Ok(code) => code,
        Err(error) if print::was_seen_enough(&error) => ExitCode::SUCCESS,
        Err(error) => {
            print::remark(format_args!("headwater: {}", with_causes(&error)));
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
