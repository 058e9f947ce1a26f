//! What API keys asked for, written to the database some seconds later in one go.

use std::sync::Mutex;

use uuid::Uuid;

use crate::app::App;
use crate::db::keys::KeyRequest;

/// Most requests that wait; more are not logged.
const COUNT_MAX: usize = 50_000;

/// Requests on their way.
#[derive(Debug, Default)]
pub struct KeyLog {
    waiting: Mutex<Vec<(Uuid, KeyRequest)>>,
}

impl KeyLog {
    /// Adds one.
    pub fn add(&self, key: Uuid, request: KeyRequest) {
        let mut waiting = self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if waiting.len() < COUNT_MAX {
            waiting.push((key, request));
        }
    }

    fn take(&self) -> Vec<(Uuid, KeyRequest)> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// Writes what waits.
pub async fn flush(app: &App) -> Result<(), sqlx::Error> {
    // A statement has 65,535 parameters at most, and a row nine.
    for rows in app.key_log.take().chunks(5_000) {
        crate::db::keys::log_requests(&app.db, rows).await?;
    }
    Ok(())
}
