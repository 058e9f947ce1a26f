//! `headwater check-config`: the checks that a start would make, without starting.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::CheckConfigArguments;
use crate::{config, print, serve};

/// Checks the file, and what it names, and prints what is in force. Everything that a start makes of files is made, but
/// nobody listens, and databases and other servers are not asked.
pub fn run(arguments: CheckConfigArguments) -> anyhow::Result<ExitCode> {
    let file = config::read(&arguments.config)?;
    let named = || arguments.config.display().to_string();
    let origin = file.origin.map(serve::open).transpose().with_context(named)?;
    #[cfg(feature = "transcode")]
    file.transcode.check().with_context(named)?;
    #[cfg(feature = "control")]
    let control = file
        .control
        .map(crate::control::check)
        .transpose()
        .with_context(named)?;
    let mut out = print::out();
    writeln!(out, "{}: good", named())?;
    match origin {
        Some((origin, _)) => writeln!(out, "{:#?}", origin.config())?,
        None => writeln!(out, "no [origin]: an origin would need --library")?,
    }
    writeln!(out, "{:#?}", file.transcode)?;
    #[cfg(feature = "control")]
    match control {
        Some(control) => writeln!(out, "{control:#?}")?,
        None => writeln!(
            out,
            "no [control]: a control API would have these defaults\n{:#?}",
            control_api::config::Section::default().check()?
        )?,
    }
    Ok(ExitCode::SUCCESS)
}
