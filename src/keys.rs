//! `headwater keys`: makes, lists, takes in and ends the keys that titles are encrypted under.

#[cfg(feature = "control")]
mod cpix;
#[cfg(feature = "control")]
pub mod credentials;
mod disk;
#[cfg(feature = "control")]
mod fetch;
pub mod kek;
mod list;
mod rotate;
#[cfg(feature = "control")]
mod serve;
#[cfg(feature = "control")]
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
#[cfg(feature = "control")]
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use origin::config::Section;
use origin::keys::KekProvider;
use origin::store::Store;
use packager::crypto::vault::{
    KeyState, NewKey, SOURCE_CLEAR_SCHEME, SOURCE_SCHEME, TitleKeys, TrackClass, is_name, is_scheme, is_source_scheme,
    parse_content_key,
};
use packager::crypto::wrap::Secret32;
use packager::crypto::{ContentKey, KeyId};
use serde_json::json;
use zeroize::Zeroizing;

use self::disk::{Vault, kek_of, make_kek, random};
use self::kek::Kek;
use crate::cli::{
    CreateArguments, ImportKeysArguments, KeysArguments, KeysCommand, RotateArguments, StateArguments, VaultArguments,
};
use crate::print;

/// Longest file of keys to take in.
const IMPORT_SIZE_BYTES_MAX: u64 = 1 << 20;

