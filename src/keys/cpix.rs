//! CPIX documents: a title's keys handed to somebody else, or taken in from there.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, ensure};
use control_api::key_exchange::cpix::{self, Document, KEY_COUNT_MAX, Version};
use control_api::key_exchange::speke::BODY_SIZE_BYTES_MAX;
use control_api::key_exchange::{Contract, KeySource, Wanted};
use packager::crypto::vault::is_name;
use zeroize::Zeroizing;

use super::check_tenant;
use super::credentials::{read_delivery_key, read_recipient};
use super::disk::{Vault, kek_of};
use super::source::VaultSource;
use crate::cli::{ExportKeysArguments, ImportCpixArguments};
use crate::print;

/// Writes a title's active keys, encrypted to the recipients.
pub fn export(arguments: &ExportKeysArguments) -> anyhow::Result<()> {
    let id = &arguments.media_id;
    let recipients = arguments.recipient.iter().map(|path| read_recipient(path));
    let recipients = recipients.collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(
        arguments.plain && arguments.show_secrets || !recipients.is_empty(),
        "no recipient to encrypt to"
    );
    // The vault is let go of before the source takes it.
    let title = Vault::open(&arguments.vault.vault)?.title(id)?;
    let title = title.with_context(|| format!("{id}: has no keys in this vault"))?;
    let contract = Contract {
        tenant: title.tenant().to_owned(),
        content_id: id.clone(),
        wanted: Wanted::Existing,
    };
    let source = VaultSource::new(&arguments.vault.vault, kek_of(&arguments.vault));
    let keys = source.keys(&contract).with_context(|| id.clone())?;
    ensure!(
        keys.keys.len() <= KEY_COUNT_MAX,
        "{id}: has more keys than the {KEY_COUNT_MAX} of a document"
    );
    let version = match arguments.cpix.as_str() {
        "2.3" => Version::V2_3,
        _ => Version::V2_4,
    };
    let document = Document::export(version, id, &keys, &recipients)?;
    let text = Zeroizing::new(cpix::write(&document, version));
    let Some(path) = &arguments.output else {
        print::out().write_all(text.as_bytes())?;
        return Ok(());
    };
    let named = || path.display().to_string();
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = made.with_context(named)?;
    file.write_all(text.as_bytes()).with_context(named)?;
    file.sync_all().with_context(named)
}

/// Takes in a document's keys: all of them or none.
pub fn import(arguments: &ImportCpixArguments) -> anyhow::Result<()> {
    let (id, path) = (&arguments.media_id, &arguments.file);
    check_tenant(&arguments.tenant)?;
    ensure!(is_name(id), "{id}: not a media id");
    let private_key = arguments.private_key.as_deref().map(read_delivery_key).transpose()?;
    let named = || path.display().to_string();
    let mut bytes = Zeroizing::new(Vec::new());
    let size_max = BODY_SIZE_BYTES_MAX as u64;
    let file = File::open(path).with_context(named)?;
    file.take(size_max + 1).read_to_end(&mut bytes).with_context(named)?;
    ensure!(
        bytes.len() <= BODY_SIZE_BYTES_MAX,
        "{}: too large for a CPIX document",
        path.display()
    );
    let document = cpix::read(&bytes).with_context(named)?;
    let keys = document.key_set(private_key.as_ref()).with_context(named)?;
    ensure!(!keys.keys.is_empty(), "{}: has no keys", path.display());
    for key in &keys.keys {
        // Which it is decides what may be encrypted under it: it is not guessed.
        ensure!(
            key.scheme.is_some(),
            "{}: key {} has no commonEncryptionScheme; use `keys import`",
            path.display(),
            key.key_id
        );
    }
    let source = VaultSource::new(&arguments.vault.vault, kek_of(&arguments.vault));
    source.store(&arguments.tenant, id, &keys).with_context(|| id.clone())?;
    writeln!(print::out(), "{id}: {} imported", keys.keys.len())?;
    Ok(())
}
