//! Durability: nodes and the database are killed at random moments while viewers, authors and uploaders work. What was
//! acknowledged holds.
//!
//! `HEADWATER_KILLS` says how many times (a few by default), `HEADWATER_SEED` which moments. From 20 kills on, slots of a
//! household that vanished are watched too until they are free, which takes 100 s.
#![cfg(feature = "control")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod nodes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use nodes::{Answer, Dice, Node, Site, ask, has_postgres, setting, signal, text};
use serde_json::{Value, json};

const SLOT_COUNT: usize = 3;
const VIEWER_COUNT: usize = 4;
const DEVICE_COUNT: usize = 6;
const CHUNK_SIZE_BYTES: usize = 64 << 10;
const CHUNK_COUNT: usize = 12;
/// Longest that all may be away after any kill.
const REVIVAL: Duration = Duration::from_secs(60);
/// Slots of the vanished are free after this (PL-13), besides the time in which nobody could say so.
const RELEASE: Duration = Duration::from_secs(101);

/// What everybody shares.
struct World {
    site: Site,
    /// Where the nodes are.
    addresses: RwLock<[String; 2]>,
    stop: AtomicBool,
    /// Acknowledged acts, and those without an answer or with 503.
    acks: AtomicUsize,
    unsure: AtomicUsize,
    movie: String,
    /// What was lost.
    losses: Mutex<Vec<String>>,
}

