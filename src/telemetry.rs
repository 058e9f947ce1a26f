//! Logs: sentences with fields, on standard error.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// Starts logging. `HEADWATER_LOG` says what (`info` when unset).
pub fn start(format: LogFormat) -> anyhow::Result<()> {
    let filter = match std::env::var("HEADWATER_LOG") {
        Ok(text) => EnvFilter::try_new(&text).with_context(|| format!("HEADWATER_LOG=\"{text}\""))?,
        Err(_) => EnvFilter::new("info"),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A disk that is full must end nobody who serves: it would be said on the same standard error, by a panic.
        .log_internal_errors(false)
        // Colours are for eyes (https://no-color.org), not for files.
        .with_ansi(std::io::stderr().is_terminal() && !is_set("NO_COLOR"))
        .with_target(false);
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logs: {error}"))
}

/// Whether the environment has `name`, with anything in it.
fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}
