//! Profile, tier and level of HEVC (ISO/IEC 23008-2 7.3.3) and their codec string (ISO/IEC 14496-15 E.3).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::codec::CodecError;
use crate::codec::bits::{BitReader, BitWriter};

/// `general_*` fields of `profile_tier_level()`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileTierLevel {
    /// `general_profile_space`, 0 to 3.
    pub space: u8,
    /// `general_tier_flag`: high tier.
    pub high_tier: bool,
    /// `general_profile_idc`, 0 to 31: 1 Main, 2 Main 10, 3 Main Still Picture, 4 range extensions.
    pub profile: u8,
    /// `general_profile_compatibility_flag[0]` in the most significant bit, to flag 31 in the least.
    pub compatibility: u32,
    /// The six bytes from `general_progressive_source_flag` on.
    pub constraints: [u8; 6],
    /// `general_level_idc`: thirty times the level.
    pub level: u8,
}

impl ProfileTierLevel {
    /// Reads all but the level.
    pub(super) fn read_general(reader: &mut BitReader<'_>) -> Result<Self, CodecError> {
        let space = reader.read_u8(2)?;
        let high_tier = reader.flag()?;
        let profile = reader.read_u8(5)?;
        let compatibility = reader.read(32)?;
        let mut constraints = [0; 6];
        for byte in &mut constraints {
            *byte = reader.read_u8(8)?;
        }
        Ok(ProfileTierLevel {
            space,
            high_tier,
            profile,
            compatibility,
            constraints,
            level: 0,
        })
    }

    /// Reads `profile_tier_level(1, max_sub_layers_minus1)` and passes over the sub-layers' own.
    pub(super) fn read(reader: &mut BitReader<'_>, sub_layers_minus1: u8) -> Result<Self, CodecError> {
        let mut general = Self::read_general(reader)?;
        general.level = reader.read_u8(8)?;
        let mut sub_layer_bits = 0;
        for _ in 0..sub_layers_minus1 {
            sub_layer_bits += if reader.flag()? { 88 } else { 0 };
            sub_layer_bits += if reader.flag()? { 8 } else { 0 };
        }
        if sub_layers_minus1 > 0 {
            reader.skip(2 * u64::from(8_u8.saturating_sub(sub_layers_minus1)))?;
        }
        reader.skip(sub_layer_bits)?;
        Ok(general)
    }

    pub(super) fn write_general(&self, writer: &mut BitWriter) {
        writer.write(u64::from(self.space & 3), 2);
        writer.flag(self.high_tier);
        writer.write(u64::from(self.profile & 31), 5);
        writer.write(u64::from(self.compatibility), 32);
        writer.bytes(&self.constraints);
    }

    /// Makes this description hold for `other` too: flags both set, the higher tier and level.
    pub(super) fn widen(&mut self, other: &ProfileTierLevel) {
        self.high_tier |= other.high_tier;
        self.compatibility &= other.compatibility;
        for (mine, theirs) in self.constraints.iter_mut().zip(other.constraints) {
            *mine &= theirs;
        }
        self.level = self.level.max(other.level);
    }

    /// RFC 6381 string, for instance `hvc1.1.6.L93.B0` (ISO/IEC 14496-15:2022 E.3).
    #[must_use]
    pub fn rfc6381(&self, sample_entry: &str) -> String {
        let space = match self.space {
            0 => "",
            1 => "A",
            2 => "B",
            _ => "C",
        };
        let tier = if self.high_tier { 'H' } else { 'L' };
        let mut text = format!(
            "{sample_entry}.{space}{}.{:X}.{tier}{}",
            self.profile,
            self.compatibility.reverse_bits(),
            self.level
        );
        let written = self
            .constraints
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        for byte in self.constraints.iter().take(written) {
            text.push_str(&format!(".{byte:X}"));
        }
        text
    }
}
