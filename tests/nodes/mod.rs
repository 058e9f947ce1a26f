//! Nodes: several `headwater control` on one embedded database, asked over sockets, killed and started again.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a test fails by panicking, and each uses a part"
)]

use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub const PASSWORD: &str = "correct horse";
/// Longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest that a node may take to end, and its database with it.
const END: Duration = Duration::from_secs(60);

/// Whether Postgres is here; says so if it is not.
pub fn has_postgres() -> bool {
    let found = Command::new("psql").arg("--version").stdout(Stdio::null()).status();
    let here = found.is_ok_and(|status| status.success()) && Path::new("/usr/lib/postgresql").exists();
    if !here {
        eprintln!("SKIPPED: there is no Postgres here");
    }
    here
}

/// A number that the environment sets.
pub fn setting(name: &str, default: usize) -> usize {
    let set = std::env::var(name).ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Value,
}

impl Answer {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find_map(|(field, value)| field.eq_ignore_ascii_case(name).then_some(value.trim()))
    }

    /// `code` of a refusal.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

/// Asks `address`, on a connection of its own.
pub fn ask(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
    let mut text = format!(
        "{method} /api/v1{path} HTTP/1.1\r\nHost: api\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    if !headers.iter().any(|(name, _)| *name == "Content-Type") {
        text += "Content-Type: application/json\r\n";
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{text}\r\n").as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let broken = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    // A body that was cut short is no answer.
    let size = head.lines().filter_map(|line| line.split_once(':'));
    let size = size.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let size = size.filter_map(|(_, value)| value.trim().parse::<usize>().ok()).next();
    if method != "HEAD" && size.is_some_and(|size| body.len() < size) {
        return Err(broken());
    }
    Ok(Answer {
        status: status.ok_or_else(broken)?,
        head: head.to_owned(),
        body: serde_json::from_str(body).unwrap_or_default(),
    })
}

/// A process that answers the API.
pub struct Node {
    pub process: Child,
    pub address: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        signal("TERM", self.process.id());
        if !self.ends_within(END) {
            let _ = self.process.kill();
            let _ = self.process.wait();
            // While a test fails already, a second panic would end it without a word.
            assert!(std::thread::panicking(), "a node did not end in {END:?}");
        }
    }
}

