//! Slots as they are counted: two `headwater control` on one database, and far more starts at once than there are places.
//!
//! `HEADWATER_SLOT_ROUNDS` says how many rounds; a few by default.
#![cfg(feature = "control")]
#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier};

use serde_json::{Value, json};

/// Places of the account.
const SLOT_COUNT: usize = 3;
/// Starts at once, each on a device of its own.
const START_COUNT: usize = 200;
const PASSWORD: &str = "correct horse";

/// A process that answers the API.
struct Node {
    process: Child,
    address: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn new() -> Folder {
        let folder = std::env::temp_dir().join(format!("headwater-slots-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        // Postgres runs as somebody else than root.
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        let key = folder.join("grant.key");
        fs::write(&key, format!("{}\n", "5a".repeat(32))).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        let data = folder.join("data");
        let config = format!(
            "[control]\nlisten = \"127.0.0.1:0\"\ndata = \"{}\"\ngrant_keys = \"{}\"\nrequire_https = false\n\
             database_connection_count_max = 40\n\
             [control.settings.rate_limits]\nanonymous_per_minute = 1000000\nuser_per_minute = 1000000\n\
             burst_per_second = 1000000\n\
             [control.settings.entitlement]\nmode = \"open\"\n\
             [control.settings.default_limits]\nmax_devices = {START_COUNT}\nmax_concurrent_streams = {SLOT_COUNT}\n",
            data.display(),
            key.display()
        );
        fs::write(folder.join("headwater.toml"), config).unwrap();
        Folder(folder)
    }

    fn headwater(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
        command.args(words).arg("--config").arg(self.0.join("headwater.toml"));
        command.env_remove("DATABASE_URL").env("HEADWATER_LOG", "info");
        command
    }

    fn start(&self) -> Node {
        let mut process = self
            .headwater(&["--log-format", "json", "control"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap_or_default();
            line.pointer("/fields/address")?.as_str().map(str::to_owned)
        });
        // Nobody else reads them, and a full pipe would hold it up.
        std::thread::spawn(move || lines.for_each(drop));
        Node {
            process,
            address: address.expect("an address in the log"),
        }
    }

    /// A statement in the embedded database, where the API has no operation for it yet.
    fn sql(&self, statement: &str) {
        let done = Command::new("psql")
            .args([
                "-v",
                "ON_ERROR_STOP=1",
                "-q",
                "-U",
                "headwater",
                "-d",
                "headwater",
                "-c",
                statement,
                "-h",
            ])
            .arg(self.0.join("data/postgres/run"))
            .status();
        assert!(done.unwrap().success(), "{statement}");
    }
}

impl Node {
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> (u16, Value) {
        let body = match body.is_null() {
            true => String::new(),
            false => body.to_string(),
        };
        let mut text = format!(
            "{method} /api/v1{path} HTTP/1.1\r\nHost: api\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(format!("{text}\r\n{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    fn done(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Value {
        let (status, answer) = self.ask(method, path, headers, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// A movie that may be watched.
fn movie(folder: &Folder, node: &Node) -> String {
    let password = folder.0.join("password");
    fs::write(&password, PASSWORD).unwrap();
    let mut create = folder.headwater(&["admin", "create", "--email", "admin@example.org"]);
    create.arg("--password-file").arg(password);
    assert!(create.output().unwrap().status.success());
    let login = json!({ "email": "admin@example.org", "password": PASSWORD });
    let admin = text(&node.done("POST", "/auth/login", &[], &login)["access_token"]);
    let admin = format!("Bearer {admin}");
    let body = json!({
        "title": "Film", "status": "draft", "drm_required": false, "runtime_minutes": 90, "content_rating": "G",
    });
    let made = node.done("POST", "/admin/movies", &[("Authorization", &admin)], &body);
    let id = text(&made["id"]);
    folder.sql(&format!(
        "insert into assets (id, tenant_id, owner_id, type, title, status, playable, delivery_policy, target_type, target_id)
         select gen_random_uuid(), tenant_id, id, 'video_master', 'master', 'ready', true, 'session', 'movie', '{id}'
         from users"
    ));
    node.done(
        "POST",
        &format!("/admin/movies/{id}/publish"),
        &[("Authorization", &admin)],
        &Value::Null,
    );
    id
}

fn is_here(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

#[test]
fn pl_9_two_hundred_starts_on_three_slots_through_two_processes() {
    if !is_here("psql") || !Path::new("/usr/lib/postgresql").exists() {
        eprintln!("SKIPPED: there is no Postgres here");
        return;
    }
    let folder = Folder::new();
    let nodes = Arc::new([folder.start(), folder.start()]);
    let movie = movie(&folder, &nodes[0]);
    let viewer = json!({ "name": "Viewer", "email": "viewer@example.org", "password": PASSWORD });
    let token = text(&nodes[1].done("POST", "/auth/register", &[], &viewer)["access_token"]);
    let bearer = format!("Bearer {token}");
    let devices: Vec<String> = (0..START_COUNT)
        .map(|number| {
            let body = json!({
                "name": format!("Device {number}"), "device_type": "mobile", "fingerprint": format!("{number:064x}"),
            });
            text(&nodes[number % 2].done("POST", "/devices", &[("Authorization", &bearer)], &body)["id"])
        })
        .collect();
    let rounds = std::env::var("HEADWATER_SLOT_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let rounds: usize = rounds.unwrap_or(10);
    let mut held_up = 0;
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
                    nodes[at % 2].ask("POST", &path, &headers, &Value::Null)
                })
            })
            .collect();
        let answers: Vec<(u16, Value)> = starts.into_iter().map(|start| start.join().unwrap()).collect();
        let sessions: Vec<String> = answers
            .iter()
            .filter(|(status, _)| *status == 201)
            .map(|(_, body)| text(&body["session_id"]))
            .collect();
        for (status, body) in &answers {
            match status {
                201 => {}
                409 => assert_eq!(body["code"], "CONCURRENCY_LIMIT_REACHED"),
                // More waited for the database than it has connections.
                503 => held_up += 1,
                _ => panic!("{status} {body}"),
            }
        }
        assert_eq!(sessions.len(), SLOT_COUNT, "round {round}");
        for node in nodes.iter() {
            let live = node.done("GET", "/playback/sessions", &[("Authorization", &bearer)], &Value::Null);
            assert_eq!(
                live["data"].as_array().unwrap().len(),
                SLOT_COUNT,
                "round {round}: {live}"
            );
        }
        for (at, session) in sessions.iter().enumerate() {
            let path = format!("/playback/sessions/{session}");
            nodes[at % 2].done("DELETE", &path, &[("Authorization", &bearer)], &Value::Null);
        }
    }
    eprintln!("{rounds} rounds of {START_COUNT} starts; {held_up} were told to come again");
}
