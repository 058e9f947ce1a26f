//! What goes on in the background of every node: caches told of changes, logs written, what has ended cleaned up.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::app::App;
use crate::cache::CacheEvent;
use crate::pulse::Away;
use crate::{db, import, key_log, live, routes, webhook};

/// How often the node makes itself heard to itself.
const SELF_NOTICE: Duration = Duration::from_secs(1);
/// Without a notice for so long, other nodes can not be heard.
const DEAF_AFTER: Duration = Duration::from_secs(2);

/// After the database was away, beats of all nodes have been written after so long.
const SETTLED: Duration = Duration::from_secs(10);

/// Windows that ended before that are left to the sweep.
const WINDOW_SEEN: TimeDelta = TimeDelta::minutes(2);

/// Runs all of it until `stop` turns true. Writes what waits before it returns.
pub async fn run(app: Arc<App>, stop: watch::Receiver<bool>) {
    // The file of ended sessions, as it was written last.
    let revoked = Arc::new(tokio::sync::Mutex::new(None));
    let ticked = Arc::clone(&revoked);
    let tasks = [
        tokio::spawn(listen(Arc::clone(&app), stop.clone())),
        timed(&app, SELF_NOTICE, &stop, |app| async move {
            // Not told: the listener finds out by itself that it hears nothing.
            let _ = db::system::notify_self(&app.db, "self").await;
        }),
        timed(&app, Duration::from_secs(5), &stop, flush),
        timed(&app, Duration::from_secs(60), &stop, clean),
        timed(&app, Duration::from_millis(250), &stop, move |app| {
            tell_ended(app, Arc::clone(&revoked))
        }),
        timed(&app, Duration::from_millis(500), &stop, tell_events),
        timed(&app, Duration::from_secs(1), &stop, move |app| {
            tick(app, Arc::clone(&ticked))
        }),
        timed(&app, Duration::from_secs(10), &stop, |app| async move {
            // Other nodes may have beats that the database could not take.
            if app.pulse.steady_for() >= SETTLED {
                sweep(app).await;
            }
        }),
    ];
    for task in tasks {
        if let Err(error) = task.await {
            tracing::error!(%error, "a background job ended");
        }
    }
    flush(app).await;
}

/// Does `work` every `period`, as long as the database answers.
fn timed<F, R>(app: &Arc<App>, period: Duration, stop: &watch::Receiver<bool>, work: F) -> JoinHandle<()>
where
    F: Fn(Arc<App>) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let app = Arc::clone(app);
    tokio::spawn(every(period, stop.clone(), move || {
        let (app, done) = (Arc::clone(&app), work(Arc::clone(&app)));
        async move {
            let done = async {
                done.await;
                Ok::<(), Away>(())
            };
            // It is begun again at the next tick.
            let _ = app.pulse.unless_away(done).await;
        }
    }))
}

/// Calls `work` every `period` until `stop` turns true.
pub async fn every<F, R>(period: Duration, mut stop: watch::Receiver<bool>, work: F)
where
    F: Fn() -> R + Send,
    R: Future<Output = ()> + Send,
{
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => work().await,
            _ = told(&mut stop) => return,
        }
    }
}

/// Writes what waits in memory.
pub async fn flush(app: Arc<App>) {
    if let Err(error) = app.pulse.unless_away(key_log::flush(&app)).await {
        tracing::warn!(%error, "requests of API keys were not logged");
    }
    if let Err(error) = live::flush(&app).await {
        tracing::warn!(%error, "beats wait for the database");
    }
}

/// Tells the origin of sessions that ended, and other nodes of those that ended here.
async fn tell_ended(app: Arc<App>, revoked: Arc<tokio::sync::Mutex<Option<String>>>) {
    if app.live.take_feed_is_old()
        && let Err(error) = live::write_revoked(&app, &mut *revoked.lock().await).await
    {
        tracing::warn!(%error, "the file of ended sessions was not written");
    }
    if let Err(error) = live::tell(&app).await {
        tracing::warn!(%error, "other nodes do not know of ended sessions yet");
    }
}

/// Tells webhooks of events.
async fn tell_events(app: Arc<App>) {
    if let Err(error) = webhook::run(&app).await {
        tracing::warn!(%error, "webhooks wait for the database");
    }
}

