//! A worker by itself, for tests: an order on standard input, answers on standard output.

use std::process::ExitCode;

fn main() -> ExitCode {
    let done = transcoder::input::read_order(&mut std::io::stdin().lock())
        .map_err(|error| error.to_string())
        .and_then(|(order, tracks)| {
            transcoder::worker::run(&order, &tracks, &mut std::io::stdout()).map_err(|error| error.to_string())
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
