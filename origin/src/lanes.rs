//! Whole-segment AES-128: one thread's segments, encrypted side by side while its other work goes on.
//!
//! A block of a chain needs the one before it, so one segment alone keeps a core waiting for most of the time. Segments
//! that wait for the same key go forward together, a step at a time, and between steps everybody else has a turn.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use packager::crypto::ContentKey;
use packager::crypto::aes128::{self, SegmentCipher, SegmentPart};
use tokio::sync::oneshot;

use crate::error::ServeError;
use crate::pool::Buffer;

/// Segments that go forward together: what hides the latency of an AES block on today's cores.
const LANE_COUNT: usize = 8;
/// Bytes of all lanes in one step: some 150 microseconds on a core without vector AES.
const STEP_SIZE_BYTES: usize = 512 << 10;
/// The same for few lanes, which are slower a byte.
const LANE_STEP_SIZE_BYTES_MAX: usize = 128 << 10;

thread_local! {
    static LANES: Rc<Lanes> = Rc::default();
}

#[derive(Default)]
struct Lanes {
    jobs: RefCell<VecDeque<Job>>,
    running: Cell<bool>,
}

struct Job {
    key: ContentKey,
    iv: [u8; 16],
    encrypted_size: usize,
    buffer: Buffer,
    done: oneshot::Sender<Buffer>,
}

/// Pads and encrypts all of `buffer`. On a serving thread.
pub async fn encrypt(key: ContentKey, iv: [u8; 16], mut buffer: Buffer) -> Result<Buffer, ServeError> {
    aes128::pad(buffer.vec());
    let (done, finished) = oneshot::channel();
    let lanes = LANES.with(Rc::clone);
    lanes.jobs.borrow_mut().push_back(Job {
        key,
        iv,
        encrypted_size: 0,
        buffer,
        done,
    });
    if !lanes.running.replace(true) {
        tokio::task::spawn_local(run(lanes));
    }
    finished.await.map_err(|_| ServeError::Storage {
        what: "encryption was cut short".into(),
    })
}

/// Says that nobody goes on any more, however that came.
struct Running<'a>(&'a Lanes);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.set(false);
    }
}

/// Goes on until no segment waits.
async fn run(lanes: Rc<Lanes>) {
    let _running = Running(&lanes);
    loop {
        // Those who are about to ask may still join.
        tokio::task::yield_now().await;
        let mut jobs = lanes.jobs.borrow_mut();
        // Nobody waits any more for what their client has given up.
        jobs.retain(|job| !job.done.is_closed());
        let Some(key) = jobs.front().map(|job| job.key.clone()) else {
            return;
        };
        let mut parts = Vec::with_capacity(LANE_COUNT);
        let mut places = Vec::with_capacity(LANE_COUNT);
        for (place, job) in jobs.iter_mut().enumerate() {
            if parts.len() < LANE_COUNT && job.key.expose() == key.expose() {
                parts.push(SegmentPart {
                    iv: job.iv,
                    encrypted_size: job.encrypted_size,
                    bytes: &mut job.buffer,
                });
                places.push(place);
            }
        }
        let step = (STEP_SIZE_BYTES / parts.len().max(1)).min(LANE_STEP_SIZE_BYTES_MAX);
        SegmentCipher::new(&key).advance(&mut parts, step);
        let reached: Vec<usize> = parts.iter().map(|part| part.encrypted_size).collect();
        for (place, reached) in places.into_iter().zip(reached).rev() {
            let Some(job) = jobs.get_mut(place) else { continue };
            job.encrypted_size = reached;
            if reached >= job.buffer.len()
                && let Some(job) = jobs.remove(place)
            {
                // Who is gone does not need it.
                let _ = job.done.send(job.buffer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn segments_of_several_keys_come_out_as_if_alone() {
        let local = tokio::task::LocalSet::new();
        let encrypted = local.run_until(async {
            let mut tasks = Vec::new();
            for number in 0..40_usize {
                let key = ContentKey::new([(number % 3) as u8; 16]);
                let mut buffer = Buffer::filled(number * 40_000 + number);
                buffer.fill(number as u8);
                let encrypting = encrypt(key, [number as u8; 16], buffer);
                // Some give up.
                match number % 7 {
                    6 => drop(encrypting),
                    5 => tokio::task::spawn_local(encrypting).abort(),
                    _ => tasks.push((number, tokio::task::spawn_local(encrypting))),
                }
            }
            let mut encrypted = Vec::new();
            for (number, task) in tasks {
                encrypted.push((number, task.await.unwrap().unwrap()));
            }
            encrypted
        });
        let encrypted = encrypted.await;
        // Nobody goes on when nothing waits any more.
        let lanes = LANES.with(Rc::clone);
        local
            .run_until(async {
                while lanes.running.get() {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        assert!(lanes.jobs.borrow().is_empty());
        for (number, got) in encrypted {
            let mut bytes = vec![number as u8; number * 40_000 + number];
            let segment = aes128::WholeSegment {
                iv: [number as u8; 16],
                bytes: &mut bytes,
            };
            aes128::encrypt_many(&ContentKey::new([(number % 3) as u8; 16]), &mut [segment]);
            assert!(got[..] == bytes[..], "segment {number}");
        }
    }

    #[tokio::test]
    async fn as_many_as_there_are_come_out_as_one_alone() {
        let local = tokio::task::LocalSet::new();
        let key = ContentKey::new([7; 16]);
        // One more than go forward together waits its turn.
        for count in 1..=LANE_COUNT + 1 {
            let plain = |lane: usize| -> Vec<u8> {
                // Of one length, of lengths that end in different steps, and empty ones.
                let size = [270_000, 70_000, 16, 200_000, 300_000, 15, 131_072, 0, 150_000][lane % 9];
                (0..size).map(|at| (at * 31 + lane * 7 + count) as u8).collect()
            };
            let iv = |lane: usize| [lane as u8; 16];
            let together = local.run_until(async {
                let jobs: Vec<_> = (0..count)
                    .map(|lane| {
                        let encrypting = encrypt(key.clone(), iv(lane), Buffer::from(plain(lane)));
                        tokio::task::spawn_local(encrypting)
                    })
                    .collect();
                let mut together = Vec::new();
                for job in jobs {
                    together.push(job.await.unwrap().unwrap());
                }
                together
            });
            for (lane, got) in together.await.into_iter().enumerate() {
                let mut alone = plain(lane);
                let segment = aes128::WholeSegment {
                    iv: iv(lane),
                    bytes: &mut alone,
                };
                aes128::encrypt_many(&key, &mut [segment]);
                assert!(got[..] == alone[..], "lane {lane} of {count}");
            }
        }
    }
}
