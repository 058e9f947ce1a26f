//! Lanes: stream starts of one account go one after the other on this node, so that one of them at most waits in the database.
//!
//! They would wait for each other there anyway, each with a connection in its hands that other accounts lack.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::{Mutex, OwnedMutexGuard};
use uuid::Uuid;

use crate::error::ApiError;

/// Starts of one account that may wait; more is no household.
const WAITING_COUNT_MAX: usize = 256;
/// Longest that one waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// One account's lane.
#[derive(Debug, Default)]
struct Lane {
    turn: Arc<Mutex<()>>,
    /// Those in it, the one whose turn it is too.
    count: AtomicUsize,
}

/// All lanes that somebody is in.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: DashMap<Uuid, Arc<Lane>>,
}

/// A place in a lane; it is left by being dropped.
#[derive(Debug)]
struct Place<'a> {
    lanes: &'a Lanes,
    user: Uuid,
    lane: Arc<Lane>,
}

/// It is this one's turn until it is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    // In this order: whoever is next goes on before the lane may be forgotten.
    _guard: OwnedMutexGuard<()>,
    _place: Place<'a>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // Counted under the map's lock, as by who comes in: nobody enters a lane that is forgotten.
        self.lanes.lanes.remove_if(&self.user, |_, lane| {
            lane.count.fetch_sub(1, Ordering::Relaxed);
            lane.count.load(Ordering::Relaxed) == 0
        });
    }
}

impl Lanes {
    /// Waits until it is this one's turn among the starts of `user`, first come first served.
    pub async fn enter(&self, user: Uuid) -> Result<Turn<'_>, ApiError> {
        let place = self.place(user)?;
        let turn = Arc::clone(&place.lane.turn);
        match tokio::time::timeout(PATIENCE, turn.lock_owned()).await {
            Ok(guard) => Ok(Turn {
                _guard: guard,
                _place: place,
            }),
            Err(_) => Err(ApiError::unavailable(
                "a start waited too long for others of its account",
            )),
        }
    }

    fn place(&self, user: Uuid) -> Result<Place<'_>, ApiError> {
        let lane = self.lanes.entry(user).or_default();
        if lane.count.load(Ordering::Relaxed) >= WAITING_COUNT_MAX {
            return Err(ApiError::unavailable("too many starts of one account"));
        }
        lane.count.fetch_add(1, Ordering::Relaxed);
        Ok(Place {
            lanes: self,
            user,
            lane: Arc::clone(&lane),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_first_come_first_served() {
        let (lanes, user) = (Arc::new(Lanes::default()), Uuid::from_u128(1));
        let first = lanes.enter(user).await.unwrap();
        // Other accounts have lanes of their own.
        drop(lanes.enter(Uuid::from_u128(2)).await.unwrap());
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for number in 0..5 {
            let (entering, order) = (Arc::clone(&lanes), Arc::clone(&order));
            waiting.push(tokio::spawn(async move {
                let _turn = entering.enter(user).await.unwrap();
                order.lock().unwrap().push(number);
            }));
            while lanes.lanes.get(&user).unwrap().count.load(Ordering::Relaxed) < number + 2 {
                tokio::task::yield_now().await;
            }
        }
        // One that does not wait any longer is in nobody's way.
        waiting.remove(2).abort();
        assert!(order.lock().unwrap().is_empty());
        drop(first);
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [0, 1, 3, 4]);
        assert!(lanes.lanes.is_empty(), "{lanes:?}");
    }

    #[tokio::test]
    async fn lanes_have_an_end() {
        let (lanes, user) = (Lanes::default(), Uuid::from_u128(1));
        let first = lanes.enter(user).await.unwrap();
        let places: Vec<Place<'_>> = (1..WAITING_COUNT_MAX).map(|_| lanes.place(user).unwrap()).collect();
        assert!(lanes.enter(user).await.is_err());
        drop((places, first));
        assert!(lanes.lanes.is_empty());
    }
}
