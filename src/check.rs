//! `headwater check-config`: the checks that a start would make, without starting.

use std::process::ExitCode;

use crate::cli::CheckConfigArguments;
use crate::config;

/// Checks the file and prints what is in force.
pub fn run(arguments: CheckConfigArguments) -> anyhow::Result<ExitCode> {
    let file = config::read(&arguments.config)?;
    let origin = file.origin.check()?;
    #[cfg(feature = "transcode")]
    file.transcode.check()?;
    #[cfg(feature = "control")]
    let control = file.control.api.check()?;
    println!("{}: good", arguments.config.display());
    println!("{origin:#?}");
    println!("{:#?}", file.transcode);
    #[cfg(feature = "control")]
    println!("{control:#?}");
    Ok(ExitCode::SUCCESS)
}
