//! A site: a library with one title in four sizes, a vault with its keys, grants, and an origin that is asked over a
//! socket.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a test fails by panicking, and each uses a part"
)]

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Sizes of the title's pictures, one of each class of keys.
pub const PICTURES: [(u32, u32, &str); 4] = [
    (320, 180, "SD"),
    (1280, 720, "HD"),
    (2560, 1440, "UHD1"),
    (5120, 2880, "UHD2"),
];
const START: Duration = Duration::from_secs(120);

/// What was answered.
pub struct Reply {
    pub status: u16,
    /// The head as it came.
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    /// `error.code` of a refusal.
    pub fn code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// A key of the vault with its secret.
#[derive(Clone, Debug)]
pub struct Row {
    pub key_id: String,
    pub key: Vec<u8>,
    pub scheme: String,
    pub track: String,
}

/// Everything, gone with the test.
pub struct Site {
    pub folder: PathBuf,
    pub media_id: String,
    process: Option<Child>,
    address: String,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Site {
    /// Library, empty vault and keys of grants; `None`, loudly, where ffmpeg can not make the title.
    pub fn make(name: &str) -> Option<Site> {
        let folder = std::env::temp_dir().join(format!("headwater-site-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let film = folder.join("library/film");
        fs::create_dir_all(&film).unwrap();
        let mut ladder = "title = \"film\"\n".to_owned();
        for (width, height, class) in PICTURES {
            let source = format!("testsrc2=size={width}x{height}:rate=2:duration=2");
            let codec = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 2";
            if !ffmpeg(&source, codec, &film.join(format!("{class}.mp4"))) {
                eprintln!("SKIPPED {name}: ffmpeg is not installed or can not encode H.264 and AAC");
                let _ = fs::remove_dir_all(&folder);
                return None;
            }
            ladder += &format!("[[track]]\nfile = \"{class}.mp4\"\n");
        }
        assert!(ffmpeg(
            "sine=sample_rate=48000:duration=2",
            "-c:a aac",
            &film.join("sound.mp4")
        ));
        ladder += "[[track]]\nfile = \"sound.mp4\"\nlanguage = \"en\"\n";
        fs::write(film.join("ladder.toml"), ladder).unwrap();
        let mut site = Site {
            folder,
            media_id: String::new(),
            process: None,
            address: String::new(),
        };
        let listed: Value = serde_json::from_str(&site.done("library library --json")).unwrap();
        site.media_id = listed["id"].as_str().unwrap().to_owned();
        site.done("keys init vault");
        site.done("grant new-key grant.key");
        site.done("grant new-key foreign.key");
        fs::write(site.folder.join("revoked"), format!("{}\n", hex(b"ended"))).unwrap();
        Some(site)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
        command.args(line.split_whitespace()).current_dir(&self.folder);
        command
    }

    /// Runs a line of words in the folder, and it works.
    pub fn done(&self, line: &str) -> String {
        let output = self.command(line).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {err}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a line of words in the folder; all that it says.
    pub fn said(&self, line: &str) -> Vec<u8> {
        let output = self.command(line).output().unwrap();
        [output.stdout, output.stderr].concat()
    }

    pub fn write_secret(&self, name: &str, text: &str) {
        let path = self.folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    /// A token for the title.
    pub fn grant(&self, arguments: &str) -> String {
        self.grant_for(&self.media_id, "grant.key", arguments)
    }

    pub fn grant_for(&self, media_id: &str, key_file: &str, arguments: &str) -> String {
        let line = format!("grant {media_id} --key-file {key_file} --json {arguments}");
        let said: Value = serde_json::from_str(&self.done(&line)).unwrap();
        said["token"].as_str().unwrap().to_owned()
    }

    /// Every key of the vault.
    pub fn keys(&self) -> Vec<Row> {
        let listed = self.done("keys list vault --show-secrets --json");
        let rows = listed.lines().map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            Row {
                key_id: text("key_id"),
                key: unhex(&text("key")),
                scheme: text("scheme"),
                track: text("track"),
            }
        });
        rows.collect()
    }

    /// Starts the origin; its log, of which HEADWATER_LOG says how much, is `origin.log`.
    pub fn start(&mut self, log: &str) {
        // A machine that does other things too is not what is tried here.
        let config = "[origin]\nlibrary = \"library\"\nlisten = \"127.0.0.1:0\"\ncache = \"cache\"\nthreads = 1\n\
                      [origin.protection]\nvault = \"vault\"\nkek = \"vault.kek\"\n[origin.protection.systems.clear_key]\n\
                      [origin.access]\ngrant_keys = \"grant.key\"\nrevoked = \"revoked\"\n\
                      [origin.limits]\ndelay_ms_max = 0\n";
        fs::write(self.folder.join("headwater.toml"), config).unwrap();
        let path = self.folder.join("origin.log");
        let file = File::create(&path).unwrap();
        let mut command = self.command("--log-format json origin --config headwater.toml");
        command
            .env("HEADWATER_LOG", log)
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        self.process = Some(command.spawn().unwrap());
        let deadline = Instant::now() + START;
        self.address = loop {
            let said = fs::read_to_string(&path).unwrap();
            if let Some(address) = listening(&said) {
                break address;
            }
            assert!(Instant::now() < deadline, "the origin does not listen: {said}");
            std::thread::sleep(Duration::from_millis(20));
        };
    }

    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// One request on a connection of its own.
    pub fn ask(&self, method: &str, path: &str, headers: &[String], body: &str) -> Reply {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(START)).unwrap();
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
        for header in headers {
            request += &format!("{header}\r\n");
        }
        request += &format!("content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply {
            status,
            head,
            body: answer[end + 4..].to_vec(),
        }
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], "")
    }

