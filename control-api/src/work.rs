//! A unit of work: what one request changes, with its audit rows, events and cache events, in one transaction.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use crate::app::App;
use crate::cache::CacheEvent;
use crate::call::{Call, TenantId};
use crate::db;
use crate::db::subscriptions::Subscription;
use crate::error::{ApiError, Code};
use crate::idempotency::{self, Ticket};
use crate::operation::Answer;
use crate::reply::Reply;

/// Who does something, for the audit log.
#[derive(Clone, Debug)]
pub struct Actor {
    /// Who, unless the system itself.
    pub id: Option<Uuid>,
    /// As what.
    pub role: &'static str,
    /// From where.
    pub ip: Option<String>,
    /// With what.
    pub user_agent: Option<String>,
    /// In which request.
    pub request_id: Option<Uuid>,
}

impl Actor {
    /// Who makes a call.
    pub fn of(call: &Call) -> Actor {
        Actor {
            id: call.principal.as_ref().map(|principal| principal.user_id),
            role: call
                .principal
                .as_ref()
                .map_or("user", |principal| principal.actor_role()),
            ip: Some(call.peer.ip.to_string()),
            user_agent: call.peer.user_agent.clone(),
            request_id: Some(call.request_id),
        }
    }

    /// The system itself.
    pub fn system() -> Actor {
        Actor {
            id: None,
            role: "system",
            ip: None,
            user_agent: None,
            request_id: None,
        }
    }
}

/// An open transaction. Dropped without [`Work::commit`] or [`Work::finish`], nothing happened.
pub struct Work {
    app: Arc<App>,
    transaction: Transaction<'static, Postgres>,
    /// Whose rows are meant.
    pub tenant: TenantId,
    /// Who does it.
    pub actor: Actor,
    /// When.
    pub now: DateTime<Utc>,
    ticket: Option<Ticket>,
    events: Vec<CacheEvent>,
    /// Stream sessions that end with this.
    ended: Vec<Uuid>,
    /// Subscriptions that end at their payment providers with this.
    unpaid: Vec<(String, String)>,
}

impl Work {
    /// Begins one for a call.
    pub async fn begin(app: &Arc<App>, call: &Call) -> Result<Work, ApiError> {
        let mut work = Work::begin_as(app, call.tenant, Actor::of(call)).await?;
        work.now = call.now;
        work.ticket = call.idempotency.clone();
        Ok(work)
    }

    /// Begins one for somebody else than a caller: jobs, the command line.
    pub async fn begin_as(app: &Arc<App>, tenant: TenantId, actor: Actor) -> Result<Work, ApiError> {
        Ok(Work {
            transaction: app.db.begin().await?,
            app: Arc::clone(app),
            tenant,
            actor,
            now: app.now(),
            ticket: None,
            events: Vec::new(),
            ended: Vec::new(),
            unpaid: Vec::new(),
        })
    }

    /// What statements run on.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// Writes a row of the audit log.
    pub async fn audit(
        &mut self,
        action: &str,
        resource: &str,
        id: Option<Uuid>,
        metadata: Value,
    ) -> Result<(), ApiError> {
        let row = db::audit::NewEntry {
            tenant: self.tenant,
            action,
            actor: &self.actor,
            resource,
            resource_id: id,
            metadata,
            at: self.now,
        };
        db::audit::insert(&mut self.transaction, &row).await?;
        Ok(())
    }

    /// Tells an event to webhooks and sockets, once this is committed.
    pub async fn emit(&mut self, event: &str, subject: Option<Uuid>, payload: Value) -> Result<(), ApiError> {
        db::events::emit(&mut self.transaction, self.tenant, event, subject, payload, self.now).await?;
        Ok(())
    }

    /// Tells every node, this one included, that what it keeps of a row is old.
    pub async fn invalidate(&mut self, kind: &str, reference: impl ToString, version: i64) -> Result<(), ApiError> {
        let event = CacheEvent {
            kind: kind.to_owned(),
            tenant: self.tenant,
            reference: reference.to_string(),
            version,
        };
        db::events::tell_caches(&mut self.transaction, &event).await?;
        self.events.push(event);
        Ok(())
    }

    /// Ends stream sessions.
    pub async fn end_streams(&mut self, ids: &[Uuid], reason: &str) -> Result<(), ApiError> {
        let gone = db::streams::end(&mut self.transaction, ids, reason, self.now).await?;
        self.ended.extend(gone.into_iter().map(|(session, _)| session));
        Ok(())
    }

    /// Ends a subscription at its payment provider, once this is committed.
    pub fn cancel_payment(&mut self, row: &Subscription) {
        if let Some(reference) = &row.provider_ref {
            self.unpaid.push((row.provider.clone(), reference.clone()));
        }
    }

    /// Puts list pages of the catalogue that were made before out of reach.
    pub async fn raise_catalogue(&mut self) -> Result<(), ApiError> {
        let epoch = db::events::raise_catalogue(&mut self.transaction, self.tenant).await?;
        self.invalidate("catalogue", "", epoch).await
    }

    /// Makes it last.
    pub async fn commit(self) -> Result<(), ApiError> {
        self.transaction.commit().await?;
        self.app.live.end(&self.ended);
        for event in &self.events {
            self.app.heard(event);
        }
        for (name, reference) in self.unpaid {
            let Some(provider) = self.app.payment(&name) else {
                continue;
            };
            tokio::spawn(async move {
                if let Err(error) = provider.cancel(&reference).await {
                    tracing::error!(provider = name, reference, %error, "a subscription goes on at its payment provider");
                }
            });
        }
        Ok(())
    }

    /// Makes it last, together with the reply under the request's idempotency key.
    pub async fn finish(mut self, reply: Reply) -> Answer {
        if let Some(ticket) = self.ticket.take()
            && !idempotency::finish(&self.app, &mut self.transaction, &ticket, &reply).await?
        {
            return Err(ApiError::new(Code::IdempotencyInProgress).retry_after(1));
        }
        self.commit().await?;
        Ok(reply)
    }
}
