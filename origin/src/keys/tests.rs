//! Key store tests: vaults on disk, changed while they are open.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use packager::crypto::ContentKey;
use packager::crypto::vault::{KeyState, NewKey};

use super::*;

/// A vault in a folder that goes with it.
struct Sample(PathBuf);

impl Drop for Sample {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn kek() -> Secret32 {
    Secret32::new([7; 32])
}

fn tenant_key() -> Secret32 {
    Secret32::new([8; 32])
}

fn film(content: &str) -> TitleKeys {
    let mut title = TitleKeys::new("acme", content).unwrap();
    let rows = [
        (1, "cbcs", TrackClass::Audio, None),
        (2, "cbcs", TrackClass::Hd, None),
        (3, "cenc", TrackClass::Hd, None),
        (4, "cbcs", TrackClass::Hd, Some(60_000)),
    ];
    for (number, scheme, track, starts_ms) in rows {
        let new = NewKey {
            key_id: KeyId([number; 16]),
            key: &ContentKey::new([number ^ 0xff; 16]),
            scheme,
            track,
            period: u64::from(starts_ms.is_some()),
            starts_ms,
            created: 0,
            nonce: [number; 12],
        };
        title.seal_new(&tenant_key(), &new).unwrap();
    }
    title
}

/// The file of a title, as it is written at a time.
fn text(title: &TitleKeys, now: u64) -> String {
    title.clone().write(&tenant_key(), now).unwrap()
}

impl Sample {
    fn new() -> Sample {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("headwater-keys-{}-{number}", std::process::id()));
        fs::create_dir_all(folder.join(TITLES_NAME)).unwrap();
        let sample = Sample(folder);
        let mut head = VaultHead::new(&vault::kek_id(&kek())).unwrap();
        head.wrap_tenant(&kek(), "acme", &tenant_key()).unwrap();
        sample.put(HEAD_NAME, &head.to_json());
        sample.put("kek", &vault::kek_text(&kek()));
        sample.put_title("film-1", &film("film-1"));
        sample
    }

    fn put(&self, name: &str, text: &str) {
        let (path, new) = (self.0.join(name), self.0.join("new"));
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, path).unwrap();
    }

    fn put_title(&self, name: &str, title: &TitleKeys) {
        self.put(&format!("{TITLES_NAME}/{name}.json"), &text(title, 0));
    }

    fn open(&self) -> Result<KeyStore, KeyStoreError> {
        KeyStore::open(&self.0, &self.0.join("kek"))
    }
}

fn numbers(title: Option<Arc<OpenTitle>>, scheme: &str) -> Vec<u8> {
    let title = title.unwrap();
    title.keys(scheme).map(|key| key.key_id.0[0]).collect()
}

#[test]
fn titles_open_and_others_have_no_keys() {
    let sample = Sample::new();
    let store = sample.open().unwrap();
    let title = store.title("film-1").unwrap().unwrap();
    assert_eq!(title.tenant(), "acme");
    assert_eq!(numbers(Some(title.clone()), "cbcs"), [1, 2, 4]);
    assert_eq!(title.key(KeyId([3; 16])).unwrap().key.expose(), &[0xfc; 16]);
    let at = |track, time_ms| title.active("cbcs", track, time_ms).map(|key| key.key_id.0[0]);
    assert_eq!(at(TrackClass::Hd, 59_999), Some(2));
    assert_eq!(at(TrackClass::Hd, 60_000), Some(4));
    assert_eq!(at(TrackClass::Audio, 60_000), Some(1));
    assert_eq!(at(TrackClass::Sd, 0), None);
    assert!(Arc::ptr_eq(&title, &store.title("film-1").unwrap().unwrap()));
    assert!(Arc::ptr_eq(&title, &store.kept("film-1").unwrap()));
    for none in ["film-2", "", "..", "../vault", "a/b"] {
        assert!(store.title(none).unwrap().is_none(), "{none}");
    }
}

#[test]
fn changes_are_seen_when_files_are_looked_at_again() {
    let sample = Sample::new();
    let patient = sample.open().unwrap();
    let mut store = sample.open().unwrap();
    store.check_interval = Duration::ZERO;
    let first = store.title("film-1").unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &store.title("film-1").unwrap().unwrap()));
    assert!(store.title("film-2").unwrap().is_none());
    // Without a look at the files, what is due for one is not taken, nor what nobody opened yet.
    assert!(store.kept("film-1").is_none() && store.kept("film-2").is_none());
    assert!(patient.kept("film-1").is_none());
    assert_eq!(numbers(patient.title("film-1").unwrap(), "cbcs"), [1, 2, 4]);
    assert_eq!(numbers(patient.kept("film-1"), "cbcs"), [1, 2, 4]);

    let mut changed = film("film-1");
    changed.set_state(KeyId([1; 16]), KeyState::Retired).unwrap();
    changed.set_state(KeyId([2; 16]), KeyState::Revoked).unwrap();
    sample.put_title("film-1", &changed);
    sample.put_title("film-2", &film("film-2"));
    let title = store.title("film-1").unwrap().unwrap();
    assert_eq!(numbers(Some(title.clone()), "cbcs"), [1, 4]);
    assert!(!title.key(KeyId([1; 16])).unwrap().encrypts());
    assert!(title.active("cbcs", TrackClass::Audio, 0).is_none());
    assert_eq!(numbers(store.title("film-2").unwrap(), "cenc"), [3]);
    assert_eq!(numbers(patient.title("film-1").unwrap(), "cbcs"), [1, 2, 4]);

    // The vault goes under another key: what is open stays so as long as nobody looks.
    let other = Secret32::new([9; 32]);
    let mut head = VaultHead::new(&vault::kek_id(&other)).unwrap();
    head.wrap_tenant(&other, "acme", &tenant_key()).unwrap();
    sample.put(HEAD_NAME, &head.to_json());
    assert!(store.title("film-1").err().unwrap().is_unwrap_failure());
    sample.put("kek", &vault::kek_text(&other));
    assert_eq!(numbers(store.title("film-1").unwrap(), "cbcs"), [1, 4]);
    fs::remove_file(sample.0.join("titles/film-1.json")).unwrap();
    assert!(store.title("film-1").unwrap().is_none());
}

