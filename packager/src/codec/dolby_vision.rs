//! Dolby Vision: the configuration record of `dvcC`, `dvvC` and `dvwC`, and how manifests name it.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::bits::BitReader;
use super::{Codec, CodecError, ColorInfo, VideoRange};

/// `DOVIDecoderConfigurationRecord` (Dolby Vision Streams Within the ISO Base Media File Format 2.0, 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DolbyVisionConfig {
    /// `dv_version_major`.
    pub version_major: u8,
    /// `dv_version_minor`.
    pub version_minor: u8,
    /// `dv_profile`: 5 and 8 HEVC, 9 AVC, 10 AV1, 20 MV-HEVC; 7 has an enhancement layer.
    pub profile: u8,
    /// `dv_level`, 1 to 13.
    pub level: u8,
    /// `rpu_present_flag`.
    pub rpu_present: bool,
    /// `el_present_flag`: enhancement layer.
    pub enhancement_layer_present: bool,
    /// `bl_present_flag`: base layer.
    pub base_layer_present: bool,
    /// `dv_bl_signal_compatibility_id`: 0 none, 1 HDR10, 2 SDR, 4 HLG, 6 Blu-ray HDR10.
    pub compatibility_id: u8,
}

impl DolbyVisionConfig {
    /// Reads the payload of `dvcC`, `dvvC` or `dvwC`; what follows the compatibility id is reserved.
    pub fn parse(payload: &[u8]) -> Result<Self, CodecError> {
        let mut reader = BitReader::new(payload, "dovi configuration");
        let config = DolbyVisionConfig {
            version_major: reader.read_u8(8)?,
            version_minor: reader.read_u8(8)?,
            profile: reader.read_u8(7)?,
            level: reader.read_u8(6)?,
            rpu_present: reader.flag()?,
            enhancement_layer_present: reader.flag()?,
            base_layer_present: reader.flag()?,
            compatibility_id: reader.read_u8(4)?,
        };
        // The first version of the record was for profiles without compatibility id and left those bits reserved.
        if config.version_major == 0 {
            return Err(reader.invalid("dv_version_major", 0));
        }
        Ok(config)
    }

    /// Coding of the base layer, `None` for profiles that are not served any more (0 to 3, 6) or not known.
    #[must_use]
    pub fn base_codec(&self) -> Option<Codec> {
        match self.profile {
            4 | 5 | 7 | 8 | 20 => Some(Codec::Hevc),
            9 => Some(Codec::Avc),
            10 => Some(Codec::Av1),
            _ => None,
        }
    }

    /// Whether a player that knows nothing of Dolby Vision shows the base layer rightly.
    #[must_use]
    pub fn is_backward_compatible(&self) -> bool {
        self.compatibility_id != 0
    }

    /// Video range of the presentation. The compatibility id decides where it says something, for the base layer's VUI may
    /// hide HLG behind transfer characteristics 14; where there is no compatibility the picture is Dolby's own PQ.
    #[must_use]
    pub fn video_range(&self, base: ColorInfo) -> VideoRange {
        match self.compatibility_id {
            0 | 1 | 6 => VideoRange::Pq,
            2 => VideoRange::Sdr,
            4 => VideoRange::Hlg,
            _ => base.video_range(),
        }
    }

    /// RFC 6381 string for a sample entry of Dolby's own (`dvh1`, `dvhe`, `dva1`, `dvav`, `dav1`): `dvh1.05.06`.
    #[must_use]
    pub fn rfc6381(&self, sample_entry: &str) -> String {
        format!("{sample_entry}.{:02}.{:02}", self.profile, self.level)
    }

    /// Brand that names the base layer's compatibility; `transfer` is the base layer's `transfer_characteristics`.
    #[must_use]
    pub fn compatible_brand(&self, transfer: u8) -> Option<&'static str> {
        match (self.compatibility_id, transfer) {
            (1, _) => Some("db1p"),
            (2, _) => Some("db2g"),
            // 8.4 whose VUI says 14 and tells HLG by SEI only.
            (4, 14 | 1) => Some("db4g"),
            (4, _) => Some("db4h"),
            _ => None,
        }
    }

    /// Entry of HLS `SUPPLEMENTAL-CODECS`, for instance `dvh1.08.04/db4h`. DASH has the part before the slash as
    /// `scte214:supplementalCodecs` and the brand as `scte214:supplementalProfiles`. `None` when the base layer is not
    /// compatible with anything and must not be announced by itself.
    #[must_use]
    pub fn supplemental_codecs(&self, base: ColorInfo) -> Option<String> {
        let brand = self.compatible_brand(base.transfer)?;
        let sample_entry = match self.base_codec()? {
            Codec::Avc => "dva1",
            Codec::Av1 => "dav1",
            _ => "dvh1",
        };
        Some(format!("{}/{brand}", self.rfc6381(sample_entry)))
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::codec::tests::hex;

    #[test]
    fn record_of_a_real_file() {
        let bytes = hex("010010254000000000000000000000000000000000000000");
        let config = DolbyVisionConfig::parse(&bytes).expect("valid");
        assert_eq!((config.profile, config.level, config.compatibility_id), (8, 4, 4));
        assert!(config.rpu_present && config.base_layer_present && !config.enhancement_layer_present);
        let hlg = ColorInfo {
            primaries: 9,
            transfer: 18,
            matrix: 9,
            full_range: false,
        };
        assert_eq!(config.supplemental_codecs(hlg).as_deref(), Some("dvh1.08.04/db4h"));
        assert_eq!(config.video_range(hlg), VideoRange::Hlg);
        for cut in 0..5 {
            assert!(DolbyVisionConfig::parse(&bytes[..cut]).is_err());
        }
        assert!(DolbyVisionConfig::parse(&[0; 24]).is_err());
    }

    #[test]
    fn names_of_each_profile() {
        let base = DolbyVisionConfig {
            version_major: 1,
            version_minor: 0,
            profile: 5,
            level: 6,
            rpu_present: true,
            enhancement_layer_present: false,
            base_layer_present: true,
            compatibility_id: 0,
        };
        // Profile, compatibility, transfer of the base layer, supplemental codecs, video range.
        for (profile, compatibility_id, transfer, supplemental, range) in [
            (5, 0, 2, None, VideoRange::Pq),
            (8, 1, 16, Some("dvh1.08.06/db1p"), VideoRange::Pq),
            (8, 2, 1, Some("dvh1.08.06/db2g"), VideoRange::Sdr),
            (8, 4, 18, Some("dvh1.08.06/db4h"), VideoRange::Hlg),
            (8, 4, 14, Some("dvh1.08.06/db4g"), VideoRange::Hlg),
            (7, 6, 16, None, VideoRange::Pq),
            (9, 2, 1, Some("dva1.09.06/db2g"), VideoRange::Sdr),
            (10, 1, 16, Some("dav1.10.06/db1p"), VideoRange::Pq),
            (10, 0, 2, None, VideoRange::Pq),
        ] {
            let config = DolbyVisionConfig {
                profile,
                compatibility_id,
                ..base
            };
            let color = ColorInfo {
                transfer,
                ..ColorInfo::UNSPECIFIED
            };
            assert_eq!(
                config.supplemental_codecs(color).as_deref(),
                supplemental,
                "{profile}.{compatibility_id}"
            );
            assert_eq!(config.video_range(color), range, "{profile}.{compatibility_id}");
        }
        assert_eq!(base.rfc6381("dvh1"), "dvh1.05.06");
    }
}
