//! `headwater keys rotate`: key periods of titles, each with keys of its own from some instant on.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::{Context, bail, ensure};
use origin::config::Section;
use origin::store::Store;
use packager::crypto::ContentKey;
use packager::crypto::vault::{KeyState, NewKey, TitleKeys, TrackClass};
use packager::limits::KEY_PERIOD_COUNT_MAX;
use packager::time::Rounding;
use serde_json::json;
use zeroize::Zeroizing;

use super::disk::{Vault, kek_of, random};
use super::{check_scheme, now, random_key_id};
use crate::cli::RotateKeysArguments;
use crate::print;

/// Draws the keys of periods that are not there yet; those that are there stay.
pub fn run(arguments: &RotateKeysArguments) -> anyhow::Result<()> {
    for scheme in &arguments.scheme {
        check_scheme(scheme)?;
    }
    ensure!(
        arguments.every != Some(0) && !arguments.at.contains(&0),
        "the first period begins at 0 by itself: other keys can hold from 1 on"
    );
    let vault = Vault::open(&arguments.vault.vault)?;
    let kek = kek_of(&arguments.vault);
    let head = vault.head()?;
    let mut out = print::out();
    for id in &arguments.media_ids {
        let mut title = vault
            .title(id)?
            .with_context(|| format!("{id}: has no keys; keys create makes those of its beginning"))?;
        let tenant_key = vault.tenant_key(&head, &kek, title.tenant())?;
        // Adding to keys that do not open would hide that something is wrong with them.
        title.prove(&tenant_key).with_context(|| id.clone())?;
        title.open(&tenant_key).with_context(|| id.clone())?;
        let starts_s = starts(arguments, id)?;
        let schemes = schemes(arguments, &title);
        ensure!(!schemes.is_empty(), "{id}: no key of its beginning encrypts anything");
        let (mut created, mut kept) = (0, 0);
        for starts_s in &starts_s {
            let starts_ms = starts_s.checked_mul(1_000).context("too far ahead")?;
            let period = period_at(&title, starts_ms)?;
            for scheme in &schemes {
                for track in TrackClass::ALL {
                    if title.find(scheme, track, period).is_some() {
                        kept += 1;
                        continue;
                    }
                    let new = NewKey {
                        key_id: random_key_id()?,
                        key: &ContentKey::new(*Zeroizing::new(random()?)),
                        scheme,
                        track,
                        period,
                        starts_ms: Some(starts_ms),
                        created: now()?,
                        nonce: random()?,
                    };
                    title.seal_new(&tenant_key, &new).with_context(|| id.clone())?;
                    created += 1;
                }
            }
        }
        let count = period_starts(&title).len() + 1;
        ensure!(
            count <= KEY_PERIOD_COUNT_MAX,
            "{id}: {count} key periods, a title can have {KEY_PERIOD_COUNT_MAX}"
        );
        if created > 0 {
            vault.save_title(&mut title, &tenant_key)?;
        }
        match arguments.format.json {
            true => writeln!(
                out,
                "{}",
                json!({ "id": id, "periods": count, "created": created, "kept": kept })
            )?,
            false => writeln!(out, "{id}: {count} key periods, {created} keys created, {kept} kept")?,
        }
    }
    Ok(())
}

/// When other keys are to hold, in seconds.
fn starts(arguments: &RotateKeysArguments, id: &str) -> anyhow::Result<BTreeSet<u64>> {
    let mut starts: BTreeSet<u64> = arguments.at.iter().copied().collect();
    if let Some(every) = arguments.every {
        let until = match (arguments.until, &arguments.library) {
            (Some(until), _) => until,
            (None, Some(library)) => duration_s(library, id)?,
            (None, None) => bail!("--every needs --until or --library: how long is {id}?"),
        };
        let count = until.saturating_sub(1) / every;
        ensure!(
            count < KEY_PERIOD_COUNT_MAX as u64,
            "{id}: {} key periods, a title can have {KEY_PERIOD_COUNT_MAX}",
            count + 1
        );
        starts.extend((1..=count).map(|number| number * every));
    }
    ensure!(!starts.is_empty(), "{id}: is over before other keys would hold");
    Ok(starts)
}

/// How long a title of a library is.
fn duration_s(library: &std::path::Path, id: &str) -> anyhow::Result<u64> {
    let section = Section {
        library: Some(library.to_owned()),
        ..Section::default()
    };
    let asset = Store::new(section.check()?).open(id).with_context(|| id.to_owned())?;
    let duration_ms = asset.presentation.duration.to_millis(Rounding::Floor);
    Ok(u64::try_from(duration_ms).unwrap_or(0) / 1_000)
}

/// What the new keys are for: what the keys of the beginning are for, unless it is said.
fn schemes(arguments: &RotateKeysArguments, title: &TitleKeys) -> BTreeSet<String> {
    if !arguments.scheme.is_empty() {
        return arguments.scheme.iter().cloned().collect();
    }
    let first = title.keys().iter().filter(|key| key.state() == KeyState::Active);
    let first = first.filter(|key| key.starts_ms.is_none_or(|starts_ms| starts_ms == 0));
    first.map(|key| key.scheme.clone()).collect()
}

/// The number of the period that begins at `starts_ms`: the one it has, or the next that is free.
fn period_at(title: &TitleKeys, starts_ms: u64) -> anyhow::Result<u64> {
    let keys = title.keys().iter();
    if let Some(known) = keys.clone().find(|key| key.starts_ms == Some(starts_ms)) {
        return Ok(known.period);
    }
    let last = keys.map(|key| key.period).max().unwrap_or(0);
    last.checked_add(1).context("no number is left for another period")
}

fn period_starts(title: &TitleKeys) -> BTreeSet<u64> {
    let keys = title.keys().iter().filter(|key| key.state() == KeyState::Active);
    keys.filter_map(|key| key.starts_ms)
        .filter(|starts_ms| *starts_ms > 0)
        .collect()
}
