//! `headwater package`: writes ahead of time what the origin would serve.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Component, Path};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use origin::Origin;
use origin::config::{ProtectionSection, Section};
use origin::content::{Content, Piece};
use origin::error::ServeError;
use origin::protect::Protector;
use origin::route::{Addressing, VodResource};
use origin::vod::listing;
use packager::form::Form;
use packager::presentation::choice::Choice;

use crate::cli::{AddressingName, ChoiceArguments, PackageArguments};
use crate::keys::kek;
use crate::sources::{self, Named};
use crate::{config, print};

/// Bytes of media copied at once.
const COPY_SIZE_BYTES: u64 = 1 << 20;

/// Writes each presentation below the output folder, in the shape of its URLs.
pub fn run(arguments: PackageArguments) -> anyhow::Result<ExitCode> {
    let forms = arguments.form;
    for (at, form) in forms.iter().enumerate() {
        if let Some(other) = forms.iter().take(at).find(|other| other.format() == form.format()) {
            bail!(
                "{} and {} have the same entry points: write one of them",
                other.name(),
                form.name()
            );
        }
    }
    let section = match &arguments.config {
        Some(path) => config::read(path)?.origin.unwrap_or_default(),
        None => Section::default(),
    };
    let protector = match (section.protection, &arguments.config) {
        (Some(section), Some(path)) => Some(protector(section, path, arguments.clear_lead)?),
        _ => None,
    };
    if let (Some(form), None) = (forms.iter().find(|form| form.is_protected()), &protector) {
        match &arguments.config {
            None => bail!("{} needs keys: name a configuration with --config", form.name()),
            Some(path) => bail!(
                "{}: there is no [origin.protection], and {} needs keys",
                path.display(),
                form.name()
            ),
        }
    }
    let mut keyring = sources::source_keys(&arguments.keys)?;
    if let Some(protector) = &protector {
        keyring = keyring.and_vault(protector.key_store());
    }
    let addressing = match arguments.addressing {
        AddressingName::TimelineNumber => Addressing::TimelineNumber,
        AddressingName::TimelineTime => Addressing::TimelineTime,
        AddressingName::Number => Addressing::Number,
        AddressingName::Ondemand => Addressing::OnDemand,
    };
    let choice = choice(&arguments.choice)?;
    for path in &arguments.files {
        let of_config = section.library.as_deref().filter(|library| Named::is_in(library, path));
        let named = match arguments.library.as_deref().or(of_config) {
            Some(library) => Named::find_in(library, path, arguments.segment_duration_ms)?,
            None => Named::find(path, arguments.segment_duration_ms)?,
        };
        let asset = Arc::new(named.open(&keyring)?);
        if asset.variants.is_some() {
            bail!(
                "{}: watermark variants are chosen for each viewer, not ahead of time",
                path.display()
            );
        }
        let origin = Origin::new(named.config.clone())?;
        let folder = arguments.output.join(&asset.media_id);
        if folder.exists() {
            bail!("{} exists already", folder.display());
        }
        let mut listing = Vec::new();
        let mut refused = Vec::new();
        for form in forms
            .iter()
            .copied()
            .filter(|form| asset.presentation.playable_in(*form))
        {
            let entry = VodResource::Multivariant {
                form,
                choice: choice.clone(),
                clear_key: None,
            };
            let asset = match protector.as_ref().filter(|_| form.is_protected()) {
                Some(protector) => protector.protect(&asset, &entry),
                None => Ok(asset.clone()),
            };
            let asset = asset
                .map_err(|error| unprotected(error, &named, form))
                .with_context(|| path.display().to_string())?;
            let chosen = origin.choose_blocking(&asset, &choice, form);
            let (derived, selection) = chosen.with_context(|| path.display().to_string())?;
            let listed = listing::list_chosen(&derived, &[form], addressing, &choice, &selection);
            listing.extend(listed.into_iter().map(|listed| (asset.clone(), listed)));
            refused.extend(asset.presentation.left_out(form));
        }
        if listing.is_empty() {
            let refusals = forms.iter().flat_map(|form| asset.presentation.left_out(*form));
            let reasons: Vec<String> = refusals.map(|r| format!("{}: {}", r.what, r.why)).collect();
            bail!(
                "{}: no form asked for can carry it ({})",
                path.display(),
                reasons.join("; ")
            );
        }
        for (asset, listed) in listing {
            let answer = origin.answer_blocking(&asset, listed.resource);
            let answer = answer.with_context(|| format!("{}: {}", path.display(), listed.path))?;
            let target = folder.join(&listed.path);
            write(&target, answer.content).with_context(|| target.display().to_string())?;
        }
        for refusal in refused.iter().chain(&asset.presentation.refused) {
            print::remark(format_args!(
                "{}: left out {}: {}",
                path.display(),
                refusal.what,
                refusal.why
            ));
        }
        writeln!(print::out(), "{}", folder.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The keys that `section` of the configuration at `path` names.
fn protector(mut section: ProtectionSection, path: &Path, clear_lead_s: Option<u32>) -> anyhow::Result<Protector> {
    section.clear_lead_s = clear_lead_s.unwrap_or(section.clear_lead_s);
    let mut config = section
        .check()
        .map_err(|(key, reason)| anyhow!("{}: {key}: {reason}", path.display()))?;
    config.open_kek = kek::open;
    Protector::open(config).with_context(|| path.display().to_string())
}

/// Why `named` has no protected form, and what to do where that is for want of keys.
fn unprotected(error: ServeError, named: &Named, form: Form) -> anyhow::Error {
    let (id, form) = (named.entry.media_id(), form.name());
    let why = match error {
        // To a viewer that would be all; here it is known what is missing.
        ServeError::NotFound => format!("the vault has no keys of {id} for {form}"),
        ServeError::MissingKey { what } => format!("the vault has no key for {form}: {what}"),
        error => return error.into(),
    };
    let library = named.config.library.display();
    anyhow!(
        "{why}; if {library} is not the library it lies in, name that with --library, else make keys (headwater keys create)"
    )
}

fn choice(arguments: &ChoiceArguments) -> anyhow::Result<Choice> {
    let mut choice = Choice::default();
    for (name, value) in [
        ("start", &arguments.start),
        ("end", &arguments.end),
        ("segment", &arguments.segment),
        ("tracks", &arguments.tracks),
        ("languages", &arguments.languages),
        ("max_height", &arguments.max_height),
    ] {
        if let Some(value) = value {
            choice.set(name, value)?;
        }
    }
    Ok(choice)
}

fn write(target: &Path, content: Content) -> anyhow::Result<()> {
    // Names come from our own listing; a parent step in one would be a bug there.
    debug_assert!(!target.components().any(|part| part == Component::ParentDir));
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut out = BufWriter::new(File::create_new(target)?);
    let size = content.size();
    for piece in content.range(0..size) {
        match piece {
            Piece::Memory(_) | Piece::Made(_) => out.write_all(&piece.read()?)?,
            Piece::File { file, mut offset, size } => {
                let end = offset + size;
                let mut buffer = vec![0; size.min(COPY_SIZE_BYTES) as usize];
                while offset < end {
                    let now = (end - offset).min(COPY_SIZE_BYTES) as usize;
                    file.read_exact_at(&mut buffer[..now], offset)?;
                    out.write_all(&buffer[..now])?;
                    offset += now as u64;
                }
            }
        }
    }
    out.flush()?;
    Ok(())
}
