//! Google's packager as a client of our key API: it signs, fetches, encrypts, and decrypts again with our keys.
//!
//! `HEADWATER_SHAKA_PACKAGER` names its binary (v3.8.0), `HEADWATER_MEDIA` the folder of test media.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control_api::key_exchange::{Credentials, Key};
use packager::crypto::KeyId;

use crate::content_key_api::signer;
use crate::source::Server;

const FILM: &str = "avc/androidx__sample.mp4";

fn setting(name: &str) -> Option<PathBuf> {
    let found = std::env::var_os(name).map(PathBuf::from).filter(|path| path.exists());
    if found.is_none() {
        eprintln!("SKIPPED: {name} names nothing; Google's packager was not tried against the key API");
    }
    found
}

fn run(packager: &Path, arguments: &[String]) -> (bool, String) {
    // The server is on loopback, whatever proxy there is.
    let output = Command::new(packager)
        .args(arguments)
        .env("no_proxy", "127.0.0.1")
        .output()
        .unwrap();
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// All `mdat` payloads of a file.
fn media(file: &Path) -> Vec<u8> {
    let bytes = std::fs::read(file).unwrap();
    let (mut at, mut media) = (0, Vec::new());
    while at + 8 <= bytes.len() {
        let size = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        if &bytes[at + 4..at + 8] == b"mdat" {
            media.extend_from_slice(&bytes[at + 8..at + size]);
        }
        at += size;
    }
    assert_eq!(at, bytes.len());
    media
}

#[test]
fn googles_packager_encrypts_with_our_keys() {
    let (Some(packager), Some(library)) = (setting("HEADWATER_SHAKA_PACKAGER"), setting("HEADWATER_MEDIA")) else {
        return;
    };
    let server = Server::start(Credentials {
        signers: vec![signer()],
        ..Credentials::default()
    });
    let folder = std::env::temp_dir().join(format!("headwater-key-exchange-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let film = library.join(FILM);
    let stream = |kind: &str, to: &str| {
        let output = folder.join(format!("{to}-{kind}.mp4"));
        format!("input={},stream={kind},output={}", film.display(), output.display())
    };
    let (done, log) = run(&packager, &[stream("video", "clear"), stream("audio", "clear")]);
    assert!(done, "{log}");

    let arguments = |scheme: &str, content_id: &str, iv: &str| {
        vec![
            stream("video", scheme),
            stream("audio", scheme),
            "--enable_widevine_encryption".to_owned(),
            format!(
                "--key_server_url=http://{}/v1/keys/cenc/getcontentkey/widevine_test",
                server.address
            ),
            format!("--content_id={content_id}"),
            "--signer=widevine_test".to_owned(),
            "--aes_signing_key=1ae8ccd0e7985cc0b6203a55855a1034afc252980e970ca90e5202689f947ab9".to_owned(),
            format!("--aes_signing_iv={iv}"),
            format!("--protection_scheme={scheme}"),
            "--clear_lead=0".to_owned(),
        ]
    };
    let iv = "d58ce954203b7c9a9a9d467f59839249";
    for (scheme, content_id) in [("cenc", "66696c6d2d31"), ("cbcs", "ff00")] {
        let (done, log) = run(&packager, &arguments(scheme, content_id, iv));
        assert!(done, "{scheme}: {log}");
        let name = if scheme == "cenc" { "film-1" } else { "hex-ff00" };
        let keys = server.source.existing("acme", name);
        let types: Vec<&str> = keys.iter().map(|key| key.track_type.name()).collect();
        assert_eq!(types, ["SD", "HD", "UHD1", "UHD2", "AUDIO"]);
        for (kind, track_type) in [("video", "HD"), ("audio", "AUDIO")] {
            let key = keys.iter().find(|key| key.track_type.name() == track_type).unwrap();
            let encrypted = folder.join(format!("{scheme}-{kind}.mp4"));
            let decrypted = folder.join(format!("{scheme}-{kind}-decrypted.mp4"));
            let clear = media(&folder.join(format!("clear-{kind}.mp4")));
            assert_ne!(media(&encrypted), clear);
            let header = std::fs::read(&encrypted).unwrap();
            assert!(
                header.windows(16).any(|window| window == key.key_id.0),
                "tenc names the key"
            );
            let arguments = [
                format!(
                    "input={},stream={kind},output={}",
                    encrypted.display(),
                    decrypted.display()
                ),
                "--enable_raw_key_decryption".to_owned(),
                format!("--keys=key_id={}:key={}", key.key_id.hex(), hex_of(key)),
            ];
            let (done, log) = run(&packager, &arguments);
            assert!(done, "{scheme} {kind}: {log}");
            assert_eq!(media(&decrypted), clear, "{scheme} {kind}");
        }
    }

    // A wrong signature is told, and nothing is made for it.
    let (done, log) = run(
        &packager,
        &arguments("cenc", "66696c6d2d33", "00000000000000000000000000000000"),
    );
    let answer = STANDARD.encode(r#"{"status":"SIGNATURE_FAILED"}"#);
    assert!(!done && log.contains(&answer), "{log}");
    assert!(server.source.existing("acme", "film-3").is_empty());

    // Rotating keys: periods of a second.
    let mut rotating = arguments("cenc", "66696c6d2d32", iv);
    rotating.push("--crypto_period_duration=1".to_owned());
    let (done, log) = run(&packager, &rotating);
    assert!(done, "{log}");
    let periods = server
        .source
        .existing("acme", "film-2")
        .iter()
        .map(|key| key.period)
        .max();
    assert!(periods.is_some_and(|period| period >= 9), "{periods:?}");
    std::fs::remove_dir_all(&folder).unwrap();
}

fn hex_of(key: &Key) -> String {
    KeyId(*key.key.expose()).hex()
}
