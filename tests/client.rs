//! `headwater api` and `headwater admin load` against a running `headwater control`, over a wire that breaks.
#![cfg(feature = "control")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod nodes;

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nodes::{Node, PASSWORD, Site, has_postgres, text};
use serde_json::Value;

/// Longest that a state may take to come.
const PATIENCE: Duration = Duration::from_secs(30);
const EMAIL: &str = "admin@example.org";

/// A film that `film.mp4` is a copy of, if media is here; says so if it is not.
fn film() -> Option<PathBuf> {
    let media = std::env::var_os("HEADWATER_MEDIA").map(PathBuf::from);
    let film = media
        .map(|media| media.join("avc/wpt__movie_300.mp4"))
        .filter(|film| film.exists());
    if film.is_none() {
        eprintln!("SKIPPED: HEADWATER_MEDIA has no avc/wpt__movie_300.mp4");
    }
    film
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A wire to a server, and what becomes of it.
struct Wire {
    address: String,
    /// Bytes towards the server that may yet pass.
    left: AtomicI64,
    /// Whether it is cut once they have; else it swallows what comes.
    cuts: AtomicBool,
    broke: AtomicBool,
    /// Bytes that reached the server.
    passed: AtomicU64,
    /// Answers that yet come back.
    answers_left: AtomicI64,
}

impl Wire {
    fn new(server: &str) -> Arc<Wire> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Arc::new(Wire {
            address: listener.local_addr().unwrap().to_string(),
            left: AtomicI64::new(i64::MAX),
            cuts: AtomicBool::new(false),
            broke: AtomicBool::new(false),
            passed: AtomicU64::new(0),
            answers_left: AtomicI64::new(i64::MAX),
        });
        let (shared, server) = (Arc::clone(&wire), server.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&server) else {
                    continue;
                };
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let (there, and_back) = (Arc::clone(&shared), Arc::clone(&shared));
                std::thread::spawn(move || there.forward(client, server));
                std::thread::spawn(move || and_back.answer(back.0, back.1));
            }
        });
        wire
    }

    /// Breaks after so many bytes more.
    fn break_after(&self, count: u64, cuts: bool) {
        self.cuts.store(cuts, Ordering::SeqCst);
        self.broke.store(false, Ordering::SeqCst);
        self.passed.store(0, Ordering::SeqCst);
        self.left.store(i64::try_from(count).unwrap(), Ordering::SeqCst);
    }

    fn heal(&self) {
        self.left.store(i64::MAX, Ordering::SeqCst);
        self.passed.store(0, Ordering::SeqCst);
    }

    fn broke(&self) -> bool {
        self.broke.load(Ordering::SeqCst)
    }

    /// After `count` more answers none comes back.
    fn lose_answers_after(&self, count: i64) {
        self.answers_left.store(count, Ordering::SeqCst);
    }

    /// Answers to the client. Small ones come in one piece.
    fn answer(&self, mut server: TcpStream, mut client: TcpStream) {
        let mut buffer = [0; 64 << 10];
        while let Ok(count @ 1..) = server.read(&mut buffer) {
            if self.answers_left.fetch_sub(1, Ordering::SeqCst) <= 0 || client.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    }

    fn forward(&self, mut client: TcpStream, mut server: TcpStream) {
        let mut buffer = [0; 4096];
        let mut swallows = false;
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            let count_left = i64::try_from(count).unwrap();
            if swallows {
                continue;
            }
            if self.left.fetch_sub(count_left, Ordering::SeqCst) < count_left {
                self.broke.store(true, Ordering::SeqCst);
                if self.cuts.load(Ordering::SeqCst) {
                    self.left.store(i64::MAX, Ordering::SeqCst);
                    break;
                }
                swallows = true;
                continue;
            }
            self.passed.fetch_add(count as u64, Ordering::SeqCst);
            if server.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    }
}

/// Somebody with a session file.
struct Person {
    session: PathBuf,
}

