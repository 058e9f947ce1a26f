//! `pssh`: what a DRM system needs to ask for keys (ISO/IEC 23001-7:2023 8.1).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt;

use super::KeyId;
use crate::isobmff::{BoxError, BoxReader, BoxWriter, FourCc};
use crate::limits;

/// UUID of a DRM system, in the order of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemId(pub [u8; 16]);

impl SystemId {
    /// Widevine: `edef8ba9-79d6-4ace-a3c8-27dcd51d21ed`.
    pub const WIDEVINE: SystemId = SystemId(0xedef8ba9_79d6_4ace_a3c8_27dcd51d21ed_u128.to_be_bytes());
    /// PlayReady: `9a04f079-9840-4286-ab92-e65be0885f95`.
    pub const PLAYREADY: SystemId = SystemId(0x9a04f079_9840_4286_ab92_e65be0885f95_u128.to_be_bytes());
    /// FairPlay: `94ce86fb-07ff-4f43-adb8-93d2fa968ca2`.
    pub const FAIRPLAY: SystemId = SystemId(0x94ce86fb_07ff_4f43_adb8_93d2fa968ca2_u128.to_be_bytes());
    /// W3C common system, which lists keys alone: `1077efec-c0b2-4d02-ace3-3c1e52e2fb4b`.
    pub const COMMON: SystemId = SystemId(0x1077efec_c0b2_4d02_ace3_3c1e52e2fb4b_u128.to_be_bytes());
    /// Clear Key in an MPD: `e2719d58-a985-b3c9-781a-b030af78d30e`.
    pub const CLEAR_KEY: SystemId = SystemId(0xe2719d58_a985_b3c9_781a_b030af78d30e_u128.to_be_bytes());

    /// `urn:uuid:…`, as manifests name a system.
    pub fn urn(&self) -> String {
        format!("urn:uuid:{self}")
    }
}

/// As a UUID.
impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        KeyId(self.0).fmt(f)
    }
}

/// A ProtectionSystemSpecificHeaderBox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pssh {
    /// Whose it is.
    pub system_id: SystemId,
    /// Keys it is about: `Some` makes version 1, `None` version 0.
    pub key_ids: Option<Vec<KeyId>>,
    /// Data in the system's own form.
    pub data: Vec<u8>,
}

impl Pssh {
    /// The W3C common box: keys, no data (Encrypted Media Extensions, "cenc" Initialization Data Format 4).
    pub fn common(key_ids: &[KeyId]) -> Pssh {
        Pssh {
            system_id: SystemId::COMMON,
            key_ids: Some(key_ids.to_vec()),
            data: Vec::new(),
        }
    }

    /// The whole box.
    pub fn serialise(&self) -> Vec<u8> {
        let key_ids = self.key_ids.as_deref();
        let mut writer = BoxWriter::with_capacity(36 + 16 * key_ids.map_or(0, <[KeyId]>::len) + self.data.len());
        writer.write_full_box(b"pssh", u8::from(key_ids.is_some()), 0, |w| {
            w.bytes(&self.system_id.0);
            if let Some(key_ids) = key_ids {
                w.u32(key_ids.len() as u32);
                key_ids.iter().for_each(|id| w.bytes(&id.0));
            }
            w.u32(self.data.len() as u32);
            w.bytes(&self.data);
        });
        writer.finish()
    }

    /// Reads one box, header included, with nothing after it.
    pub fn parse(bytes: &[u8]) -> Result<Pssh, BoxError> {
        let mut boxes = Pssh::parse_all(bytes)?;
        match (boxes.pop(), boxes.is_empty()) {
            (Some(only), true) => Ok(only),
            _ => Err(outer(bytes).invalid("not one pssh")),
        }
    }

    /// Reads boxes that follow each other, as EME initialisation data holds them.
    pub fn parse_all(bytes: &[u8]) -> Result<Vec<Pssh>, BoxError> {
        let mut outer = outer(bytes);
        let mut boxes = Vec::new();
        while let Some(child) = outer.child()? {
            if child.fourcc != FourCc(*b"pssh") {
                return Err(child.invalid("not a pssh"));
            }
            if boxes.len() == limits::PSSH_COUNT_MAX {
                return Err(child.invalid(format!("more than {} boxes", limits::PSSH_COUNT_MAX)));
            }
            boxes.push(Pssh::read(child)?);
        }
        match outer.is_empty() {
            true => Ok(boxes),
            false => Err(outer.invalid("bytes after the last box")),
        }
    }

    /// Reads the payload of a `pssh`.
    pub fn read(mut payload: BoxReader<'_>) -> Result<Pssh, BoxError> {
        let (version, _) = payload.version_and_flags()?;
        let system_id = SystemId(id(&mut payload)?);
        let key_ids = match version {
            0 => None,
            1 => {
                let count = payload.entry_count(16, limits::SIGNALLED_KEY_COUNT_MAX)?;
                let ids = (0..count).map(|_| id(&mut payload).map(KeyId));
                Some(ids.collect::<Result<_, _>>()?)
            }
            other => return Err(payload.invalid(format!("version {other}"))),
        };
        let size = payload.entry_count(1, limits::PSSH_DATA_SIZE_BYTES_MAX)?;
        let data = payload.bytes(size)?.to_vec();
        match payload.is_empty() {
            true => Ok(Pssh {
                system_id,
                key_ids,
                data,
            }),
            false => Err(payload.invalid("bytes after the data")),
        }
    }
}

fn outer(bytes: &[u8]) -> BoxReader<'_> {
    BoxReader::new(FourCc(*b"pssh"), 0, 0, bytes)
}

fn id(payload: &mut BoxReader<'_>) -> Result<[u8; 16], BoxError> {
    let bytes = payload.bytes(16)?;
    bytes.try_into().map_err(|_| payload.invalid("short id"))
}
