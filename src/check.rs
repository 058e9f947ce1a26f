//! `headwater check-config`: the checks that a start would make, without starting.

use std::io::Write;
use std::process::ExitCode;

use crate::cli::CheckConfigArguments;
use crate::config;

/// Checks the file and prints what is in force.
pub fn run(arguments: CheckConfigArguments) -> anyhow::Result<ExitCode> {
    let file = config::read(&arguments.config)?;
    let origin = file.origin.map(origin::config::Section::check).transpose()?;
    #[cfg(feature = "transcode")]
    file.transcode.check()?;
    #[cfg(feature = "control")]
    let control = file.control.api.check()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}: good", arguments.config.display())?;
    match origin {
        Some(origin) => writeln!(out, "{origin:#?}")?,
        None => writeln!(out, "no [origin]: an origin would need --library")?,
    }
    writeln!(out, "{:#?}", file.transcode)?;
    #[cfg(feature = "control")]
    writeln!(out, "{control:#?}")?;
    Ok(ExitCode::SUCCESS)
}
