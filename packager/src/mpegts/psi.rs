//! Program-specific information: the sections that say which packets carry what (ISO/IEC 13818-1 2.4.4).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::isobmff::language::three_letters;
use crate::isobmff::movie::language::from_iso_639_2;

/// Where the program association table is.
pub(crate) const PAT_PID: u16 = 0;

/// `table_id` of the program association section.
pub(crate) const PAT_TABLE_ID: u8 = 0x00;

/// `table_id` of the program map section.
pub(crate) const PMT_TABLE_ID: u8 = 0x02;

/// `stream_type` values (ISO/IEC 13818-1 table 2-34; ATSC A/52 annex A for `AC3` and `EAC3`; Apple's sample encryption for
/// the encrypted ones).
pub(crate) mod stream_type {
    pub(crate) const MPEG1_AUDIO: u8 = 0x03;
    pub(crate) const MPEG2_AUDIO: u8 = 0x04;
    pub(crate) const PRIVATE_PES: u8 = 0x06;
    pub(crate) const AAC_ADTS: u8 = 0x0f;
    pub(crate) const AAC_LATM: u8 = 0x11;
    pub(crate) const AVC: u8 = 0x1b;
    pub(crate) const HEVC: u8 = 0x24;
    pub(crate) const AC3: u8 = 0x81;
    pub(crate) const EAC3: u8 = 0x87;
    pub(crate) const ENCRYPTED_AC3: u8 = 0xc1;
    pub(crate) const ENCRYPTED_EAC3: u8 = 0xc2;
    pub(crate) const ENCRYPTED_AAC_ADTS: u8 = 0xcf;
    pub(crate) const ENCRYPTED_AVC: u8 = 0xdb;
}

/// Descriptor tags (ISO/IEC 13818-1 table 2-45).
pub(crate) mod descriptor_tag {
    pub(crate) const REGISTRATION: u8 = 0x05;
    pub(crate) const ISO_639_LANGUAGE: u8 = 0x0a;
    pub(crate) const PRIVATE_DATA_INDICATOR: u8 = 0x0f;
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc << 1) ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 };
            bit += 1;
        }
        #[expect(clippy::indexing_slicing, reason = "a constant loop over the table's own length")]
        {
            table[byte] = crc;
        }
        byte += 1;
    }
    table
};

/// CRC of a section (ISO/IEC 13818-1 annex A); zero over a section that includes its `CRC_32`.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        let index = usize::from((crc >> 24) as u8 ^ *byte);
        (crc << 8) ^ CRC_TABLE.get(index).copied().unwrap_or_default()
    })
}

/// One elementary stream as the program map names it.
pub(crate) struct StreamEntry {
    pub(crate) stream_type: u8,
    pub(crate) pid: u16,
    pub(crate) descriptors: Vec<u8>,
}

/// A program association section for one program whose map is at `map_pid`.
pub(crate) fn program_association(program_number: u16, map_pid: u16) -> Vec<u8> {
    let mut body = Vec::with_capacity(4);
    body.extend_from_slice(&program_number.to_be_bytes());
    body.extend_from_slice(&(0xe000 | map_pid).to_be_bytes());
    section(PAT_TABLE_ID, 1, &body)
}

/// A program map section.
pub(crate) fn program_map(program_number: u16, pcr_pid: u16, streams: &[StreamEntry]) -> Vec<u8> {
    let mut body = Vec::with_capacity(PMT_HEADROOM);
    body.extend_from_slice(&(0xe000 | pcr_pid).to_be_bytes());
    body.extend_from_slice(&0xf000_u16.to_be_bytes());
    for stream in streams {
        body.push(stream.stream_type);
        body.extend_from_slice(&(0xe000 | stream.pid).to_be_bytes());
        body.extend_from_slice(&(0xf000 | stream.descriptors.len() as u16).to_be_bytes());
        body.extend_from_slice(&stream.descriptors);
    }
    section(PMT_TABLE_ID, program_number, &body)
}

const PMT_HEADROOM: usize = 184;

/// A current section, the only one of its table, version 0.
fn section(table_id: u8, table_id_extension: u16, body: &[u8]) -> Vec<u8> {
    let length = (body.len() + 9) as u16;
    let mut section = Vec::with_capacity(body.len() + 12);
    section.push(table_id);
    section.extend_from_slice(&(0xb000 | length).to_be_bytes());
    section.extend_from_slice(&table_id_extension.to_be_bytes());
    section.extend_from_slice(&[0xc1, 0, 0]);
    section.extend_from_slice(body);
    let crc = crc32(&section);
    section.extend_from_slice(&crc.to_be_bytes());
    section
}

/// A registration descriptor (ISO/IEC 13818-1 2.6.8).
pub(crate) fn registration(format_identifier: &[u8; 4]) -> Vec<u8> {
    registration_with(format_identifier, &[])
}

/// A registration descriptor with `additional_identification_info`, at most 251 bytes of it.
pub(crate) fn registration_with(format_identifier: &[u8; 4], information: &[u8]) -> Vec<u8> {
    let information = information.get(..information.len().min(251)).unwrap_or_default();
    let mut descriptor = vec![descriptor_tag::REGISTRATION, 4 + information.len() as u8];
    descriptor.extend_from_slice(format_identifier);
    descriptor.extend_from_slice(information);
    descriptor
}

/// A private data indicator descriptor (ISO/IEC 13818-1 2.6.28).
pub(crate) fn private_data_indicator(indicator: &[u8; 4]) -> Vec<u8> {
    let mut descriptor = vec![descriptor_tag::PRIVATE_DATA_INDICATOR, 4];
    descriptor.extend_from_slice(indicator);
    descriptor
}

/// An ISO 639 language descriptor (ISO/IEC 13818-1 2.6.18) with audio type "undefined".
pub(crate) fn iso_639_language(code: [u8; 3]) -> Vec<u8> {
    let [a, b, c] = code;
    vec![descriptor_tag::ISO_639_LANGUAGE, 4, a, b, c, 0]
}

/// The BCP 47 tag of an ISO 639-2 code in any case; `und` for what is none.
pub(crate) fn bcp_47(code: [u8; 3]) -> String {
    let code = code.map(|letter| letter.to_ascii_lowercase());
    match std::str::from_utf8(&code) {
        Ok(text) if code.iter().all(u8::is_ascii_lowercase) => from_iso_639_2(text),
        _ => "und".to_owned(),
    }
}

/// The ISO 639-2 code of a BCP 47 tag, `None` where there is none.
pub(crate) fn iso_639_2(tag: &str) -> Option<[u8; 3]> {
    Some(three_letters(tag)).filter(|code| code != b"und")
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn crc_is_that_of_the_standard() {
        // The check value of CRC-32/MPEG-2.
        assert_eq!(crc32(b"123456789"), 0x0376_e6e7);
        assert_eq!(crc32(&program_association(1, 0x1000)), 0);
    }

    #[test]
    fn association_is_laid_out_as_specified() {
        let section = program_association(1, 0x1000);
        assert_eq!(section[..12], [0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0]);
        assert_eq!(section.len(), 16);
    }
}
