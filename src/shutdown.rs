//! Stop signals: the first drains, the second ends at once. SIGHUP reads again what may change while serving.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::service;

/// A flag that turns true at the first SIGINT or SIGTERM. A second signal ends the process with code 130. SIGHUP runs
/// `reload`, where there is one.
pub fn watch_signals(reload: Option<Box<dyn Fn() + Send>>) -> anyhow::Result<watch::Receiver<bool>> {
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async move {
            let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
            let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
                tracing::error!("stop signals can not be watched; the process must be killed");
                return;
            };
            // Unwatched, it ends the process: for those who have nothing to read again.
            let mut hangup = reload.as_ref().and_then(|_| signal(SignalKind::hangup()).ok());
            let mut wait = async || {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => return,
                        _ = terminate.recv() => return,
                        () = hung_up(&mut hangup) => reload.iter().for_each(|reload| reload()),
                    }
                }
            };
            wait().await;
            tracing::info!("stopping: running answers may end");
            service::tell("STOPPING=1");
            // The receivers may be gone already, then there is nobody left to tell.
            let _ = stop.send(true);
            wait().await;
            std::process::exit(130);
        });
    })?;
    Ok(stopped)
}

async fn hung_up(signal: &mut Option<Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}