impl World {
    /// Asks one of the nodes. `None` where nobody knows what came of it.
    fn ask(&self, node: usize, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
        let address = self.addresses.read().unwrap()[node % 2].clone();
        let answer = ask(&address, method, path, headers, body).ok();
        let answer = answer.filter(|answer| answer.status < 500);
        match &answer {
            Some(_) => self.acks.fetch_add(1, Ordering::Relaxed),
            None => self.unsure.fetch_add(1, Ordering::Relaxed),
        };
        if answer.is_none() {
            sleep(Duration::from_millis(20));
        }
        answer
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn lost(&self, what: String) {
        eprintln!("LOST: {what}");
        self.losses.lock().unwrap().push(what);
    }
}

/// What a viewer knows.
#[derive(Default)]
struct Known {
    /// Sessions that were acknowledged, by device.
    live: BTreeMap<usize, String>,
    /// Sessions whose end was acknowledged, or that a start on the same device ended.
    ended: BTreeSet<String>,
    /// Sessions that may have ended: somebody tried to and got no answer.
    unsure: BTreeSet<String>,
    /// All that were acknowledged.
    all: BTreeSet<String>,
}

/// Starts, beats and ends at random.
fn view(world: &World, bearer: &str, devices: &[String], seed: u64) -> Known {
    let (mut known, mut dice) = (Known::default(), Dice::new(seed));
    let mut beaten = Instant::now();
    while world.goes_on() {
        let (node, device) = (dice.roll(2), dice.roll(DEVICE_COUNT));
        let authorization = ("Authorization", bearer);
        match dice.roll(3) {
            0 | 1 => {
                let path = format!("/movies/{}/stream", world.movie);
                let answer = world.ask(
                    node,
                    "POST",
                    &path,
                    &[authorization, ("X-Device-Id", &devices[device])],
                    b"",
                );
                match answer {
                    Some(answer) if answer.status == 201 => {
                        let id = text(&answer.body["session_id"]);
                        known.all.insert(id.clone());
                        if let Some(earlier) = known.live.insert(device, id) {
                            known.ended.insert(earlier);
                        }
                    }
                    Some(answer) => assert_eq!(answer.status, 409, "{answer:?}"),
                    // It may have begun, and ended the one before.
                    None => {
                        if let Some(earlier) = known.live.remove(&device) {
                            known.unsure.insert(earlier);
                        }
                    }
                }
            }
            _ => {
                let Some(id) = known.live.remove(&device) else {
                    continue;
                };
                let path = format!("/playback/sessions/{id}");
                match world.ask(node, "DELETE", &path, &[authorization], b"") {
                    Some(answer) if answer.status == 204 => drop(known.ended.insert(id)),
                    Some(answer) => world.lost(format!("session {id} to be ended: {answer:?}")),
                    None => drop(known.unsure.insert(id)),
                }
            }
        }
        if beaten.elapsed() > Duration::from_secs(4) {
            beaten = Instant::now();
            for id in known.live.values() {
                let body = json!({ "session_id": id, "position_seconds": 1.0 }).to_string();
                let answer = world.ask(node, "POST", "/playback/heartbeat", &[authorization], body.as_bytes());
                if let Some(answer) = answer.filter(|answer| answer.status != 200) {
                    world.lost(format!("session {id} at its beat: {answer:?}"));
                }
            }
        }
        sleep(Duration::from_millis(dice.roll(30) as u64));
    }
    known
}

/// Publishes and unpublishes in turn; the status that was acknowledged last, where that is known.
fn publish(world: &World, admin: &str, movie: &str, seed: u64) -> Option<String> {
    let (mut known, mut dice) = (Some("draft".to_owned()), Dice::new(seed));
    while world.goes_on() {
        let (act, status) = match known.as_deref() {
            Some("published") => ("unpublish", "unpublished"),
            _ => ("publish", "published"),
        };
        let path = format!("/admin/movies/{movie}/{act}");
        let answer = world.ask(dice.roll(2), "POST", &path, &[("Authorization", admin)], b"");
        known = match (answer, known) {
            (Some(answer), _) if answer.status == 200 => Some(status.to_owned()),
            // It was done, although nobody was told; what holds now is asked next.
            (Some(answer), None) if answer.code() == "INVALID_STATE_TRANSITION" => Some(status.to_owned()),
            (Some(answer), known) => {
                world.lost(format!("movie {movie} was {known:?}, {act}: {answer:?}"));
                known
            }
            (None, _) => None,
        };
        sleep(Duration::from_millis(dice.roll(60) as u64));
    }
    known
}

/// An upload as its client knows it.
struct Sent {
    location: String,
    bytes: Vec<u8>,
    /// Bytes that were acknowledged.
    acknowledged: usize,
}

/// Uploads by tus, chunk by chunk, and goes on after each interruption. All but the last byte, so that the files stay.
fn upload(world: &World, bearer: &str, seed: u64) -> Vec<Sent> {
    let (mut sent, mut dice) = (Vec::<Sent>::new(), Dice::new(seed));
    let tus = [("Authorization", bearer), ("Tus-Resumable", "1.0.0")];
    while world.goes_on() {
        let size = CHUNK_SIZE_BYTES * CHUNK_COUNT + 1;
        let length = size.to_string();
        let headers = [
            &tus[..],
            &[("Upload-Length", &length), ("Upload-Metadata", "filename ZmlsbS5tcDQ=")],
        ]
        .concat();
        let Some(made) = world.ask(dice.roll(2), "POST", "/uploads/tus", &headers, b"") else {
            continue;
        };
        assert_eq!(made.status, 201, "{made:?}");
        let location = made.header("location").unwrap();
        let mut upload = Sent {
            location: location.split_once("/api/v1").unwrap().1.to_owned(),
            bytes: (0..size).map(|_| dice.roll(256) as u8).collect(),
            acknowledged: 0,
        };
        while world.goes_on() && upload.acknowledged + 1 < size {
            let at = upload.acknowledged;
            let offset = at.to_string();
            let chunk = &upload.bytes[at..(at + CHUNK_SIZE_BYTES).min(size - 1)];
            let headers = [
                &tus[..],
                &[
                    ("Content-Type", "application/offset+octet-stream"),
                    ("Upload-Offset", &offset),
                ],
            ]
            .concat();
            let answer = world.ask(dice.roll(2), "PATCH", &upload.location, &headers, chunk);
            if let Some(answer) = answer.filter(|answer| answer.status == 204) {
                upload.acknowledged = answer.header("upload-offset").unwrap().parse().unwrap();
                sleep(Duration::from_millis(dice.roll(40) as u64));
                continue;
            }
            let Some(head) = world.ask(dice.roll(2), "HEAD", &upload.location, &tus, b"") else {
                continue;
            };
            let stored = head
                .header("upload-offset")
                .and_then(|offset| offset.parse::<usize>().ok());
            match stored {
                Some(stored) if stored >= upload.acknowledged => upload.acknowledged = stored,
                _ => {
                    world.lost(format!("{}: {} bytes: {head:?}", upload.location, upload.acknowledged));
                    break;
                }
            }
        }
        sent.push(upload);
    }
    sent
}

/// Takes all slots of an account and vanishes; how long until another device gets one, asked twice a second.
fn vanish(world: &World, bearer: &str, devices: &[String]) -> Duration {
    let path = format!("/movies/{}/stream", world.movie);
    let start = |node: usize, device: usize| {
        let headers = [("Authorization", bearer), ("X-Device-Id", devices[device].as_str())];
        world.ask(node, "POST", &path, &headers, b"")
    };
    for device in 0..SLOT_COUNT {
        while start(0, device).is_none_or(|answer| answer.status != 201) {}
    }
    let begun = Instant::now();
    for turn in 0.. {
        if start(turn, SLOT_COUNT).is_some_and(|answer| answer.status == 201) {
            break;
        }
        sleep(Duration::from_millis(500));
    }
    begun.elapsed()
}

/// Waits until a database and both nodes answer.
fn wait_until_ready(world: &World) {
    let begun = Instant::now();
    let ready = |node: usize| {
        let address = world.addresses.read().unwrap()[node].clone();
        ask(&address, "GET", "/system/ready", &[], b"").is_ok_and(|answer| answer.status == 200)
    };
    while !(ready(0) && ready(1)) {
        assert!(begun.elapsed() < REVIVAL, "nobody brought it back");
        sleep(Duration::from_millis(50));
    }
}

/// Kills at random moments; how many of each, and the longest that it took until all was well again.
fn kill(world: &World, nodes: &mut [Node; 2], count: usize, dice: &mut Dice) -> ([usize; 3], Duration) {
    let (mut killed, mut longest) = ([0; 3], Duration::ZERO);
    for _ in 0..count {
        sleep(Duration::from_millis(100 + dice.roll(2_000) as u64));
        let begun = Instant::now();
        let what = dice.roll(4);
        match what {
            0 | 1 => {
                nodes[what].kill();
                sleep(Duration::from_millis(dice.roll(500) as u64));
                nodes[what] = world.site.start_again();
                world.addresses.write().unwrap()[what] = nodes[what].address.clone();
                killed[0] += 1;
            }
            2 => {
                signal("KILL", world.site.postmaster().unwrap());
                killed[1] += 1;
            }
            _ => {
                let backends = world.site.backends();
                if let Some(pid) = backends.get(dice.roll(backends.len())) {
                    signal("KILL", *pid);
                    killed[2] += 1;
                }
            }
        }
        // Now and then the next one comes before all is well again.
        if dice.roll(4) > 0 || what == 2 {
            wait_until_ready(world);
            longest = longest.max(begun.elapsed());
        }
    }
    wait_until_ready(world);
    (killed, longest)
}

/// Holds what was acknowledged against what is there.
fn check_sessions(world: &World, known: &Known, user: &str) {
    let ids = |table: &str| -> Vec<String> {
        let rows = world.site.sql(&format!(
            "select id from {table} where user_id = (select id from users where email = '{user}@example.org')"
        ));
        rows.lines().map(str::to_owned).collect()
    };
    let (live, log) = (ids("stream_sessions"), ids("stream_session_log"));
    if live.len() > SLOT_COUNT {
        world.lost(format!("{user} has {} streams", live.len()));
    }
    for id in &known.all {
        let count = live.iter().chain(&log).filter(|found| *found == id).count();
        if count != 1 {
            world.lost(format!("session {id} is there {count} times"));
        }
    }
    for id in known.live.values().filter(|id| !live.contains(id)) {
        world.lost(format!("session {id} ended by itself"));
    }
    for id in known.ended.iter().filter(|id| !log.contains(id)) {
        world.lost(format!("session {id} lives on"));
    }
}

fn check_upload(world: &World, bearer: &str, sent: &Sent) {
    let tus = [("Authorization", bearer), ("Tus-Resumable", "1.0.0")];
    let head = world.ask(0, "HEAD", &sent.location, &tus, b"");
    let stored = head
        .as_ref()
        .and_then(|head| head.header("upload-offset")?.parse::<usize>().ok());
    let id = sent.location.rsplit('/').next().unwrap();
    let path = world
        .site
        .sql(&format!("select storage_path from uploads where id = '{id}'"));
    let file = std::fs::read(world.site.0.join("data/sources").join(&path)).unwrap_or_default();
    let holds = stored.is_some_and(|stored| {
        stored >= sent.acknowledged && file.get(..stored).is_some_and(|there| there == &sent.bytes[..stored])
    });
    if !holds {
        world.lost(format!(
            "upload {id} ({path}, {} bytes): {} acknowledged, {stored:?} stored",
            file.len(),
            sent.acknowledged
        ));
    }
}

#[test]
fn what_was_acknowledged_survives_kills_of_nodes_and_database() {
    if !has_postgres() {
        return;
    }
    let kills = setting("HEADWATER_KILLS", 4);
    let seed = setting("HEADWATER_SEED", std::process::id() as usize);
    let limits =
        format!("[control.settings.default_limits]\nmax_devices = 20\nmax_concurrent_streams = {SLOT_COUNT}\n");
    let site = Site::new("durable", &limits);
    let mut nodes = [site.start(), site.start()];
    let admin = site.admin(&nodes[0]);
    let movies: Vec<String> = (0..3)
        .map(|number| site.movie(&nodes[0], &admin, &format!("Film {number}")))
        .collect();
    let path = format!("/admin/movies/{}/publish", movies[0]);
    nodes[0].done("POST", &path, &[("Authorization", &admin)], &Value::Null);
    let viewers: Vec<(String, Vec<String>)> = (0..=VIEWER_COUNT)
        .map(|number| site.viewer(&nodes[1], &format!("viewer{number}"), DEVICE_COUNT))
        .collect();
    let world = Arc::new(World {
        addresses: RwLock::new([nodes[0].address.clone(), nodes[1].address.clone()]),
        site,
        stop: AtomicBool::new(false),
        acks: AtomicUsize::new(0),
        unsure: AtomicUsize::new(0),
        movie: movies[0].clone(),
        losses: Mutex::default(),
    });
    let mut dice = Dice::new(seed as u64);
    let begun = Instant::now();

    let viewing: Vec<JoinHandle<Known>> = viewers[..VIEWER_COUNT]
        .iter()
        .cloned()
        .map(|(bearer, devices)| {
            let (world, seed) = (Arc::clone(&world), dice.roll(1 << 40) as u64);
            std::thread::spawn(move || view(&world, &bearer, &devices, seed))
        })
        .collect();
    let publishing: Vec<JoinHandle<Option<String>>> = movies[1..]
        .iter()
        .cloned()
        .map(|movie| {
            let (world, admin, seed) = (Arc::clone(&world), admin.clone(), dice.roll(1 << 40) as u64);
            std::thread::spawn(move || publish(&world, &admin, &movie, seed))
        })
        .collect();
    let uploading = {
        let (world, bearer, seed) = (Arc::clone(&world), admin.clone(), dice.roll(1 << 40) as u64);
        std::thread::spawn(move || upload(&world, &bearer, seed))
    };
    let vanished = (kills >= 20).then(|| {
        let (world, (bearer, devices)) = (Arc::clone(&world), viewers[VIEWER_COUNT].clone());
        std::thread::spawn(move || vanish(&world, &bearer, &devices))
    });

    let (killed, longest) = kill(&world, &mut nodes, kills, &mut dice);
    let released = vanished.map(|thread| thread.join().unwrap());
    world.stop.store(true, Ordering::Relaxed);
    let known: Vec<Known> = viewing.into_iter().map(|thread| thread.join().unwrap()).collect();
    let published: Vec<Option<String>> = publishing.into_iter().map(|thread| thread.join().unwrap()).collect();
    let sent = uploading.join().unwrap();
    wait_until_ready(&world);

    for (number, known) in known.iter().enumerate() {
        check_sessions(&world, known, &format!("viewer{number}"));
    }
    for (movie, status) in movies[1..].iter().zip(&published) {
        let found = world
            .site
            .sql(&format!("select status from movies where id = '{movie}'"));
        if status.as_ref().is_some_and(|status| *status != found) {
            world.lost(format!("movie {movie}: {status:?} was acknowledged, it is {found}"));
        }
    }
    for sent in &sent {
        check_upload(&world, &admin, sent);
    }
    let sessions: usize = known.iter().map(|known| known.all.len()).sum();
    let ended: usize = known.iter().map(|known| known.ended.len()).sum();
    let bytes: usize = sent.iter().map(|sent| sent.acknowledged).sum();
    eprintln!(
        "{kills} kills (seed {seed}): {} of nodes, {} of the database, {} of its processes, in {:.0} s; {} acts acknowledged, \
         {} without an answer; {sessions} sessions started, {ended} ended, {} uploads with {bytes} bytes; all well again \
         after {longest:.1?} at most; slots free after {released:.1?}; lost: {}",
        killed[0],
        killed[1],
        killed[2],
        begun.elapsed().as_secs_f64(),
        world.acks.load(Ordering::Relaxed),
        world.unsure.load(Ordering::Relaxed),
        sent.len(),
        world.losses.lock().unwrap().len()
    );
    if let Some(released) = released {
        assert!(released < RELEASE + longest, "slots were free after {released:?}");
    }
    assert!(
        world.losses.lock().unwrap().is_empty(),
        "{:?}",
        world.losses.lock().unwrap()
    );
}
