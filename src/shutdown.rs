//! Stop signals: the first drains, the second ends at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A flag that turns true at the first SIGINT or SIGTERM. A second signal ends the process with code 130.
pub fn watch_signals() -> anyhow::Result<watch::Receiver<bool>> {
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async move {
            let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
            let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
                tracing::error!("stop signals can not be watched; the process must be killed");
                return;
            };
            let mut wait = async || tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} };
            wait().await;
            tracing::info!("stopping: running answers may end");
            // The receivers may be gone already, then there is nobody left to tell.
            let _ = stop.send(true);
            wait().await;
            std::process::exit(130);
        });
    })?;
    Ok(stopped)
}
