//! `headwater origin`: serves a library until told to stop.

use std::process::ExitCode;

use origin::Origin;

use crate::cli::OriginArguments;
use crate::{config, shutdown};

/// Runs the origin with the configuration file's section, arguments winning.
pub fn run(arguments: OriginArguments) -> anyhow::Result<ExitCode> {
    let mut section = match &arguments.config {
        Some(path) => config::read(path)?.origin,
        None => origin::config::Section::default(),
    };
    section.library = arguments.library.or(section.library);
    section.listen = arguments.listen.unwrap_or(section.listen);
    section.player = arguments.player.or(section.player);
    section.cache = arguments.cache.or(section.cache);
    let origin = Origin::new(section.check()?)?;
    let count = origin.store().scan()?.len();
    let stop = shutdown::watch_signals()?;
    let library = origin.config().library.clone();
    origin.serve(stop, |address| {
        tracing::info!(%address, library = %library.display(), entries = count, "serving");
    })?;
    Ok(ExitCode::SUCCESS)
}