/// Runs one of its commands.
pub fn run(arguments: KeysArguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        KeysCommand::Init(arguments) => init(&arguments)?,
        KeysCommand::Create(arguments) => create(&arguments)?,
        KeysCommand::List(arguments) => list::run(&arguments)?,
        KeysCommand::Import(arguments) => import(&arguments)?,
        KeysCommand::Rotate(arguments) => rotate::run(&arguments)?,
        KeysCommand::RotateKek(arguments) => rotate_kek(&arguments)?,
        KeysCommand::FinishRotation(arguments) => finish_rotation(&arguments)?,
        KeysCommand::Retire(arguments) => set_state(&arguments, KeyState::Retired)?,
        KeysCommand::Revoke(arguments) => set_state(&arguments, KeyState::Revoked)?,
        KeysCommand::Destroy(arguments) => set_state(&arguments, KeyState::Destroyed)?,
        KeysCommand::Upgrade(arguments) => upgrade(&arguments)?,
        #[cfg(feature = "control")]
        KeysCommand::Serve(arguments) => serve::run(&arguments)?,
        #[cfg(feature = "control")]
        KeysCommand::Fetch(arguments) => fetch::run(&arguments)?,
        #[cfg(feature = "control")]
        KeysCommand::Export(arguments) => cpix::export(&arguments)?,
        #[cfg(feature = "control")]
        KeysCommand::ImportCpix(arguments) => cpix::import(&arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes a vault and the key that wraps it, where there are none.
#[cfg(feature = "control")]
pub fn make_vault(folder: &Path, kek: &Path) -> anyhow::Result<()> {
    let kek = Kek::new(kek);
    make_kek(&kek)?;
    match folder.exists() {
        true => Ok(()),
        false => Vault::create(folder, &kek),
    }
}

fn init(arguments: &VaultArguments) -> anyhow::Result<()> {
    let kek = kek_of(arguments);
    let made = make_kek(&kek)?;
    Vault::create(&arguments.vault, &kek)?;
    let mut out = print::out();
    writeln!(out, "vault  {}", arguments.vault.display())?;
    writeln!(out, "kek    {} ({})", kek.path().display(), kek.kek_id()?)?;
    if made {
        writeln!(
            out,
            "Keep a copy of the key file apart from the vault: without it no key opens."
        )?;
    }
    Ok(())
}

fn create(arguments: &CreateArguments) -> anyhow::Result<()> {
    let schemes: BTreeSet<&str> = arguments.scheme.iter().map(String::as_str).collect();
    for scheme in &schemes {
        check_scheme(scheme)?;
    }
    let starts_ms = starts_ms(arguments.period, arguments.starts)?;
    check_tenant(&arguments.tenant)?;
    let media_ids = wanted(arguments)?;
    let vault = Vault::open(&arguments.vault.vault)?;
    let kek = kek_of(&arguments.vault);
    let tenant_key = vault.tenant_key_or_new(&kek, &arguments.tenant)?;
    let mut out = print::out();
    for id in &media_ids {
        let mut title = title_of(&vault, id, &arguments.tenant, &tenant_key)?;
        let (mut created, mut kept) = (0, 0);
        for scheme in &schemes {
            for track in TrackClass::ALL {
                if title.find(scheme, track, arguments.period).is_some() {
                    kept += 1;
                    continue;
                }
                let new = NewKey {
                    key_id: random_key_id()?,
                    key: &ContentKey::new(*Zeroizing::new(random()?)),
                    scheme,
                    track,
                    period: arguments.period,
                    starts_ms,
                    created: now()?,
                    nonce: random()?,
                };
                title.seal_new(&tenant_key, &new)?;
                created += 1;
            }
        }
        if created > 0 {
            vault.save_title(&mut title, &tenant_key)?;
        }
        match arguments.format.json {
            true => writeln!(out, "{}", json!({ "id": id, "created": created, "kept": kept }))?,
            false => writeln!(out, "{id}: {created} created, {kept} kept")?,
        }
    }
    Ok(())
}

/// Where a period begins, in milliseconds; the first begins where the title does.
fn starts_ms(period: u64, starts_s: u64) -> anyhow::Result<Option<u64>> {
    ensure!(
        (period == 0) == (starts_s == 0),
        "--period and --starts go together: period 0 begins at 0, later ones later"
    );
    match period {
        0 => Ok(None),
        _ => Ok(Some(starts_s.checked_mul(1_000).context("--starts: too far ahead")?)),
    }
}

/// The titles that `create` is about.
fn wanted(arguments: &CreateArguments) -> anyhow::Result<Vec<String>> {
    if !arguments.all {
        for id in &arguments.media_ids {
            ensure!(is_name(id), "{id}: not a media id");
        }
        return Ok(arguments.media_ids.clone());
    }
    let section = Section {
        library: arguments.library.clone(),
        ..Section::default()
    };
    let entries = Store::new(section.check()?).scan()?;
    Ok(entries.keys().cloned().collect())
}

/// A title's keys, which open, or none yet.
fn title_of(vault: &Vault, media_id: &str, tenant: &str, tenant_key: &Secret32) -> anyhow::Result<TitleKeys> {
    let Some(mut title) = vault.title(media_id)? else {
        return Ok(TitleKeys::new(tenant, media_id)?);
    };
    let owner = title.tenant();
    ensure!(owner == tenant, "{media_id}: is tenant {owner}'s, not {tenant}'s");
    // Adding to keys that do not open would hide that something is wrong with them.
    title.prove(tenant_key).with_context(|| media_id.to_owned())?;
    title.open(tenant_key).with_context(|| media_id.to_owned())?;
    Ok(title)
}

fn import(arguments: &ImportKeysArguments) -> anyhow::Result<()> {
    check_tenant(&arguments.tenant)?;
    let mut texts: Vec<Zeroizing<String>> = arguments.key.iter().map(|key| key.0.clone()).collect();
    if let Some(path) = &arguments.key_file {
        let named = || path.display().to_string();
        let file = std::fs::File::open(path).with_context(named)?;
        let size = file.metadata().with_context(named)?.len();
        ensure!(
            size <= IMPORT_SIZE_BYTES_MAX,
            "{}: too large for a file of keys",
            path.display()
        );
        let mut text = Zeroizing::new(String::with_capacity(size as usize + 1));
        file.take(IMPORT_SIZE_BYTES_MAX)
            .read_to_string(&mut text)
            .with_context(named)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        texts.extend(lines.map(|line| Zeroizing::new(line.to_owned())));
    }
    let mut keys = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        keys.push(parse_key(text).with_context(|| format!("key {}", at + 1))?);
    }
    let vault = Vault::open(&arguments.vault.vault)?;
    let kek = kek_of(&arguments.vault);
    let tenant_key = vault.tenant_key_or_new(&kek, &arguments.tenant)?;
    let mut title = title_of(&vault, &arguments.media_id, &arguments.tenant, &tenant_key)?;
    for (key_id, key, scheme, track) in &keys {
        let new = NewKey {
            key_id: *key_id,
            key,
            scheme,
            track: *track,
            period: 0,
            starts_ms: None,
            created: now()?,
            nonce: random()?,
        };
        title.seal_new(&tenant_key, &new)?;
    }
    vault.save_title(&mut title, &tenant_key)?;
    writeln!(print::out(), "{}: {} imported", arguments.media_id, keys.len())?;
    Ok(())
}

/// Reads `KID:KEY:SCHEME:TRACK`. What is wrong is named by its place, never repeated.
fn parse_key(text: &str) -> anyhow::Result<(KeyId, ContentKey, String, TrackClass)> {
    let parts: Vec<&str> = text.split(':').collect();
    let [key_id, key, scheme, track] = parts.as_slice() else {
        bail!("has {} parts, not the four of KID:KEY:SCHEME:TRACK", parts.len());
    };
    let key_id = KeyId::parse(key_id).context("KID is not 32 hexadecimal digits")?;
    let key = parse_content_key(key).context("KEY is not 32 hexadecimal digits")?;
    ensure!(
        is_scheme(scheme) || is_source_scheme(scheme),
        "SCHEME is not one of {}, {SOURCE_SCHEME}, {SOURCE_CLEAR_SCHEME}",
        scheme_names()
    );
    let track = TrackClass::from_name(track).context("TRACK is not one of AUDIO, SD, HD, UHD1, UHD2")?;
    Ok((key_id, key, (*scheme).to_owned(), track))
}

fn rotate_kek(arguments: &RotateArguments) -> anyhow::Result<()> {
    let vault = Vault::open(&arguments.vault.vault)?;
    let (old, new) = (kek_of(&arguments.vault), Kek::new(&arguments.new_kek));
    let mut head = vault.head()?;
    ensure!(
        head.previous_kek_id().is_none(),
        "a rotation is under way; end it with finish-rotation first"
    );
    let found = old.kek_id()?;
    ensure!(
        head.kek_id() == found,
        "the vault is wrapped with key encryption key {}, not with {found}",
        head.kek_id()
    );
    let mut tenant_keys = Vec::new();
    for tenant in head.tenants() {
        tenant_keys.push((tenant.to_owned(), vault.tenant_key(&head, &old, tenant)?));
    }
    // Not before the old one was seen to open everything.
    make_kek(&new)?;
    let kek_id = new.kek_id()?;
    ensure!(
        kek_id != found,
        "{}: is the key encryption key that the vault has",
        new.path().display()
    );
    let mut wrapped = BTreeMap::new();
    for (tenant, tenant_key) in &tenant_keys {
        wrapped.insert(tenant.clone(), new.wrap(tenant_key)?);
    }
    head.begin_rotation(&kek_id, wrapped)?;
    if !arguments.keep_old {
        head.finish_rotation();
    }
    vault.save_head(&head)?;
    let mut out = print::out();
    writeln!(out, "kek    {} ({kek_id})", new.path().display())?;
    match arguments.keep_old {
        true => writeln!(
            out,
            "{} ({found}) opens the vault until finish-rotation.",
            old.path().display()
        )?,
        false => writeln!(out, "{} ({found}) opens nothing any more.", old.path().display())?,
    }
    Ok(())
}

fn finish_rotation(arguments: &VaultArguments) -> anyhow::Result<()> {
    let vault = Vault::open(&arguments.vault)?;
    let mut head = vault.head()?;
    let found = kek_of(arguments).kek_id()?;
    // Whoever can not use the new key would be locked out.
    ensure!(
        head.kek_id() == found,
        "--kek is not the vault's new key encryption key, {}, but {found}",
        head.kek_id()
    );
    ensure!(head.finish_rotation(), "no rotation is under way");
    vault.save_head(&head)
}

fn set_state(arguments: &StateArguments, state: KeyState) -> anyhow::Result<()> {
    let key_id = KeyId::parse(&arguments.key_id).context("KID is not 32 hexadecimal digits")?;
    let vault = Vault::open(&arguments.vault.vault)?;
    let (head, kek) = (vault.head()?, kek_of(&arguments.vault));
    let mut out = print::out();
    let mut found = false;
    for id in vault.titles()? {
        let Some(mut title) = vault.title(&id)?.filter(|title| title.key(key_id).is_some()) else {
            continue;
        };
        found = true;
        let tenant_key = vault.tenant_key(&head, &kek, title.tenant())?;
        // What is written with it is vouched for too, so it must be true.
        title.prove(&tenant_key).with_context(|| id.clone())?;
        if title.set_state(key_id, state).with_context(|| id.clone())? {
            vault.save_title(&mut title, &tenant_key)?;
        }
        writeln!(out, "{id}: {key_id} is {}", state.name())?;
    }
    ensure!(found, "no key {key_id} in this vault");
    Ok(())
}

/// Brings titles of the format before into the one that is written, and says what is vouched for from now on.
fn upgrade(arguments: &VaultArguments) -> anyhow::Result<()> {
    let vault = Vault::open(&arguments.vault)?;
    let (head, kek) = (vault.head()?, kek_of(arguments));
    let mut out = print::out();
    for id in vault.titles()? {
        let Some(mut title) = vault.title(&id)?.filter(TitleKeys::is_old) else {
            continue;
        };
        let tenant_key = vault.tenant_key(&head, &kek, title.tenant())?;
        let upgraded = title.upgrade(&tenant_key, random);
        upgraded.with_context(|| id.clone())?;
        vault.save_title(&mut title, &tenant_key)?;
        let states = [
            KeyState::Active,
            KeyState::Retired,
            KeyState::Revoked,
            KeyState::Destroyed,
        ];
        let counts = states.map(|state| {
            let count = title.keys().iter().filter(|key| key.state() == state).count();
            format!("{count} {}", state.name())
        });
        writeln!(out, "{id}: {}", counts.join(", "))?;
    }
    Ok(())
}

fn check_scheme(scheme: &str) -> anyhow::Result<()> {
    ensure!(is_scheme(scheme), "{scheme}: a scheme is one of {}", scheme_names());
    Ok(())
}

fn scheme_names() -> String {
    let all = packager::form::Form::ALL.into_iter();
    all.filter_map(|form| form.key_scheme()).collect::<Vec<_>>().join(", ")
}

fn check_tenant(tenant: &str) -> anyhow::Result<()> {
    ensure!(
        is_name(tenant),
        "{tenant}: a tenant is named by letters, digits, -, _ and ."
    );
    Ok(())
}

/// A random UUID (RFC 9562 5.4).
fn random_key_id() -> anyhow::Result<KeyId> {
    let mut bytes: [u8; 16] = random()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(KeyId(bytes))
}

fn now() -> anyhow::Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(since.context("the clock is set before 1970")?.as_secs())
}
