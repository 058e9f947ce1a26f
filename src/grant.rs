//! `headwater grant`: makes the token that lets a viewer have a title, and the keys that it is made with.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use packager::grant::{Grant, GrantKeys, GrantScheme};
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::{GrantArguments, GrantCommand, GrantTerms};
use crate::print;

/// Longest key file: two keys and some remarks.
const KEY_FILE_SIZE_BYTES_MAX: u64 = 64 << 10;

/// Prints a token and the URLs that carry it, or makes a key.
pub fn run(arguments: GrantArguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Some(GrantCommand::NewKey { file }) => {
            let keys = new_key(&file).with_context(|| file.display().to_string())?;
            writeln!(print::out(), "{}", String::from_utf8_lossy(keys.current().kid()))?;
        }
        None => print_grant(&arguments.terms)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print_grant(terms: &GrantTerms) -> anyhow::Result<()> {
    let missing = "a media id and a key file are needed";
    let id = terms.media_id.as_deref().context(missing)?;
    let entry = format!("/vod/{id}/master.m3u8");
    ensure!(origin::route::parse(&entry, None).is_some(), "{id}: not a media id");
    let keys = read_keys(terms.key_file.as_deref().context(missing)?)?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock is set before 1970")?
        .as_secs();
    let grant = grant_of(terms, id, now)?;
    let token = grant.mint(&keys)?;
    let folder = format!("/vod/{id}/{}", token.path_segment());
    let (hls, dash) = (format!("{folder}/master.m3u8"), format!("{folder}/manifest.mpd"));
    let mut out = print::out();
    if terms.format.json {
        let row = json!({ "token": token.expose(), "hls": hls, "dash": dash, "expires": grant.expires });
        writeln!(out, "{row}")?;
    } else {
        writeln!(
            out,
            "token    {}\nhls      {hls}\ndash     {dash}\nexpires  {}",
            token.expose(),
            grant.expires
        )?;
    }
    Ok(())
}

fn grant_of(terms: &GrantTerms, media_id: &str, now: u64) -> anyhow::Result<Grant> {
    let later = |seconds: u64| now.checked_add(seconds).context("a time too far ahead");
    let schemes = terms.scheme.iter().map(|name| {
        let known = GrantScheme::ALL.map(GrantScheme::name).join(", ");
        GrantScheme::parse(name).with_context(|| format!("{name}: a scheme is one of {known}"))
    });
    let schemes: Vec<GrantScheme> = schemes.collect::<anyhow::Result<_>>()?;
    Ok(Grant {
        issuer: terms.issuer.clone(),
        session: terms.session.clone().map(String::into_bytes),
        tenant: terms.tenant.clone(),
        issued: Some(now),
        not_before: terms.not_before.map(later).transpose()?,
        height_max: terms.height_max,
        schemes: (!schemes.is_empty()).then_some(schemes),
        watermark: terms.watermark.as_deref().map(parse_pattern).transpose()?,
        ..Grant::new(&format!("/vod/{media_id}/"), later(terms.expires)?)
    })
}

/// A watermark pattern of at least one byte.
fn parse_pattern(text: &str) -> anyhow::Result<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some((digit(*high)? * 16 + digit(*low)?) as u8));
    let bytes = bytes.collect::<Option<Vec<u8>>>();
    let bytes = bytes.filter(|bytes| rest.is_empty() && !bytes.is_empty());
    bytes.context("a watermark pattern is an even number of hexadecimal digits")
}

/// Seconds of `90s`, `15m`, `12h` or `7d`.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let units = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
    let found = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(*unit)?.parse().ok()?;
        number.checked_mul(*seconds)
    });
    found.ok_or_else(|| "a duration is a number and s, m, h or d: 90s, 12h".to_owned())
}

/// Reads the keys of `path`, which nobody but its owner may have access to.
pub fn read_keys(path: &Path) -> anyhow::Result<GrantKeys> {
    read_owned(path).with_context(|| path.display().to_string())
}