/// What the clock brings: titles that go live, the file of ended sessions.
pub async fn tick(app: Arc<App>, revoked: Arc<tokio::sync::Mutex<Option<String>>>) {
    if let Err(error) = routes::movies::publish_due(&app).await {
        tracing::warn!(cause = ?error.cause, "scheduled titles were not published");
    }
    if let Err(error) = routes::billing::clock(&app).await {
        tracing::warn!(cause = ?error.cause, "what the clock brings to subscriptions was not done");
    }
    if let Err(error) = live::close_windows(&app, app.now() - WINDOW_SEEN).await {
        tracing::warn!(%error, "sessions of titles that ended go on");
    }
    if let Err(error) = live::write_revoked(&app, &mut *revoked.lock().await).await {
        tracing::warn!(%error, "the file of ended sessions was not written");
    }
}

/// Ends sessions that were silent for too long, and those of titles whose window was moved into the past.
pub async fn sweep(app: Arc<App>) {
    if let Err(error) = live::close_windows(&app, DateTime::UNIX_EPOCH).await {
        tracing::warn!(%error, "sessions of titles that ended go on");
    }
    if let Err(error) = live::sweep(&app).await {
        tracing::warn!(%error, "silent sessions were not ended");
    }
}

/// Drops what has ended, makes the partitions to come, says that this node is alive.
pub async fn clean(app: Arc<App>) {
    let now = app.now();
    app.caches.forget_revoked(now);
    let done = async {
        db::events::trim(&app.db).await?;
        db::idempotency::trim(&app.db, now).await?;
        db::sessions::trim(&app.db, now).await?;
        db::webhooks::trim(&app.db, now - webhook::KEPT).await?;
        db::system::make_partitions(&app.db, now).await?;
        db::system::beat(&app.db, app.node, env!("CARGO_PKG_VERSION"), now).await
    };
    if let Err(error) = done.await {
        tracing::warn!(%error, "what has ended was not cleaned up");
    }
    if let Err(error) = import::tidy(&app).await {
        tracing::warn!(cause = ?error.cause, "uploads were not tidied up");
    }
}

/// Waits until told to stop, or until nobody could tell any more.
async fn told(stop: &mut watch::Receiver<bool>) {
    // The guard of the value must not be kept across a wait.
    let _ = stop.wait_for(|stop| *stop).await.map(|_| ());
}

async fn listen(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let mut last_seq = 0;
    loop {
        let heard = tokio::select! {
            heard = app.pulse.unless_away(hear(&app, &mut last_seq)) => heard,
            _ = told(&mut stop) => return,
        };
        let was_deaf = app.caches.is_deaf();
        app.caches.set_deaf(true);
        if let (Err(error), false) = (heard, was_deaf) {
            tracing::warn!(%error, "changes of other nodes are not heard; caches are kept short");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Listens until the connection is lost or silent.
async fn hear(app: &Arc<App>, last_seq: &mut i64) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(&app.db).await?;
    listener.listen("cache").await?;
    // What happened while nobody listened.
    if *last_seq == 0 || db::events::is_too_old(&app.db, *last_seq).await? {
        app.caches.clear();
    }
    for (seq, event) in db::events::since(&app.db, *last_seq).await? {
        act(app, &event).await;
        *last_seq = seq.max(*last_seq);
    }
    app.caches.set_deaf(false);
    loop {
        match tokio::time::timeout(DEAF_AFTER, listener.try_recv()).await {
            Ok(Ok(Some(notice))) => {
                if let Some((seq, event)) = CacheEvent::parse(notice.payload()) {
                    act(app, &event).await;
                    *last_seq = seq.max(*last_seq);
                }
            }
            Ok(Ok(None)) | Err(_) => return Ok(()),
            Ok(Err(error)) => return Err(error),
        }
    }
}

async fn act(app: &Arc<App>, event: &CacheEvent) {
    app.heard(event);
    if event.kind == "signing_key"
        && let Err(error) = app.reload_token_keys().await
    {
        tracing::error!(cause = ?error.cause, "signing keys were not read anew");
    }
}
