//! Slots as they are counted: two `headwater control` on one database, and far more starts at once than there are places.
//!
//! `HEADWATER_SLOT_ROUNDS` says how many rounds; a few by default.
#![cfg(feature = "control")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod nodes;

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use nodes::{Answer, Site, has_postgres, setting, text};
use serde_json::Value;

/// Places of the account.
const SLOT_COUNT: usize = 3;
/// Starts at once, each on a device of its own.
const START_COUNT: usize = 200;

#[test]
fn pl_9_two_hundred_starts_on_three_slots_through_two_processes() {
    if !has_postgres() {
        return;
    }
    let limits = format!(
        "[control.settings.default_limits]\nmax_devices = {START_COUNT}\nmax_concurrent_streams = {SLOT_COUNT}\n"
    );
    let site = Site::new("slots", &limits);
    let nodes = Arc::new([site.start(), site.start()]);
    let admin = site.admin(&nodes[0]);
    let movie = site.movie(&nodes[0], &admin, "Film");
    let publish = format!("/admin/movies/{movie}/publish");
    nodes[0].done("POST", &publish, &[("Authorization", &admin)], &Value::Null);
    let (bearer, devices) = site.viewer(&nodes[1], "viewer", START_COUNT);
    let rounds = setting("HEADWATER_SLOT_ROUNDS", 10);
    let (mut held_up, mut slowest, begun) = (0, Duration::ZERO, Instant::now());
    for round in 0..rounds {
        let together = Arc::new(Barrier::new(START_COUNT));
        let starts: Vec<_> = devices
            .iter()
            .cloned()
            .enumerate()
            .map(|(at, device)| {
                let (nodes, together) = (Arc::clone(&nodes), Arc::clone(&together));
                let (bearer, path) = (bearer.clone(), format!("/movies/{movie}/stream"));
                std::thread::spawn(move || {
                    let headers = [("Authorization", bearer.as_str()), ("X-Device-Id", &device)];
                    together.wait();
                    let begun = Instant::now();
                    (
                        nodes[at % 2].ask("POST", &path, &headers, &Value::Null),
                        begun.elapsed(),
                    )
                })
            })
            .collect();
        let answers: Vec<(Answer, Duration)> = starts.into_iter().map(|start| start.join().unwrap()).collect();
        let mut sessions = Vec::new();
        for (answer, took) in &answers {
            slowest = slowest.max(*took);
            match answer.status {
                201 => sessions.push(text(&answer.body["session_id"])),
                409 => assert_eq!(answer.code(), "CONCURRENCY_LIMIT_REACHED"),
                503 => held_up += 1,
                _ => panic!("{answer:?}"),
            }
        }
        assert_eq!(sessions.len(), SLOT_COUNT, "round {round}");
        for node in nodes.iter() {
            let live = node.done("GET", "/playback/sessions", &[("Authorization", &bearer)], &Value::Null);
            let count = live["data"].as_array().unwrap().len();
            assert_eq!(count, SLOT_COUNT, "round {round}: {live}");
        }
        for (at, session) in sessions.iter().enumerate() {
            let path = format!("/playback/sessions/{session}");
            nodes[at % 2].done("DELETE", &path, &[("Authorization", &bearer)], &Value::Null);
        }
    }
    eprintln!(
        "{rounds} rounds of {START_COUNT} starts in {:.1} s: {SLOT_COUNT} granted in each, {held_up} were told to come \
         again, the slowest took {:.2} s",
        begun.elapsed().as_secs_f64(),
        slowest.as_secs_f64()
    );
    // Refusals are honest: 409, unless the machine was taken away for a while.
    assert!(held_up * 100 <= rounds * START_COUNT, "{held_up} of {rounds} rounds");
}
