//! Slots: an account's places for streams. Pure: what a beat does to a session, and the rule that the database carries out.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

/// How often players beat.
pub const HEARTBEAT_INTERVAL_S: i64 = 30;
/// Life of a session without a beat: three of them.
pub const SESSION_TTL_S: i32 = 90;
/// A silent session still counts for two flushes: its last beat may be in another node's memory.
pub const GRACE_S: i32 = 10;
/// Beats closer than this are answered and not written.
pub const BEAT_GAP_S: i64 = 5;
/// URLs are renewed so long before they end.
pub const RENEWAL_S: i64 = 120;

/// A live session as a node has it in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveSession {
    /// Which.
    pub id: Uuid,
    /// Of which tenant.
    pub tenant: Uuid,
    /// Whose.
    pub user_id: Uuid,
    /// On which device.
    pub device_id: Uuid,
    /// What plays.
    pub asset_id: Uuid,
    /// Which title.
    pub content_id: Uuid,
    /// Highest picture.
    pub height_max: Option<i32>,
    /// When it was last heard of.
    pub last_beat: DateTime<Utc>,
    /// When it ends without a beat.
    pub expires_at: DateTime<Utc>,
    /// How far it is.
    pub position_s: f64,
    /// Whether it is paused.
    pub is_paused: bool,
    /// When its URLs end.
    pub urls_expire_at: DateTime<Utc>,
    /// Whether there is something that the database does not know yet.
    pub unwritten: bool,
}

/// What a beat leaves for the database.
#[derive(Clone, Debug, PartialEq)]
pub struct Beat {
    /// Of which session.
    pub id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// When it ends without another.
    pub expires_at: DateTime<Utc>,
    /// When its URLs end.
    pub urls_expire_at: DateTime<Utc>,
    /// How far it is.
    pub position_s: f64,
    /// Whether it is paused.
    pub is_paused: bool,
}

/// What came of a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beaten {
    /// It lives on.
    Lives {
        /// Whether it is time for new URLs.
        renew: bool,
    },
    /// It was silent for too long.
    TooLate,
}

impl LiveSession {
    /// A beat at `now`.
    pub fn beat(&mut self, position_s: f64, is_paused: bool, now: DateTime<Utc>) -> Beaten {
        if now >= self.expires_at {
            return Beaten::TooLate;
        }
        let renew = now >= self.urls_expire_at - TimeDelta::seconds(RENEWAL_S);
        if now - self.last_beat >= TimeDelta::seconds(BEAT_GAP_S) {
            self.last_beat = now;
            self.expires_at = now + TimeDelta::seconds(SESSION_TTL_S.into());
            self.position_s = position_s;
            self.is_paused = is_paused;
            self.unwritten = true;
        }
        Beaten::Lives { renew }
    }

    /// What the database does not know yet; it is taken as written.
    pub fn take_unwritten(&mut self) -> Option<Beat> {
        std::mem::take(&mut self.unwritten).then_some(Beat {
            id: self.id,
            at: self.last_beat,
            expires_at: self.expires_at,
            urls_expire_at: self.urls_expire_at,
            position_s: self.position_s,
            is_paused: self.is_paused,
        })
    }
}

/// What came of asking for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// It is had; the session that the device had before is over.
    Granted {
        /// That one.
        superseded: Option<Uuid>,
    },
    /// All are taken.
    Full,
}

/// One account's places, as the rule says: what `stream_start` in the database is held against.
#[derive(Clone, Debug, Default)]
pub struct SlotTable {
    /// By device: the session and when it ends without a beat.
    taken: BTreeMap<Uuid, (Uuid, DateTime<Utc>)>,
}

impl SlotTable {
    /// Asks for a place for `session` on `device`, of `max`.
    pub fn acquire(&mut self, device: Uuid, session: Uuid, max: usize, now: DateTime<Utc>) -> Acquired {
        if self.live_elsewhere(device, now) >= max {
            return Acquired::Full;
        }
        let end = now + TimeDelta::seconds(SESSION_TTL_S.into());
        let before = self.taken.insert(device, (session, end));
        Acquired::Granted {
            superseded: before.map(|(session, _)| session),
        }
    }

    /// A beat; whether the session lives.
    pub fn renew(&mut self, session: Uuid, now: DateTime<Utc>) -> bool {
        let found = self.taken.values_mut().find(|(id, end)| *id == session && now < *end);
        let end = now + TimeDelta::seconds(SESSION_TTL_S.into());
        found.map(|row| row.1 = end).is_some()
    }

