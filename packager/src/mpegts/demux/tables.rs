//! Program tables (ISO/IEC 13818-1 2.4.4): which programs there are, and what streams the served one has.

use std::collections::BTreeMap;

use super::super::psi::{self, PAT_TABLE_ID, PMT_TABLE_ID, descriptor_tag};

/// Programs of one association; a multiplex has some tens.
const PROGRAM_COUNT_MAX: usize = 1_024;

/// The association of programs with their maps.
#[derive(Default)]
pub(super) struct Tables {
    version: Option<u8>,
    programs: BTreeMap<u16, u16>,
    /// The program that is served.
    pub(super) selected: Option<u16>,
}

impl Tables {
    /// Reads a program association section and returns the PIDs of maps.
    pub(super) fn association(&mut self, section: &[u8]) -> Vec<u16> {
        let Some((header, entries)) = Header::parse(section, PAT_TABLE_ID) else {
            return Vec::new();
        };
        // A new version replaces the table; sections of one version add up.
        if self.version != Some(header.version) {
            self.version = Some(header.version);
            self.programs.clear();
        }
        for entry in entries.as_chunks::<4>().0 {
            let [number_high, number_low, pid_high, pid_low] = *entry;
            let number = u16::from_be_bytes([number_high, number_low]);
            // Program 0 is the network information table.
            if number != 0 && self.programs.len() < PROGRAM_COUNT_MAX {
                self.programs.insert(number, pid(pid_high, pid_low));
            }
        }
        // Edited streams may go on with another program number.
        self.selected = self.selected.filter(|selected| self.knows(*selected));
        self.programs.values().copied().collect()
    }

    /// Whether the association names this program.
    pub(super) fn knows(&self, program_number: u16) -> bool {
        self.programs.contains_key(&program_number)
    }
}

/// A program map section.
pub(super) struct ProgramMap {
    pub(super) program_number: u16,
    pub(super) clock_pid: u16,
    pub(super) streams: Vec<MapStream>,
}

/// One stream of a program.
pub(super) struct MapStream {
    pub(super) stream_type: u8,
    pub(super) pid: u16,
    descriptors: Vec<u8>,
}

impl ProgramMap {
    /// `None` for other tables, future versions, and damage.
    pub(super) fn parse(section: &[u8]) -> Option<ProgramMap> {
        let (header, body) = Header::parse(section, PMT_TABLE_ID)?;
        let ([clock_high, clock_low, length_high, length_low], rest) = body.split_first_chunk::<4>()?;
        let (_, mut rest) = rest.split_at_checked(length(*length_high, *length_low))?;
        let mut map = ProgramMap {
            program_number: header.extension,
            clock_pid: pid(*clock_high, *clock_low),
            streams: Vec::new(),
        };
        while let Some(([stream_type, pid_high, pid_low, length_high, length_low], after)) =
            rest.split_first_chunk::<5>()
        {
            let (descriptors, after) = after.split_at_checked(length(*length_high, *length_low))?;
            map.streams.push(MapStream {
                stream_type: *stream_type,
                pid: pid(*pid_high, *pid_low),
                // Copied: the section goes away, and these are some tens of bytes.
                descriptors: descriptors.to_vec(),
            });
            rest = after;
        }
        Some(map)
    }
}

impl MapStream {
    /// The content of the first descriptor with `tag`.
    pub(super) fn descriptor(&self, tag: u8) -> Option<&[u8]> {
        let mut rest = self.descriptors.as_slice();
        while let Some(([found, length], after)) = rest.split_first_chunk::<2>() {
            let (content, after) = after.split_at_checked(usize::from(*length))?;
            if *found == tag {
                return Some(content);
            }
            rest = after;
        }
        None
    }

    /// `format_identifier` of the registration descriptor.
    pub(super) fn registration(&self) -> Option<[u8; 4]> {
        self.descriptor(descriptor_tag::REGISTRATION)?.first_chunk().copied()
    }

    /// BCP 47 tag of the first language named.
    pub(super) fn language(&self) -> String {
        let code = self
            .descriptor(descriptor_tag::ISO_639_LANGUAGE)
            .and_then(|content| content.first_chunk::<3>());
        code.map_or_else(|| "und".to_owned(), |code| psi::bcp_47(*code))
    }
}

/// What all sections have.
struct Header {
    extension: u16,
    version: u8,
}

impl Header {
    /// The header of a current section of `table_id`, and what follows it.
    fn parse(section: &[u8], table_id: u8) -> Option<(Header, &[u8])> {
        let ([found, _, _, extension_high, extension_low, version, _, _], body) = section.split_first_chunk::<8>()?;
        let header = Header {
            extension: u16::from_be_bytes([*extension_high, *extension_low]),
            version: version >> 1 & 0x1f,
        };
        (*found == table_id && version & 1 == 1).then_some((header, body))
    }
}

fn pid(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high & 0x1f, low])
}

fn length(high: u8, low: u8) -> usize {
    usize::from(high & 0x0f) << 8 | usize::from(low)
}
