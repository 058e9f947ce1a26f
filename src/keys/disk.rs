//! A vault on disk: a folder that its owner alone may enter, changed by one command at a time, file by file and whole.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use origin::keys::{HEAD_NAME, KekProvider, TITLES_NAME, open_tenant, read_head, read_title, title_path};
use packager::crypto::vault::{TitleKeys, VaultHead, kek_text};
use packager::crypto::wrap::Secret32;
use zeroize::Zeroizing;

use super::kek::Kek;
use super::now;
use crate::cli::VaultArguments;

/// An open vault. Nobody else changes it as long as it is.
pub struct Vault {
    folder: PathBuf,
    _lock: File,
}

impl Vault {
    /// Makes a vault that is wrapped with `kek`.
    pub fn create(folder: &Path, kek: &dyn KekProvider) -> anyhow::Result<()> {
        let titles = folder.join(TITLES_NAME);
        ensure!(
            !folder.join(HEAD_NAME).exists(),
            "{}: is a vault already",
            folder.display()
        );
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&titles);
        made.with_context(|| titles.display().to_string())?;
        let vault = Vault::open(folder)?;
        vault.save_head(&VaultHead::new(&kek.kek_id()?)?)
    }

    /// Opens the vault in `folder` and waits until nobody else has it.
    pub fn open(folder: &Path) -> anyhow::Result<Vault> {
        let named = || folder.display().to_string();
        let lock = File::open(folder).with_context(named)?;
        let metadata = lock.metadata().with_context(named)?;
        ensure!(metadata.is_dir(), "{}: not a folder", folder.display());
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 {
            bail!(
                "{0}: mode {mode:03o} lets group or others into the vault; chmod 700 it",
                folder.display()
            );
        }
        lock.lock().with_context(named)?;
        Ok(Vault {
            folder: folder.to_owned(),
            _lock: lock,
        })
    }

    /// What tenants there are, and which key wraps theirs.
    pub fn head(&self) -> anyhow::Result<VaultHead> {
        Ok(read_head(&self.folder)?)
    }

    /// Replaces `vault.json`.
    pub fn save_head(&self, head: &VaultHead) -> anyhow::Result<()> {
        replace(&self.folder.join(HEAD_NAME), head.to_json().as_bytes())
    }

    /// A title's keys, sealed.
    pub fn title(&self, media_id: &str) -> anyhow::Result<Option<TitleKeys>> {
        ensure!(
            title_path(&self.folder, media_id).is_some(),
            "{media_id}: not a media id"
        );
        Ok(read_title(&self.folder, media_id)?)
    }

    /// Replaces a title's file, vouched for with its tenant's key. The title must have been proved with it.
    pub fn save_title(&self, title: &mut TitleKeys, tenant_key: &Secret32) -> anyhow::Result<()> {
        let path = title_path(&self.folder, title.content()).context("not a media id")?;
        let json = title.write(tenant_key, now()?);
        let json = json.with_context(|| path.display().to_string())?;
        replace(&path, json.as_bytes())
    }

    /// Media ids of all titles with keys, in order.
    pub fn titles(&self) -> anyhow::Result<Vec<String>> {
        let folder = self.folder.join(TITLES_NAME);
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let name = entry.with_context(|| folder.display().to_string())?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json"));
            // Whatever else lies there, as a file that was being written when the power went, is not ours to judge.
            ids.extend(
                id.filter(|id| title_path(&self.folder, id).is_some())
                    .map(str::to_owned),
            );
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// A tenant's key.
    pub fn tenant_key(&self, head: &VaultHead, kek: &dyn KekProvider, tenant: &str) -> anyhow::Result<Secret32> {
        Ok(open_tenant(&self.folder, head, kek, tenant)?)
    }

    /// A tenant's key; a tenant that is new gets one, drawn at random.
    pub fn tenant_key_or_new(&self, kek: &dyn KekProvider, tenant: &str) -> anyhow::Result<Secret32> {
        let mut head = self.head()?;
        if head.tenants().any(|known| known == tenant) {
            return self.tenant_key(&head, kek, tenant);
        }
        ensure!(
            head.kek_id() == kek.kek_id()?,
            "the vault is wrapped with key encryption key {}, not with {}",
            head.kek_id(),
            kek.kek_id()?
        );
        let tenant_key = random_secret()?;
        head.insert(tenant, kek.wrap(&tenant_key)?)?;
        self.save_head(&head)?;
        Ok(tenant_key)
    }
}

/// The key file that the arguments mean.
pub fn kek_of(arguments: &VaultArguments) -> Kek {
    match &arguments.kek {
        Some(path) => Kek::new(path),
        None => Kek::new(&beside(&arguments.vault)),
    }
}

/// `VAULT.kek`, whether the folder was written with a slash at its end or not.
fn beside(vault: &Path) -> PathBuf {
    let mut name = vault.components().as_path().as_os_str().to_owned();
    name.push(".kek");
    name.into()
}

/// Makes the key file unless it is there. Says whether it was made.
pub fn make_kek(kek: &Kek) -> anyhow::Result<bool> {
    if kek.path().exists() {
        kek.kek_id()?;
        return Ok(false);
    }
    let text = kek_text(&random_secret()?);
    let named = || kek.path().display().to_string();
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(kek.path());
    let mut file = made.with_context(named)?;
    file.write_all(text.as_bytes()).with_context(named)?;
    file.sync_all().with_context(named)?;
    sync_folder_of(kek.path())?;
    Ok(true)
}

/// 32 bytes from the system's generator.
fn random_secret() -> anyhow::Result<Secret32> {
    Ok(Secret32::new(*Zeroizing::new(random()?)))
}

/// Bytes from the system's generator.
pub fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("no randomness from the system")?;
    Ok(bytes)
}

/// Writes beside `path`, then renames: a reader sees the old file or the new one, whole.
fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let new = path.with_extension("json.new");
    let write = || -> std::io::Result<()> {
        // One that was left behind may have been made with another mode.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().with_context(|| path.display().to_string())?;
    sync_folder_of(path)
}

fn sync_folder_of(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.with_context(|| folder.display().to_string())
}
