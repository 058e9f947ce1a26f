//! Pages: replies of the catalogue as they were made, kept for a moment for all who see it alike.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::HeaderMap;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use moka::sync::Cache;

use crate::cache::CacheEvent;
use crate::call::{Call, TenantId};
use crate::operation::Answer;
use crate::reply::{Reply, ReplyContent};

/// Bytes of all of them.
const SIZE_BYTES_MAX: u64 = 256 << 20;
/// How old one may be: what the clock alone changes is seen that late.
const AGE: TimeDelta = TimeDelta::seconds(15);

/// What a page is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// Raised by every change of the catalogue: what was made before can not be found after.
    epoch: u64,
    tenant: TenantId,
    operation: &'static str,
    target: String,
    query: String,
    /// All else that the reply depends on.
    sight: String,
}

#[derive(Clone, Debug)]
struct Page {
    headers: HeaderMap,
    bytes: Bytes,
    made: DateTime<Utc>,
}

/// All of them.
#[derive(Debug)]
pub struct Pages {
    pages: Cache<Key, Page>,
    epoch: AtomicU64,
}

impl Default for Pages {
    fn default() -> Pages {
        let weight = |key: &Key, page: &Page| {
            let size = key.target.len() + key.query.len() + key.sight.len() + page.bytes.len() + 512;
            u32::try_from(size).unwrap_or(u32::MAX)
        };
        Pages {
            pages: Cache::builder().max_capacity(SIZE_BYTES_MAX).weigher(weight).build(),
            epoch: AtomicU64::new(0),
        }
    }
}

impl Pages {
    /// The reply to `call` as it was made before for somebody with this `sight`, or as `make` makes it now. Without the
    /// database what there is counts, however old.
    pub async fn reply<F>(&self, call: &Call, sight: String, is_away: bool, make: impl FnOnce() -> F) -> Answer
    where
        F: Future<Output = Answer>,
    {
        let key = Key {
            // Before anything is read: a change meanwhile makes this key unreachable.
            epoch: self.epoch.load(Ordering::Acquire),
            tenant: call.tenant,
            operation: call.operation.id,
            target: call.target.clone(),
            query: serde_json::to_string(&call.query).unwrap_or_default(),
            sight,
        };
        if let Some(page) = self.pages.get(&key)
            && (is_away || (page.made <= call.now && call.now - page.made < AGE))
        {
            let mut reply = Reply::empty(200);
            reply.headers = page.headers;
            reply.content = ReplyContent::Bytes(page.bytes);
            return Ok(reply);
        }
        let reply = make().await?;
        if let (200, ReplyContent::Bytes(bytes)) = (reply.status, &reply.content) {
            let page = Page {
                headers: reply.headers.clone(),
                bytes: bytes.clone(),
                made: call.now,
            };
            self.pages.insert(key, page);
        }
        Ok(reply)
    }

    /// Puts out of reach what `event` says is old.
    pub fn apply(&self, event: &CacheEvent) {
        if matches!(event.kind.as_str(), "catalogue" | "content" | "asset" | "tenant") {
            self.clear();
        }
    }

    /// Puts everything out of reach.
    pub fn clear(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }
}