    /// Gives a place back; whether it was taken.
    pub fn release(&mut self, session: Uuid) -> bool {
        let before = self.taken.len();
        self.taken.retain(|_, (id, _)| *id != session);
        self.taken.len() < before
    }

    /// Ends what was silent for too long; those sessions.
    pub fn expire(&mut self, now: DateTime<Utc>) -> Vec<Uuid> {
        let late = |end: DateTime<Utc>| end < now - TimeDelta::seconds(GRACE_S.into());
        let gone = self
            .taken
            .values()
            .filter(|(_, end)| late(*end))
            .map(|(id, _)| *id)
            .collect();
        self.taken.retain(|_, (_, end)| !late(*end));
        gone
    }

    /// Places that count beside this device's.
    pub fn live_elsewhere(&self, device: Uuid, now: DateTime<Utc>) -> usize {
        let counts = |end: DateTime<Utc>| end > now - TimeDelta::seconds(GRACE_S.into());
        self.taken
            .iter()
            .filter(|(known, (_, end))| **known != device && counts(*end))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_000_000 + seconds, 0).unwrap()
    }

    fn session() -> LiveSession {
        LiveSession {
            id: Uuid::nil(),
            tenant: Uuid::nil(),
            user_id: Uuid::nil(),
            device_id: Uuid::nil(),
            asset_id: Uuid::nil(),
            content_id: Uuid::nil(),
            height_max: None,
            last_beat: at(0),
            expires_at: at(90),
            position_s: 0.0,
            is_paused: false,
            urls_expire_at: at(600),
            unwritten: false,
        }
    }

    #[test]
    fn pl_12_beats_move_the_end_and_renew_in_time() {
        let mut live = session();
        assert_eq!(live.beat(30.0, false, at(30)), Beaten::Lives { renew: false });
        assert_eq!((live.expires_at, live.position_s), (at(120), 30.0));
        assert_eq!(live.take_unwritten().map(|beat| beat.at), Some(at(30)));
        assert_eq!(live.take_unwritten(), None);
        live.expires_at = at(700);
        assert_eq!(live.beat(0.0, false, at(479)), Beaten::Lives { renew: false });
        live.expires_at = at(700);
        assert_eq!(live.beat(0.0, false, at(480)), Beaten::Lives { renew: true });
    }

    #[test]
    fn pl_13_ninety_silent_seconds_end_it() {
        assert_eq!(session().beat(0.0, false, at(89)), Beaten::Lives { renew: false });
        assert_eq!(session().beat(0.0, false, at(90)), Beaten::TooLate);
    }

    #[test]
    fn pl_14_beats_in_a_row_are_not_written() {
        let mut live = session();
        assert_eq!(live.beat(4.0, true, at(4)), Beaten::Lives { renew: false });
        assert_eq!((live.take_unwritten(), live.expires_at), (None, at(90)));
        live.beat(5.0, true, at(5));
        assert!(live.take_unwritten().is_some());
    }

    #[test]
    fn pl_9_and_10_places_are_exact() {
        let id = Uuid::from_u128;
        let mut table = SlotTable::default();
        assert_eq!(
            table.acquire(id(1), id(11), 2, at(0)),
            Acquired::Granted { superseded: None }
        );
        assert_eq!(
            table.acquire(id(2), id(12), 2, at(0)),
            Acquired::Granted { superseded: None }
        );
        assert_eq!(table.acquire(id(3), id(13), 2, at(0)), Acquired::Full);
        assert_eq!(
            table.acquire(id(2), id(14), 2, at(1)),
            Acquired::Granted {
                superseded: Some(id(12))
            }
        );
        assert!(!table.renew(id(12), at(2)) && table.renew(id(14), at(2)));
        assert!(table.release(id(11)) && !table.release(id(11)));
        assert_eq!(
            table.acquire(id(3), id(15), 2, at(3)),
            Acquired::Granted { superseded: None }
        );
        // Silent for 90 s, then counted for another 10.
        assert_eq!(table.acquire(id(1), id(16), 2, at(101)), Acquired::Full);
        assert!(table.expire(at(102)).is_empty());
        assert_eq!(table.expire(at(103)), [id(14)]);
        assert_eq!(
            table.acquire(id(1), id(17), 2, at(103)),
            Acquired::Granted { superseded: None }
        );
    }
}
