//! Devices that were heard of, written to the database a minute later in one go: each at most once a minute.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::app::App;

/// How long what was heard waits.
const PERIOD: Duration = Duration::from_secs(60);
/// Most devices that wait; of more nothing is written.
const COUNT_MAX: usize = 100_000;

/// Devices on their way: whose, which, and when it was last heard of.
#[derive(Debug, Default)]
pub struct DeviceLog {
    waiting: Mutex<HashMap<(Uuid, Uuid), DateTime<Utc>>>,
}

impl DeviceLog {
    /// Adds one. True for the first that waits: somebody has to write it.
    fn add(&self, user: Uuid, device: Uuid, at: DateTime<Utc>) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = waiting.is_empty();
        if waiting.len() < COUNT_MAX || waiting.contains_key(&(user, device)) {
            waiting.insert((user, device), at);
        }
        is_first
    }

    fn take(&self) -> HashMap<(Uuid, Uuid), DateTime<Utc>> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Hears of the device that a user names. Whether it is theirs is found out when it is written.
pub fn hear(app: &Arc<App>, user: Uuid, headers: &HeaderMap, now: DateTime<Utc>) {
    let Some(header) = headers.get("x-device-id") else {
        return;
    };
    let Some(device) = header.to_str().ok().and_then(|text| Uuid::try_parse(text).ok()) else {
        return;
    };
    if app.device_log.add(user, device, now) {
        let app = Arc::clone(app);
        tokio::spawn(async move {
            tokio::time::sleep(PERIOD).await;
            if let Err(error) = app.pulse.unless_away(flush(&app)).await {
                tracing::warn!(%error, "when devices were active was not written");
            }
        });
    }
}

/// Writes what waits.
pub async fn flush(app: &App) -> Result<(), sqlx::Error> {
    let waiting: Vec<_> = app.device_log.take().into_iter().collect();
    for seen in waiting.chunks(5_000) {
        crate::db::devices::seen(&app.db, seen).await?;
    }
    Ok(())
}
