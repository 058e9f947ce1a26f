//! Logs: sentences with fields, on standard error.

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
        .with_target(false);
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logs: {error}"))
}