impl Node {
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let body = match body.is_null() {
            true => String::new(),
            false => body.to_string(),
        };
        ask(&self.address, method, path, headers, body.as_bytes()).unwrap()
    }

    pub fn done(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Value {
        let answer = self.ask(method, path, headers, body);
        assert!(
            (200..300).contains(&answer.status),
            "{method} {path}: {} {}",
            answer.status,
            answer.body
        );
        answer.body
    }

    /// Whether it ends within `patience`.
    pub fn ends_within(&mut self, patience: Duration) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if self.process.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// A folder with the nodes' configuration and their database; it goes with the test.
pub struct Site(pub PathBuf);

impl Drop for Site {
    fn drop(&mut self) {
        // Of nodes that were killed, nobody else would end it.
        if let Some(pid) = self.postmaster() {
            signal("CONT", pid);
            signal("QUIT", pid);
            let patience = Instant::now();
            while self.postmaster().is_some_and(is_alive) && patience.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Sends a signal.
pub fn signal(name: &str, pid: u32) {
    let _ = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .stderr(Stdio::null())
        .status();
}

/// Whether a process runs.
pub fn is_alive(pid: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

impl Site {
    /// `settings` is added to the configuration.
    pub fn new(name: &str, settings: &str) -> Site {
        let folder = std::env::temp_dir().join(format!("headwater-{name}-{}", std::process::id()));
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
             [control.settings.entitlement]\nmode = \"open\"\n{settings}",
            data.display(),
            key.display()
        );
        fs::write(folder.join("headwater.toml"), config).unwrap();
        Site(folder)
    }

    pub fn headwater(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
        command.args(words).arg("--config").arg(self.0.join("headwater.toml"));
        command.env_remove("DATABASE_URL").env("HEADWATER_LOG", "info");
        command
    }

    /// Starts a node; it answers once this returns.
    pub fn start(&self) -> Node {
        let (mut process, address) = self.spawn();
        let address = address.unwrap_or_else(|said| {
            let _ = process.kill();
            panic!("a node did not start: {said}")
        });
        Node { process, address }
    }

    /// Starts a node as soon as it can be, as a service manager would.
    pub fn start_again(&self) -> Node {
        for _ in 0..50 {
            let (mut process, address) = self.spawn();
            match address {
                Ok(address) => return Node { process, address },
                Err(said) => eprintln!("a node did not start: {said}"),
            }
            let _ = process.wait();
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("a node did not start 50 times");
    }

    fn spawn(&self) -> (Child, Result<String, String>) {
        let mut process = self
            .headwater(&["--log-format", "json", "control"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let mut said = String::new();
        let address = lines.find_map(|line| {
            let found: Value = serde_json::from_str(&line).unwrap_or_default();
            said = line;
            found.pointer("/fields/address")?.as_str().map(str::to_owned)
        });
        let mut log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.0.join("nodes.log"))
            .unwrap();
        // Nobody else reads them, and a full pipe would hold it up.
        std::thread::spawn(move || lines.for_each(|line| drop(writeln!(log, "{line}"))));
        (process, address.ok_or(said))
    }

    fn psql(&self, words: &[&str]) -> Command {
        let mut command = Command::new("psql");
        command
            .args([
                "-v",
                "ON_ERROR_STOP=1",
                "-q",
                "-A",
                "-t",
                "-U",
                "headwater",
                "-d",
                "headwater",
            ])
            .args(words)
            .arg("-h")
            .arg(self.0.join("data/postgres/run"));
        command
    }

    /// A statement in the embedded database, where the API has no operation for it.
    pub fn sql(&self, statement: &str) -> String {
        let done = self.psql(&["-c", statement]).output().unwrap();
        assert!(
            done.status.success(),
            "{statement}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    /// Whether the database answers.
    pub fn has_database(&self) -> bool {
        let done = self.psql(&["-c", "select 1"]).stderr(Stdio::null()).output();
        done.is_ok_and(|done| done.status.success())
    }

    /// The first process of the embedded database.
    pub fn postmaster(&self) -> Option<u32> {
        let text = fs::read_to_string(self.0.join("data/postgres/data/postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    /// Processes that the database has for its connections and its own work.
    pub fn backends(&self) -> Vec<u32> {
        let Some(postmaster) = self.postmaster() else {
            return Vec::new();
        };
        let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"));
        let children = children.unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// The first administrator's `Authorization`.
    pub fn admin(&self, node: &Node) -> String {
        let password = self.0.join("password");
        fs::write(&password, PASSWORD).unwrap();
        let mut create = self.headwater(&["admin", "create", "--email", "admin@example.org"]);
        create.arg("--password-file").arg(password);
        assert!(create.output().unwrap().status.success());
        let login = json!({ "email": "admin@example.org", "password": PASSWORD });
        let admin = text(&node.done("POST", "/auth/login", &[], &login)["access_token"]);
        format!("Bearer {admin}")
    }

    /// A movie that may be published.
    pub fn movie(&self, node: &Node, admin: &str, title: &str) -> String {
        let body = json!({
            "title": title, "status": "draft", "drm_required": false, "runtime_minutes": 90, "content_rating": "G",
        });
        let made = node.done("POST", "/admin/movies", &[("Authorization", admin)], &body);
        let id = text(&made["id"]);
        self.sql(&format!(
            "insert into assets (id, tenant_id, owner_id, type, title, status, playable, delivery_policy, target_type,
               target_id)
             select gen_random_uuid(), tenant_id, id, 'video_master', 'master', 'ready', true, 'session', 'movie', '{id}'
             from users where role = 'admin'"
        ));
        id
    }

    /// A viewer with devices: their `Authorization`, and the devices' ids.
    pub fn viewer(&self, node: &Node, name: &str, device_count: usize) -> (String, Vec<String>) {
        let viewer = json!({ "name": name, "email": format!("{name}@example.org"), "password": PASSWORD });
        let token = text(&node.done("POST", "/auth/register", &[], &viewer)["access_token"]);
        let bearer = format!("Bearer {token}");
        let devices = (0..device_count).map(|number| {
            let body = json!({
                "name": format!("Device {number}"), "device_type": "mobile", "fingerprint": format!("{number:064x}"),
            });
            text(&node.done("POST", "/devices", &[("Authorization", &bearer)], &body)["id"])
        });
        let devices = devices.collect();
        (bearer, devices)
    }
}

/// Numbers that look random, the same for the same seed (xorshift64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// One of `0..count`.
    pub fn roll(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % count.max(1)
    }
}
