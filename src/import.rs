//! `headwater import`: publishes files in the stored form, without re-encoding.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::ImportArguments;
use crate::print;
use crate::sources::{self, Named};
use crate::thumbnails::{self, Wanted};

/// Writes each file's tracks, one a file, into a folder of the library; each folder appears whole or not at all.
pub fn run(arguments: ImportArguments) -> anyhow::Result<ExitCode> {
    let keyring = sources::source_keys(&arguments.keys)?;
    for path in &arguments.files {
        let named = Named::find(path, arguments.segment_duration_ms)?;
        let folder = arguments.output.join(named.published_name()?);
        let asset = named.open(&keyring)?;
        let thumbnails = match arguments.no_thumbnails {
            true => Wanted::No,
            false => Wanted::Yes,
        };
        origin::stored::write_with(&asset, &folder, |staging| thumbnails::add(&asset, staging, thumbnails))
            .with_context(|| format!("{} to {}", path.display(), folder.display()))?;
        for refusal in &asset.presentation.refused {
            print::remark(format_args!(
                "{}: left out {}: {}",
                path.display(),
                refusal.what,
                refusal.why
            ));
        }
        writeln!(print::out(), "{}", folder.display())?;
    }
    Ok(ExitCode::SUCCESS)
}
