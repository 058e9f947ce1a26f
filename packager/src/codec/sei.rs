//! Supplemental enhancement information that AVC and HEVC share (ISO/IEC 14496-10 annex D, 23008-2 annex D): what
//! stands there about colour and where decoding can start.
//!
//! Damaged messages count as absent, for decoding never depends on them.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::bits::BitReader;

/// `payloadType` of a recovery point message.
pub const RECOVERY_POINT: u32 = 6;
/// `payloadType` of a mastering display colour volume message.
pub const MASTERING_DISPLAY: u32 = 137;
/// `payloadType` of a content light level message.
pub const CONTENT_LIGHT_LEVEL: u32 = 144;
/// `payloadType` of an alternative transfer characteristics message.
pub const ALTERNATIVE_TRANSFER: u32 = 147;

/// The first payload of `wanted_type` among the messages of an SEI RBSP: the unescaped NAL unit without its header of one
/// byte (AVC) or two (HEVC).
#[must_use]
pub fn payload(rbsp: &[u8], wanted_type: u32) -> Option<&[u8]> {
    let mut reader = BitReader::new(rbsp, "sei");
    while reader.more_rbsp_data() {
        let payload_type = number(&mut reader)?;
        let size_bytes = number(&mut reader)?;
        let payload = reader.bytes(size_bytes as usize).ok()?;
        if payload_type == wanted_type {
            return Some(payload);
        }
    }
    None
}

/// A number in bytes of 255 and a last one below.
fn number(reader: &mut BitReader<'_>) -> Option<u32> {
    let mut value = 0_u32;
    loop {
        let byte = reader.read(8).ok()?;
        value = value.checked_add(byte)?;
        if byte != 255 {
            return Some(value);
        }
    }
}

/// `preferred_transfer_characteristics`: 18 in HLG streams whose VUI says 14 for the sake of old receivers.
#[must_use]
pub fn alternative_transfer(rbsp: &[u8]) -> Option<u8> {
    payload(rbsp, ALTERNATIVE_TRANSFER)?.first().copied()
}

/// Mastering display colour volume: primaries and white point, then luminances, in the layout `mdcv` has too.
#[must_use]
pub fn mastering_display(rbsp: &[u8]) -> Option<[u8; 24]> {
    payload(rbsp, MASTERING_DISPLAY)?.first_chunk().copied()
}

/// Content light level: MaxCLL and MaxFALL, in the layout `clli` has too.
#[must_use]
pub fn content_light_level(rbsp: &[u8]) -> Option<[u8; 4]> {
    payload(rbsp, CONTENT_LIGHT_LEVEL)?.first_chunk().copied()
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_behind_others() {
        let mut rbsp = vec![5, 255, 1];
        rbsp.extend([0xaa; 256]);
        rbsp.extend([144, 4, 0x03, 0xe8, 0x01, 0x90, 147, 1, 18, 137, 24]);
        rbsp.extend(1..=24);
        rbsp.push(0x80);
        assert_eq!(content_light_level(&rbsp), Some([0x03, 0xe8, 0x01, 0x90]));
        assert_eq!(alternative_transfer(&rbsp), Some(18));
        assert_eq!(
            mastering_display(&rbsp).map(|volume| (volume[0], volume[23])),
            Some((1, 24))
        );
        assert_eq!(payload(&rbsp, RECOVERY_POINT), None);
        for cut in 0..rbsp.len() - 1 {
            assert_eq!(mastering_display(&rbsp[..cut]), None, "{cut}");
        }
        // A type of two bytes.
        assert_eq!(payload(&[255, 1, 1, 9, 0x80], 256), Some(&[9][..]));
    }
}
