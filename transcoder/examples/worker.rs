//! A worker by itself, for tests: an order on standard input, answers on standard output.

use std::io::Read;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut order = String::new();
    let done = std::io::stdin()
        .read_to_string(&mut order)
        .map_err(|error| error.to_string())
        .and_then(|_| serde_json::from_str(&order).map_err(|error| error.to_string()))
        .and_then(|order| transcoder::worker::run(&order, &mut std::io::stdout()).map_err(|error| error.to_string()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