impl Person {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
        command.arg("api").arg("--session").arg(&self.session).args(words);
        // Whatever is logged, secrets are not.
        command.env("HEADWATER_LOG", "trace").stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        let before = self.secrets();
        let output = self.command(words).output().unwrap();
        let said = [output.stdout.as_slice(), &output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        for secret in before.iter().chain(&self.secrets()) {
            assert!(!said.contains(secret), "{words:?} says a secret");
        }
        output
    }

    fn done(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(
            output.status.success(),
            "{words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The last line of why it failed.
    fn refused(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(!output.status.success(), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn login(&self, address: &str, password: &str) -> Output {
        let url = format!("http://{address}");
        let mut command = self.command(&["login", &url, "--email", EMAIL]);
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(process.stdin.take().unwrap(), "{password}").unwrap();
        process.wait_with_output().unwrap()
    }

    fn kept(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(&self.session).unwrap_or_default()).unwrap_or_default()
    }

    fn secrets(&self) -> Vec<String> {
        let kept = self.kept();
        let tokens = ["access_token", "refresh_token"].map(|name| kept[name].as_str().map(str::to_owned));
        tokens.into_iter().flatten().chain([PASSWORD.to_owned()]).collect()
    }

    /// As after a while: the access token holds no more.
    fn age(&self) {
        let mut kept = self.kept();
        kept["access_token"] = Value::from("old");
        fs::write(&self.session, kept.to_string()).unwrap();
    }
}

/// What stands after `name` in what was printed.
fn printed(said: &str, name: &str) -> String {
    let line = said.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {said}")).trim().to_owned()
}

fn start(name: &str) -> (Site, Node, String) {
    let site = Site::new(name, "");
    let node = site.start();
    let admin = site.admin(&node);
    (site, node, admin)
}

#[test]
fn films_are_uploaded_over_breaks_published_and_watched() {
    let (true, Some(source)) = (has_postgres(), film()) else {
        return;
    };
    let (site, node, admin) = start("client");
    let headers = [("Authorization", admin.as_str())];
    let wire = Wire::new(&node.address);
    let person = Person {
        session: site.0.join("person/api.json"),
    };
    let signed = person.login(&wire.address, PASSWORD);
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    let film = site.0.join("film.mp4");
    fs::copy(source, &film).unwrap();
    let size = fs::metadata(&film).unwrap().len();
    assert!(size > 1 << 20, "too short to be broken off twice");
    let named = film.to_str().unwrap();
    let words = [
        "upload",
        named,
        "--new-movie",
        "Film",
        "--runtime",
        "5",
        "--rating",
        "G",
        "--no-wait",
    ];

    // That a movie was made, and then that an upload was begun, is never heard of.
    let rows = |path: &str| {
        node.done("GET", path, &headers, &Value::Null)["data"]
            .as_array()
            .unwrap()
            .len()
    };
    for (answer_count, upload_count) in [(0, 0), (1, 1)] {
        wire.lose_answers_after(answer_count);
        assert!(!person.run(&words).status.success(), "nothing was lost");
        assert_eq!(
            (rows("/admin/movies"), rows("/uploads")),
            (1, upload_count),
            "each is made once"
        );
    }
    wire.lose_answers_after(i64::MAX);

    // The wire goes quiet two thirds on the way, and whoever uploads is killed.
    wire.break_after(size * 2 / 3, false);
    let mut process = person
        .command(&words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the wire is quiet", || wire.broke());
    process.kill().unwrap();
    process.wait().unwrap();
    let uploads = || node.done("GET", "/uploads", &headers, &Value::Null)["data"].clone();
    wait_until("what came is kept", || {
        let offset = uploads()[0]["offset_bytes"].as_u64().unwrap();
        offset > size / 2
    });
    let kept = uploads()[0]["offset_bytes"].as_u64().unwrap();

    // Asked again, it goes on there, although the wire is cut once more.
    wire.break_after((size - kept) / 2, true);
    let said = person.done(&words);
    assert!(wire.broke(), "the wire was not cut");
    let (asset, passed) = (printed(&said, "asset"), wire.passed.load(Ordering::SeqCst));
    assert!(
        passed < size / 2,
        "{passed} of {size} bytes were sent once more after {kept}"
    );
    let rows = uploads();
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
    assert_eq!(rows[0]["status"], "processing", "{rows}");
    let movie = text(&rows[0]["target"]["content_id"]);
    let movies = node.done("GET", "/admin/movies", &headers, &Value::Null);
    assert_eq!(
        movies["data"].as_array().unwrap().len(),
        1,
        "one movie is made, however often it is asked"
    );
    let stored = site.0.join("data/sources").join(text(&rows[0]["id"]));
    assert!(
        fs::read(&film).unwrap() == fs::read(stored).unwrap(),
        "other bytes came"
    );

    // Not yet: what is not encoded is not published. Bad ids are not asked about.
    let why = person.refused(&["publish", &movie]);
    assert!(why.contains("PUBLISH_VALIDATION_FAILED"), "{why}");
    let why = person.refused(&["publish", "../users"]);
    assert!(why.contains("is no id"), "{why}");
    let why = person.refused(&["watch", &asset]);
    assert!(why.contains("FORBIDDEN") && why.contains("sessions alone"), "{why}");

    // As if a worker had encoded it. Whoever waits again sends nothing again.
    site.sql(&format!(
        "update uploads set status = 'completed', transcode_status = 'completed';
         update assets set status = 'ready', playable = true where id = '{asset}'"
    ));
    wire.heal();
    let again = person.done(&words[..words.len() - 1]);
    assert_eq!(printed(&again, "asset"), asset);
    let passed = wire.passed.load(Ordering::SeqCst);
    assert!(passed < 100_000, "{passed} bytes were sent again");
    assert_eq!(person.kept()["uploads"], serde_json::json!({}), "it has ended");

    assert_eq!(printed(&person.done(&["publish", &movie]), "published"), movie);
    let status = node.done("GET", &format!("/admin/movies/{movie}"), &headers, &Value::Null);
    assert_eq!(status["status"], "published");
    // Twice is one device and one stream.
    for _ in 0..2 {
        let said = person.done(&["watch", &movie]);
        let hls = printed(&said, "hls");
        assert!(hls.contains(&asset) && hls.ends_with("master.m3u8"), "{said}");
        assert!(printed(&said, "dash").ends_with("manifest.mpd"), "{said}");
    }
    let devices = node.done("GET", "/devices", &headers, &Value::Null);
    assert_eq!(devices["data"].as_array().unwrap().len(), 1, "{devices}");
}

#[test]
fn sign_ins_are_kept_for_their_owner_alone() {
    if !has_postgres() {
        return;
    }
    let (site, node, admin) = start("sign-ins");
    let movie = site.movie(&node, &admin, "Film");
    let person = Person {
        session: site.0.join("person/api.json"),
    };
    let why = person.refused(&["publish", &movie]);
    assert!(why.contains("sign in first"), "{why}");
    let refused = person.login(&node.address, "wrong horse");
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && !why.contains("wrong horse"), "{why}");
    assert!(why.contains("INVALID_CREDENTIALS"), "{why}");
    let refused = person.login("api.example:1", PASSWORD);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("must be https"), "{why}");
    assert!(!person.session.exists());

    assert!(person.login(&node.address, PASSWORD).status.success());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&person.session), 0o600);
    fs::set_permissions(&person.session, Permissions::from_mode(0o644)).unwrap();
    let why = person.refused(&["publish", &movie]);
    assert!(why.contains("mode 644"), "{why}");
    fs::set_permissions(&person.session, Permissions::from_mode(0o600)).unwrap();

