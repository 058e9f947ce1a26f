//! `headwater keys list`: what a vault holds.

use std::io::Write;

use anyhow::{Context, ensure};
use packager::crypto::vault::{OpenKey, SealedKey, TitleKeys};
use serde::Serialize;
use zeroize::Zeroizing;

use super::disk::{Vault, kek_of};
use crate::cli::ListArguments;
use crate::print;

/// One key as it is printed.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    tenant: &'a str,
    key_id: String,
    scheme: &'a str,
    track: &'a str,
    period: u64,
    starts_ms: Option<u64>,
    state: &'a str,
    created: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

/// Prints every key, or those of one title. The keys themselves are opened for `--show-secrets` alone.
pub fn run(arguments: &ListArguments) -> anyhow::Result<()> {
    let vault = Vault::open(&arguments.vault.vault)?;
    let head = vault.head()?;
    let kek = kek_of(&arguments.vault);
    let ids = match &arguments.media_id {
        Some(id) => {
            ensure!(vault.title(id)?.is_some(), "{id}: has no keys in this vault");
            vec![id.clone()]
        }
        None => vault.titles()?,
    };
    let mut out = print::out();
    for id in &ids {
        let title = vault.title(id)?.with_context(|| format!("{id}: is gone"))?;
        let opened = match arguments.show_secrets {
            true => title.open(&vault.tenant_key(&head, &kek, title.tenant())?)?,
            false => Vec::new(),
        };
        if !arguments.format.json {
            writeln!(out, "{id} (tenant {})", title.tenant())?;
        }
        for key in title.keys() {
            let opened = opened.iter().find(|open| open.key_id == key.key_id);
            let secret = opened.map(secret_text);
            let row = row_of(&title, key, secret.as_deref().map(String::as_str));
            match arguments.format.json {
                true => writeln!(out, "{}", *Zeroizing::new(serde_json::to_string(&row)?))?,
                false => write_text(&mut out, &row)?,
            }
        }
    }
    Ok(())
}

fn row_of<'a>(title: &'a TitleKeys, key: &'a SealedKey, secret: Option<&'a str>) -> Row<'a> {
    Row {
        id: title.content(),
        tenant: title.tenant(),
        key_id: key.key_id.to_string(),
        scheme: &key.scheme,
        track: key.track.name(),
        period: key.period,
        starts_ms: key.starts_ms,
        state: key.state().name(),
        created: key.created,
        key: secret,
    }
}

fn secret_text(open: &OpenKey) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(32));
    for byte in open.key.expose() {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
    text
}

fn write_text(out: &mut impl Write, row: &Row<'_>) -> std::io::Result<()> {
    write!(
        out,
        "  {}  {:9}  {:5}  period {}  {}",
        row.key_id, row.scheme, row.track, row.period, row.state
    )?;
    if let Some(starts_ms) = row.starts_ms {
        write!(out, "  from {}.{:03} s", starts_ms / 1_000, starts_ms % 1_000)?;
    }
    if let Some(key) = row.key {
        write!(out, "  {key}")?;
    }
    writeln!(out)
}
