//! `headwater encoders`: what this machine encodes with.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use transcoder::encoder::{self, ENCODERS, Preference, Registry};
use transcoder::ladder::VideoCodec;
use transcoder::machine::{self, Found};

use crate::cli::EncodersArguments;
use crate::print;
use crate::transcode::program;

/// Prints every encoder known, whether it is here and works, and which is taken for each coding.
pub fn run(arguments: EncodersArguments) -> anyhow::Result<ExitCode> {
    let mut out = print::out();
    let program = program()?;
    let never = AtomicBool::new(false);
    let found = Found::ask(&program, &never)?;
    for encoder in ENCODERS {
        let state = match (found.has(encoder.factory), arguments.no_test) {
            (false, _) => "not installed".to_owned(),
            (true, true) => match found.open(encoder.factory) {
                Ok(()) => "opens".to_owned(),
                Err(why) => format!("does not open: {why}"),
            },
            (true, false) => match machine::self_test(&encoder, &program, &never) {
                Ok((count, milliseconds)) => {
                    let rate = u64::from(count) * 1_000 / milliseconds.max(1);
                    format!("works: {rate} pictures of 1280x720 a second")
                }
                Err(error) => format!("does not work: {error}"),
            },
        };
        writeln!(
            out,
            "{:<5} {:<6} {:<14} {state}",
            encoder.codec.codec().name(),
            encoder.device.name(),
            encoder.factory
        )?;
    }
    writeln!(out)?;
    for codec in VideoCodec::ALL {
        let chosen = encoder::choose(codec, 8, Preference::Auto, &found);
        writeln!(out, "{:<5} {}", codec.codec().name(), chosen.why())?;
    }
    Ok(ExitCode::SUCCESS)
}
