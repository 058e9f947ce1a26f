//! Films that people name on the command line: what lies beside them, what they are called, and where what is said of them
//! goes.
#![allow(clippy::unwrap_used)]

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    /// A library `lib` with a film, and German subtitles beside it, in a folder of its own.
    fn new(name: &str) -> Folder {
        let folder = Folder(std::env::temp_dir().join(format!("headwater-sources-{}-{name}", std::process::id())));
        let _ = fs::remove_dir_all(&folder.0);
        fs::create_dir_all(folder.path("lib/sub")).unwrap();
        folder.write("lib/sub/film.aac", &sound());
        folder.write(
            "lib/sub/film.de.srt",
            "1\n00:00:00,500 --> 00:00:01,500\nGuten Tag\n".as_bytes(),
        );
        folder.write(
            "lib/sub/film2.fr.srt",
            "1\n00:00:00,500 --> 00:00:01,500\nBonjour\n".as_bytes(),
        );
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
        command.args(line.split_whitespace()).current_dir(&self.0);
        command.env_remove("DATABASE_URL");
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Runs a line of words, which works.
    fn done(&self, line: &str) -> String {
        let out = self.run(line);
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// The same, and it is refused with these words.
    fn refused(&self, line: &str, expected: &[&str]) {
        let out = self.run(line);
        let said = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
        assert!(!out.status.success(), "{line}: {said}");
        for expected in expected {
            assert!(said.contains(expected), "{line} does not say {expected:?}: {said}");
        }
    }

    /// Languages of the text tracks of `name`.
    fn text_languages(&self, name: &str) -> Vec<String> {
        let report: Value = serde_json::from_str(&self.done(&format!("inspect --json {name}"))).unwrap();
        let tracks = report["tracks"].as_array().unwrap().iter();
        let texts = tracks.filter(|track| track["cues"].is_number());
        texts
            .map(|track| track["language"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// Four seconds of silence: ADTS frames (ISO/IEC 14496-3 1.A.2.2) of AAC-LC, 48 kHz, two channels.
fn sound() -> Vec<u8> {
    let silence = [0x21, 0x10, 0x04, 0x60, 0x8c, 0x1c];
    let size = 7 + silence.len() as u8;
    let head = [0xff, 0xf1, 0x4c, 0x80, size >> 3, size << 5 | 0x1f, 0xfc];
    [head.as_slice(), &silence].concat().repeat(188)
}

#[test]
fn subtitles_beside_a_film_come_with_it() {
    let folder = Folder::new("beside");
    assert_eq!(folder.text_languages("lib/sub/film.aac"), ["de"]);
    let made = folder.done("import lib/sub/film.aac -o stored --no-thumbnails");
    assert_eq!(made.trim(), "stored/film");
    assert_eq!(folder.text_languages("stored/film"), ["de"]);
    // Beside its own description, too, and whatever else is called like it.
    for name in ["film.toml", "film.aac.bak", "ladder.toml"] {
        folder.write(&format!("lib/sub/{name}"), b"");
    }
    assert_eq!(folder.text_languages("lib/sub/film.aac"), ["de"]);
}

#[test]
fn a_packaged_film_is_called_as_the_origin_calls_it() {
    let folder = Folder::new("library");
    let row: Value = serde_json::from_str(&folder.done("library --json lib")).unwrap();
    let id = row["id"].as_str().unwrap();
    folder.write("c.toml", b"[origin]\nlibrary = \"lib\"\n");
    for (at, line) in [
        "package lib/sub/film.aac --library lib",
        "package sub/film.aac --library lib",
        "package lib/sub/film.aac --config c.toml",
    ]
    .into_iter()
    .enumerate()
    {
        let made = folder.done(&format!("{line} -o out{at}"));
        assert_eq!(made.trim(), format!("out{at}/{id}"), "{line}");
        let master = fs::read_to_string(folder.path(&format!("out{at}/{id}/master.m3u8"))).unwrap();
        assert!(master.contains("LANGUAGE=\"de\""), "{master}");
    }
    fs::create_dir(folder.path("other")).unwrap();
    folder.refused(
        "package lib/sub/film.aac --library other -o out",
        &["lib/sub/film.aac", "library other", "--library"],
    );
    folder.write("lib/.film.aac", &sound());
    folder.refused("package lib/.film.aac --library lib -o out", &["does not list it"]);
    folder.refused("package lib/sub/film.aac --config none.toml -o out", &["none.toml"]);
    folder.refused(
        "package lib/sub/film.aac --config c.toml --form cmaf-cbcs -o out",
        &["c.toml", "[origin.protection]"],
    );
    assert!(!folder.path("out").exists());
}

#[test]
fn a_protected_film_without_keys_says_what_to_do() {
    let folder = Folder::new("protected");
    let id = |row: String| {
        let row: Value = serde_json::from_str(&row).unwrap();
        row["id"].as_str().unwrap().to_owned()
    };
    let id = id(folder.done("library --json lib"));
    folder.done("keys init v");
    folder.done(&format!("keys create v {id}"));
    folder.write("c.toml", b"[origin.protection]\nvault = \"v\"\nkek = \"v.kek\"\n");
    let line = "package lib/sub/film.aac --config c.toml --form cmaf-cbcs -o out";
    folder.refused(line, &["film-", "--library", "keys create"]);
    assert_eq!(
        folder.done(&format!("{line} --library lib")).trim(),
        format!("out/{id}")
    );
    // The vault is looked into for clear forms, too: a source may be encrypted.
    folder.write("w.toml", b"[origin.protection]\nvault = \"w\"\nkek = \"v.kek\"\n");
    folder.refused(
        "package lib/sub/film.aac --config w.toml -o out2",
        &["w.toml", "w: no vault is here"],
    );
}

#[test]
fn what_a_library_would_not_show_is_not_published() {
    let folder = Folder::new("hidden");
    folder.write(".x.aac", &sound());
    folder.refused("import .x.aac -o out --no-thumbnails", &[".x", "begins with a dot"]);
    assert!(!folder.path("out").exists());
    #[cfg(feature = "transcode")]
    for count in ["0", "65", "1000"] {
        folder.refused(
            &format!("transcode lib/sub/film.aac -o out --workers {count}"),
            &["--workers", "1..=64"],
        );
    }
}

#[test]
fn a_file_that_a_ladder_names_and_has_not_is_named() {
    let folder = Folder::new("ladder");
    fs::create_dir(folder.path("ladder")).unwrap();
    folder.write("ladder/a.aac", &sound());
    folder.write(
        "ladder/ladder.toml",
        b"[[track]]\nfile = \"a.aac\"\n[[track]]\nfile = \"b.aac\"\n",
    );
    folder.refused("inspect ladder", &["ladder/b.aac", "ladder/ladder.toml"]);
}

#[test]
fn output_that_nobody_takes_is_no_panic() {
    let folder = Folder::new("output");
    let lines = [
        "import lib/sub/film.aac -o stored --no-thumbnails",
        "package lib/sub/film.aac -o packaged",
        "grant new-key grant.key",
        "inspect lib/sub/film.aac",
        "keys init v",
    ];
    for line in lines {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let out = folder
            .command(line)
            .stdout(full)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(1), "{line}: {said}");
        assert!(said.contains("standard output: No space left"), "{line}: {said}");
    }
    let again = Folder::new("output-pipe");
    for line in lines {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let out = again
            .command(line)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(0), "{line}: {said}");
        assert!(
            !said.contains("headwater:") && !said.contains("panicked"),
            "{line}: {said}"
        );
    }
}

#[test]
#[cfg(feature = "control")]
fn no_account_is_made_whose_password_nobody_would_know() {
    let folder = Folder::new("admin");
    let line = "admin create --data data --email a@example.org";
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    for stdout in [Stdio::from(full), Stdio::from(writer)] {
        let out = folder
            .command(line)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert!(said.contains("no account was made"), "{said}");
    }
    assert!(!folder.path("data").exists());
}

#[test]
#[cfg(feature = "control")]
fn a_server_that_is_not_there_is_named() {
    let folder = Folder::new("server");
    // Nobody listens at a port that was had and given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    folder.write("password", b"hunter22\n");
    folder.refused(
        &format!("api --session s.json login http://{free} --email a@example.org --password-file password"),
        &[&free.to_string(), "no connection"],
    );
    folder.done("keys init v");
    let server =
        format!("protocol = \"speke-2.0\"\nurl = \"http://{free}/speke?token=secret\"\nprivate_network = true\n");
    folder.write("from.toml", server.as_bytes());
    fs::set_permissions(
        folder.path("from.toml"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let out = folder.run("keys fetch v film --from from.toml");
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(
        said.contains(&format!("{free}: no connection")) && !said.contains("secret"),
        "{said}"
    );
}
