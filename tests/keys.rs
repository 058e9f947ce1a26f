//! `headwater keys` and `headwater grant` as they are run: vaults on disk, exit codes, and secrets that stay where they
//! belong.

#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a command said.
struct Said {
    is_success: bool,
    out: String,
    err: String,
}

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("headwater-cli-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Runs a line of words in the folder.
    fn run(&self, line: &str) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_headwater"))
            .args(line.split_whitespace())
            .current_dir(&self.0)
            .output()
            .unwrap();
        Said {
            is_success: output.status.success(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The same, and it works.
    fn done(&self, line: &str) -> String {
        let said = self.run(line);
        assert!(said.is_success && said.err.is_empty(), "{line}: {}", said.err);
        said.out
    }

    /// The same, and it is refused with these words.
    fn refused(&self, line: &str, expected: &str) {
        let said = self.run(line);
        assert!(!said.is_success && said.out.is_empty(), "{line}: {}", said.out);
        assert!(said.err.contains(expected), "{line}: {}", said.err);
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }
}

fn rows(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

#[test]
fn a_vault_is_made_for_its_owner_alone() {
    let folder = Folder::new("init");
    let out = folder.done("keys init v/");
    assert!(out.contains("v.kek"), "{out}");
    for (name, mode) in [
        ("v", 0o700),
        ("v/titles", 0o700),
        ("v/vault.json", 0o600),
        ("v.kek", 0o600),
    ] {
        assert_eq!(folder.mode(name), mode, "{name}");
    }
    let kek = fs::read(folder.path("v.kek")).unwrap();
    folder.refused("keys init v", "is a vault already");
    assert_eq!(fs::read(folder.path("v.kek")).unwrap(), kek);

    folder.done("keys create v film-1 --scheme cbcs");
    assert_eq!(folder.mode("v/titles/film-1.json"), 0o600);
    assert_eq!(files(&folder.path("v")).len(), 2);
    for mode in [0o640, 0o604] {
        folder.set_mode("v.kek", mode);
        folder.refused("keys create v film-2", "chmod 600");
    }
    folder.set_mode("v.kek", 0o600);
    folder.set_mode("v", 0o750);
    folder.refused("keys list v", "chmod 700");
    folder.set_mode("v", 0o700);
    folder.refused("keys create v film-2 --kek none", "none");
    folder.refused("keys list w", "w: No such file");
    folder.refused("keys", "Usage");
}

#[test]
fn keys_are_made_once_and_end_in_steps() {
    let folder = Folder::new("create");
    folder.done("keys init v");
    let out = folder.done("keys create v film-1 film-2 --scheme cbcs,cenc");
    assert_eq!(out, "film-1: 10 created, 0 kept\nfilm-2: 10 created, 0 kept\n");
    let listed = folder.done("keys list v film-1 --json");
    let before = rows(&listed);
    assert_eq!(before.len(), 10);
    assert!(
        before
            .iter()
            .all(|row| row["state"] == "active" && row.get("key").is_none())
    );
    let id = before[0]["key_id"].as_str().unwrap().to_owned();
    assert_eq!((&id[14..15], id.len()), ("4", 36), "{id} is no random UUID");

    let out = folder.done("keys create v film-1 --json");
    assert_eq!(out, "{\"id\":\"film-1\",\"created\":10,\"kept\":10}\n");
    let out = folder.done("keys create v film-1 --scheme cbcs --period 1 --starts 3600");
    assert_eq!(out, "film-1: 5 created, 0 kept\n");
    let after = rows(&folder.done("keys list v film-1 --json"));
    assert_eq!((after.len(), &after[..10]), (25, &before[..]));
    assert_eq!(after[24]["starts_ms"], 3_600_000);

    let opened = rows(&folder.done("keys list v film-1 --json --show-secrets"));
    assert!(opened.iter().all(|row| row["key"].as_str().unwrap().len() == 32));
    let distinct: std::collections::BTreeSet<_> = opened.iter().map(|row| row["key"].to_string()).collect();
    assert_eq!(distinct.len(), 25);

    let state = || rows(&folder.done("keys list v film-1 --json --show-secrets"))[0].clone();
    for (command, name, opens) in [
        ("retire", "retired", true),
        ("revoke", "revoked", false),
        ("destroy", "destroyed", false),
    ] {
        let out = folder.done(&format!("keys {command} v {id}"));
        assert_eq!(out, format!("film-1: {id} is {name}\n"));
        assert_eq!((&state()["state"], state().get("key").is_some()), (&name.into(), opens));
    }
    folder.refused(
        &format!("keys retire v {id}"),
        "is destroyed and can not become retired",
    );
    folder.refused("keys retire v 00000000000000000000000000000000", "no key 00000000-");
    folder.refused("keys retire v 12", "32 hexadecimal digits");
    assert_eq!(
        folder.done("keys create v film-1 --scheme cbcs"),
        "film-1: 1 created, 4 kept\n"
    );

    folder.refused(
        "keys create v film-1 --scheme cbcs,wide",
        "wide: a scheme is one of cbcs, cenc",
    );
    folder.refused("keys create v ../film", "../film: not a media id");
    folder.refused("keys create v film-1 --period 2", "go together");
    folder.refused("keys create v film-1 --tenant acme", "is tenant default's, not acme's");
    folder.refused("keys create v film-3 --tenant a|b", "a|b: a tenant is named by");
    folder.refused("keys create v", "required");
    folder.refused("keys create v --all", "--library");
    folder.refused("keys list v film-9", "film-9: has no keys in this vault");
}

#[test]
fn states_are_changed_by_commands_alone() {
    let folder = Folder::new("states");
    folder.done("keys init v");
    folder.done("keys create v film-1 --scheme cbcs");
    let id = rows(&folder.done("keys list v --json"))[0]["key_id"]
        .as_str()
        .unwrap()
        .to_owned();
    folder.done(&format!("keys revoke v {id}"));
    let path = folder.path("v/titles/film-1.json");
    let good = fs::read_to_string(&path).unwrap();
    let changed = good.replacen("\"revoked\"", "\"active\"", 1);
    assert_ne!(changed, good);
    fs::write(&path, &changed).unwrap();
    let expected = "was changed by something else than `headwater keys`";
    folder.refused("keys list v --show-secrets", expected);
    folder.refused("keys create v film-1 --scheme cenc", expected);
    folder.refused(&format!("keys retire v {id}"), expected);
    folder.refused(
        "keys export v film-1 --plain --show-secrets",
        "film-1: the key source is not available",
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), changed);
    fs::write(&path, good).unwrap();
    folder.done("keys create v film-1 --scheme cenc");
    folder.refused(&format!("keys revoke v {id} --kek none"), "none");
    // There is nothing to upgrade.
    assert_eq!(folder.done("keys upgrade v"), "");
}

#[test]
fn a_whole_library_gets_keys() {
    let folder = Folder::new("library");
    folder.done("keys init v");
    fs::create_dir(folder.path("films")).unwrap();
    for name in ["a.mp4", "b.mkv", "b.en.vtt", "notes.txt"] {
        fs::write(folder.path("films").join(name), "").unwrap();
    }
    let rows = rows(&folder.done("keys create v --library films --all --scheme cenc --json"));
    let ids: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert!(ids[0].starts_with("a-") && ids[1].starts_with("b-"), "{ids:?}");
}

/// Made by age-keygen.
#[cfg(feature = "control")]
const AGE_IDENTITY: &str =
    "# created: 2026-11-22\nAGE-SECRET-KEY-13TV0Z2YQH32PVVVY4KDP8TU2SP8A7EAFYDS8N7M06WE9893YFMNQF857P6\n";

#[cfg(feature = "control")]
#[test]
fn a_vault_goes_under_an_age_identity() {
    let folder = Folder::new("age");
    folder.done("keys init v");
    folder.done("keys create v film-1 --scheme cbcs");
    let before = folder.done("keys list v --show-secrets");
    fs::write(folder.path("id.txt"), AGE_IDENTITY).unwrap();
    folder.set_mode("id.txt", 0o644);
    folder.refused("keys rotate-kek v --new-kek id.txt", "chmod 600");
    folder.set_mode("id.txt", 0o600);
    folder.done("keys rotate-kek v --new-kek id.txt");
    assert_eq!(folder.done("keys list v --show-secrets --kek id.txt"), before);
    folder.refused("keys list v --show-secrets", "is wrapped with key encryption key");
    // What is kept is a file of age's own.
    let head: serde_json::Value = serde_json::from_slice(&fs::read(folder.path("v/vault.json")).unwrap()).unwrap();
    let wrapped = head["tenants"]["default"].as_str().unwrap();
    assert!(wrapped.starts_with("6167652d656e6372797074696f6e2e6f7267"), "{wrapped}");
    fs::write(
        folder.path("bad.txt"),
        AGE_IDENTITY.replace("AGE-SECRET-KEY-13", "AGE-SECRET-KEY-14"),
    )
    .unwrap();
    folder.set_mode("bad.txt", 0o600);
    folder.refused(
        "keys list v --show-secrets --kek bad.txt",
        "bad.txt: not an age identity",
    );
    folder.done("keys init w --kek id.txt");
    folder.done("keys create w film-1 --kek id.txt --scheme cenc");
    folder.done("keys rotate-kek v --kek id.txt --new-kek v.kek");
    assert_eq!(folder.done("keys list v --show-secrets"), before);
}

#[test]
fn what_can_not_start_says_why_on_one_line() {
    let folder = Folder::new("refusals");
    folder.done("keys init v");
    folder.done("grant new-key g.key");
    fs::create_dir(folder.path("films")).unwrap();
    let origin = |protection: &str, access: &str| {
        let text = format!("[origin]\nlibrary = \"films\"\nlisten = \"127.0.0.1:0\"\n{protection}{access}");
        fs::write(folder.path("headwater.toml"), text).unwrap();
    };
    let check = |protection: &str, access: &str, expected: &str| {
        origin(protection, access);
        let said = folder.run("--log-format json origin --config headwater.toml");
        let lines: Vec<&str> = said
            .err
            .lines()
            .filter(|line| line.starts_with("headwater: "))
            .collect();
        assert!(!said.is_success && said.out.is_empty(), "{}", said.out);
        assert_eq!(lines, [format!("headwater: {expected}")]);
    };
    let protection = |vault: &str, kek: &str| format!("[origin.protection]\nvault = \"{vault}\"\nkek = \"{kek}\"\n");
    let access = |more: &str| format!("[origin.access]\ngrant_keys = \"g.key\"\n{more}");
    check(
        &protection("nowhere", "v.kek"),
        &access(""),
        "key vault: nowhere: no vault is here; `headwater keys init` makes one",
    );
    check(
        &protection("v", "none.kek"),
        &access(""),
        "key vault: none.kek: No such file or directory (os error 2)",
    );
    check(
        &protection("v", "v.kek"),
        "",
        "[origin] access: is not set and [origin.protection] is: whoever asks would be given keys; add [origin.access]",
    );
    fs::write(folder.path("ended"), "7331\nzz\n").unwrap();
    check(
        &protection("v", "v.kek"),
        &access("revoked = \"ended\"\n"),
        "access: ended, line 2: not a session id in hexadecimal digits",
    );
    fs::write(folder.path("ended"), b"\xff\xfe").unwrap();
    check(
        &protection("v", "v.kek"),
        &access("revoked = \"ended\"\n"),
        "access: ended: stream did not contain valid UTF-8",
    );
    check(
        &protection("v", "v.kek"),
        &access("revoked = \"none\"\n"),
        "access: none: No such file or directory (os error 2)",
    );
    folder.set_mode("g.key", 0o644);
    check(
        &protection("v", "v.kek"),
        &access(""),
        "access: g.key: others may read it; chmod 600 it",
    );
    folder.set_mode("g.key", 0o600);
    #[cfg(feature = "control")]
    {
        folder.refused("keys serve v", "--credentials <FILE>");
        folder.refused(
            "keys serve v --credentials none.toml",
            "headwater: none.toml: No such file or directory (os error 2)\n",
        );
        fs::write(folder.path("who.toml"), "").unwrap();
        folder.set_mode("who.toml", 0o600);
        let nobody = "headwater: who.toml: has neither a [[client]] nor a [[signer]]\n";
        folder.refused("keys serve v --credentials who.toml", nobody);
    }
}

#[test]
fn a_new_kek_opens_and_the_old_one_does_not() {
    let folder = Folder::new("rotate");
    folder.done("keys init v");
    folder.done("keys create v film-1 --scheme cbcs --tenant acme");
    folder.done("keys create v film-2 --scheme cbcs");
    let secrets = |kek: &str| folder.run(&format!("keys list v --show-secrets --kek {kek}"));
    let (before, title) = (
        secrets("v.kek").out,
        fs::read(folder.path("v/titles/film-1.json")).unwrap(),
    );

    folder.refused(
        "keys rotate-kek v --new-kek v.kek",
        "is the key encryption key that the vault has",
    );
    folder.done("keys rotate-kek v --new-kek new.kek");
    assert_eq!(folder.mode("new.kek"), 0o600);
    assert_eq!(secrets("new.kek").out, before);
    let old = secrets("v.kek");
    assert!(
        !old.is_success && old.err.contains("is wrapped with key encryption key"),
        "{}",
        old.err
    );
    folder.refused(
        "keys rotate-kek v --new-kek third.kek",
        "is wrapped with key encryption key",
    );
    assert!(!folder.path("third.kek").exists());
    folder.refused(
        "keys create v film-3 --tenant other",
        "is wrapped with key encryption key",
    );

    folder.done("keys rotate-kek v --kek new.kek --new-kek third.kek --keep-old");
    assert_eq!(
        (secrets("new.kek").out, secrets("third.kek").out),
        (before.clone(), before.clone())
    );
    folder.refused(
        "keys rotate-kek v --kek third.kek --new-kek fourth.kek",
        "a rotation is under way",
    );
    folder.refused(
        "keys finish-rotation v --kek new.kek",
        "is not the vault's new key encryption key",
    );
    folder.done("keys finish-rotation v --kek third.kek");
    assert!(!secrets("new.kek").is_success);
    assert_eq!(secrets("third.kek").out, before);
    folder.refused("keys finish-rotation v --kek third.kek", "no rotation is under way");
    assert_eq!(fs::read(folder.path("v/titles/film-1.json")).unwrap(), title);
}

/// A key that is planted, and every form in which it could come out.
const CANARY: &str = "c0ffee11deadbeef5ca1ab1e0ddba11e";

fn canary_forms() -> Vec<(&'static str, Vec<u8>)> {
    let raw: Vec<u8> = (0..16)
        .map(|at| u8::from_str_radix(&CANARY[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let mut guid = raw.clone();
    guid[..4].reverse();
    guid[4..6].reverse();
    guid[6..8].reverse();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let uuid = |bytes: &[u8]| {
        let hex = hex(bytes);
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    };
    // By coreutils: `echo c0ff… | xxd -r -p | base64`, without its padding.
    let base64 = "wP/uEd6tvu9coaseDduhHg";
    let guid_base64 = "Ee7/wK3e775coaseDduhHg";
    vec![
        ("hex", CANARY.into()),
        ("HEX", CANARY.to_uppercase().into()),
        ("uuid", uuid(&raw).into()),
        ("base64", base64.into()),
        ("base64url", base64.replace('/', "_").into()),
        ("GUID hex", hex(&guid).into()),
        ("GUID HEX", hex(&guid).to_uppercase().into()),
        ("GUID", uuid(&guid).into()),
        ("GUID base64", guid_base64.into()),
        ("GUID base64url", guid_base64.replace('/', "_").into()),
        ("raw GUID", guid),
        ("raw", raw),
    ]
}

fn has_canary(bytes: &[u8]) -> Option<&'static str> {
    let forms = canary_forms();
    let found = forms
        .iter()
        .find(|(_, form)| bytes.windows(form.len()).any(|window| window == form.as_slice()));
    found.map(|(name, _)| *name)
}

#[test]
fn a_planted_key_comes_out_only_when_it_is_asked_for() {
    let folder = Folder::new("canary");
    let id = "0123456789abcdef0123456789abcdef";
    let other = "1123456789abcdef0123456789abcdef";
    let quiet = |line: &str| {
        let said = folder.run(line);
        for (what, text) in [("out", &said.out), ("err", &said.err)] {
            assert_eq!(has_canary(text.as_bytes()), None, "{line}: {what}");
        }
        for path in files(&folder.0) {
            let found = has_canary(&fs::read(&path).unwrap());
            assert_eq!(found, None, "{line}: {}", path.display());
        }
        said.is_success
    };
    assert!(quiet("keys init v"));
    assert!(quiet(&format!("keys import v film-1 --key {id}:{CANARY}:cbcs:HD")));
    let shown = folder.done("keys list v --show-secrets");
    assert_eq!(has_canary(shown.as_bytes()), Some("hex"), "{shown}");
    assert!(shown.contains(CANARY));
    let shown = folder.done("keys list v film-1 --show-secrets --json");
    assert_eq!(has_canary(shown.as_bytes()), Some("hex"), "{shown}");

    // Works, and says nothing.
    for line in [
        "keys list v",
        "keys list v film-1 --json",
        "keys create v film-1",
        "keys create v film-1 --period 1 --starts 60",
        "keys rotate-kek v --new-kek new.kek --keep-old",
        "keys finish-rotation v --kek new.kek",
    ] {
        assert!(quiet(line), "{line}");
    }
    // Is refused, and says nothing.
    for line in [
        format!("keys import v film-1 --kek new.kek --key {id}:{CANARY}:cbcs:HD"),
        format!("keys import v film-1 --kek new.kek --key {other}:{CANARY}:cbcs:HD"),
        format!("keys import v film-1 --kek new.kek --key {other}:{CANARY}0:cbcs:SD"),
        format!("keys import v film-1 --kek new.kek --key {CANARY}0:{CANARY}:cbcs:SD"),
        format!("keys import v film-1 --kek new.kek --key {other}:{CANARY}:{CANARY}:SD"),
        format!("keys import v film-1 --kek new.kek --key {other}:{CANARY}:cbcs:{CANARY}"),
        format!("keys import v film-1 --kek new.kek --key {other}:{CANARY}"),
        format!("keys import v film-1 --kek new.kek --key {CANARY}"),
        format!("keys import v film-1 --kek v.kek --key {other}:{CANARY}:cenc:SD"),
        format!("keys import v film-1 --kek none --key {other}:{CANARY}:cenc:SD"),
        format!("keys import w film-1 --key {other}:{CANARY}:cenc:SD"),
        "keys list v --show-secrets".into(),
        "keys create v film-1".into(),
    ] {
        assert!(!quiet(&line), "{line}");
    }
    let path = folder.path("v/titles/film-1.json");
    let title = fs::read_to_string(&path).unwrap();
    fs::write(&path, title.replacen("cbcs", "cens", 1)).unwrap();
    assert!(!quiet("keys list v --show-secrets --kek new.kek"));
    assert!(!quiet("keys create v film-1 --kek new.kek"));
    fs::write(&path, &title[..title.len() / 2]).unwrap();
    assert!(!quiet("keys list v"));
    fs::write(&path, title).unwrap();
    for command in ["retire", "revoke", "destroy"] {
        assert!(quiet(&format!("keys {command} v {id} --kek new.kek")), "{command}");
        assert!(quiet("keys list v"));
    }
}

#[test]
fn keys_come_from_a_file_too() {
    let folder = Folder::new("import");
    folder.done("keys init v");
    let lines = format!(
        "{}:{CANARY}:cbcs:AUDIO\n\n{}:{CANARY}:cenc:UHD2\n",
        "1".repeat(32),
        "2".repeat(32)
    );
    fs::write(folder.path("keys.txt"), lines).unwrap();
    assert_eq!(
        folder.done("keys import v film-1 --key-file keys.txt"),
        "film-1: 2 imported\n"
    );
    let rows = rows(&folder.done("keys list v film-1 --json --show-secrets"));
    let tracks: Vec<_> = rows
        .iter()
        .map(|row| (row["track"].as_str(), row["key"].as_str()))
        .collect();
    assert_eq!(tracks, [(Some("AUDIO"), Some(CANARY)), (Some("UHD2"), Some(CANARY))]);
    folder.refused("keys import v film-1 --key-file none.txt", "none.txt: No such file");
    folder.refused("keys import v film-1", "required");
}

#[test]
fn a_grant_is_made_with_a_key_of_its_own() {
    let folder = Folder::new("grant");
    let name = folder.done("grant new-key g.key");
    assert_eq!(folder.mode("g.key"), 0o600);
    assert!(!name.trim().is_empty());
    folder.refused("grant new-key g.key", "g.key: File exists");
    let row = &rows(&folder.done("grant film-1 --key-file g.key --expires 2h --scheme cbcs --json"))[0];
    let token = row["token"].as_str().unwrap();
    assert_eq!(row["hls"], format!("/vod/film-1/~{token}/master.m3u8"));
    let text = folder.done("grant film-1 --key-file g.key");
    assert!(text.starts_with("token    "), "{text}");
    let key = fs::read_to_string(folder.path("g.key")).unwrap();
    assert!(!text.contains(key.trim()) && !name.contains(key.trim()));
    folder.refused(
        "grant film-1 --key-file g.key --scheme wide",
        "wide: a scheme is one of",
    );
    folder.refused("grant a/b --key-file g.key", "a/b: not a media id");
    folder.refused("grant film-1", "required");
    folder.set_mode("g.key", 0o644);
    folder.refused("grant film-1 --key-file g.key", "chmod 600");
}

#[test]
fn keys_are_rotated_from_an_instant_on() {
    let folder = Folder::new("rotate");
    folder.done("keys init v");
    folder.refused("keys rotate v film-1 --at 600", "has no keys");
    folder.done("keys create v film-1 --scheme cbcs,cenc");
    let out = folder.done("keys rotate v film-1 --at 600,1200");
    assert_eq!(out, "film-1: 3 key periods, 20 keys created, 0 kept\n");
    // Run again it changes nothing; another instant gets another number, wherever it lies.
    let out = folder.done("keys rotate v film-1 --at 1200 --at 900 --json");
    assert_eq!(out, "{\"id\":\"film-1\",\"periods\":4,\"created\":10,\"kept\":10}\n");
    let listed = rows(&folder.done("keys list v film-1 --json"));
    let period = |starts_ms: Option<u64>| -> Vec<u64> {
        let found = listed
            .iter()
            .filter(|row| row.get("starts_ms").and_then(|at| at.as_u64()) == starts_ms);
        found.map(|row| row["period"].as_u64().unwrap()).collect()
    };
    for (starts_ms, number) in [(None, 0), (Some(600_000), 1), (Some(1_200_000), 2), (Some(900_000), 3)] {
        assert_eq!(period(starts_ms), [number; 10], "{starts_ms:?}");
    }
    let distinct: std::collections::BTreeSet<_> = listed.iter().map(|row| row["key_id"].to_string()).collect();
    assert_eq!(distinct.len(), 40);

    folder.done("keys create v film-2 --scheme aes128,cbcs");
    let out = folder.done("keys rotate v film-2 --every 10 --until 31 --scheme aes128");
    assert_eq!(out, "film-2: 4 key periods, 15 keys created, 0 kept\n");
    folder.done("keys create v film-3 --scheme aes128");
    // A period that would begin at the end is none.
    let out = folder.done("keys rotate v film-3 --every 10 --until 30");
    assert_eq!(out, "film-3: 3 key periods, 10 keys created, 0 kept\n");
    folder.refused("keys rotate v film-3 --every 10", "--every needs --until or --library");
    folder.refused("keys rotate v film-3 --every 1 --until 1000", "a title can have 256");
    folder.refused("keys rotate v film-3 --every 0 --until 9", "begins at 0 by itself");
    folder.refused("keys rotate v film-3 --at 0", "begins at 0 by itself");
    folder.refused("keys rotate v film-3 --at 9 --scheme none", "a scheme is one of");
    folder.refused("keys rotate v film-3", "--at");
}
