//! Pulse: whether the database answers. Who waits for it is told at once when it does not, so that nothing hangs with it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};
use tokio::sync::watch;

use crate::app::App;
use crate::error::ApiError;
use crate::live;
use crate::postgres::Cluster;

/// How often it is felt.
const PERIOD: Duration = Duration::from_millis(200);
/// An answer that takes longer is none. With the period, a database that stands still is noticed within a second.
const PATIENCE: Duration = Duration::from_millis(750);
/// How long a connection takes to be made, at most.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// Nothing takes this long, unless this process was not let run meanwhile.
const STANDSTILL: Duration = Duration::from_secs(4);
/// How often a database of our own that is gone is started again.
const REVIVAL: Duration = Duration::from_millis(500);

/// Whether the database answers, as far as anybody looked.
#[derive(Debug)]
pub struct Pulse {
    away: watch::Sender<bool>,
    began: Instant,
    /// When the database was found to answer again, in milliseconds since `began`.
    back_ms: AtomicU64,
}

impl Default for Pulse {
    /// Of one that answers.
    fn default() -> Pulse {
        Pulse {
            away: watch::Sender::new(false),
            began: Instant::now(),
            back_ms: AtomicU64::new(0),
        }
    }
}

impl Pulse {
    /// Whether it does not answer.
    pub fn is_away(&self) -> bool {
        *self.away.borrow()
    }

    /// Waits until it does not answer.
    pub async fn lost(&self) {
        // The sender is ours, so it is there as long as this waits.
        let _ = self.away.subscribe().wait_for(|away| *away).await.map(|_| ());
    }

    /// How long it has been answering.
    pub fn steady_for(&self) -> Duration {
        match self.is_away() {
            true => Duration::ZERO,
            false => self.began.elapsed().saturating_sub(self.back()),
        }
    }

    /// Whether a connection of this age may be good: the database answers, and did since it was made.
    pub fn trusts(&self, age: Duration) -> bool {
        let back = self.back();
        !self.is_away() && (back.is_zero() || age < self.began.elapsed().saturating_sub(back))
    }

    /// What `work` comes to; that the database is away as soon as it is and `work` can not do without.
    pub async fn unless_away<T, E: From<Away>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let (mut work, mut lost) = (pin!(work), pin!(self.lost()));
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(done);
            }
            // Whoever waits in here for the same news may be told a moment after us.
            if !self.is_away() && lost.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            match work.as_mut().poll(context) {
                Poll::Ready(done) => Poll::Ready(done),
                Poll::Pending => Poll::Ready(Err(Away.into())),
            }
        })
        .await
    }

    /// What `asking` the database comes to; it is not even begun while the database is away.
    pub async fn asked<T, E: From<Away>>(&self, asking: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        match self.is_away() {
            true => Err(Away.into()),
            false => self.unless_away(asking).await,
        }
    }

    fn back(&self) -> Duration {
        Duration::from_millis(self.back_ms.load(Ordering::Acquire))
    }

    fn set_away(&self, away: bool) {
        if !away {
            let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.back_ms.store(ms, Ordering::Release);
        }
        self.away.send_replace(away);
    }
}

/// The database does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the database does not answer")]
pub struct Away;

impl From<Away> for ApiError {
    fn from(away: Away) -> ApiError {
        ApiError::unavailable(away)
    }
}

impl From<Away> for sqlx::Error {
    fn from(away: Away) -> sqlx::Error {
        sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, away))
    }
}

/// Feels the pulse until `stop` turns true. Starts a cluster of our own again that is gone.
pub async fn run(app: Arc<App>, cluster: Option<Arc<Cluster>>, mut stop: watch::Receiver<bool>) {
    let mut connection = None;
    let mut revived = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let begun = Instant::now();
        let mut felt = feel(&app, &mut connection).await;
        if felt.is_err() && begun.elapsed() > STANDSTILL {
            // It is this process that stood still, and perhaps the machine: that says nothing of the database.
            felt = feel(&app, &mut connection).await;
        }
        match (felt, app.pulse.is_away()) {
            (Ok(()), false) => {}
            (Err(error), false) => {
                tracing::error!(%error, "the database does not answer");
                app.pulse.set_away(true);
            }
            (Ok(()), true) => come_back(&app).await,
            (Err(error), true) if revived.elapsed() >= REVIVAL => {
                tracing::debug!(%error, "the database still does not answer");
                revive(cluster.clone()).await;
                revived = Instant::now();
            }
            (Err(_), true) => {}
        }
    }
}

