//! Dolby Vision configuration (`dvcC`, `dvvC`, `dvwC`): which profile, and what it is called beside its base layer.

use bytes::Bytes;

use crate::codec::VideoRange;
use crate::track::SupplementalCodecs;

/// The first fields of `DOVIDecoderConfigurationRecord` (Dolby Vision Streams within ISO BMFF 2.4, section 3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DolbyVision {
    pub profile: u8,
    pub level: u8,
    /// `dv_bl_signal_compatibility_id`: 0 none, 1 HDR10, 2 SDR, 4 HLG, 6 Ultra HD Blu-ray.
    pub compatibility_id: u8,
    /// All 24 bytes.
    pub payload: Bytes,
}

impl DolbyVision {
    /// Reads the payload; `None` when it is too short or of another major version, which counts as no Dolby Vision.
    pub(super) fn parse(payload: &[u8]) -> Option<DolbyVision> {
        let [1..=3, _minor, high, low, compatibility, ..] = payload else {
            return None;
        };
        let mut whole = payload.get(..payload.len().min(24))?.to_vec();
        whole.resize(24, 0);
        Some(DolbyVision {
            profile: high >> 1,
            level: (high & 1) << 5 | low >> 3,
            compatibility_id: compatibility >> 4,
            payload: Bytes::from(whole),
        })
    }

    /// Whether the profile is made for streaming. Others (4 and 7, with an enhancement layer) are served as their base
    /// layer alone.
    pub(super) fn is_streamed(&self) -> bool {
        self.is_exclusive() || matches!(self.profile, 8..=10)
    }

    /// Whether only a Dolby Vision decoder shows the right picture: no base layer that stands by itself.
    pub(super) fn is_exclusive(&self) -> bool {
        self.compatibility_id == 0
    }

    /// The configuration box of this profile.
    pub(super) fn box_name(&self) -> &'static [u8; 4] {
        match self.profile {
            0..=7 => b"dvcC",
            8..=10 => b"dvvC",
            _ => b"dvwC",
        }
    }

    /// The range a player sees.
    pub(super) fn video_range(&self, base: VideoRange) -> VideoRange {
        match self.compatibility_id {
            0 | 1 | 6 => VideoRange::Pq,
            4 => VideoRange::Hlg,
            _ => base,
        }
    }

    /// RFC 6381 string with the given sample entry, for example `dvh1.05.06`.
    pub(super) fn rfc6381(&self, sample_entry: &str) -> String {
        format!("{sample_entry}.{:02}.{:02}", self.profile, self.level)
    }

    /// What a base layer's `SUPPLEMENTAL-CODECS` says. `transfer` is that of the base layer: HLG pictures carry either
    /// its code point (18) or that of BT.2020 (14).
    pub(super) fn supplemental(&self, sample_entry: &str, transfer: Option<u8>) -> Option<SupplementalCodecs> {
        let brand = match (self.compatibility_id, transfer) {
            (1 | 6, _) => "db1p",
            (2, _) => "db2g",
            (4, Some(14)) => "db4g",
            (4, _) => "db4h",
            _ => return None,
        };
        Some(SupplementalCodecs {
            rfc6381: self.rfc6381(sample_entry),
            brand: brand.to_owned(),
        })
    }
}