fn read_owned(path: &Path) -> anyhow::Result<GrantKeys> {
    let file = File::open(path)?;
    // Asked of the open file, so that it is the one that is read.
    let metadata = file.metadata()?;
    ensure!(metadata.is_file(), "not a file");
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!("mode {mode:03o} lets group or others at the keys; chmod 600 it");
    }
    ensure!(metadata.len() <= KEY_FILE_SIZE_BYTES_MAX, "too large for a key file");
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
    file.take(KEY_FILE_SIZE_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = std::str::from_utf8(&bytes).context("not text")?;
    Ok(GrantKeys::parse(text)?)
}

/// Makes a file with one new key. One that is there already stays as it is.
pub fn new_key(path: &Path) -> anyhow::Result<GrantKeys> {
    let mut secret = Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut *secret)?;
    let mut line = Zeroizing::new(String::with_capacity(65));
    for byte in secret.iter() {
        for digit in [byte >> 4, byte & 15] {
            line.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
    line.push('\n');
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(line.as_bytes())?;
    file.sync_all()?;
    Ok(GrantKeys::parse(&line)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(parse_duration(text).ok(), expected, "{text}");
        check("90s", Some(90));
        check("15m", Some(900));
        check("12h", Some(43_200));
        check("7d", Some(604_800));
        for wrong in [
            "",
            "1",
            "h",
            "-1h",
            "1.5h",
            "1 h",
            "1w",
            "99999999999999999999s",
            "999999999999999999d",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn arguments_become_claims() {
        use clap::Parser;

        let parse = |line: &str| crate::cli::Cli::try_parse_from(line.split(' ')).map(|cli| cli.command);
        let line = "headwater grant f1 --key-file k --expires 2h --not-before 1m --height-max 720 --scheme cbcs,clear \
                    --issuer me --session s1 --tenant acme --watermark 5A0f";
        let Ok(crate::cli::Command::Grant(arguments)) = parse(line) else {
            panic!("{line}");
        };
        let media_id = arguments.terms.media_id.as_deref().unwrap();
        let grant = grant_of(&arguments.terms, media_id, 1_000).unwrap();
        assert_eq!(
            (grant.expires, grant.not_before, grant.issued),
            (8_200, Some(1_060), Some(1_000))
        );
        assert_eq!(
            (grant.height_max, grant.session.as_deref()),
            (Some(720), Some(&b"s1"[..]))
        );
        assert_eq!(
            grant
                .schemes
                .unwrap()
                .iter()
                .map(|scheme| scheme.name())
                .collect::<Vec<_>>(),
            ["cbcs", "clear"]
        );
        assert_eq!(grant.uri[0].value, "/vod/f1/");
        assert_eq!(grant.watermark.as_deref(), Some(&[0x5a, 0x0f][..]));
        for wrong in ["", "5", "5g", "0x5a"] {
            assert!(parse_pattern(wrong).is_err(), "{wrong}");
        }
        let Ok(crate::cli::Command::Grant(arguments)) = parse("headwater grant new-key k") else {
            panic!("new-key");
        };
        assert!(arguments.command.is_some() && arguments.terms.media_id.is_none());
        for wrong in [
            "headwater grant",
            "headwater grant f1",
            "headwater grant --key-file k",
            "headwater grant f1 --key-file k --expires 1",
            "headwater grant f1 new-key k",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_that_others_can_read_are_refused() {
        let folder = std::env::temp_dir().join(format!("headwater-grant-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("key");
        let made = new_key(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read_keys(&path).unwrap().current().kid(), made.current().kid());
        assert!(new_key(&path).is_err(), "a key is never overwritten");
        for mode in [0o640, 0o604, 0o620, 0o601] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = read_keys(&path).err().unwrap();
            assert!(format!("{error:#}").contains("chmod 600"), "{error:#}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
