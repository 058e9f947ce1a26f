//! Protected sample entries of sources: `encv` and `enca` with what `sinf` says (ISO/IEC 14496-12:2022 8.12,
//! ISO/IEC 23001-7:2023 4 and 8.2).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{SampleEntryError, unusable};
use crate::crypto::source::{SampleIv, SampleProtection};
use crate::crypto::{KeyId, Pattern, ProtectionScheme};
use crate::isobmff::{BoxError, BoxReader, FourCc};

/// How the samples of one entry are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryProtection {
    /// `schm` scheme type.
    pub scheme: ProtectionScheme,
    /// `tenc`: how samples are protected that are in no `seig` group; `None` when those are clear.
    pub default: Option<SampleProtection>,
}

/// The coding that a protected entry names, and how its samples are protected.
pub(super) fn unprotect(sinf: Option<BoxReader<'_>>) -> Result<(FourCc, EntryProtection), SampleEntryError> {
    let mut parts = Parts::default();
    if let Some(sinf) = sinf {
        parts = Parts::parse(sinf)?;
    }
    let named = parts.name();
    let incomplete = |what: &str| unusable(format!("{named}: no {what} in its sample entry"));
    let Some(scheme) = parts.scheme else {
        return Err(unusable(named));
    };
    let Some(scheme) = ProtectionScheme::ALL
        .into_iter()
        .find(|known| known.fourcc() == scheme.0)
    else {
        return Err(unusable(named));
    };
    let tenc = parts.tenc.ok_or_else(|| incomplete("tenc"))?;
    let default = read_tenc(tenc, scheme).map_err(|error| unusable(format!("{named}: {error}")))?;
    let original = parts.original_format.ok_or_else(|| incomplete("frma"))?;
    Ok((original, EntryProtection { scheme, default }))
}

/// What stands in `sinf`.
#[derive(Default)]
struct Parts<'a> {
    original_format: Option<FourCc>,
    scheme: Option<FourCc>,
    tenc: Option<BoxReader<'a>>,
}

impl<'a> Parts<'a> {
    fn parse(mut sinf: BoxReader<'a>) -> Result<Parts<'a>, BoxError> {
        let mut parts = Parts::default();
        while let Some(mut child) = sinf.child()? {
            match &child.fourcc.0 {
                b"frma" => parts.original_format = Some(child.fourcc()?),
                b"schm" => {
                    child.version_and_flags()?;
                    parts.scheme = Some(child.fourcc()?);
                }
                b"schi" => {
                    while let Some(part) = child.child()? {
                        if &part.fourcc.0 == b"tenc" {
                            parts.tenc = Some(part);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(parts)
    }

    /// `encrypted (cenc, KID …)`
    fn name(&self) -> String {
        let scheme = self
            .scheme
            .map_or("unknown scheme".to_owned(), |scheme| scheme.to_string());
        let id = self.tenc.and_then(|tenc| tenc.remaining().get(8..24)?.try_into().ok());
        match id {
            Some(id) => format!("encrypted ({scheme}, KID {})", KeyId(id).hex()),
            None => format!("encrypted ({scheme})"),
        }
    }
}

/// ISO/IEC 23001-7:2023 8.2: how samples are protected unless a group says otherwise; `None` when they are clear.
fn read_tenc(mut tenc: BoxReader<'_>, scheme: ProtectionScheme) -> Result<Option<SampleProtection>, BoxError> {
    let (version, _) = tenc.version_and_flags()?;
    if version > 1 {
        return Err(tenc.invalid(format!("version {version}")));
    }
    tenc.skip(1)?;
    let pattern = tenc.u8()?;
    read_protection(tenc, scheme, if version == 0 { 0 } else { pattern })
}

/// ISO/IEC 23001-7:2023 6: the same for a group; `seig` is one entry of `sgpd`.
pub fn read_seig(mut seig: BoxReader<'_>, scheme: ProtectionScheme) -> Result<Option<SampleProtection>, BoxError> {
    let multi_key = seig.u8()? & 0x80 != 0;
    if multi_key {
        return Err(seig.invalid("several keys for one sample"));
    }
    let pattern = seig.u8()?;
    read_protection(seig, scheme, pattern)
}

/// What `tenc` and `seig` have in common, from isProtected on.
fn read_protection(
    mut reader: BoxReader<'_>,
    scheme: ProtectionScheme,
    pattern: u8,
) -> Result<Option<SampleProtection>, BoxError> {
    let is_protected = reader.u8()?;
    let iv_size = reader.u8()?;
    let key_id = KeyId(reader.bytes(16)?.try_into().map_err(|_| reader.invalid("no key id"))?);
    match is_protected {
        0 => return Ok(None),
        1 => {}
        other => return Err(reader.invalid(format!("isProtected {other}"))),
    }
    let of_chains = |size: u8| !scheme.is_counter() && size != 16;
    let iv = match iv_size {
        0 => {
            let size = reader.u8()?;
            if !matches!(size, 8 | 16) || of_chains(size) {
                return Err(reader.invalid(format!("a constant IV of {size} bytes")));
            }
            let mut iv = [0; 16];
            for (byte, own) in iv.iter_mut().zip(reader.bytes(usize::from(size))?) {
                *byte = *own;
            }
            SampleIv::Constant(iv)
        }
        8 | 16 if !of_chains(iv_size) => SampleIv::PerSample(iv_size),
        other => return Err(reader.invalid(format!("IVs of {other} bytes"))),
    };
    let pattern = Pattern {
        crypt: pattern >> 4,
        skip: pattern & 0x0f,
    };
    let has_patterns = matches!(scheme, ProtectionScheme::Cens | ProtectionScheme::Cbcs);
    // A pattern that encrypts nothing would be clear media under a key's name.
    if pattern != Pattern::NONE && (pattern.crypt == 0 || !has_patterns) {
        return Err(reader.invalid(format!(
            "pattern {}:{} in {}",
            pattern.crypt,
            pattern.skip,
            scheme.name()
        )));
    }
    Ok(Some(SampleProtection {
        scheme,
        pattern,
        key_id,
        iv,
    }))
}