    /// Where a file of the title is for the holder of `token`.
    pub fn path(&self, token: &str, file: &str) -> String {
        format!("/vod/{}/~{token}/{file}", self.media_id)
    }

    /// Files of every kind that the entry points of `scheme` lead to, below the title: entries, playlists, headers,
    /// segments.
    pub fn files(&self, token: &str, scheme: &str) -> Vec<String> {
        let entry = match scheme {
            "aes128" | "sampleaes" => format!("ts/master.m3u8?scheme={scheme}"),
            _ => format!("master.m3u8?scheme={scheme}"),
        };
        let text = self.get(&self.path(token, &entry)).text();
        let mut found = vec![entry];
        for playlist in text
            .lines()
            .filter(|line| line.contains("index.m3u8") && !line.starts_with('#'))
        {
            let playlist = playlist.trim_start_matches("../").to_owned();
            let folder = playlist.rsplit_once('/').unwrap().0.to_owned();
            let text = self.get(&self.path(token, &playlist)).text();
            let segments = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            found.extend(segments.map(|segment| format!("{folder}/{segment}")));
            if text.contains("init.mp4") {
                found.push(format!("{folder}/init.mp4"));
            }
            found.push(playlist);
        }
        found
    }

    /// The version in the title's URLs, without which no key has one.
    pub fn version(&self, token: &str) -> String {
        let found = self
            .files(token, "cbcs")
            .into_iter()
            .find(|file| file.ends_with("init.mp4"));
        found.unwrap().split_once('/').unwrap().0.to_owned()
    }
}

fn listening(said: &str) -> Option<String> {
    let line = said.lines().find(|line| line.contains("127.0.0.1:"))?;
    let start = line.find("127.0.0.1:")?;
    let address: String = line[start..]
        .chars()
        .take_while(|char| char.is_ascii_digit() || ".:".contains(*char))
        .collect();
    Some(address)
}

fn ffmpeg(source: &str, codec: &str, path: &Path) -> bool {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-v", "error", "-f", "lavfi", "-i", source])
        .args(codec.split(' '))
        .arg(path);
    command.status().is_ok_and(|status| status.success())
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().as_chunks::<2>().0.iter();
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
