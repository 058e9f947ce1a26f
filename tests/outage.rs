//! Outage: the database stands still, and what plays goes on.
//!
//! `HEADWATER_OUTAGE_S` says for how long; a few seconds by default.
#![cfg(feature = "control")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod nodes;

use std::time::{Duration, Instant};

use nodes::{Answer, Node, Site, has_postgres, setting, signal, text};
use serde_json::{Value, json};

/// Longest that anything may take to be refused: reliability goal R5 with room for a busy machine.
const REFUSAL: Duration = Duration::from_millis(2_000);
/// Longest until everything is as before.
const RECOVERY: Duration = Duration::from_secs(5);
/// Longest that a node may take to end meanwhile.
const END: Duration = Duration::from_secs(20);

/// The processes of the database, which stand still until this goes; the first of them last.
struct Standstill(Vec<u32>);

impl Standstill {
    fn of(site: &Site) -> Standstill {
        let postmaster = site.postmaster().unwrap();
        // First the one that would make new ones.
        signal("STOP", postmaster);
        let mut stopped = site.backends();
        stopped.iter().for_each(|pid| signal("STOP", *pid));
        stopped.push(postmaster);
        Standstill(stopped)
    }
}

impl Drop for Standstill {
    fn drop(&mut self) {
        self.0.iter().rev().for_each(|pid| signal("CONT", *pid));
    }
}

struct Viewer {
    bearer: String,
    devices: Vec<String>,
    session: String,
}

impl Viewer {
    fn start(&self, node: &Node, movie: &str, device: usize) -> Answer {
        let path = format!("/movies/{movie}/stream");
        let headers = [
            ("Authorization", self.bearer.as_str()),
            ("X-Device-Id", &self.devices[device]),
        ];
        node.ask("POST", &path, &headers, &Value::Null)
    }

    fn beat(&self, node: &Node, position_s: f64) -> Answer {
        let body = json!({ "session_id": self.session, "position_seconds": position_s });
        node.ask("POST", "/playback/heartbeat", &[("Authorization", &self.bearer)], &body)
    }
}

#[test]
fn running_sessions_go_on_while_the_database_stands_still() {
    if !has_postgres() {
        return;
    }
    // Each beat wants new addresses, which are made without a look at the subscription meanwhile.
    let site = Site::new("outage", "[control.settings.delivery]\nurl_ttl_seconds = 120\n");
    let node = site.start();
    let admin = site.admin(&node);
    let movie = site.movie(&node, &admin, "Film");
    let publish = format!("/admin/movies/{movie}/publish");
    let as_admin = [("Authorization", admin.as_str())];
    node.done("POST", &publish, &as_admin, &Value::Null);
    let viewers: Vec<Viewer> = (0..4)
        .map(|number| {
            let (bearer, devices) = site.viewer(&node, &format!("viewer{number}"), 2);
            let mut viewer = Viewer {
                bearer,
                devices,
                session: String::new(),
            };
            let started = viewer.start(&node, &movie, 0);
            assert_eq!(started.status, 201, "{started:?}");
            viewer.session = text(&started.body["session_id"]);
            viewer
        })
        .collect();
    let mut other = site.start();
    let outage = Duration::from_secs(setting("HEADWATER_OUTAGE_S", 8) as u64);

    let standstill = Standstill::of(&site);
    let begun = Instant::now();
    let (mut beats, mut refusals, mut slowest_beat, mut slowest_refusal) = (0, 0, Duration::ZERO, Duration::ZERO);
    let mut position_s = 0.0;
    while begun.elapsed() < outage {
        for viewer in &viewers {
            let asked = Instant::now();
            position_s += 1.0;
            let answer = viewer.beat(&node, position_s);
            let took = asked.elapsed();
            assert_eq!(answer.status, 200, "{:?} into it: {answer:?}", begun.elapsed());
            assert!(answer.body["refreshed_urls"]["hls_url"].is_string(), "{answer:?}");
            assert!(took < REFUSAL, "a beat took {took:?}");
            (beats, slowest_beat) = (beats + 1, slowest_beat.max(took));
        }
        let wishes: [(&str, &dyn Fn() -> Answer); 4] = [
            ("start", &|| viewers[0].start(&node, &movie, 1)),
            ("publish", &|| node.ask("POST", &publish, &as_admin, &Value::Null)),
            ("end", &|| {
                let path = format!("/playback/sessions/{}", viewers[1].session);
                node.ask("DELETE", &path, &[("Authorization", &viewers[1].bearer)], &Value::Null)
            }),
            ("ready", &|| node.ask("GET", "/system/ready", &[], &Value::Null)),
        ];
        for (name, wish) in wishes {
            let asked = Instant::now();
            let answer = wish();
            let took = asked.elapsed();
            assert_eq!(answer.status, 503, "{name}: {answer:?}");
            assert!(answer.header("retry-after").is_some(), "{name}: {answer:?}");
            assert!(took < REFUSAL, "{name} was refused after {took:?}");
            (refusals, slowest_refusal) = (refusals + 1, slowest_refusal.max(took));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    signal("TERM", other.process.id());
    assert!(other.ends_within(END), "a node waits for the database to end");
    drop(standstill);

    let back = Instant::now();
    let started = loop {
        let started = viewers[0].start(&node, &movie, 1);
        if started.status == 201 {
            break started;
        }
        assert_eq!(started.status, 503, "{started:?}");
        assert!(back.elapsed() < RECOVERY, "{started:?} after {:?}", back.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    };
    let recovery = back.elapsed();
    assert!(started.body["hls_url"].is_string());
    // Every beat that was answered counts, and nobody was ended for what the database could not be told.
    let written = site.sql(&format!(
        "select count(*) from stream_sessions where position_seconds > 0 and last_heartbeat_at > now() - interval '{} s'",
        begun.elapsed().as_secs()
    ));
    assert_eq!(written, "4", "beats are written before starts are taken");
    std::thread::sleep(Duration::from_secs(12));
    for viewer in &viewers {
        assert_eq!(viewer.beat(&node, position_s).status, 200);
    }
    eprintln!(
        "{} s without a database: {beats} beats answered, the slowest in {slowest_beat:?}; {refusals} writes and probes \
         refused, the slowest in {slowest_refusal:?}; starts again after {recovery:?}",
        outage.as_secs()
    );
}