    // Many at once, and the token is old: one of them gets new ones for all.
    person.age();
    let mut many: Vec<_> = (0..4)
        .map(|_| {
            person
                .command(&["watch", &movie])
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for process in many.drain(..) {
        let output = process.wait_with_output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        // It is a draft yet.
        assert!(why.contains("NOT_FOUND") || output.status.success(), "{why}");
    }
    assert_ne!(person.kept()["access_token"], "old");
    person.done(&["publish", &movie]);
    assert_eq!(mode(&person.session), 0o600, "after it was written anew");

    let token = text(&person.kept()["access_token"]);
    person.done(&["logout"]);
    assert!(!person.session.exists());
    let bearer = format!("Bearer {token}");
    let answer = node.ask("GET", "/devices", &[("Authorization", &bearer)], &Value::Null);
    assert_eq!(answer.status, 401, "it has ended there, too");

    // A broken file says where, and not what.
    fs::write(&person.session, "{\"url\": 1, \"access_token\": \"hush\"}").unwrap();
    fs::set_permissions(&person.session, Permissions::from_mode(0o600)).unwrap();
    let why = person.refused(&["publish", &movie]);
    assert!(why.contains("line 1: is no sign-in") && !why.contains("hush"), "{why}");
}

#[test]
fn genres_and_country_rules_are_loaded_from_a_file() {
    if !has_postgres() {
        return;
    }
    let (site, node, admin) = start("load");
    let movie = site.movie(&node, &admin, "Film");
    let publish = format!("/admin/movies/{movie}/publish");
    node.done("POST", &publish, &[("Authorization", &admin)], &Value::Null);
    let (viewer, _) = site.viewer(&node, "viewer", 0);
    let seen = || {
        node.ask(
            "GET",
            &format!("/movies/{movie}"),
            &[("Authorization", &viewer)],
            &Value::Null,
        )
    };
    assert_eq!(seen().status, 200);
    let file = site.0.join("rules.toml");
    let load = |text: &str| {
        fs::write(&file, text).unwrap();
        let output = site
            .headwater(&["admin", "load", file.to_str().unwrap()])
            .output()
            .unwrap();
        let said = [output.stdout.as_slice(), &output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let good = format!(
        "[[genre]]\nslug = \"drama\"\nname = \"Drama\"\n[[genre]]\nslug = \"noir\"\nname = \"Noir\"\nparent = \"drama\"\n\
         [[geo_rule]]\nname = \"Home\"\npolicy = \"allow_list\"\nterritories = [\"de\"]\napplies_to = [\"{movie}\"]\n"
    );
    for _ in 0..2 {
        let (is_good, said) = load(&good);
        assert!(
            is_good && said.contains("Home") && printed(&said, "genres") == "2",
            "{said}"
        );
    }
    // Where the viewer is, nobody knows. A node that runs already hears of it.
    wait_until("the rule holds", || seen().code() == "GEO_RESTRICTED");
    assert_eq!(
        site.sql("select string_agg(slug, ',' order by slug) from genres"),
        "drama,noir"
    );
    assert_eq!(
        site.sql(&format!("select geo_allows('{movie}', null, 'FR', true)")),
        "f"
    );
    assert_eq!(
        site.sql(&format!("select geo_allows('{movie}', null, 'DE', true)")),
        "t"
    );
    for (wrong, expected) in [
        ("[[genre]]\nslug = \"a\"\n", "missing field `name`"),
        ("[[genre]]\nslug = \"a\"\nname = \"A\"\ncolour = 1\n", "line 4"),
        (
            "[[genre]]\nslug = \"a\"\nname = \"A\"\nparent = \"b\"\n",
            "genre a: parent: no such genre",
        ),
        (
            "[[geo_rule]]\nname = \"R\"\npolicy = \"none\"\nterritories = [\"DE\"]\n",
            "geo_rule R: policy",
        ),
        (
            "[[geo_rule]]\nname = \"R\"\npolicy = \"allow_list\"\nterritories = [\"DEU\"]\n",
            "geo_rule R: territories",
        ),
    ] {
        let (is_good, said) = load(wrong);
        assert!(
            !is_good && said.contains("rules.toml") && said.contains(expected),
            "{wrong}: {said}"
        );
    }
    assert_eq!(site.sql("select count(*) from genres"), "2", "all or nothing");
}