/// Asks the database for nothing.
async fn feel(app: &App, connection: &mut Option<PgConnection>) -> Result<(), sqlx::Error> {
    let late = |_| sqlx::Error::from(Away);
    let mut known = match connection.take() {
        Some(known) => known,
        None => {
            let options = app.db.connect_options();
            let connecting = PgConnection::connect_with(&options);
            tokio::time::timeout(CONNECT_PATIENCE, connecting)
                .await
                .map_err(late)??
        }
    };
    // One that did not answer in time is not asked again: it is dropped.
    tokio::time::timeout(PATIENCE, known.ping()).await.map_err(late)??;
    *connection = Some(known);
    Ok(())
}

/// Writes what waited for the database before anybody may rely on it: whose beats are not in it yet still has a slot.
async fn come_back(app: &Arc<App>) {
    match tokio::time::timeout(CONNECT_PATIENCE, live::flush_all(app)).await {
        Ok(Ok(())) => {
            tracing::info!("the database answers again");
            app.pulse.set_away(false);
        }
        Ok(Err(error)) => tracing::warn!(%error, "the database answers, but takes no beats"),
        Err(_) => tracing::warn!("the database answers, but takes no beats in time"),
    }
}

async fn revive(cluster: Option<Arc<Cluster>>) {
    let Some(cluster) = cluster else { return };
    match tokio::task::spawn_blocking(move || cluster.revive()).await {
        Ok(Ok(false)) => {}
        Ok(Ok(true)) => tracing::warn!("the embedded database was gone and has been started again"),
        Ok(Err(error)) => tracing::error!(%error, "the embedded database was not started again"),
        Err(error) => tracing::error!(%error, "the embedded database was not started again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_is_told_and_whoever_does_not_is_not_disturbed() {
        let pulse = Arc::new(Pulse::default());
        let waiting = {
            let pulse = Arc::clone(&pulse);
            tokio::spawn(async move { pulse.unless_away(std::future::pending::<Result<(), ApiError>>()).await })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        pulse.set_away(true);
        assert!(waiting.await.unwrap().is_err());
        let at_once = pulse.unless_away(async { Ok::<i32, ApiError>(7) }).await;
        assert_eq!(at_once.unwrap(), 7);
    }

    #[test]
    fn connections_from_before_are_not_trusted() {
        let pulse = Pulse::default();
        assert!(pulse.trusts(Duration::from_secs(1_000)));
        pulse.set_away(true);
        assert_eq!(pulse.steady_for(), Duration::ZERO);
        assert!(!pulse.trusts(Duration::ZERO));
        std::thread::sleep(Duration::from_millis(5));
        pulse.set_away(false);
        assert!(!pulse.trusts(Duration::from_secs(1_000)));
        std::thread::sleep(Duration::from_millis(20));
        assert!(pulse.trusts(Duration::from_millis(5)));
        assert!(pulse.steady_for() >= Duration::from_millis(5));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_can_do_without_is_let_do_without() {
        for _ in 0..500 {
            let pulse = Arc::new(Pulse::default());
            let asking = {
                let pulse = Arc::clone(&pulse);
                tokio::spawn(async move {
                    let asked = async {
                        let answer = pulse.asked(std::future::pending::<Result<i32, ApiError>>()).await;
                        answer.or(Ok::<i32, ApiError>(7))
                    };
                    pulse.unless_away(asked).await
                })
            };
            // Both wait by then, the one within the other.
            while pulse.away.receiver_count() < 2 {
                tokio::task::yield_now().await;
            }
            pulse.set_away(true);
            assert_eq!(asking.await.unwrap().ok(), Some(7));
        }
    }
}