#[test]
fn an_older_file_is_not_taken_back() {
    let sample = Sample::new();
    let mut store = sample.open().unwrap();
    store.check_interval = Duration::ZERO;
    let name = format!("{TITLES_NAME}/film-1.json");
    let before = text(&film("film-1"), 100);
    sample.put(&name, &before);
    assert_eq!(numbers(store.title("film-1").unwrap(), "cbcs"), [1, 2, 4]);
    let mut changed = film("film-1");
    changed.set_state(KeyId([2; 16]), KeyState::Revoked).unwrap();
    sample.put(&name, &text(&changed, 101));
    assert_eq!(numbers(store.title("film-1").unwrap(), "cbcs"), [1, 4]);
    sample.put(&name, &before);
    let error = store.title("film-1").err().unwrap();
    assert!(
        error.is_unwrap_failure() && error.to_string().contains("older file"),
        "{error}"
    );
    sample.put(&name, &text(&changed, 102));
    assert_eq!(numbers(store.title("film-1").unwrap(), "cbcs"), [1, 4]);
    // Whoever began later can not know.
    sample.put(&name, &before);
    assert_eq!(
        numbers(sample.open().unwrap().title("film-1").unwrap(), "cbcs"),
        [1, 2, 4]
    );
    // A title that was removed and made anew is later.
    fs::remove_file(sample.0.join(&name)).unwrap();
    assert!(store.title("film-1").unwrap().is_none());
    sample.put(&name, &text(&film("film-1"), 103));
    assert_eq!(numbers(store.title("film-1").unwrap(), "cbcs"), [1, 2, 4]);
}

#[test]
fn errors_tell_what_is_wrong() {
    let check = |name: &str, text: &str, expected: &str, is_unwrap_failure: bool| {
        let sample = Sample::new();
        sample.put(name, text);
        let result = sample.open().and_then(|store| store.title("film-1"));
        let error = result.err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.is_unwrap_failure(), is_unwrap_failure, "{error}");
    };
    check("kek", "00", "64 hexadecimal digits", false);
    check(
        "kek",
        &vault::kek_text(&tenant_key()),
        "is wrapped with key encryption key",
        true,
    );
    check(HEAD_NAME, "{}", "vault.json: vault.json, line 1", false);
    check("titles/film-1.json", "{", "cut short", false);
    check("titles/film-1.json", &text(&film("film-2"), 0), "another title", true);
    let tampered = text(&film("film-1"), 0).replacen("AUDIO", "UHD2", 1);
    check("titles/film-1.json", &tampered, "was changed by something else", true);
    let tenant = text(&film("film-1"), 0).replacen("acme", "acma", 1);
    check("titles/film-1.json", &tenant, "no tenant acma", true);
    let damaged = text(&film("film-1"), 0).replacen("\"sealed\": \"", "\"sealed\": \"0", 1);
    check("titles/film-1.json", &damaged, "nonce or sealed key", false);

    let sample = Sample::new();
    for mode in [0o640, 0o604, 0o601] {
        fs::set_permissions(sample.0.join("kek"), Permissions::from_mode(mode)).unwrap();
        let error = sample.open().err().unwrap();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    let nowhere = KeyStore::open(&sample.0.join("no"), &sample.0.join("kek"))
        .err()
        .unwrap();
    assert!(matches!(nowhere, KeyStoreError::NoVault { .. }), "{nowhere}");
}

/// What a title's keys of one use are at some times, and where periods begin and end.
#[test]
fn periods_begin_where_they_say() {
    let sample = Sample::new();
    let mut title = TitleKeys::new("acme", "film-1").unwrap();
    // (number, period, start): those without a start come from encryptors elsewhere.
    for (number, period, starts_ms) in [
        (1, 3, None),
        (2, 2, None),
        (3, 9, None),
        (4, 1, Some(7_000)),
        (5, 4, Some(5_000)),
    ] {
        let new = NewKey {
            key_id: KeyId([number; 16]),
            key: &ContentKey::new([number; 16]),
            scheme: "cenc",
            track: TrackClass::Audio,
            period,
            starts_ms,
            created: 0,
            nonce: [number; 12],
        };
        title.seal_new(&tenant_key(), &new).unwrap();
    }
    sample.put_title("film-1", &title);
    let title = sample.open().unwrap().title("film-1").unwrap().unwrap();
    let active = |time_ms| title.active("cenc", TrackClass::Audio, time_ms).unwrap();
    for (time_ms, number, ends_ms) in [
        (0, 2, Some(5_000)),
        (4_999, 2, Some(5_000)),
        (5_000, 5, Some(7_000)),
        (6_999, 5, Some(7_000)),
        (u64::MAX, 4, None),
    ] {
        let key = active(time_ms);
        assert_eq!((key.key_id.0[0], title.ends_ms(key)), (number, ends_ms), "{time_ms}");
    }
    let starts = |scheme, track| {
        title
            .starts_ms(scheme, [track].into_iter())
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(starts("cenc", TrackClass::Audio), [0, 5_000, 7_000]);
    assert_eq!(starts("cenc", TrackClass::Hd), [0]);
    assert_eq!(starts("cbcs", TrackClass::Audio), [0]);
}
