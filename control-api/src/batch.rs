//! Batches: what many requests want of the database at the same time goes there together, in one trip and one commit.
//!
//! Nobody waits for a batch to fill. A request that finds the way free goes alone; those that come while batches are under way
//! go together as soon as one of them is back.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::error::ApiError;

/// Batches of a kind under way at once.
const RUNNING_COUNT_MAX: usize = 2;
/// Wishes in one.
const WISH_COUNT_MAX: usize = 64;
/// Wishes that may wait; more is overload.
const WAITING_COUNT_MAX: usize = 4_096;

/// Why a whole batch failed, told to each that was in it.
type Failure = Arc<sqlx::Error>;
type Waiting<I, O> = (I, oneshot::Sender<Result<O, Failure>>);

/// Wishes of one kind.
#[derive(Debug)]
pub struct Batches<I, O> {
    state: Mutex<State<I, O>>,
}

#[derive(Debug)]
struct State<I, O> {
    waiting: Vec<Waiting<I, O>>,
    running_count: usize,
}

impl<I, O> Default for Batches<I, O> {
    fn default() -> Batches<I, O> {
        let state = State {
            waiting: Vec::new(),
            running_count: 0,
        };
        Batches {
            state: Mutex::new(state),
        }
    }
}

impl<I: Clone + Send + Sync + 'static, O: Send + 'static> Batches<I, O> {
    /// What `wish` comes to when `run` is given it, perhaps with others. `run` answers each wish, in their order.
    pub async fn ask<F, R>(self: &Arc<Self>, wish: I, run: F) -> Result<O, ApiError>
    where
        F: Fn(Vec<I>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Vec<O>, sqlx::Error>> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.waiting.len() >= WAITING_COUNT_MAX {
                return Err(ApiError::unavailable("too much waits for the database"));
            }
            state.waiting.push((wish, sender));
            if state.running_count < RUNNING_COUNT_MAX {
                state.running_count += 1;
                // Not this request's own task: it may go away, and the others' wishes with it.
                tokio::spawn(Arc::clone(self).lead(run));
            }
        }
        match receiver.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(failure)) => Err(ApiError::of_database(&failure)),
            Err(_) => Err(ApiError::unavailable("a batch was given up")),
        }
    }

    /// Runs batches until nobody waits.
    async fn lead<F, R>(self: Arc<Self>, run: F)
    where
        F: Fn(Vec<I>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Vec<O>, sqlx::Error>> + Send + 'static,
    {
        let mut leading = Leading {
            batches: &self,
            is_over: false,
        };
        while let Some(batch) = leading.next() {
            let (wishes, senders): (Vec<I>, Vec<_>) = batch.into_iter().unzip();
            match run(wishes.clone()).await {
                Ok(done) => answer(senders, done),
                // One of them may be to blame, or two batches stood in each other's way.
                Err(error) if wishes.len() > 1 && error.as_database_error().is_some() => {
                    for (wish, sender) in wishes.into_iter().zip(senders) {
                        match run(vec![wish]).await {
                            Ok(done) => answer(vec![sender], done),
                            Err(error) => fail(vec![sender], error),
                        }
                    }
                }
                Err(error) => fail(senders, error),
            }
        }
    }
}

/// Whoever runs batches; it is counted as long as it does, however it ends.
struct Leading<'a, I, O> {
    batches: &'a Batches<I, O>,
    is_over: bool,
}

impl<I, O> Leading<'_, I, O> {
    /// Those that wait, the first come first. None when nobody does, and then this one is counted no more.
    fn next(&mut self) -> Option<Vec<Waiting<I, O>>> {
        let mut state = self.batches.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Who went away meanwhile wants nothing any more.
        state.waiting.retain(|(_, sender)| !sender.is_closed());
        if state.waiting.is_empty() {
            state.running_count -= 1;
            self.is_over = true;
            return None;
        }
        let count = state.waiting.len().min(WISH_COUNT_MAX);
        Some(state.waiting.drain(..count).collect())
    }
}

impl<I, O> Drop for Leading<'_, I, O> {
    fn drop(&mut self) {
        if !self.is_over {
            let mut state = self.batches.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.running_count -= 1;
        }
    }
}

fn answer<O>(senders: Vec<oneshot::Sender<Result<O, Failure>>>, done: Vec<O>) {
    for (sender, done) in senders.into_iter().zip(done) {
        // Who went away does not hear it.
        let _ = sender.send(Ok(done));
    }
}

fn fail<O>(senders: Vec<oneshot::Sender<Result<O, Failure>>>, error: sqlx::Error) {
    let failure = Arc::new(error);
    for sender in senders {
        let _ = sender.send(Err(Arc::clone(&failure)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn those_that_wait_go_together_and_each_hears_its_own() {
        let batches = Arc::new(Batches::<usize, usize>::default());
        let (gate, count) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let asked: Vec<_> = (0..100)
            .map(|wish| {
                let (batches, gate, count) = (Arc::clone(&batches), Arc::clone(&gate), Arc::clone(&count));
                tokio::spawn(async move {
                    let run = move |wishes: Vec<usize>| {
                        let (gate, count) = (Arc::clone(&gate), Arc::clone(&count));
                        async move {
                            let _pass = gate.acquire().await;
                            count.fetch_add(1, Ordering::Relaxed);
                            Ok(wishes.iter().map(|wish| wish * 2).collect())
                        }
                    };
                    batches.ask(wish, run).await.unwrap()
                })
            })
            .collect();
        tokio::task::yield_now().await;
        gate.add_permits(1);
        for (wish, task) in asked.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), wish * 2);
        }
        assert!(count.load(Ordering::Relaxed) <= 5, "{count:?} batches");
        assert_eq!(batches.state.lock().unwrap().running_count, 0);
    }

    #[tokio::test]
    async fn a_wish_that_fails_fails_alone() {
        let batches = Arc::new(Batches::<usize, usize>::default());
        let run = |_: Vec<usize>| async { Err(sqlx::Error::PoolTimedOut) };
        let failed = batches.ask(1, run).await.unwrap_err();
        assert_eq!(failed.code, Code::ServiceUnavailable);
        let run = |wishes: Vec<usize>| async move { Ok(wishes) };
        assert_eq!(batches.ask(7, run).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_batch_that_panics_is_counted_no_more() {
        let batches = Arc::new(Batches::<usize, usize>::default());
        let run = |wishes: Vec<usize>| async move {
            assert!(wishes.is_empty(), "on purpose");
            Ok(wishes)
        };
        for _ in 0..RUNNING_COUNT_MAX + 1 {
            assert!(batches.ask(1, run).await.is_err());
        }
        assert_eq!(batches.state.lock().unwrap().running_count, 0);
    }
}
