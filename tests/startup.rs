//! Starts that can not be: each ends at once, and says what is wrong and where.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A folder of its own for `name`, emptied.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("headwater-startup-{name}-{}", std::process::id()));
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn headwater(arguments: &[&str], database_url: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
    command.args(arguments).env_remove("DATABASE_URL");
    if let Some(url) = database_url {
        command.env("DATABASE_URL", url);
    }
    command.output().expect("the program runs")
}

fn check(arguments: &[&str], database_url: Option<&str>, expected: &[&str]) {
    let out = headwater(arguments, database_url);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{arguments:?}: {said}");
    for expected in expected {
        assert!(
            said.contains(expected),
            "{arguments:?} does not say {expected:?}: {said}"
        );
    }
    assert!(!said.contains("panicked") && !said.contains("hunter2"), "{said}");
}

#[test]
fn what_is_not_there_is_named() {
    let folder = folder("origin");
    let absent = folder.join("absent").display().to_string();
    check(&["origin", "--library", &absent], None, &["library", &absent]);
    let library = folder.display().to_string();
    check(
        &["origin", "--library", &library, "--listen", "127.0.0.1:99999"],
        None,
        &["listen", "127.0.0.1:99999"],
    );
    check(&["check-config", &absent], None, &[&absent]);
    let data = folder.join("data").display().to_string();
    let control = ["control", "--data", &data, "--listen", "127.0.0.1:0"];
    let free = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port");
    let dead = format!("postgres://someone:hunter2@{free}/films");
    let place = free.to_string();
    check(&control, Some(&dead), &[&place, "\"films\"", "refused"]);
    check(&control, Some("postgres/films"), &["DATABASE_URL"]);
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn each_role_s_file_is_checked_for_that_role() {
    let folder = folder("config");
    let file = folder.join("headwater.toml");
    let path = file.display().to_string();
    let good = |text: &str, expected: &str| {
        std::fs::write(&file, text).expect("written");
        let out = headwater(&["check-config", &path], None);
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{text}: {}", String::from_utf8_lossy(&out.stderr));
        assert!(said.contains(": good") && said.contains(expected), "{said}");
    };
    good("[control]\nlisten = \"127.0.0.1:8090\"\n", "no [origin]");
    good(&format!("[origin]\nlibrary = \"{}\"\n", folder.display()), "library");
    for (text, expected) in [
        ("[origin]\nlisten = \"127.0.0.1:8080\"\n", "library"),
        ("[origins]\n", "origins"),
        ("[control]\nlisten = \"here\"\n", "here"),
    ] {
        std::fs::write(&file, text).expect("written");
        check(&["check-config", &path], None, &[expected]);
    }
    std::fs::remove_dir_all(&folder).expect("removed");
}

/// What a start reads besides the configuration: without it, or with another, neither starts nor is called good.
#[test]
fn what_a_start_would_read_is_read() {
    let folder = folder("files");
    let file = folder.join("headwater.toml");
    let (path, place) = (file.display().to_string(), folder.display().to_string());
    let done = |line: &str| {
        let words: Vec<String> = line.split(' ').map(|word| word.replace("DIR", &place)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let out = headwater(&words, None);
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    };
    for line in ["grant new-key DIR/g.key", "keys init DIR/v", "keys init DIR/w"] {
        done(line);
    }
    for name in ["cert.pem", "key.pem"] {
        std::fs::write(folder.join(name), "no PEM\n").expect("written");
    }
    let written = |text: &str| {
        std::fs::write(&file, text.replace("DIR", &place)).expect("written");
    };
    let origin = "[origin]\nlibrary = \"DIR\"\nlisten = \"127.0.0.1:0\"\n";
    let access = "[origin.access]\ngrant_keys = \"DIR/g.key\"\n";
    written(&format!(
        "{origin}{access}[origin.protection]\nvault = \"DIR/v\"\nkek = \"DIR/v.kek\"\n"
    ));
    let out = headwater(&["check-config", &path], None);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{said}");
    // What goes to a file or a pipe has no colours.
    assert!(said.contains("how media is sent") && !said.contains('\x1b'), "{said}");
    for (text, expected) in [
        (
            "[origin.access]\ngrant_keys = \"DIR/none.key\"\n".to_owned(),
            "none.key",
        ),
        (format!("{access}revoked = \"DIR/none\"\n"), "none"),
        (
            format!("{access}[origin.protection]\nvault = \"DIR/none\"\nkek = \"DIR/v.kek\"\n"),
            "none: no vault is here",
        ),
        (
            format!("{access}[origin.protection]\nvault = \"DIR/v\"\nkek = \"DIR/w.kek\"\n"),
            "vault.json",
        ),
        (
            "[origin.tls]\nlisten = \"127.0.0.1:0\"\ncertificate = \"DIR/cert.pem\"\nkey = \"DIR/key.pem\"\n"
                .to_owned(),
            "TLS",
        ),
    ] {
        written(&format!("{origin}{text}"));
        check(&["origin", "--config", &path], None, &[expected]);
        check(&["check-config", &path], None, &[&path, expected]);
    }
    let data = "[control]\nlisten = \"127.0.0.1:0\"\ndata = \"DIR/data\"\n";
    for (text, expected) in [
        ("grant_keys = \"DIR/none.key\"\n", "none.key"),
        ("[control.settings.billing]\nprovider = \"x\"\n", "provider"),
        ("[control.stripe]\nsecrets = \"DIR/none.secrets\"\n", "none.secrets"),
    ] {
        written(&format!("{data}{text}"));
        // Before the database is asked, which is not there.
        let nowhere = Some("postgres://someone:hunter2@127.0.0.1:1/films");
        check(&["control", "--config", &path], nowhere, &[expected]);
        check(&["check-config", &path], None, &[&path, expected]);
    }
    assert!(!folder.join("data").exists(), "a check makes nothing");
    std::fs::remove_dir_all(&folder).expect("removed");
}
